//! One text of the editor, read once: its lines, its outline, and what the schema knows of each node.

use crate::outline::{Entry, Node, Outline};
use crate::positions::{Encoding, Lines};
use crate::tokens::{Kind, Token};
use lang::source::SourceId;
use lang::syntax;
use lsp_types::{Position, Range};
use std::ops::Range as Bytes;
use stdlib::schema::{self, Argument, Property, Type};

/// A text and what its shape says.
#[derive(Debug, Clone, Default)]
pub struct Text {
    pub text: String,
    pub lines: Lines,
    pub outline: Outline,
    /// The schema of each node of the outline, where the language has such a node there.
    schemas: Vec<Option<&'static schema::Node>>,
}

/// What the schema says of a value.
#[derive(Debug, Clone, Copy)]
pub enum Slot {
    /// The name that the node declares.
    Name,
    Argument(&'static Argument),
    Property(&'static Property),
}

impl Slot {
    /// Returns the type of the value.
    pub fn ty(self) -> Option<&'static Type> {
        match self {
            Slot::Name => None,
            Slot::Argument(argument) => Some(&argument.ty),
            Slot::Property(property) => Some(&property.ty),
        }
    }
}

impl Text {
    /// Reads a text.
    pub fn of(text: String) -> Self {
        let outline = Outline::of(&text);
        let lines = Lines::of(&text);
        let mut schemas: Vec<Option<&'static schema::Node>> = Vec::with_capacity(outline.nodes.len());
        for node in &outline.nodes {
            let name = &text[node.name.range.clone()];
            schemas.push(match node.parent {
                None => schema::top(name),
                Some(parent) => schemas[parent].and_then(|parent| parent.child(name)),
            });
        }
        Self { text, lines, outline, schemas }
    }

    /// Returns the characters of a token.
    pub fn word(&self, token: &Token) -> &str {
        &self.text[token.range.clone()]
    }

    /// Returns what a value says: a text without its quotes and escapes.
    pub fn value(&self, token: &Token) -> String {
        let inner = &self.text[token.inner()];
        let plain = token.kind != Kind::Text || !inner.contains(['\\', '\n', '\r']);
        let unread = || {
            let text = format!("- {}", self.word(token));
            let document = syntax::parse_default(SourceId(0), &text);
            Some(document.nodes.first()?.arguments.first()?.text()?.to_owned())
        };
        if plain { inner.to_owned() } else { unread().unwrap_or_else(|| inner.to_owned()) }
    }

    /// Returns the kind word of a node.
    pub fn kind(&self, node: usize) -> &str {
        self.word(&self.outline.nodes[node].name)
    }

    /// Returns what the language says of a node; nothing when it knows none of that name there.
    pub fn schema(&self, node: usize) -> Option<&'static schema::Node> {
        self.schemas[node]
    }

    /// Returns the token of the name that a node declares.
    pub fn declared(&self, node: usize) -> Option<&Token> {
        self.schema(node).filter(|schema| schema.declares)?;
        let entry = self.outline.nodes[node].entries.iter().find(|entry| entry.key.is_none())?;
        entry.value.as_ref()
    }

    /// Returns the entries of a node with what the schema says of each.
    pub fn slots(&self, node: usize) -> impl Iterator<Item = (&Entry, Option<Slot>)> {
        let schema = self.schema(node);
        let mut place = 0;
        self.outline.nodes[node].entries.iter().map(move |entry| {
            let slot = match &entry.key {
                Some(key) => schema.and_then(|schema| schema.property(self.word(key))).map(Slot::Property),
                None => {
                    place += 1;
                    schema.and_then(|schema| argument(schema, place - 1))
                }
            };
            (entry, slot)
        })
    }

    /// Returns the first word of a node behind its name, on which the effect of properties depends.
    pub fn first_word(&self, node: usize) -> Option<&str> {
        let name = usize::from(self.schema(node).is_some_and(|schema| schema.declares));
        let mut values = self.outline.nodes[node].entries.iter().filter(|entry| entry.key.is_none());
        values.nth(name).and_then(|entry| entry.value.as_ref()).map(|token| self.word(token))
    }

    /// Converts bytes to a range of the editor.
    pub fn range(&self, bytes: Bytes<usize>, encoding: Encoding) -> Range {
        self.lines.range(&self.text, bytes, encoding)
    }

    /// Converts a position of the editor to a byte.
    pub fn offset(&self, position: Position, encoding: Encoding) -> usize {
        self.lines.offset(&self.text, position, encoding)
    }

    /// Returns the line, counted from 1, of a byte.
    pub fn line(&self, at: usize) -> usize {
        self.lines.line(at) + 1
    }
}

/// Counts the values without a key that a node has before a byte.
pub fn arguments_before(node: &Node, at: usize) -> usize {
    let values = node.entries.iter().filter(|entry| entry.key.is_none());
    values.filter_map(|entry| entry.value.as_ref()).filter(|value| value.range.start < at).count()
}

/// Returns what stands at the nth place of a node, its name counted.
pub fn argument(schema: &'static schema::Node, place: usize) -> Option<Slot> {
    if schema.declares && place == 0 {
        return Some(Slot::Name);
    }
    let place = place - usize::from(schema.declares);
    let last = schema.arguments.last().filter(|argument| argument.repeats);
    schema.arguments.get(place).or(last).map(Slot::Argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_place_in_the_schema() {
        let text = Text::of("cpt dutch {\n    schedule cosine warmup=\"3%\"\n    nonsense 1\n}\n".into());
        let slot = |node: usize, entry: usize| {
            let (_, slot) = text.slots(node).nth(entry).expect("the node has that many entries");
            slot.map(|slot| match slot {
                Slot::Name => "name",
                Slot::Argument(argument) => argument.name,
                Slot::Property(property) => property.name,
            })
        };
        assert_eq!(slot(0, 0), Some("name"));
        assert_eq!(slot(1, 0), Some("name"), "the argument of `schedule` is called `name`");
        assert_eq!(slot(1, 1), Some("warmup"));
        assert_eq!(slot(2, 0), None);
        assert_eq!(text.first_word(1), Some("cosine"));
    }

    #[test]
    fn texts_are_read_without_quotes_and_escapes() {
        let text = Text::of(r##"use "a\"b" "c" #"d"# e"##.into());
        let values: Vec<String> = text.outline.nodes[0]
            .entries
            .iter()
            .map(|entry| text.value(entry.value.as_ref().expect("there are no properties")))
            .collect();
        assert_eq!(values, ["a\"b", "c", "d", "e"]);
    }
}
