//! What can go wrong with a tokenizer, and file access that says which file it was.

use std::fmt;
use std::path::{Path, PathBuf};

/// A problem with a tokenizer: what it is, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizerError {
    /// Kebab-case name of the problem.
    pub code: &'static str,
    pub message: String,
    pub help: String,
    pub file: Option<PathBuf>,
}

impl TokenizerError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: String::new(), file: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.file.get_or_insert_with(|| file.to_path_buf());
        self
    }
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TokenizerError {}

pub(crate) fn read_text(file: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(file).map_err(|error| {
        TokenizerError::new("unreadable-file", format!("cannot read it: {error}"))
            .help("a tokenizer is a folder with a tokenizer.json, or such a file")
            .in_file(file)
    })
}

pub(crate) fn write_text(file: &Path, text: &str) -> Result<(), TokenizerError> {
    std::fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

pub(crate) fn create_folder(folder: &Path) -> Result<(), TokenizerError> {
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> TokenizerError {
    TokenizerError::new("unwritable-file", format!("cannot write it: {error}"))
        .help("make room or change the permissions, then run again")
        .in_file(file)
}
