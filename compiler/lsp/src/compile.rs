//! Compiles an open text as the command line does: check, look at what is wanted, lower, look again.

use crate::outside::Outside;
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
pub struct World<'a, O> {
    pub outside: &'a mut O,
    pub facts: &'a mut Facts,
    /// The open texts by absolute path; they win over what is on the disk.
    pub open: &'a BTreeMap<String, Rc<Text>>,
    /// The folder that relative paths start at.
    pub base: &'a str,
}

/// Compiles a text. `known` are texts that were read before.
pub fn compile<O: Outside>(path: &str, text: &Rc<Text>, known: &[File], world: &mut World<O>) -> Compilation {
    world.fill(&[Want::Hardware]);
    let input = lang::Input { path, text: &text.text, sets: &[] };
    let options = Options { name: name(path).to_owned(), memory: None, decisions: BTreeMap::new() };
    loop {
        let checked = lang::check(&input, world.facts);
        if world.fill(&checked.wants) {
            continue;
        }
        let lowered = checked
            .recipe
            .as_ref()
            .map(|recipe| lower::lower(recipe, &checked.sources, world.facts, &options));
        if lowered.as_ref().is_some_and(|lowered| world.fill(&lowered.wants)) {
            continue;
        }
        let mut diagnostics = checked.diagnostics.clone();
        diagnostics.extend(lowered.iter().flat_map(|lowered| lowered.diagnostics.iter().cloned()));
        diagnostics.sort_by_key(Diagnostic::primary);
        let files = files(&checked, text, known, world);
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
fn files<O>(checked: &Checked, root: &Rc<Text>, known: &[File], world: &World<O>) -> Vec<File> {
    let text = |index: usize, path: &str, text: &str| {
        if index == 0 {
            return root.clone();
        }
        let open = world.open.get(&paths::resolve(world.base, path));
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

impl<O: Outside> World<'_, O> {
    /// Fills what is wanted: from the open texts first, then from outside.
    fn fill(&mut self, wants: &[Want]) -> bool {
        let mut news = false;
        let mut others = Vec::new();
        for want in wants {
            match want {
                Want::Text(path) | Want::Path(path) => match self.open(path) {
                    Some(text) => news |= self.put(want, path, &text),
                    None => others.push(want.clone()),
                },
                other => others.push(other.clone()),
            }
        }
        news | self.outside.fill(&others, self.facts)
    }

    fn open(&self, path: &str) -> Option<Rc<Text>> {
        self.open.get(&paths::resolve(self.base, path)).cloned()
    }

    /// Puts an open text among the facts; returns whether that is new.
    fn put(&mut self, want: &Want, path: &str, text: &Text) -> bool {
        if let Want::Text(_) = want {
            return self.facts.texts.insert(path.to_owned(), text.text.clone()).is_none();
        }
        let print = Fingerprint { bytes: text.text.len() as u64, modified: 0, inode: 0 };
        self.facts.paths.insert(path.to_owned(), PathFact::File(print)).is_none()
    }
}
