//! Training a byte-level BPE tokenizer.

use crate::special::Files;
use crate::{Tokenizer, TokenizerError};
use plan::work::TrainTokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer as Inner};

/// Starts every text; id 0.
const BOS: &str = "<s>";
/// Ends every text; id 1.
const EOS: &str = "</s>";
/// Fills up batches elsewhere; id 2.
const PAD: &str = "<pad>";
/// The byte alphabet, which every vocabulary holds.
const BYTES: u64 = 256;

/// How far training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trained {
    pub texts: u64,
    pub bytes: u64,
}

/// Trains a tokenizer: `<s>`, `</s>`, `<pad>`, the given special tokens, 256 bytes, then merges.
///
/// The same texts in the same order give the same tokenizer. Texts are read once, as a stream; what
/// stays in memory is the count of every different word.
///
/// # Errors
/// Fails when the vocabulary is too small, the texts are empty, or byte-level is switched off.
pub fn train(
    spec: &TrainTokenizer,
    texts: impl Iterator<Item = String> + Send,
    mut progress: impl FnMut(Trained) + Send,
) -> Result<Tokenizer, TokenizerError> {
    let special = special_tokens(spec);
    check(spec, special.len() as u64)?;
    let byte_level = ByteLevel::new(false, false, true);
    let mut inner = Inner::new(BPE::default());
    inner.with_pre_tokenizer(Some(byte_level));
    inner.with_decoder(Some(byte_level));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(usize::try_from(spec.vocab).unwrap_or(usize::MAX))
        .min_frequency(spec.min_frequency)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special)
        .build()
        .into();
    let mut done = Trained { texts: 0, bytes: 0 };
    let counted = texts.inspect(|text| {
        done.texts += 1;
        done.bytes += text.len() as u64;
        progress(done);
    });
    inner.train(&mut trainer, counted).map_err(|error| failed(&error))?;
    if done.bytes == 0 {
        return Err(TokenizerError::new("no-rows", "there is no text to train a tokenizer on")
            .help("name a dataset whose training side holds text"));
    }
    let bos = inner.token_to_id(BOS).unwrap_or(0); // It is a special token of the trainer, so it is there.
    inner.with_post_processor(Some(starts_with_bos(bos).map_err(|error| failed(&error))?));
    let json = inner.to_string(true).map_err(|error| failed(&error))?;
    Tokenizer::from_json(json, Files::new(BOS, EOS, PAD))
}

fn special_tokens(spec: &TrainTokenizer) -> Vec<AddedToken> {
    let mut names: Vec<&str> = vec![BOS, EOS, PAD];
    for token in &spec.special {
        if !names.contains(&token.as_str()) {
            names.push(token);
        }
    }
    names.into_iter().map(|name| AddedToken::from(name, true)).collect()
}

fn check(spec: &TrainTokenizer, special: u64) -> Result<(), TokenizerError> {
    if !spec.byte_level {
        return Err(TokenizerError::new("unsupported", "only byte-level tokenizers can be trained")
            .help("remove `byte-level #false`"));
    }
    let least = BYTES + special;
    if spec.vocab < least {
        let message = format!(
            "a vocabulary of {} has no room for {special} special tokens and {BYTES} bytes",
            spec.vocab
        );
        return Err(TokenizerError::new("vocabulary-too-small", message)
            .help(format!("write `vocab={least}` or more")));
    }
    Ok(())
}

fn starts_with_bos(bos: u32) -> Result<TemplateProcessing, tokenizers::Error> {
    let processor = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .try_pair(format!("{BOS} $A {BOS} $B:1"))?
        .special_tokens(vec![(BOS, bos)])
        .build();
    processor.map_err(Into::into)
}

fn failed(error: &tokenizers::Error) -> TokenizerError {
    TokenizerError::new("cannot-train", format!("training the tokenizer failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(vocab: u64) -> TrainTokenizer {
        TrainTokenizer {
            vocab,
            min_frequency: 2,
            special: vec!["<|im_start|>".into(), "<|im_end|>".into(), "<pad>".into()],
            byte_level: true,
            data: Vec::new(),
        }
    }

    fn texts() -> impl Iterator<Item = String> + Send {
        (0..200).map(|at| format!("De kat {} zit op de mat en kijkt naar de {} vogels.", at % 7, at % 11))
    }

    fn json(tokenizer: &Tokenizer) -> String {
        tokenizer.json.clone()
    }

    #[test]
    fn training_is_deterministic_and_special_tokens_come_first() {
        let tokenizer = train(&spec(300), texts(), |_| {}).expect("trained");
        let again = train(&spec(300), texts(), |_| {}).expect("trained");
        assert_eq!(json(&tokenizer), json(&again));
        let special: Vec<(String, u32)> = tokenizer.special();
        let names: Vec<&str> = special.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]);
        assert!(special.iter().enumerate().all(|(at, (_, id))| at as u32 == *id));
        assert_eq!(tokenizer.vocab_size(), 300);
        assert!(tokenizer.adds_bos() && !tokenizer.adds_eos());
    }

    #[test]
    fn a_saved_tokenizer_is_the_same_when_loaded() {
        let tokenizer = train(&spec(300), texts(), |_| {}).expect("trained");
        let folder = tempfile::tempdir().expect("a temporary folder");
        tokenizer.save(folder.path(), Some("{{ messages }}")).expect("saved");
        let loaded = Tokenizer::load(folder.path()).expect("loaded");
        let text = "Onbekend ☃ <|im_end|> én\0 de kat";
        let ids = tokenizer.encode(text).expect("encoded").ids;
        assert_eq!(loaded.encode(text).expect("encoded").ids, ids);
        assert_eq!(loaded.decode(&ids, false), text);
        assert_eq!(
            (loaded.bos(), loaded.eos(), loaded.pad()),
            (tokenizer.bos(), tokenizer.eos(), tokenizer.pad())
        );
        assert_eq!((loaded.adds_bos(), loaded.chat_template()), (true, Some("{{ messages }}")));
    }

    #[test]
    fn special_tokens_in_data_are_text_unless_asked_for() {
        let tokenizer = train(&spec(300), texts(), |_| {}).expect("trained");
        let end = tokenizer.token_id("<|im_end|>").expect("a special token");
        let text = "a<|im_end|>b<|im_end|>";
        let count = |ids: &[u32]| ids.iter().filter(|&&id| id == end).count();
        assert_eq!(count(&tokenizer.encode(text).expect("encoded").ids), 2);
        assert_eq!(count(&tokenizer.encode_plain(text).expect("encoded").ids), 0);
        let guarded = tokenizer.encode_guarded(text, &[2]).expect("encoded");
        assert_eq!((count(&guarded.ids), guarded.offsets.last()), (1, Some(&(12, 22))));
        assert_eq!(tokenizer.decode(&guarded.ids, false), text);
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        assert_eq!(train(&spec(200), texts(), |_| {}).expect_err("too small").code, "vocabulary-too-small");
        assert_eq!(train(&spec(300), std::iter::empty(), |_| {}).expect_err("no text").code, "no-rows");
        let characters = TrainTokenizer { byte_level: false, ..spec(300) };
        assert_eq!(train(&characters, texts(), |_| {}).expect_err("no bytes").code, "unsupported");
    }
}
