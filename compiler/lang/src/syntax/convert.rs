//! The tree of the `kdl` crate as ours, with the place of every value.

use super::recovery::is_slip;
use super::{Data, Node, Property, Value, Word, number};
use crate::source::{Origin, SourceId, Span};
use kdl::{KdlDocument, KdlEntry, KdlIdentifier, KdlNode, KdlValue};

/// Converts the nodes of a document; nothing when a slip from another language is among them.
pub fn nodes(source: SourceId, document: &KdlDocument) -> Option<Vec<Node>> {
    document.nodes().iter().map(|node| self::node(source, node)).collect()
}

fn node(source: SourceId, node: &KdlNode) -> Option<Node> {
    if node.ty().is_some() {
        return None;
    }
    let mut converted = Node {
        name: word(source, node.name())?,
        arguments: Vec::new(),
        properties: Vec::new(),
        children: Vec::new(),
        has_block: node.children().is_some(),
        origin: Origin::Written,
        damaged: false,
    };
    for entry in node.entries() {
        let value = value(source, entry)?;
        match entry.name() {
            Some(name) => converted.properties.push(Property { key: word(source, name)?, value }),
            None => converted.arguments.push(value),
        }
    }
    if let Some(children) = node.children() {
        converted.children = nodes(source, children)?;
    }
    Some(converted)
}

fn word(source: SourceId, name: &KdlIdentifier) -> Option<Word> {
    let written = name.repr().unwrap_or(name.value());
    let place = name.span();
    let span = span(source, place.offset(), place.offset() + place.len());
    let word = Word { text: name.value().to_owned(), span };
    Some(word).filter(|_| !(is_bare(written) && is_slip(written)))
}

fn value(source: SourceId, entry: &KdlEntry) -> Option<Value> {
    let format = entry.format().filter(|format| format.after_key.is_empty() && format.after_eq.is_empty())?;
    if entry.ty().is_some() {
        return None;
    }
    let written = format.value_repr.as_str();
    let (data, bare) = data(entry.value(), written)?;
    // The crate has no place for a value alone, but nothing follows it in its entry.
    let end = entry.span().offset() + entry.span().len();
    let span = span(source, end - written.len(), end);
    Some(Value { data, span, bare, origin: Origin::Written, via: None, overrides: None })
}

/// Returns the value, and whether it is a word without quotes.
fn data(value: &KdlValue, written: &str) -> Option<(Data, bool)> {
    Some(match value {
        KdlValue::String(text) if is_bare(written) => {
            return (!is_slip(written)).then(|| (Data::Text(text.clone()), true));
        }
        KdlValue::String(text) => (Data::Text(text.clone()), false),
        KdlValue::Integer(value) => (Data::Integer(*value), false),
        KdlValue::Float(value) if written.starts_with('#') => (Data::Number(*value), false),
        // `1e999` and `1e-400` arrive here as infinity and 0.
        KdlValue::Float(_) => (number::read(written).ok()?, false),
        KdlValue::Bool(value) => (Data::Bool(*value), false),
        KdlValue::Null => (Data::Null, false),
    })
}

fn is_bare(written: &str) -> bool {
    !written.starts_with(['"', '#'])
}

fn span(source: SourceId, start: usize, end: usize) -> Span {
    Span { source, start: start as u32, end: end as u32 }
}
