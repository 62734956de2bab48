//! One side of a comparison: a column, a count of one, or a value.

use super::{Kind, Parser, Side, Token};
use crate::conditions::{Column, ConditionError, Operand};
use crate::suggest;
use std::ops::Range;

/// Words of other languages that have no value here.
const NULLS: [&str; 6] = ["null", "NULL", "none", "None", "nil", "undefined"];

/// Functions of other languages with what they are here.
const FUNCTIONS: [(&str, &str); 8] = [
    ("length", "len"),
    ("LENGTH", "len"),
    ("size", "len"),
    ("char_length", "len"),
    ("count", "len"),
    ("strlen", "len"),
    ("word_count", "words"),
    ("num_words", "words"),
];

impl Parser<'_> {
    pub(super) fn operand(&mut self) -> Option<Side> {
        let Some(token) = self.peek().cloned() else {
            let at = self.before();
            let message = format!("`{}` is followed by nothing", self.slice(&at));
            self.fail(at, message, "the condition stops here", "write what belongs after it, or remove it");
            return None;
        };
        match token.kind {
            Kind::Value(value) => {
                self.next += 1;
                Some((Operand::Value(value), token.at))
            }
            Kind::Word(word) => {
                self.next += 1;
                if self.peek().is_some_and(|next| next.kind == Kind::Open) {
                    return self.function(&word, token.at);
                }
                self.column(word, token.at)
            }
            Kind::OpenList => {
                let help = "write `in` before the list, and the column before that";
                self.fail(token.at, "a list stands only after `in`", "not expected here", help);
                None
            }
            Kind::Close if self.depth == 0 => {
                self.surplus(&token);
                self.next += 1;
                None
            }
            _ => {
                let message = format!("a column or a value is missing before `{}`", self.slice(&token.at));
                self.fail(token.at, message, "not expected here", "write a column or a value before it");
                None
            }
        }
    }

    fn column(&mut self, word: String, at: Range<usize>) -> Option<Side> {
        let lower = word.to_lowercase();
        if NULLS.contains(&word.as_str()) {
            let message = format!("nothing compares with `{word}`, since null compares false");
            let help = "write `len(COLUMN) > 0` for rows that have a text there";
            self.fail(at, message, "no value", help);
            return None;
        }
        if matches!(lower.as_str(), "true" | "false") {
            let message = format!("`{word}` is written in small letters");
            let error =
                ConditionError::new(at, message, "neither column nor value", format!("write `{lower}`"));
            self.report(error.or_rather(lower));
            return None;
        }
        Some((Operand::Column(Column { path: word, at: at.clone() }), at))
    }

    /// Reads `len(…)` or `words(…)`; its parenthesis is next.
    fn function(&mut self, name: &str, at: Range<usize>) -> Option<Side> {
        if !matches!(name, "len" | "words") {
            self.unknown_function(name, at);
            return None;
        }
        self.next += 1;
        let column = self.peek().cloned();
        let Some(Token { kind: Kind::Word(path), at: inner }) = column else {
            let place = column.map_or(at, |token| token.at);
            let help = format!("write the name of a column, without quotes, between `{name}(` and `)`");
            self.fail(place, format!("`{name}` takes a column"), "not a column", help);
            self.leave();
            return None;
        };
        self.next += 1;
        let close = self.peek().cloned();
        let Some(Token { kind: Kind::Close, at: end }) = close else {
            let place = close.map_or(inner, |token| token.at);
            let message = format!("`{name}` takes one column");
            self.fail(place, message, "`)` is missing", format!("write `{name}({path})`"));
            self.leave();
            return None;
        };
        self.next += 1;
        let column = Column { path, at: inner };
        let operand = if name == "len" { Operand::Length(column) } else { Operand::Words(column) };
        Some((operand, at.start..end.end))
    }

    fn unknown_function(&mut self, name: &str, at: Range<usize>) {
        let known = FUNCTIONS.into_iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| ours);
        let message = format!("there is no function `{name}`");
        let method = name.rsplit_once('.').filter(|(_, last)| known_function(last).is_some());
        let error = match (known.or(suggest::nearest(name, ["len", "words"])), method) {
            (Some(near), _) => {
                let help = format!("did you mean `{near}`?");
                ConditionError::new(at, message, "no such function", help).or_rather(near)
            }
            (None, Some((column, last))) => {
                let near = known_function(last).unwrap_or("len");
                ConditionError::new(at, message, "no such function", format!("write `{near}({column})`"))
            }
            (None, None) => {
                let help = "compare the column itself; the functions are `len` and `words`";
                ConditionError::new(at, message, "no such function", help)
            }
        };
        self.report(error);
    }
}

fn known_function(name: &str) -> Option<&'static str> {
    let own = ["len", "words"].into_iter().find(|own| *own == name);
    own.or_else(|| FUNCTIONS.into_iter().find(|(foreign, _)| *foreign == name).map(|(_, ours)| ours))
}
