//! Words, texts and numbers, and what another language would have written for them.

use super::blanks::continuation_len;
use super::{Parser, Token};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::number::{Meant, NotANumber};
use crate::syntax::strings::{Fault, is_blank, is_newline};
use crate::syntax::{Damage, Data, Word, number, strings};
use crate::{paths, suggest};

/// How many lines a text may take that lacks the quotes of one over several lines.
const MAX_LINES: usize = 40;

impl<'a> Parser<'a> {
    /// Reads a string, number, keyword or bare word.
    pub(super) fn token(&mut self) -> Option<Token> {
        let rest = self.rest();
        let hashes = rest.bytes().take_while(|&b| b == b'#').count();
        if rest[hashes..].starts_with('"') {
            return Some(self.string());
        }
        let start = self.at;
        let first = rest.chars().next()?;
        if let Some(close) = closing_quote(first) {
            return Some(self.foreign_quotes(first, close));
        }
        if first == '[' {
            return Some(self.list());
        }
        let len = word_len(rest);
        if len == 0 {
            self.broken_line(start, "nothing can begin with this", "remove it, or put the text in quotes");
            return None;
        }
        self.at += len;
        self.bare(start)
    }

    fn string(&mut self) -> Token {
        let start = self.at;
        let mut read = strings::read(self.rest());
        let is_plain = self.rest().starts_with('"') && !self.rest().starts_with("\"\"\"");
        if is_plain && read.text == Err(Fault::Unclosed) {
            read.len = self.unclosed_len(read.len);
        } else if is_plain && read.text.is_ok() && self.closed_by_the_next(start + read.len) {
            // The quote that opens the next text was taken for the one that closes this one.
            let end = start + read.len - 1;
            read = strings::Read { len: self.line_len(end), text: Err(Fault::Unclosed) };
        }
        self.at += read.len;
        let span = self.span(start, self.at);
        match read.text {
            Ok(text) => Token::Name(Word { text, span }, false),
            Err(fault) => {
                self.bad_string(fault, start, span);
                Token::Value(Data::Broken, span)
            }
        }
    }

    /// Returns how much an unclosed text takes: up to its quote on a later line, else its line but for a `{` at the end.
    fn unclosed_len(&self, line: usize) -> usize {
        let mut at = self.at + line;
        for text in self.text[at..].split_inclusive('\n').skip(1).take(MAX_LINES) {
            at = text.as_ptr() as usize - self.text.as_ptr() as usize;
            match text.matches('"').count() {
                0 => {}
                quotes if quotes % 2 == 1 => {
                    let end = at + text.find('"').expect("it was counted") + 1;
                    let behind = self.text[end..].chars().next();
                    let closes =
                        behind.is_none_or(|c| is_blank(c) || is_newline(c) || matches!(c, ';' | '}'));
                    return if closes { end - self.at } else { self.line_len(self.at) };
                }
                _ => break,
            }
        }
        self.line_len(self.at)
    }

    /// Returns the bytes from here to the end of the line, or to a `{` at its end.
    fn line_len(&self, from: usize) -> usize {
        let rest = &self.text[from..];
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let trimmed = line.trim_end_matches(is_blank);
        let line = trimmed.strip_suffix('{').unwrap_or(line);
        from + line.trim_end_matches(is_blank).len() - self.at
    }

    /// Whether the text that ends here was closed by a quote that opens another: letters follow, and one quote too few.
    fn closed_by_the_next(&self, end: usize) -> bool {
        let rest = &self.text[end..];
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let glued = rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '<' | '-'));
        glued && line.matches('"').count() % 2 == 1
    }

    fn bad_string(&mut self, fault: Fault, start: usize, span: Span) {
        let (damage, diagnostic) = match fault {
            Fault::Unclosed => (
                Damage::Inside,
                Diagnostic::error("unclosed-string", "a text is not closed", span, "its closing quote is missing")
                    .with_help("write `\"` at its end; a text over several lines begins and ends with `\"\"\"`"),
            ),
            Fault::Escape { start: from, end } => (
                Damage::None,
                Diagnostic::error("syntax-error", "there is no such escape", self.span(start + from, start + end), "not an escape")
                    .with_help("write `\\\\` for a backslash, or a raw text `#\"…\"#`"),
            ),
            Fault::Indentation => (
                Damage::None,
                Diagnostic::error("syntax-error", "a text over several lines is not indented evenly", span, "every line begins like the last one")
                    .with_help("begin the text on a new line, and indent every line at least as far as the closing quotes"),
            ),
        };
        if fault == Fault::Unclosed && self.at == self.text.len() {
            self.damage = Damage::Everywhere;
        }
        self.error(damage, diagnostic);
    }

    /// Curly or single quotes, read as if they were straight ones.
    fn foreign_quotes(&mut self, open: char, close: &[char]) -> Token {
        let start = self.at;
        let body = &self.rest()[open.len_utf8()..];
        let line = &body[..body.find(is_newline).unwrap_or(body.len())];
        let (inner, len) = match line.find(close) {
            Some(end) => (&line[..end], end + line[end..].chars().next().map_or(0, char::len_utf8)),
            None => {
                let len = word_len(line);
                (&line[..len], len)
            }
        };
        let text = inner.to_owned();
        self.at += open.len_utf8() + len;
        let span = self.span(start, self.at);
        let (code, kind) = match open {
            '\'' => ("single-quotes", "single"),
            '`' => ("single-quotes", "backward"),
            _ => ("curly-quotes", "curly"),
        };
        let message = format!("{kind} quotes do not hold a text");
        let found = Diagnostic::error(code, message, span, "read as part of a word")
            .with_help("write straight double quotes: `\"…\"`")
            .with_fix("use straight quotes", span, format!("\"{text}\""));
        let is_kdl = text.chars().all(|c| c.is_alphanumeric() || is_blank(c));
        if is_kdl {
            self.slip(Damage::None, found)
        } else {
            self.error(Damage::None, found)
        }
        Token::Name(Word { text, span }, false)
    }

    /// `[a, b]`, as in other configuration languages.
    fn list(&mut self) -> Token {
        let start = self.at;
        let rest = self.rest();
        let line = &rest[..rest.find(is_newline).unwrap_or(rest.len())];
        let len = line.find(']').map_or(word_len(line).max(1), |end| end + 1);
        self.at += len;
        let span = self.span(start, self.at);
        self.error(
            Damage::Inside,
            Diagnostic::error(
                "unquoted-value",
                "a recipe has no lists in brackets",
                span,
                "`[` and `]` have no meaning here",
            )
            .with_help("write the values one after the other, with spaces between them"),
        );
        Token::Value(Data::Broken, span)
    }

    /// Classifies the bare word that ends here.
    pub(super) fn bare(&mut self, start: usize) -> Option<Token> {
        let span = self.span(start, self.at);
        let word = &self.text[start..self.at];
        if word.starts_with('#') {
            return self.keyword(word, span);
        }
        if word.contains(is_invisible) {
            return Some(self.invisible(word, span));
        }
        if number::begins(word) {
            return Some(self.number(word, span));
        }
        if let Some(data) = keyword_of(word) {
            return Some(self.bare_keyword(word, data, span));
        }
        if word.contains(['/', '\\', '[', ']', '#']) {
            self.unquoted(word, span, "a path or name with such characters");
            return Some(Token::Name(Word { text: word.to_owned(), span }, false));
        }
        let text = self.trim_punctuation(word, span);
        Some(Token::Name(Word { text, span }, true))
    }

    /// Characters that nobody sees, from a web page or a word processor, are left out.
    fn invisible(&mut self, word: &str, span: Span) -> Token {
        let text = word.replace(is_invisible, "");
        let first = word.chars().find(|&c| is_invisible(c)).map_or(0, u32::from);
        let message = format!("an invisible character, U+{first:04X}, stands in `{text}`");
        let found = Diagnostic::error("syntax-error", message, span, "not only what it seems")
            .with_help("write it anew")
            .with_fix("remove what is invisible", span, text.clone());
        if word.contains(is_forbidden) {
            self.error(Damage::None, found)
        } else {
            self.slip(Damage::None, found)
        }
        match number::read(&text) {
            Ok(data) => Token::Value(data, span),
            Err(_) => Token::Name(Word { text, span }, true),
        }
    }

    fn keyword(&mut self, word: &str, span: Span) -> Option<Token> {
        let data = match word {
            "#true" => Data::Bool(true),
            "#false" => Data::Bool(false),
            "#null" => Data::Null,
            "#inf" => Data::Number(f64::INFINITY),
            "#-inf" => Data::Number(f64::NEG_INFINITY),
            "#nan" => Data::Number(f64::NAN),
            _ => return self.unknown_keyword(word, span),
        };
        Some(Token::Value(data, span))
    }

    fn unknown_keyword(&mut self, word: &str, span: Span) -> Option<Token> {
        if let Some(bool) = keyword_of(&word[1..].to_lowercase()).filter(|data| matches!(data, Data::Bool(_)))
        {
            let right = format!("#{}", word[1..].to_lowercase());
            self.error(
                Damage::None,
                Diagnostic::error("bare-keyword", format!("`{word}` is not a value"), span, "not a value")
                    .with_help(format!("write `{right}`"))
                    .with_fix(format!("replace with `{right}`"), span, right.clone()),
            );
            return Some(Token::Value(bool, span));
        }
        let slashes = Span { end: span.start + 1, ..span };
        self.error(
            Damage::None,
            Diagnostic::error("wrong-comment", "a comment does not begin with `#`", slashes, "not a comment")
                .with_help("begin the comment with `//`")
                .with_fix("replace with `//`", slashes, "//"),
        );
        let end = self.rest().find(is_newline).unwrap_or(self.rest().len());
        self.at += end;
        None
    }

    fn number(&mut self, word: &str, span: Span) -> Token {
        let (digits, comma) = match word.strip_suffix(',') {
            Some(digits) => (digits, true),
            None => (word, false),
        };
        let data = match number::read(digits) {
            Ok(data) if comma => {
                self.error(Damage::None, stray_comma(word, span));
                data
            }
            Ok(data) => data,
            Err(NotANumber::Malformed) => match number::meant(digits) {
                Some(meant) => {
                    self.error(Damage::None, malformed(digits, meant, span));
                    Data::Broken
                }
                None => {
                    self.unquoted(word, span, "neither a number nor a word");
                    return Token::Name(Word { text: word.to_owned(), span }, false);
                }
            },
            Err(size) => {
                let found = does_not_fit(size, digits, span);
                if is_float(digits) && !comma {
                    self.slip(Damage::None, found)
                } else {
                    self.error(Damage::None, found)
                }
                Data::Broken
            }
        };
        Token::Value(data, span)
    }

    fn bare_keyword(&mut self, word: &str, data: Data, span: Span) -> Token {
        let found = bare_keyword_diagnostic(word, span);
        let is_kdl = matches!(word, "True" | "False" | "None");
        if is_kdl {
            self.slip(Damage::None, found)
        } else {
            self.error(Damage::None, found)
        }
        Token::Value(data, span)
    }

    fn unquoted(&mut self, word: &str, span: Span, label: &str) {
        let text = word.strip_suffix(',').unwrap_or(word);
        let quoted = format!("\"{}\"", text.replace('\\', "\\\\"));
        let on_hub = match paths::may_be_on_hub(text) {
            true => format!(", or `\"hf:{text}\"` for what lies on the hub"),
            false => String::new(),
        };
        self.error(
            Damage::None,
            Diagnostic::error("unquoted-value", format!("`{word}` needs quotes"), span, label)
                .with_help(format!("write `{quoted}`{on_hub}"))
                .with_fix("put it in quotes", span, quoted.clone()),
        );
    }

    /// Reports a comma or colon at the end of a word, as in other languages, and returns the word without it.
    fn trim_punctuation(&mut self, word: &str, span: Span) -> String {
        if let Some(text) = word.strip_suffix(',') {
            self.slip(Damage::None, stray_comma(word, span));
            return text.to_owned();
        }
        if let Some(text) = word.strip_suffix(':').filter(|text| !text.is_empty()) {
            // At the end of a line it opens a block by indentation, which a recipe does not have.
            let behind = self.rest().trim_start_matches(is_blank);
            let opens_block = behind.starts_with(is_newline) || behind.starts_with("//");
            self.braces_in_doubt |= opens_block;
            self.slip(
                if opens_block { Damage::Everywhere } else { Damage::None },
                Diagnostic::error(
                    "stray-colon",
                    format!("`{word}` ends in a colon"),
                    span,
                    "the colon is read as part of the word",
                )
                .with_help(format!("write `{text}`, a space and the value"))
                .with_fix("remove the colon", span, text),
            );
            return text.to_owned();
        }
        word.to_owned()
    }
}

fn stray_comma(word: &str, span: Span) -> Diagnostic {
    let text = word.strip_suffix(',').unwrap_or(word);
    let label = "the comma is read as part of the value";
    Diagnostic::error("stray-comma", "values are not separated by commas", span, label)
        .with_help("separate values by spaces")
        .with_fix("remove the comma", span, text)
}

/// Reports a number in a form of another place.
fn malformed(word: &str, meant: Meant, span: Span) -> Diagnostic {
    let message = format!("`{word}` is not how a number is written");
    let diagnostic = Diagnostic::error("malformed-number", message, span, "not a number");
    match meant {
        Meant::Certain(right) => diagnostic.with_help(format!("write `{right}`")).with_fix(
            format!("replace with `{right}`"),
            span,
            right,
        ),
        Meant::OneOf(numbers) => {
            diagnostic.with_help(format!("write {}", suggest::list(numbers.iter().map(String::as_str), "or")))
        }
    }
}

/// Reports a number that no float can hold.
pub fn does_not_fit(size: NotANumber, digits: &str, span: Span) -> Diagnostic {
    let (message, label) = match size {
        NotANumber::TooSmall => (format!("`{digits}` is so small that it would become 0"), "too small"),
        _ => (format!("`{digits}` is larger than any number"), "too large"),
    };
    Diagnostic::error("out-of-range", message, span, label).with_help("check the exponent")
}

/// Reports a keyword of another language, or one of KDL without its `#`.
pub fn bare_keyword_diagnostic(word: &str, span: Span) -> Diagnostic {
    let diagnostic =
        Diagnostic::error("bare-keyword", format!("`{word}` is not a value"), span, "not a value");
    match word.to_lowercase().as_str() {
        right @ ("true" | "false") => diagnostic.with_help(format!("write `#{right}`")).with_fix(
            format!("replace with `#{right}`"),
            span,
            format!("#{right}"),
        ),
        _ => diagnostic
            .with_help("leave the option out, or write a value; put it in quotes where text is meant"),
    }
}

fn is_float(digits: &str) -> bool {
    digits.contains(['.', 'e', 'E']) && !digits.contains(['x', 'X'])
}

/// Whether KDL reads a bare word as text although it is a slip from another language.
pub fn is_slip(word: &str) -> bool {
    let quoted = word.chars().next().is_some_and(|first| closing_quote(first).is_some());
    quoted
        || word.ends_with(',')
        || word.len() > 1 && word.ends_with(':')
        || keyword_of(word).is_some()
        || word.contains(is_invisible)
}

/// What a keyword without its `#` stands for.
fn keyword_of(word: &str) -> Option<Data> {
    match word {
        "true" | "True" => Some(Data::Bool(true)),
        "false" | "False" => Some(Data::Bool(false)),
        "null" | "None" | "nan" | "inf" | "-inf" => Some(Data::Broken),
        _ => None,
    }
}

/// Returns the quotes that close what a quote of another kind opened.
fn closing_quote(open: char) -> Option<&'static [char]> {
    match open {
        '“' | '”' | '„' | '‟' => Some(&['”', '“', '"']),
        '‘' | '’' | '‚' => Some(&['’', '‘']),
        '«' | '»' => Some(&['»', '«']),
        '\'' => Some(&['\'']),
        '`' => Some(&['`']),
        _ => None,
    }
}

/// Returns the length of the bare word that the text begins with.
pub(super) fn word_len(text: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        let comment = (rest.starts_with("//") && previous != ':') || rest.starts_with("/*");
        let continued = c == '\\' && continuation_len(rest).is_some();
        if is_blank(c)
            || is_newline(c)
            || comment
            || continued
            || matches!(c, '{' | '}' | '(' | ')' | ';' | '=' | '"')
        {
            return at;
        }
        previous = c;
    }
    text.len()
}

/// Characters that nobody sees, whether KDL allows them or not.
fn is_invisible(c: char) -> bool {
    is_forbidden(c) || matches!(c, '\u{7f}' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}')
}

/// Characters that KDL allows nowhere outside quotes, invisible ones above all.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
