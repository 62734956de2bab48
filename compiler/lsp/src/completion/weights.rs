//! Names of weights and the words that stand for several: after `train`, `targets`, `also`, `group`.

use super::{Context, Offer, Rank, values};
use crate::names::{self, Role};
use crate::text::{Text, arguments_before};
use lang::paths;
use lsp_types::CompletionItemKind as Kind;
use serde_json::Value as Json;
use std::ops::Range;
use std::rc::Rc;
use stdlib::schema::{self, Architecture};

/// The words for embedding and head, whatever an architecture calls them.
const TABLES: [&str; 2] = ["embed_tokens", "lm_head"];

/// How many stages are followed to the model that they begin with.
const CHAIN: usize = 100;

/// Offers what a node that names weights may name next.
pub fn offers<O>(context: &Context<O>, node: usize, replace: &Range<usize>) -> Vec<Offer> {
    let text = context.text;
    let before = values_of(text, node, replace);
    let first = arguments_before(&text.outline.nodes[node], replace.start) == 0;
    let opened = before.first().map(String::as_str);
    let kind = text.kind(node);
    let mut offers = Vec::new();
    match (kind, opened) {
        // Nothing but a range follows `layers`, and nothing follows the other two.
        ("train", Some("layers" | "new-rows")) | ("targets", Some("all-linear")) => return offers,
        ("train", _) if first => {
            offers.push(word("new-rows", "The rows that the latest change of the tokenizer has added."));
            offers.push(word("layers", "Every block, or those of a range: `layers \"0..8\"`."));
            offers.push(word("all-but", "Everything except what is named behind it."));
        }
        ("targets", _) if first => offers.push(word("all-linear", "Every matrix of the blocks.")),
        _ => {}
    }
    let names = weights(architecture(context, node), kind == "targets");
    let names = names.into_iter().filter(|name| before.iter().all(|known| known != name));
    offers.extend(names.map(|name| Offer::new(name, Kind::EnumMember)));
    offers
}

fn word(name: &str, doc: &str) -> Offer {
    let mut offer = Offer::new(name, Kind::Keyword);
    offer.doc = doc.to_owned();
    offer.rank = Rank::Required;
    offer
}

/// The values of a node but for the one that is being written.
fn values_of(text: &Text, node: usize, replace: &Range<usize>) -> Vec<String> {
    let entries = text.outline.nodes[node].entries.iter().filter(|entry| entry.key.is_none());
    let tokens = entries.filter_map(|entry| entry.value.as_ref());
    tokens.filter(|token| token.range.start != replace.start).map(|token| text.value(token)).collect()
}

/// The weights of an architecture; where it is not known those that every one has.
fn weights(architecture: Option<&'static Architecture>, adapted: bool) -> Vec<&'static str> {
    let Some(weights) = architecture.map(|architecture| &architecture.weights) else {
        return if adapted { Vec::new() } else { TABLES.to_vec() };
    };
    if adapted {
        return weights.linears.to_vec();
    }
    let inner = [weights.linears, weights.norms, weights.outer].concat();
    TABLES.into_iter().chain(inner).collect()
}

/// Returns the architecture of the model that a stage begins with.
fn architecture<O>(context: &Context<O>, node: usize) -> Option<&'static Architecture> {
    let mut text: Rc<Text> = Rc::clone(&context.compilation.files.first()?.text);
    // The text may have changed since it was compiled; what it declares counts.
    let mut at = context.text.outline.path(node)[0];
    let mut path = context.path.to_owned();
    let mut current = true;
    for _ in 0..CHAIN {
        let here: &Text = if current { context.text } else { &text };
        if here.kind(at) == "model" {
            return of_model(context, here, at, &path);
        }
        let name = started_from(here, at)?;
        let own = declaration(context.text, &name).map(|found| (None, found));
        let others = context.compilation.files.iter().skip(1);
        let mut others = others.filter_map(|file| Some((Some(file), declaration(&file.text, &name)?)));
        let (file, found) = own.or_else(|| others.next())?;
        at = found;
        current = file.is_none();
        if let Some(file) = file {
            (text, path) = (Rc::clone(&file.text), file.path.clone());
        }
    }
    None
}

/// The name that a stage starts from.
fn started_from(text: &Text, stage: usize) -> Option<String> {
    let mut children = text.outline.children(Some(stage));
    let start = children.find(|&child| matches!(text.kind(child), "model" | "base" | "from"))?;
    text.outline.nodes[start].entries.first()?.value.as_ref().map(|token| text.value(token))
}

fn declaration(text: &Text, name: &str) -> Option<usize> {
    let declares_model = |role: Role| matches!(role, Role::Declares(schema) if schema.gives == "model");
    let found = names::declarations(text).find(|found| found.name == name && declares_model(found.role))?;
    Some(found.node)
}

fn of_model<O>(context: &Context<O>, text: &Text, model: usize, path: &str) -> Option<&'static Architecture> {
    let source = values::source(text, model)?;
    if let Some(name) = source.strip_prefix("new:") {
        return schema::architecture(name);
    }
    let resolved = paths::resolve(paths::folder(path), &source);
    let models = &context.facts.models;
    let config = &models.get(&resolved).or_else(|| models.get(&source))?.config;
    config.get("model_type").and_then(Json::as_str).and_then(schema::architecture)
}
