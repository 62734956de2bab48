//! Rules about `lora` and `quantize`.

use super::Context;
use super::flow::{ModelType, switched_on};
use super::watch;
use super::weights::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};
use crate::values::show_number;
use serde_json::Value as Json;

/// The word for every linear layer in the blocks.
pub const ALL: &str = "all-linear";

/// Checks what a training stage says of its adapter.
pub fn check(context: &mut Context, item: &Item, start: &ModelType) {
    check_quantize(context, item);
    check_base(context, item, start);
    let Some(lora) = switched_on(item, "lora") else { return };
    check_init(context, item, lora);
    check_restart(context, item, lora);
    check_rank(context, start, lora);
    for targets in lora.children_of("targets") {
        check_rank(context, start, targets);
        check_line(context, targets);
    }
    check_overrides(context, lora);
    check_targets(context, start, lora);
    check_also(context, start, lora);
}

/// A quantised base is frozen, so that something else must be trained.
fn check_quantize(context: &mut Context, item: &Item) {
    let Some(quantize) = switched_on(item, "quantize") else { return };
    let Some(format) = quantize.word() else { return };
    if switched_on(item, "lora").is_some() || item.damaged {
        return;
    }
    let message =
        format!("`quantize {format}` freezes the base, and `{}` has no adapter to train", item.declared());
    let diagnostic = Diagnostic::error("quantize-needs-lora", message, quantize.at, "freezes every weight");
    let (at, label) = match item.child("lora").and_then(Item::argument) {
        Some(none) => (none.span, "the adapter is switched off"),
        None => (item.at, "updates every weight"),
    };
    let instead = if quantize.origin.is_own() { "remove `quantize`" } else { "write `quantize none`" };
    context.report(
        diagnostic.with_label(at, label).with_help(format!("add `lora rank=16` to the stage, or {instead}")),
    );
}

/// Factors that make up for quantisation need some.
fn check_init(context: &mut Context, item: &Item, lora: &Item) {
    let Some(init) = lora.property("init").filter(|init| init.text() == Some("loftq")) else { return };
    let off = match item.child("quantize") {
        Some(quantize) if quantize.word() == Some("none") => quantize.argument().map(|none| none.span),
        Some(_) => return,
        None if item.damaged || context.lost => return,
        None => None,
    };
    context.report(
        Diagnostic::error(
            "ineffective-option",
            "`init=loftq` has no effect without `quantize`",
            init.key,
            "makes up for a quantisation that is not there",
        )
        .with_label(off.unwrap_or(item.at), "nothing is quantised here")
        .with_help("add `quantize nf4` to the stage, or remove `init`"),
    );
}

/// What a checkpoint stores in few bits cannot be trained, nor can an adapter be merged into it.
fn check_base(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(stored) = start.config.as_ref().and_then(|config| config.get("quantization_config")) else {
        return;
    };
    let Some(base) = start.base.filter(|_| stored.is_object()) else { return };
    let (at, why) = match switched_on(item, "lora") {
        Some(lora) => (lora.at, "merging the adapter would round the update away"),
        None => (
            item.child_argument("model").map_or(item.at, |model| model.span),
            "such weights cannot be updated",
        ),
    };
    let method = stored.get("quant_method").and_then(Json::as_str);
    let how = method.map_or(String::new(), |method| format!(" by {method}"));
    let message = format!("the weights of `{}` are stored quantised{how}, and {why}", base.declared());
    let diagnostic =
        Diagnostic::error("no-unquantized-base", message, at, "needs the weights as they were trained")
            .with_help("name the model that it was made from; `quantize nf4` keeps that in 4 bits in memory");
    context.report(weights::with_base(diagnostic, start, "stored quantised"));
}

/// An adapter that would be merged after the end of its stage is never started anew.
fn check_restart(context: &mut Context, item: &Item, lora: &Item) {
    let Some(restart) = lora.property("restart") else { return };
    let Some((interval, unit)) = watch::length(restart) else { return };
    let Some(((whole, of), at)) = watch::budget(item) else { return };
    if of != unit || interval < whole {
        return;
    }
    let message = format!(
        "the stage ends after {} {}, before its adapter would start anew",
        show_number(whole),
        watch::noun(whole, of)
    );
    context.report(
        Diagnostic::error("ineffective-option", message, restart.key, "changes nothing here")
            .with_label(restart.span, "the first restart")
            .with_label(at, "the end of the stage")
            .with_help("restart more often, or remove `restart`"),
    );
}

/// A rank beyond the width of the model adds numbers, but nothing that can be learnt.
fn check_rank(context: &mut Context, start: &ModelType, node: &Item) {
    let (Some(rank), Some(architecture)) = (node.property("rank"), start.architecture) else { return };
    let hidden =
        start.config.as_ref().and_then(|config| config.get(architecture.hidden)).and_then(Json::as_u64);
    let (Some(hidden), Some(number)) = (hidden, rank.number()) else { return };
    if rank.is_written() && number > hidden as f64 {
        let message = format!(
            "the rank is {}, but the matrices of the model have rank {hidden} at most",
            show_number(number)
        );
        let diagnostic = Diagnostic::error("out-of-range", message, rank.span, "more than the model is wide")
            .with_help(format!("write a rank below {hidden}, such as 16"));
        context.report(weights::with_base(diagnostic, start, &format!("{hidden} wide")));
    }
}

/// `all-linear` says all there is to say on its line.
fn check_line(context: &mut Context, targets: &Item) {
    let slots = weights::named([targets].into_iter());
    let Some(all) = slots.iter().find(|slot| slot.text() == Some(ALL)) else { return };
    let Some(name) = slots.iter().find(|slot| slot.text() != Some(ALL)) else { return };
    let (first, second) = if all.span < name.span { (all, name) } else { (name, all) };
    context.report(
        Diagnostic::error(
            "conflicting-options",
            "`targets` names all linear layers and single ones on one line",
            second.span,
            "the second",
        )
        .with_label(first.span, "the first")
        .with_help("keep one of them; another rank for some stands on a line of its own"),
    );
}

/// Beside `all-linear` a line is there to give its weights other numbers.
fn check_overrides(context: &mut Context, lora: &Item) {
    let is_all = |line: &&Item| line.word() == Some(ALL) && line.arguments.len() == 1;
    let Some(all) = lora.children_of("targets").find(is_all) else { return };
    for line in lora.children_of("targets").filter(|line| !std::ptr::eq(*line, all)) {
        if line.properties.is_empty()
            && !line.damaged
            && line.arguments.iter().all(|slot| slot.text() != Some(ALL))
        {
            context.report(
                Diagnostic::error(
                    "ineffective-option",
                    "these layers have an adapter already",
                    line.at,
                    "changes nothing here",
                )
                .with_label(all.at, "all linear layers are meant here")
                .with_help("give them a `rank` or an `alpha` of their own, or remove the line"),
            );
        }
    }
}

/// Every name must match a layer that can have an adapter, once.
fn check_targets(context: &mut Context, start: &ModelType, lora: &Item) {
    let slots = weights::named(lora.children_of("targets"));
    weights::check_repeated(context, start, &slots);
    for slot in slots.iter().filter(|slot| slot.text() != Some(ALL)) {
        check_target(context, start, slot);
    }
}

fn check_target(context: &mut Context, start: &ModelType, slot: &Slot) {
    if weights::check_words(context, "lora-matches-nothing", slot, &[ALL]) {
        return;
    }
    let (Some(architecture), Some(name)) = (start.architecture, slot.text()) else { return };
    let found = weights::place(&architecture.weights, name);
    let message = match found {
        Some(Place::Linear) => return,
        Some(Place::Head) if start.tied != Some(true) => return,
        Some(Place::Head) => return context.report(tied_target(start, slot)),
        Some(Place::Norm | Place::Outer | Place::Embedding) => {
            format!("`{name}` is not a linear layer, and gets no adapter")
        }
        None => format!("`{name}` matches no layer of a {} model", architecture.name),
    };
    let diagnostic = Diagnostic::error("lora-matches-nothing", message, slot.span, "matches no linear layer");
    let diagnostic = weights::with_base(diagnostic, start, &format!("a {} model", architecture.name));
    context.report(match found {
        Some(Place::Embedding) => {
            diagnostic.with_help("train it in full with `also embed_tokens lm_head`, or leave it out")
        }
        Some(_) => diagnostic.with_help(format!("train it in full with `also {name}`, or leave it out")),
        None => {
            weights::suggested(diagnostic, slot, architecture.weights.linears.to_vec(), ", or `all-linear`")
        }
    });
}

/// The head of a tied model is its embedding, too.
fn tied_target(start: &ModelType, slot: &Slot) -> Diagnostic {
    let name = slot.text().unwrap_or_default();
    let message =
        format!("`{name}` is the embedding, too, in this model, and an adapter on it would split the two");
    let diagnostic = Diagnostic::error("tied-weights", message, slot.span, "one of two names")
        .with_help("leave it out, or train both in full with `also embed_tokens lm_head`");
    weights::with_base(diagnostic, start, "embedding and head are tied here")
}

/// What is trained in full has no adapter.
fn check_also(context: &mut Context, start: &ModelType, lora: &Item) {
    let also = weights::named(lora.children_of("also"));
    also.iter().for_each(|slot| weights::check_known(context, start, slot));
    weights::check_repeated(context, start, &also);
    weights::check_both(context, start, &also);
    let targets = weights::named(lora.children_of("targets"));
    for slot in also {
        let Some(target) = targets.iter().find(|target| covers(start, target, slot)) else { continue };
        let name = slot.text().unwrap_or_default();
        context.report(
            Diagnostic::error(
                "conflicting-options",
                format!("`{name}` is trained in full and gets an adapter"),
                slot.span,
                "trained in full",
            )
            .with_label(target.span, "gets an adapter")
            .with_help("name it in `targets` or in `also`"),
        );
    }
}

/// Whether a target means a weight.
pub fn covers(start: &ModelType, target: &Slot, weight: &Slot) -> bool {
    let (Some(target), Some(weight)) = (target.text(), weight.text()) else { return false };
    let place = start.architecture.and_then(|architecture| weights::place(&architecture.weights, weight));
    let matrix = |name| match weights::canonical(start.architecture, name) {
        weights::HEAD if start.tied == Some(true) => weights::EMBEDDING.to_owned(),
        name => name.to_owned(),
    };
    matrix(target) == matrix(weight) || target == ALL && place == Some(Place::Linear)
}
