//! The typed tree: nodes of the recipe beside their schema, with values of their types.

use crate::capability::Missing;
use crate::recipe::Ref;
use crate::source::Origin;
use crate::source::{Span, Spanned};
use crate::syntax::Word;
use crate::values::Typed;
use stdlib::schema::{Node, Property, Type};

/// A node that was checked against its schema.
#[derive(Debug, Clone)]
pub struct Item {
    pub schema: &'static Node,
    /// The kind word.
    pub at: Span,
    /// The name that it declares.
    pub name: Option<Word>,
    pub arguments: Vec<Slot>,
    pub properties: Vec<Slot>,
    pub children: Vec<Item>,
    pub origin: Origin,
    /// Whether a syntax error took a part of it, or a part of it was refused.
    pub damaged: bool,
    /// What it or a node in it uses that cannot be run yet; only of nodes at the top level.
    pub later: Vec<Missing>,
    /// The file that holds it.
    pub file: usize,
    /// Of a `config` block: the fields with their values.
    pub config: Vec<(Spanned<String>, Spanned<serde_json::Value>)>,
}

/// A value in its place.
#[derive(Debug, Clone)]
pub struct Slot {
    pub name: &'static str,
    pub ty: &'static Type,
    /// The property's name; of an argument the value.
    pub key: Span,
    pub value: Typed,
    pub span: Span,
    pub origin: Origin,
}

impl Slot {
    /// Returns the value with its place, when it is of the kind that `read` takes.
    pub fn spanned<T>(&self, read: impl Fn(&Typed) -> Option<T>) -> Option<Spanned<T>> {
        read(&self.value).map(|value| Spanned { value, span: self.span, origin: self.origin })
    }

    /// Returns the text of a text or word.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Typed::Text(text) => Some(text),
            Typed::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Returns the number of a number, integer or quantity.
    pub fn number(&self) -> Option<f64> {
        match self.value {
            Typed::Number(number) | Typed::Quantity(number, _) => Some(number),
            Typed::Integer(number) => Some(number as f64),
            _ => None,
        }
    }

    /// Returns the reference that it is.
    pub fn reference(&self) -> Option<Ref> {
        self.text().map(|name| Ref { name: name.to_owned(), span: self.span })
    }

    /// Whether someone wrote it.
    pub fn is_written(&self) -> bool {
        self.origin != Origin::Default
    }
}

impl Item {
    /// Returns the kind of node.
    pub fn kind(&self) -> &'static str {
        self.schema.name
    }

    /// Returns the declared name, empty when it is missing.
    pub fn declared(&self) -> &str {
        self.name.as_ref().map_or("", |name| &name.text)
    }

    /// Returns the first argument after the name.
    pub fn argument(&self) -> Option<&Slot> {
        self.arguments.first().filter(|slot| slot.value != Typed::Broken)
    }

    /// Returns the word that is the first argument.
    pub fn word(&self) -> Option<&str> {
        self.argument().and_then(Slot::text)
    }

    /// Finds a property that is readable.
    pub fn property(&self, name: &str) -> Option<&Slot> {
        self.properties.iter().find(|slot| slot.name == name && slot.value != Typed::Broken)
    }

    /// Finds a child.
    pub fn child(&self, name: &str) -> Option<&Item> {
        self.children.iter().find(|child| child.kind() == name)
    }

    /// Finds all children of a name.
    pub fn children_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Item> {
        self.children.iter().filter(move |child| child.kind() == name)
    }

    /// Returns the first argument of a child.
    pub fn child_argument(&self, name: &str) -> Option<&Slot> {
        self.child(name).and_then(Item::argument)
    }

    /// Whether a property may have an effect beside the node's first word; beside one that is not known it may.
    pub fn takes(&self, property: &Property) -> bool {
        self.word().is_none() || self.asks_for(property)
    }

    /// Whether the node's first word is known to give a property its effect, so that it counts where it is
    /// not written: beside a word that is not known nothing is missing, and there are no defaults.
    pub fn asks_for(&self, property: &Property) -> bool {
        property.only.is_empty() || self.word().is_some_and(|word| property.only.contains(&word))
    }

    /// Calls `visit` for the node and everything in it.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Item)) {
        visit(self);
        self.children.iter().for_each(|child| child.walk(visit));
    }

    /// Returns all values of the node itself.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.arguments.iter().chain(&self.properties)
    }
}
