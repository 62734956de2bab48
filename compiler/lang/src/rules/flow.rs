//! What a model is when a stage starts from it: shape, vocabulary, tokenizer and template flow from stage to stage.
//!
//! Everything that is not known stays `None`, and rules that need it are silent.

use super::Context;
use super::model::vocabulary;
use crate::names::Names;
use crate::source::Span;
use crate::tree::{Item, Slot};
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use stdlib::schema::{self, Architecture};

/// The types that were worked out, by the place of the item in memory.
pub type Types<'a> = RefCell<BTreeMap<usize, Rc<ModelType<'a>>>>;

/// The type of a model.
#[derive(Debug, Clone, Default)]
pub struct ModelType<'a> {
    /// The declared model that the chain begins with; where models are merged that of the base, else of the first.
    pub base: Option<&'a Item>,
    pub architecture: Option<&'static Architecture>,
    /// config.json with what the recipe overrides.
    pub config: Option<Rc<Json>>,
    /// Rows of the embedding, padding included.
    pub vocab: Option<u64>,
    /// Ids of the tokenizer, added tokens included.
    pub ids: Option<u64>,
    pub positions: Option<u64>,
    /// Whether embedding and head are one matrix.
    pub tied: Option<bool>,
    /// Number of blocks.
    pub layers: Option<u64>,
    pub tokenizer: Option<TokenizerOf<'a>>,
    /// Tokens that `extend-tokenizer` added to it.
    pub added: Vec<&'a str>,
    /// Whether it has a chat template.
    pub template: Option<bool>,
    /// The latest `swap-tokenizer` or `extend-tokenizer`.
    pub grown: Option<&'a Item>,
    /// The training stage whose adapter it carries, not merged yet.
    pub adapter: Option<&'a Item>,
    /// How many training stages made it.
    pub trained: usize,
}

/// Where a model has its tokenizer from.
#[derive(Debug, Clone, Copy)]
pub enum TokenizerOf<'a> {
    /// The folder of a declared model.
    Model(&'a Item),
    /// A declared tokenizer.
    Declared(&'a Item),
}

impl<'a> TokenizerOf<'a> {
    /// Returns the declaration that states where it comes from.
    pub fn item(self) -> &'a Item {
        match self {
            Self::Model(item) | Self::Declared(item) => item,
        }
    }

    /// Returns the place to point at: the source of a model, the name of a tokenizer.
    pub fn place(self) -> Span {
        match self {
            Self::Model(model) => model.argument().map_or(model.at, |source| source.span),
            Self::Declared(item) => item.name.as_ref().map_or(item.at, |name| name.span),
        }
    }
}

/// Returns the type of the model that a stage starts from.
pub fn start<'a>(context: &Context<'a>, stage: &Item) -> Rc<ModelType<'a>> {
    starts_from(context.names, stage).map_or_else(Rc::default, |from| model_type(context, from))
}

/// Returns the type of the model that a declaration or stage gives.
pub fn model_type<'a>(context: &Context<'a>, item: &'a Item) -> Rc<ModelType<'a>> {
    let (chain, known) = chain(context, item);
    let mut ty = known.unwrap_or_default();
    for stage in chain.into_iter().rev() {
        ty = Rc::new(match stage.kind() {
            "model" => declared(context, stage),
            _ => passed(context, ModelType::clone(&ty), stage),
        });
        context.types.borrow_mut().insert(key(stage), Rc::clone(&ty));
    }
    ty
}

fn key(item: &Item) -> usize {
    std::ptr::from_ref(item) as usize
}

/// Returns what a stage starts from; of a merge its base, or what it merges first.
pub fn starts_from<'a>(names: &Names<'a>, item: &Item) -> Option<&'a Item> {
    let child = match item.kind() {
        "merge" if item.child("base").is_some() => "base",
        "merge" => "from",
        _ => "model",
    };
    names.follow(item, child)
}

/// The most models that are followed upstream; a recipe with more has none of them by hand.
const ANCESTORS: usize = 1000;

/// Returns every model and stage that a stage comes from, through all models of a merge, each once.
pub fn ancestors<'a>(names: &Names<'a>, item: &Item) -> Vec<&'a Item> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let starts = |item: &Item| -> Vec<&'a Item> {
        let named = item.children.iter().filter(|child| matches!(child.kind(), "model" | "base" | "from"));
        named.filter_map(|child| names.find(child.argument()?.text()?)).collect()
    };
    let mut open = starts(item);
    while let Some(stage) = open.pop() {
        if stage.schema.gives == "model" && seen.len() < ANCESTORS && seen.insert(stage.declared()) {
            found.push(stage);
            open.extend(starts(stage));
        }
    }
    found
}

/// Returns the declared models that a model comes from in the end.
pub fn roots<'a>(names: &Names<'a>, item: &'a Item) -> Vec<&'a Item> {
    let mut all = ancestors(names, item);
    all.push(item);
    all.retain(|item| item.kind() == "model");
    all
}

/// Returns an item and what it starts from, one after the other, up to one whose type is known already.
///
/// A circle ends where it closes; it is reported where names are followed.
fn chain<'a>(context: &Context<'a>, item: &'a Item) -> (Vec<&'a Item>, Option<Rc<ModelType<'a>>>) {
    let mut chain = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = Some(item);
    while let Some(stage) = at.filter(|stage| stage.schema.gives == "model" && seen.insert(key(stage))) {
        if let Some(known) = context.types.borrow().get(&key(stage)) {
            return (chain, Some(Rc::clone(known)));
        }
        chain.push(stage);
        at = if stage.kind() == "model" { None } else { starts_from(context.names, stage) };
    }
    (chain, None)
}

/// The type of a declared model.
fn declared<'a>(context: &Context<'a>, model: &'a Item) -> ModelType<'a> {
    let tokenizer = match model.child("tokenizer") {
        Some(_) => context.names.follow(model, "tokenizer").map(TokenizerOf::Declared),
        None => Some(TokenizerOf::Model(model)),
    };
    let mut ty = ModelType {
        base: Some(model),
        ids: tokenizer.and_then(|tokenizer| ids(context, tokenizer)),
        template: tokenizer.and_then(|tokenizer| has_template(context, tokenizer)),
        tokenizer,
        ..ModelType::default()
    };
    let source = model.argument().and_then(Slot::text).unwrap_or_default();
    let new = source.strip_prefix("new:");
    let Some(config) = config(context, model, new) else { return ty };
    let architecture = config.get("model_type").and_then(Json::as_str).and_then(schema::architecture);
    let field = |name: &str| config.get(name).and_then(Json::as_u64);
    ty.architecture = architecture;
    ty.positions = architecture.and_then(|architecture| field(architecture.positions));
    ty.layers = architecture.and_then(|architecture| field(architecture.layers));
    ty.vocab = if new.is_some() { ty.ids } else { field("vocab_size") };
    ty.tied = architecture.map(|architecture| {
        config.get("tie_word_embeddings").and_then(Json::as_bool).unwrap_or(architecture.weights.tied)
    });
    ty.config = Some(Rc::new(config));
    ty
}

/// config.json of a declared model with what the recipe overrides.
fn config(context: &Context, model: &Item, new: Option<&str>) -> Option<Json> {
    let mut config = match new {
        Some(name) => json!({ "model_type": name }),
        None => {
            let fact = context.facts.models.get(&context.source_key(model)?)?;
            fact.problem.is_none().then(|| fact.config.clone()).filter(Json::is_object)?
        }
    };
    for (name, value) in model.child("config").into_iter().flat_map(|child| &child.config) {
        config[name.value.as_str()] = value.value.clone();
    }
    Some(config)
}

fn ids(context: &Context, tokenizer: TokenizerOf) -> Option<u64> {
    match tokenizer {
        TokenizerOf::Declared(item) => vocabulary(context, item),
        TokenizerOf::Model(model) => {
            let fact = context.facts.tokenizers.get(&context.source_key(model)?)?;
            fact.problem.is_none().then_some(fact.vocab_size)
        }
    }
}

fn has_template(context: &Context, tokenizer: TokenizerOf) -> Option<bool> {
    let (template, partial) = match tokenizer {
        TokenizerOf::Declared(item) if item.child("train").is_some() => return Some(false),
        TokenizerOf::Declared(item) => {
            let fact = context.facts.tokenizers.get(&context.source_key(item)?)?;
            (&fact.chat_template, fact.partial)
        }
        TokenizerOf::Model(model) => {
            let facts = context.facts.models.get(&context.source_key(model)?);
            let fact = facts.filter(|fact| fact.problem.is_none())?;
            (&fact.chat_template, fact.partial)
        }
    };
    (!partial || template.is_some()).then_some(template.is_some())
}

/// What a stage makes of a model.
fn passed<'a>(context: &Context<'a>, mut ty: ModelType<'a>, stage: &'a Item) -> ModelType<'a> {
    ty.adapter = None;
    match stage.kind() {
        "swap-tokenizer" => swapped(context, ty, stage),
        "extend-tokenizer" => extended(ty, stage),
        "merge" => merged(context, ty, stage),
        _ => {
            if stage.child("template").is_some() {
                ty.template = Some(true);
            }
            ty.adapter = switched_on(stage, "lora").map(|_| stage);
            ty.trained += 1;
            ty
        }
    }
}

/// Another tokenizer: its ids, and as many rows, padded. Whether an older template fits it is not known.
fn swapped<'a>(context: &Context<'a>, ty: ModelType<'a>, stage: &'a Item) -> ModelType<'a> {
    let tokenizer = context.names.follow(stage, "tokenizer").map(TokenizerOf::Declared);
    let ids = tokenizer.and_then(|tokenizer| ids(context, tokenizer));
    let own = tokenizer.and_then(|tokenizer| has_template(context, tokenizer));
    ModelType {
        vocab: ids.map(|ids| padded(stage, ids)),
        ids,
        template: if ty.template == Some(false) || own == Some(true) { own } else { None },
        tokenizer,
        added: Vec::new(),
        grown: Some(stage),
        ..ty
    }
}

/// More tokens: rows for those that find no place in the padding.
fn extended<'a>(mut ty: ModelType<'a>, stage: &'a Item) -> ModelType<'a> {
    ty.grown = Some(stage);
    let added: Vec<&str> =
        stage.children_of("add").flat_map(|child| &child.arguments).filter_map(Slot::text).collect();
    if stage.child("tokenizer").is_some() {
        (ty.ids, ty.vocab, ty.tokenizer) = (None, None, None);
        return ty;
    }
    // A token that is there already adds nothing, so that this is exact only where none is.
    let new = added.iter().collect::<BTreeSet<_>>().len() as u64;
    ty.ids = ty.ids.map(|ids| ids.saturating_add(new));
    ty.vocab = ty.vocab.zip(ty.ids).map(|(rows, ids)| rows.max(padded(stage, ids)));
    ty.added.extend(added);
    ty
}

/// The rows that a vocabulary of some ids has.
fn padded(stage: &Item, ids: u64) -> u64 {
    let multiple = stage.child_argument("pad-to").and_then(Slot::number).unwrap_or(1.0);
    ids.checked_next_multiple_of((multiple as u64).max(1)).unwrap_or(ids)
}

/// Models of one shape; the tokenizer is that of the first unless another is named.
fn merged<'a>(context: &Context<'a>, mut ty: ModelType<'a>, stage: &'a Item) -> ModelType<'a> {
    match stage.child_argument("tokenizer").and_then(Slot::text) {
        None | Some("base") => {}
        Some(name) => {
            let tokenizer = context.names.find(name).filter(|_| name != "union").map(TokenizerOf::Declared);
            ty.tokenizer = tokenizer;
            ty.ids = tokenizer.and_then(|tokenizer| ids(context, tokenizer));
            (ty.vocab, ty.template, ty.added) = (None, None, Vec::new());
        }
    }
    ty
}

/// Finds a child that is there and not switched off by `none`.
pub fn switched_on<'i>(stage: &'i Item, name: &str) -> Option<&'i Item> {
    stage.child(name).filter(|child| child.word() != Some("none"))
}
