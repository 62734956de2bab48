//! What stands beside tokenizer.json: which tokens are special for what, and the chat template.

use crate::error::{TokenizerError, read_text};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The companions of tokenizer.json.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// tokenizer_config.json, kept so that saving loses nothing.
    config: Map<String, Value>,
    generation: Map<String, Value>,
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub pad: Option<String>,
    pub unk: Option<String>,
    pub chat_template: Option<String>,
}

impl Files {
    /// Reads those that are in a folder; none of them is required.
    pub fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let special = read_object(&folder.join("special_tokens_map.json"))?;
        let generation = read_object(&folder.join("generation_config.json"))?;
        let name = |key: &str| token_text(config.get(key)).or_else(|| token_text(special.get(key)));
        let template_file = folder.join("chat_template.jinja");
        let chat_template = if template_file.is_file() {
            Some(read_text(&template_file)?)
        } else {
            template_text(config.get("chat_template"))
        };
        let (bos, eos, pad, unk) =
            (name("bos_token"), name("eos_token"), name("pad_token"), name("unk_token"));
        Ok(Self { bos, eos, pad, unk, chat_template, config, generation })
    }

    /// Returns the companions of a tokenizer made here.
    pub fn new(bos: &str, eos: &str, pad: &str) -> Self {
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "eos_token": eos,
            "pad_token": pad,
            "clean_up_tokenization_spaces": false,
            // Longer than any text: how long a row may be is the model's matter.
            "model_max_length": 1_000_000_000_000_000_u64,
        });
        let Value::Object(config) = config else { unreachable!("the literal above is an object") };
        let name = |token: &str| Some(token.to_owned());
        Self { config, bos: name(bos), eos: name(eos), pad: name(pad), ..Self::default() }
    }

    /// Fills in tokens that only generation_config.json names, by id.
    pub fn with_ids(mut self, token: impl Fn(u32) -> Option<String>) -> Self {
        let named = |key: &str| {
            let id = self.generation.get(key)?;
            let id = id.as_array().map_or(Some(id), |ids| ids.first())?;
            token(u32::try_from(id.as_u64()?).ok()?)
        };
        let (bos, eos, pad) = (named("bos_token_id"), named("eos_token_id"), named("pad_token_id"));
        self.bos = self.bos.or(bos);
        self.eos = self.eos.or(eos);
        self.pad = self.pad.or(pad);
        self
    }

    /// Returns a boolean of tokenizer_config.json.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key)?.as_bool()
    }

    /// Returns tokenizer_config.json with a chat template.
    pub fn config_with(&self, chat_template: Option<&str>) -> Value {
        let mut config = self.config.clone();
        for (key, token) in self.named() {
            config.entry(key).or_insert_with(|| json!(token));
        }
        config.entry("tokenizer_class").or_insert_with(|| json!("PreTrainedTokenizerFast"));
        if let Some(template) = chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        Value::Object(config)
    }

    /// Returns special_tokens_map.json.
    pub fn special_map(&self) -> Value {
        Value::Object(self.named().map(|(key, token)| (key.to_owned(), json!(token))).collect())
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let keys = ["bos_token", "eos_token", "pad_token", "unk_token"];
        let tokens = [&self.bos, &self.eos, &self.pad, &self.unk];
        keys.into_iter().zip(tokens).filter_map(|(key, token)| Some((key, token.as_ref()?)))
    }
}

fn read_object(file: &Path) -> Result<Map<String, Value>, TokenizerError> {
    if !file.is_file() {
        return Ok(Map::new());
    }
    serde_json::from_str(&read_text(file)?).map_err(|error| {
        TokenizerError::new("bad-json", format!("not a JSON object: {error}"))
            .help("fetch the tokenizer again; the file is damaged")
            .in_file(file)
    })
}

/// A token is written as text or as an object with `content`.
fn token_text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// A chat template is written as text, or as a list of named ones, of which `default` counts.
fn template_text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let named = value.as_array()?;
    let default = named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
    default.get("template")?.as_str().map(str::to_owned)
}
