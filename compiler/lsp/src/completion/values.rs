//! Values: words of an enumeration, declared names, paths, columns, parameters.

use super::files;
use super::nodes::likely;
use super::weights;
use super::{Context, Offer, Rank};
use crate::describe;
use crate::names::{self, Role};
use crate::outside::Outside;
use crate::text::{Slot, Text, argument};
use lang::facts::RowsFact;
use lang::lock::Kind as LockKind;
use lang::paths as recipe_paths;
use lsp_types::CompletionItemKind as Kind;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::ops::Range;
use stdlib::schema::{self, Choice, FieldType, Node, Status, Type};

/// Offers what the nth value of a node may be.
pub fn of_argument<O: Outside>(
    context: &Context<O>,
    node: usize,
    place: usize,
    replace: &Range<usize>,
) -> Vec<Offer> {
    let Some(schema) = likely(context.text, node) else { return Vec::new() };
    let Some(Slot::Argument(argument)) = argument(schema, place) else { return Vec::new() };
    if argument.name == "weights" {
        return weights::offers(context, node, replace);
    }
    let default = argument.default.map(|default| describe::literal(default, &argument.ty));
    let default = default.or_else(|| describe::absent_value(schema).map(str::to_owned));
    Values { context, node, replace, ty: &argument.ty, default, quoted: false }.offers()
}

/// Offers what the nth value of a node may be, whose quotes are begun.
pub fn in_quotes<O: Outside>(
    context: &Context<O>,
    node: usize,
    place: usize,
    replace: &Range<usize>,
) -> Vec<Offer> {
    let Some(schema) = likely(context.text, node) else { return Vec::new() };
    let Some(Slot::Argument(argument)) = argument(schema, place) else { return Vec::new() };
    Values { context, node, replace, ty: &argument.ty, default: None, quoted: true }.offers()
}

/// Offers what the value of a property may be.
pub fn of_property<O: Outside>(
    context: &Context<O>,
    node: usize,
    key: Range<usize>,
    replace: &Range<usize>,
    quoted: bool,
) -> Vec<Offer> {
    let schema = likely(context.text, node);
    let Some(property) = schema.and_then(|schema| schema.property(&context.text.text[key])) else {
        return Vec::new();
    };
    let default = property.default.map(|default| describe::literal(default, &property.ty));
    if property.name == "like" {
        return alike(context, node, quoted);
    }
    let values = Values { context, node, replace, ty: &property.ty, default, quoted };
    let mut offers = values.in_data(property.name);
    offers.extend(values.offers());
    offers
}

/// Offers the other stages of a stage's kind.
fn alike<O>(context: &Context<O>, stage: usize, quoted: bool) -> Vec<Offer> {
    let (text, kind) = (context.text, context.text.kind(stage));
    let own = text.declared(stage).map(|token| text.value(token));
    let files = context.compilation.files.iter();
    let found = files.flat_map(|file| names::declarations(&file.text));
    let is_alike = |role: Role| matches!(role, Role::Declares(schema) if schema.name == kind);
    let others = found.filter(|found| is_alike(found.role) && own.as_ref() != Some(&found.name));
    others.filter_map(|found| Some(declared(&found.name, schema::top(kind)?, quoted))).collect()
}

/// A value that is being written.
struct Values<'a, O> {
    context: &'a Context<'a, O>,
    node: usize,
    replace: &'a Range<usize>,
    ty: &'static Type,
    default: Option<String>,
    /// Whether it stands in quotes.
    quoted: bool,
}

impl<O: Outside> Values<'_, O> {
    fn offers(&self) -> Vec<Offer> {
        let mut offers = match self.ty {
            Type::Word(choices) => words(choices),
            Type::Reference(to) => self.names(to),
            Type::NameOr { to, words: choices } => words(choices).into_iter().chain(self.names(to)).collect(),
            Type::Bool if !self.quoted => ["#true", "#false"].map(|on| Offer::new(on, Kind::Constant)).into(),
            Type::Source => self.sources(),
            Type::Path => self.paths(&[]),
            Type::Integer(_) | Type::Number(_) | Type::Quantity { .. } if !self.quoted => self.default(),
            Type::Bool
            | Type::Integer(_)
            | Type::Number(_)
            | Type::Quantity { .. }
            | Type::Text
            | Type::Literal => Vec::new(),
        };
        if !self.quoted {
            offers.extend(self.parameters());
        }
        offers
    }

    fn default(&self) -> Vec<Offer> {
        let offer = |default: &String| {
            let mut offer = Offer::new(default.clone(), Kind::Value);
            offer.detail = "default".into();
            offer
        };
        self.default.iter().map(offer).collect()
    }

    /// The declarations of a type, and for templates those of the library.
    fn names(&self, to: &str) -> Vec<Offer> {
        let text = self.context.text;
        let root = text.outline.path(self.node)[0];
        let own = text.declared(root).map(|token| text.value(token));
        let mut offers = Vec::new();
        for file in &self.context.compilation.files {
            for found in names::declarations(&file.text) {
                let Role::Declares(schema) = found.role else { continue };
                if schema.gives == to && own.as_ref() != Some(&found.name) {
                    offers.push(declared(&found.name, schema, self.quoted));
                }
            }
        }
        if to == "template" {
            offers.extend(schema::TEMPLATES.iter().map(library));
        }
        offers
    }

    /// The parameters whose values could stand here.
    fn parameters(&self) -> Vec<Offer> {
        let files = self.context.compilation.files.iter();
        let params = files.flat_map(|file| {
            let params = names::declarations(&file.text)
                .filter(|found| matches!(found.role, Role::Declares(schema) if schema.name == "param"))
                .filter(|found| value_of(&file.text, found.node).is_none_or(|value| self.fits(&value)));
            params.map(|found| parameter(&file.text, found.node, &found.name)).collect::<Vec<_>>()
        });
        // The value of a parameter is no other parameter.
        let inside = self.context.text.kind(self.context.text.outline.path(self.node)[0]) == "param";
        if inside { Vec::new() } else { params.collect() }
    }

    /// Whether a value, as it is written, could stand here.
    fn fits(&self, written: &str) -> bool {
        let text = written.trim_matches('"');
        let is_number =
            text == written && text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let is_bool = text.starts_with("#true") || text.starts_with("#false");
        let is_text = !is_number && !is_bool;
        let has = |choices: &[Choice]| choices.iter().any(|choice| choice.name == text);
        match self.ty {
            Type::Literal => true,
            Type::Bool => is_bool,
            Type::Integer(_) | Type::Number(_) => is_number,
            // With its unit it is a text: `"10%"`.
            Type::Quantity { .. } => is_number || text.starts_with(|c: char| c.is_ascii_digit()),
            Type::Word(choices) => has(choices),
            Type::Reference(to) => is_text && self.declares(to, text),
            Type::NameOr { to, words } => is_text && (has(words) || self.declares(to, text)),
            Type::Text | Type::Path | Type::Source => is_text,
        }
    }

    /// Whether a name is declared to give a type.
    fn declares(&self, to: &str, name: &str) -> bool {
        let gives = |role: Role| matches!(role, Role::Declares(schema) if schema.gives == to);
        let files = &self.context.compilation.files;
        let mut found = files.iter().flat_map(|file| names::declarations(&file.text));
        name.starts_with("std:") && to == "template"
            || found.any(|found| found.name == name && gives(found.role))
    }

    fn sources(&self) -> Vec<Offer> {
        let kind = self.context.text.kind(self.node);
        let mut offers = Vec::new();
        if kind == "model" && !self.quoted {
            let new = |architecture: &schema::Architecture| {
                let mut offer = Offer::new(format!("new:{}", architecture.name), Kind::EnumMember);
                offer.detail = "a new model, made from scratch".into();
                offer
            };
            offers.extend(schema::ARCHITECTURES.iter().map(new));
        }
        let wanted = |found: LockKind| match kind {
            "dataset" => found == LockKind::Dataset,
            // The tokenizer of a model can be taken by itself.
            "tokenizer" => found != LockKind::Dataset,
            _ => found == LockKind::Model,
        };
        // What stands behind `#` tells parts of a source apart in the lock file; a recipe has `config=`.
        let keys = self.context.sources.iter().filter(|(_, found)| wanted(*found));
        let written = keys.map(|(key, _)| key.split('#').next().unwrap_or(key));
        let pinned = |source: &str| {
            let mut offer = Offer::new(source, Kind::Reference);
            offer.insert = (!self.quoted).then(|| lang::resolved::quote(source));
            offer.detail = "pinned in adapt.lock".into();
            offer
        };
        offers.extend(written.collect::<BTreeSet<_>>().into_iter().map(pinned));
        offers.extend(self.paths(&[]));
        offers
    }

    fn paths(&self, endings: &[&str]) -> Vec<Offer> {
        let kind = self.context.text.kind(self.node);
        let endings = if kind == "use" { &[".kdl"][..] } else { endings };
        let written = &self.context.text.text[self.replace.clone()];
        files::offers(self.context, written, self.quoted, endings)
    }

    /// What the first rows of a dataset say: its columns and splits.
    fn in_data(&self, property: &str) -> Vec<Offer> {
        let text = self.context.text;
        let Some(rows) = rows(self.context, text.outline.path(self.node)[0]) else { return Vec::new() };
        let (found, detail) = match (text.kind(self.node), self.ty) {
            ("rows", Type::Text) => (&rows.columns, format!("a column of {}", rows.file)),
            ("split", Type::Text) if matches!(property, "train" | "eval") => {
                (&rows.splits, "a split of the source".to_owned())
            }
            _ => return Vec::new(),
        };
        let offer = |name: &String| {
            let mut offer = Offer::new(name.clone(), Kind::Value);
            let is_plain = names::refuse(name).is_none() && names::written(name) == *name;
            offer.insert = (!self.quoted && !is_plain).then(|| lang::resolved::quote(name));
            offer.detail = detail.clone();
            offer
        };
        found.iter().map(offer).collect()
    }
}

fn rows<'a, O>(context: &Context<'a, O>, dataset: usize) -> Option<&'a RowsFact> {
    let source = source(context.text, dataset)?;
    let path = recipe_paths::resolve(recipe_paths::folder(context.path), &source);
    context.facts.rows.get(&path).or_else(|| context.facts.rows.get(&source))
}

/// Returns the source that a declaration names behind its own name.
pub fn source(text: &Text, node: usize) -> Option<String> {
    let source = text.slots(node).find(|(_, slot)| matches!(slot.and_then(Slot::ty), Some(Type::Source)));
    source.and_then(|(entry, _)| entry.value.as_ref()).map(|token| text.value(token))
}

fn words(choices: &'static [Choice]) -> Vec<Offer> {
    let offer = |choice: &Choice| {
        let mut offer = Offer::new(choice.name, Kind::EnumMember);
        offer.doc = choice.doc.to_owned();
        later(&mut offer, choice.status);
        offer
    };
    choices.iter().map(offer).collect()
}

fn library(entry: &schema::LibraryEntry) -> Offer {
    let mut offer = Offer::new(format!("std:{}", entry.name), Kind::Module);
    offer.doc = entry.doc.to_owned();
    offer.detail = "comes with adapt".into();
    later(&mut offer, entry.status);
    offer
}

fn later(offer: &mut Offer, status: Status) {
    if status == Status::Later {
        offer.detail = "this version cannot do it yet".into();
        offer.rank = Rank::Later;
    }
}

fn declared(name: &str, schema: &Node, quoted: bool) -> Offer {
    let mut offer = Offer::new(name, Kind::Variable);
    offer.insert = (!quoted).then(|| names::written(name));
    offer.detail = format!("{} of this recipe", schema.name);
    offer.doc = schema.doc.to_owned();
    offer
}

/// The value of a parameter as it is written.
fn value_of(text: &Text, node: usize) -> Option<String> {
    let (entry, _) = text.slots(node).nth(1)?;
    Some(text.word(entry.value.as_ref()?).to_owned())
}

fn parameter(text: &Text, node: usize, name: &str) -> Offer {
    let mut offer = Offer::new(format!("${name}"), Kind::Constant);
    let value = value_of(text, node).map_or(String::new(), |value| format!(", {value}"));
    offer.detail = format!("parameter{}", lang::syntax::mask(&value));
    offer.rank = Rank::Aside;
    offer
}

/// Offers the fields of a model's config.json that its `config` block does not override yet.
pub fn config_fields<O>(context: &Context<O>, block: usize, written: &BTreeSet<&str>) -> Vec<Offer> {
    let text = context.text;
    let Some(model) = text.outline.nodes[block].parent.filter(|&model| text.kind(model) == "model") else {
        return Vec::new();
    };
    let Some(source) = source(text, model) else { return Vec::new() };
    let (name, config) = match source.strip_prefix("new:") {
        Some(name) => (Some(name), None),
        None => {
            let path = recipe_paths::resolve(recipe_paths::folder(context.path), &source);
            let models = &context.facts.models;
            let fact = models.get(&path).or_else(|| models.get(&source));
            let config = fact.map(|fact| &fact.config);
            (config.and_then(|config| config.get("model_type")).and_then(Json::as_str), config)
        }
    };
    let Some(architecture) = name.and_then(schema::architecture) else { return Vec::new() };
    let fields = architecture.fields.iter().filter(|field| !written.contains(field.name));
    fields
        .map(|field| {
            let mut offer = Offer::new(field.name, Kind::Field);
            let value = config.and_then(|config| config.get(field.name));
            let value = value.map_or(String::new(), |value| format!(" · {value} in config.json"));
            offer.detail = format!("{}{value}", field_type(field.ty));
            offer
        })
        .collect()
}

fn field_type(ty: FieldType) -> &'static str {
    match ty {
        FieldType::Integer => "a whole number",
        FieldType::Number => "a number",
        FieldType::Bool => "`#true` or `#false`",
        FieldType::Text => "a text",
        FieldType::Any => "any value",
    }
}
