//! Arguments and properties of a node.

use super::{Parser, Token};
use crate::diagnostic::Diagnostic;
use crate::source::{Origin, Span};
use crate::syntax::strings::is_newline;
use crate::syntax::{Damage, Data, Node, Property, Value, Word};

impl<'a> Parser<'a> {
    /// Reads what stands on the node's line, and its block.
    pub(super) fn entries(&mut self, node: &mut Node, start: usize, spaced: bool) {
        let mut was_spaced = spaced;
        loop {
            let before = self.at;
            self.skip_blank();
            let spaced = self.at > before || std::mem::take(&mut was_spaced);
            let rest = self.rest();
            match rest.chars().next() {
                None | Some('}') => return,
                Some(';') => {
                    self.at += 1;
                    return;
                }
                Some(c) if is_newline(c) => return,
                _ if rest.starts_with("//") => return,
                Some('{') => {
                    self.block(node, start);
                    self.after_block();
                    return;
                }
                Some(_) => {
                    if !spaced {
                        self.missing_space();
                    }
                    if rest.starts_with("/-") { self.skip_entry(node, start) } else { self.entry(node) }
                }
            }
        }
    }

    fn missing_space(&mut self) {
        let at = self.span(self.at, self.at + self.rest().chars().next().map_or(0, char::len_utf8));
        self.error(
            Damage::None,
            Diagnostic::error(
                "syntax-error",
                "a space is missing between two values",
                at,
                "the next value begins here",
            )
            .with_help("put a space before it")
            .with_fix("insert a space", Span { end: at.start, ..at }, " "),
        );
    }

    /// Reads an entry or a block that `/-` takes out.
    fn skip_entry(&mut self, node: &mut Node, start: usize) {
        self.at += 2;
        self.skip_to_dropped();
        let mut dropped =
            Node { arguments: Vec::new(), properties: Vec::new(), children: Vec::new(), ..node.clone() };
        self.drop(|parser| {
            if parser.rest().starts_with('{') {
                parser.block(&mut dropped, start)
            } else {
                parser.entry(&mut dropped)
            }
        });
    }

    /// Reads an argument or a property.
    pub(super) fn entry(&mut self, node: &mut Node) {
        let start = self.at;
        self.skip_annotation();
        if self.at > start && self.at_end_of_entry() {
            return;
        }
        if self.rest().starts_with(['=', ')', '(']) {
            self.broken_line(self.at, "neither a value nor a property", "write `name=value`");
            return;
        }
        let Some(token) = self.token() else { return };
        let after = self.at;
        self.skip_blank();
        if !self.rest().starts_with('=') {
            self.at = after;
            node.arguments.push(self.value(token));
            return;
        }
        self.property(node, token, start, after);
    }

    pub(super) fn property(&mut self, node: &mut Node, key: Token, start: usize, after: usize) {
        let equals = self.at;
        self.at += 1;
        let behind = self.at;
        self.skip_blank();
        let (key, is_name) = match key {
            Token::Name(word, _) => (word, true),
            Token::Value(_, span) => {
                self.bad_key(span);
                (Word { text: self.slice(span).to_owned(), span }, false)
            }
        };
        if self.at_end_of_entry() {
            self.missing_value(&key, start, behind);
            return;
        }
        if equals > after || self.at > behind {
            self.spaced_equals(equals, after);
        }
        self.skip_annotation();
        let Some(token) = self.token() else { return };
        let value = self.value(token);
        if is_name {
            node.properties.push(Property { key, value });
        }
    }

    /// A number or keyword before `=`, unless it was reported for what it is.
    fn bad_key(&mut self, span: Span) {
        if self.diagnostics.last().is_some_and(|last| last.primary() == span) {
            return;
        }
        let message = format!("`{}` cannot be the name of a property", self.slice(span));
        self.error(
            Damage::Inside,
            Diagnostic::error("syntax-error", message, span, "a property begins with its name")
                .with_help("write `name=value`"),
        );
    }

    fn at_end_of_entry(&self) -> bool {
        let rest = self.rest();
        rest.is_empty()
            || rest.starts_with(['}', '{', ';', '=', ')', '('])
            || rest.starts_with("//")
            || rest.starts_with(is_newline)
    }

    fn missing_value(&mut self, key: &Word, start: usize, end: usize) {
        let message = format!("`{}` has no value", key.text);
        let at = self.span(start, end);
        self.error(
            Damage::Inside,
            Diagnostic::error(
                "missing-value",
                message,
                Span { end: key.span.end, ..at },
                "nothing stands after `=`",
            )
            .with_help("write the value directly after `=`"),
        );
        if self.rest().starts_with(['=', ')', '(']) {
            self.skip_line();
        }
    }

    fn spaced_equals(&mut self, equals: usize, after: usize) {
        let fix = self.span(after, self.at);
        self.slip(
            Damage::None,
            Diagnostic::error(
                "spaced-equals",
                "spaces stand around `=`",
                self.span(equals, equals + 1),
                "property and value are written together",
            )
            .with_help("write `key=value` without spaces")
            .with_fix("remove the spaces", fix, "="),
        );
    }

    pub(super) fn value(&self, token: Token) -> Value {
        let (data, span, bare) = match token {
            Token::Name(word, bare) => (Data::Text(word.text), word.span, bare),
            Token::Value(data, span) => (data, span, false),
        };
        Value { data, span, bare, origin: Origin::Written, via: None, overrides: None }
    }

    /// `(u8)` before a value or node: valid KDL, without meaning in a recipe.
    pub(super) fn skip_annotation(&mut self) {
        if !self.rest().starts_with('(') {
            return;
        }
        let Some(len) = self.rest().find(')').filter(|&len| !self.rest()[..len].contains(is_newline)) else {
            return;
        };
        let at = self.span(self.at, self.at + len + 1);
        self.at += len + 1;
        self.slip(
            Damage::None,
            Diagnostic::error(
                "type-annotation",
                "a recipe has no type annotations",
                at,
                "types follow from the option",
            )
            .with_help("remove it")
            .with_fix("remove the annotation", at, ""),
        );
        self.skip_blank();
    }
}
