//! `--set`: legal paths with wild values, wild paths, and both against changed recipes.

use super::{PART, check};
use crate::mutate::mutate;
use crate::outcome::{Features, Finding};
use crate::random::Random;
use crate::seeds;
use crate::words;
use crate::world::World;
use lang::source::SourceId;
use lang::syntax::{self, Value};
use stdlib::schema::{self, Node, Type};

/// The cases of `tests/ui` that have arguments, as inputs.
pub fn cases() -> Vec<Vec<u8>> {
    let with_sets = |text: Vec<u8>| {
        let said = String::from_utf8_lossy(&text).into_owned();
        let sets: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("// set: ")).collect();
        (!sets.is_empty()).then(|| joined(&said, sets.into_iter().map(str::to_owned).collect()))
    };
    seeds::cases().into_iter().filter_map(with_sets).collect()
}

fn joined(text: &str, sets: Vec<String>) -> Vec<u8> {
    let mut input = text.as_bytes().to_vec();
    for set in sets {
        input.push(PART);
        input.extend(set.into_bytes());
    }
    input
}

/// A recipe and its arguments.
fn parts(input: &[u8]) -> (String, Vec<String>) {
    let mut parts = input.split(|&byte| byte == PART).map(|part| String::from_utf8_lossy(part).into_owned());
    (parts.next().unwrap_or_default(), parts.collect())
}

pub fn run(input: &[u8], features: &mut Features) -> Result<(), Finding> {
    let (text, sets) = parts(input);
    check::of_text(&text, &sets, World::of(input), features)
}

/// Draws arguments for a recipe, which is changed now and then.
pub fn input(base: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let (mut text, mut sets) = parts(base);
    if random.one_in(4) {
        let other = parts(random.pick::<Vec<u8>>(others)).0;
        let changed = mutate(text.as_bytes(), &[other.into_bytes()], false, random);
        text = String::from_utf8_lossy(&changed).into_owned();
    }
    if !random.one_in(3) {
        sets.clear();
    }
    let (document, _) = syntax::parse(SourceId(0), &text);
    let name = |node: &syntax::Node| node.arguments.first().and_then(Value::text).map(str::to_owned);
    let names: Vec<String> = document.nodes.iter().filter_map(name).collect();
    for _ in 0..=random.below(3) {
        let path = if random.one_in(12) { words::any(random) } else { path(&document.nodes, random) };
        let (path, ty) = path_of(&path, random);
        let ty = ty.filter(|_| random.one_in(2));
        let value = match ty {
            Some(ty) => words::value(ty, &names, random),
            None => words::any(random),
        };
        // Quotes are not needed there, and are part of the text when they stand.
        let value = if random.one_in(6) { value } else { value.trim_matches('"').to_owned() };
        sets.push(if random.one_in(60) { path } else { format!("{path}={value}") });
    }
    joined(&text, sets)
}

/// Draws a full path of some value that the schema allows.
fn path(nodes: &[syntax::Node], random: &mut Random) -> String {
    let Some(top) = (!nodes.is_empty()).then(|| random.pick(nodes)) else { return words::any(random) };
    let name = top.arguments.first().and_then(Value::text).unwrap_or("defaults");
    let Some(mut schema) = schema::top(&top.name.text) else { return name.to_owned() };
    let mut parts = vec![name.to_owned()];
    if schema.name == "param" {
        return parts.remove(0);
    }
    while !schema.children.is_empty() && (parts.len() <= 1 || !random.one_in(2)) {
        let child: &'static Node = random.one(schema.children);
        parts.push(child.name.to_owned());
        schema = child;
    }
    if !schema.properties.is_empty() && random.one_in(2) {
        parts.push(random.pick(schema.properties).name.to_owned());
    }
    parts.join(".")
}

/// Leaves parts out, adds some, or means all; returns the type that the last part may have.
fn path_of(path: &str, random: &mut Random) -> (String, Option<Type>) {
    let mut parts: Vec<&str> = path.split('.').collect();
    let last = parts.last().copied().unwrap_or_default();
    match random.below(8) {
        0 => drop(parts.drain(..parts.len() - 1)),
        1 if parts.len() > 2 => drop(parts.remove(1)),
        2 => parts = vec!["*", last],
        3 if random.one_in(4) => parts.push(random.one(&words::WORDS)),
        _ => {}
    }
    (parts.join("."), type_of(last))
}

fn type_of(name: &str) -> Option<Type> {
    let nodes = words::NODES.get(name).into_iter().flatten();
    let argument = nodes.filter_map(|node| node.arguments.first()).map(|argument| argument.ty).next();
    let properties = words::NODES.values().flatten().flat_map(|node| node.properties);
    argument.or(properties.filter(|property| property.name == name).map(|property| property.ty).next())
}
