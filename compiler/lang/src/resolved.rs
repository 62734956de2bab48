//! The recipe with every value filled in, and where each came from: what `adapt show` prints.

use crate::names::Names;
use crate::rules::data::has_held_out;
use crate::source::Origin;
use crate::source::Span;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};
use serde_json::Value as Json;
use stdlib::schema::{Type, Unit};

/// All nodes, defaults merged and parameters replaced.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    pub nodes: Vec<ResolvedNode>,
}

/// A node with all its values.
#[derive(Debug, Clone)]
pub struct ResolvedNode {
    /// The kind word and, for a declaration, its name.
    pub head: String,
    pub values: Vec<ResolvedValue>,
    pub children: Vec<ResolvedNode>,
}

/// A value as it is written in a recipe.
#[derive(Debug, Clone)]
pub struct ResolvedValue {
    /// The property's name; nothing for an argument.
    pub key: Option<&'static str>,
    pub text: String,
    pub origin: Origin,
    /// Where it was written; the node's kind word for a default.
    pub span: Span,
}

impl Resolved {
    /// Collects what the typed tree holds.
    pub fn of(names: &Names) -> Self {
        let is_shown = |item: &&Item| !matches!(item.kind(), "adapt" | "use" | "param" | "defaults");
        let shown = names.items.iter().filter(is_shown);
        let nodes = shown.map(|item| if item.schema.training { stage(names, item) } else { node(item) });
        Self { nodes: nodes.collect() }
    }
}

/// A training stage, with the defaults that depend on what it trains.
fn stage(names: &Names, item: &Item) -> ResolvedNode {
    let mut shown = node(item);
    let default = |key, text: &str| ResolvedValue {
        key: Some(key),
        text: text.into(),
        origin: Origin::Default,
        span: item.at,
    };
    let lacks_overflow = |child: &&mut ResolvedNode| {
        child.head == "sequence" && child.values.iter().all(|value| value.key != Some("overflow"))
    };
    if let Some(sequence) = shown.children.iter_mut().find(lacks_overflow) {
        sequence.values.push(default("overflow", if item.kind() == "cpt" { "split" } else { "drop" }));
    }
    let evaluates = names.follow(item, "data").is_some_and(|data| has_held_out(names, data));
    if item.child("evaluate").is_none() && evaluates {
        let values = vec![default("every", "\"1 epoch\"")];
        shown.children.push(ResolvedNode { head: "evaluate".into(), values, children: Vec::new() });
    }
    shown
}

fn node(item: &Item) -> ResolvedNode {
    let head = match &item.name {
        Some(name) => format!("{} {}", item.kind(), word(&name.text)),
        None => item.kind().to_owned(),
    };
    let arguments = item.arguments.iter().map(|slot| value(slot, None));
    let properties = item.properties.iter().map(|slot| value(slot, Some(slot.name)));
    let fields =
        item.config.iter().map(|(name, json)| field(&name.value, &json.value, json.origin, json.span));
    ResolvedNode {
        head,
        values: arguments.chain(properties).collect(),
        children: item.children.iter().map(node).chain(fields).collect(),
    }
}

fn value(slot: &Slot, key: Option<&'static str>) -> ResolvedValue {
    ResolvedValue { key, text: text(slot), origin: slot.origin, span: slot.span }
}

/// Writes a value as a recipe would.
pub fn text(slot: &Slot) -> String {
    match &slot.value {
        Typed::Broken => "#null".into(),
        Typed::Text(text) if matches!(slot.ty, Type::Reference(_)) => word(text),
        Typed::Text(text) => quote(text),
        Typed::Word(word) => (*word).to_owned(),
        Typed::Integer(number) => number.to_string(),
        Typed::Number(number) => show_number(*number),
        Typed::Bool(on) => format!("#{on}"),
        Typed::Quantity(number, unit) => quantity(*number, *unit, slot.ty),
    }
}

fn quantity(number: f64, unit: Unit, ty: &Type) -> String {
    let is_bare = matches!(ty, Type::Quantity { bare: Some(bare), .. } if *bare == unit);
    match unit {
        Unit::Share => quote(&format!("{}%", show_number(number * 100.0))),
        Unit::Time => quote(&format!("{}s", show_number(number))),
        _ if is_bare => show_number(number),
        unit if number == 1.0 => quote(&format!("1 {}", unit.noun().trim_end_matches('s'))),
        unit => quote(&format!("{} {}", show_number(number), unit.noun())),
    }
}

fn field(name: &str, json: &Json, origin: Origin, span: Span) -> ResolvedNode {
    let scalar = |json: &Json| ResolvedValue { key: None, text: json_text(json), origin, span };
    let (values, children) = match json {
        Json::Object(fields) => {
            (Vec::new(), fields.iter().map(|(name, json)| field(name, json, origin, span)).collect())
        }
        Json::Array(items) => (items.iter().map(scalar).collect(), Vec::new()),
        json => (vec![scalar(json)], Vec::new()),
    };
    ResolvedNode { head: word(name), values, children }
}

fn json_text(json: &Json) -> String {
    match json {
        Json::String(text) => quote(text),
        Json::Bool(on) => format!("#{on}"),
        Json::Null => "#null".into(),
        Json::Number(number) => number.to_string(),
        other => quote(&other.to_string()),
    }
}

/// Writes a name, with quotes where it needs them.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
    let begins = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let keyword = matches!(text, "true" | "false" | "null" | "inf" | "nan");
    if begins && text.chars().all(is_plain) && !text.ends_with(':') && !keyword {
        text.to_owned()
    } else {
        quote(text)
    }
}

/// Writes a text in quotes.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
