//! A scanner that never fails: any text as words, texts, braces and comments.
//!
//! What a recipe says is for `lang` to decide. The editor needs the pieces of a text that is being typed,
//! with their places; a quote or comment that is not closed ends where its author most likely means it to.

use std::ops::Range;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name, number or keyword.
    Word,
    /// A text in quotes.
    Text,
    Equals,
    Open,
    Close,
    Semicolon,
    Newline,
    Comment,
    /// `/-`, which takes out what follows.
    Slashdash,
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub range: Range<usize>,
    /// Of a text in quotes: how many bytes the opening takes, and the closing, 0 when it is missing.
    pub quotes: (usize, usize),
}

impl Token {
    /// Returns what stands between the quotes; of anything else all of it.
    pub fn inner(&self) -> Range<usize> {
        self.range.start + self.quotes.0..self.range.end - self.quotes.1
    }

    /// Whether a quote is open at its end.
    pub fn is_unclosed(&self) -> bool {
        self.kind == Kind::Text && self.quotes.1 == 0
    }
}

/// Cuts a text into its pieces; blanks are left out.
pub fn scan(text: &str) -> Vec<Token> {
    let mut scanner = Scanner { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } };
    std::iter::from_fn(|| scanner.next()).collect()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let (kind, len, quotes) = match first {
            '{' => (Kind::Open, 1, (0, 0)),
            '}' => (Kind::Close, 1, (0, 0)),
            ';' => (Kind::Semicolon, 1, (0, 0)),
            '=' => (Kind::Equals, 1, (0, 0)),
            '\r' if rest.starts_with("\r\n") => (Kind::Newline, 2, (0, 0)),
            c if is_newline(c) => (Kind::Newline, c.len_utf8(), (0, 0)),
            '/' if rest.starts_with("//") => (Kind::Comment, line(rest).len(), (0, 0)),
            '/' if rest.starts_with("/*") => (Kind::Comment, comment(rest), (0, 0)),
            '/' if rest.starts_with("/-") => (Kind::Slashdash, 2, (0, 0)),
            '"' | '#' if is_quote(rest) => {
                let (len, quotes) = quoted(rest);
                (Kind::Text, len, quotes)
            }
            _ => (Kind::Word, word(rest), (0, 0)),
        };
        let range = self.at..self.at + len;
        self.at = range.end;
        Some(Token { kind, range, quotes })
    }

    /// Skips blanks, and a `\` with the line break behind it.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let blank = rest.trim_start_matches(is_blank);
            self.at += rest.len() - blank.len();
            let Some(behind) = blank.strip_prefix('\\') else { return };
            let after = behind.trim_start_matches(is_blank);
            let comment = if after.starts_with("//") { line(after).len() } else { 0 };
            if !after[comment..].starts_with(is_newline) {
                return;
            }
            let newline = if after[comment..].starts_with("\r\n") { 2 } else { 1 };
            self.at = self.text.len() - after.len() + comment;
            self.at = self.text.ceil_char_boundary(self.at + newline);
        }
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && !is_newline(c)
}

/// Whether a text in quotes begins here: `"`, or `#` signs before one.
fn is_quote(text: &str) -> bool {
    text.trim_start_matches('#').starts_with('"')
}

/// Returns the text up to the end of the line.
fn line(text: &str) -> &str {
    &text[..text.find(is_newline).unwrap_or(text.len())]
}

/// Returns the length of a comment between `/*` and `*/`, which may hold others; all of the text when it is open.
fn comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(next) = text[at..].find(['/', '*']).map(|next| at + next) {
        match &text.as_bytes()[next..text.len().min(next + 2)] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at = next + 1;
                continue;
            }
        }
        at = next + 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Returns the length of a text in quotes, and the lengths of its opening and closing.
fn quoted(text: &str) -> (usize, (usize, usize)) {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let quote = if text[hashes..].starts_with("\"\"\"") { "\"\"\"" } else { "\"" };
    let opening = hashes + quote.len();
    let closing = format!("{quote}{}", "#".repeat(hashes));
    let body = &text[opening..];
    let reach = if quote.len() == 3 { body } else { line(body) };
    match find_closing(reach, &closing, hashes == 0) {
        Some(end) => (opening + end + closing.len(), (opening, closing.len())),
        // A text over several lines that is not closed takes its first line only: the rest stays a recipe.
        None => (opening + line(body).len(), (opening, 0)),
    }
}

fn find_closing(body: &str, closing: &str, escapes: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + body[at..].find(['"', '\\'])?;
        if body[next..].starts_with(closing) {
            return Some(next);
        }
        let step = if escapes && body[next..].starts_with('\\') { 2 } else { 1 };
        at = body.ceil_char_boundary((next + step).min(body.len()));
    }
}

fn word(text: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || is_newline(c) || matches!(c, '{' | '}' | ';' | '=' | '"');
    let end = text.find(ends).unwrap_or(text.len());
    let comment = ["//", "/*"].iter().filter_map(|opening| text[..end].find(opening)).min();
    comment.unwrap_or(end).max(text.chars().next().map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Kind, &str)]) {
        let found: Vec<(Kind, &str)> =
            scan(text).iter().map(|token| (token.kind, &text[token.range.clone()])).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn recipes_are_cut_into_pieces() {
        use Kind::*;
        check(
            "cpt a { lr=2e-4; }",
            &[
                (Word, "cpt"),
                (Word, "a"),
                (Open, "{"),
                (Word, "lr"),
                (Equals, "="),
                (Word, "2e-4"),
                (Semicolon, ";"),
                (Close, "}"),
            ],
        );
        check(
            "a \"x\" // c\nb",
            &[(Word, "a"), (Text, "\"x\""), (Comment, "// c"), (Newline, "\n"), (Word, "b")],
        );
        check("a \\ // c\r\n  b", &[(Word, "a"), (Word, "b")]);
        check("a /* x /* y */ */ b", &[(Word, "a"), (Comment, "/* x /* y */ */"), (Word, "b")]);
        check("hf:a/b /-c", &[(Word, "hf:a/b"), (Slashdash, "/-"), (Word, "c")]);
        check("#true #\"a\"b\"#", &[(Word, "#true"), (Text, "#\"a\"b\"#")]);
        check("\"\"\"\n a\n\"\"\" b", &[(Text, "\"\"\"\n a\n\"\"\""), (Word, "b")]);
    }

    #[test]
    fn what_is_open_ends_with_its_line() {
        use Kind::*;
        check("a \"x\nb", &[(Word, "a"), (Text, "\"x"), (Newline, "\n"), (Word, "b")]);
        check("a \"\"\"\nb", &[(Word, "a"), (Text, "\"\"\""), (Newline, "\n"), (Word, "b")]);
        check("a \"x\\\"", &[(Word, "a"), (Text, "\"x\\\"")]);
        check("a /* x\nb", &[(Word, "a"), (Comment, "/* x\nb")]);
        check("\\", &[(Word, "\\")]);
        check("\"\\é", &[(Text, "\"\\é")]);
        assert!(scan("a \"x")[1].is_unclosed());
    }
}
