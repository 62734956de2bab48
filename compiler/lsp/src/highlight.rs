//! Semantic tokens: what each word of a text is.

use crate::positions::Encoding;
use crate::text::{Slot, Text};
use crate::tokens::{Kind, Token};
use lsp_types::{SemanticToken, SemanticTokensLegend};
use std::collections::BTreeMap;
use std::ops::Range;
use stdlib::schema::Type;

/// What a word can be, in the order of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Keyword,
    Property,
    Variable,
    Parameter,
    EnumMember,
    String,
    Number,
    Comment,
    Namespace,
}

const CLASSES: [&str; 9] = [
    "keyword",
    "property",
    "variable",
    "parameter",
    "enumMember",
    "string",
    "number",
    "comment",
    "namespace",
];

/// The bit of the only modifier: a declaration.
const DECLARATION: u32 = 1;

/// Returns the names of what tokens can be.
pub fn legend() -> SemanticTokensLegend {
    SemanticTokensLegend {
        token_types: CLASSES.map(str::to_owned).to_vec(),
        token_modifiers: vec!["declaration".into()],
    }
}

/// Returns the tokens within a range of bytes.
pub fn tokens(text: &Text, within: Range<usize>, encoding: Encoding) -> Vec<SemanticToken> {
    let classes = classify(text);
    let mut last = (0, 0);
    let mut out = Vec::new();
    let shown =
        classes.iter().filter(|(_, (range, ..))| range.end > within.start && range.start < within.end);
    for (range, class, modifiers) in shown.map(|(_, found)| found) {
        // A token ends with its line.
        for piece in lines(text, range.clone()) {
            let at = text.lines.position(&text.text, piece.start, encoding);
            let same_line = at.line == last.0;
            out.push(SemanticToken {
                delta_line: at.line - last.0,
                delta_start: if same_line { at.character - last.1 } else { at.character },
                length: encoding.measure(&text.text[piece]) as u32,
                token_type: *class as u32,
                token_modifiers_bitset: *modifiers,
            });
            last = (at.line, at.character);
        }
    }
    out
}

type Classes = BTreeMap<usize, (Range<usize>, Class, u32)>;

fn classify(text: &Text) -> Classes {
    let mut classes = Classes::new();
    let mut put = |range: Range<usize>, class: Class, modifiers: u32| {
        classes.insert(range.start, (range, class, modifiers));
    };
    for (index, node) in text.outline.nodes.iter().enumerate() {
        // What `/-` takes out is a comment.
        let live = |class: Class| if node.dropped { Class::Comment } else { class };
        let name = if node.parent.is_none() { Class::Keyword } else { Class::Property };
        put(node.name.range.clone(), live(name), 0);
        for (entry, slot) in text.slots(index) {
            if let Some(key) = &entry.key {
                put(key.range.clone(), live(Class::Property), 0);
            }
            if let Some(value) = &entry.value {
                let modifiers = if matches!(slot, Some(Slot::Name)) { DECLARATION } else { 0 };
                put(value.range.clone(), live(class(text, index, value, slot)), modifiers);
            }
        }
    }
    let comments = text.outline.tokens.iter().filter(|token| token.kind == Kind::Comment);
    comments.for_each(|token| put(token.range.clone(), Class::Comment, 0));
    classes.retain(|_, (range, ..)| range.start < range.end);
    classes
}

fn class(text: &Text, node: usize, value: &Token, slot: Option<Slot>) -> Class {
    let word = text.word(value);
    let unsigned = word.trim_start_matches(['+', '-']);
    match slot.and_then(Slot::ty) {
        _ if value.kind == Kind::Word && word.starts_with('$') => Class::Parameter,
        _ if matches!(slot, Some(Slot::Name)) && text.kind(node) == "param" => Class::Parameter,
        _ if matches!(slot, Some(Slot::Name)) => Class::Variable,
        Some(Type::Reference(_) | Type::NameOr { .. }) if word.starts_with("std:") => Class::Namespace,
        Some(Type::Word(_)) if value.kind == Kind::Word => Class::EnumMember,
        Some(Type::NameOr { words, .. }) if words.iter().any(|choice| choice.name == word) => {
            Class::EnumMember
        }
        Some(Type::Reference(_) | Type::NameOr { .. }) => Class::Variable,
        _ if value.kind == Kind::Text => Class::String,
        _ if unsigned.starts_with(|c: char| c.is_ascii_digit()) => Class::Number,
        _ if word.starts_with('#') => Class::EnumMember,
        _ => Class::String,
    }
}

/// Cuts a range at the ends of its lines.
fn lines(text: &Text, range: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let (first, last) = (text.lines.line(range.start), text.lines.line(range.end));
    (first..=last).filter_map(move |line| {
        let line = text.lines.bytes(&text.text, line)?;
        let piece = line.start.max(range.start)..line.end.min(range.end);
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_the_schema_says() {
        let text = Text::of(
            "param n 2\nsft é {\n  model m; batch $n\n  template std:zephyr // x\n  /-seed 1\n}\ntemplate t {\n  jinja \"\"\"\n  a\n  \"\"\"\n}".into(),
        );
        let mut line = 0;
        let mut column = 0;
        let source: Vec<&str> = text.text.split('\n').collect();
        let mut found = Vec::new();
        for token in tokens(&text, 0..text.text.len(), Encoding::Utf8) {
            column = if token.delta_line == 0 { column + token.delta_start } else { token.delta_start };
            line += token.delta_line;
            let word = &source[line as usize][column as usize..(column + token.length) as usize];
            found.push(format!("{word}:{}", CLASSES[token.token_type as usize]));
        }
        assert_eq!(
            found.join(" "),
            "param:keyword n:parameter 2:number sft:keyword é:variable model:property m:variable \
             batch:property $n:parameter template:property std:zephyr:namespace // x:comment \
             seed:comment 1:comment template:keyword t:variable jinja:property \"\"\":string   a:string   \"\"\":string"
        );
    }
}
