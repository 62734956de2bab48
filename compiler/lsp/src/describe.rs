//! What the schema says, in words for hover and completion.

use lang::values::{describe_range, describe_type, show_number};
use stdlib::schema::{Argument, Literal, Node, Property, Range, Status, Type, Unit};

/// Says what a value of a type looks like, with its range.
pub fn ty(ty: &Type) -> String {
    let range = match ty {
        Type::Integer(range) | Type::Number(range) => Some(range),
        // A share is between 0% and 100%; its bounds are not written as numbers.
        Type::Quantity { units, range, .. } if !units.contains(&Unit::Share) => Some(range),
        _ => None,
    };
    let mut words = describe_type(ty);
    if let Type::Quantity { bare: Some(bare), .. } = ty {
        words = match bare {
            Unit::Share => format!("a number such as 0.1, or {words}"),
            bare => format!("a number of {}, or {words}", bare.noun()),
        };
    }
    match range {
        Some(range) if is_bounded(range) => format!("{words}, {}", describe_range(*range)),
        _ => words,
    }
}

fn is_bounded(range: &Range) -> bool {
    range.min != f64::MIN || range.max != f64::MAX
}

/// Writes a default as it would stand in a recipe.
pub fn literal(literal: Literal, ty: &Type) -> String {
    match literal {
        Literal::Integer(value) => value.to_string(),
        Literal::Number(value) => show_number(value),
        Literal::Bool(on) => format!("#{on}"),
        Literal::Text(text) if matches!(ty, Type::Word(_) | Type::Reference(_) | Type::NameOr { .. }) => {
            text.to_owned()
        }
        Literal::Text(text) => lang::resolved::quote(text),
    }
}

/// Says of a property: whether it must be written, and what holds when it is not.
pub fn property(property: &Property) -> String {
    facts(&property.ty, property.required, property.default, property.status)
}

/// Says the same of an argument.
pub fn argument(argument: &Argument) -> String {
    facts(&argument.ty, argument.required, argument.default, Status::Built)
}

fn facts(ty: &Type, required: bool, default: Option<Literal>, status: Status) -> String {
    let default = default.map(|default| format!("default {}", literal(default, ty)));
    let required = required.then(|| "required".to_owned());
    let parts = [required, Some(self::ty(ty)), default, later(status)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Says of a node what must stand on its line, and what holds when it is not written.
pub fn node(node: &Node, required: bool) -> String {
    let wanted = node.arguments.first().map(|argument| ty(&argument.ty));
    let default = (!node.absent.is_empty()).then(|| format!("default `{}`", node.absent));
    let required = required.then(|| "required".to_owned());
    let wanted = wanted.filter(|_| !node.declares);
    let parts = [required, wanted, default, later(node.status)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn later(status: Status) -> Option<String> {
    (status == Status::Later).then(|| "this version cannot do it yet".to_owned())
}

/// Returns the default of a child's argument, as the child stands when it is not written.
pub fn absent_value(node: &Node) -> Option<&'static str> {
    let rest = node.absent.strip_prefix(node.name)?.trim_start();
    let word = rest.split(' ').next().filter(|word| !word.is_empty() && !word.contains('='))?;
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stdlib::schema;

    fn of(stage: &str, child: &str, key: &str) -> String {
        let child = schema::top(stage).and_then(|stage| stage.child(child)).expect("the child is known");
        property(child.property(key).expect("the property is known"))
    }

    #[test]
    fn types_ranges_and_defaults_are_put_in_words() {
        assert_eq!(of("sft", "optimizer", "lr"), "a number, above 0 and at most 10");
        assert_eq!(of("sft", "optimizer", "clip"), "a number, at least 0 and at most 1000000000 · default 1");
        assert_eq!(of("sft", "sequence", "pack"), "`#true` or `#false` · default #false");
        assert_eq!(
            of("sft", "schedule", "floor"),
            "a number such as 0.1, or a share such as `\"10%\"` · default 0"
        );
        let seed = schema::top("sft").and_then(|stage| stage.child("seed")).expect("stages have a seed");
        assert_eq!(absent_value(seed), Some("42"));
    }
}
