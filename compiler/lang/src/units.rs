//! A quantity that lost its quotes: `every=100 steps` is one value, and one mistake.

use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::{Data, Node, Value};
use crate::values::{is_unit, show_number};
use stdlib::schema::{self, Type};

/// Returns a node with its numbers and their units made one value, when it has such; each is reported.
pub fn joined(node: &Node, schema: &'static schema::Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut whole: Option<Node> = None;
    for unit in node.arguments.iter().rev().filter(|unit| unit.bare && unit.text().is_some_and(is_unit)) {
        let node = whole.as_ref().unwrap_or(node);
        let Some(place) = before(node, schema, unit) else { continue };
        let mut changed = node.clone();
        let number = match place {
            Place::Argument(at) => &mut changed.arguments[at],
            Place::Property(at) => &mut changed.properties[at].value,
        };
        diagnostics.push(join(number, unit));
        changed.arguments.retain(|argument| argument.span != unit.span);
        whole = Some(changed);
    }
    whole
}

/// Where the number of a unit stands.
enum Place {
    Argument(usize),
    Property(usize),
}

/// Finds the number directly before a unit, where a quantity is wanted.
fn before(node: &Node, schema: &'static schema::Node, unit: &Value) -> Option<Place> {
    let is_before = |value: &Value| {
        let is_number = matches!(value.data, Data::Integer(_) | Data::Number(_));
        is_number
            && value.via.is_none()
            && value.span.source == unit.span.source
            && value.span.end + 1 == unit.span.start
    };
    let is_quantity = |ty: &Type| matches!(ty, Type::Quantity { .. });
    let property = node.properties.iter().position(|property| {
        let wanted = schema.property(&property.key.text);
        is_before(&property.value) && wanted.is_some_and(|wanted| is_quantity(&wanted.ty))
    });
    let argument = || {
        let at = node.arguments.iter().position(is_before)?;
        let wanted = schema.arguments.get(at.checked_sub(usize::from(schema.declares))?)?;
        is_quantity(&wanted.ty).then_some(Place::Argument(at))
    };
    property.map(Place::Property).or_else(argument)
}

/// Makes the number and its unit one text.
fn join(number: &mut Value, unit: &Value) -> Diagnostic {
    let amount = match number.data {
        Data::Integer(value) => value.to_string(),
        Data::Number(value) => show_number(value),
        Data::Text(_) | Data::Bool(_) | Data::Null | Data::Broken => String::new(),
    };
    let text = format!("{amount} {}", unit.text().unwrap_or_default());
    number.span = Span { end: unit.span.end, ..number.span };
    number.data = Data::Text(text.clone());
    let quoted = format!("\"{text}\"");
    Diagnostic::error(
        "unquoted-value",
        format!("`{text}` needs quotes"),
        number.span,
        "a number with its unit",
    )
    .with_help(format!("write `{quoted}`"))
    .with_fix("put it in quotes", number.span, quoted.clone())
}
