//! Where the cursor is: which node, and what of it is being written.

use crate::text::{Text, arguments_before};
use crate::tokens::{Kind, Token};
use std::ops::Range;

/// What may be written at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The kind word of a node, in one of these blocks; the likeliest first.
    Node { blocks: Vec<Option<usize>>, replace: Range<usize>, node: Option<usize> },
    /// A value or the name of a property, behind so many values.
    Entry { node: usize, place: usize, replace: Range<usize> },
    /// The name of a property that has its `=` already.
    Key { node: usize, replace: Range<usize> },
    /// The value of a property, or with quotes begun that of an argument.
    Value { node: usize, key: Option<Range<usize>>, place: usize, replace: Range<usize>, quoted: bool },
}

/// How many blocks without their braces are taken into account.
const MOST_IN_DOUBT: usize = 4;

/// Finds out what may be written at a byte; nothing within comments and behind closed texts.
pub fn at(text: &Text, at: usize) -> Option<Place> {
    if is_in_comment(text, at) {
        return None;
    }
    match text.outline.header_at(at) {
        Some(node) if at <= text.outline.nodes[node].name.range.end => {
            let replace = text.outline.nodes[node].name.range.clone();
            let blocks = blocks(text, at, text.outline.nodes[node].parent);
            Some(Place::Node { blocks, replace, node: Some(node) })
        }
        Some(node) => on_line(text, node, at),
        None if follows_brace(text, at) => None,
        None => {
            let blocks = blocks(text, at, text.outline.block_at(at));
            Some(Place::Node { blocks, replace: at..at, node: None })
        }
    }
}

fn is_in_comment(text: &Text, at: usize) -> bool {
    let behind = text.outline.tokens.partition_point(|token| token.range.start < at);
    let Some(token) = behind.checked_sub(1).map(|index| &text.outline.tokens[index]) else { return false };
    let word = text.word(token);
    let open = word.starts_with("//") || !word.ends_with("*/");
    token.kind == Kind::Comment && (at < token.range.end || open && at == token.range.end)
}

/// Whether a closing brace stands before the cursor on its line; no node can follow it there.
fn follows_brace(text: &Text, at: usize) -> bool {
    let behind = text.outline.tokens.partition_point(|token| token.range.start < at);
    behind > 0 && text.outline.tokens[behind - 1].kind == Kind::Close
}

/// Returns the block, and when braces are missing the others that a node may be meant for.
fn blocks(text: &Text, at: usize, parent: Option<usize>) -> Vec<Option<usize>> {
    let mut blocks = vec![parent];
    if text.outline.in_doubt {
        let nodes = text.outline.nodes.iter().enumerate().rev();
        let open = nodes
            .filter(|(_, node)| node.block.as_ref().is_some_and(|block| !block.closed && block.open < at));
        blocks.extend(open.take(MOST_IN_DOUBT).map(|(node, _)| Some(node)));
        blocks.push(None);
        let all = blocks.clone();
        let mut index = 0;
        blocks.retain(|block| {
            index += 1;
            !all[..index - 1].contains(block)
        });
    }
    blocks
}

fn on_line(text: &Text, node: usize, at: usize) -> Option<Place> {
    let written = &text.outline.nodes[node];
    let place = arguments_before(written, at);
    for entry in &written.entries {
        if let Some(key) = entry.key.as_ref().filter(|key| touches(key, at)) {
            return Some(Place::Key { node, replace: key.range.clone() });
        }
        let key = entry.key.as_ref().map(|key| key.range.clone());
        match &entry.value {
            Some(value) if touches(value, at) => return within(node, key, place, value, at),
            // Between the `=` and the value, or where the value is missing.
            value => {
                let next = value.as_ref().map_or(usize::MAX, |value| value.range.start);
                if entry.equals.is_some_and(|equals| equals <= at && at < next) {
                    return Some(Place::Value { node, key, place, replace: at..at, quoted: false });
                }
            }
        }
    }
    Some(Place::Entry { node, place, replace: at..at })
}

fn touches(token: &Token, at: usize) -> bool {
    token.range.start <= at && at <= token.range.end
}

/// The cursor stands in a value, or at one of its ends.
fn within(node: usize, key: Option<Range<usize>>, place: usize, value: &Token, at: usize) -> Option<Place> {
    // The value itself is not one of those before it.
    let place = place - usize::from(key.is_none() && value.range.start < at);
    if value.kind == Kind::Text {
        let inner = value.inner();
        let inside = inner.start <= at && at <= inner.end;
        return inside.then_some(Place::Value { node, key, place, replace: inner, quoted: true });
    }
    let replace = value.range.clone();
    Some(match key {
        Some(_) => Place::Value { node, key, place, replace, quoted: false },
        None => Place::Entry { node, place, replace },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says where the cursor is that a `|` marks.
    fn place(marked: &str) -> String {
        let at = marked.find('|').expect("the cursor is marked");
        let text = Text::of(marked.replacen('|', "", 1));
        let name = |node: usize| text.kind(node).to_owned();
        let word = |range: &Range<usize>| text.text[range.clone()].to_owned();
        match super::at(&text, at) {
            None => "nothing".into(),
            Some(Place::Node { blocks, replace, .. }) => {
                let blocks: Vec<String> =
                    blocks.into_iter().map(|block| block.map_or("file".into(), name)).collect();
                format!("node in {} for `{}`", blocks.join(", "), word(&replace))
            }
            Some(Place::Entry { node, place, replace }) => {
                format!("entry {place} of {} for `{}`", name(node), word(&replace))
            }
            Some(Place::Key { node, replace }) => format!("key of {} for `{}`", name(node), word(&replace)),
            Some(Place::Value { node, key, place, replace, quoted }) => {
                let key = key.map_or(place.to_string(), |key| word(&key));
                let quotes = if quoted { " in quotes" } else { "" };
                format!("value of {key} of {} for `{}`{quotes}", name(node), word(&replace))
            }
        }
    }

    fn check(marked: &str, expected: &str) {
        assert_eq!(place(marked), expected, "{marked:?}");
    }

    #[test]
    fn kind_words_stand_in_blocks() {
        check("|", "node in file for ``");
        check("mo|d", "node in file for `mod`");
        check("sft a {\n    |\n}", "node in sft for ``");
        check("sft a {\n    opt|\n}", "node in sft for `opt`");
        check("sft a { b 1; |}", "node in sft for ``");
        check("sft a {\n}\n|", "node in file for ``");
        check("sft a {\n}|", "nothing");
    }

    #[test]
    fn a_missing_brace_leaves_both_blocks_open() {
        check("sft a {\n    |\ndpo b {\n}", "node in sft, file for ``");
        check("sft a {\nmo|\n", "node in file, sft for `mo`");
    }

    #[test]
    fn values_and_properties_stand_on_lines() {
        check("optimizer |", "entry 0 of optimizer for ``");
        check("optimizer ad| lr=1", "entry 0 of optimizer for `ad`");
        check("optimizer adamw | lr=1", "entry 1 of optimizer for ``");
        check("optimizer adamw lr|=1", "key of optimizer for `lr`");
        check("optimizer adamw lr=|", "value of lr of optimizer for ``");
        check("optimizer adamw lr=1|", "value of lr of optimizer for `1`");
        check("use \"./c|\"", "value of 0 of use for `./c` in quotes");
        check("use \"./c|", "value of 0 of use for `./c` in quotes");
        check("use \"./c\"|", "nothing");
        check("a 1 // |", "nothing");
        check("a 1 |// x", "entry 1 of a for ``");
        check("/* | */", "nothing");
    }
}
