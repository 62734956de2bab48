//! Completion: what may be written here and is not written yet, also while the text around it is broken.

mod files;
mod nodes;
mod values;
mod weights;

use crate::compile::Compilation;
use crate::outside::Outside;
use crate::place::{self, Place};
use crate::positions::Encoding;
use crate::text::Text;
use lang::facts::{Facts, Want};
use lang::paths;
use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionItemTextEdit, Documentation, InsertTextFormat,
    MarkupContent, MarkupKind, TextEdit,
};
use std::ops::Range;

/// What completion looks at.
pub struct Context<'a, O> {
    pub text: &'a Text,
    /// The last compilation of the text; it knows the other files.
    pub compilation: &'a Compilation,
    pub facts: &'a Facts,
    /// The remote sources that the lock file pins, and what they are.
    pub sources: &'a [(String, lang::lock::Kind)],
    pub outside: &'a O,
    /// The path of the text, as facts name it.
    pub path: &'a str,
    pub encoding: Encoding,
    /// Whether the editor takes text with places to fill in.
    pub snippets: bool,
}

/// Something to write.
struct Offer {
    label: String,
    /// What is written, when it is not the label.
    insert: Option<String>,
    /// What is written by an editor that takes places to fill in.
    snippet: Option<String>,
    kind: CompletionItemKind,
    detail: String,
    doc: String,
    /// What must be written comes before what may be, and that before what cannot be run.
    rank: Rank,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Required,
    Optional,
    /// It belongs to a block further out, or stands for something else.
    Aside,
    Later,
}

impl Offer {
    fn new(label: impl Into<String>, kind: CompletionItemKind) -> Self {
        Self {
            label: label.into(),
            insert: None,
            snippet: None,
            kind,
            detail: String::new(),
            doc: String::new(),
            rank: Rank::Optional,
        }
    }
}

/// Returns what completion at a byte would like to know of the declaration that holds it.
pub fn wants(text: &Text, path: &str, at: usize) -> Vec<Want> {
    let node = text.outline.header_at(at).or_else(|| text.outline.block_at(at));
    let root = node.map(|node| text.outline.path(node)[0]);
    let source = root.and_then(|root| Some((text.kind(root), values::source(text, root)?)));
    let Some((kind, source)) = source.filter(|(_, source)| !source.contains(':')) else { return Vec::new() };
    let source = paths::resolve(paths::folder(path), &source);
    match kind {
        "dataset" => vec![Want::Rows(source)],
        "model" => vec![Want::Model(source)],
        _ => Vec::new(),
    }
}

/// Returns what may be written at a byte of the text.
pub fn items<O: Outside>(context: &Context<O>, at: usize) -> Vec<CompletionItem> {
    let Some(place) = place::at(context.text, at) else { return Vec::new() };
    let (offers, replace) = match place {
        Place::Node { blocks, replace, node } => (nodes::offers(context, &blocks, node), replace),
        Place::Entry { node, place, replace } => {
            let mut offers = values::of_argument(context, node, place, &replace);
            offers.extend(nodes::properties(context, node, &replace, true));
            (offers, replace)
        }
        Place::Key { node, replace } => (nodes::properties(context, node, &replace, false), replace),
        Place::Value { node, key, place, replace, quoted } => {
            let offers = match key {
                Some(key) => values::of_property(context, node, key, &replace, quoted),
                None => values::in_quotes(context, node, place, &replace),
            };
            (offers, replace)
        }
    };
    let mut offers: Vec<(usize, Offer)> = offers.into_iter().enumerate().collect();
    offers.sort_by_key(|(index, offer)| (offer.rank, *index));
    offers.into_iter().enumerate().map(|(index, (_, offer))| item(context, offer, &replace, index)).collect()
}

fn item<O>(context: &Context<O>, offer: Offer, replace: &Range<usize>, index: usize) -> CompletionItem {
    let snippet = offer.snippet.filter(|_| context.snippets);
    let format = snippet.is_some().then_some(InsertTextFormat::Snippet);
    let plain = offer.insert.unwrap_or_else(|| offer.label.clone());
    let range = context.text.range(replace.clone(), context.encoding);
    let edit = TextEdit { range, new_text: snippet.unwrap_or_else(|| plain.clone()) };
    let doc =
        Documentation::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value: offer.doc.clone() });
    CompletionItem {
        label: offer.label,
        kind: Some(offer.kind),
        detail: (!offer.detail.is_empty()).then_some(offer.detail),
        documentation: (!offer.doc.is_empty()).then_some(doc),
        sort_text: Some(format!("{index:04}")),
        // Editors compare what is typed with this; a text in quotes is compared with what is in them.
        filter_text: Some(plain),
        insert_text_format: format,
        text_edit: Some(CompletionItemTextEdit::TextEdit(edit)),
        ..Default::default()
    }
}
