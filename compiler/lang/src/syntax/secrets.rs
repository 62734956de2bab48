//! Finds literals that look like secrets, so that they are refused and never printed.

use super::{Data, Node, Value};
use crate::diagnostic::Diagnostic;

/// Openings of well-known secrets, with the least number of characters that must follow.
const OPENINGS: [(&str, usize); 24] = [
    ("hf_", 20),
    ("api_org_", 20),
    ("sk-", 20),
    ("gsk_", 20),
    ("nvapi-", 20),
    ("wandb_v1_", 20),
    ("r8_", 30),
    ("rpa_", 30),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("dckr_pat_", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("glpat-", 16),
    ("AKIA", 16),
    ("ASIA", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("AIza", 30),
    ("-----BEGIN ", 2),
];

/// Returns the ranges of bytes that look like secrets.
fn find(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (opening, least) in OPENINGS {
        for (start, _) in text.match_indices(opening) {
            let end = secret_end(text, start + opening.len());
            if end - start - opening.len() >= least && begins_word(text, start) {
                found.push((start, end));
            }
        }
    }
    found.extend(text.match_indices("://").filter_map(|(at, mark)| password(text, at + mark.len())));
    found
}

/// The password of an address, as in `https://name:password@host`.
fn password(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = &text[from..];
    let is_end = |c: char| matches!(c, '/' | '?' | '#' | '"') || c.is_whitespace();
    let authority = &rest[..rest.find(is_end).unwrap_or(rest.len())];
    let (login, _) = authority.rsplit_once('@')?;
    let (name, word) = login.split_once(':').filter(|(_, word)| !word.is_empty())?;
    let start = from + name.len() + 1;
    Some((start, start + word.len()))
}

fn secret_end(text: &str, from: usize) -> usize {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    from + text.as_bytes()[from..].iter().take_while(|&&b| is_part(b)).count()
}

fn begins_word(text: &str, start: usize) -> bool {
    start == 0 || !text.as_bytes()[start - 1].is_ascii_alphanumeric()
}

/// Replaces what looks like a secret by stars, without moving anything.
pub fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (start, end) in find(text) {
        bytes[start..end].fill(b'*');
    }
    String::from_utf8(bytes).expect("only whole characters were replaced")
}

/// Reports every value that looks like a secret.
pub fn report(nodes: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    for node in nodes {
        let properties = node.properties.iter().map(|property| &property.value);
        for value in node.arguments.iter().chain(properties) {
            report_value(value, diagnostics);
        }
        report(&node.children, diagnostics);
    }
}

fn report_value(value: &Value, diagnostics: &mut Vec<Diagnostic>) {
    let Data::Text(text) = &value.data else { return };
    if find(text).is_empty() {
        return;
    }
    diagnostics.push(
        Diagnostic::error("secret-in-recipe", "this text looks like a secret", value.span, "not printed")
            .with_help("remove it, revoke it, and set the environment variable that the service reads, such as `HF_TOKEN`"),
    );
}
