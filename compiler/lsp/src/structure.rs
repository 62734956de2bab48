//! The structure of a text: symbols and what can be folded. It rests on the outline, so it survives mistakes.

use crate::positions::Encoding;
use crate::text::Text;
use crate::tokens::Kind;
use lang::syntax::MAX_DEPTH;
use lsp_types::{DocumentSymbol, FoldingRange, FoldingRangeKind, SymbolKind};

/// Returns the nodes of a text as symbols.
pub fn symbols(text: &Text, encoding: Encoding) -> Vec<DocumentSymbol> {
    text.outline.children(None).map(|node| symbol(text, node, encoding, MAX_DEPTH)).collect()
}

fn symbol(text: &Text, node: usize, encoding: Encoding, depth: usize) -> DocumentSymbol {
    let written = &text.outline.nodes[node];
    let kind = text.kind(node);
    let declared = text.declared(node);
    let inner = text.outline.children(Some(node)).filter(|_| depth > 0);
    let children: Vec<_> = inner.map(|child| symbol(text, child, encoding, depth - 1)).collect();
    let name = declared.map(|token| text.value(token)).filter(|name| !name.is_empty());
    let detail = if name.is_some() { kind.to_owned() } else { line(text, node) };
    let selected = declared.map_or(written.name.range.clone(), |token| token.range.clone());
    #[allow(deprecated, reason = "the field must be named to make the struct")]
    DocumentSymbol {
        // Editors refuse a symbol without a name.
        name: name.unwrap_or_else(|| if kind.is_empty() { "{".into() } else { kind.to_owned() }),
        detail: (!detail.is_empty()).then_some(detail),
        kind: symbol_kind(text, node),
        tags: None,
        deprecated: None,
        range: text.range(written.extent(), encoding),
        selection_range: text.range(selected, encoding),
        children: (!children.is_empty()).then_some(children),
    }
}

/// Returns what stands on the line of a node behind its kind word; secrets are masked.
fn line(text: &Text, node: usize) -> String {
    let node = &text.outline.nodes[node];
    let written = &text.text[node.name.range.end..node.header_end.max(node.name.range.end)];
    let short: String = written.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
    lang::syntax::mask(&short)
}

fn symbol_kind(text: &Text, node: usize) -> SymbolKind {
    match text.schema(node) {
        _ if text.outline.nodes[node].parent.is_some() => SymbolKind::Property,
        Some(schema) if schema.name == "param" => SymbolKind::Constant,
        Some(schema) if schema.name == "use" => SymbolKind::File,
        Some(schema) if !schema.declares => SymbolKind::Namespace,
        Some(schema) if matches!(schema.name, "model" | "tokenizer" | "template") => SymbolKind::Object,
        Some(schema) if matches!(schema.name, "dataset" | "mix") => SymbolKind::Array,
        Some(_) => SymbolKind::Function,
        None => SymbolKind::Null,
    }
}

/// Returns what can be folded: blocks, and comments over several lines.
pub fn folding(text: &Text) -> Vec<FoldingRange> {
    let line = |at: usize| text.lines.line(at.min(text.text.len())) as u32;
    let blocks = text.outline.nodes.iter().filter_map(|node| {
        let block = node.block.as_ref()?;
        let last = line(if block.closed { block.end } else { node.end });
        // The line of the brace stays visible.
        Some((line(node.name.range.start), if block.closed { last.saturating_sub(1) } else { last }, None))
    });
    let comments =
        comments(text).into_iter().map(|(start, end)| (start, end, Some(FoldingRangeKind::Comment)));
    let folds = blocks.chain(comments).filter(|(start, end, _)| start < end);
    folds
        .map(|(start_line, end_line, kind)| FoldingRange { start_line, end_line, kind, ..Default::default() })
        .collect()
}

/// Returns the first and last lines of comments; those on neighbouring lines are one.
fn comments(text: &Text) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for token in text.outline.tokens.iter().filter(|token| token.kind == Kind::Comment) {
        let line = |at: usize| text.lines.line(at);
        let (start, end) = (line(token.range.start), line(token.range.end));
        let alone = text
            .lines
            .bytes(&text.text, start)
            .is_some_and(|line| text.text[line.start..token.range.start].trim().is_empty());
        let (start, end) = (start as u32, end as u32);
        match found.last_mut().filter(|last| alone && last.1 + 1 == start) {
            Some(last) => last.1 = end,
            None if alone => found.push((start, end)),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_survive_a_missing_brace() {
        let text = Text::of("model m \"x\"\nsft 𝄞chat {\n    model m\n\ndpo b {\n    data \"d\n}\n".into());
        let symbols = symbols(&text, Encoding::Utf16);
        let names: Vec<&str> = symbols.iter().map(|symbol| symbol.name.as_str()).collect();
        assert_eq!(names, ["m", "𝄞chat", "b"]);
        let selected = symbols[1].selection_range;
        assert_eq!((selected.start.character, selected.end.character), (4, 10));
        assert_eq!(symbols[1].range.end.line, 2);
        assert_eq!(symbols[1].children.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn blocks_and_comments_fold() {
        let text = Text::of("// a\n// b\nsft a {\n    b 1 // c\n    /* d\n e */\n}\nx {\n  y\n".into());
        let folds: Vec<(u32, u32)> =
            folding(&text).iter().map(|fold| (fold.start_line, fold.end_line)).collect();
        assert_eq!(folds, [(2, 5), (7, 8), (0, 1), (4, 5)]);
    }
}
