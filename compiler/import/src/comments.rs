//! The comments of a file that explain values, and the keys they belong to.
//!
//! Headings, commented-out keys and the help texts that LitGPT writes into its files explain nothing
//! that the recipe still says, and are left behind.

use crate::kdl::Comments;
use crate::problem::Place;
use crate::yaml::Node;
use std::collections::HashMap;

/// A comment: where it stands, its text, and whether it has the line for itself.
struct Comment {
    line: u32,
    indent: usize,
    text: String,
    alone: bool,
}

/// What a file says in comments.
#[derive(Debug, Default)]
pub(crate) struct Explained {
    /// What stands before everything else.
    pub header: Vec<String>,
    by_key: HashMap<String, Comments>,
}

impl Explained {
    /// Reads the comments of a text whose keys are known.
    pub fn of<'a>(
        text: &str,
        documents: &[Node],
        keys: impl Iterator<Item = (&'a str, Place)>,
        is_key: impl Fn(&str) -> bool,
    ) -> Self {
        let mut at_line: HashMap<u32, (String, String)> = HashMap::new();
        for (key, place) in keys {
            let names = at_line.entry(place.line).or_insert_with(|| (key.to_owned(), String::new()));
            names.1 = key.to_owned();
        }
        let comments = find(text, documents);
        let mut explained = Self::default();
        let is_code = |line: &str| is_commented_out(line, &is_key);
        for comment in comments.iter().filter(|comment| !comment.alone) {
            let Some((_, key)) = at_line.get(&comment.line) else { continue };
            let text = plain(&comment.text);
            if explains(&text) && !is_code(&text) {
                explained.by_key.entry(key.clone()).or_default().beside = Some(text);
            }
        }
        for block in blocks(&comments) {
            let last = block[block.len() - 1];
            let next = last.line + 1;
            // What is indented deeper than the line below ends what stands above.
            let below = text.lines().nth(last.line as usize).unwrap_or_default();
            if last.indent > below.len() - below.trim_start().len() {
                continue;
            }
            let texts = block.iter().map(|comment| plain(&comment.text)).collect::<Vec<_>>();
            if texts.iter().any(|text| is_tool_help(text)) {
                continue;
            }
            let kept: Vec<String> =
                texts.into_iter().filter(|text| explains(text) && !is_code(text)).collect();
            if let Some((key, _)) = at_line.get(&next) {
                explained.by_key.entry(key.clone()).or_default().above.extend(kept);
            } else if at_line.keys().min().is_some_and(|first| next < *first) {
                explained.header.extend(kept);
            }
        }
        explained
    }

    /// Returns what is said about a key.
    pub fn about(&self, key: &str) -> Comments {
        self.by_key.get(key).cloned().unwrap_or_default()
    }
}

/// Groups comments that stand alone on lines that follow each other.
fn blocks(comments: &[Comment]) -> Vec<Vec<&Comment>> {
    let mut blocks: Vec<Vec<&Comment>> = Vec::new();
    for comment in comments.iter().filter(|comment| comment.alone) {
        match blocks.last_mut() {
            Some(block) if block.last().is_some_and(|last| last.line + 1 == comment.line) => {
                block.push(comment)
            }
            _ => blocks.push(vec![comment]),
        }
    }
    blocks
}

/// Finds `#` outside of scalars, at the start of a line or after white space.
fn find(text: &str, documents: &[Node]) -> Vec<Comment> {
    let mut scalars: Vec<(usize, usize)> = Vec::new();
    documents.iter().for_each(|document| collect(document, &mut scalars));
    scalars.sort_unstable();
    let mut comments = Vec::new();
    let mut start = 0;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        let hash = line.bytes().enumerate().find(|&(column, byte)| {
            let follows_space = column == 0 || matches!(line.as_bytes()[column - 1], b' ' | b'\t');
            byte == b'#' && follows_space && !is_inside(&scalars, start + column)
        });
        if let Some((column, _)) = hash {
            comments.push(Comment {
                line: at as u32 + 1,
                indent: column,
                text: line[column..].trim_end().to_owned(),
                alone: line[..column].trim().is_empty(),
            });
        }
        start += line.len();
    }
    comments
}

fn collect(node: &Node, scalars: &mut Vec<(usize, usize)>) {
    for pair in node.pairs() {
        scalars.push((pair.at.start as usize, pair.at.end as usize));
        collect(&pair.value, scalars);
    }
    node.items().iter().for_each(|item| collect(item, scalars));
    if node.pairs().is_empty() && node.items().is_empty() {
        scalars.push((node.at.start as usize, node.at.end as usize));
    }
}

/// Whether a byte lies in one of the ranges, which are sorted by their start.
fn is_inside(ranges: &[(usize, usize)], byte: usize) -> bool {
    let before = ranges.partition_point(|(start, _)| *start <= byte);
    // Scalars do not overlap, but several aliases may stand for one range.
    ranges[..before].iter().rev().take(8).any(|(_, end)| byte < *end)
}

/// Removes the marks and decoration of a comment.
fn plain(comment: &str) -> String {
    let is_decoration = |c: char| matches!(c, '#' | '=' | '-' | '*' | ' ' | '\t');
    let inner = comment.trim_start_matches('#').trim();
    if inner.chars().all(is_decoration) {
        return String::new();
    }
    let framed = inner.starts_with(['=', '*']) || (inner.starts_with("--") && inner.ends_with("--"));
    // `=== Data ===` is a heading.
    if framed { String::new() } else { inner.to_owned() }
}

/// Whether a comment says something about a value.
fn explains(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_heading =
        ["arguments", "config", "configuration", "parameters", "hyperparameters", "settings", "defaults"]
            .iter()
            .any(|word| lower.ends_with(word))
            || (text.ends_with(':') && text.split_whitespace().count() <= 4)
            || [
                "Model Configuration",
                "Dataset Configuration",
                "Training Configuration",
                "For definitions, see",
            ]
            .iter()
            .any(|start| text.starts_with(start));
    let is_command = ["cd ", "axolotl train", "accelerate launch", "python ", "litgpt ", "start:"]
        .iter()
        .any(|start| lower.starts_with(start));
    let is_choice = lower.starts_with("one of [") || is_command;
    text.chars().any(char::is_alphabetic) && !is_heading && !is_choice
}

/// Whether a comment is a key that was switched off, or an item of a list.
fn is_commented_out(text: &str, is_key: &impl Fn(&str) -> bool) -> bool {
    if text.starts_with("- ") {
        return true;
    }
    let Some((word, rest)) = text.split_once(':') else { return false };
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    is_word && (rest.is_empty() || rest.starts_with(' ')) && (word.contains('_') || is_key(word))
}

/// Whether a line is of the help that LitGPT writes above every key.
fn is_tool_help(text: &str) -> bool {
    text.contains("(type: ")
        || text.contains("-related arguments")
        || text.starts_with("Whether to evaluate on the validation set")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Ledger;
    use crate::yaml;

    fn explained(text: &str) -> Explained {
        let documents = yaml::load(text).expect("it is YAML");
        let mut ledger = Ledger::default();
        ledger.enter(&documents[0], "");
        Explained::of(text, &documents, ledger.keys(), |word| word == "b")
    }

    #[test]
    fn comments_belong_to_the_key_below_or_beside() {
        let text = "# why this file\n\n# about a\na: 1 # beside a\n# b: 3\nb:\n  # x\n  # in c\n  - c: \"#d\" # c's\n";
        let found = explained(text);
        assert_eq!(found.header, ["why this file"]);
        assert_eq!(found.about("a").above, ["about a"]);
        assert_eq!(found.about("a").beside.as_deref(), Some("beside a"));
        assert!(found.about("b").above.is_empty(), "a commented-out key");
        assert_eq!(found.about("b[0].c").above, ["x", "in c"]);
        assert_eq!(found.about("b[0].c").beside.as_deref(), Some("c's"));
    }

    #[test]
    fn headings_and_help_are_left_behind() {
        let text = "###\n# Model Configuration: X\n###\na: 1\n# === Data ===\nb: 2\n# The rank. (type: int, default: 8)\nc: 3\n";
        let found = explained(text);
        for key in ["a", "b", "c"] {
            assert!(found.about(key).above.is_empty(), "{key}: {:?}", found.about(key));
        }
    }

    #[test]
    fn a_hash_in_a_block_is_text() {
        let found = explained("a: |\n  # not a comment\n  x\nb: 1 # one\n");
        assert!(found.about("a").beside.is_none());
        assert_eq!(found.about("b").beside.as_deref(), Some("one"));
    }
}
