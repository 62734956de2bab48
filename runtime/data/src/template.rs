//! Chat templates: messages to text, and which of that text is trained.
//!
//! What is trained comes from the template's own structure, never from searching its output. Where a
//! template marks answers with `{% generation %}`, the marks decide. Where it does not, answers are
//! rendered between private characters, and the end of a turn is what the template writes between an
//! answer and the next message.

mod functions;
mod marks;

use crate::error::DataError;
use crate::row::{Message, Role};
use marks::{CLOSE, GUARD, OPEN, Parsed};
use minijinja::Environment;
use std::ops::Range;
use tokenizer::Tokenizer;

/// The name of the one template of an environment.
const NAME: &str = "chat";

/// The special tokens that templates may name, and the means to find them in text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Specials<'a> {
    pub bos: Option<&'a str>,
    pub eos: Option<&'a str>,
    pub pad: Option<&'a str>,
    pub unk: Option<&'a str>,
    tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Specials<'a> {
    pub fn of(tokenizer: &'a Tokenizer) -> Self {
        let text = |token: Option<(&'a str, u32)>| token.map(|(text, _)| text);
        Self {
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            pad: text(tokenizer.pad()),
            unk: text(tokenizer.unk()),
            tokenizer: Some(tokenizer),
        }
    }

    /// Returns special tokens without a tokenizer: only eos is known to end a turn.
    pub fn named(bos: &'a str, eos: &'a str) -> Self {
        Self { bos: Some(bos), eos: Some(eos), ..Self::default() }
    }

    /// Returns where the first special token of a text ends.
    fn first_end(&self, text: &str) -> Option<usize> {
        match self.tokenizer {
            Some(tokenizer) => tokenizer.find_special(text).first().map(|&(_, end, _)| end),
            None => self.eos.and_then(|eos| text.find(eos).map(|at| at + eos.len())),
        }
    }

    /// Returns a text with a private character inside every special token that is written in it.
    fn guard(&self, text: &str) -> String {
        let found = self.tokenizer.map(|tokenizer| tokenizer.find_special(text)).unwrap_or_default();
        let mut guarded = String::with_capacity(text.len() + 3 * found.len());
        let mut from = 0;
        for (start, _, _) in found {
            // Inside means after its first character; a token of one character cannot be guarded.
            let inside = start + text[start..].chars().next().map_or(0, char::len_utf8);
            guarded.push_str(&text[from..inside]);
            guarded.push(GUARD);
            from = inside;
        }
        guarded.push_str(&text[from..]);
        guarded
    }
}

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// Byte ranges of answers with their end of turn, in order.
    pub trained: Vec<Range<usize>>,
    /// Byte positions inside special tokens that come from the data: see `Tokenizer::encode_guarded`.
    pub guards: Vec<usize>,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    marked: bool,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// Fails with the line of the template where it cannot be read.
    pub fn new(jinja: &str) -> Result<Self, DataError> {
        let (source, marked) = marks::rewrite(jinja);
        let mut environment = functions::environment();
        environment.add_template_owned(NAME, source).map_err(|error| {
            let line = error.line().map_or(String::new(), |line| format!(" in line {line}"));
            DataError::new(
                "bad-template",
                format!("the chat template cannot be read{line}: {}", reason(&error)),
            )
            .help("correct the template; it is Jinja as transformers has it")
        })?;
        Ok(Self { environment, marked })
    }

    /// Tells whether the template says itself what is trained.
    pub fn has_generation_marks(&self) -> bool {
        self.marked
    }

    /// Returns the text of a conversation.
    ///
    /// # Errors
    /// Fails when the template refuses it.
    pub fn text(&self, messages: &[Message], open: bool, specials: &Specials) -> Result<String, DataError> {
        Ok(self.parsed(messages.to_vec(), open, specials)?.text)
    }

    /// Returns the text of a conversation and which of it is trained.
    ///
    /// `add_generation_prompt` opens an answer at the end.
    ///
    /// # Errors
    /// Fails when the template refuses the conversation, or when its structure does not show what is
    /// trained.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        specials: &Specials,
    ) -> Result<Rendered, DataError> {
        marks::refuse_private(messages)?;
        let guarded =
            messages.iter().map(|message| Message::new(message.role, specials.guard(&message.content)));
        let guarded: Vec<Message> = guarded.collect();
        let plain = self.parsed(guarded.clone(), add_generation_prompt, specials)?;
        if self.marked {
            return Ok(Rendered { text: plain.text, trained: plain.spans, guards: plain.guards });
        }
        let trained = self.derive(&guarded, add_generation_prompt, &plain.text, specials)?;
        Ok(Rendered { text: plain.text, trained, guards: plain.guards })
    }

    /// Finds the answers of a template without marks.
    fn derive(
        &self,
        messages: &[Message],
        open: bool,
        plain: &str,
        specials: &Specials,
    ) -> Result<Vec<Range<usize>>, DataError> {
        let answers: Vec<usize> =
            (0..messages.len()).filter(|&at| messages[at].role == Role::Assistant).collect();
        if answers.is_empty() {
            return Ok(Vec::new());
        }
        // A template that trims contents would keep the space inside the private characters, so they
        // then go inside the space.
        for wrap in [marks::wrap as fn(&str) -> String, marks::wrap_trimmed] {
            let wrapped: Vec<Message> = messages.iter().map(|message| wrap_answer(message, wrap)).collect();
            let full = self.parsed(wrapped.clone(), open, specials)?;
            if full.text == plain && full.spans.len() == answers.len() {
                let spans = answers.iter().zip(&full.spans);
                let ended = spans.map(|(&at, span)| {
                    let until = self.end_of_turn(&wrapped[..=at], &plain[span.end..], specials)?;
                    Ok(span.start..span.end + until)
                });
                return ended.collect();
            }
        }
        Err(unmarked("it changes or leaves out the content of an answer"))
    }

    /// Returns how much of `rest`, the text after an answer, ends the turn.
    ///
    /// What follows the answer when the conversation stops there is the end of the turn; the rest belongs
    /// to the next message. Up to the first special token it is trained, or all of it when it has none.
    fn end_of_turn(&self, until: &[Message], rest: &str, specials: &Specials) -> Result<usize, DataError> {
        let alone = self.parsed(until.to_vec(), false, specials)?;
        let end = alone.spans.last().map_or(0, |span| span.end);
        let tail = &alone.text[end..];
        if !rest.starts_with(tail) {
            return Err(unmarked("the end of a turn depends on what follows"));
        }
        Ok(specials.first_end(tail).unwrap_or_else(|| tail.trim_end().len()))
    }

    fn parsed(&self, messages: Vec<Message>, open: bool, specials: &Specials) -> Result<Parsed, DataError> {
        let messages: minijinja::Value = messages.into_iter().map(value_of).collect();
        let mut values: Vec<(&str, minijinja::Value)> = vec![
            ("messages", messages),
            ("add_generation_prompt", open.into()),
            ("tools", ().into()),
            ("documents", ().into()),
        ];
        let named = [
            ("bos_token", specials.bos),
            ("eos_token", specials.eos),
            ("pad_token", specials.pad),
            ("unk_token", specials.unk),
        ];
        values.extend(named.into_iter().filter_map(|(name, token)| Some((name, token?.into()))));
        let values = minijinja::Value::from_pairs(values);
        let template = self.environment.get_template(NAME);
        let text = template.and_then(|template| template.render(values));
        Ok(Parsed::of(&text.map_err(|error| refused(&error))?))
    }
}

fn value_of(message: Message) -> minijinja::Value {
    let role = message.role.name();
    minijinja::Value::from_pairs([("role", role.to_owned()), ("content", message.content)])
}

fn wrap_answer(message: &Message, wrap: fn(&str) -> String) -> Message {
    match message.role {
        Role::Assistant => Message::new(Role::Assistant, wrap(&message.content)),
        Role::System | Role::User | Role::Tool => message.clone(),
    }
}

/// Returns a template that writes the bos itself, when the tokenizer adds one and the template does not.
///
/// Rows start with one bos. Others render a saved template and add nothing, so the template must say it.
///
/// # Errors
/// Fails when the template cannot be read or refuses a plain exchange.
pub fn for_saving(jinja: &str, tokenizer: &Tokenizer) -> Result<String, DataError> {
    let Some((bos, _)) = tokenizer.bos().filter(|_| tokenizer.adds_bos()) else { return Ok(jinja.into()) };
    let messages = [Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
    let text = ChatTemplate::new(jinja)?.text(&messages, false, &Specials::of(tokenizer))?;
    Ok(if text.starts_with(bos) { jinja.into() } else { format!("{{{{- bos_token -}}}}{jinja}") })
}

fn refused(error: &minijinja::Error) -> DataError {
    DataError::new("template-refuses-row", format!("the chat template refuses the row: {}", reason(error)))
        .help("correct that row, take another `template`, or allow some rows to be left out: `on-bad-row skip max=20`")
}

fn unmarked(why: &str) -> DataError {
    DataError::new("template-needs-marks", format!("the chat template does not show which tokens are answers: {why}"))
        .help("put `{% generation %}` and `{% endgeneration %}` around the answer and its end of turn in the template")
}

fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
