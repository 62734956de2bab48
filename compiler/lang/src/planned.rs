//! What this version plans but cannot run: which nodes, and their settings as plain data.

use crate::capability::Missing;
use crate::names::Names;
use crate::recipe::{Planned, Ref};
use crate::rules::data::row_type;
use crate::rules::source_key;
use crate::tree::{Item, Slot};
use crate::values::Typed;
use serde_json::{Map, Number, Value as Json, json};
use std::collections::BTreeSet;
use stdlib::schema::{Type, Unit};

/// Children that say how a stage is carried out and reported, and do not shape its result.
const CONDUCT: [&str; 4] = ["checkpoint", "sample", "evaluate", "recompute"];

/// Nodes that a run has nothing to do for.
const SILENT: [&str; 4] = ["adapt", "use", "param", "defaults"];

/// Returns the names of the items that cannot be run: those that lack something, and all that use them.
pub fn unrunnable<'a>(names: &Names<'a>, later: &[(String, Missing)]) -> BTreeSet<&'a str> {
    let lacks = |item: &Item| !item.later.is_empty() || later.iter().any(|(name, _)| name == item.declared());
    let mut found: BTreeSet<&str> =
        names.items.iter().filter(|item| lacks(item)).map(Item::declared).collect();
    // Chains are followed to their end: each round reaches one stage further.
    loop {
        let before = found.len();
        for item in names.items.iter().filter(|item| item.name.is_some()) {
            if names.references(item).iter().any(|(_, name, ..)| found.contains(name)) {
                found.insert(item.declared());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Describes everything that cannot be run, and the ingredients that it is made of.
pub fn all(names: &Names, folders: &[String], later: &[(String, Missing)]) -> Vec<Planned> {
    let refused = unrunnable(names, later);
    let mut found: Vec<Planned> = Vec::new();
    let is_refused = |item: &&Item| item.name.is_some() && refused.contains(item.declared());
    for item in names.items.iter().filter(is_refused) {
        found.extend(planned(names, folders, later, item));
    }
    let mut at = 0;
    while at < found.len() {
        let refs: Vec<String> = found[at].refs.iter().map(|(_, reference)| reference.name.clone()).collect();
        for item in refs.iter().filter_map(|name| names.find(name)) {
            let is_known = found.iter().any(|known| known.name == item.declared());
            if !is_known && matches!(item.kind(), "dataset" | "mix" | "template") {
                let described = planned(names, folders, later, item);
                found.extend(described.map(|planned| Planned { runnable: true, ..planned }));
            }
        }
        at += 1;
    }
    found
}

/// Describes an item.
fn planned(names: &Names, folders: &[String], later: &[(String, Missing)], item: &Item) -> Option<Planned> {
    if SILENT.contains(&item.kind()) {
        return None;
    }
    let refs = names.references(item).into_iter();
    let refs = refs.map(|(path, name, span, _)| (path, Ref { name: name.to_owned(), span })).collect();
    let own = item.later.iter().cloned();
    let facts = later.iter().filter(|(name, _)| name == item.declared()).map(|(_, missing)| missing.clone());
    let is_data = matches!(item.schema.gives, "data");
    let is_ingredient = matches!(item.kind(), "model" | "tokenizer" | "template" | "dataset" | "mix");
    Some(Planned {
        name: item.declared().to_owned(),
        at: item.at,
        kind: item.kind().to_owned(),
        is_stage: !is_ingredient,
        runnable: false,
        rows: is_data.then(|| row_type(names, item)).flatten().map(str::to_owned),
        source: source_key(folders, item).filter(|_| is_ingredient),
        refs,
        settings: settings(item, &|child| !is_conduct(item, child)),
        conduct: children(item, &|child| is_conduct(item, child)).into(),
        missing: own.chain(facts).collect(),
    })
}

/// A checkpoint that is chosen by its measure shapes the result.
fn is_conduct(item: &Item, child: &Item) -> bool {
    item.schema.training
        && CONDUCT.contains(&child.kind())
        && child.property("best").is_none()
        && !(child.kind() == "evaluate"
            && item.child("checkpoint").is_some_and(|checkpoint| checkpoint.property("best").is_some()))
}

/// Returns the options of a node: arguments and properties by their names, children by theirs.
fn settings(item: &Item, includes: &dyn Fn(&Item) -> bool) -> Json {
    let mut fields = Map::new();
    for argument in item.schema.arguments {
        let mut values: Vec<Json> =
            item.arguments.iter().filter(|slot| slot.name == argument.name).map(value).collect();
        match (argument.repeats, values.pop()) {
            (_, None) => {}
            (false, Some(last)) => {
                fields.insert(argument.name.to_owned(), last);
            }
            (true, Some(last)) => {
                values.push(last);
                fields.insert(argument.name.to_owned(), values.into());
            }
        }
    }
    fields.extend(item.properties.iter().map(|slot| (slot.name.to_owned(), value(slot))));
    fields.extend(children(item, includes));
    fields.extend(item.config.iter().map(|(name, json)| (name.value.clone(), json.value.clone())));
    fields.into()
}

fn children(item: &Item, includes: &dyn Fn(&Item) -> bool) -> Map<String, Json> {
    let mut fields = Map::new();
    for child in item.children.iter().filter(|child| includes(child)) {
        let inner = settings(child, &|_| true);
        match fields.get_mut(child.kind()) {
            Some(Json::Array(list)) => list.push(inner),
            Some(first) => *first = vec![first.take(), inner].into(),
            // Nearly always there is one, so that several are the form that differs.
            None if child.schema.repeats && child.kind() != "evaluate" => {
                fields.insert(child.kind().to_owned(), vec![inner].into());
            }
            None => {
                fields.insert(child.kind().to_owned(), inner);
            }
        }
    }
    fields
}

fn value(slot: &Slot) -> Json {
    match &slot.value {
        Typed::Broken => Json::Null,
        Typed::Text(text) => json!(text),
        Typed::Word(word) => json!(word),
        Typed::Integer(value) => json!(value),
        Typed::Number(value) => number(*value),
        Typed::Bool(on) => json!(on),
        Typed::Quantity(value, unit) => match slot.ty {
            Type::Quantity { bare: Some(bare), .. } if bare == unit => number(*value),
            _ => json!({ unit_key(*unit): number(*value) }),
        },
    }
}

fn unit_key(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Time => "seconds",
        Unit::Size => "bytes",
        unit => unit.noun(),
    }
}

/// Whole numbers stay whole.
fn number(value: f64) -> Json {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return json!(value as i64);
    }
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}
