//! The files of a recipe: the one that was given and those that it uses.

use crate::diagnostic::{Diagnostic, Label};
use crate::facts::{Facts, PathFact, Want};
use crate::paths;
use crate::source::{Source, SourceId, SourceKind, Span};
use crate::suggest;
use crate::syntax::{self, Damage, Data, Document, Node};
use std::collections::BTreeMap;

/// One file.
#[derive(Debug)]
pub struct File {
    pub path: String,
    pub folder: String,
    pub document: Document,
    /// The files that it uses, in order; indices into [`Files::files`].
    pub uses: Vec<usize>,
    /// Its text.
    pub source: SourceId,
    /// The `use` that first led to it; none for the recipe itself.
    pub used_at: Option<Span>,
}

/// All files; the one that was given is the first.
#[derive(Debug, Default)]
pub struct Files {
    pub files: Vec<File>,
    /// Every file after those that it uses.
    pub order: Vec<usize>,
    /// Whether a used file is missing, so that names may be.
    pub incomplete: bool,
}

impl Files {
    /// Returns the worst damage of any file.
    pub fn damage(&self) -> Damage {
        let worst = self.files.iter().map(|file| file.document.damage).max().unwrap_or_default();
        if self.incomplete { Damage::Everywhere } else { worst }
    }
}

impl Files {
    /// Adds to what was found in a used file where that file is used, up to the recipe itself.
    pub fn say_where_used(&self, diagnostics: &mut [Diagnostic]) {
        for found in diagnostics {
            let mut source = found.primary().source;
            while let Some(at) =
                self.files.iter().find(|file| file.source == source).and_then(|file| file.used_at)
            {
                // A circle of files has its places already.
                if found.labels.iter().any(|label| label.span == at) {
                    break;
                }
                found.labels.push(Label { span: at, message: "used from here".into(), primary: false });
                source = at.source;
            }
        }
    }
}

/// What loading needs and adds to.
pub struct Loader<'a> {
    pub facts: &'a Facts,
    pub sources: &'a mut Vec<Source>,
    pub diagnostics: &'a mut Vec<Diagnostic>,
    pub wants: &'a mut Vec<Want>,
    files: Files,
    by_path: BTreeMap<String, usize>,
    /// The files that are being read, with the `use` that led from each to the next.
    open: Vec<(usize, Span)>,
}

impl<'a> Loader<'a> {
    pub fn new(
        facts: &'a Facts,
        sources: &'a mut Vec<Source>,
        diagnostics: &'a mut Vec<Diagnostic>,
        wants: &'a mut Vec<Want>,
    ) -> Self {
        Self {
            facts,
            sources,
            diagnostics,
            wants,
            files: Files::default(),
            by_path: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// Loads a recipe, whose text is source 0 already, and all that it uses.
    pub fn load(mut self, path: &str, text: &str) -> Files {
        let resolved = paths::resolve("", path);
        self.file(path.to_owned(), resolved, SourceId(0), text);
        self.files
    }

    fn file(&mut self, path: String, resolved: String, source: SourceId, text: &str) -> usize {
        let (document, found) = syntax::parse(source, text);
        self.diagnostics.extend(found);
        syntax::report_secrets(&document.nodes, self.diagnostics);
        check_version(&document, source, self.diagnostics);
        let index = self.files.files.len();
        self.by_path.insert(resolved, index);
        let uses = uses(&document);
        let folder = paths::folder(&path).to_owned();
        let used_at = self.open.last().map(|(_, at)| *at);
        self.files.files.push(File { path, folder, document, uses: Vec::new(), source, used_at });
        for (target, at) in uses {
            self.open.push((index, at));
            self.follow(index, &target, at);
            self.open.pop();
        }
        self.files.order.push(index);
        index
    }

    /// Loads one used file, once however often it is used.
    fn follow(&mut self, from: usize, target: &str, at: Span) {
        let resolved = paths::resolve(&self.files.files[from].folder, target);
        if let Some(&known) = self.by_path.get(&resolved) {
            match self.open.iter().position(|(file, _)| *file == known) {
                Some(start) => self.report_circle(start),
                None => self.files.files[from].uses.push(known),
            }
            return;
        }
        if let Some(text) = self.facts.texts.get(&resolved) {
            let source = SourceId(self.sources.len() as u32);
            self.sources.push(Source {
                path: resolved.clone(),
                kind: SourceKind::Recipe,
                text: syntax::mask(text),
            });
            let index = self.file(resolved.clone(), resolved, source, text);
            self.files.files[from].uses.push(index);
            return;
        }
        self.files.incomplete = true;
        match self.facts.paths.get(&resolved) {
            Some(PathFact::File(_)) => self.wants.push(Want::Text(resolved)),
            Some(PathFact::Many(_)) => self.diagnostics.push(not_a_recipe(&resolved, at)),
            Some(fact) => self.diagnostics.extend(unusable(fact, &resolved, at)),
            None => self.wants.extend([Want::Path(resolved.clone()), Want::Text(resolved)]),
        }
    }

    fn report_circle(&mut self, start: usize) {
        let circle = &self.open[start..];
        let (_, first) = circle[0];
        let mut diagnostic = Diagnostic::error(
            "circular-use",
            "files use each other in a circle",
            first,
            "the circle begins here",
        )
        .with_help("move what both need to a third file");
        for (_, at) in &circle[1..] {
            diagnostic = diagnostic.with_label(*at, "and goes on here");
        }
        self.diagnostics.push(diagnostic);
    }
}

/// Reports a folder or a pattern where a file must stand.
fn not_a_recipe(path: &str, at: Span) -> Diagnostic {
    Diagnostic::error("unreadable-file", format!("`{path}` is not a recipe"), at, "not a file")
        .with_help("name one recipe file")
}

/// Says why a file cannot be used; nothing when it can.
pub fn unusable(fact: &PathFact, path: &str, at: Span) -> Option<Diagnostic> {
    match fact {
        PathFact::Missing => Some(
            Diagnostic::error("missing-file", format!("there is nothing at `{path}`"), at, "not found")
                .with_help("check the path; it is relative to the file that holds it"),
        ),
        PathFact::Many(files) if files.is_empty() => Some(
            Diagnostic::error(
                "missing-file",
                format!("no data file matches `{path}`"),
                at,
                "matches nothing",
            )
            .with_help("check the path; it is relative to the file that holds it"),
        ),
        PathFact::Unreadable(reason) => Some(
            Diagnostic::error(
                "unreadable-file",
                format!("`{path}` cannot be read: {reason}"),
                at,
                "not readable",
            )
            .with_help("make it readable for this user"),
        ),
        PathFact::File(_) | PathFact::Many(_) => None,
    }
}

/// Returns the paths that a document uses.
fn uses(document: &Document) -> Vec<(String, Span)> {
    let nodes = document.nodes.iter().filter(|node| node.name.text == "use");
    nodes
        .filter_map(|node| node.arguments.first())
        .filter_map(|path| Some((path.text()?.to_owned(), path.span)))
        .collect()
}

/// The first node of every file states the version.
fn check_version(document: &Document, source: SourceId, diagnostics: &mut Vec<Diagnostic>) {
    let start = Span { source, start: 0, end: 0 };
    match document.nodes.first() {
        Some(node) if node.name.text == "adapt" => diagnostics.extend(unknown_version(node)),
        _ if document.damage == Damage::Everywhere => {}
        _ if document.nodes.iter().any(|node| node.name.text == "adapt") => {}
        // A misspelt `adapt` is reported for what it is.
        Some(node) if suggest::nearest(&node.name.text, ["adapt"]).is_some() => {}
        _ => diagnostics.push(
            Diagnostic::error(
                "missing-version",
                "the recipe does not state its language version",
                start,
                "the first node is missing",
            )
            .with_help("begin the recipe with `adapt 1`")
            .with_fix("insert `adapt 1`", start, "adapt 1\n\n"),
        ),
    }
    let later = document.nodes.iter().enumerate().filter(|(at, node)| *at > 0 && node.name.text == "adapt");
    for (_, node) in later {
        let first = &document.nodes[0];
        let diagnostic = if first.name.text == "adapt" {
            Diagnostic::error("repeated-option", "`adapt` stands twice", node.name.span, "the second")
                .with_label(first.name.span, "the first")
        } else {
            Diagnostic::error(
                "misplaced-option",
                "`adapt` is not the first node",
                node.name.span,
                "must come first",
            )
            .with_label(first.name.span, "comes before it")
        };
        diagnostics.push(diagnostic.with_help("state the version once, in the first line"));
    }
}

fn unknown_version(node: &Node) -> Option<Diagnostic> {
    let value = node.arguments.first()?;
    let Data::Integer(version) = value.data else { return None };
    (version > 1).then(|| {
        Diagnostic::error(
            "unknown-version",
            format!("this adapt reads language version 1, not {version}"),
            value.span,
            "unknown version",
        )
        .with_help("write `adapt 1`, or install a newer adapt")
    })
}
