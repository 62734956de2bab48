//! Uses of parameters: all uses of one must agree on its type.

use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::syntax::Value;
use std::collections::BTreeMap;
use stdlib::schema::Type;

/// Where each parameter is used, and as what; by the place of its value.
#[derive(Debug, Default)]
pub struct Uses {
    by_value: BTreeMap<Span, Vec<(Span, &'static str)>>,
}

impl Uses {
    /// Notes that a value is used as a type.
    pub fn note(&mut self, value: &Value, ty: &Type) {
        if let Some(via) = value.via {
            self.by_value.entry(value.span).or_default().push((via, class(ty)));
        }
    }

    /// Reports parameters whose uses disagree.
    pub fn check(self, diagnostics: &mut Vec<Diagnostic>) {
        for (value, mut uses) in self.by_value {
            uses.sort();
            let (first, class) = uses[0];
            if let Some((second, other)) = uses.iter().find(|(_, other)| *other != class) {
                diagnostics.push(
                    Diagnostic::error(
                        "param-type-conflict",
                        format!("this parameter is used as {class} and as {other}"),
                        *second,
                        format!("used as {other}"),
                    )
                    .with_label(first, format!("used as {class}"))
                    .with_label(value, "its value")
                    .with_help("declare a parameter for each"),
                );
            }
        }
    }
}

fn class(ty: &Type) -> &'static str {
    match ty {
        Type::Text => "a text",
        Type::Source | Type::Path => "a path",
        Type::Bool => "a boolean",
        Type::Literal => "a value",
        Type::Integer(_) | Type::Number(_) | Type::Quantity { .. } => "a number",
        Type::Word(_) => "a word",
        Type::Reference(_) | Type::NameOr { .. } => "a name",
    }
}
