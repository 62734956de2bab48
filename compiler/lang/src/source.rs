//! Source texts and places in them.

use serde::{Deserialize, Serialize};

/// Identifies one source text of a compilation: a recipe file or a `--set` argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// A range of bytes in one source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    pub source: SourceId,
    pub start: u32,
    pub end: u32,
}

/// What kind of text a source is; decides how its diagnostics name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceKind {
    /// A recipe file, shown under the path that the user gave.
    Recipe,
    /// The n-th `--set` argument, counted from 0; shown as `--set`.
    Set(u32),
}

/// One source text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub path: String,
    pub kind: SourceKind,
    pub text: String,
}

/// A value together with the place that it was written at, and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spanned<T> {
    pub value: T,
    /// The value's own characters. For a default, the kind word of the node that it belongs to.
    pub span: Span,
    pub origin: Origin,
}

/// Where a resolved value came from, as `adapt show` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The schema's default.
    Default,
    /// Written in the recipe, at the value's span.
    Written,
    /// Written in a `defaults` node, at the value's span.
    Defaults,
    /// Taken over from another stage with `like=`, written at the value's span.
    Like,
    /// Given with `--set`.
    Set,
    /// Follows from another value of the recipe or from a fact.
    Derived,
}

impl Origin {
    /// Whether the node itself says so, and nothing that it takes over.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Written | Self::Set)
    }
}
