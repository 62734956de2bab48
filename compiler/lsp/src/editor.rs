//! The core: open texts, and answers to what an editor asks about them. It knows nothing of messages.

use crate::compile::{self, Compilation, File, Seen, World};
use crate::completion;
use crate::highlight;
use crate::hints;
use crate::hover;
use crate::names::{self, Occurrence};
use crate::outside::{Look, Outside};
use crate::positions::Encoding;
use crate::report::Places;
use crate::structure;
use crate::text::Text;
use lang::facts::{Facts, PathFact};
use lang::paths;
use lsp_types::{
    CodeAction, CodeActionKind, CompletionItem, Contents, Diagnostic, DocumentLink, DocumentSymbol,
    FoldingRange, Hover, InlayHint, Label, Location, MarkupContent, MarkupKind, Position, Range,
    SemanticToken, TextDocumentContentChangeEvent, TextEdit, Uri, WorkspaceEdit,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use stdlib::schema::Type;

/// What an editor can do, as far as answers depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    pub encoding: Encoding,
    /// Whether completion may insert text with places to fill in.
    pub snippets: bool,
}

/// The open texts of an editor.
pub struct Editor<O: Outside> {
    outside: O,
    /// The folder that relative paths start at, absolute.
    base: String,
    abilities: Abilities,
    documents: BTreeMap<Uri, Document<O::Look>>,
    /// What was last reported of each text.
    reported: BTreeMap<Uri, Vec<Diagnostic>>,
}

/// An open text.
struct Document<L> {
    version: i32,
    /// As `check` would be given it; `-` for a text that is not a file.
    path: String,
    /// Nothing for a text that is not a file.
    absolute: Option<String>,
    text: Rc<Text>,
    /// Whether the editor says that it is a recipe, rather than KDL of any kind.
    is_recipe: bool,
    /// What is known from outside; nothing when it is to be looked at anew.
    seen: Option<Result<Seen<L>, String>>,
    compiled: Option<Rc<Compilation>>,
    /// The texts of the last compilation.
    known: Vec<File>,
    /// Whether its diagnostics are still to be reported.
    fresh: bool,
}

impl<L> Document<L> {
    /// Whether it is KDL of another kind: the settings of some program.
    fn is_foreign(&self) -> bool {
        let mut nodes = self.text.outline.children(None).peekable();
        !self.is_recipe && nodes.peek().is_some() && nodes.all(|node| self.text.schema(node).is_none())
    }
}

/// The diagnostics of a text as they are now.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub uri: Uri,
    /// The version of an open text.
    pub version: Option<i32>,
    pub diagnostics: Vec<Diagnostic>,
}

impl<O: Outside> Editor<O> {
    /// Makes an editor without texts. Paths below `base` are named as seen from there.
    pub fn new(outside: O, base: &str, abilities: Abilities) -> Self {
        Self {
            outside,
            base: base.to_owned(),
            abilities,
            documents: BTreeMap::new(),
            reported: BTreeMap::new(),
        }
    }

    /// Returns how columns are counted.
    pub fn encoding(&self) -> Encoding {
        self.abilities.encoding
    }

    /// Opens a text. One that is not said to be a recipe is taken for one when it has any node of the language.
    pub fn open(&mut self, uri: Uri, version: i32, text: String, is_recipe: bool) {
        let absolute = file_path(&uri);
        let path = absolute.as_deref().map_or("-".to_owned(), |path| self.relative(path));
        let text = Rc::new(Text::of(text));
        let (seen, compiled, known, fresh) = (None, None, Vec::new(), true);
        let document = Document { version, path, absolute, text, is_recipe, seen, compiled, known, fresh };
        self.documents.insert(uri, document);
        self.refresh();
    }

    /// Changes an open text, in the order of the changes.
    pub fn change(&mut self, uri: &Uri, version: i32, changes: Vec<TextDocumentContentChangeEvent>) {
        let encoding = self.abilities.encoding;
        let Some(document) = self.documents.get_mut(uri) else { return };
        let mut text = document.text.text.clone();
        for change in changes {
            match change {
                TextDocumentContentChangeEvent::TextDocumentContentChangeWholeDocument(whole) => {
                    text = whole.text;
                }
                TextDocumentContentChangeEvent::TextDocumentContentChangePartial(part) => {
                    let lines = crate::positions::Lines::of(&text);
                    let start = lines.offset(&text, part.range.start, encoding);
                    let end = lines.offset(&text, part.range.end, encoding).max(start);
                    text.replace_range(start..end, &part.text);
                }
            }
        }
        document.text = Rc::new(Text::of(text));
        (document.version, document.compiled, document.fresh) = (version, None, true);
        if let Some(absolute) = document.absolute.clone() {
            self.spread(&absolute);
        }
    }

    /// Closes a text; what is on the disk counts again.
    pub fn close(&mut self, uri: &Uri) {
        self.documents.remove(uri);
        self.refresh();
    }

    /// Forgets what was learnt from outside, and compiles everything anew when it is asked for.
    pub fn refresh(&mut self) {
        self.documents.values_mut().for_each(|document| (document.seen, document.compiled) = (None, None));
    }

    /// Puts a changed text among the facts, and marks the compilations that read it.
    fn spread(&mut self, absolute: &str) {
        let text = self.documents.values().find(|document| document.absolute.as_deref() == Some(absolute));
        let Some(text) = text.map(|document| document.text.clone()) else { return };
        for document in self.documents.values_mut() {
            let reads = |file: &File| paths::resolve(&self.base, &file.path) == absolute;
            if document.known.iter().any(reads) {
                document.compiled = None;
            }
            let facts = document.seen.iter_mut().flatten().map(|seen| &mut seen.facts);
            for (path, known) in facts.flat_map(|facts| &mut facts.texts) {
                if paths::resolve(&self.base, path) == absolute {
                    known.clone_from(&text.text);
                }
            }
        }
    }

    /// Returns the compilation of a text, made anew when something has changed.
    fn compiled(&mut self, uri: &Uri) -> Option<Rc<Compilation>> {
        let document = self.documents.get(uri)?;
        if let Some(compiled) = &document.compiled {
            return Some(compiled.clone());
        }
        let open = self.documents.values();
        let open: BTreeMap<String, Rc<Text>> =
            open.filter_map(|document| Some((document.absolute.clone()?, document.text.clone()))).collect();
        let document = self.documents.get_mut(uri)?;
        let seen = document.seen.get_or_insert_with(|| {
            let look = self.outside.look(&document.path)?;
            Ok(Seen { look, facts: Facts::default() })
        });
        let world = World { seen, open: &open, base: &self.base };
        let compiled = compile::compile(&document.path, &document.text, &document.known, world);
        let compiled = Rc::new(compiled);
        document.known.clone_from(&compiled.files);
        document.compiled = Some(compiled.clone());
        Some(compiled)
    }

    /// Returns where each text of a compilation lies.
    fn uris(&self, root: &Uri, compilation: &Compilation) -> Vec<Option<Uri>> {
        let lies = |(index, file): (usize, &File)| match index {
            0 => Some(root.clone()),
            _ => file_uri(&paths::resolve(&self.base, &file.path)),
        };
        compilation.files.iter().enumerate().map(lies).collect()
    }

    /// Names a file as seen from the base folder.
    fn relative(&self, absolute: &str) -> String {
        let inside = absolute.strip_prefix(&self.base).and_then(|path| path.strip_prefix('/'));
        inside.unwrap_or(absolute).to_owned()
    }

    /// Returns the diagnostics of all texts that a compilation touches: those of the open texts, each checked
    /// as a recipe, and in a used file also what the recipes that use it make of it.
    fn all(&mut self) -> BTreeMap<Uri, Vec<Diagnostic>> {
        let mut all: BTreeMap<Uri, Vec<Diagnostic>> =
            self.documents.keys().map(|uri| (uri.clone(), Vec::new())).collect();
        let recipes = self.documents.iter().filter(|(_, document)| !document.is_foreign());
        let roots: Vec<Uri> = recipes.map(|(uri, _)| uri.clone()).collect();
        let mut seen = HashSet::new();
        for root in roots {
            let Some(compilation) = self.compiled(&root) else { continue };
            let uris = self.uris(&root, &compilation);
            let places = Places { compilation: &compilation, uris: &uris, encoding: self.abilities.encoding };
            for (owner, found) in compilation.diagnostics.iter().filter_map(|found| places.diagnostic(found))
            {
                let Some(uri) = &uris[owner] else { continue };
                let what = (uri.clone(), found.range, found.code.clone(), found.message.clone());
                if seen.insert(what) {
                    all.entry(uri.clone()).or_default().push(found);
                }
            }
        }
        all
    }

    /// Returns the diagnostics of one text.
    pub fn diagnostics(&mut self, uri: &Uri) -> Vec<Diagnostic> {
        self.all().remove(uri).unwrap_or_default()
    }

    /// Returns the diagnostics of the used files of a text that are not open themselves.
    pub fn related(&mut self, uri: &Uri) -> Vec<(Uri, Vec<Diagnostic>)> {
        let Some(compilation) = self.compiled(uri) else { return Vec::new() };
        let used: BTreeSet<Uri> = self.uris(uri, &compilation).into_iter().skip(1).flatten().collect();
        let closed = |uri: &Uri| used.contains(uri) && !self.documents.contains_key(uri);
        let closed: Vec<Uri> = used.iter().filter(|uri| closed(uri)).cloned().collect();
        let mut all = self.all();
        closed.into_iter().map(|uri| (uri.clone(), all.remove(&uri).unwrap_or_default())).collect()
    }

    /// Returns what is to be reported: every text that was changed, and every one whose diagnostics are others now.
    pub fn reports(&mut self) -> Vec<Report> {
        let all = self.all();
        let gone = self.reported.keys().filter(|uri| !all.contains_key(uri));
        let gone: Vec<(Uri, Vec<Diagnostic>)> = gone.map(|uri| (uri.clone(), Vec::new())).collect();
        let mut reports = Vec::new();
        for (uri, diagnostics) in all.iter().map(|(uri, list)| (uri.clone(), list.clone())).chain(gone) {
            let document = self.documents.get_mut(&uri);
            let known = self.reported.get(&uri).map_or(&[][..], Vec::as_slice);
            let version = document.as_ref().map(|document| document.version);
            let fresh = document.is_some_and(|document| std::mem::take(&mut document.fresh));
            if fresh || known != diagnostics {
                reports.push(Report { uri, version, diagnostics });
            }
        }
        self.reported = all;
        reports
    }

    /// Returns a text with its compilation and the byte of a position.
    fn at(&mut self, uri: &Uri, position: Position) -> Option<(Rc<Compilation>, Rc<Text>, usize)> {
        let compilation = self.compiled(uri)?;
        let text = self.documents.get(uri)?.text.clone();
        let at = text.offset(position, self.abilities.encoding);
        Some((compilation, text, at))
    }

    /// Returns what may be written at a position.
    pub fn completion(&mut self, uri: &Uri, position: Position) -> Vec<CompletionItem> {
        let Some((compilation, text, at)) = self.at(uri, position) else { return Vec::new() };
        let Some(document) = self.documents.get_mut(uri) else { return Vec::new() };
        let mut nothing = Facts::default();
        let (facts, sources) = match &mut document.seen {
            Some(Ok(Seen { look, facts })) => {
                // A check of broken text may not have come to what is being completed.
                look.fill(&completion::wants(&text, &document.path, at), facts);
                (facts, look.sources())
            }
            Some(Err(_)) | None => (&mut nothing, Vec::new()),
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

    /// Returns where the name at a position is declared, or the file that a path names.
    pub fn definition(&mut self, uri: &Uri, position: Position) -> Vec<Location> {
        let Some((compilation, text, at)) = self.at(uri, position) else { return Vec::new() };
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

    /// Returns every text that may hold a name of this one: those of all compilations that read it.
    fn scope(&mut self, uri: &Uri) -> BTreeMap<Uri, Rc<Text>> {
        let roots: Vec<Uri> = self.documents.keys().cloned().collect();
        let mut scope = BTreeMap::new();
        for root in roots {
            let Some(compilation) = self.compiled(&root) else { continue };
            let uris = self.uris(&root, &compilation);
            if uris.iter().flatten().any(|found| found == uri) {
                let texts = compilation.files.iter().map(|file| file.text.clone());
                scope.extend(uris.into_iter().zip(texts).filter_map(|(uri, text)| Some((uri?, text))));
            }
        }
        scope
    }

    /// Returns every place of a name.
    fn everywhere(&mut self, uri: &Uri, name: &str) -> Vec<(Uri, Rc<Text>, Occurrence)> {
        let scope = self.scope(uri).into_iter();
        scope
            .flat_map(|(uri, text)| {
                let found = names::occurrences(&text).into_iter().filter(|found| found.name == name);
                found.map(|found| (uri.clone(), text.clone(), found)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Returns the places that refer to the name at a position.
    pub fn references(&mut self, uri: &Uri, position: Position, declaration: bool) -> Vec<Location> {
        let Some((_, text, at)) = self.at(uri, position) else { return Vec::new() };
        let Some(name) = names::at(&text, at).map(|found| found.name) else { return Vec::new() };
        let found = self.everywhere(uri, &name).into_iter();
        let wanted = found.filter(|(_, _, found)| declaration || !found.role.declares());
        wanted
            .map(|(uri, text, found)| Location {
                uri,
                range: text.range(found.range, self.abilities.encoding),
            })
            .collect()
    }

    /// Returns the characters of the name at a position, when it can be renamed.
    pub fn prepare_rename(&mut self, uri: &Uri, position: Position) -> Option<Range> {
        let (_, text, at) = self.at(uri, position)?;
        let found = names::at(&text, at)?;
        let declared = self.everywhere(uri, &found.name).iter().any(|(_, _, found)| found.role.declares());
        declared.then(|| text.range(found.range, self.abilities.encoding))
    }

    /// Gives the name at a position another one, everywhere.
    ///
    /// # Errors
    /// Fails, in words for the user, when there is no declared name, or the new one cannot be one or is taken.
    pub fn rename(&mut self, uri: &Uri, position: Position, new: &str) -> Result<WorkspaceEdit, String> {
        let nothing = || "there is no name here that a recipe declares".to_owned();
        let (_, text, at) = self.at(uri, position).ok_or_else(nothing)?;
        let old = names::at(&text, at).ok_or_else(nothing)?.name;
        if let Some(reason) = names::refuse(new) {
            return Err(format!("`{new}` cannot be a name: {reason}"));
        }
        let places = self.everywhere(uri, &old);
        if !places.iter().any(|(_, _, found)| found.role.declares()) {
            return Err(nothing());
        }
        let taken = self.everywhere(uri, new).into_iter().find(|(_, _, found)| found.role.declares());
        if let Some((_, text, found)) = taken.filter(|_| new != old) {
            let line = text.line(found.range.start);
            return Err(format!("`{new}` is declared already, in line {line}"));
        }
        let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
        for (uri, text, found) in places {
            let written = match found.role {
                names::Role::Parameter => new.to_owned(),
                names::Role::Declares(_) | names::Role::Refers => names::written(new),
            };
            let range = text.range(found.range, self.abilities.encoding);
            changes.entry(uri).or_default().push(TextEdit { range, new_text: written });
        }
        Ok(WorkspaceEdit { changes: Some(changes), ..Default::default() })
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
                let Some((owner, diagnostic)) = places.diagnostic(found) else { continue };
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

/// Returns the absolute path of a file; nothing for other things that an editor shows.
fn file_path(uri: &Uri) -> Option<String> {
    let path = uri.to_file_path().ok().filter(|_| uri.scheme() == "file")?;
    Some(paths::resolve("", path.to_str()?))
}

fn file_uri(absolute: &str) -> Option<Uri> {
    Uri::from_file_path(absolute).ok()
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
