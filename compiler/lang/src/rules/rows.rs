//! New rows of an embedding: some stage after the one that adds them must train them.

use super::Context;
use super::flow::{self, switched_on};
use super::updated::{self, Part};
use super::weights::{self, EMBEDDING};
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};
use std::rc::Rc;
use stdlib::schema;

/// Reports stages that add rows which nothing trains.
pub fn check(context: &mut Context) {
    let grows = |item: &&Item| matches!(item.kind(), "swap-tokenizer" | "extend-tokenizer");
    if !context.names.items.iter().any(|item| grows(&item)) {
        return;
    }
    let stages = context.names.items.iter().filter(|item| item.schema.training);
    let starts: Vec<(&Item, Rc<flow::ModelType>)> =
        stages.map(|stage| (stage, flow::start(context, stage))).collect();
    for grown in context.names.items.iter().filter(grows) {
        let after =
            || starts.iter().filter(|(_, start)| start.grown.is_some_and(|at| std::ptr::eq(at, grown)));
        if after().any(|(stage, _)| trains_rows(stage)) {
            continue;
        }
        if let Some((stage, _)) = after().min_by_key(|(_, start)| start.trained) {
            context.report(untrained(grown, stage));
        }
    }
}

/// Whether a stage trains the rows that were added, as far as is known.
fn trains_rows(stage: &Item) -> bool {
    if stage.damaged {
        return true;
    }
    if let Some(lora) = switched_on(stage, "lora") {
        return lora.damaged || weights::named(lora.children_of("also")).iter().any(is_embedding);
    }
    let parts = updated::parts(stage);
    parts.is_empty()
        || parts.iter().any(|part| match part {
            Part::NewRows(_) => true,
            Part::Weight(slot) => is_embedding(slot),
            Part::AllBut(_, names) => !names.iter().any(is_embedding),
            Part::Layers(..) => false,
        })
}

/// Whether a weight is the embedding, under the name of any architecture.
fn is_embedding(slot: &&Slot) -> bool {
    let name = slot.text().unwrap_or_default();
    name == EMBEDDING || schema::ARCHITECTURES.iter().any(|known| known.weights.embedding == name)
}

fn untrained(grown: &Item, stage: &Item) -> Diagnostic {
    let message = format!("`{}` gives the model new rows, and nothing trains them", grown.declared());
    let (at, label, help) = match (switched_on(stage, "lora"), stage.child("train")) {
        (Some(lora), _) => {
            (lora.at, "freezes them", "add `also embed_tokens lm_head` to the block of `lora`")
        }
        (None, train) => {
            (train.map_or(stage.at, |train| train.at), "leaves them out", "add `train new-rows`")
        }
    };
    let declared = grown.name.as_ref().map_or(grown.at, |name| name.span);
    Diagnostic::error("new-rows-untrained", message, stage.at, "the first stage after it")
        .with_label(declared, "the rows come from here")
        .with_label(at, label)
        .with_help(format!("{help}, or train them in a stage before this one"))
}
