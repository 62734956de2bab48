//! Where the bytes of a condition stand in the recipe.

use super::{Condition, ConditionError, parse};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use std::ops::Range;

/// The place of a text value in its source.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    span: Span,
    /// Bytes from the start of the value to the start of its text, when the text is written as it is.
    offset: Option<u32>,
}

impl Place {
    /// Compares a text with how it is written at its span: `"…"`, `#"…"#`, or bare as in `--set`.
    pub fn of(text: &str, span: Span, raw: &str) -> Self {
        let inner = raw.trim_matches('#');
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let unquoted = inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
        let offset = match unquoted {
            _ if raw == text => Some(0),
            Some(inner) if inner == text => Some(hashes as u32 + 1),
            _ => None,
        };
        Self { span, offset }
    }

    /// Whether the characters of the text are known one by one.
    pub fn is_exact(&self) -> bool {
        self.offset.is_some()
    }

    /// Returns the span of some bytes of the text; all of the value when the text is written otherwise.
    pub fn at(&self, bytes: &Range<usize>) -> Span {
        match self.offset {
            Some(offset) if !bytes.is_empty() => {
                let start = self.span.start + offset;
                Span { start: start + bytes.start as u32, end: start + bytes.end as u32, ..self.span }
            }
            _ => self.span,
        }
    }
}

/// Reads a condition that stands in a recipe.
///
/// `span` is the place of the value and `raw` the source text at it.
///
/// # Errors
/// Fails with a diagnostic for every mistake.
pub fn check(text: &str, span: Span, raw: &str) -> Result<Condition, Vec<Diagnostic>> {
    let place = Place::of(text, span, raw);
    parse(text).map_err(|errors| errors.into_iter().map(|error| diagnostic(error, place)).collect())
}

fn diagnostic(error: ConditionError, place: Place) -> Diagnostic {
    let at = place.at(&error.at);
    let diagnostic = Diagnostic::error("bad-condition", error.message, at, error.label).with_help(error.help);
    // What would need an escape in the recipe's own quotes is not written for the reader.
    match error.fix.filter(|fix| !fix.contains(['"', '\\'])) {
        Some(fix) if place.is_exact() => diagnostic.with_fix(format!("replace with `{fix}`"), at, fix),
        _ => diagnostic,
    }
}
