//! A text without syntax errors as words, marks and comments.

use crate::syntax::strings::{self, is_blank, is_newline};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bare word, number, keyword or string.
    Word,
    /// `// …`, without the end of its line.
    LineComment,
    /// `/* … */`.
    BlockComment,
    Newline,
    /// `\`, by which a node goes on on the next line.
    Continued,
    /// `/-`.
    Dash,
    Open,
    Close,
    Semicolon,
    Equals,
    /// `(` and `)` around a type annotation, which only what `/-` takes out can have.
    OpenType,
    CloseType,
}

#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
}

/// Cuts a text into everything but blanks.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_blank);
        let Some(first) = rest.chars().next() else { return tokens };
        let (kind, len) = token(rest, first);
        let (text, behind) = rest.split_at(len);
        tokens.push(Token { kind, text });
        rest = behind;
    }
}

/// Returns the kind and length of the first token.
fn token(rest: &str, first: char) -> (Kind, usize) {
    match first {
        '\r' if rest.starts_with("\r\n") => (Kind::Newline, 2),
        c if is_newline(c) => (Kind::Newline, c.len_utf8()),
        '/' if rest.starts_with("//") => (Kind::LineComment, rest.find(is_newline).unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (Kind::BlockComment, block_comment_len(rest)),
        '/' if rest.starts_with("/-") => (Kind::Dash, 2),
        '\\' => (Kind::Continued, 1),
        '{' => (Kind::Open, 1),
        '}' => (Kind::Close, 1),
        ';' => (Kind::Semicolon, 1),
        '=' => (Kind::Equals, 1),
        '(' => (Kind::OpenType, 1),
        ')' => (Kind::CloseType, 1),
        _ if rest.trim_start_matches('#').starts_with('"') => (Kind::Word, strings::read(rest).len),
        _ => (Kind::Word, word_len(rest)),
    }
}

/// Returns the length of a comment between `/*` and `*/`, which may hold others.
fn block_comment_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0usize);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (open, at) = (open + 1, at + 2),
            b"*/" => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return at;
        }
    }
    text.len()
}

fn word_len(text: &str) -> usize {
    let ends = |c: char| {
        is_blank(c) || is_newline(c) || matches!(c, '\\' | '/' | '(' | ')' | '{' | '}' | ';' | '"' | '=')
    };
    let mut chars = text.char_indices().skip(1);
    chars.find(|&(_, c)| ends(c)).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = tokens(text).iter().map(|token| token.text).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn texts_are_cut_at_blanks_and_marks() {
        check("\u{feff}a b=\"x y\"; c", &["a", "b", "=", "\"x y\"", ";", "c"]);
        check("a{b}\r\n\u{a0}c", &["a", "{", "b", "}", "\r\n", "c"]);
        check("a #\"x \" y\"# ##\"\"\"\n\"# \n\"\"\"##", &["a", "#\"x \" y\"#", "##\"\"\"\n\"# \n\"\"\"##"]);
        check("a #true /-(t)é=0xFF", &["a", "#true", "/-", "(", "t", ")", "é", "=", "0xFF"]);
        check("a/* /* b */ c */ \\ // d {\n", &["a", "/* /* b */ c */", "\\", "// d {", "\n"]);
        check("/***/a", &["/***/", "a"]);
    }
}
