//! Tokenizers: loaded from a Hugging Face folder, trained from text, saved so that others can open them.
//!
//! Everything that touches the `tokenizers` crate stays in here. Nothing in this crate adds a bos or
//! an eos by itself: who builds a row knows where it begins and ends.

mod error;
mod footprint;
mod special;
mod stream;
mod train;

pub use error::TokenizerError;
pub use footprint::{table_bytes, unigram_bytes};
pub use stream::TextStream;
pub use train::{Trained, train};

use serde_json::Value;
use special::Files;
use std::path::Path;
use std::sync::OnceLock;
use tokenizers::{AddedToken, PostProcessor, Tokenizer as Inner};

/// Token ids with the bytes of the text that each one stands for.
///
/// Tokens of one character that fell apart into bytes share that character's range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    pub ids: Vec<u32>,
    pub offsets: Vec<(usize, usize)>,
}

/// A tokenizer with its special tokens and chat template.
#[derive(Debug)]
pub struct Tokenizer {
    /// Without post-processor, truncation and padding: text in, its tokens out, with untrimmed offsets.
    inner: Inner,
    /// The same, but special tokens in the text are ordinary text. Built when first needed.
    plain: OnceLock<Box<Inner>>,
    /// tokenizer.json as it was read or trained.
    json: String,
    files: Files,
    special: Vec<(String, u32)>,
    /// Special tokens by their first byte.
    starts: Vec<Vec<usize>>,
    vocab_size: usize,
    adds_bos: bool,
    adds_eos: bool,
}

impl Tokenizer {
    /// Reads a folder with tokenizer.json and its companions, or a tokenizer.json file.
    ///
    /// # Errors
    /// Fails when a file is missing, is no JSON or describes no tokenizer.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let (folder, file) = if path.is_dir() {
            (path.to_path_buf(), path.join("tokenizer.json"))
        } else {
            (path.parent().unwrap_or(Path::new("")).to_path_buf(), path.to_path_buf())
        };
        let json = error::read_text(&file)?;
        let files = if path.is_dir() { Files::read(&folder)? } else { Files::default() };
        Self::from_json(json, files).map_err(|error| error.in_file(&file))
    }

    fn from_json(json: String, files: Files) -> Result<Self, TokenizerError> {
        let mut inner: Inner = json.parse().map_err(|error: tokenizers::Error| {
            TokenizerError::new("bad-tokenizer", format!("tokenizer.json describes no tokenizer: {error}"))
                .help("save it again with `save_pretrained` of a current transformers")
        })?;
        let _ = inner.with_truncation(None); // Only fails for a stride that is too large; there is none.
        inner.with_padding(None);
        let special = special_tokens(&inner);
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let files = files.with_ids(|id| inner.id_to_token(id));
        let (starts, ends) = processor_adds(&inner, &files);
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        Ok(Self {
            adds_bos: files.flag("add_bos_token").unwrap_or(starts) && files.bos.is_some(),
            adds_eos: files.flag("add_eos_token").unwrap_or(ends) && files.eos.is_some(),
            plain: OnceLock::new(),
            inner,
            json,
            files,
            starts: by_first_byte(&special),
            special,
            vocab_size,
        })
    }

    /// Returns the tokens of a text; special tokens written in it are recognised.
    ///
    /// # Errors
    /// Fails when the tokenizer has no token for a piece of the text.
    pub fn encode(&self, text: &str) -> Result<Encoding, TokenizerError> {
        encode_with(&self.inner, text)
    }

    /// Returns the tokens of a text in which special tokens are ordinary text, so that data cannot forge them.
    ///
    /// # Errors
    /// Fails when the tokenizer has no token for a piece of the text.
    pub fn encode_plain(&self, text: &str) -> Result<Encoding, TokenizerError> {
        encode_with(self.plain(), text)
    }

    /// Returns the tokens of a text in which only some special tokens count.
    ///
    /// `guards` are byte positions, in order; a special token that has one of them strictly inside is
    /// ordinary text. The pieces between the others are encoded one by one, as [`Self::encode`] does.
    ///
    /// # Errors
    /// Fails when the tokenizer has no token for a piece of the text.
    pub fn encode_guarded(&self, text: &str, guards: &[usize]) -> Result<Encoding, TokenizerError> {
        if guards.is_empty() {
            return self.encode(text);
        }
        let mut result = Encoding::default();
        let mut from = 0;
        for (start, end, id) in self.find_special(text) {
            let inside = guards.partition_point(|&guard| guard <= start);
            if guards.get(inside).is_some_and(|&guard| guard < end) {
                continue;
            }
            self.append_plain(&mut result, text, from, start)?;
            result.ids.push(id);
            result.offsets.push((start, end));
            from = end;
        }
        self.append_plain(&mut result, text, from, text.len())?;
        Ok(result)
    }

    fn append_plain(
        &self,
        to: &mut Encoding,
        text: &str,
        from: usize,
        end: usize,
    ) -> Result<(), TokenizerError> {
        if from < end {
            let piece = self.encode_plain(&text[from..end])?;
            to.ids.extend(piece.ids);
            to.offsets.extend(piece.offsets.iter().map(|&(start, end)| (start + from, end + from)));
        }
        Ok(())
    }

    /// Returns where special tokens stand in a text, the longest where several start: (start, end, id).
    pub fn find_special(&self, text: &str) -> Vec<(usize, usize, u32)> {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match self.special_at(&bytes[at..]) {
                Some((length, id)) => {
                    found.push((at, at + length, id));
                    at += length;
                }
                None => at += 1,
            }
        }
        found
    }

    fn special_at(&self, rest: &[u8]) -> Option<(usize, u32)> {
        let candidates = &self.starts[usize::from(rest[0])];
        let hit = candidates.iter().map(|&index| &self.special[index]);
        let hit = hit.filter(|(token, _)| rest.starts_with(token.as_bytes()));
        hit.map(|(token, id)| (token.len(), *id)).max_by_key(|&(length, _)| length)
    }

    /// Returns the text of tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        // Decoding joins strings; it fails for no input of a decoder that tokenizer.json can describe.
        self.inner.decode(ids, skip_special).unwrap_or_default()
    }

    /// Returns a decoder that gives the text of one token after the other.
    ///
    /// `context` are the tokens before the first: they decide about spaces but are not repeated.
    pub fn stream(&self, context: &[u32], skip_special: bool) -> TextStream<'_> {
        TextStream::new(self, context, skip_special)
    }

    /// Returns the number of rows that an embedding table needs: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns the token that starts a text.
    pub fn bos(&self) -> Option<(&str, u32)> {
        self.named(self.files.bos.as_deref())
    }

    /// Returns the token that ends a text.
    pub fn eos(&self) -> Option<(&str, u32)> {
        self.named(self.files.eos.as_deref())
    }

    /// Returns the token that fills up batches elsewhere; adapt never pads.
    pub fn pad(&self) -> Option<(&str, u32)> {
        self.named(self.files.pad.as_deref())
    }

    /// Returns the token for what the vocabulary lacks.
    pub fn unk(&self) -> Option<(&str, u32)> {
        self.named(self.files.unk.as_deref())
    }

    fn named<'a>(&self, token: Option<&'a str>) -> Option<(&'a str, u32)> {
        let token = token?;
        Some((token, self.token_id(token)?))
    }

    /// Returns the special tokens with their ids, by id.
    pub fn special(&self) -> Vec<(String, u32)> {
        self.special.clone()
    }

    /// Returns the id of a token, special or not.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Returns the token of an id as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Returns the chat template that came with the tokenizer.
    pub fn chat_template(&self) -> Option<&str> {
        self.files.chat_template.as_deref()
    }

    /// Tells whether encoding a text in Hugging Face transformers puts a bos in front.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Tells whether encoding a text in Hugging Face transformers puts an eos behind.
    pub fn adds_eos(&self) -> bool {
        self.adds_eos
    }

    /// Writes the tokenizer so that `AutoTokenizer` of transformers opens it.
    ///
    /// A chat template is written both into tokenizer_config.json and as chat_template.jinja, because
    /// old and new readers look in different places; `None` keeps the one that the tokenizer has.
    ///
    /// # Errors
    /// Fails when a file cannot be written.
    pub fn save(&self, folder: &Path, chat_template: Option<&str>) -> Result<(), TokenizerError> {
        error::create_folder(folder)?;
        error::write_text(&folder.join("tokenizer.json"), &self.json)?;
        let template = chat_template.or(self.chat_template());
        let config = self.files.config_with(template);
        error::write_text(&folder.join("tokenizer_config.json"), &pretty(&config))?;
        error::write_text(&folder.join("special_tokens_map.json"), &pretty(&self.files.special_map()))?;
        if let Some(template) = template {
            error::write_text(&folder.join("chat_template.jinja"), template)?;
        }
        Ok(())
    }

    fn plain(&self) -> &Inner {
        self.plain.get_or_init(|| {
            let mut plain = self.inner.clone();
            plain.set_encode_special_tokens(true);
            Box::new(plain)
        })
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn encode_with(inner: &Inner, text: &str) -> Result<Encoding, TokenizerError> {
    let encoding = inner.encode(text, false).map_err(|error| {
        TokenizerError::new("cannot-encode", format!("the tokenizer cannot encode a text: {error}"))
    })?;
    Ok(Encoding { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
}

fn special_tokens(inner: &Inner) -> Vec<(String, u32)> {
    let added = inner.get_added_tokens_decoder();
    let special = added.into_iter().filter(|(_, token): &(u32, AddedToken)| token.special);
    let mut special: Vec<_> = special.map(|(id, token)| (token.content, id)).collect();
    special.retain(|(token, _)| !token.is_empty());
    special.sort_by_key(|(_, id)| *id);
    special
}

fn by_first_byte(special: &[(String, u32)]) -> Vec<Vec<usize>> {
    let mut starts = vec![Vec::new(); 256];
    for (index, (token, _)) in special.iter().enumerate() {
        starts[usize::from(token.as_bytes()[0])].push(index); // Empty ones were left out.
    }
    starts
}

/// Tells whether the post-processor puts a bos in front and an eos behind.
fn processor_adds(inner: &Inner, files: &Files) -> (bool, bool) {
    let Some(processor) = inner.get_post_processor() else { return (false, false) };
    let Ok(body) = inner.encode_fast("a", false) else { return (false, false) };
    let Ok(whole) = processor.process(body, None, true) else { return (false, false) };
    let is = |token: &Option<String>, id: Option<&u32>| {
        id.is_some() && token.as_deref().and_then(|token| inner.token_to_id(token)).as_ref() == id
    };
    (is(&files.bos, whole.get_ids().first()), is(&files.eos, whole.get_ids().last()))
}
