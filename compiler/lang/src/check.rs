//! The driver: text and facts to a checked recipe with all that was found on the way.

use crate::assemble::Assembly;
use crate::capability::Missing;
use crate::defaults;
use crate::diagnostic::{Diagnostic, Severity};
use crate::facts::{Facts, Want};
use crate::files::{Files, Loader};
use crate::like;
use crate::names::{Names, Refused};
use crate::params::{self, Instead, Sweep};
use crate::recipe::Recipe;
use crate::resolved::Resolved;
use crate::rules::Context;
use crate::rules::flow::Types;
use crate::set;
use crate::source::{Source, SourceId, SourceKind, Span};
use crate::sweeps::{self, NodePlace, Place, Whole};
use crate::syntax::{self, Damage, Value};
use crate::tree::Item;
use crate::typing::Typing;
use crate::uses;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a check reads.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The path as the user gave it; `-` for standard input.
    pub path: &'a str,
    pub text: &'a str,
    /// The arguments of `--set`, in order.
    pub sets: &'a [String],
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Absent when there are errors.
    pub recipe: Option<Recipe>,
    /// Sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Every text of the compilation, indexed by [`SourceId`]; what looks like a secret is masked.
    pub sources: Vec<Source>,
    /// Facts that the check would have liked to know.
    pub wants: Vec<Want>,
    /// The recipe with every value filled in, as far as it could be read.
    pub resolved: Resolved,
    /// The values that `--sweep` runs with, by parameter; those that `--set` fixes are not among them.
    pub sweeps: Vec<Sweep>,
}

impl Checked {
    /// Counts the errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }
}

/// Checks a recipe. Pure: the caller fills `wants` into the facts and checks again until nothing new is wanted.
pub fn check(input: &Input, facts: &Facts) -> Checked {
    let (mut checked, mut whole) = check_once(input, facts, None);
    let sweeps = std::mem::take(&mut whole.sweeps);
    if !sweeps.is_empty() {
        for (name, values) in &sweeps {
            let (found, wants) = match whole.place(name) {
                Place::Values(place) => whole.check_values(&place, values, facts, &checked.sources),
                Place::Anywhere => check_anew(input, facts, name, values),
                Place::Nowhere => continue,
            };
            checked.diagnostics.extend(found);
            checked.wants.extend(wants);
        }
        sort(&mut checked.diagnostics);
        checked.wants.sort();
        checked.wants.dedup();
        checked.recipe = checked
            .recipe
            .filter(|_| checked.diagnostics.iter().all(|found| found.severity != Severity::Error));
    }
    checked
}

/// Checks the whole recipe with each value, where a value decides how nodes are put together.
fn check_anew(input: &Input, facts: &Facts, name: &str, values: &[Value]) -> (Vec<Diagnostic>, Vec<Want>) {
    let (mut errors, mut wants) = (Vec::new(), Vec::new());
    for value in sweeps::distinct(values) {
        let instead = Instead { name: name.to_owned(), value: value.clone() };
        let (other, _) = check_once(input, facts, Some(&instead));
        errors.extend(other.diagnostics.into_iter().filter(|found| sweeps::is_of(found, value.span)));
        wants.extend(other.wants);
    }
    (errors, wants)
}

/// Checks a recipe with one value for each parameter.
fn check_once(input: &Input, facts: &Facts, instead: Option<&Instead>) -> (Checked, Whole) {
    let mut diagnostics = Vec::new();
    let mut wants = Vec::new();
    let root =
        Source { path: input.path.to_owned(), kind: SourceKind::Recipe, text: syntax::mask(input.text) };
    let mut sources = vec![root];
    let sets = set::read(input.sets, &mut sources, &mut diagnostics);
    set::report_secrets(&sets, &mut diagnostics);
    let mut files =
        Loader::new(facts, &mut sources, &mut diagnostics, &mut wants).load(input.path, input.text);
    let stage_sets = set::apply(sets, &mut files, &mut diagnostics);
    let sweeps = params::sweeps(&files);
    params::check_sweeps(&sweeps, &mut diagnostics);
    let params = params::substitute(&mut files, instead, &mut diagnostics);
    like::merge(&mut files, &mut diagnostics);
    defaults::merge(&mut files);
    set::finish(stage_sets, &mut files);
    let (items, places) = typed(&files, &sources, &mut diagnostics);
    let folders: Vec<String> = files.files.iter().map(|file| file.folder.clone()).collect();
    let refused = Refused::of(&files);
    let names = Names::collect(&items, &refused, &mut diagnostics);
    relate(&names, &files, &params, &mut diagnostics);
    let lost = files.damage() == Damage::Everywhere;
    let mut later = Vec::new();
    Context {
        later: &mut later,
        names: &names,
        facts,
        types: Types::default(),
        folders: &folders,
        sources: &sources,
        lost,
        current: None,
        diagnostics: &mut diagnostics,
        wants: &mut wants,
    }
    .check();
    let found_later = items.iter().flat_map(|item| item.later.iter().map(move |missing| (item, missing)));
    let certain = found_later.filter(|(item, missing)| !(missing.by_default && (lost || item.damaged)));
    diagnostics.extend(
        certain
            .map(|(_, missing)| missing)
            .chain(later.iter().map(|(_, missing)| missing))
            .map(Missing::warning),
    );
    files.say_where_used(&mut diagnostics);
    leave_one_of_a_value(&mut diagnostics);
    sort(&mut diagnostics);
    let has_errors = diagnostics.iter().any(|found| found.severity == Severity::Error);
    let complete = !has_errors && !files.incomplete;
    let recipe = complete.then(|| {
        let recipe = Assembly { names: &names, facts, folders: &folders, later: &later }.recipe();
        recipe.expect("what a recipe lacks was reported as an error")
    });
    wants.sort();
    wants.dedup();
    let has_secret = diagnostics.iter().any(|found| found.code == "secret-in-recipe");
    if has_secret {
        diagnostics.iter_mut().for_each(mask);
    }
    let resolved = if has_secret { Resolved::default() } else { Resolved::of(&names) };
    let listed = sweeps.iter().map(|(name, values)| Sweep {
        name: name.clone(),
        values: values.iter().map(params::as_set).collect(),
    });
    let listed = listed.collect();
    let whole = Whole { files, items, places, folders, refused, sweeps };
    (Checked { recipe, diagnostics, sources, wants, resolved, sweeps: listed }, whole)
}

/// Checks every node against the schema, used files first; returns also which item each node is.
fn typed(
    files: &Files,
    sources: &[Source],
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Item>, BTreeMap<NodePlace, usize>) {
    let (mut items, mut places) = (Vec::new(), BTreeMap::new());
    let mut param_uses = uses::Uses::default();
    for &file in &files.order {
        let document = &files.files[file].document;
        let misplaced = document.braces_in_doubt;
        let lost = files.damage() == Damage::Everywhere;
        let mut typing = Typing {
            file,
            diagnostics,
            sources,
            misplaced,
            lost,
            uses: &mut param_uses,
            strays: Vec::new(),
            later: Vec::new(),
        };
        for (index, node) in document.nodes.iter().enumerate() {
            if let Some(item) = typing.top(node) {
                places.insert((file, index), items.len());
                items.push(item);
            }
        }
    }
    param_uses.check(diagnostics);
    (items, places)
}

/// What names say about each other.
fn relate(names: &Names, files: &Files, params: &BTreeSet<String>, diagnostics: &mut Vec<Diagnostic>) {
    let damage = files.damage();
    names.check(damage, diagnostics);
    names.check_circles(diagnostics);
    if damage == Damage::None {
        names.check_unused(params, diagnostics);
    }
    defaults::check(files, names, diagnostics);
}

/// Of a value without its quotes says one thing: what is wrong with it where it is more than the quotes, and
/// nothing of a file that would be looked for under its name.
fn leave_one_of_a_value(diagnostics: &mut Vec<Diagnostic>) {
    let is_unquoted = |found: &Diagnostic| found.code == "unquoted-value";
    let is_missing = |found: &Diagnostic| found.code == "missing-file";
    let unquoted: HashSet<Span> =
        diagnostics.iter().filter(|found| is_unquoted(found)).map(Diagnostic::primary).collect();
    if unquoted.is_empty() {
        return;
    }
    let more =
        |found: &&Diagnostic| found.severity == Severity::Error && !is_unquoted(found) && !is_missing(found);
    let judged: HashSet<Span> = diagnostics.iter().filter(more).map(Diagnostic::primary).collect();
    diagnostics.retain(|found| match found.primary() {
        at if is_unquoted(found) => !judged.contains(&at),
        at => !is_missing(found) || !unquoted.contains(&at),
    });
}

/// Sorts by place and removes what was found twice, as in a default that reaches two stages.
fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by_cached_key(|found| (found.primary(), found.severity == Severity::Warning));
    let mut new = Vec::with_capacity(diagnostics.len());
    for here in diagnostics.chunk_by(|one, other| one.primary() == other.primary()) {
        let mut said: HashSet<(&str, &str)> = HashSet::new();
        // Most places have one diagnostic.
        let is_new = |found| here.len() == 1 || said.insert(found);
        new.extend(here.iter().map(|found| (found.code.as_str(), found.message.as_str())).map(is_new));
    }
    let mut new = new.into_iter();
    diagnostics.retain(|_| new.next().is_some_and(|is_new| is_new));
}

/// Removes what looks like a secret from everything that a diagnostic says.
pub(crate) fn mask(found: &mut Diagnostic) {
    let texts = [&mut found.message].into_iter().chain(&mut found.help).chain(&mut found.notes);
    let labels = found.labels.iter_mut().map(|label| &mut label.message);
    let fixes = found
        .fixes
        .iter_mut()
        .flat_map(|fix| fix.edits.iter_mut().map(|edit| &mut edit.text).chain([&mut fix.title]));
    texts.chain(labels).chain(fixes).for_each(|text| *text = syntax::mask(text));
}

/// Reports a recipe that is not text; the caller has no text to check.
pub fn not_utf8(path: &str, bytes: &[u8]) -> Checked {
    let end = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let at = Span { source: SourceId(0), start: end as u32, end: end as u32 };
    let diagnostic =
        Diagnostic::error("not-utf8", "the recipe is not UTF-8 text", at, "the first byte that is none")
            .with_help("save the file as UTF-8");
    let source = Source { path: path.to_owned(), kind: SourceKind::Recipe, text: syntax::mask(&text) };
    Checked {
        recipe: None,
        diagnostics: vec![diagnostic],
        sources: vec![source],
        wants: Vec::new(),
        resolved: Resolved::default(),
        sweeps: Vec::new(),
    }
}
