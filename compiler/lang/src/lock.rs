//! `adapt.lock`: what is pinned and known of remote sources, as text to facts and back.
//!
//! It lies beside the recipes of a folder and serves all of them. Keys are the sources as the facts
//! have them: the recipe's text, with `@revision` and `#config` where the recipe states them.

use crate::diagnostic::Diagnostic;
use crate::facts::{Facts, LanguagesFact, MeasuredFact, ModelFact, RowsFact, TokenizerFact, Want};
use crate::source::{SourceId, Span};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The file's name.
pub const FILE: &str = "adapt.lock";

/// The version of the form.
const VERSION: u32 = 1;

/// Stands for the id of a token of which only the text is known.
const UNKNOWN_ID: u32 = u32::MAX;

/// Reports a lock file that cannot be used: guessing past it would unpin what it pins.
pub fn broken(problem: &str) -> Diagnostic {
    let at = Span { source: SourceId(0), start: 0, end: 0 };
    Diagnostic::error("broken-lock", problem, at, "beside this recipe")
        .with_help("restore the file, or remove it and pin anew with `--resolve`")
}

/// A whole lock file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub version: u32,
    pub sources: BTreeMap<String, Entry>,
}

impl Default for Lock {
    fn default() -> Self {
        Lock { version: VERSION, sources: BTreeMap::new() }
    }
}

/// What is known of one source; what is absent is unknown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Entry {
    pub kind: Kind,
    /// The commit that is pinned.
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Bytes of all files that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of a model: fields of config.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// Of a model: generation_config.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation_config: Option<Value>,
    /// Of a model or tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// Of a model that translates: from which languages to which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub languages: Option<LanguagesFact>,
    /// Of a dataset: the columns of its rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Of a dataset: the rows of each split, where they are known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub splits: BTreeMap<String, Option<u64>>,
    /// Of a dataset: what a published run of it kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Model,
    Tokenizer,
    Dataset,
}

/// A tokenizer by its size and marks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokenizer {
    pub vocab_size: Option<u64>,
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub pad: Option<String>,
    /// Added tokens that are special; absent when they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub special: Option<Vec<String>>,
    /// `null` when it has none; absent when that is not known.
    #[serde(deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<Option<String>>,
}

/// Tells a field that is `null` from one that is absent.
fn stated<'de, D: serde::Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// Counts of a published run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub sequence: u64,
    pub kept: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// Says in words, with line and column, what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let lock: Lock = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if lock.version != VERSION {
            return Err(format!("it has version {}, and this adapt reads version {VERSION}", lock.version));
        }
        Ok(lock)
    }

    /// Writes a lock file.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("locks are plain data") + "\n"
    }

    /// Adds what a want asks for to the facts, when it is known; returns whether it was.
    pub fn fill(&self, want: &Want, facts: &mut Facts) -> bool {
        match want {
            Want::Model(key) => self.entry(key).and_then(Entry::model).map(|fact| {
                facts.models.insert(key.clone(), fact);
                let languages = self.entry(key).and_then(|entry| entry.languages.clone());
                facts.languages.extend(languages.map(|languages| (key.clone(), languages)));
            }),
            Want::Tokenizer(key) => self.entry(key).and_then(Entry::tokenizer).map(|fact| {
                facts.tokenizers.insert(key.clone(), fact);
            }),
            Want::Rows(key) => self.entry(key).and_then(|entry| entry.rows(key)).map(|fact| {
                facts.rows.insert(key.clone(), fact);
            }),
            Want::Path(_) | Want::Text(_) | Want::Hash(_) | Want::Hardware => None,
        }
        .is_some()
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.sources.get(key)
    }
}

impl Entry {
    fn model(&self) -> Option<ModelFact> {
        let template = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.chat_template.clone());
        let is_partial = template.is_none();
        Some(ModelFact {
            config: self.config.clone()?,
            tensors: None,
            weight_files: Vec::new(),
            generation_config: self.generation_config.clone(),
            chat_template: template.flatten(),
            partial: is_partial,
            pickled: None,
            problem: None,
        })
    }

    fn tokenizer(&self) -> Option<TokenizerFact> {
        let known = self.tokenizer.as_ref()?;
        let mark = |text: &Option<String>| text.clone().map(|text| (text, UNKNOWN_ID));
        Some(TokenizerFact {
            vocab_size: known.vocab_size?,
            bos: mark(&known.bos),
            eos: mark(&known.eos),
            pad: mark(&known.pad),
            special: known.special.iter().flatten().map(|text| (text.clone(), UNKNOWN_ID)).collect(),
            chat_template: known.chat_template.clone().flatten(),
            partial: known.special.is_none() || known.chat_template.is_none(),
            files: Vec::new(),
            memory: None,
            problem: None,
        })
    }

    fn rows(&self, key: &str) -> Option<RowsFact> {
        let is_pin_only = self.columns.is_empty() && self.splits.is_empty() && self.measured.is_none();
        (self.kind == Kind::Dataset && !is_pin_only).then(|| RowsFact {
            columns: self.columns.clone(),
            splits: self.splits.keys().cloned().collect(),
            split_rows: self
                .splits
                .iter()
                .filter_map(|(name, rows)| Some((name.clone(), (*rows)?)))
                .collect(),
            measured: self
                .measured
                .as_ref()
                .map(|measured| MeasuredFact { sequence: measured.sequence, kept: measured.kept }),
            roles: BTreeMap::new(),
            file: key.to_owned(),
            row_bytes: None,
            problem: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"version": 1, "sources": {
        "hf:o/m": {"kind": "model", "revision": null, "config": {"model_type": "llama"},
                   "generation_config": {"eos_token_id": 2},
                   "tokenizer": {"vocab_size": 8, "eos": "</s>"}},
        "hf:o/t": {"kind": "model", "config": {}, "languages": {"from": ["en"], "to": ["nl", "de"]}},
        "hf:o/d#nl": {"kind": "dataset", "revision": "0123456789abcdef0123456789abcdef01234567"},
        "hf:o/d#es": {"kind": "dataset", "columns": ["text"], "splits": {"train": 10, "test": null}}
    }}"#;

    #[test]
    fn a_lock_tells_what_it_holds_and_nothing_else() {
        let lock = Lock::read(TEXT).expect("sound");
        let mut facts = Facts::default();
        assert!(lock.fill(&Want::Model("hf:o/m".into()), &mut facts));
        assert!(lock.fill(&Want::Tokenizer("hf:o/m".into()), &mut facts));
        assert!(lock.fill(&Want::Rows("hf:o/d#es".into()), &mut facts));
        assert!(!lock.fill(&Want::Rows("hf:o/d".into()), &mut facts));
        assert!(
            !lock.fill(&Want::Rows("hf:o/d#nl".into()), &mut facts),
            "it is pinned, and nothing is known"
        );
        assert!(facts.languages.is_empty() && lock.fill(&Want::Model("hf:o/t".into()), &mut facts));
        let languages = &facts.languages["hf:o/t"];
        assert_eq!((languages.from.as_slice(), languages.to.len()), (["en".to_owned()].as_slice(), 2));
        assert_eq!(facts.tokenizers["hf:o/m"].eos.as_ref().map(|(text, _)| text.as_str()), Some("</s>"));
        let generation = facts.models["hf:o/m"].generation_config.as_ref();
        assert_eq!(generation.and_then(|config| config["eos_token_id"].as_u64()), Some(2));
        let rows = &facts.rows["hf:o/d#es"];
        assert_eq!(
            (rows.splits.len(), rows.split_rows.get("train"), rows.split_rows.get("test")),
            (2, Some(&10), None)
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let lock = Lock::read(TEXT).expect("sound");
        assert_eq!(Lock::read(&lock.text()), Ok(lock));
    }

    #[test]
    fn a_lock_of_another_form_is_refused() {
        assert!(
            Lock::read(r#"{"version": 2, "sources": {}}"#)
                .expect_err("another version")
                .contains("version 2")
        );
        assert!(Lock::read(r#"{"version": 1, "sources": {"hf:a": {"knd": 1}}}"#).is_err());
    }
}
