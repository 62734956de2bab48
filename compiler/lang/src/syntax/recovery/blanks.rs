//! What lies between words: blanks, comments, ends of lines.

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::syntax::Damage;
use crate::syntax::strings::{is_blank, is_newline};

impl<'a> Parser<'a> {
    /// Skips blanks, block comments and continued lines.
    pub(super) fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            match rest.as_bytes().first() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'/') if rest.starts_with("/*") => self.block_comment(),
                Some(b'\\') => match continuation_len(rest) {
                    Some(len) => self.continue_line(len),
                    None => return,
                },
                Some(0x80..) => match rest.chars().next().filter(|&c| is_blank(c)) {
                    Some(c) => self.at += c.len_utf8(),
                    None => return,
                },
                _ => return,
            }
        }
    }

    /// Skips `\`, what may stand behind it, and the end of its line.
    fn continue_line(&mut self, len: usize) {
        let marks = self.rest()[..len].bytes().filter(|b| matches!(b, b'*' | b'/')).count();
        self.costs.comment = self.costs.comment.max(2 * marks);
        self.at += len;
    }

    /// Skips blanks, comments and line ends between `/-` and what it takes out.
    pub(super) fn skip_to_dropped(&mut self) {
        loop {
            self.skip_blank();
            let rest = self.rest();
            match rest.chars().next() {
                Some(c) if is_newline(c) => self.at += c.len_utf8(),
                Some('/') if rest.starts_with("//") => self.at += rest.find(is_newline).unwrap_or(rest.len()),
                _ => return,
            }
        }
    }

    /// Skips blanks, comments, line ends and `;`.
    pub(super) fn skip_lines(&mut self) {
        loop {
            self.skip_blank();
            let rest = self.rest();
            match rest.chars().next() {
                Some(';') => self.stray_semicolon(),
                Some(c) if is_newline(c) => self.at += c.len_utf8(),
                Some('/') if rest.starts_with("//") => self.at += rest.find(is_newline).unwrap_or(rest.len()),
                _ => return,
            }
        }
    }

    fn stray_semicolon(&mut self) {
        let at = self.span(self.at, self.at + 1);
        self.at += 1;
        self.error(
            Damage::None,
            Diagnostic::error("syntax-error", "no node stands before this `;`", at, "ends nothing")
                .with_help("remove it; one `;` stands between nodes on the same line")
                .with_fix("remove it", at, ""),
        );
    }

    /// Skips a comment between `/*` and `*/`, which may hold others.
    fn block_comment(&mut self) {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut open = 0usize;
        while self.at + 1 < bytes.len() {
            match &bytes[self.at..self.at + 2] {
                b"/*" => (open, self.at) = (open + 1, self.at + 2),
                b"*/" => (open, self.at) = (open - 1, self.at + 2),
                _ => self.at += 1,
            }
            if open == 0 {
                let marks = bytes[start..self.at].iter().filter(|b| matches!(b, b'*' | b'/')).count();
                self.costs.comment = self.costs.comment.max(2 * marks);
                return;
            }
        }
        self.at = bytes.len();
        self.in_comment = true;
        self.error(
            Damage::Everywhere,
            Diagnostic::error(
                "syntax-error",
                "a comment is not closed",
                self.span(start, start + 2),
                "opened here",
            )
            .with_help("write `*/` at its end"),
        );
    }
}

/// Returns the length of `\`, blanks, comments and a line end.
pub(super) fn continuation_len(text: &str) -> Option<usize> {
    let mut len = 1;
    loop {
        len += text[len..].chars().take_while(|&c| is_blank(c)).map(char::len_utf8).sum::<usize>();
        match comment_len(&text[len..]) {
            0 => break,
            comment => len += comment,
        }
    }
    if text[len..].starts_with("//") {
        len += text[len..].find(is_newline).unwrap_or(text.len() - len);
    }
    match text[len..].chars().next() {
        None => Some(len),
        Some(c) if is_newline(c) => {
            Some(len + if text[len..].starts_with("\r\n") { 2 } else { c.len_utf8() })
        }
        Some(_) => None,
    }
}

/// Returns the length of the comment between `/*` and `*/` that the text begins with, or 0.
fn comment_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (open, at) = (open + 1, at + 2),
            b"*/" if open > 0 => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return if text.starts_with("/*") { at } else { 0 };
        }
    }
    0
}
