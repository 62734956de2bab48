//! A folder with recipes, an editor that has them open, and a disk as the editor's outside.

use lang::facts::{Facts, Fingerprint, HardwareFact, ModelFact, PathFact, RowsFact, Want};
use lang::lock::{Kind, Lock};
use lsp::{Abilities, Editor, Encoding, Look, Outside};
use lsp_types::{CompletionItem, CompletionItemTextEdit, Diagnostic, Position, Range, TextEdit, Uri};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder as the outside of an editor.
#[derive(Debug)]
pub struct Disk {
    base: PathBuf,
}

/// Reads a folder, as the command line does but without its patience for large files.
#[derive(Debug)]
pub struct Reader {
    base: PathBuf,
    asked: BTreeSet<Want>,
    lock: Lock,
}

impl Disk {
    pub fn at(base: &Path) -> Self {
        Self { base: base.to_path_buf() }
    }
}

impl Reader {
    fn look(&self, path: &str) -> PathFact {
        let full = self.base.join(path);
        let print = |path: &Path| {
            let bytes = fs::metadata(path).map_or(0, |meta| meta.len());
            Fingerprint { bytes, modified: 0, inode: 0 }
        };
        if full.is_dir() {
            let mut names = Disk::at(&self.base).list(path);
            names.retain(|name| name.ends_with(".jsonl"));
            names.sort();
            let files = names.into_iter().map(|name| {
                let print = print(&full.join(&name));
                (format!("{path}/{name}"), print)
            });
            return PathFact::Many(files.collect());
        }
        if full.is_file() { PathFact::File(print(&full)) } else { PathFact::Missing }
    }

    fn rows(&self, path: &str) -> RowsFact {
        let files = match self.look(path) {
            PathFact::Many(files) => files.into_iter().map(|(path, _)| path).collect(),
            _ => vec![path.to_owned()],
        };
        let first = files.last().cloned().unwrap_or_default();
        let text = fs::read_to_string(self.base.join(&first)).unwrap_or_default();
        let row: Option<serde_json::Value> =
            text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        let columns = row.as_ref().and_then(|row| row.as_object());
        let stem = |path: &String| {
            Path::new(path).file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned())
        };
        let columns: Vec<&String> = columns.into_iter().flat_map(|fields| fields.keys()).collect();
        let splits: Vec<String> = files.iter().map(stem).collect();
        fact(json!({ "columns": columns, "splits": splits, "file": first }))
    }

    fn model(&self, path: &str) -> Option<ModelFact> {
        let text = fs::read_to_string(self.base.join(path).join("config.json")).ok()?;
        let config: Value = serde_json::from_str(&text).expect("tests write JSON");
        Some(fact(json!({ "config": config, "weight_files": [] })))
    }
}

/// Makes a fact; what is not said is unknown.
fn fact<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("facts are made of what a test says")
}

impl Look for Reader {
    fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool {
        let mut news = false;
        let unseen: Vec<Want> =
            wants.iter().filter(|want| self.asked.insert((*want).clone())).cloned().collect();
        for want in &unseen {
            news |= match want {
                Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) if lang::paths::is_remote(key) => {
                    self.lock.fill(want, facts)
                }
                Want::Path(path) => facts.paths.insert(path.clone(), self.look(path)).is_none(),
                Want::Rows(path) => facts.rows.insert(path.clone(), self.rows(path)).is_none(),
                Want::Text(path) => match fs::read_to_string(self.base.join(path)) {
                    Ok(text) => facts.texts.insert(path.clone(), text).is_none(),
                    Err(_) => facts.paths.insert(path.clone(), PathFact::Missing).is_none(),
                },
                Want::Model(path) => {
                    let model = self.model(path);
                    model.is_some_and(|model| facts.models.insert(path.clone(), model).is_none())
                }
                Want::Hardware => {
                    let hardware: HardwareFact =
                        fact(json!({ "name": "a test", "memory": 8_u64 << 30, "threads": 2 }));
                    facts.hardware.replace(hardware).is_none()
                }
                Want::Tokenizer(_) | Want::Hash(_) => false,
            };
        }
        news
    }

    fn sources(&self) -> Vec<(String, Kind)> {
        self.lock.sources.iter().map(|(key, entry)| (key.clone(), entry.kind)).collect()
    }
}

impl Outside for Disk {
    type Look = Reader;

    fn look(&self, recipe: &str) -> Result<Reader, String> {
        let path = lang::paths::resolve(lang::paths::folder(recipe), lang::lock::FILE);
        let lock = match fs::read_to_string(self.base.join(path)) {
            Ok(text) => Lock::read(&text)?,
            Err(_) => Lock::default(),
        };
        Ok(Reader { base: self.base.clone(), asked: BTreeSet::new(), lock })
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.base.join(folder)).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let folder = if entry.path().is_dir() { "/" } else { "" };
                format!("{}{folder}", entry.file_name().to_string_lossy())
            })
            .collect()
    }

    fn show(&self, name: &str, text: &str) -> Option<String> {
        let path = self.base.join("shown").join(name);
        fs::create_dir_all(path.parent()?).ok()?;
        fs::write(&path, text).ok()?;
        path.to_str().map(str::to_owned)
    }
}

/// An editor on a folder of its own.
pub struct Desk {
    folder: TempDir,
    pub editor: Editor<Disk>,
    texts: BTreeMap<String, String>,
    version: i32,
}

impl Desk {
    /// Makes a folder with these files.
    pub fn with(files: &[(&str, &str)], encoding: Encoding) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("files lie in a folder")).expect("folders can be made");
            fs::write(path, text).expect("files can be written");
        }
        let base = folder.path().to_str().expect("the path is UTF-8").to_owned();
        let abilities = Abilities { encoding, snippets: false, code_pages: true };
        let editor = Editor::new(Disk::at(folder.path()), &base, abilities);
        Self { folder, editor, texts: BTreeMap::new(), version: 0 }
    }

    /// Makes a folder with nothing but an open recipe, `a.kdl`.
    pub fn of(text: &str) -> Self {
        let mut desk = Self::with(&[], Encoding::Utf16);
        desk.open("a.kdl", text);
        desk
    }

    pub fn uri(&self, name: &str) -> Uri {
        Uri::from_file_path(self.folder.path().join(name)).expect("the path is absolute")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("files can be written");
    }

    pub fn open(&mut self, name: &str, text: &str) {
        self.version += 1;
        self.editor.open(self.uri(name), self.version, text.to_owned(), true);
        self.texts.insert(name.to_owned(), text.to_owned());
    }

    /// Returns the position of a byte, in the editor's own counting.
    pub fn position(&self, name: &str, at: usize) -> Position {
        let before = &self.texts[name][..at];
        let line = before.matches('\n').count() as u32;
        let column = before.rsplit('\n').next().unwrap_or_default();
        let character = match self.editor.encoding() {
            Encoding::Utf8 => column.len(),
            Encoding::Utf16 => column.encode_utf16().count(),
        };
        Position { line, character: character as u32 }
    }

    /// Returns the position behind the first place where a text stands.
    pub fn behind(&self, name: &str, word: &str) -> Position {
        let at = self.texts[name].find(word).unwrap_or_else(|| panic!("`{word}` stands in {name}"));
        self.position(name, at + word.len())
    }

    /// Returns the text of a range.
    pub fn text(&self, name: &str, range: Range) -> &str {
        let text = &self.texts[name];
        let at = |position: Position| {
            let line: usize = text.split('\n').take(position.line as usize).map(|line| line.len() + 1).sum();
            let mut left = position.character as usize;
            let mut end = line;
            for c in text[line..].chars().take_while(|c| *c != '\n') {
                let width = match self.editor.encoding() {
                    Encoding::Utf8 => c.len_utf8(),
                    Encoding::Utf16 => c.len_utf16(),
                };
                if left < width {
                    break;
                }
                left -= width;
                end += c.len_utf8();
            }
            end
        };
        &text[at(range.start)..at(range.end)]
    }

    pub fn diagnostics(&mut self, name: &str) -> Vec<Diagnostic> {
        let uri = self.uri(name);
        self.editor.diagnostics(&uri)
    }

    /// Returns what completion offers where a `|` marks the cursor, in `a.kdl`.
    pub fn complete(&mut self, marked: &str) -> Vec<CompletionItem> {
        let at = marked.find('|').expect("the cursor is marked");
        self.open("a.kdl", &marked.replacen('|', "", 1));
        let (uri, position) = (self.uri("a.kdl"), self.position("a.kdl", at));
        self.editor.completion(&uri, position)
    }

    /// Returns the labels of what completion offers.
    pub fn labels(&mut self, marked: &str) -> Vec<String> {
        self.complete(marked).into_iter().map(|item| item.label).collect()
    }

    /// Returns a text with edits of an open file applied.
    pub fn applied(&self, name: &str, edits: &[TextEdit]) -> String {
        let mut edits: Vec<&TextEdit> = edits.iter().collect();
        edits.sort_by_key(|edit| (edit.range.start.line, edit.range.start.character));
        let mut text = self.texts[name].clone();
        for edit in edits.into_iter().rev() {
            let part = self.text(name, edit.range);
            let start = part.as_ptr() as usize - self.texts[name].as_ptr() as usize;
            text.replace_range(start..start + part.len(), &edit.new_text);
        }
        text
    }
}

/// Returns the edit that a completion makes.
pub fn edit(item: &CompletionItem) -> TextEdit {
    match &item.text_edit {
        Some(CompletionItemTextEdit::TextEdit(edit)) => edit.clone(),
        other => panic!("an edit of one range, not {other:?}"),
    }
}
