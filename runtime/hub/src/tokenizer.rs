//! What a tokenizer's files say: how many ids, which marks, which chat template.

use crate::snapshot::Snapshot;
use crate::{Error, Hub, Result, SMALL_FILE, TOKENIZER_FILE};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;

/// A tokenizer by its size and marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokenizer {
    /// Number of ids, added tokens included.
    pub vocab_size: u64,
    pub bos: Option<String>,
    pub eos: Option<String>,
    pub pad: Option<String>,
    /// Added tokens that are special, in the order of the file.
    pub special: Vec<String>,
    pub chat_template: Option<String>,
}

/// The parts of tokenizer.json that are looked at; the others, merges among them, are skipped unread.
#[derive(Deserialize)]
struct File {
    model: Part,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Part {
    vocab: Vocabulary,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

/// Ids by token: written as an object, or as a list of pieces whose places are the ids.
struct Vocabulary(HashMap<String, u64>);

impl Hub {
    /// Reads what describes a tokenizer.
    ///
    /// # Errors
    /// Fails when there is no tokenizer.json with a vocabulary, or a file cannot be had.
    pub fn tokenizer(&self, snapshot: &Snapshot) -> Result<Tokenizer> {
        let bytes = self.needed(snapshot, "tokenizer.json", TOKENIZER_FILE)?;
        let what = format!("tokenizer.json of {}", snapshot.repo);
        let mut named = Map::new();
        for path in ["special_tokens_map.json", "tokenizer_config.json"] {
            if let Some(Value::Object(fields)) = self.json_file(snapshot, path)? {
                named.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
            }
        }
        let template = self.file(snapshot, "chat_template.jinja", SMALL_FILE)?;
        let template = match template.map(String::from_utf8).transpose() {
            Ok(text) => text,
            Err(_) => {
                let what = format!("chat_template.jinja of {}", snapshot.repo);
                return Err(Error::BadAnswer { what, why: "it is not UTF-8".into() });
            }
        };
        tokenizer(&bytes, &named, template, &what)
    }
}

fn tokenizer(
    bytes: &[u8],
    named: &Map<String, Value>,
    template: Option<String>,
    what: &str,
) -> Result<Tokenizer> {
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| Error::BadAnswer { what: what.into(), why: error.to_string() })?;
    let mut ids = file.model.vocab.0;
    let special = file.added_tokens.iter().filter(|token| token.special);
    let special = special.map(|token| token.content.clone()).collect();
    ids.extend(file.added_tokens.into_iter().map(|token| (token.content, token.id)));
    // A mark without an id is never produced, so it is none.
    let mark = |key: &str| {
        let value = named.get(key)?;
        let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str))?;
        ids.contains_key(text).then(|| text.to_owned())
    };
    Ok(Tokenizer {
        vocab_size: ids.values().max().map_or(0, |id| id.saturating_add(1)),
        bos: mark("bos_token"),
        eos: mark("eos_token"),
        pad: mark("pad_token"),
        special,
        chat_template: template.or_else(|| chat_template(named.get("chat_template")?)),
    })
}

/// A template is a text, or one of several that have names.
fn chat_template(value: &Value) -> Option<String> {
    let is_default = |one: &&Value| one.get("name").and_then(Value::as_str) == Some("default");
    let text = match value {
        Value::Array(several) => several.iter().find(is_default)?.get("template")?,
        one => one,
    };
    text.as_str().map(str::to_owned)
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Ids)
    }
}

struct Ids;

impl<'de> Visitor<'de> for Ids {
    type Value = Vocabulary;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("a vocabulary: an object, or a list of pieces")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vocabulary, A::Error> {
        let mut ids = HashMap::new();
        while let Some((token, id)) = map.next_entry()? {
            ids.insert(token, id);
        }
        Ok(Vocabulary(ids))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pieces: A) -> std::result::Result<Vocabulary, A::Error> {
        let mut ids = HashMap::new();
        let mut next = 0;
        while let Some((piece, _)) = pieces.next_element::<(String, IgnoredAny)>()? {
            ids.insert(piece, next);
            next += 1;
        }
        Ok(Vocabulary(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(file: Value, named: Value, template: Option<&str>) -> Result<Tokenizer> {
        let Value::Object(named) = named else { panic!("an object") };
        tokenizer(file.to_string().as_bytes(), &named, template.map(str::to_owned), "it")
    }

    #[test]
    fn ids_are_counted_to_the_last_one_and_marks_must_have_one() {
        let file = json!({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]},
            "added_tokens": [{"id": 7, "content": "</s>", "special": true}, {"id": 2, "content": "<x>", "special": false}]});
        let named = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<x>"});
        let found = read(file, named, None).expect("sound");
        assert_eq!((found.vocab_size, found.bos, found.eos.as_deref()), (8, None, Some("</s>")));
        assert_eq!((found.pad.as_deref(), found.special), (Some("<x>"), vec!["</s>".to_owned()]));
    }

    #[test]
    fn pieces_have_the_ids_of_their_places() {
        let file = json!({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5], ["b", -2]]}});
        let found = read(file, json!({"bos_token": "a"}), None).expect("sound");
        assert_eq!((found.vocab_size, found.bos.as_deref()), (3, Some("a")));
    }

    #[test]
    fn the_file_of_the_template_wins_and_of_several_the_default() {
        let file = || json!({"model": {"vocab": {"a": 0}}});
        let one = json!({"chat_template": "one"});
        let several = json!({"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]});
        let template = |named: &Value, text| read(file(), named.clone(), text).expect("sound").chat_template;
        assert_eq!(template(&one, None).as_deref(), Some("one"));
        assert_eq!(template(&one, Some("file")).as_deref(), Some("file"));
        assert_eq!(template(&several, None).as_deref(), Some("d"));
        assert_eq!(template(&json!({}), None), None);
    }

    #[test]
    fn a_file_without_a_vocabulary_is_refused() {
        for file in [
            json!({}),
            json!({"model": {}}),
            json!({"model": {"vocab": 3}}),
            json!({"model": {"vocab": {"a": "b"}}}),
        ] {
            assert!(matches!(read(file, json!({}), None), Err(Error::BadAnswer { .. })));
        }
    }
}
