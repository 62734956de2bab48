//! Model folders as Hugging Face has them: configs, tokenizer and weights, complete or absent.

use crate::disk;
use crate::error::{EngineError, Result};
use crate::weights::write_json;
use serde_json::Value;
use std::path::Path;
use tokenizer::Tokenizer;

/// What lies beside the weights.
#[derive(Debug, Clone, Copy)]
pub struct Companions<'a> {
    /// Absent: copied from `start`.
    pub config: Option<&'a Value>,
    pub generation_config: Option<&'a Value>,
    pub tokenizer: &'a Tokenizer,
    /// Absent: the tokenizer's own, if it has one.
    pub chat_template: Option<&'a str>,
    /// The model folder that a copy is made of.
    pub start: Option<&'a Path>,
}

/// Writes a model folder; `bytes` is what the weights take.
pub fn write(
    path: &Path,
    bytes: u64,
    companions: &Companions,
    weights: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    // One that lies there is of a run that was killed before it wrote its record.
    disk::remove_folder(path)?;
    disk::create_folder(path, bytes, |folder| {
        json(folder, "config.json", companions.config, companions.start, true)?;
        json(folder, "generation_config.json", companions.generation_config, companions.start, false)?;
        let tokenizer = companions.tokenizer;
        let template = companions.chat_template.map(|jinja| data::template::for_saving(jinja, tokenizer));
        tokenizer.save(folder, template.transpose()?.as_deref())?;
        weights(folder)
    })
}

fn json(folder: &Path, name: &str, json: Option<&Value>, start: Option<&Path>, needed: bool) -> Result<()> {
    match (json, start.map(|start| start.join(name))) {
        (Some(json), _) => write_json(&folder.join(name), json),
        (None, Some(source)) if needed || source.exists() => {
            let copied = std::fs::copy(&source, folder.join(name));
            copied.map(drop).map_err(|e| EngineError::io("copy", &source, &e))
        }
        (None, _) => Ok(()),
    }
}
