//! Recipe text to a tree of nodes, with the place of every word and value.
//!
//! The `kdl` crate decides what is KDL 2, and its tree becomes ours. It throws the tree away at the
//! first mistake, though, and recurses over every further one, so a [`recovery`] reader goes first:
//! every trap that recipe authors fall into (`true`, `10%`, a missing brace) is reported once, at its
//! characters, and read as what was meant, so that the rest of the file is checked as if it had been
//! written right. A few slips are KDL with another meaning (`adamw,`, `epochs: 1`, `lr = 2`); they are
//! reported and read in the same way.

mod convert;
mod number;
mod offsets;
mod parse;
mod recovery;
mod secrets;
pub(crate) mod strings;

pub use number::{NotANumber, literal};
pub(crate) use offsets::offsets;
pub use parse::{parse, parse_default, recover};
pub use recovery::{bare_keyword_diagnostic, does_not_fit};
pub use secrets::{mask, report as report_secrets};

use crate::source::Origin;
use crate::source::Span;

/// The deepest nesting of blocks that is read.
pub const MAX_DEPTH: usize = 64;
/// The largest recipe that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    pub nodes: Vec<Node>,
    /// What syntax errors leave in doubt.
    pub damage: Damage,
    /// Whether nodes may stand in the wrong block.
    pub braces_in_doubt: bool,
}

impl Document {
    /// What is left of a text that is not read at all.
    fn lost() -> Self {
        Self { nodes: Vec::new(), damage: Damage::Everywhere, braces_in_doubt: true }
    }
}

/// How far a syntax error reaches; what damaged text could have supplied is not reported as missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    #[default]
    None,
    /// Some node lost a part of itself.
    Inside,
    /// Declarations may be lost, or stand in the wrong block.
    Everywhere,
}

/// A node: its name, what stands on its line, and its block.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub name: Word,
    pub arguments: Vec<Value>,
    pub properties: Vec<Property>,
    pub children: Vec<Node>,
    pub has_block: bool,
    pub origin: Origin,
    /// Whether a syntax error took a part of it.
    pub damaged: bool,
}

/// A name with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

/// `key=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    pub key: Word,
    pub value: Value,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub data: Data,
    /// The value's own characters, quotes included.
    pub span: Span,
    /// Whether it is a word without quotes.
    pub bare: bool,
    pub origin: Origin,
    /// Where a `$NAME` stands that this value replaced.
    pub via: Option<Span>,
    /// The place of the value that `--set` replaced.
    pub overrides: Option<Span>,
}

/// What a value holds before its type is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Integer(i128),
    Number(f64),
    Text(String),
    Bool(bool),
    Null,
    /// A mistake that was reported where it was read.
    Broken,
}

impl Value {
    /// Returns the text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the parameter that a bare `$NAME` stands for.
    pub fn parameter(&self) -> Option<&str> {
        self.text().filter(|_| self.bare).and_then(|text| text.strip_prefix('$'))
    }
}

impl Node {
    /// Finds a child by name; the first when there are several.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name.text == name)
    }

    /// Gives every part of the node the same origin; what `--set` gave keeps its own.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
        self.values_mut(&mut |value| {
            if value.origin != Origin::Set {
                value.origin = origin;
            }
        });
        self.children.iter_mut().for_each(|child| child.set_origin(origin));
    }

    /// Gives every part of the node one place, for nodes that nobody wrote.
    pub fn set_place(&mut self, span: Span) {
        self.name.span = span;
        self.properties.iter_mut().for_each(|property| property.key.span = span);
        self.values_mut(&mut |value| value.span = span);
        self.children.iter_mut().for_each(|child| child.set_place(span));
        self.children.iter_mut().for_each(|child| child.set_place(span));
    }

    fn values_mut(&mut self, change: &mut dyn FnMut(&mut Value)) {
        self.arguments.iter_mut().for_each(&mut *change);
        self.properties.iter_mut().for_each(|property| change(&mut property.value));
    }
}
