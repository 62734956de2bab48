//! What the schema says, in words: types, ranges, units, defaults.
//!
//! One derivation for everything that explains the language to a person: `adapt explain`, the page
//! `docs/language/reference.md`, the editor. How it is laid out is the reader's business.

mod entry;
mod find;
mod page;

pub use entry::{Entry, Line};
pub use find::{Found, entries, find, names_below};
pub use page::page;

use crate::schema::{Argument, Choice, Literal, Node, Range, Status, Type, Unit};

/// Says in words what a type wants: ``a whole number``, `` `f32` or `bf16` ``.
pub fn type_words(ty: &Type) -> String {
    match ty {
        Type::Text => "a text".into(),
        Type::Source => "a source".into(),
        Type::Path => "a path".into(),
        Type::Bool => "`#true` or `#false`".into(),
        Type::Literal => "a value".into(),
        Type::Integer(_) => "a whole number".into(),
        Type::Number(_) => "a number".into(),
        Type::Word(choices) => listed(choices.iter().map(|choice| choice.name)),
        Type::Reference(to) => format!("the name of a {}", gives_words(to)),
        Type::NameOr { to, words } => {
            format!("{} or the name of a {}", listed(words.iter().map(|word| word.name)), gives_words(to))
        }
        Type::Quantity { units, .. } => units_words(units),
    }
}

/// Names the type that a declaration gives.
pub fn gives_words(gives: &str) -> &str {
    match gives {
        "data" => "dataset",
        other => other,
    }
}

/// Says which numbers are allowed, each bound after a comma; empty when all are.
pub fn range_words(ty: &Type) -> String {
    let (range, is_share) = match ty {
        Type::Integer(range) | Type::Number(range) => (*range, false),
        Type::Quantity { units, range, .. } => (*range, *units == [Unit::Share]),
        _ => return String::new(),
    };
    bounds(range, is_share).join(", ")
}

/// Says a type in few words, for tables: `number > 0, ≤ 10`, `share | steps`, `a | b`.
pub fn short_type(ty: &Type) -> String {
    let words = |choices: &[Choice]| choices.iter().map(|choice| choice.name).collect::<Vec<_>>().join(" | ");
    let name = match ty {
        Type::Text => "text".into(),
        Type::Source => "source".into(),
        Type::Path => "path".into(),
        Type::Bool => "#true | #false".into(),
        Type::Literal => "value".into(),
        Type::Integer(_) => "whole number".into(),
        Type::Number(_) => "number".into(),
        Type::Word(choices) => words(choices),
        Type::Reference(to) => gives_words(to).to_owned(),
        Type::NameOr { to, words: choices } => format!("{} | {}", words(choices), gives_words(to)),
        Type::Quantity { units, .. } => {
            units.iter().map(|unit| unit_word(*unit)).collect::<Vec<_>>().join(" | ")
        }
    };
    let signs = [("above ", "> "), ("at least ", "≥ "), ("below ", "< "), ("at most ", "≤ ")];
    let range = signs.iter().fold(range_words(ty), |range, (word, sign)| range.replace(word, sign));
    if range.is_empty() { name } else { format!("{name} {range}") }
}

fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Time => "time",
        Unit::Size => "size",
        unit => unit.noun(),
    }
}

fn bounds(range: Range, is_share: bool) -> Vec<String> {
    let shown = |bound: f64| if is_share { number(bound * 100.0) + "%" } else { number(bound) };
    let min = match (range.min, range.above) {
        (f64::MIN, _) => None,
        (min, true) => Some(format!("above {}", shown(min))),
        (min, false) => Some(format!("at least {}", shown(min))),
    };
    let max = match (range.max, range.below) {
        (f64::MAX, _) => None,
        (max, true) => Some(format!("below {}", shown(max))),
        (max, false) => Some(format!("at most {}", shown(max))),
    };
    [min, max].into_iter().flatten().collect()
}

/// Says what a number without a unit counts, for the types whose values have one.
pub fn unit_words(ty: &Type) -> Option<String> {
    match ty {
        Type::Quantity { bare: Some(Unit::Share), .. } => {
            Some("a number without a unit is a share of 1".into())
        }
        Type::Quantity { bare: Some(bare), .. } => {
            Some(format!("a number without a unit counts {}", bare.noun()))
        }
        Type::Quantity { bare: None, .. } => Some("the unit must be written".into()),
        _ => None,
    }
}

/// Says in words what a quantity may be, with an example of each unit.
pub fn units_words(units: &[Unit]) -> String {
    let parts: Vec<String> = units.iter().map(|unit| example(*unit)).collect();
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => parts.concat(),
    }
}

fn example(unit: Unit) -> String {
    match unit {
        Unit::Share => "a share such as `\"10%\"`".into(),
        Unit::Time => "a time such as `\"30min\"`".into(),
        Unit::Size => "a size such as `\"8GiB\"`".into(),
        Unit::Epochs => "epochs such as `\"1 epoch\"`".into(),
        unit => format!("{0} such as `\"100 {0}\"`", unit.noun()),
    }
}

/// Writes a default as it stands in a recipe.
pub fn literal(literal: Literal) -> String {
    match literal {
        Literal::Integer(value) => value.to_string(),
        Literal::Number(value) => number(value),
        Literal::Bool(value) => format!("#{value}"),
        Literal::Text(text) => text.to_owned(),
    }
}

/// Writes a number as short as it can be read back: `1e-8`, `0.999`, `16777216`.
pub fn number(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || (1e-3..1e16).contains(&size) {
        // Nine digits hide what binary fractions add to a percentage.
        let short = format!("{number:.9}");
        let short = short.trim_end_matches('0').trim_end_matches('.');
        let exact = if short.parse::<f64>().is_ok_and(|read| (read - number).abs() <= 1e-12 * size) {
            short.to_owned()
        } else {
            format!("{number}")
        };
        return if exact == "-0" { "0".into() } else { exact };
    }
    format!("{number:e}")
}

/// Writes how a node is written: `sft NAME { … }`, `optimizer NAME lr=…`.
pub fn usage(node: &Node, is_top: bool) -> String {
    let name = if is_top && node.declares { " NAME" } else { "" };
    let arguments: String = node.arguments.iter().map(|argument| format!(" {}", shape(argument))).collect();
    let block = if node.children.is_empty() && !node.open { "" } else { " { … }" };
    let properties: String = node
        .properties
        .iter()
        .filter(|property| property.required)
        .map(|property| format!(" {}=…", property.name))
        .collect();
    format!("{}{name}{arguments}{properties}{block}", node.name)
}

/// Writes an argument in a pattern: `NAME`, `[NAME]` when it may be left out, `NAME …` when it repeats.
pub fn shape(argument: &Argument) -> String {
    let name = argument.name.to_uppercase();
    let name = if argument.repeats { format!("{name} …") } else { name };
    if argument.required { name } else { format!("[{name}]") }
}

/// Says what this version does with it.
pub fn status_words(status: Status) -> &'static str {
    match status {
        Status::Built => "runs in this version",
        Status::Later => "part of the language; this version cannot run it yet",
    }
}

/// Joins words: `` `a`, `b` or `c` ``.
fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// Returns the words that a value may be, with their docs.
pub fn choices(ty: &Type) -> &'static [Choice] {
    match ty {
        Type::Word(words) | Type::NameOr { words, .. } => words,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [(1e-8, "1e-8"), (0.999, "0.999"), (2.0, "2"), (16_777_216.0, "16777216"), (0.0, "0")];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn ranges_are_said_in_words() {
        let range = |min, above, max, below| Range { min, above, max, below };
        let cases = [
            (Type::Integer(range(1.0, false, f64::MAX, false)), "at least 1"),
            (Type::Number(range(0.0, true, 1.0, true)), "above 0, below 1"),
            (Type::Number(range(f64::MIN, false, f64::MAX, false)), ""),
            (Type::Text, ""),
        ];
        for (ty, expected) in cases {
            assert_eq!(range_words(&ty), expected);
        }
        let share =
            Type::Quantity { units: &[Unit::Share], bare: None, range: range(0.0, false, 1.0, false) };
        assert_eq!(range_words(&share), "at least 0%, at most 100%");
    }

    #[test]
    fn types_in_short_keep_their_range() {
        let optimizer = crate::schema::top("sft").and_then(|sft| sft.child("optimizer"));
        let lr = optimizer.and_then(|optimizer| optimizer.property("lr")).expect("it is in the schema");
        assert_eq!(short_type(&lr.ty), "number > 0, ≤ 10");
        let every = crate::schema::top("sft").and_then(|sft| sft.child("evaluate")?.property("every"));
        assert!(short_type(&every.expect("it is in the schema").ty).starts_with("steps | epochs > 0"));
    }

    #[test]
    fn a_node_says_how_it_is_written() {
        let sft = crate::schema::top("sft").expect("it is in the schema");
        assert_eq!(usage(sft, true), "sft NAME { … }");
        let limit = crate::schema::top("dataset").and_then(|dataset| dataset.child("limit"));
        assert_eq!(usage(limit.expect("it is in the schema"), false), "limit ROWS [WHICH]");
        let keep = crate::schema::top("dataset").and_then(|dataset| dataset.child("keep"));
        assert_eq!(usage(keep.expect("it is in the schema"), false), "keep where=…");
    }
}
