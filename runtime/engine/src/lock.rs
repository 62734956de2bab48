//! One run per folder: a lock that ends with the process that holds it.

use crate::error::{EngineError, Result};
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Name of the lock's file in a run folder.
const NAME: &str = ".lock";

/// A held lock; dropped, it is free again.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Locks a folder and writes down who holds it.
    ///
    /// # Errors
    /// Fails at once when another process holds it, and names that process.
    pub fn take(folder: &Path, command: &str) -> Result<Lock> {
        let path = folder.join(NAME);
        let failed = |e: std::io::Error| EngineError::io("lock", &path, &e);
        let options = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_progress(folder, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}\n{command}", std::process::id()).map_err(failed)?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it could take it away from one who just locked it.
        let _ = self.file.set_len(0);
    }
}

fn in_progress(folder: &Path, file: &mut File) -> EngineError {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let (process, command) = text.trim_end().split_once('\n').unwrap_or((text.trim_end(), ""));
    let who = match (process, command) {
        ("", _) => "another process".to_owned(),
        (process, "") => format!("process {process}"),
        (process, command) => format!("process {process} (`{command}`)"),
    };
    EngineError::new("run-in-progress", format!("{who} is running in {}", folder.display()))
        .help("wait for it, stop it, or choose another folder with --out or --name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_and_told_who_runs() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let first = Lock::take(place.path(), "adapt run a.kdl").expect("free");
        let error = Lock::take(place.path(), "adapt run b.kdl").expect_err("held");
        assert_eq!(error.code, "run-in-progress");
        let who = format!("process {} (`adapt run a.kdl`) is running in", std::process::id());
        assert!(error.message.starts_with(&who), "{}", error.message);
        drop(first);
        Lock::take(place.path(), "adapt run b.kdl").expect("free again");
    }
}
