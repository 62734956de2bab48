//! The core: open texts, and answers to what an editor asks about them. It knows nothing of messages.

mod answers;
mod renaming;

use crate::compile::{self, Compilation, File, Seen, World};
use crate::outside::Outside;
use crate::positions::{Encoding, Lines};
use crate::report::Places;
use crate::text::Text;
use lang::paths;
use lsp_types::{CodeDescription, Diagnostic, TextDocumentContentChangeEvent, Uri};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

/// What an editor can do, as far as answers depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Abilities {
    pub encoding: Encoding,
    /// Whether completion may insert text with places to fill in.
    pub snippets: bool,
    /// Whether the code of a diagnostic may lead to its page.
    pub code_pages: bool,
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
    /// Where texts that come with adapt can be opened, by their names; nothing where they cannot.
    shown: RefCell<BTreeMap<String, Option<Uri>>>,
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
            shown: RefCell::default(),
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
                    let lines = Lines::of(&text);
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

    /// Marks the compilations that read a changed text.
    fn spread(&mut self, absolute: &str) {
        for document in self.documents.values_mut() {
            let reads = |file: &File| paths::resolve(&self.base, &file.path) == absolute;
            if document.known.iter().any(reads) {
                document.compiled = None;
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
            Ok(Seen::new(look))
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
            for found in &compilation.diagnostics {
                let Some((owner, found)) = self.diagnostic(&places, found) else { continue };
                let Some(uri) = &uris[owner] else { continue };
                let what = (uri.clone(), found.range, found.code.clone(), found.message.clone());
                if seen.insert(what) {
                    all.entry(uri.clone()).or_default().push(found);
                }
            }
        }
        all
    }

    /// Converts a diagnostic, with a link to the page of its code where the editor follows such links.
    fn diagnostic(
        &self,
        places: &Places,
        found: &lang::diagnostic::Diagnostic,
    ) -> Option<(usize, Diagnostic)> {
        let (owner, mut diagnostic) = places.diagnostic(found)?;
        if self.abilities.code_pages {
            let page = stdlib::pages::find(&found.code);
            let page = page.and_then(|page| self.show(&format!("diagnostics/{}.md", found.code), page));
            diagnostic.code_description = page.map(|href| CodeDescription { href });
        }
        Some((owner, diagnostic))
    }

    /// Returns where a text that comes with adapt can be opened.
    fn show(&self, name: &str, text: &str) -> Option<Uri> {
        let mut shown = self.shown.borrow_mut();
        let place = || self.outside.show(name, text).and_then(|path| file_uri(&path));
        shown.entry(name.to_owned()).or_insert_with(place).clone()
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
}

/// Returns the absolute path of a file; nothing for other things that an editor shows.
fn file_path(uri: &Uri) -> Option<String> {
    let path = uri.to_file_path().ok().filter(|_| uri.scheme() == "file")?;
    Some(paths::resolve("", path.to_str()?))
}

fn file_uri(absolute: &str) -> Option<Uri> {
    Uri::from_file_path(absolute).ok()
}
