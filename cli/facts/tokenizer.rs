//! A tokenizer: its ids, special tokens and chat template, and the bytes that its table takes.

use super::Depth;
use super::files::json;
use lang::facts::{TokenizerBytes, TokenizerFact};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Largest tokenizer.json that a quick look parses.
const SMALL_TOKENIZER: u64 = 4 << 20;

/// Looks into the folder of a tokenizer that a task has trained.
pub fn tokenizer_of(folder: &Path) -> TokenizerFact {
    let path = folder.display().to_string();
    tokenizer(&path, Depth::Full).expect("only a quick look skips large files")
}

/// Looks into a tokenizer folder or file; nothing when it is too large for a quick look.
pub(super) fn tokenizer(path: &str, depth: Depth) -> Option<TokenizerFact> {
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
pub(super) fn own_template(folder: &Path) -> Option<(String, Option<PathBuf>)> {
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
