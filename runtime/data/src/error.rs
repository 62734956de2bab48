//! What can go wrong with data: always the file, the row where there is one, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// A problem with data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataError {
    /// Kebab-case name of the problem.
    pub code: &'static str,
    pub message: String,
    pub help: String,
    pub file: Option<PathBuf>,
    /// From 1: the line of a JSONL file, else the number of the row in its file.
    pub row: Option<u64>,
    /// From 1, in characters of that line, where it is known.
    pub column: Option<u64>,
}

impl DataError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: String::new(), file: None, row: None, column: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file.get_or_insert_with(|| file.to_path_buf());
        self
    }

    pub(crate) fn at_row(mut self, row: u64) -> Self {
        self.row.get_or_insert(row);
        self
    }

    pub(crate) fn at_column(mut self, column: u64) -> Self {
        self.column = Some(column);
        self
    }

    /// Returns an error of the file system.
    pub(crate) fn io(file: &Path, verb: &str, error: &std::io::Error) -> Self {
        let help = match error.kind() {
            std::io::ErrorKind::StorageFull => "free space on that disk, then run again",
            std::io::ErrorKind::NotFound => "check the path; it is relative to the recipe",
            std::io::ErrorKind::PermissionDenied => "change the permissions of it",
            _ => "see whether the disk is healthy, then run again",
        };
        let code = if verb == "write" { "unwritable-file" } else { "unreadable-file" };
        Self::new(code, format!("cannot {verb} it: {error}")).help(help).in_file(file)
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            for place in [self.row, self.column].into_iter().flatten() {
                write!(f, ":{place}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for DataError {}

impl From<tokenizer::TokenizerError> for DataError {
    fn from(error: tokenizer::TokenizerError) -> Self {
        let tokenizer::TokenizerError { code, message, help, file } = error;
        Self { code, message, help, file, row: None, column: None }
    }
}
