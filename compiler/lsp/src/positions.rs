//! Places in a text: bytes here, lines and columns in the editor.

use lsp_types::{Position, PositionEncodingKind, Range};
use std::ops::Range as Bytes;

/// How an editor counts columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    /// What an editor means that does not say.
    #[default]
    Utf16,
}

impl Encoding {
    /// Takes UTF-8 where the editor offers it.
    pub fn of(offered: &[PositionEncodingKind]) -> Self {
        if offered.contains(&PositionEncodingKind::UTF8) { Encoding::Utf8 } else { Encoding::Utf16 }
    }

    /// Returns the protocol's name of it.
    pub fn kind(self) -> PositionEncodingKind {
        match self {
            Encoding::Utf8 => PositionEncodingKind::UTF8,
            Encoding::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    fn width(self, c: char) -> usize {
        match self {
            Encoding::Utf8 => c.len_utf8(),
            Encoding::Utf16 => c.len_utf16(),
        }
    }

    /// Returns how wide a text is.
    pub fn measure(self, text: &str) -> usize {
        text.chars().map(|c| self.width(c)).sum()
    }
}

/// Where the lines of a text begin. A line ends with `\n`, `\r\n` or `\r`, as the protocol has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    starts: Vec<usize>,
    /// Where characters end that take several bytes, each with how many bytes more than UTF-16 units they and
    /// all before them take.
    wide: Vec<(usize, usize)>,
}

impl Lines {
    /// Finds the lines of a text.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ends = |at: &usize| match bytes[*at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let later = (0..bytes.len()).filter(ends).map(|at| at + 1);
        let mut more = 0;
        let wide = text.char_indices().filter(|(_, c)| !c.is_ascii()).map(|(at, c)| {
            more += c.len_utf8() - c.len_utf16();
            (at + c.len_utf8(), more)
        });
        Self { starts: std::iter::once(0).chain(later).collect(), wide: wide.collect() }
    }

    /// Returns the line, counted from 0, that holds a byte.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset) - 1
    }

    /// Returns the bytes of a line without what ends it; nothing behind the last line.
    pub fn bytes(&self, text: &str, line: usize) -> Option<Bytes<usize>> {
        let start = *self.starts.get(line)?;
        let end = self.starts.get(line + 1).copied().unwrap_or(text.len());
        Some(start..start + text[start..end].trim_end_matches(['\r', '\n']).len())
    }

    /// Converts a byte to a position. A byte within a character means its start.
    pub fn position(&self, text: &str, offset: usize, encoding: Encoding) -> Position {
        let offset = text.floor_char_boundary(offset.min(text.len()));
        let line = self.line(offset);
        let start = self.starts[line];
        let column = match encoding {
            Encoding::Utf8 => offset - start,
            Encoding::Utf16 => offset - start - (self.more(offset) - self.more(start)),
        };
        Position { line: line as u32, character: column as u32 }
    }

    /// Returns how many bytes more than UTF-16 units the text takes up to a byte.
    fn more(&self, offset: usize) -> usize {
        let before = self.wide.partition_point(|&(end, _)| end <= offset);
        before.checked_sub(1).map_or(0, |last| self.wide[last].1)
    }

    /// Converts bytes to a range.
    pub fn range(&self, text: &str, bytes: Bytes<usize>, encoding: Encoding) -> Range {
        Range {
            start: self.position(text, bytes.start, encoding),
            end: self.position(text, bytes.end, encoding),
        }
    }

    /// Converts a position to a byte; what lies behind a line or the text is its end.
    pub fn offset(&self, text: &str, position: Position, encoding: Encoding) -> usize {
        let Some(line) = self.bytes(text, position.line as usize) else { return text.len() };
        let mut left = position.character as usize;
        for (at, c) in text[line.clone()].char_indices() {
            let width = encoding.width(c);
            if left < width {
                return line.start + at;
            }
            left -= width;
        }
        line.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, offset: usize, encoding: Encoding, line: u32, character: u32) {
        let lines = Lines::of(text);
        let position = Position { line, character };
        assert_eq!(lines.position(text, offset, encoding), position, "{text:?} at {offset}");
        assert_eq!(lines.offset(text, position, encoding), offset, "{text:?} at {position:?}");
    }

    #[test]
    fn columns_are_counted_as_the_editor_counts_them() {
        let text = "a\n𝄞é x\r\nb\rc";
        check(text, 6, Encoding::Utf16, 1, 2);
        check(text, 6, Encoding::Utf8, 1, 4);
        check(text, 8, Encoding::Utf16, 1, 3);
        check(text, 8, Encoding::Utf8, 1, 6);
        check(text, 12, Encoding::Utf16, 2, 0);
        check(text, 14, Encoding::Utf16, 3, 0);
        check(text, 15, Encoding::Utf8, 3, 1);
    }

    #[test]
    fn places_outside_the_text_are_its_nearest() {
        let text = "𝄞\nb";
        let lines = Lines::of(text);
        let at = |line, character| lines.offset(text, Position { line, character }, Encoding::Utf16);
        assert_eq!(at(0, 1), 0, "the middle of a character is its start");
        assert_eq!(at(0, 99), 4);
        assert_eq!(at(7, 0), 6);
        assert_eq!(lines.position(text, 2, Encoding::Utf16), Position { line: 0, character: 0 });
        assert_eq!(lines.position(text, 99, Encoding::Utf16), Position { line: 1, character: 1 });
    }
}
