//! `config { … }`: fields of config.json under their own names, as JSON.

use crate::diagnostic::Diagnostic;
use crate::source::Spanned;
use crate::syntax::{Data, Node, Value};
use serde_json::{Map, Number, Value as Json};

/// Reads the fields of a `config` block.
pub fn fields(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<(Spanned<String>, Spanned<Json>)> {
    let mut fields: Vec<(Spanned<String>, Spanned<Json>)> = Vec::new();
    for child in &node.children {
        if let Some((first, _)) = fields.iter().find(|(name, _)| name.value == child.name.text) {
            diagnostics.push(
                Diagnostic::error(
                    "repeated-option",
                    format!("`{}` stands twice", child.name.text),
                    child.name.span,
                    "the second",
                )
                .with_label(first.span, "the first")
                .with_help("keep one of them"),
            );
            continue;
        }
        let (span, origin) = child
            .arguments
            .first()
            .map_or((child.name.span, child.origin), |value| (value.span, value.origin));
        let name = Spanned { value: child.name.text.clone(), span: child.name.span, origin: child.origin };
        match json(child) {
            Some(value) => fields.push((name, Spanned { value, span, origin })),
            None if too_large(child).is_some() => diagnostics.extend(too_large(child)),
            None if child.damaged || child.arguments.iter().any(|value| value.data == Data::Broken) => {}
            None => diagnostics.push(
                Diagnostic::error(
                    "missing-value",
                    format!("`{}` has no value", child.name.text),
                    child.name.span,
                    "wants a value",
                )
                .with_help("write the value after its name"),
            ),
        }
    }
    fields
}

/// Reports the first whole number of a field that JSON cannot have.
fn too_large(node: &Node) -> Option<Diagnostic> {
    let is_large = |value: &&Value| matches!(value.data, Data::Integer(_)) && scalar(value).is_none();
    match node.arguments.iter().find(is_large) {
        Some(value) => Some(
            Diagnostic::error(
                "out-of-range",
                format!("`{}` is beyond the whole numbers of config.json", node.name.text),
                value.span,
                format!("from {} to {}", i64::MIN, i64::MAX),
            )
            .with_help("write a smaller number"),
        ),
        None => node.children.iter().find_map(too_large),
    }
}

/// One value stands alone, several are a list, a block is an object.
fn json(node: &Node) -> Option<Json> {
    if node.has_block {
        let fields = node.children.iter().map(|child| Some((child.name.text.clone(), json(child)?)));
        return fields.collect::<Option<Map<_, _>>>().map(Json::Object);
    }
    match node.arguments.as_slice() {
        [] => None,
        [one] => scalar(one),
        several => several.iter().map(scalar).collect::<Option<Vec<_>>>().map(Json::Array),
    }
}

fn scalar(value: &Value) -> Option<Json> {
    Some(match &value.data {
        Data::Integer(number) => Json::Number(Number::from(i64::try_from(*number).ok()?)),
        Data::Number(number) => Json::Number(Number::from_f64(*number)?),
        Data::Text(text) => Json::String(text.clone()),
        Data::Bool(on) => Json::Bool(*on),
        Data::Null => Json::Null,
        Data::Broken => return None,
    })
}
