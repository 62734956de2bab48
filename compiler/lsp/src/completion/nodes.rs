//! Kind words of nodes and names of properties.

use super::{Context, Offer, Rank};
use crate::describe;
use crate::text::Text;
use lsp_types::CompletionItemKind;
use std::collections::BTreeSet;
use std::ops::Range;
use stdlib::schema::{self, Node, Status};

/// Offers the nodes that may stand in one of the blocks; `here` is the node that is being written.
pub fn offers<O>(context: &Context<O>, blocks: &[Option<usize>], here: Option<usize>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        for mut offer in of_block(context, *block, here) {
            if index > 0 {
                offer.rank = offer.rank.max(Rank::Aside);
            }
            if offers.iter().all(|known| known.label != offer.label) {
                offers.push(offer);
            }
        }
    }
    offers
}

fn of_block<O>(context: &Context<O>, block: Option<usize>, here: Option<usize>) -> Vec<Offer> {
    let text = context.text;
    let written: BTreeSet<&str> = text
        .outline
        .children(block)
        .filter(|&child| Some(child) != here)
        .map(|child| text.kind(child))
        .collect();
    let Some(owner) = block else { return top(context, &written, here) };
    let Some(schema) = likely(text, owner) else { return Vec::new() };
    if schema.open {
        return super::values::config_fields(context, owner, &written);
    }
    let supplied = supplied(context, schema, owner);
    let groups: BTreeSet<&str> = schema
        .children
        .iter()
        .filter(|child| !child.group.is_empty() && written.contains(child.name))
        .map(|child| child.group)
        .collect();
    let is_free = |child: &&&Node| {
        (child.repeats || !written.contains(child.name))
            && (child.group.is_empty() || !groups.contains(child.group))
    };
    schema.children.iter().filter(is_free).map(|child| of_child(schema, child, &supplied)).collect()
}

/// The children that a stage need not write: those that `defaults` supply, or the stage that it is `like`.
fn supplied<'a, O>(context: &Context<'a, O>, stage: &Node, node: usize) -> BTreeSet<&'a str> {
    let mut supplied = BTreeSet::new();
    if !stage.training {
        return supplied;
    }
    let like = like(context.text, node);
    for file in &context.compilation.files {
        let text = &file.text;
        let supplies = |node: &usize| match text.kind(*node) {
            "defaults" => text.first_word(*node).is_none_or(|kind| kind == stage.name),
            _ => like.is_some() && text.declared(*node).map(|name| text.value(name)) == like,
        };
        for node in text.outline.children(None).filter(supplies) {
            supplied.extend(text.outline.children(Some(node)).map(|child| text.kind(child)));
        }
    }
    supplied
}

/// Returns the name of the stage that a stage is like.
fn like(text: &Text, node: usize) -> Option<String> {
    let mut entries = text.outline.nodes[node].entries.iter();
    let like = entries.find(|entry| entry.key.as_ref().is_some_and(|key| text.word(key) == "like"))?;
    like.value.as_ref().map(|value| text.value(value))
}

fn of_child(owner: &Node, child: &'static Node, supplied: &BTreeSet<&str>) -> Offer {
    // Exactly one child of a group is written: the budget of a stage, the form of a template.
    let in_group = |other: &&&Node| !child.group.is_empty() && other.group == child.group;
    let is_supplied = supplied.contains(child.name)
        || owner.children.iter().filter(in_group).any(|other| supplied.contains(other.name));
    let wanted = child.required || !child.group.is_empty();
    let required = wanted && owner.name != "defaults" && !is_supplied;
    let mut offer = of_node(child, CompletionItemKind::Property, required);
    if is_supplied {
        offer.detail = ["has it already, from `defaults` or `like`", &offer.detail]
            .join(" · ")
            .trim_end_matches(" · ")
            .to_owned();
    }
    offer
}

fn top<O>(context: &Context<O>, written: &BTreeSet<&str>, here: Option<usize>) -> Vec<Offer> {
    let has_version = written.contains("adapt");
    let is_new = here.is_none_or(|here| {
        let node = &context.text.outline.nodes[here];
        node.entries.is_empty() && node.block.is_none()
    });
    let kinds = schema::TOP.iter().filter(|node| node.name != "adapt" || !has_version);
    kinds
        .map(|node| {
            let mut offer = of_node(node, CompletionItemKind::Keyword, node.name == "adapt");
            offer.snippet = skeleton(node).filter(|_| is_new);
            if node.name == "adapt" {
                offer.insert = is_new.then(|| "adapt 1".to_owned());
            }
            offer
        })
        .collect()
}

fn of_node(node: &'static Node, kind: CompletionItemKind, required: bool) -> Offer {
    let mut offer = Offer::new(node.name, kind);
    offer.detail = describe::node(node, required);
    offer.doc = node.doc.to_owned();
    offer.rank = match node.status {
        Status::Later => Rank::Later,
        Status::Built if required => Rank::Required,
        Status::Built => Rank::Optional,
    };
    offer
}

/// The node with its block, for editors that take places to fill in.
fn skeleton(node: &Node) -> Option<String> {
    if node.children.is_empty() && !node.open {
        return None;
    }
    let name = if node.declares { " ${1:name}" } else { "" };
    let source = node.arguments.iter().find(|argument| argument.required);
    let source = source.filter(|_| node.declares).map_or("", |_| " \"${2}\"");
    Some(format!("{}{name}{source} {{\n    $0\n}}", node.name))
}

/// Offers the properties that a node lacks. `fresh`: their `=` is written too.
pub fn properties<O>(context: &Context<O>, node: usize, replace: &Range<usize>, fresh: bool) -> Vec<Offer> {
    let text = context.text;
    let Some(schema) = likely(text, node) else { return Vec::new() };
    let others = text.outline.nodes[node].entries.iter().filter_map(|entry| entry.key.as_ref());
    let written: BTreeSet<&str> =
        others.filter(|key| key.range != *replace).map(|key| text.word(key)).collect();
    let word = text.first_word(node);
    let fits = |property: &&schema::Property| {
        let takes = word.is_none_or(|word| property.only.is_empty() || property.only.contains(&word));
        takes && !written.contains(property.name)
    };
    schema
        .properties
        .iter()
        .filter(fits)
        .map(|property| {
            let mut offer = Offer::new(property.name, CompletionItemKind::Field);
            offer.insert = fresh.then(|| format!("{}=", property.name));
            offer.detail = describe::property(property);
            offer.doc = property.doc.to_owned();
            offer.rank = match property.status {
                Status::Later => Rank::Later,
                Status::Built if property.required => Rank::Required,
                Status::Built => Rank::Optional,
            };
            offer
        })
        .collect()
}

/// Returns the schema of a node; of one that is misspelt or half typed, what it most likely is to become.
pub fn likely(text: &Text, node: usize) -> Option<&'static Node> {
    let mut schema: Option<&'static Node> = None;
    for (depth, node) in text.outline.path(node).into_iter().enumerate() {
        let word = text.kind(node);
        schema = match text.schema(node) {
            Some(known) => Some(known),
            None if depth == 0 => near(schema::TOP, word).or_else(|| by_children(text, node)),
            None => near(schema?.children, word),
        };
    }
    schema
}

fn near(allowed: &'static [&'static Node], word: &str) -> Option<&'static Node> {
    let find = |name: &str| allowed.iter().copied().find(|node| node.name == name);
    let begun = || allowed.iter().copied().find(|node| !word.is_empty() && node.name.starts_with(word));
    let nearest = || lang::nearest(word, allowed.iter().map(|node| node.name)).and_then(find);
    find(word).or_else(begun).or_else(nearest)
}

/// The kind of node that what stands in the block fits best; a training stage when nothing does.
fn by_children(text: &Text, node: usize) -> Option<&'static Node> {
    text.outline.nodes[node].block.as_ref()?;
    let children: Vec<&str> = text.outline.children(Some(node)).map(|child| text.kind(child)).collect();
    let fit = |node: &Node| children.iter().filter(|child| node.child(child).is_some()).count();
    let best = schema::TOP.iter().copied().rev().max_by_key(|node| fit(node)).filter(|node| fit(node) > 0);
    best.or_else(|| schema::top("defaults"))
}
