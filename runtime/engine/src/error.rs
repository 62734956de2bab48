//! What goes wrong while a plan runs, as facts: a code, a message, what to do and where it comes from.

use plan::task::{Place, Task};
use std::io;
use std::path::Path;

/// Why a task did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// Kebab-case name of the problem, explained by `adapt explain`.
    pub code: &'static str,
    /// The facts of this case, on one line.
    pub message: String,
    /// Something that the reader can do.
    pub help: Option<String>,
    /// Where in the recipe the failing task comes from.
    pub place: Option<Place>,
    /// Name of the failing task.
    pub stage: Option<String>,
}

/// Result of everything in this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// Makes an error of that code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        EngineError { code, message: message.into(), help: None, place: None, stage: None }
    }

    /// Adds what the reader can do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn help_if(self, help: &str) -> Self {
        if help.is_empty() { self } else { self.help(help) }
    }

    /// Adds the task, unless an inner call already did.
    pub fn of(mut self, task: &Task) -> Self {
        self.stage.get_or_insert_with(|| task.name.clone());
        self.place.get_or_insert_with(|| task.origin.clone());
        self
    }

    /// Makes the error of a plan that the runtime cannot carry out: a mistake of the compiler.
    pub fn plan(message: impl Into<String>) -> Self {
        EngineError::new("broken-plan", message)
            .help("this is a bug in adapt; please report it with plan.json")
    }

    /// Makes the error of a file operation; a full disk has its own code.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        if is_full(error) {
            return EngineError::new("disk-full", format!("cannot {action} {}: {error}", path.display()))
                .help("free some space and run again; the last complete checkpoint is kept");
        }
        let code = if error.kind() == io::ErrorKind::NotFound { "file-not-found" } else { "file-error" };
        let failed = EngineError::new(code, format!("cannot {action} {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                failed.help("change what may be read or written there, or choose another place")
            }
            _ => failed,
        }
    }
}

/// Returns whether the disk, a quota or a file size limit is exhausted.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

impl From<data::DataError> for EngineError {
    fn from(error: data::DataError) -> Self {
        of_text(error.code, error.to_string(), &error.help)
    }
}

impl From<tokenizer::TokenizerError> for EngineError {
    fn from(error: tokenizer::TokenizerError) -> Self {
        of_text(error.code, error.to_string(), &error.help)
    }
}

/// Makes the error of a crate that knows its files as text; system errors end with their number there.
fn of_text(code: &'static str, message: String, help: &str) -> EngineError {
    let numbers = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG];
    let full = numbers.iter().any(|number| message.contains(&format!("(os error {number})")));
    EngineError::new(if full { "disk-full" } else { code }, message).help_if(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_has_its_own_code() {
        let mut full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
        let error = full.write_all(b"x").expect_err("/dev/full takes nothing");
        assert_eq!(EngineError::io("write", Path::new("model.safetensors"), &error).code, "disk-full");
    }
}
