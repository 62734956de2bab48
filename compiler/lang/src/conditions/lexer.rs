//! The text of a condition as tokens. Slips from other languages are reported and read as what was meant.

use super::print::quoted;
use super::{Comparison, ConditionError, Literal};
use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A column, a function, or a word that means nothing here.
    Word(String),
    Value(Literal),
    Operator(Comparison),
    And,
    Or,
    Not,
    In,
    Matches,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
}

/// A token and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
}

/// What a text was read as.
#[derive(Debug, Default)]
pub struct Tokens {
    pub tokens: Vec<Token>,
    pub errors: Vec<ConditionError>,
    /// Whether something was left out, so that what the parser misses may be that.
    pub damaged: bool,
}

/// Signs of other languages with what they are here; longer ones first.
const SLIPS: [(&str, Kind, &str); 14] = [
    ("===", Kind::Operator(Comparison::Equal), "=="),
    ("!==", Kind::Operator(Comparison::Unequal), "!="),
    ("&&", Kind::And, "and"),
    ("||", Kind::Or, "or"),
    ("<>", Kind::Operator(Comparison::Unequal), "!="),
    ("=>", Kind::Operator(Comparison::AtLeast), ">="),
    ("=<", Kind::Operator(Comparison::AtMost), "<="),
    ("=~", Kind::Matches, "matches"),
    ("≠", Kind::Operator(Comparison::Unequal), "!="),
    ("≤", Kind::Operator(Comparison::AtMost), "<="),
    ("≥", Kind::Operator(Comparison::AtLeast), ">="),
    ("&", Kind::And, "and"),
    ("|", Kind::Or, "or"),
    ("~", Kind::Matches, "matches"),
];

/// Signs of this language; longer ones first.
const SIGNS: [(&str, Kind); 11] = [
    ("==", Kind::Operator(Comparison::Equal)),
    ("!=", Kind::Operator(Comparison::Unequal)),
    ("<=", Kind::Operator(Comparison::AtMost)),
    (">=", Kind::Operator(Comparison::AtLeast)),
    ("<", Kind::Operator(Comparison::Less)),
    (">", Kind::Operator(Comparison::Greater)),
    ("(", Kind::Open),
    (")", Kind::Close),
    ("[", Kind::OpenList),
    ("]", Kind::CloseList),
    (",", Kind::Comma),
];

/// What is read last of signs, since others begin with it.
const LAST_SLIPS: [(&str, Kind, &str); 2] =
    [("=", Kind::Operator(Comparison::Equal), "=="), ("!", Kind::Not, "not ")];

const WORDS: [(&str, Kind); 5] =
    [("and", Kind::And), ("or", Kind::Or), ("not", Kind::Not), ("in", Kind::In), ("matches", Kind::Matches)];

/// Opening quotes of typography, each with those that close it.
const CURLY: [(char, &str); 6] = [('“', "”“"), ('”', "”"), ('„', "“”"), ('‘', "’‘"), ('’', "’"), ('«', "»")];

/// Reads a text.
pub fn read(text: &str) -> Tokens {
    let mut lexer = Lexer { text, at: 0, found: Tokens::default() };
    while let Some(next) = lexer.rest().chars().next() {
        lexer.token(next);
    }
    lexer.found
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    found: Tokens,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn token(&mut self, next: char) {
        match next {
            c if c.is_whitespace() => self.at += c.len_utf8(),
            '\'' | '"' => self.text_value(next),
            '`' => self.backquoted(),
            c if begins_word(c) => self.word(),
            c if c.is_ascii_digit() => self.number(),
            '-' | '+' | '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            c => match CURLY.into_iter().find(|(open, _)| *open == c) {
                Some((_, closing)) => self.curly(c, closing),
                None => self.sign(c),
            },
        }
    }

    fn push(&mut self, kind: Kind, len: usize) -> Range<usize> {
        let at = self.at..self.at + len;
        self.found.tokens.push(Token { kind, at: at.clone() });
        self.at += len;
        at
    }

    fn report(&mut self, error: ConditionError) {
        self.found.errors.push(error);
    }

    fn sign(&mut self, next: char) {
        let rest = self.rest();
        let starts = |sign: &str| rest.starts_with(sign);
        let slip = SLIPS.into_iter().find(|(sign, ..)| starts(sign));
        if let Some((sign, kind, ours)) = slip {
            self.slip(sign, kind, ours);
        } else if let Some((sign, kind)) = SIGNS.into_iter().find(|(sign, _)| starts(sign)) {
            self.push(kind, sign.len());
        } else if let Some((sign, kind, ours)) = LAST_SLIPS.into_iter().find(|(sign, ..)| starts(sign)) {
            self.slip(sign, kind, ours);
        } else {
            self.stray(next);
        }
    }

    /// Reports a sign of another language and reads it as ours.
    fn slip(&mut self, sign: &str, kind: Kind, ours: &str) {
        let at = self.push(kind, sign.len());
        let name = ours.trim_end();
        let fix = spaced(self.text, &at, ours);
        self.report(
            ConditionError::new(
                at,
                format!("`{sign}` is no sign of a condition"),
                format!("`{name}` here"),
                format!("write `{name}`"),
            )
            .or_rather(fix),
        );
    }

    fn stray(&mut self, next: char) {
        let help = match next {
            '$' => "write the value itself; a `param` cannot stand inside a text",
            '#' => "write `true` and `false` without `#` in a condition",
            '+' | '-' | '*' | '/' | '%' => "compare columns as they are; a condition does not compute",
            '{' | '}' => "group with `(` and `)`, and list values between `[` and `]`",
            ';' => "join two conditions with `and` or `or`",
            _ => "remove it, or put the value that it belongs to into single quotes",
        };
        let at = self.at..self.at + next.len_utf8();
        self.at = at.end;
        self.found.damaged = true;
        let message = format!("`{next}` has no meaning in a condition");
        self.report(ConditionError::new(at, message, "not expected here", help));
    }

    /// Reads a text; its quote written twice stands for one of it.
    fn text_value(&mut self, quote: char) {
        let start = self.at;
        let mut text = String::new();
        let mut at = start + 1;
        while let Some(len) = self.text[at..].find(quote) {
            text.push_str(&self.text[at..at + len]);
            at += len + 1;
            if !self.text[at..].starts_with(quote) {
                self.push(Kind::Value(Literal::Text(text)), at - start);
                return;
            }
            text.push(quote);
            at += 1;
        }
        self.at = self.text.len();
        self.found.damaged = true;
        let help = format!("close it with `{quote}`; one that belongs to the text is written twice");
        let message = "this text is not closed";
        self.report(ConditionError::new(start..self.at, message, format!("no `{quote}` follows"), help));
    }

    /// A name in backquotes is one of SQL.
    fn backquoted(&mut self) {
        let inner = self.rest()[1..].split('`').next().unwrap_or_default();
        let len = (inner.len() + 2).min(self.rest().len());
        let at = self.push(Kind::Word(inner.to_owned()), len);
        let help = format!("write `{inner}`");
        let mut error = ConditionError::new(at, "a column is named without quotes", "in backquotes", help);
        error.fix = is_path(inner).then(|| inner.to_owned());
        self.report(error);
    }

    fn curly(&mut self, open: char, closing: &str) {
        let inside = &self.rest()[open.len_utf8()..];
        let end = inside.find(|c| closing.contains(c));
        let inner = &inside[..end.unwrap_or(inside.len())];
        let close = inside[inner.len()..].chars().next().map_or(0, char::len_utf8);
        let len = open.len_utf8() + inner.len() + close;
        let fix = quoted(inner);
        let at = self.push(Kind::Value(Literal::Text(inner.to_owned())), len);
        self.report(
            ConditionError::new(at, "curly quotes do not quote", "curly quotes", format!("write `{fix}`"))
                .or_rather(fix),
        );
    }

    fn word(&mut self) {
        let rest = self.rest();
        let len = rest.find(|c| !goes_on(c)).unwrap_or(rest.len());
        let word = &rest[..len];
        if let Some((_, kind)) = WORDS.into_iter().find(|(name, _)| *name == word) {
            self.push(kind, len);
            return;
        }
        let shouted = WORDS.into_iter().find(|(name, _)| name.to_uppercase() == word);
        if let Some((name, kind)) = shouted {
            self.slip(word, kind, name);
            return;
        }
        let kind = match word {
            "true" => Kind::Value(Literal::Bool(true)),
            "false" => Kind::Value(Literal::Bool(false)),
            _ => Kind::Word(word.to_owned()),
        };
        let at = self.push(kind, len);
        if !is_path(word) {
            self.found.damaged = true;
            let message = format!("`{word}` is no name of a column");
            let help = "write one point between two names, such as `meta.language`";
            self.report(ConditionError::new(at, message, "a point too many", help));
        }
    }

    fn number(&mut self) {
        let rest = self.rest();
        let signed = |(at, c): (usize, char)| {
            let after_exponent = rest[..at].ends_with(['e', 'E']);
            let is_sign = matches!(c, '-' | '+') && (at == 0 || after_exponent);
            !(is_sign || c.is_alphanumeric() || matches!(c, '_' | '.'))
        };
        let len = rest.char_indices().find(|&next| signed(next)).map_or(rest.len(), |(at, _)| at);
        let written = &rest[..len];
        match read_number(written) {
            Ok(value) => {
                self.push(Kind::Value(value), len);
            }
            Err((message, help)) => {
                self.found.damaged = true;
                let at = self.push(Kind::Value(Literal::Integer(0)), len);
                self.report(ConditionError::new(at, format!("`{written}` {message}"), "not readable", help));
            }
        }
    }
}

/// Returns a word with a space where it would otherwise touch its neighbours.
fn spaced(text: &str, at: &Range<usize>, word: &str) -> String {
    if !word.starts_with(char::is_alphabetic) {
        return word.to_owned();
    }
    let word = word.trim_end();
    let before = if text[..at.start].ends_with(goes_on) { " " } else { "" };
    let after = if text[at.end..].starts_with(|c: char| !c.is_whitespace()) { " " } else { "" };
    format!("{before}{word}{after}")
}

fn begins_word(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn goes_on(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether a word is names with single points between them.
pub fn is_path(word: &str) -> bool {
    word.starts_with(begins_word) && word.chars().all(goes_on) && word.split('.').all(|name| !name.is_empty())
}

/// Reads a number; says why not and what to do.
fn read_number(written: &str) -> Result<Literal, (&'static str, &'static str)> {
    const NONE: (&str, &str) =
        ("is no number", "write a number such as `10` or `0.5`, or put a text into single quotes");
    const RANGE: (&str, &str) = ("is too large or too small", "write a number that 64 bits hold");
    let digits = written.replace('_', "");
    let well_formed = !written.ends_with(['_', '.']) && !written.starts_with(['+', '.']);
    if !well_formed || !digits.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Err(NONE);
    }
    if digits.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return digits.parse().map(Literal::Integer).map_err(|_| RANGE);
    }
    let value: f64 = digits.parse().map_err(|_| NONE)?;
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c));
    if value.is_finite() && !vanished { Ok(Literal::Number(value)) } else { Err(RANGE) }
}
