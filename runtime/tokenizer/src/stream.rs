//! Text of generated tokens as they come.

use crate::Tokenizer;

/// Gives the text that each new token adds.
///
/// A token may add nothing: the bytes of a character can be spread over several.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    ids: Vec<u32>,
    /// Where the window starts that is decoded; spaces depend on the token before.
    window: usize,
    /// Up to where the text was given out.
    given: usize,
}

/// Tokens before the first new one that may decide about its spaces.
const CONTEXT: usize = 8;

impl<'a> TextStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, context: &[u32], skip_special: bool) -> Self {
        let ids = context[context.len().saturating_sub(CONTEXT)..].to_vec();
        Self { tokenizer, skip_special, given: ids.len(), window: 0, ids }
    }

    /// Takes the next token and returns the text that is now certain.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let text = self.pending();
        if text.is_empty() || text.ends_with('\u{FFFD}') {
            return String::new();
        }
        self.window = self.given;
        self.given = self.ids.len();
        text
    }

    /// Returns what is left: an unfinished character as U+FFFD.
    pub fn finish(mut self) -> String {
        let text = self.pending();
        self.ids.clear();
        text
    }

    fn pending(&self) -> String {
        let before = self.tokenizer.decode(&self.ids[self.window..self.given], self.skip_special);
        let now = self.tokenizer.decode(&self.ids[self.window..], self.skip_special);
        now.strip_prefix(&before).map(str::to_owned).unwrap_or_default()
    }
}
