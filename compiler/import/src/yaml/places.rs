//! The parser's marks as places in the text.

use crate::problem::Place;
use saphyr_parser::{ScalarStyle, Span as Marks};

/// Converts the parser's marks, which count characters, to bytes.
pub(super) struct Places<'a> {
    text: &'a str,
    /// The byte of every character; empty for ASCII, where both are the same.
    bytes: Vec<u32>,
}

impl<'a> Places<'a> {
    pub fn of(text: &'a str) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(byte, _)| byte as u32).collect()
        };
        Self { text, bytes }
    }

    fn byte(&self, index: usize) -> usize {
        let byte = if self.bytes.is_empty() {
            index
        } else {
            self.bytes.get(index).map_or(self.text.len(), |byte| *byte as usize)
        };
        byte.min(self.text.len())
    }

    /// Returns the end of a scalar; the parser counts a comment behind a quoted one to it.
    pub fn closing(&self, at: Place, style: ScalarStyle) -> u32 {
        let quote = match style {
            ScalarStyle::DoubleQuoted => b'"',
            ScalarStyle::SingleQuoted => b'\'',
            _ => return at.end,
        };
        let bytes = &self.text.as_bytes()[at.start as usize..at.end as usize];
        let Some(open) = bytes.iter().position(|byte| *byte == quote) else { return at.end };
        let mut next = open + 1;
        while next < bytes.len() {
            match bytes[next] {
                b'\\' if quote == b'"' => next += 2,
                byte if byte == quote && quote == b'\'' && bytes.get(next + 1) == Some(&quote) => next += 2,
                byte if byte == quote => return at.start + next as u32 + 1,
                _ => next += 1,
            }
        }
        at.end
    }

    pub fn place(&self, marks: &Marks) -> Place {
        let start = self.byte(marks.start.index());
        let end = self.byte(marks.end.index()).max(start);
        Place {
            start: start as u32,
            end: end as u32,
            line: marks.start.line() as u32,
            column: marks.start.col() as u32 + 1,
        }
    }
}
