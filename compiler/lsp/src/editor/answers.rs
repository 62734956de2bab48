//! Answers about a text, or a place in it.

use super::{Editor, file_uri};
use crate::compile::Compilation;
use crate::completion;
use crate::highlight;
use crate::hints;
use crate::hover;
use crate::names;
use crate::outside::{Look, Outside};
use crate::report::Places;
use crate::structure;
use crate::text::Text;
use lang::facts::{Facts, PathFact};
use lang::paths;
use lsp_types::{
    CodeAction, CodeActionKind, CompletionItem, Contents, DocumentLink, DocumentSymbol, FoldingRange, Hover,
    InlayHint, Label, Location, MarkupContent, MarkupKind, Position, Range, SemanticToken, TextEdit, Uri,
};
use std::rc::Rc;
use stdlib::schema::Type;

impl<O: Outside> Editor<O> {
    /// Returns a text with its compilation and the byte of a position.
    pub(super) fn at(&mut self, uri: &Uri, position: Position) -> Option<(Rc<Compilation>, Rc<Text>, usize)> {
        let compilation = self.compiled(uri)?;
        let text = self.documents.get(uri)?.text.clone();
        let at = text.offset(position, self.abilities.encoding);
        Some((compilation, text, at))
    }

    /// Returns what may be written at a position.
    pub fn completion(&mut self, uri: &Uri, position: Position) -> Vec<CompletionItem> {
        let Some((compilation, text, at)) = self.at(uri, position) else { return Vec::new() };
        let Some(document) = self.documents.get_mut(uri) else { return Vec::new() };
        let nothing = Facts::default();
        let (facts, sources) = match &mut document.seen {
            Some(Ok(seen)) => {
                // A check of broken text may not have come to what is being completed.
                for want in completion::wants(&text, &document.path, at) {
                    seen.learn(&want);
                }
                (&seen.facts, seen.look.sources())
            }
            Some(Err(_)) | None => (&nothing, Vec::new()),
        };
        let context = completion::Context {
            text: &text,
            compilation: &compilation,
            facts,
            sources: &sources,
            outside: &self.outside,
            path: &document.path,
            encoding: self.abilities.encoding,
            snippets: self.abilities.snippets,
        };
        completion::items(&context, at)
    }

    /// Explains what stands at a position.
    pub fn hover(&mut self, uri: &Uri, position: Position) -> Option<Hover> {
        let (compilation, text, at) = self.at(uri, position)?;
        let (bytes, value) = hover::hover(&compilation, 0, at)?;
        let contents = Contents::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value });
        Some(Hover { contents, range: Some(text.range(bytes, self.abilities.encoding)) })
    }

    /// Returns where the name at a position is declared, the text of a template of the library, or the file that a
    /// path names.
    pub fn definition(&mut self, uri: &Uri, position: Position) -> Vec<Location> {
        let Some((compilation, text, at)) = self.at(uri, position) else { return Vec::new() };
        if let Some(name) = names::library_at(&text, at) {
            let template = stdlib::templates::find(&name);
            let shown = template.and_then(|jinja| self.show(&format!("templates/{name}.jinja"), jinja));
            return shown.map(|uri| Location { uri, range: Range::default() }).into_iter().collect();
        }
        let Some(name) = names::at(&text, at).map(|found| found.name) else {
            let links = self.targets(uri, &compilation);
            let link = links.into_iter().find(|(bytes, _)| bytes.start <= at && at <= bytes.end);
            return link.map(|(_, uri)| Location { uri, range: Range::default() }).into_iter().collect();
        };
        let uris = self.uris(uri, &compilation);
        let files = compilation.files.iter().zip(uris);
        files
            .filter_map(|(file, uri)| {
                let found = names::declarations(&file.text).find(|found| found.name == name)?;
                Some(Location { uri: uri?, range: file.text.range(found.range, self.abilities.encoding) })
            })
            .take(1)
            .collect()
    }

    /// Returns the local files that a text names, with the bytes of each path.
    fn targets(&self, root: &Uri, compilation: &Compilation) -> Vec<(std::ops::Range<usize>, Uri)> {
        let Some(Some(Ok(seen))) = self.documents.get(root).map(|document| &document.seen) else {
            return Vec::new();
        };
        let (facts, text) = (&seen.facts, &compilation.files[0].text);
        let folder = paths::folder(&compilation.files[0].path);
        let live = (0..text.outline.nodes.len()).filter(|&node| !text.outline.nodes[node].dropped);
        let entries = live.flat_map(|node| text.slots(node));
        let paths = entries
            .filter(|(_, slot)| matches!(slot.and_then(|slot| slot.ty()), Some(Type::Path | Type::Source)));
        paths
            .filter_map(|(entry, _)| {
                let token = entry.value.as_ref()?;
                let path = paths::resolve(folder, &text.value(token));
                let is_file = matches!(facts.paths.get(&path), Some(PathFact::File(_)))
                    || facts.texts.contains_key(&path);
                let uri = file_uri(&paths::resolve(&self.base, &path)).filter(|_| is_file)?;
                Some((token.inner(), uri))
            })
            .collect()
    }

    /// Returns links to the files that a text names.
    pub fn links(&mut self, uri: &Uri) -> Vec<DocumentLink> {
        let Some((compilation, text, _)) = self.at(uri, Position::default()) else { return Vec::new() };
        let targets = self.targets(uri, &compilation).into_iter();
        let link = |(bytes, target)| {
            let range = text.range(bytes, self.abilities.encoding);
            DocumentLink { range, target: Some(target), ..Default::default() }
        };
        targets.map(link).collect()
    }

    /// Returns the nodes of a text.
    pub fn symbols(&self, uri: &Uri) -> Vec<DocumentSymbol> {
        let text = self.documents.get(uri).map(|document| &document.text);
        text.map_or(Vec::new(), |text| structure::symbols(text, self.abilities.encoding))
    }

    /// Returns what can be folded.
    pub fn folding(&self, uri: &Uri) -> Vec<FoldingRange> {
        self.documents.get(uri).map_or(Vec::new(), |document| structure::folding(&document.text))
    }

    /// Returns the edits that give a recipe its one form. A text with syntax errors, whose diagnostics say so,
    /// stays as it is.
    pub fn format(&self, uri: &Uri) -> Vec<TextEdit> {
        let document = self.documents.get(uri).filter(|document| !document.is_foreign());
        let Some(text) = document.map(|document| &document.text) else { return Vec::new() };
        let formatted = lang::format::format(&text.text);
        let changed = formatted.ok().and_then(|formatted| difference(&text.text, &formatted));
        let edit =
            |(bytes, new_text)| TextEdit { range: text.range(bytes, self.abilities.encoding), new_text };
        changed.map(edit).into_iter().collect()
    }

    /// Returns what each word is, in the whole text or a part of it.
    pub fn tokens(&self, uri: &Uri, range: Option<Range>) -> Vec<SemanticToken> {
        let encoding = self.abilities.encoding;
        let Some(text) = self.documents.get(uri).map(|document| &document.text) else { return Vec::new() };
        let bytes = range.map_or(0..text.text.len(), |range| {
            text.offset(range.start, encoding)..text.offset(range.end, encoding)
        });
        highlight::tokens(text, bytes, encoding)
    }

    /// Returns what the stages come to, beside their lines.
    pub fn hints(&mut self, uri: &Uri, range: Range) -> Vec<InlayHint> {
        let Some((compilation, text, start)) = self.at(uri, range.start) else { return Vec::new() };
        let encoding = self.abilities.encoding;
        let end = text.offset(range.end, encoding);
        let shown = hints::hints(&compilation).into_iter().filter(|hint| start <= hint.at && hint.at <= end);
        shown
            .map(|hint| InlayHint {
                position: text.lines.position(&text.text, hint.at, encoding),
                label: Label::String(hint.label),
                kind: None,
                text_edits: None,
                tooltip: None,
                padding_left: Some(true),
                padding_right: None,
                data: None,
            })
            .collect()
    }

    /// Returns the fixes of the diagnostics within a range.
    pub fn actions(&mut self, uri: &Uri, range: Range) -> Vec<CodeAction> {
        let encoding = self.abilities.encoding;
        let roots: Vec<Uri> = self.documents.keys().cloned().collect();
        let mut actions: Vec<CodeAction> = Vec::new();
        for root in roots {
            let Some(compilation) = self.compiled(&root) else { continue };
            let uris = self.uris(&root, &compilation);
            let places = Places { compilation: &compilation, uris: &uris, encoding };
            for found in &compilation.diagnostics {
                let Some((owner, diagnostic)) = self.diagnostic(&places, found) else { continue };
                let here = uris[owner].as_ref() == Some(uri) && overlap(diagnostic.range, range);
                let fixes = found.fixes.iter().filter(|_| here);
                for edit in fixes.filter_map(|fix| Some((fix, places.edit(fix)?))) {
                    let (fix, edit) = edit;
                    let action = CodeAction {
                        title: fix.title.clone(),
                        kind: Some(CodeActionKind::QuickFix),
                        diagnostics: Some(vec![diagnostic.clone()]),
                        is_preferred: Some(found.fixes.len() == 1),
                        edit: Some(edit),
                        ..Default::default()
                    };
                    if !actions.contains(&action) {
                        actions.push(action);
                    }
                }
            }
        }
        actions
    }
}

/// Returns what is to be replaced, and by what, without the lines that two texts begin and end with.
fn difference(old: &str, new: &str) -> Option<(std::ops::Range<usize>, String)> {
    if old == new {
        return None;
    }
    let mut olds: Vec<&str> = old.split_inclusive('\n').collect();
    let mut news: Vec<&str> = new.split_inclusive('\n').collect();
    let before = common(&olds, &news);
    olds.reverse();
    news.reverse();
    // What both begin with is not what they end with, too.
    let after = common(&olds, &news).min(old.len().min(new.len()) - before);
    Some((before..old.len() - after, new[before..new.len() - after].to_owned()))
}

/// Returns the bytes of the lines that both begin with.
fn common(a: &[&str], b: &[&str]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len()).sum()
}

fn overlap(a: Range, b: Range) -> bool {
    let key = |position: Position| (position.line, position.character);
    key(a.start) <= key(b.end) && key(b.start) <= key(a.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_change_are_replaced() {
        let check = |old: &str, new: &str, expected: Option<(&str, &str)>| {
            let found = difference(old, new);
            let shown = found.as_ref().map(|(bytes, text)| (&old[bytes.clone()], text.as_str()));
            assert_eq!(shown, expected, "{old:?} to {new:?}");
            let mut changed = old.to_owned();
            found.into_iter().for_each(|(bytes, text)| changed.replace_range(bytes, &text));
            assert_eq!(changed, new);
        };
        check("a\nb\nc\n", "a\nb\nc\n", None);
        check("a\nb\nc\n", "a\nx\ny\nc\n", Some(("b\n", "x\ny\n")));
        check("a\na\n", "a\n", Some(("a\n", "")));
        check("a\n", "a\na\n", Some(("", "a\n")));
        check("é", "é\n", Some(("é", "é\n")));
    }
}
