//! Rules about fields of config.json that saved weights have settled.

use super::Context;
use super::shapes::SHARED_FIELDS;
use crate::diagnostic::Diagnostic;
use crate::facts::ModelFact;
use crate::tree::{Item, Slot};
use serde_json::Value as Json;
use stdlib::schema::Architecture;

/// Tables of positions, under their names in checkpoints.
const POSITION_TABLES: [&str; 2] = ["wpe", "embed_positions"];

/// A field that shapes weights keeps the value that they were saved with; returns whether all do.
pub fn check(
    context: &mut Context,
    config: &Item,
    source: &Slot,
    architecture: &'static Architecture,
    fact: &ModelFact,
) -> bool {
    let shaping = shaping(architecture);
    let before = context.diagnostics.len();
    for (name, value) in config.config.iter().filter(|(name, _)| shaping.contains(&name.value.as_str())) {
        let saved = fact.config.get(&name.value).and_then(Json::as_u64);
        let (Some(saved), Some(written)) = (saved, value.value.as_u64()) else { continue };
        if saved == written {
            continue;
        }
        let message = format!("`{}` is {written}, but the weights were saved with {saved}", name.value);
        context.report(
            Diagnostic::error("contradictory-config", message, value.span, "the weights have another shape")
                .with_label(source.span, format!("saved with {saved}"))
                .with_help(format!("remove it, or start from `new:{}`", architecture.name)),
        );
    }
    context.diagnostics.len() == before
}

/// The fields that shape the weights of an architecture.
fn shaping(architecture: &'static Architecture) -> Vec<&'static str> {
    let has_table = architecture.weights.outer.iter().any(|name| POSITION_TABLES.contains(name));
    let named = [
        architecture.hidden,
        architecture.layers,
        architecture.heads,
        architecture.kv_heads,
        architecture.experts,
        "vocab_size",
        if has_table { architecture.positions } else { "" },
    ];
    named.into_iter().chain(SHARED_FIELDS).filter(|field| !field.is_empty()).collect()
}
