//! Why a file is refused, and where.

use lang::diagnostic::visible;

/// A place in the file: bytes, and the line and column that a reader counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub start: u32,
    pub end: u32,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Place {
    /// The start of the file, for what concerns all of it.
    pub const START: Place = Place { start: 0, end: 0, line: 1, column: 1 };
}

/// One reason why a file does not become a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `bad-yaml` or `cannot-import`.
    pub code: &'static str,
    /// Lowercase without full stop; makes sense alone.
    pub message: String,
    /// Bytes of the smallest place at fault.
    pub start: u32,
    pub end: u32,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What to do; starts with a verb.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(
        code: &'static str,
        message: impl Into<String>,
        at: Place,
        help: impl Into<String>,
    ) -> Self {
        // A value of the file may be a secret, or any text at all, and messages quote values.
        let message = visible(lang::syntax::mask(&message.into()));
        let Place { start, end, line, column } = at;
        Self { code, message, start, end, line, column, help: visible(help.into()) }
    }

    pub(crate) fn refuse(message: impl Into<String>, at: Place, help: impl Into<String>) -> Self {
        Problem::new("cannot-import", message, at, help)
    }
}
