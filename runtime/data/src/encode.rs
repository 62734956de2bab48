//! Rows to token rows: ids, loss mask, and what happens to rows that are too long.

use crate::error::DataError;
use crate::row::{Message, SourceRow};
use crate::store::TokenRow;
use crate::template::{ChatTemplate, Rendered, Specials};
use plan::work::{Encode, LossOn, Overflow, Prepare};
use std::collections::HashSet;
use std::ops::Range;
use tokenizer::{Encoding, Tokenizer};

/// Why rows are left out, as reports say it.
pub(crate) const NO_TRAINED: &str = "no trained token";
pub(crate) const TOO_LONG: &str = "longer than `sequence`";
pub(crate) const PROMPT_TOO_LONG: &str = "prompt longer than `prompt`";
pub(crate) const EQUAL: &str = "chosen equals rejected";
pub(crate) const CUT_EQUAL: &str = "chosen equals rejected as far as `sequence` holds them";
pub(crate) const NO_PROMPT: &str = "no message before the answer";
pub(crate) const NO_ROOM: &str = "prompt that leaves the model no position for an answer";

/// What became of one source row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// None when it was dropped; several when it was split, two for a pair.
    pub rows: Vec<TokenRow>,
    pub dropped: Option<&'static str>,
    pub truncated: bool,
    /// Tokens before anything was cut.
    pub full: Vec<u32>,
    pub answers: u64,
    /// Answers whose last trained token is special, so that the end of the turn is learnt.
    pub ended: u64,
}

/// Encodes rows of one Prepare task.
#[derive(Debug)]
pub struct Encoder<'a> {
    spec: &'a Prepare,
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    special_ids: HashSet<u32>,
}

/// Tokens of a row while it is cut to fit.
#[derive(Debug, Clone, Default)]
struct Tokens {
    ids: Vec<u32>,
    mask: Vec<u8>,
    /// Bytes of the text, empty for bos and eos that the text does not hold.
    ranges: Vec<(usize, usize)>,
}

impl<'a> Encoder<'a> {
    /// Compiles the template.
    ///
    /// # Errors
    /// Fails when the template cannot be read, or when rows could be split in a way that means nothing.
    pub fn new(spec: &'a Prepare, tokenizer: &'a Tokenizer) -> Result<Self, DataError> {
        let template = match &spec.encode {
            Encode::Text => None,
            Encode::Chat { template, .. } | Encode::Preference { template } | Encode::Prompt { template } => {
                Some(ChatTemplate::new(template)?)
            }
        };
        if matches!(spec.encode, Encode::Preference { .. }) && spec.overflow == Overflow::Split {
            return Err(DataError::new("split-pairs", "preference rows cannot be split")
                .help("write `overflow=drop` or `overflow=truncate-prompt`"));
        }
        let special_ids = tokenizer.special().into_iter().map(|(_, id)| id).collect();
        Ok(Self { spec, tokenizer, template, special_ids })
    }

    /// Encodes one row.
    ///
    /// # Errors
    /// Fails when the template refuses the row, or when it is too long and that is an error.
    pub fn encode(&self, row: &SourceRow, part: u32, hash: u128) -> Result<Encoded, DataError> {
        let mut encoded = match (row, &self.spec.encode) {
            (SourceRow::Text(text), Encode::Text) => self.text(text)?,
            (SourceRow::Chat(messages), Encode::Chat { loss_on, .. }) => self.chat(messages, *loss_on)?,
            (SourceRow::Preference { prompt, chosen, rejected }, Encode::Preference { .. }) => {
                self.pair(prompt, chosen, rejected)?
            }
            (SourceRow::Chat(messages), Encode::Prompt { .. }) => self.prompt(before_answer(messages))?,
            (SourceRow::Preference { prompt, .. }, Encode::Prompt { .. }) => self.prompt(prompt)?,
            (_, encode) => {
                let wanted = match encode {
                    Encode::Text => "text",
                    Encode::Chat { .. } => "chat or instruction",
                    Encode::Preference { .. } => "preference",
                    Encode::Prompt { .. } => "chat, instruction or preference",
                };
                return Err(DataError::new(
                    "wrong-row-type",
                    format!("the task encodes {wanted} rows, these are others"),
                )
                .help("mix only datasets of one row type"));
            }
        };
        for (at, row) in encoded.rows.iter_mut().enumerate() {
            row.part = part;
            row.identity = (hash as u64 ^ (hash >> 64) as u64).wrapping_add(at as u64);
        }
        Ok(encoded)
    }

    fn text(&self, text: &str) -> Result<Encoded, DataError> {
        let Encoding { ids, offsets } = self.tokenizer.encode_plain(text)?;
        let mut tokens = Tokens { mask: vec![1; ids.len()], ids, ranges: offsets };
        if let Some((_, bos)) = self.tokenizer.bos() {
            tokens.insert_front(bos, 0);
        }
        if let Some((_, eos)) = self.tokenizer.eos() {
            tokens.push(eos, 1, (text.len(), text.len()));
        }
        let full = vec![tokens.ids.len() as u32];
        Ok(Encoded { full, ..self.fit(tokens)? })
    }

    fn chat(&self, messages: &[Message], loss_on: LossOn) -> Result<Encoded, DataError> {
        let rendered = self.render(messages)?;
        let end = rendered.text.len();
        let spans = match (loss_on, rendered.trained.last()) {
            (LossOn::All, _) => std::iter::once(0..end).collect(),
            (LossOn::Assistant, _) => rendered.trained.clone(),
            (LossOn::Last, last) => last.cloned().into_iter().collect(),
            (LossOn::Completion, last) => last.map(|last| last.start..end).into_iter().collect::<Vec<_>>(),
        };
        let tokens = self.tokens(&rendered, &spans)?;
        let full = vec![tokens.ids.len() as u32];
        let (answers, ended) = self.count_answers(&tokens);
        Ok(Encoded { full, answers, ended, ..self.fit(tokens)? })
    }

    fn pair(
        &self,
        prompt: &[Message],
        chosen: &[Message],
        rejected: &[Message],
    ) -> Result<Encoded, DataError> {
        let earlier = if prompt.iter().any(|message| message.role == crate::row::Role::Assistant) {
            self.render(prompt)?.trained.len()
        } else {
            0
        };
        let mut encoded = Encoded::default();
        for answer in [chosen, rejected] {
            let rendered = self.render(&[prompt, answer].concat())?;
            let spans = rendered.trained.get(earlier..).unwrap_or_default().to_vec();
            let mut tokens = self.tokens(&rendered, &spans)?;
            encoded.full.push(tokens.ids.len() as u32);
            let (answers, ended) = self.count_answers(&tokens);
            encoded.answers += answers;
            encoded.ended += ended;
            if let Some(reason) = self.limit_prompt(&mut tokens, &mut encoded.truncated)? {
                return Ok(dropped(encoded, reason));
            }
            let fitted = self.fit(tokens)?;
            if let Some(reason) = fitted.dropped {
                return Ok(dropped(encoded, reason));
            }
            encoded.truncated |= fitted.truncated;
            encoded.rows.extend(fitted.rows);
        }
        if let [first, second] = &mut encoded.rows[..] {
            // Nothing can be preferred: the gradient would be rounding errors, which AdamW makes as large as any.
            if first.ids == second.ids {
                let reason = if encoded.truncated { CUT_EQUAL } else { EQUAL };
                return Ok(dropped(encoded, reason));
            }
            second.shared = shared(first, second);
        }
        Ok(encoded)
    }

    /// Encodes a conversation with an answer opened behind it.
    fn prompt(&self, messages: &[Message]) -> Result<Encoded, DataError> {
        if messages.is_empty() {
            return Ok(dropped(Encoded::default(), NO_PROMPT));
        }
        let ids = self.tokens(&self.rendered(messages, true)?, &[])?.ids;
        let encoded = Encoded { full: vec![ids.len() as u32], ..Encoded::default() };
        if ids.len() as u64 > self.spec.sequence {
            return Ok(dropped(encoded, NO_ROOM));
        }
        let row = TokenRow { mask: vec![0; ids.len()], ids, ..TokenRow::default() };
        Ok(Encoded { rows: vec![row], ..encoded })
    }

    fn render(&self, messages: &[Message]) -> Result<Rendered, DataError> {
        self.rendered(messages, false)
    }

    fn rendered(&self, messages: &[Message], open: bool) -> Result<Rendered, DataError> {
        let template = self.template.as_ref().ok_or_else(|| {
            DataError::new("no-template", "chat rows need a chat template")
                .help("write `template std:chatml`")
        })?;
        template.render(messages, open, &Specials::of(self.tokenizer))
    }

    /// Encodes rendered text; a token that shares a byte with a span is trained. One bos starts the row.
    fn tokens(&self, rendered: &Rendered, spans: &[Range<usize>]) -> Result<Tokens, DataError> {
        let Encoding { ids, offsets } = self.tokenizer.encode_guarded(&rendered.text, &rendered.guards)?;
        let mask = mask_of(&offsets, spans);
        let mut tokens = Tokens { ids, mask, ranges: offsets };
        if let Some((name, bos)) = self.tokenizer.bos() {
            if tokens.ids.starts_with(&[bos, bos]) {
                return Err(DataError::new("double-bos", format!("the row starts with two `{name}`"))
                    .help("take one of them out of the chat template"));
            }
            if self.tokenizer.adds_bos() && tokens.ids.first() != Some(&bos) {
                tokens.insert_front(bos, 0);
            }
        }
        if let Some(first) = tokens.mask.first_mut() {
            *first = 0; // Nothing comes before it that could predict it.
        }
        Ok(tokens)
    }

    fn count_answers(&self, tokens: &Tokens) -> (u64, u64) {
        let last_of_run =
            |at: &usize| tokens.mask[*at] != 0 && tokens.mask.get(at + 1).is_none_or(|&next| next == 0);
        let ends: Vec<usize> = (0..tokens.ids.len()).filter(last_of_run).collect();
        let ended = ends.iter().filter(|&&at| self.special_ids.contains(&tokens.ids[at])).count();
        (ends.len() as u64, ended as u64)
    }

    fn limit_prompt(
        &self,
        tokens: &mut Tokens,
        truncated: &mut bool,
    ) -> Result<Option<&'static str>, DataError> {
        let Some(limit) = self.spec.prompt else { return Ok(None) };
        let length = tokens.mask.iter().position(|&mask| mask != 0).unwrap_or(tokens.ids.len());
        if length as u64 <= limit {
            return Ok(None);
        }
        match self.spec.overflow {
            Overflow::Error => Err(too_long("the prompt", length, "prompt", limit)),
            Overflow::Drop | Overflow::Split => Ok(Some(PROMPT_TOO_LONG)),
            Overflow::TruncatePrompt | Overflow::TruncateEnd => {
                self.cut_front(tokens, length - limit as usize);
                *truncated = true;
                Ok(None)
            }
        }
    }

    /// Cuts tokens off the front; a bos stays.
    fn cut_front(&self, tokens: &mut Tokens, count: usize) {
        let bos = self.tokenizer.bos().map(|(_, id)| id);
        let keep = usize::from(bos.is_some() && tokens.ids.first().copied() == bos);
        tokens.remove(keep..keep + count);
        if let Some(first) = tokens.mask.first_mut() {
            *first = 0;
        }
    }

    fn fit(&self, mut tokens: Tokens) -> Result<Encoded, DataError> {
        let room = usize::try_from(self.spec.sequence).unwrap_or(usize::MAX).max(1);
        let length = tokens.ids.len();
        let mut encoded = Encoded::default();
        if length > room {
            match self.spec.overflow {
                Overflow::Split => return Ok(self.split(&tokens, room)),
                Overflow::Drop => return Ok(dropped(encoded, TOO_LONG)),
                Overflow::Error => return Err(too_long("the row", length, "sequence", self.spec.sequence)),
                Overflow::TruncateEnd => tokens.remove(room..length),
                Overflow::TruncatePrompt => {
                    let prompt = tokens.mask.iter().position(|&mask| mask != 0).unwrap_or(length);
                    // One token must be left in front of the answer to predict its first one.
                    if length - room >= prompt {
                        return Ok(dropped(encoded, TOO_LONG));
                    }
                    self.cut_front(&mut tokens, length - room);
                }
            }
            encoded.truncated = true;
        }
        match self.finish(&tokens, 0) {
            Some((row, _)) => encoded.rows.push(row),
            None => encoded.dropped = Some(NO_TRAINED),
        }
        Ok(encoded)
    }

    fn split(&self, tokens: &Tokens, room: usize) -> Encoded {
        let mut encoded = Encoded::default();
        let mut seen = 0;
        for start in (0..tokens.ids.len()).step_by(room) {
            let mut piece = tokens.slice(start..tokens.ids.len().min(start + room));
            piece.mask[0] = 0; // Pieces are not empty.
            if let Some((row, end)) = self.finish(&piece, seen) {
                seen = end;
                encoded.rows.push(row);
            }
        }
        if encoded.rows.is_empty() {
            encoded.dropped = Some(NO_TRAINED);
        }
        encoded
    }

    /// Makes a row of tokens of which some are trained; `seen` bytes of the text were counted before.
    fn finish(&self, tokens: &Tokens, seen: usize) -> Option<(TokenRow, usize)> {
        tokens.mask.iter().any(|&mask| mask != 0).then_some(())?;
        let mut bytes = 0;
        let mut end = seen;
        for ((id, mask), range) in tokens.ids.iter().zip(&tokens.mask).zip(&tokens.ranges) {
            if *mask != 0 && !self.special_ids.contains(id) {
                bytes += range.1.saturating_sub(range.0.max(end));
                end = end.max(range.1);
            }
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (ids, mask) = (tokens.ids.clone(), tokens.mask.clone());
        Some((TokenRow { ids, mask, bytes, ..TokenRow::default() }, end))
    }
}

impl Tokens {
    fn insert_front(&mut self, id: u32, mask: u8) {
        self.ids.insert(0, id);
        self.mask.insert(0, mask);
        self.ranges.insert(0, (0, 0));
    }

    fn push(&mut self, id: u32, mask: u8, range: (usize, usize)) {
        self.ids.push(id);
        self.mask.push(mask);
        self.ranges.push(range);
    }

    fn remove(&mut self, range: Range<usize>) {
        self.ids.drain(range.clone());
        self.mask.drain(range.clone());
        self.ranges.drain(range);
    }

    fn slice(&self, range: Range<usize>) -> Self {
        Self {
            ids: self.ids[range.clone()].to_vec(),
            mask: self.mask[range.clone()].to_vec(),
            ranges: self.ranges[range].to_vec(),
        }
    }
}

/// Returns the tokens that both rows of a pair begin with, up to the first trained one of either.
fn shared(first: &TokenRow, second: &TokenRow) -> u32 {
    let rows = first.ids.iter().zip(&first.mask).zip(second.ids.iter().zip(&second.mask));
    rows.take_while(|(one, other)| one == other && *one.1 == 0).count() as u32
}

/// Returns a conversation without the answers that end it.
fn before_answer(messages: &[Message]) -> &[Message] {
    let end = messages.iter().rposition(|message| message.role != crate::row::Role::Assistant);
    &messages[..end.map_or(0, |last| last + 1)]
}

/// Returns which tokens share a byte with a span; both are in order.
fn mask_of(offsets: &[(usize, usize)], spans: &[Range<usize>]) -> Vec<u8> {
    let mut next = 0;
    let trained = |&(start, end): &(usize, usize)| {
        while spans.get(next).is_some_and(|span| span.end <= start) {
            next += 1;
        }
        u8::from(spans.get(next).is_some_and(|span| start < end && span.start < end && start < span.end))
    };
    offsets.iter().map(trained).collect()
}

fn dropped(encoded: Encoded, reason: &'static str) -> Encoded {
    Encoded { rows: Vec::new(), dropped: Some(reason), ..encoded }
}

fn too_long(what: &str, tokens: usize, option: &str, limit: u64) -> DataError {
    DataError::new("row-too-long", format!("{what} has {tokens} tokens, more than `{option}` {limit}"))
        .help("raise it, or write `overflow=drop`, `overflow=truncate-prompt` or `overflow=truncate-end`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_shares_what_comes_before_both_answers() {
        let row =
            |ids: &[u32], mask: &[u8]| TokenRow { ids: ids.into(), mask: mask.into(), ..TokenRow::default() };
        let first = row(&[1, 2, 3, 4, 5], &[0, 0, 0, 1, 1]);
        assert_eq!(shared(&first, &row(&[1, 2, 3, 4, 6], &[0, 0, 0, 1, 1])), 3);
        assert_eq!(shared(&first, &row(&[1, 2, 3, 4], &[0, 0, 1, 1])), 2);
        assert_eq!(shared(&first, &row(&[1, 9, 3, 4], &[0, 0, 0, 1])), 1);
        assert_eq!(shared(&first, &row(&[2, 3, 4], &[0, 0, 1])), 0);
    }

    #[test]
    fn a_token_that_shares_a_byte_with_a_span_is_trained() {
        // The tokens 2, 3 and 4 stand for the bytes of one character.
        let offsets = [(0, 2), (2, 5), (5, 8), (5, 8), (5, 8), (8, 9), (9, 12)];
        let answer = 4..8;
        assert_eq!(mask_of(&offsets, std::slice::from_ref(&answer)), [0, 1, 1, 1, 1, 0, 0]);
        assert_eq!(mask_of(&offsets, &[0..1, 8..9]), [1, 0, 0, 0, 0, 1, 0]);
        assert_eq!(mask_of(&offsets, &[]), [0; 7]);
    }
}
