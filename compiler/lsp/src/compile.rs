//! Compiles an open text as the command line does: check, look at what is wanted, lower, look again.

use crate::outside::Look;
use crate::text::Text;
use lang::Checked;
use lang::diagnostic::Diagnostic;
use lang::facts::{Facts, Fingerprint, PathFact, Want};
use lang::paths;
use lang::source::SourceKind;
use lower::{Lowered, Options};
use std::collections::BTreeMap;
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
    pub facts: Facts,
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
    seen.look.fill(&[Want::Hardware], &mut seen.facts);
    let mut fill = |wants: &[Want], facts: &mut Facts| fill(wants, facts, &mut seen.look, open, base);
    let facts = &mut seen.facts;
    let options = Options { name: name(path).to_owned(), ..Options::default() };
    loop {
        let checked = lang::check(&input, facts);
        if fill(&checked.wants, facts) {
            continue;
        }
        let lowered =
            checked.recipe.as_ref().map(|recipe| lower::lower(recipe, &checked.sources, facts, &options));
        if lowered.as_ref().is_some_and(|lowered| fill(&lowered.wants, facts)) {
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

/// Fills what is wanted: from the open texts first, then from outside.
fn fill<L: Look>(
    wants: &[Want],
    facts: &mut Facts,
    look: &mut L,
    open: &BTreeMap<String, Rc<Text>>,
    base: &str,
) -> bool {
    let is_open = |path: &String| open.get(&paths::resolve(base, path));
    let mut news = false;
    let mut others = Vec::new();
    for want in wants {
        match want {
            Want::Text(path) if let Some(text) = is_open(path) => {
                news |= facts.texts.insert(path.clone(), text.text.clone()).is_none();
            }
            Want::Path(path) if let Some(text) = is_open(path) => {
                let print = Fingerprint { bytes: text.text.len() as u64, modified: 0, inode: 0 };
                news |= facts.paths.insert(path.clone(), PathFact::File(print)).is_none();
            }
            other => others.push(other.clone()),
        }
    }
    news | look.fill(&others, facts)
}
