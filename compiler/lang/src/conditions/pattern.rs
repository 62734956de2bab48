//! The regex of `matches`.

use regex::{Regex, RegexBuilder};
use std::ops::Range;

/// Bytes of a compiled pattern; larger ones would make a check slow, and no honest filter is.
const SIZE_LIMIT: usize = 2 << 20;

/// A regex that is known to be one.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
}

/// Why a text is no regex.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: String,
    /// The bytes at fault; all of the pattern when nothing smaller is.
    pub at: Option<Range<usize>>,
}

impl Pattern {
    /// Compiles a regex.
    ///
    /// # Errors
    /// Fails with the bytes at fault when it is none, or too large.
    pub fn new(text: &str) -> Result<Self, Fault> {
        regex_syntax::parse(text).map_err(|error| fault(&error))?;
        let compiled = RegexBuilder::new(text).size_limit(SIZE_LIMIT).build();
        let too_large = |_| Fault { reason: "it is too large".to_owned(), at: None };
        compiled.map(|regex| Self { regex }).map_err(too_large)
    }

    /// Returns it as it is written.
    pub fn text(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether it occurs somewhere in a text.
    pub fn occurs_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

fn fault(error: &regex_syntax::Error) -> Fault {
    let (reason, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), Some(error.span())),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), Some(error.span())),
        other => (other.to_string(), None),
    };
    let at = span.map(|span| span.start.offset..span.end.offset).filter(|at| !at.is_empty());
    Fault { reason, at }
}
