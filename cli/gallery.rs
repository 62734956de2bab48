//! The gallery: the recipes that come with adapt, and the files that each of them needs.

use lang::source::SourceId;
use lang::syntax::{self, Document, Node};
use std::collections::BTreeSet;

include!(concat!(env!("OUT_DIR"), "/gallery.rs"));

/// A recipe of the gallery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// How the user names it: `quickstart`, `zephyr-7b-beta/qlora`.
    pub name: String,
    /// Where it lies in the gallery.
    path: &'static str,
    /// The first sentence of its first comment.
    pub about: String,
}

/// What is written for a recipe: paths relative to it, and what it names that does not come along.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kit {
    pub files: Vec<(String, &'static [u8])>,
    pub missing: Vec<String>,
}

/// Returns all recipes, sorted by name; files that only others use are none.
pub fn recipes() -> Vec<Recipe> {
    let paths = || FILES.iter().map(|(path, _)| *path).filter(|path| path.ends_with(".kdl"));
    let used: BTreeSet<String> = paths().flat_map(|path| paths_in(path, &parsed(path)).used).collect();
    let recipes = paths().filter(|path| !used.contains(*path));
    let mut recipes: Vec<Recipe> =
        recipes.map(|path| Recipe { name: name(path), path, about: about(text(path)) }).collect();
    recipes.sort_by(|a, b| a.name.cmp(&b.name));
    recipes
}

/// Finds a recipe by its name, or by the last part of it when no other ends so.
pub fn find(name: &str) -> Option<Recipe> {
    let all = recipes();
    if let Some(found) = all.iter().find(|recipe| recipe.name == name) {
        return Some(found.clone());
    }
    let mut ending = all.iter().filter(|recipe| recipe.name.ends_with(&format!("/{name}")));
    ending.next().filter(|_| ending.next().is_none()).cloned()
}

impl Recipe {
    /// Returns its path as the comments of the gallery name it.
    pub fn path_of_gallery(&self) -> String {
        format!("recipes/{}", self.path)
    }

    /// Gathers the recipe under the file name `as_file`, the files it uses, its lock file and its data.
    ///
    /// # Errors
    /// Fails in words when it uses a file outside its own folder: that cannot be written beside it.
    pub fn kit(&self, as_file: &str) -> Result<Kit, String> {
        let folder = folder(self.path);
        let mut kit = Kit { files: vec![(as_file.to_owned(), bytes(self.path))], missing: Vec::new() };
        let mut wanted: Vec<String> = vec![self.path.to_owned()];
        let mut taken: BTreeSet<String> = wanted.iter().cloned().collect();
        while let Some(path) = wanted.pop() {
            let named = paths_in(&path, &parsed(&path));
            for used in named.used.into_iter().filter(|used| taken.insert(used.clone())) {
                let inner = used.strip_prefix(folder);
                let inner = inner.ok_or_else(|| {
                    format!("`{}` uses `{used}` of the gallery, which lies outside its folder", self.name)
                })?;
                kit.files.push((inner.to_owned(), bytes(&used)));
                wanted.push(used);
            }
            kit.add_data(folder, named.data);
        }
        let lock = format!("{folder}adapt.lock");
        kit.files.extend(
            FILES
                .iter()
                .filter(|(path, _)| *path == lock)
                .map(|(_, bytes)| ("adapt.lock".to_owned(), *bytes)),
        );
        kit.missing.sort();
        kit.missing.dedup();
        if kit.files.iter().skip(1).any(|(file, _)| file == as_file) {
            return Err(format!("`{}` brings a file `{as_file}` of its own; choose another name", self.name));
        }
        Ok(kit)
    }
}

impl Kit {
    /// Adds the files that data paths name; what the gallery does not hold is missing.
    fn add_data(&mut self, folder: &str, data: Vec<(String, String)>) {
        for (written, path) in data {
            let inside = format!("{path}/");
            let is_meant = |file: &str| file == path || file.starts_with(&inside);
            let found: Vec<_> = FILES.iter().filter(|(file, _)| is_meant(file)).collect();
            let inner = found
                .iter()
                .map(|(file, bytes)| file.strip_prefix(folder).map(|file| (file.to_owned(), *bytes)));
            match inner.collect::<Option<Vec<_>>>() {
                Some(files) if !files.is_empty() => {
                    let news =
                        files.into_iter().filter(|file| !self.files.contains(file)).collect::<Vec<_>>();
                    self.files.extend(news);
                }
                _ => self.missing.push(written),
            }
        }
    }
}

/// The files of the gallery that a recipe names.
#[derive(Default)]
struct Named {
    used: Vec<String>,
    /// As written, and in the gallery.
    data: Vec<(String, String)>,
}

fn paths_in(path: &str, document: &Document) -> Named {
    let mut named = Named::default();
    for node in &document.nodes {
        let source = |index: usize| node.arguments.get(index).and_then(|value| value.text());
        match node.name.text.as_str() {
            "use" => named.used.extend(source(0).map(|file| joined(folder(path), file))),
            "model" | "tokenizer" | "dataset" => {
                let local = source(1).filter(|source| is_local(source));
                named.data.extend(local.map(|source| (source.to_owned(), joined(folder(path), source))));
            }
            "template" => named
                .data
                .extend(template_file(node).map(|file| (file.to_owned(), joined(folder(path), file)))),
            "swap-tokenizer" | "extend-tokenizer" => {
                let file = node.child("init").and_then(|init| {
                    init.properties.iter().find(|property| property.key.text == "file")?.value.text()
                });
                named.data.extend(file.map(|file| (file.to_owned(), joined(folder(path), file))));
            }
            _ => {}
        }
    }
    named
}

fn template_file(template: &Node) -> Option<&str> {
    let file = template.children.iter().find(|child| child.name.text == "file")?;
    file.arguments.first().and_then(|value| value.text())
}

/// Whether a source is a path, and not `hf:…`, `new:…`, `https://…` or a parameter.
fn is_local(source: &str) -> bool {
    !source.contains(':') && !source.starts_with('$')
}

/// Resolves a path against a folder of the gallery; what leads out of it keeps its `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The folder of a file, with a `/` at its end; empty at the top.
fn folder(path: &str) -> &str {
    path.rfind('/').map_or("", |end| &path[..=end])
}

/// `gpt2-nl/gpt2-nl.kdl` is `gpt2-nl`; `zephyr/qlora.kdl` is `zephyr/qlora`.
fn name(path: &str) -> String {
    let path = path.strip_suffix(".kdl").unwrap_or(path);
    match path.rsplit_once('/') {
        Some((folder, file)) if folder.rsplit('/').next() == Some(file) => folder.to_owned(),
        _ => path.to_owned(),
    }
}

fn bytes(path: &str) -> &'static [u8] {
    FILES.iter().find(|(known, _)| *known == path).map_or(&[], |(_, bytes)| *bytes)
}

/// A recipe of the gallery is UTF-8: a test reads them all.
fn text(path: &str) -> &'static str {
    std::str::from_utf8(bytes(path)).unwrap_or_default()
}

fn parsed(path: &str) -> Document {
    syntax::parse(SourceId(0), text(path)).0
}

/// Returns the first sentence of the comment that a recipe begins with.
fn about(recipe: &str) -> String {
    let comment = recipe.lines().map_while(|line| line.trim().strip_prefix("//")).map(str::trim);
    let words: Vec<&str> = comment.take_while(|line| !line.is_empty()).collect();
    let text = words.join(" ");
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_says_in_a_line_what_it_is_about() {
        let recipes = recipes();
        assert!(recipes.iter().any(|recipe| recipe.name == "quickstart"), "{recipes:?}");
        for recipe in recipes {
            assert!(recipe.about.len() > 10, "{}: begins with a comment", recipe.name);
        }
    }

    #[test]
    fn the_kit_of_every_recipe_is_complete() {
        for recipe in recipes() {
            let kit = recipe.kit("a.kdl").unwrap_or_else(|error| panic!("{error}"));
            assert!(!text(recipe.path).is_empty() && kit.files[0].0 == "a.kdl", "{}", recipe.name);
        }
    }

    #[test]
    fn the_quickstart_brings_its_data() {
        let kit = find("quickstart").expect("it is there").kit("a.kdl").expect("it is complete");
        assert_eq!(kit.missing, Vec::<String>::new());
        for file in ["quickstart/reader/train.jsonl", "quickstart/pairs/heldout.jsonl"] {
            assert!(kit.files.iter().any(|(path, bytes)| path == file && !bytes.is_empty()), "{file}");
        }
        assert!(!kit.files.iter().any(|(path, _)| path.ends_with("stories-nl.kdl")));
    }

    #[test]
    fn what_lies_outside_is_named() {
        let kit = find("stories-nl").expect("it is there").kit("a.kdl").expect("it uses nothing");
        assert!(!kit.missing.is_empty() && kit.missing.iter().all(|path| path.starts_with("../")), "{kit:?}");
    }

    #[test]
    fn names_are_short() {
        assert_eq!(name("gpt2-nl/gpt2-nl.kdl"), "gpt2-nl");
        assert_eq!(name("zephyr/qlora.kdl"), "zephyr/qlora");
        assert_eq!(name("quickstart.kdl"), "quickstart");
    }

    #[test]
    fn paths_are_joined() {
        assert_eq!(joined("a/b/", "../c.kdl"), "a/c.kdl");
        assert_eq!(joined("", "../../x"), "../../x");
        assert_eq!(joined("a/", "./c.kdl"), "a/c.kdl");
    }

    #[test]
    fn the_first_sentence_is_taken() {
        assert_eq!(about("// Adapts a model.  More\n// here.\n//\n// Source: x\n"), "Adapts a model.");
        assert_eq!(about("// Adapts\n// a model: GPT-2\nadapt 1\n"), "Adapts a model: GPT-2");
        assert_eq!(about("adapt 1\n"), "");
    }
}
