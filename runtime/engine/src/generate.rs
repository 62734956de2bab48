//! Text from a model: prompts of any lengths at once, over a cache of keys and values.
//!
//! `prefill` reads whole prompts and fills the cache; `decode` adds one token to every slot. A slot whose
//! answer has ended repeats its last token at its last place until all have ended: rows do not see each other.

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::observer::Answer;
use crate::record::Yields;
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::sampling::Sampler;
use crate::{disk, weights};
use data::row::{Message, Role};
use data::template::{ChatTemplate, Specials};
use ops::backend::Draw;
use plan::work::{Generate, Sampling, batch, extent, result};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokenizer::Tokenizer;

/// How prompts are turned into tokens and answered.
#[derive(Debug, Clone, Copy)]
pub struct Prompting<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Chat template; absent: the text goes on.
    pub template: Option<&'a str>,
    pub decoding: Decoding<'a>,
}

/// How the tokens of answers are chosen and when they end.
#[derive(Debug, Clone, Copy)]
pub struct Decoding<'a> {
    pub sampling: &'a Sampling,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// Longest prompt plus answer in tokens, when it is less than the cache holds.
    pub context: Option<u64>,
}

/// The tokens of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generated {
    /// Without the one that ended it.
    pub ids: Vec<u32>,
    /// Whether a stop token ended it, and not a limit.
    pub ended: bool,
}

/// Answers prompts; `on_text` gets the index of a prompt and the text that its answer grew by.
///
/// Returns `None` when `stop` was set before the end.
pub fn answer(
    executor: &mut Executor,
    prompting: &Prompting,
    prompts: &[String],
    stop: &AtomicBool,
    on_text: &mut dyn FnMut(usize, &str),
) -> Result<Option<Vec<Answer>>> {
    let ids = encode(prompting, prompts)?;
    let tokenizer = prompting.tokenizer;
    let mut streams: Vec<_> = ids.iter().map(|ids| tokenizer.stream(ids, true)).collect();
    let mut texts = vec![String::new(); prompts.len()];
    let mut on_token = |prompt: usize, id: u32| {
        let piece = streams[prompt].push(id);
        if !piece.is_empty() {
            on_text(prompt, &piece);
            texts[prompt].push_str(&piece);
        }
    };
    let generated = generate(executor, &prompting.decoding, &ids, stop, &mut on_token)?;
    let Some(generated) = generated else { return Ok(None) };
    for (index, stream) in streams.into_iter().enumerate() {
        let rest = stream.finish();
        if !rest.is_empty() {
            on_text(index, &rest);
            texts[index].push_str(&rest);
        }
    }
    let answer = |((prompt, answer), generated): ((&String, String), Generated)| Answer {
        prompt: prompt.clone(),
        answer,
        tokens: generated.ids.len() as u64,
        ended: generated.ended,
    };
    Ok(Some(prompts.iter().zip(texts).zip(generated).map(answer).collect()))
}

/// Returns the tokens of prompts: rendered as the user's message, or as text that goes on.
fn encode(prompting: &Prompting, prompts: &[String]) -> Result<Vec<Vec<u32>>> {
    let tokenizer = prompting.tokenizer;
    let template = prompting.template.map(ChatTemplate::new).transpose()?;
    let bos = tokenizer.bos().map(|(_, id)| id);
    prompts
        .iter()
        .map(|prompt| {
            let (ids, bos) = match &template {
                None => (tokenizer.encode_plain(prompt)?.ids, bos),
                Some(template) => {
                    let messages = [Message::new(Role::User, prompt.as_str())];
                    let rendered = template.render(&messages, true, &Specials::of(tokenizer))?;
                    let ids = tokenizer.encode_guarded(&rendered.text, &rendered.guards)?.ids;
                    (ids, bos.filter(|_| tokenizer.adds_bos()))
                }
            };
            let bos = bos.filter(|bos| ids.first() != Some(bos));
            Ok(bos.into_iter().chain(ids).collect())
        })
        .collect()
}

/// Generates the tokens that follow prompts; `on_token` gets the index of a prompt and its next token.
///
/// An answer does not depend on the other prompts. Returns `None` when `stop` was set before the end.
///
/// # Errors
/// Fails on a prompt without tokens, and on one that leaves no room for an answer.
pub fn generate(
    executor: &mut Executor,
    decoding: &Decoding,
    prompts: &[Vec<u32>],
    stop: &AtomicBool,
    on_token: &mut dyn FnMut(usize, u32),
) -> Result<Option<Vec<Generated>>> {
    let room = executor.capacity(extent::CACHED).unwrap_or(0).min(decoding.context.unwrap_or(u64::MAX));
    check_prompts(executor, prompts, room)?;
    let mut generated = Vec::new();
    for group in groups(executor, prompts) {
        let mut slots: Vec<Slot> =
            group.map(|index| Slot::new(index, &prompts[index], decoding.sampling, room)).collect();
        prefill(executor, &slots)?;
        loop {
            let logits = executor.read_f32(result::LOGITS)?;
            let vocab = logits.len() / slots.len();
            for (slot, logits) in slots.iter_mut().zip(logits.chunks(vocab)) {
                slot.take(logits, decoding.stop_ids, on_token)?;
            }
            if slots.iter().all(|slot| slot.done) {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            decode(executor, &slots)?;
        }
        generated.extend(slots.into_iter().map(Slot::finish));
    }
    Ok(Some(generated))
}

/// A prompt and its answer while it grows.
struct Slot {
    prompt: usize,
    prompt_tokens: usize,
    /// Prompt and answer.
    ids: Vec<u32>,
    sampler: Sampler,
    /// Length at which the answer ends in any case.
    limit: usize,
    ended: bool,
    done: bool,
}

impl Slot {
    fn new(prompt: usize, ids: &[u32], sampling: &Sampling, room: u64) -> Self {
        let limit = (ids.len() as u64).saturating_add(sampling.max_tokens).min(room) as usize;
        Slot {
            prompt,
            prompt_tokens: ids.len(),
            ids: ids.to_vec(),
            sampler: Sampler::new(*sampling, prompt as u32),
            limit,
            ended: false,
            done: ids.len() >= limit,
        }
    }

    fn take(&mut self, logits: &[f32], stop_ids: &[u32], on_token: &mut dyn FnMut(usize, u32)) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            let message = format!("the model's logits after prompt {} are not numbers", self.prompt + 1);
            return Err(EngineError::new("non-finite-logits", message)
                .help("the weights are damaged or training diverged; take an earlier model"));
        }
        let id = self.sampler.next(logits, &self.ids);
        self.ended = stop_ids.contains(&id);
        if !self.ended {
            self.ids.push(id);
            on_token(self.prompt, id);
        }
        self.done = self.ended || self.ids.len() >= self.limit;
        Ok(())
    }

    fn finish(self) -> Generated {
        Generated { ids: self.ids[self.prompt_tokens..].to_vec(), ended: self.ended }
    }
}

fn check_prompts(executor: &Executor, prompts: &[Vec<u32>], room: u64) -> Result<()> {
    let tokens = executor.capacity(extent::TOKENS).unwrap_or(0).min(room.saturating_sub(1));
    for (index, prompt) in prompts.iter().enumerate() {
        let (number, length) = (index + 1, prompt.len() as u64);
        if length == 0 {
            return Err(EngineError::new("empty-prompt", format!("prompt {number} has no tokens"))
                .help("write a prompt, or use a tokenizer with a token that starts a text"));
        }
        if length > tokens {
            let message =
                format!("prompt {number} has {length} tokens, at most {tokens} leave room for an answer");
            return Err(EngineError::new("prompt-too-long", message).help("shorten the prompt"));
        }
    }
    Ok(())
}

/// Groups prompts, in order, so that each group fits the slots and the tokens of one prefill.
fn groups(executor: &Executor, prompts: &[Vec<u32>]) -> Vec<Range<usize>> {
    let capacity = |extent| executor.capacity(extent).unwrap_or(0) as usize;
    let slots = capacity(extent::SLOTS).min(capacity(extent::ROWS)).max(1);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (index, prompt) in prompts.iter().enumerate() {
        tokens += prompt.len();
        match groups.last_mut().filter(|group| group.len() < slots && tokens <= capacity(extent::TOKENS)) {
            Some(group) => group.end = index + 1,
            None => {
                groups.push(index..index + 1);
                tokens = prompt.len();
            }
        }
    }
    groups
}

/// Runs whole prompts: row i of the batch is slot i.
fn prefill(executor: &mut Executor, slots: &[Slot]) -> Result<()> {
    let (mut ids, mut positions, mut token_slots) = (Vec::new(), Vec::new(), Vec::new());
    let mut bounds = vec![0];
    for (index, slot) in slots.iter().enumerate() {
        ids.extend(slot.ids.iter().map(|id| *id as i32));
        positions.extend(0..slot.ids.len() as i32);
        token_slots.extend(std::iter::repeat_n(index as i32, slot.ids.len()));
        bounds.push(ids.len() as i32);
    }
    let last: Vec<i32> = bounds[1..].iter().map(|bound| bound - 1).collect();
    let numbers: Vec<i32> = (0..slots.len() as i32).collect();
    set_extents(executor, ids.len(), slots.len())?;
    executor.write_i32(batch::IDS, &ids)?;
    executor.write_i32(batch::POSITIONS, &positions)?;
    executor.write_i32(batch::SLOTS, &token_slots)?;
    executor.write_i32(batch::CU_SEQLENS, &bounds)?;
    executor.write_i32(batch::ROW_NUMBERS, &numbers)?;
    executor.write_i32(batch::LAST_INDEX, &last)?;
    executor.run("prefill", 0, Draw::default())
}

/// Runs the last token of every slot.
fn decode(executor: &mut Executor, slots: &[Slot]) -> Result<()> {
    let column = |of: &dyn Fn(&Slot) -> i32| slots.iter().map(of).collect::<Vec<i32>>();
    set_extents(executor, slots.len(), slots.len())?;
    executor.write_i32(batch::IDS, &column(&|slot| slot.ids[slot.ids.len() - 1] as i32))?;
    executor.write_i32(batch::POSITIONS, &column(&|slot| slot.ids.len() as i32 - 1))?;
    executor.write_i32(batch::LENGTHS, &column(&|slot| slot.ids.len() as i32))?;
    executor.write_i32(batch::SLOTS, &(0..slots.len() as i32).collect::<Vec<i32>>())?;
    executor.run("decode", 0, Draw::default())
}

fn set_extents(executor: &mut Executor, tokens: usize, slots: usize) -> Result<()> {
    executor.set_extent(extent::TOKENS, tokens as u64)?;
    executor.set_extent(extent::ROWS, slots as u64)?;
    executor.set_extent(extent::BOUNDS, slots as u64 + 1)?;
    executor.set_extent(extent::SLOTS, slots as u64)
}

/// Carries out the stage `generate`.
pub fn run(context: &mut Context, work: &Generate) -> Result<Ended> {
    let start = Instant::now();
    let task = &context.task.name;
    let module = context.module(work.module.as_ref())?;
    let tokenizer = Tokenizer::load(&context.folder.resolve(&work.tokenizer)?)?;
    let mut executor = Executor::new(module, context.backend)?;
    weights::load(&mut executor, &work.tensors, &context.folder.resolve(&work.model)?)?;
    let observer = &mut *context.observer;
    observer.task_started(task, None);
    let prompting = Prompting {
        tokenizer: &tokenizer,
        template: work.template.as_deref(),
        decoding: Decoding {
            sampling: &work.sampling,
            stop_ids: &work.stop_ids,
            context: Some(work.context),
        },
    };
    let mut on_text = |prompt: usize, piece: &str| observer.text(task, prompt, piece);
    let answers = answer(&mut executor, &prompting, &work.prompts, context.stop, &mut on_text)?;
    let Some(answers) = answers else { return Ok(Ended::Stopped { step: 0 }) };
    context.observer.sampled(task, 0, &answers);
    let mut lines = Vec::new();
    for answer in &answers {
        let line = serde_json::to_vec(answer).map_err(|e| EngineError::plan(e.to_string()))?;
        lines.extend(line);
        lines.push(b'\n');
    }
    let path = context.stage()?.join("answers.jsonl");
    disk::write_file(&path, &lines)?;
    let seconds = start.elapsed().as_secs_f64();
    let summary = Summary { answers_after: answers, seconds, ..Summary::default() };
    Ok(Ended::Made(Box::new(Made { path, yields: Yields::default(), summary })))
}
