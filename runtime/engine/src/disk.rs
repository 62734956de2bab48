//! Files and folders that exist completely or not at all.
//!
//! Everything is written under a temporary name, synced and renamed; then the parent folder is synced.

use crate::error::{EngineError, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes kept free beyond what a write needs: folders, small files and the file system's own needs.
const RESERVE: u64 = 1 << 20;

/// Bytes that small writes are gathered to. Larger ones, such as the pieces of a checkpoint, go to the file as they are.
const GATHERED: usize = 64 << 10;

/// Writes a file under a temporary name and puts it in place of the old one.
pub fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = beside(path, "tmp");
    let written =
        create_file(&temporary, |out| out.write_all(contents).map_err(|e| write_error(&temporary, &e)))
            .and_then(|()| rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates a file, lets it be filled, and syncs it.
pub fn create_file(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let file = File::create(path).map_err(|e| write_error(path, &e))?;
    let mut out = BufWriter::with_capacity(GATHERED, file);
    fill(&mut out)?;
    let file = out.into_inner().map_err(|e| write_error(path, e.error()))?;
    file.sync_all().map_err(|e| write_error(path, &e))
}

/// Fills a folder under a temporary name and renames it to `path`, which must not exist.
///
/// `bytes` is what it will roughly hold: with less free space nothing is written at all. On any
/// failure the temporary folder is removed.
pub fn create_folder(path: &Path, bytes: u64, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = parent(path);
    fs::create_dir_all(parent).map_err(|e| EngineError::io("create folder", parent, &e))?;
    require_space(parent, bytes)?;
    let temporary = beside(path, &format!("tmp-{}", std::process::id()));
    remove_folder(&temporary)?;
    let made = fs::create_dir(&temporary)
        .map_err(|e| EngineError::io("create folder", &temporary, &e))
        .and_then(|()| fill(&temporary))
        .and_then(|()| sync_tree(&temporary))
        .and_then(|()| rename(&temporary, path));
    made.map_err(|error| {
        let _ = fs::remove_dir_all(&temporary);
        if error.code == "disk-full" { with_need(error, parent, bytes) } else { error }
    })
}

/// Removes folders that an interrupted [`create_folder`] left in `parent`.
///
/// Only for folders of this run: the run's lock says that no other process is writing them.
pub fn remove_leftovers(parent: &Path) -> Result<()> {
    for path in list(parent)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains(".tmp-") {
            remove_folder(&path)?;
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it, if it exists.
pub fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EngineError::io("remove folder", path, &error))
        }
        _ => Ok(()),
    }
}

/// Renames and syncs the folder of the new name.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| EngineError::io("rename to", to, &e))?;
    sync_folder(parent(to))
}

/// Returns the entries of a folder in the order of their names; none when it does not exist.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EngineError::io("list", folder, &error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|e| EngineError::io("list", folder, &e)))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Fails when the file system has less than `bytes` (and a small reserve) free.
pub fn require_space(folder: &Path, bytes: u64) -> Result<()> {
    match free_space(folder) {
        Some(free) if free < bytes.saturating_add(RESERVE) => {
            let error = EngineError::new("disk-full", format!("not enough space in {}", folder.display()))
                .help("free some space and run again; the last complete checkpoint is kept");
            Err(with_need(error, folder, bytes))
        }
        _ => Ok(()),
    }
}

/// Returns the bytes that a user may still write there; `None` when the system does not say.
pub fn free_space(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `name` ends with a zero byte and `info` is large enough for the one struct that is written.
    #[allow(unsafe_code, reason = "statvfs has no safe form in std")]
    let info = unsafe {
        if libc::statvfs(name.as_ptr(), info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    Some((info.f_bavail as u64).saturating_mul(info.f_frsize as u64))
}

fn with_need(mut error: EngineError, folder: &Path, bytes: u64) -> EngineError {
    let free = free_space(folder).map_or(String::new(), |free| format!(", {free} bytes are free"));
    error.message.push_str(&format!(": {bytes} bytes are needed{free}"));
    error
}

fn write_error(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::io("write", path, error)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// Syncs every file and folder below; files that other crates wrote are not synced yet.
fn sync_tree(folder: &Path) -> Result<()> {
    for path in list(folder)? {
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| EngineError::io("sync", &path, &e))?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|e| EngineError::io("sync", folder, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_fails_half_way_is_absent() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let target = place.path().join("step-000001");
        let error = create_folder(&target, 0, |folder| {
            write_file(&folder.join("a"), b"a")?;
            Err(EngineError::new("test", "stop"))
        });
        assert_eq!(error.expect_err("it failed").code, "test");
        assert_eq!(list(place.path()).expect("listed"), Vec::<PathBuf>::new());
    }

    #[test]
    fn nothing_is_written_when_space_is_short() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let error =
            create_folder(&place.path().join("model"), u64::MAX / 2, |_| Ok(())).expect_err("too large");
        assert_eq!(error.code, "disk-full");
        assert!(error.message.contains("bytes are needed"), "{}", error.message);
        assert_eq!(list(place.path()).expect("listed"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let file = place.path().join("result.json");
        write_file(&file, b"first, and longer").expect("written");
        write_file(&file, b"second").expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"second");
    }
}
