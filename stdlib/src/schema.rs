//! The types of the schema's tables; the tables themselves are generated from `schema/*.kdl`.

pub use crate::hardware::HARDWARE;

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

/// Whether this version can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Built,
    /// Part of the language, checked and planned, not run yet.
    Later,
}

/// A kind of node.
#[derive(Debug)]
pub struct Node {
    pub name: &'static str,
    pub doc: &'static str,
    pub status: Status,
    /// The type of the name that a top-level node declares: `model`, `tokenizer`, `template`, `data`, `report` or nothing.
    pub gives: &'static str,
    /// Whether the first argument is a name that the node declares.
    pub declares: bool,
    /// Whether it is a training stage, which `defaults` reach.
    pub training: bool,
    /// The row types that fit a stage.
    pub fits: &'static [&'static str],
    pub required: bool,
    pub repeats: bool,
    /// Children of one group exclude each other.
    pub group: &'static str,
    /// The child as it stands when it is not written, in recipe text; empty when there is none.
    pub absent: &'static str,
    /// Whether children and properties of any name may stand in it.
    pub open: bool,
    pub arguments: &'static [Argument],
    pub properties: &'static [Property],
    pub children: &'static [&'static Node],
}

/// A value that stands on a node without a name.
#[derive(Debug)]
pub struct Argument {
    pub name: &'static str,
    pub doc: &'static str,
    pub ty: Type,
    pub required: bool,
    pub repeats: bool,
    pub default: Option<Literal>,
}

/// A `key=value` on a node.
#[derive(Debug)]
pub struct Property {
    pub name: &'static str,
    pub doc: &'static str,
    pub status: Status,
    pub ty: Type,
    pub required: bool,
    /// Of a column: whether rows may lack it.
    pub optional: bool,
    pub default: Option<Literal>,
    /// The values of the node's first word for which it has an effect; empty for all.
    pub only: &'static [&'static str],
}

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    Text,
    /// Where something is: a path or `hf:…`, `new:…`, `https://…`.
    Source,
    Path,
    Bool,
    /// A word, number or boolean whose type follows from its uses.
    Literal,
    Integer(Range),
    Number(Range),
    Word(&'static [Choice]),
    /// The name of a declaration that gives this type.
    Reference(&'static str),
    /// One of these words, or the name of a declaration that gives this type.
    NameOr {
        to: &'static str,
        words: &'static [Choice],
    },
    Quantity {
        units: &'static [Unit],
        /// What a number without a unit counts.
        bare: Option<Unit>,
        range: Range,
    },
}

/// The numbers that are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub min: f64,
    /// Whether `min` itself is left out.
    pub above: bool,
    pub max: f64,
    /// Whether `max` itself is left out.
    pub below: bool,
}

/// What a quantity counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Share,
    Steps,
    Epochs,
    Rows,
    Tokens,
    Ids,
    Sequences,
    Time,
    Size,
}

/// One of the words that a value may be.
#[derive(Debug)]
pub struct Choice {
    pub name: &'static str,
    pub doc: &'static str,
    pub status: Status,
}

/// A default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Literal {
    Integer(i64),
    Number(f64),
    Bool(bool),
    Text(&'static str),
}

/// Something that is referred to as `std:NAME`.
#[derive(Debug)]
pub struct LibraryEntry {
    pub name: &'static str,
    pub doc: &'static str,
    pub status: Status,
    /// Tokens that the tokenizer must have.
    pub needs: &'static [&'static str],
    /// Whether it needs an end-of-text token.
    pub eos: bool,
}

/// An architecture with the names that its config.json gives to what checks read.
#[derive(Debug)]
pub struct Architecture {
    pub name: &'static str,
    pub status: Status,
    pub positions: &'static str,
    pub hidden: &'static str,
    pub heads: &'static str,
    /// Empty when every head has its own keys and values.
    pub kv_heads: &'static str,
    /// Number of blocks.
    pub layers: &'static str,
    /// Number of experts; empty when it has none.
    pub experts: &'static str,
    pub weights: Weights,
    pub fields: &'static [Field],
}

/// The weights of an architecture under the names of its checkpoints, without the blocks' numbers.
#[derive(Debug)]
pub struct Weights {
    /// Whether embedding and head are one matrix when config.json does not say.
    pub tied: bool,
    /// `embed_tokens` stands for it in every architecture.
    pub embedding: &'static str,
    /// `lm_head` stands for it in every architecture.
    pub head: &'static str,
    /// Matrices in the blocks, which may get an adapter.
    pub linears: &'static [&'static str],
    /// What else is in the blocks.
    pub norms: &'static [&'static str],
    /// What else is outside the blocks.
    pub outer: &'static [&'static str],
}

/// A field of config.json.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub ty: FieldType,
}

/// What a field of config.json holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Integer,
    Number,
    Bool,
    Text,
    Any,
}

impl Node {
    /// Finds a child by name.
    pub fn child(&self, name: &str) -> Option<&'static Node> {
        self.children.iter().copied().find(|child| child.name == name)
    }

    /// Finds a property by name.
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|property| property.name == name)
    }
}

impl FieldType {
    /// Says in words what the field holds.
    pub fn words(self) -> &'static str {
        match self {
            FieldType::Integer => "a whole number",
            FieldType::Number => "a number",
            FieldType::Bool => "`#true` or `#false`",
            FieldType::Text => "a text",
            FieldType::Any => "any value",
        }
    }
}

impl Unit {
    /// Returns the noun that is written after a number, in the plural; `%` for a share.
    pub fn noun(self) -> &'static str {
        match self {
            Unit::Share => "%",
            Unit::Steps => "steps",
            Unit::Epochs => "epochs",
            Unit::Rows => "rows",
            Unit::Tokens => "tokens",
            Unit::Ids => "ids",
            Unit::Sequences => "sequences",
            Unit::Time => "min",
            Unit::Size => "GiB",
        }
    }
}

/// Finds a top-level kind of node.
pub fn top(name: &str) -> Option<&'static Node> {
    TOP.iter().copied().find(|node| node.name == name)
}

/// Finds an architecture.
pub fn architecture(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|architecture| architecture.name == name)
}
