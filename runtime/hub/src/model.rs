//! What a model's small files say, and how large the files are that a run would read.

use crate::snapshot::{RepoFile, Snapshot};
use crate::{Error, Hub, Result, SMALL_FILE};
use serde_json::Value;

/// The files of a model beside its weights and its tokenizer.
const MODEL_FILES: [&str; 3] = ["config.json", "generation_config.json", "model.safetensors.index.json"];

/// The files of a tokenizer.
const TOKENIZER_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// A model without its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// config.json as it is.
    pub config: Value,
    /// generation_config.json, when there is one.
    pub generation_config: Option<Value>,
}

impl Hub {
    /// Reads what describes a model.
    ///
    /// # Errors
    /// Fails when there is no config.json that is an object, or a file cannot be had.
    pub fn model(&self, snapshot: &Snapshot) -> Result<Model> {
        let bytes = self.needed(snapshot, "config.json", SMALL_FILE)?;
        let what = format!("config.json of {}", snapshot.repo);
        let config = crate::snapshot::json(&bytes, &what)?;
        if !config.is_object() {
            return Err(Error::BadAnswer { what, why: "it is not an object".into() });
        }
        Ok(Model { config, generation_config: self.json_file(snapshot, "generation_config.json")? })
    }
}

impl Snapshot {
    /// Returns the files of a model that are read: weights, in one format, and what describes them.
    pub fn model_files(&self) -> Vec<&RepoFile> {
        let weights = |prefix: &str, end: &str| -> Vec<&RepoFile> {
            let is_one = |file: &&RepoFile| file.path.starts_with(prefix) && file.path.ends_with(end);
            self.files.iter().filter(|file| !file.path.contains('/')).filter(is_one).collect()
        };
        let mut files = weights("model", ".safetensors");
        if files.is_empty() {
            files = weights("pytorch_model", ".bin");
        }
        files.extend(self.named(&MODEL_FILES));
        files.extend(self.tokenizer_files());
        files
    }

    /// Returns the files of a tokenizer that are read when they are there.
    pub fn tokenizer_files(&self) -> Vec<&RepoFile> {
        self.named(&TOKENIZER_FILES).collect()
    }

    fn named(&self, names: &[&str]) -> impl Iterator<Item = &RepoFile> {
        self.files.iter().filter(|file| names.contains(&file.path.as_str()))
    }
}

/// Adds sizes up, when all of them are known.
pub fn bytes_of(files: &[&RepoFile]) -> Option<u64> {
    let sizes: Option<Vec<u64>> = files.iter().map(|file| file.bytes).collect();
    sizes.filter(|sizes| !sizes.is_empty()).map(|sizes| sizes.iter().sum())
}
