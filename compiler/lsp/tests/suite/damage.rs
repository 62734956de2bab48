//! Truncated and mutated recipes: nothing panics, symbols survive, completion goes on.

use crate::desk::Disk;
use lsp::outline::Outline;
use lsp::tokens::{Kind, Token};
use lsp::{Abilities, Editor, Encoding};
use lsp_types::{Position, Range, Uri};
use std::path::{Path, PathBuf};

/// How many damaged texts are made of each recipe, by each kind of damage.
const MUTATIONS: usize = 2;

/// Returns every recipe of the project.
fn recipes() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(folder).expect("the folder is there").flatten();
        let (inner, files): (Vec<_>, Vec<_>) =
            entries.map(|entry| entry.path()).partition(|path| path.is_dir());
        folders.extend(inner);
        paths.extend(files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "kdl")));
    }
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("it is text"))).collect()
}

/// Draws numbers that are the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}

fn boundary(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// Takes out the nth of some characters.
fn without(text: &str, characters: &[char], nth: usize) -> String {
    let places: Vec<usize> = text.match_indices(characters).map(|(at, _)| at).collect();
    let Some(&at) = places.get(nth % places.len().max(1)) else { return text.to_owned() };
    let mut text = text.to_owned();
    text.remove(at);
    text
}

/// Returns damaged texts, each with the byte that the damage is at.
fn damaged(text: &str, draws: &mut Draws) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for _ in 0..MUTATIONS {
        let cut = boundary(text, draws.below(text.len()));
        all.push((text[..cut].to_owned(), cut));
        let at = boundary(text, draws.below(text.len()));
        let end = boundary(text, at + draws.below(12));
        all.push((format!("{}{}", &text[..at], &text[end..]), at));
        let noise = ["{", "}", "\"", "/*", "*/", "/-", "=", "\\", "𝄞", "#\"", "\"\"\"", "\u{0}", ";"];
        let noise = noise[draws.below(noise.len())];
        all.push((format!("{}{noise}{}", &text[..at], &text[at..]), at + noise.len()));
        all.push((without(text, &['{', '}'], draws.below(1000)), at));
        all.push((without(text, &['"'], draws.below(1000)), at));
    }
    all
}

fn names(editor: &Editor<Disk>, uri: &Uri) -> Vec<String> {
    editor.symbols(uri).into_iter().map(|symbol| symbol.name).collect()
}

/// Asks everything that an editor asks at a place.
fn ask_everything(editor: &mut Editor<Disk>, uri: &Uri, text: &str, at: usize) {
    let before = &text[..boundary(text, at)];
    let line = before.matches('\n').count() as u32;
    let character = before.rsplit('\n').next().unwrap_or_default().encode_utf16().count() as u32;
    let position = Position { line, character };
    let whole = Range { start: Position::default(), end: Position { line: u32::MAX, character: 0 } };
    editor.completion(uri, position);
    editor.hover(uri, position);
    editor.definition(uri, position);
    editor.references(uri, position, true);
    let _ = editor.rename(uri, position, "other");
    editor.actions(uri, whole);
    editor.hints(uri, whole);
    editor.links(uri);
    editor.folding(uri);
    let tokens = editor.tokens(uri, None);
    assert!(tokens.iter().all(|token| token.length > 0));
}

#[test]
fn an_editor_survives_everything() {
    let mut draws = Draws(7);
    let mut count = 0;
    for (path, text) in recipes() {
        let folder = path.parent().expect("recipes lie in a folder");
        let base = folder.canonicalize().expect("it is there").to_str().expect("UTF-8").to_owned();
        let mut editor = Editor::new(Disk::at(folder), &base, Abilities::default());
        let uri = Uri::from_file_path(Path::new(&base).join("damaged.kdl")).expect("the path is absolute");
        editor.open(uri.clone(), 0, text.clone(), true);
        let whole = names(&editor, &uri);
        for (damaged, at) in damaged(&text, &mut draws) {
            editor.open(uri.clone(), 1, damaged.clone(), true);
            editor.reports();
            ask_everything(&mut editor, &uri, &damaged, at);
            survived(&editor, &uri, &whole, &damaged);
            count += 1;
        }
    }
    assert!(count >= 200, "{count} damaged texts");
}

/// Every declaration whose line is still as it was is still a symbol; one place costs few of the others.
fn survived(editor: &Editor<Disk>, uri: &Uri, whole: &[String], damaged: &str) {
    let found = names(editor, uri);
    let is_there = |name: &&String| {
        let line = |line: &str| {
            let mut words = line.split(' ');
            words.next().is_some_and(|kind| stdlib::schema::top(kind).is_some())
                && words.next() == Some(name.as_str())
        };
        damaged.lines().any(line)
    };
    // A quote or comment that opens may swallow what follows it, but not much of it.
    let swallowing = damaged.contains("/*") || damaged.contains("\"\"\"") || damaged.contains("/-");
    let lost: Vec<&String> = whole.iter().filter(is_there).filter(|name| !found.contains(name)).collect();
    assert!(swallowing || lost.is_empty(), "{lost:?} of {found:?} in\n{damaged}");
}

#[test]
fn completion_is_never_empty_where_a_node_can_stand() {
    let mut draws = Draws(11);
    for (_, text) in recipes() {
        for _ in 0..MUTATIONS * 9 {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let keep = draws.below(lines.len() + 1);
            let mut damaged: String = lines[..keep].concat();
            // A half word, an opened quote, or nothing; then a fresh line.
            damaged += ["", "opti", "    bat", "model m \"x", "    optimizer adamw lr="][draws.below(5)];
            let at = damaged.len() + 1;
            damaged += "\n";
            damaged += &lines[keep..].concat();
            check_completion(&damaged, at);
        }
    }
}

fn check_completion(text: &str, at: usize) {
    let folder = Path::new("/nowhere");
    let mut editor = Editor::new(
        Disk::at(folder),
        "/nowhere",
        Abilities { encoding: Encoding::Utf8, snippets: true, ..Abilities::default() },
    );
    let uri = Uri::from_file_path("/nowhere/a.kdl").expect("the path is absolute");
    editor.open(uri.clone(), 1, text.to_owned(), true);
    let line = text[..at].matches('\n').count() as u32;
    let items = editor.completion(&uri, Position { line, character: 0 });
    assert!(!items.is_empty() || is_closed(text, at), "nothing is offered in line {line} of\n{text}");
}

/// Whether no node can stand at a byte: it is within a text, or in a block that has every child that it takes.
fn is_closed(text: &str, at: usize) -> bool {
    let outline = Outline::of(text);
    let holds = |token: &Token| token.kind == Kind::Text && token.range.start < at && at < token.range.end;
    if outline.tokens.iter().any(holds) {
        return true;
    }
    let Some(block) = outline.block_at(at) else { return false };
    let word = |node: usize| &text[outline.nodes[node].name.range.clone()];
    let mut schema = None;
    for node in outline.path(block) {
        schema = match schema {
            None => stdlib::schema::top(word(node)),
            Some(parent) => stdlib::schema::Node::child(parent, word(node)),
        };
    }
    let is_there = |name: &str| outline.children(Some(block)).any(|node| word(node) == name);
    schema.is_some_and(|schema| {
        // Of a group one child stands for all.
        let takes_no_more = |child: &&'static stdlib::schema::Node| {
            let mut group =
                schema.children.iter().filter(|other| !child.group.is_empty() && other.group == child.group);
            !child.repeats && (is_there(child.name) || group.any(|other| is_there(other.name)))
        };
        schema.children.iter().all(takes_no_more)
    })
}

#[test]
fn what_is_no_recipe_at_all_is_taken_as_it_is() {
    let deep = "a {\n".repeat(20_000);
    let wide = format!("model m \"x\" {}", "k=1 ".repeat(500));
    let large = "// a line that is long enough to count\n".repeat(30_000);
    assert!(large.len() > lang::syntax::MAX_BYTES);
    let texts =
        [deep, wide, large, "\u{feff}adapt 1\r\nsft a {\r\n\u{2028}".to_owned(), "\u{0}".repeat(1000)];
    let mut editor = Editor::new(Disk::at(Path::new("/nowhere")), "/nowhere", Abilities::default());
    let uri = Uri::from_file_path("/nowhere/a.kdl").expect("the path is absolute");
    for text in texts {
        editor.open(uri.clone(), 1, text.clone(), true);
        assert_eq!(editor.reports().len(), 1);
        ask_everything(&mut editor, &uri, &text, text.len());
        editor.symbols(&uri);
    }
}

#[test]
fn a_text_of_any_shape_is_read_in_time() {
    let start = std::time::Instant::now();
    for piece in ["{", "}", "a {\n", "}\n", "a;", "\"", "/*", "a=", " b\n", "/-", "x {\n}\n}\n", "\\\n"] {
        let text = piece.repeat((1 << 17) / piece.len());
        let outline = Outline::of(&text);
        assert!(outline.nodes.len() <= text.len(), "{piece}");
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
