//! Gathers facts: looks at the disk and the machine for what the compiler would like to know.
//!
//! `check` reads small files only: it never hashes data and never parses a large tokenizer.json.

use crate::machine;
use crate::resolve::Resolver;
use lang::facts::{
    Facts, Fingerprint, HardwareFact, ModelFact, PathFact, Rates, RowsFact, TensorFact, TokenizerBytes,
    TokenizerFact, Want,
};
use lang::lock::Lock;
use rayon::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest tokenizer.json that a quick look parses.
const SMALL_TOKENIZER: u64 = 4 << 20;

/// Bytes of a data file that are looked at for its columns.
const FIRST_BYTES: u64 = 256 << 10;

/// Files of a dataset that are looked at for columns.
const MOST_FILES: usize = 64;

/// Rows that are looked at for columns.
const FIRST_ROWS: usize = 16;

/// Bytes whose hashing takes long enough to be mentioned.
const WORTH_A_WORD: u64 = 1 << 30;

/// Memory that is left to the rest of the machine.
const RESERVE: u64 = 512 << 20;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// For `check`: small files, no hashing.
    Quick,
    /// For `plan` and `run`: everything, contents hashed.
    Full,
}

/// Fills wants into facts; what cannot be had is recorded as such, so that nothing is asked twice.
pub struct Gatherer {
    depth: Depth,
    hashes: HashMemory,
    asked: std::collections::BTreeSet<Want>,
    lock: Lock,
    resolver: Option<Resolver>,
    /// Where what this machine reaches is remembered.
    cache: Option<PathBuf>,
    /// Threads that a run has.
    threads: usize,
}

impl Gatherer {
    /// Makes a gatherer for a quick look.
    pub fn quick() -> Self {
        Gatherer {
            depth: Depth::Quick,
            hashes: HashMemory::default(),
            asked: Default::default(),
            lock: Lock::default(),
            resolver: None,
            cache: None,
            threads: machine::threads(),
        }
    }

    /// Lets a quick look use what is remembered of this machine.
    pub fn remembering(self, cache: &Path) -> Self {
        Gatherer { cache: Some(cache.to_owned()), ..self }
    }

    /// Makes a gatherer that gets everything; content hashes are remembered in the cache by fingerprint.
    pub fn full(cache: &Path) -> Self {
        Gatherer {
            depth: Depth::Full,
            hashes: HashMemory::open(cache),
            asked: Default::default(),
            lock: Lock::default(),
            resolver: None,
            cache: Some(cache.to_owned()),
            threads: machine::threads(),
        }
    }

    /// Takes this machine to have so many threads, where a run is told how many.
    pub fn with_threads(self, told: Option<usize>) -> Self {
        Gatherer { threads: machine::threads_of(told), ..self }
    }

    /// Asks the hub for what the lock file lacks.
    pub fn resolving(mut self, resolver: Option<Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Gives the resolver back, to save what it pinned.
    pub fn into_resolver(self) -> Option<Resolver> {
        self.resolver
    }

    /// Reads the lock file beside a recipe, if there is one.
    ///
    /// # Errors
    /// Says in words why a lock file that is there cannot be used.
    pub fn open_lock(&mut self, recipe: &str) -> Result<(), String> {
        let path = lang::paths::resolve(lang::paths::folder(recipe), lang::lock::FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                self.lock = Lock::read(&text).map_err(|why| format!("{path} cannot be used: {why}"))?;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Fills what can be had; returns whether anything is new.
    pub fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool {
        let mut news = false;
        if self.depth == Depth::Full {
            self.hashes.learn(wants.iter().filter_map(|want| match want {
                Want::Hash(path) => Some(path.as_str()),
                _ => None,
            }));
        }
        if let Some(resolver) = &mut self.resolver {
            resolver.pin(wants, &mut self.lock);
        }
        for want in wants {
            if self.asked.insert(want.clone()) {
                news |= self.fill_one(want, facts);
            }
        }
        self.hashes.save();
        news
    }

    fn fill_one(&mut self, want: &Want, facts: &mut Facts) -> bool {
        crate::terminal::detail(|| said(want));
        if remote(want) {
            return self.lock.fill(want, facts);
        }
        match want {
            Want::Path(path) => {
                facts.paths.insert(path.clone(), look_at(path));
                true
            }
            Want::Model(path) => {
                facts.models.insert(path.clone(), model(path));
                true
            }
            Want::Tokenizer(path) => match tokenizer(path, self.depth) {
                Some(fact) => {
                    facts.tokenizers.insert(path.clone(), fact);
                    true
                }
                None => false,
            },
            Want::Rows(path) => {
                facts.rows.insert(path.clone(), rows(path));
                true
            }
            Want::Text(path) => match fs::read_to_string(path) {
                Ok(text) => {
                    facts.texts.insert(path.clone(), text);
                    true
                }
                Err(error) => {
                    // A file that is there and gives no text is not UTF-8, or closed to this user.
                    let fact = match look_at(path) {
                        PathFact::File(_) => PathFact::Unreadable(error.to_string()),
                        fact => fact,
                    };
                    facts.paths.insert(path.clone(), fact);
                    true
                }
            },
            Want::Hash(path) => match self.depth {
                Depth::Quick => false,
                Depth::Full => match self.hashes.of(path) {
                    Some(hash) => {
                        facts.hashes.insert(path.clone(), hash);
                        true
                    }
                    None => false,
                },
            },
            Want::Hardware => {
                let threads = self.threads as u32;
                facts.hardware = Some(HardwareFact { rates: self.rates(), threads, ..hardware() });
                true
            }
        }
    }
}

impl Gatherer {
    /// Returns what this machine reaches: as remembered, else, where there is time for it, as measured now.
    fn rates(&self) -> Option<Rates> {
        let cache = self.cache.as_deref()?;
        match self.depth {
            Depth::Quick => machine::remembered(cache, self.threads),
            Depth::Full => Some(machine::rates(cache, self.threads)),
        }
    }
}

/// Says what is looked at.
fn said(want: &Want) -> String {
    match want {
        Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) | Want::Path(key) | Want::Hash(key)
            if remote(want) =>
        {
            format!("looks into adapt.lock for {key}")
        }
        Want::Path(path) => format!("looks for {path}"),
        Want::Model(path) => format!("reads the config and headers of {path}"),
        Want::Tokenizer(path) => format!("reads the tokenizer of {path}"),
        Want::Rows(path) => format!("reads the first rows of {path}"),
        Want::Text(path) => format!("reads {path}"),
        Want::Hash(path) => format!("needs the hash of {path}"),
        Want::Hardware => "looks at this machine".into(),
    }
}

/// Whether a want is about something that lies elsewhere, of which only a lock file can tell.
pub fn remote(want: &Want) -> bool {
    match want {
        Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) | Want::Path(key) | Want::Hash(key) => {
            lang::paths::is_remote(key)
        }
        Want::Text(_) | Want::Hardware => false,
    }
}

fn fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    let meta = fs::metadata(path)?;
    let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(Fingerprint { bytes: meta.len(), modified, inode: meta.ino() })
}

fn look_at(path: &str) -> PathFact {
    if path.contains(['*', '?', '[']) {
        return look_at_glob(path);
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => PathFact::Missing,
        Err(error) => PathFact::Unreadable(error.to_string()),
        Ok(meta) if meta.is_dir() => look_at_folder(path),
        Ok(_) => match fingerprint(Path::new(path)) {
            Ok(print) => PathFact::File(print),
            Err(error) => PathFact::Unreadable(error.to_string()),
        },
    }
}

/// Data files lie directly in a folder; hidden files, other kinds of files and inner folders are not data.
fn look_at_folder(path: &str) -> PathFact {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return PathFact::Unreadable(error.to_string()),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<(String, Fingerprint)> = names
        .filter(|name| {
            !name.starts_with('.') && [".jsonl", ".json", ".txt"].iter().any(|end| name.ends_with(end))
        })
        .map(|name| format!("{}/{name}", path.trim_end_matches('/')))
        .filter_map(|file| fingerprint(Path::new(&file)).ok().map(|print| (file, print)))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    PathFact::Many(files)
}

fn look_at_glob(pattern: &str) -> PathFact {
    let found = match glob::glob(pattern) {
        Ok(found) => found,
        Err(error) => return PathFact::Unreadable(error.to_string()),
    };
    let mut files: Vec<(String, Fingerprint)> = found
        .flatten()
        .filter(|path| path.is_file())
        .filter_map(|path| Some((path.to_str()?.to_owned(), fingerprint(&path).ok()?)))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    if files.is_empty() { PathFact::Missing } else { PathFact::Many(files) }
}

fn json(path: &Path) -> Result<Option<Value>, String> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("{} is not JSON: {error}", path.display())),
        },
    }
}

/// Looks into a model folder: config.json, headers of the weights, generation_config.json, its chat template.
fn model(folder: &str) -> ModelFact {
    let path = Path::new(folder);
    let mut fact = ModelFact {
        config: Value::Null,
        tensors: None,
        weight_files: Vec::new(),
        generation_config: None,
        chat_template: own_template(path).map(|(text, _)| text),
        partial: false,
        pickled: None,
        problem: None,
    };
    match json(&path.join("config.json")) {
        Ok(Some(config)) => fact.config = config,
        Ok(None) if path.is_dir() => fact.problem = Some("there is no config.json in it".into()),
        Ok(None) => fact.problem = Some("there is no such folder".into()),
        Err(problem) => fact.problem = Some(problem),
    }
    fact.generation_config = json(&path.join("generation_config.json")).ok().flatten();
    if fact.problem.is_none() {
        match weight_files(path) {
            Ok(files) => read_headers(files, &mut fact),
            Err(problem) => {
                fact.pickled = pickled(path);
                fact.problem = Some(problem);
            }
        }
    }
    fact
}

/// Returns the first file of pickled weights in a folder.
fn pickled(folder: &Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_pickle = |name: &String| {
        [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end)) && name != "training_args.bin"
    };
    names.filter(is_pickle).min()
}

/// Returns the safetensors files of a folder: one, or those of its index.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = json(&folder.join("model.safetensors.index.json"))?;
    let Some(map) = index.as_ref().and_then(|index| index.get("weight_map")).and_then(Value::as_object)
    else {
        return Err(
            "there are no weights in it: neither model.safetensors nor model.safetensors.index.json".into()
        );
    };
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn read_headers(files: Vec<PathBuf>, fact: &mut ModelFact) {
    let mut tensors = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        match header(file) {
            Ok(header) => tensors.extend(header.into_iter().map(|(name, mut tensor)| {
                tensor.file = index as u32;
                (name, tensor)
            })),
            Err(problem) => fact.problem = Some(format!("{}: {problem}", file.display())),
        }
        fact.weight_files.push(file.display().to_string());
    }
    fact.tensors = Some(tensors);
}

/// Reads the header of a safetensors file and checks that the file is as long as the header says.
fn header(file: &Path) -> Result<BTreeMap<String, TensorFact>, String> {
    let mut reader = fs::File::open(file).map_err(|error| error.to_string())?;
    let length = reader.metadata().map_err(|error| error.to_string())?.len();
    let mut size = [0; 8];
    reader.read_exact(&mut size).map_err(|_| "it is shorter than a safetensors header".to_owned())?;
    let size = u64::from_le_bytes(size);
    if size > length.saturating_sub(8) || size > 100 << 20 {
        return Err(format!(
            "its header says that it is {size} bytes long, but the file has {length}: it is cut off or not safetensors"
        ));
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text).map_err(|error| error.to_string())?;
    let header: Value =
        serde_json::from_slice(&text).map_err(|error| format!("its header is not JSON: {error}"))?;
    let entries = header.as_object().ok_or("its header is not an object")?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        let numbers = |key: &str| -> Option<Vec<u64>> {
            entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
        };
        let (Some(dtype), Some(shape), Some(offsets)) =
            (entry.get("dtype").and_then(Value::as_str), numbers("shape"), numbers("data_offsets"))
        else {
            return Err(format!("tensor `{name}` lacks dtype, shape or data_offsets"));
        };
        if offsets.get(1).is_none_or(|&end| end > length - 8 - size) {
            return Err(format!("tensor `{name}` ends behind the file's end: the file is cut off"));
        }
        tensors.insert(name.clone(), TensorFact { dtype: dtype.to_owned(), shape, file: 0 });
    }
    Ok(tensors)
}

/// Looks into the folder of a tokenizer that a task has trained.
pub fn tokenizer_of(folder: &Path) -> TokenizerFact {
    let path = folder.display().to_string();
    tokenizer(&path, Depth::Full).expect("only a quick look skips large files")
}

/// Looks into a tokenizer folder or file; nothing when it is too large for a quick look.
fn tokenizer(path: &str, depth: Depth) -> Option<TokenizerFact> {
    let place = Path::new(path);
    let (folder, file) = match place.is_dir() {
        true => (place.to_path_buf(), place.join("tokenizer.json")),
        false => (place.parent().map(Path::to_path_buf).unwrap_or_default(), place.to_path_buf()),
    };
    let mut fact = TokenizerFact {
        vocab_size: 0,
        bos: None,
        eos: None,
        pad: None,
        special: Vec::new(),
        chat_template: None,
        partial: false,
        files: vec![file.display().to_string()],
        memory: None,
        problem: None,
    };
    let size = match fs::metadata(&file) {
        Ok(meta) => meta.len(),
        Err(_) => {
            fact.problem = Some(format!("there is no {}", file.display()));
            fact.files.clear();
            return Some(fact);
        }
    };
    if depth == Depth::Quick && size > SMALL_TOKENIZER {
        return None;
    }
    let tokenizer = match json(&file) {
        Ok(Some(value)) => value,
        Ok(None) => {
            fact.problem = Some(format!("{} vanished while it was read", file.display()));
            return Some(fact);
        }
        Err(problem) => {
            fact.problem = Some(problem);
            return Some(fact);
        }
    };
    let ids = token_ids(&tokenizer, &mut fact);
    let tables = table_bytes(&tokenizer, ids.len() as u64);
    fact.memory = Some(TokenizerBytes { text: size, tables });
    if place.is_dir() {
        read_tokenizer_config(&folder, &ids, &mut fact);
    }
    Some(fact)
}

/// Returns the bytes of the tables of a tokenizer: of unigrams, whose vocabulary is a list, or by its merges.
fn table_bytes(tokenizer: &Value, ids: u64) -> u64 {
    match tokenizer.pointer("/model/vocab") {
        Some(Value::Array(pieces)) => {
            tokenizer::unigram_bytes(pieces.iter().filter_map(|piece| piece.get(0)?.as_str()))
        }
        _ => {
            let merges = tokenizer.pointer("/model/merges").and_then(Value::as_array).map_or(0, Vec::len);
            tokenizer::table_bytes(ids, merges as u64)
        }
    }
}

/// Counts the vocabulary and lists special tokens; returns the ids of added tokens and of the model's vocabulary.
fn token_ids(tokenizer: &Value, fact: &mut TokenizerFact) -> HashMap<String, u32> {
    let mut ids: HashMap<String, u32> = HashMap::new();
    match tokenizer.pointer("/model/vocab") {
        Some(Value::Object(vocab)) => {
            ids.extend(vocab.iter().filter_map(|(token, id)| Some((token.clone(), id.as_u64()? as u32))));
        }
        Some(Value::Array(pieces)) => {
            let token = |piece: &Value| piece.get(0).and_then(Value::as_str).map(str::to_owned);
            ids.extend(pieces.iter().enumerate().filter_map(|(id, piece)| Some((token(piece)?, id as u32))));
        }
        _ => fact.problem = Some("tokenizer.json has no vocabulary".into()),
    }
    for token in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        let (Some(content), Some(id)) =
            (token.get("content").and_then(Value::as_str), token.get("id").and_then(Value::as_u64))
        else {
            continue;
        };
        ids.insert(content.to_owned(), id as u32);
        if token.get("special").and_then(Value::as_bool) == Some(true) {
            fact.special.push((content.to_owned(), id as u32));
        }
    }
    fact.vocab_size = ids.values().max().map_or(0, |&id| u64::from(id) + 1);
    ids
}

fn read_tokenizer_config(folder: &Path, ids: &HashMap<String, u32>, fact: &mut TokenizerFact) {
    let mut named = serde_json::Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        match json(&folder.join(name)) {
            Ok(Some(Value::Object(fields))) => {
                fact.files.push(folder.join(name).display().to_string());
                named.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
            }
            Ok(_) => {}
            Err(problem) => fact.problem = Some(problem),
        }
    }
    let token = |key: &str| {
        let value = named.get(key)?;
        let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str))?;
        Some((text.to_owned(), *ids.get(text)?))
    };
    (fact.bos, fact.eos, fact.pad) = (token("bos_token"), token("eos_token"), token("pad_token"));
    fact.chat_template = own_template(folder).map(|(text, file)| {
        fact.files.extend(file.map(|file| file.display().to_string()));
        text
    });
}

/// Returns the chat template of a folder, and the file that it has for itself: chat_template.jinja, else
/// what tokenizer_config.json holds; of several by name the default one.
fn own_template(folder: &Path) -> Option<(String, Option<PathBuf>)> {
    let file = folder.join("chat_template.jinja");
    if let Ok(text) = fs::read_to_string(&file) {
        return Some((text, Some(file)));
    }
    let config = json(&folder.join("tokenizer_config.json")).ok().flatten()?;
    let is_default = |named: &&Value| named.get("name").and_then(Value::as_str) == Some("default");
    let text = match config.get("chat_template")? {
        Value::Array(named) => named.iter().find(is_default)?.get("template")?.as_str()?,
        one => one.as_str()?,
    };
    Some((text.to_owned(), None))
}

/// Looks at the first rows of a dataset for its columns and splits.
fn rows(source: &str) -> RowsFact {
    let files = match look_at(source) {
        PathFact::File(_) => vec![source.to_owned()],
        PathFact::Many(files) => files.into_iter().map(|(path, _)| path).collect(),
        PathFact::Missing | PathFact::Unreadable(_) => Vec::new(),
    };
    let stem = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.split('.').next().unwrap_or(name).to_owned()
    };
    let mut splits: Vec<String> = files.iter().map(stem).collect();
    splits.dedup();
    let file = files.first().cloned().unwrap_or_default();
    let row_bytes = row_bytes(Path::new(&file));
    let mut fact = RowsFact {
        columns: Vec::new(),
        splits,
        split_rows: BTreeMap::new(),
        measured: None,
        roles: roles(Path::new(&file)),
        file: file.clone(),
        row_bytes,
        problem: None,
    };
    if file.is_empty() {
        fact.problem = Some("there is no data file".into());
        return fact;
    }
    // Of several files the one with the fewest columns tells what may be relied on.
    for path in files.iter().take(MOST_FILES) {
        match columns(Path::new(path)) {
            Ok(columns)
                if fact.columns.is_empty()
                    || columns.len() < fact.columns.len()
                    || !holds(&columns, &fact.columns) =>
            {
                fact.columns = columns;
                fact.file = path.clone();
            }
            Ok(_) => {}
            Err(problem) => fact.problem = Some(problem),
        }
    }
    fact
}

fn holds(columns: &[String], others: &[String]) -> bool {
    others.iter().all(|other| columns.contains(other))
}

/// Returns the mean bytes of the first rows of a file with a row on each line.
fn row_bytes(file: &Path) -> Option<f64> {
    let mut bytes = Vec::new();
    if file.extension()? != "jsonl" {
        return None;
    }
    fs::File::open(file).ok()?.take(FIRST_BYTES).read_to_end(&mut bytes).ok()?;
    let rows = bytes.iter().filter(|&&byte| byte == b'\n').count();
    (rows > 0).then(|| bytes.len() as f64 / rows as f64)
}

/// Returns the roles of messages in the first rows of a file with a row on each line, each with its first place.
fn roles(file: &Path) -> BTreeMap<String, String> {
    let mut roles = BTreeMap::new();
    let mut bytes = Vec::new();
    let reader = fs::File::open(file).ok().filter(|_| file.extension().is_some_and(|end| end == "jsonl"));
    if reader.is_none_or(|reader| reader.take(FIRST_BYTES).read_to_end(&mut bytes).is_err()) {
        return roles;
    }
    let text = String::from_utf8_lossy(&bytes);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().take(FIRST_ROWS).enumerate() {
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        let messages = row.get("messages").or(row.get("conversations")).and_then(Value::as_array);
        for message in messages.into_iter().flatten() {
            if let Some(role) = message.get("role").or(message.get("from")).and_then(Value::as_str) {
                let place = || format!("{}:{}", file.display(), number + 1);
                roles.entry(role.to_owned()).or_insert_with(place);
            }
        }
    }
    roles
}

/// Returns the names in the first line of a table; none where that holds quotes, which a quick look does not read.
fn header_of_table(text: &str, separator: char) -> Vec<String> {
    let line = text.lines().next().unwrap_or_default();
    if line.contains('"') {
        return Vec::new();
    }
    line.split(separator).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn columns(file: &Path) -> Result<Vec<String>, String> {
    if file.extension().is_some_and(|end| end == "txt") {
        return Ok(vec!["text".into()]);
    }
    let reader = fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut bytes = Vec::new();
    reader.take(FIRST_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    match file.extension().and_then(|end| end.to_str()) {
        Some("csv") => return Ok(header_of_table(text, ',')),
        Some("tsv") => return Ok(header_of_table(text, '\t')),
        _ => {}
    }
    let mut columns: Vec<String> = Vec::new();
    let mut add = |row: &Value| {
        for name in row.as_object().into_iter().flat_map(|fields| fields.keys()) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    };
    if file.extension().is_some_and(|end| end == "json") && text.trim_start().starts_with('[') {
        // Rows of an array are read one by one, so that a long file need not be read to its end.
        let rest = text.trim_start().trim_start_matches('[');
        let mut rest = rest.trim_start();
        for _ in 0..FIRST_ROWS {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let Some(Ok(row)) = stream.next() else { break };
            add(&row);
            rest = rest[stream.byte_offset()..].trim_start().trim_start_matches(',').trim_start();
        }
    } else {
        // A broken row is the preparing's to report, with its number.
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.take(FIRST_ROWS).filter_map(|line| serde_json::from_str(line).ok()).for_each(|row| add(&row));
    }
    Ok(columns)
}

/// Returns what this machine offers: the memory of the machine or of the control group, less a reserve.
pub fn hardware() -> HardwareFact {
    let total = [machine_memory(), group_memory()].into_iter().flatten().min().unwrap_or(8 << 30);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    HardwareFact {
        name: "this machine".into(),
        memory: total.saturating_sub(RESERVE),
        threads: threads as u32,
        profile: cpu_profile().map(str::to_owned),
        ghz: clock(),
        rates: None,
    }
}

/// Returns the hardware profile that this machine's cores fit.
fn cpu_profile() -> Option<&'static str> {
    match engine::checkpoint::instruction_set() {
        "avx512" => Some("cpu-avx512"),
        "avx2" => Some("cpu-avx2"),
        _ => None,
    }
}

/// Returns the clock of the cores in GHz, as the system gives it.
fn clock() -> Option<f64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split(':').nth(1)?.trim().parse::<f64>().ok().map(|mhz| mhz / 1000.0)
}

fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn group_memory() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Content hashes, remembered by path and fingerprint.
#[derive(Debug, Default)]
struct HashMemory {
    file: Option<PathBuf>,
    known: BTreeMap<String, (Fingerprint, String)>,
    changed: bool,
}

impl HashMemory {
    fn open(cache: &Path) -> Self {
        let file = cache.join("hashes.json");
        let known =
            fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        HashMemory { file: Some(file), known, changed: false }
    }

    /// Hashes the files whose content is not remembered, several at a time; says so when it takes a while.
    fn learn<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        let unknown: Vec<(&str, String, Fingerprint)> = paths
            .filter_map(|path| {
                let print = fingerprint(Path::new(path)).ok()?;
                let absolute = fs::canonicalize(path).ok()?.display().to_string();
                let known = self.known.get(&absolute).is_some_and(|(known, _)| *known == print);
                (!known).then_some((path, absolute, print))
            })
            .collect();
        let bytes: u64 = unknown.iter().map(|(_, _, print)| print.bytes).sum();
        if bytes > WORTH_A_WORD {
            anstream::eprintln!("hashing {} files, {}", unknown.len(), crate::text::bytes(bytes));
        }
        let hashed: Vec<_> = unknown
            .into_par_iter()
            .filter_map(|(path, absolute, print)| {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(fs::File::open(path).ok()?).ok()?;
                Some((absolute, (print, hasher.finalize().to_hex().to_string())))
            })
            .collect();
        self.changed |= !hashed.is_empty();
        self.known.extend(hashed);
    }

    /// Returns the hash of a file that was learnt and has not changed since.
    fn of(&self, path: &str) -> Option<String> {
        let print = fingerprint(Path::new(path)).ok()?;
        let absolute = fs::canonicalize(path).ok()?.display().to_string();
        self.known.get(&absolute).filter(|(known, _)| *known == print).map(|(_, hash)| hash.clone())
    }

    /// Writes the memory under a temporary name and renames it: two processes may do so at once.
    fn save(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        let Some(folder) = file.parent() else { return };
        let temporary = folder.join(format!(".hashes.{}", std::process::id()));
        // Losing the memory costs a second hashing, nothing else.
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&temporary, serde_json::to_vec(&self.known).unwrap_or_default()))
            .and_then(|()| fs::rename(&temporary, file));
        self.changed = written.is_err();
    }
}
