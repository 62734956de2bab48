//! `format`: what is formatted says the same, keeps every character, and stays as it is when formatted again.

use crate::outcome::{Features, Finding, note, sound, timed};
use crate::random::hash;
use lang::facts::Facts;
use lang::format::{diff, format};
use lang::source::{Source, SourceId, SourceKind};
use lang::syntax::{self, Data, Node, Value};
use lang::{Input, check};

/// Texts with every mark of KDL.
pub fn forms() -> Vec<Vec<u8>> {
    let texts = [
        "a {\n b #\"\"\"\r\n  \\n // no\r\n  \"\"\"#  // yes\r\n}",
        "a \\ // x\n \\ // y\n 1 /- k = /* x */ 1 /-(t) 2\n/- a { b } c 1",
        "a; /* x */ b; /* y */ // z\n\n\nc {} /- {\n e } { f };",
        "\u{feff}a 0xFF +1_000 1.50e-3 \"q\" #true #\"r \" x\"# k=\"v\" \"k k\"=1 \\\n  \"\"\"\n   x\n   \"\"\"",
        "x { // a\nbcd 1 // b\n\n  e \"🦀\" // c\n\t/* d\n /* e */ */ f }\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub fn run(input: &[u8], features: &mut Features) -> Result<(), Finding> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(()) };
    let formatted = match timed(|| format(text)) {
        Ok(formatted) => formatted,
        Err(refused) => {
            if refused.diagnostics.is_empty() {
                return Err(Finding::new("refused without a reason", ""));
            }
            let source = Source { path: String::new(), kind: SourceKind::Recipe, text: text.to_owned() };
            refused.diagnostics.iter().for_each(|found| note(features, found));
            return refused
                .diagnostics
                .iter()
                .try_for_each(|found| sound(found, std::slice::from_ref(&source)));
        }
    };
    marks(text, features);
    keeps(text, &formatted)?;
    if is_sampled(text)
        && text.len() < 1 << 14
        && (diff(text, &formatted, "r.kdl").is_empty() != (text == formatted))
    {
        return Err(Finding::new("a diff that does not tell", ""));
    }
    Ok(())
}

/// Whether what takes long is done for a text: for one in four.
fn is_sampled(text: &str) -> bool {
    hash(text.as_bytes()).is_multiple_of(4)
}

fn keeps(text: &str, formatted: &str) -> Result<(), Finding> {
    let detail = || format!("{text}\n--- became\n{formatted}");
    let (old, _) = syntax::parse(SourceId(0), text);
    let (new, found) = syntax::parse(SourceId(0), formatted);
    if !found.is_empty() || tree(&old.nodes) != tree(&new.nodes) {
        return Err(Finding::new("formatting changed the tree", detail()));
    }
    if characters(text) != characters(formatted) {
        return Err(Finding::new("formatting changed characters", detail()));
    }
    match timed(|| format(formatted)) {
        Ok(again) if again == formatted => {}
        other => {
            return Err(Finding::new(
                "formatting again changes",
                format!("{}\n--- then\n{other:?}", detail()),
            ));
        }
    }
    if is_sampled(text) && said(text) != said(formatted) {
        let said = format!("{}\n--- says\n{:#?}\n--- then\n{:#?}", detail(), said(text), said(formatted));
        return Err(Finding::new("formatting changed what is found", said));
    }
    Ok(())
}

/// What a check says, without places.
fn said(text: &str) -> Vec<String> {
    let checked = check(&Input { path: "recipe.kdl", text, sets: &[] }, &Facts::default());
    let mut said: Vec<String> =
        checked.diagnostics.into_iter().map(|found| format!("{}: {}", found.code, found.message)).collect();
    said.sort();
    said
}

/// A tree without places; as text, in which not-a-number equals itself.
fn tree(nodes: &[Node]) -> String {
    let value = |value: &Value| match &value.data {
        Data::Number(number) => format!("{:x}", number.to_bits()),
        data => format!("{data:?}{}", if value.bare { " bare" } else { "" }),
    };
    let node = |node: &Node| {
        let arguments: Vec<String> = node.arguments.iter().map(value).collect();
        let properties: Vec<String> = node
            .properties
            .iter()
            .map(|property| format!("{:?}={}", property.key.text, value(&property.value)))
            .collect();
        let block = if node.has_block { format!(" {{ {} }}", tree(&node.children)) } else { String::new() };
        format!("{:?} {arguments:?} {properties:?}{block}\n", node.name.text)
    };
    nodes.iter().map(node).collect()
}

/// All characters but those that formatting may change, sorted.
fn characters(text: &str) -> Vec<char> {
    let is_form = |c: char| c.is_whitespace() || matches!(c, '\u{feff}' | ';' | '\\');
    let mut characters: Vec<char> = text.chars().filter(|&c| !is_form(c)).collect();
    characters.sort_unstable();
    characters
}

/// Adds which pairs of marks a text has.
fn marks(text: &str, features: &mut Features) {
    let all = [
        "//", "/*", "/-", "\\\n", "\\ ", "\"\"\"", "#\"", ";", "\r", "{}", "\u{feff}", "\t", "=", "(", "\n\n",
    ];
    let here: Vec<&str> = all.into_iter().filter(|mark| text.contains(mark)).collect();
    for (at, one) in here.iter().enumerate() {
        features.extend(here[at..].iter().map(|other| hash(format!("{one}{other}").as_bytes())));
    }
}
