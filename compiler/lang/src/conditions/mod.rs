//! Conditions on rows: what stands in `keep where="…"` and `drop where="…"`.
//!
//! ```text
//! or         = and ("or" and)*
//! and        = not ("and" not)*
//! not        = "not" not | "(" or ")" | comparison
//! comparison = operand ("==" | "!=" | "<" | "<=" | ">" | ">=") operand
//!            | operand "in" "[" value ("," value)* "]"
//!            | column "matches" text
//! operand    = column | "len" "(" column ")" | "words" "(" column ")" | value
//! value      = number | text | "true" | "false"
//! ```
//!
//! A text stands in single or double quotes and has no escapes, so that a regex reads as it is written;
//! its own quote is written twice. A column is a name, or names with points between them. Columns are
//! compared with values, never with each other, so that a value without quotes cannot pass for a column.
//!
//! A condition is stored as its text: it prints as what reads as the same tree.

mod holds;
mod lexer;
mod parser;
mod pattern;
mod place;
mod print;

pub use holds::holds;
pub use parser::parse;
pub use pattern::Pattern;
pub use place::{Place, check};

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What holds for a row or does not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Condition {
    /// At least two, all of which hold.
    And(Vec<Condition>),
    /// At least two, one of which holds.
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Compare {
        left: Operand,
        op: Comparison,
        right: Operand,
    },
    /// Equal to one of the values.
    In {
        operand: Operand,
        values: Vec<Literal>,
    },
    /// A text in which the pattern occurs.
    Matches {
        column: Column,
        pattern: Pattern,
    },
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Column(Column),
    /// Characters of a text, or items of a list.
    Length(Column),
    /// Words of a text, which are what whitespace separates.
    Words(Column),
    Value(Literal),
}

/// A column under its name in the source, with points before the names inside it.
#[derive(Debug, Clone)]
pub struct Column {
    pub path: String,
    /// Where it stands in the text; two columns are equal wherever they stand.
    pub at: Range<usize>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Integer(i64),
    Number(f64),
    Text(String),
    Bool(bool),
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    /// Returns it as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::Unequal => "!=",
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Greater => ">",
            Comparison::AtLeast => ">=",
        }
    }

    /// Whether it needs an order, which true and false do not have.
    pub fn is_order(self) -> bool {
        !matches!(self, Comparison::Equal | Comparison::Unequal)
    }
}

/// What is wrong with a condition, at its bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError {
    pub at: Range<usize>,
    pub message: String,
    /// What is to be said of the place itself.
    pub label: String,
    pub help: String,
    /// What certainly should stand there instead.
    pub fix: Option<String>,
}

impl ConditionError {
    fn new(
        at: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { at, message: message.into(), label: label.into(), help: help.into(), fix: None }
    }

    /// Adds what should stand there instead.
    fn or_rather(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Returns the columns that a condition reads, each where it stands.
pub fn columns(condition: &Condition) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    collect(condition, &mut found);
    found
}

fn collect<'a>(condition: &'a Condition, found: &mut Vec<(&'a str, Range<usize>)>) {
    let mut add = |column: &'a Column| found.push((column.path.as_str(), column.at.clone()));
    match condition {
        Condition::And(parts) | Condition::Or(parts) => {
            parts.iter().for_each(|part| collect(part, found));
        }
        Condition::Not(inner) => collect(inner, found),
        Condition::Compare { left, right, .. } => {
            [left, right].into_iter().filter_map(Operand::column).for_each(add);
        }
        Condition::In { operand, .. } => operand.column().into_iter().for_each(add),
        Condition::Matches { column, .. } => add(column),
    }
}

impl Operand {
    /// Returns the column that it reads; nothing of a value.
    pub fn column(&self) -> Option<&Column> {
        match self {
            Operand::Column(column) | Operand::Length(column) | Operand::Words(column) => Some(column),
            Operand::Value(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
