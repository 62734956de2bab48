//! Compiles an open text as the command line does: check, look at what is wanted, lower, look again.

use crate::outside::Look;
use crate::text::Text;
use lang::Checked;
use lang::diagnostic::Diagnostic;
use lang::facts::{Facts, Fingerprint, PathFact, Want};
use lang::paths;
use lang::source::SourceKind;
use lower::{Lowered, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What an open text came to.
#[derive(Debug)]
pub struct Compilation {
    pub checked: Checked,
    /// Absent when the check found errors.
    pub lowered: Option<Lowered>,
    /// Of check and lowering, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts of the compilation, by the number of their source.
    pub files: Vec<File>,
}

/// A text of a compilation.
#[derive(Debug, Clone)]
pub struct File {
    /// As facts and messages name it.
    pub path: String,
    pub text: Rc<Text>,
}

/// Everything that compiling reads besides the text itself.
pub struct World<'a, L> {
    /// What is known from outside so far; or why the lock file beside the recipe cannot be used.
    pub seen: &'a mut Result<Seen<L>, String>,
    /// The open texts by absolute path; they win over what is on the disk.
    pub open: &'a BTreeMap<String, Rc<Text>>,
    /// The folder that relative paths start at.
    pub base: &'a str,
}

/// A look at the outside, and what it has shown.
#[derive(Debug)]
pub struct Seen<L> {
    pub look: L,
    /// All of it, whatever asked.
    pub facts: Facts,
    /// What each want brought.
    brought: BTreeMap<Want, Facts>,
}

impl<L: Look> Seen<L> {
    /// Begins with nothing seen.
    pub fn new(look: L) -> Self {
        Self { look, facts: Facts::default(), brought: BTreeMap::new() }
    }

    /// Looks at what is wanted, unless that was done.
    pub fn learn(&mut self, want: &Want) -> &Facts {
        let Self { look, facts, brought } = self;
        brought.entry(want.clone()).or_insert_with(|| {
            let mut news = Facts::default();
            look.fill(std::slice::from_ref(want), &mut news);
            facts.extend(&news);
            news
        })
    }
}

/// Compiles a text. `known` are texts that were read before.
pub fn compile<L: Look>(path: &str, text: &Rc<Text>, known: &[File], world: World<L>) -> Compilation {
    let input = lang::Input { path, text: &text.text, sets: &[] };
    let (open, base) = (world.open, world.base);
    let seen = match world.seen {
        Ok(seen) => seen,
        Err(problem) => {
            let mut checked = lang::check(&input, &Facts::default());
            checked.recipe = None;
            let files = vec![File { path: path.to_owned(), text: text.clone() }];
            return Compilation {
                checked,
                lowered: None,
                diagnostics: vec![lang::lock::broken(problem)],
                files,
            };
        }
    };
    // What was learnt for an earlier text is no fact of this one until it asks: a check comes to the same
    // whatever was written before.
    let mut filling = Filling { facts: Facts::default(), asked: BTreeSet::new(), seen, open, base };
    filling.fill(&[Want::Hardware]);
    let options = Options { name: name(path).to_owned(), ..Options::default() };
    loop {
        let checked = lang::check(&input, &filling.facts);
        if filling.fill(&checked.wants) {
            continue;
        }
        let lower = |recipe| lower::lower(recipe, &checked.sources, &filling.facts, &options);
        let lowered = checked.recipe.as_ref().map(lower);
        if lowered.as_ref().is_some_and(|lowered| filling.fill(&lowered.wants)) {
            continue;
        }
        let mut diagnostics = checked.diagnostics.clone();
        diagnostics.extend(lowered.iter().flat_map(|lowered| lowered.diagnostics.iter().cloned()));
        diagnostics.sort_by_key(Diagnostic::primary);
        let files = files(&checked, text, known, open, base);
        return Compilation { checked, lowered, diagnostics, files };
    }
}

/// Returns the name of a recipe: the file's stem.
fn name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    match file.rsplit_once('.') {
        _ if path == "-" => "recipe",
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => file,
    }
}

/// Returns the texts of a compilation; those that have not changed are not read again.
fn files(
    checked: &Checked,
    root: &Rc<Text>,
    known: &[File],
    open: &BTreeMap<String, Rc<Text>>,
    base: &str,
) -> Vec<File> {
    let text = |index: usize, path: &str, text: &str| {
        if index == 0 {
            return root.clone();
        }
        let open = open.get(&paths::resolve(base, path));
        let known = known.iter().map(|file| &file.text);
        let same = open.into_iter().chain(known).find(|known| known.text == *text);
        same.cloned().unwrap_or_else(|| Rc::new(Text::of(text.to_owned())))
    };
    let sources = checked.sources.iter().enumerate();
    let recipes = sources.filter(|(_, source)| source.kind == SourceKind::Recipe);
    recipes
        .map(|(index, source)| File {
            path: source.path.clone(),
            text: text(index, &source.path, &source.text),
        })
        .collect()
}

/// The facts of one compilation.
struct Filling<'a, L> {
    facts: Facts,
    asked: BTreeSet<Want>,
    seen: &'a mut Seen<L>,
    open: &'a BTreeMap<String, Rc<Text>>,
    base: &'a str,
}

impl<L: Look> Filling<'_, L> {
    /// Fills what is wanted; returns whether anything is new.
    fn fill(&mut self, wants: &[Want]) -> bool {
        let mut news = false;
        for want in wants {
            news |= self.asked.insert(want.clone()) && self.fill_one(want);
        }
        news
    }

    /// Fills one want: from the open texts first, then from outside.
    fn fill_one(&mut self, want: &Want) -> bool {
        let is_open = |path: &String| self.open.get(&paths::resolve(self.base, path));
        match want {
            Want::Text(path) if let Some(text) = is_open(path) => {
                self.facts.texts.insert(path.clone(), text.text.clone());
                true
            }
            Want::Path(path) if let Some(text) = is_open(path) => {
                let print = Fingerprint { bytes: text.text.len() as u64, modified: 0, inode: 0 };
                self.facts.paths.insert(path.clone(), PathFact::File(print));
                true
            }
            other => {
                let brought = self.seen.learn(other);
                self.facts.extend(brought);
                *brought != Facts::default()
            }
        }
    }
}
