//! Answers over a cache of keys and values: a prompt takes a slot, and leaves it to the next when it is answered.
//!
//! `prefill` reads whole prompts into slots that are free, `decode` adds one token to every slot. Slots that
//! have nothing to do then run a token that nobody reads: rows do not see each other. Backends may sum
//! products of few rows in another order than those of many, so programs run [`ALIKE`] rows at least, where
//! there are as many slots: an answer is the same bits whatever is answered beside it.

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::sampling::Sampler;
use ops::backend::Draw;
use plan::work::{Sampling, batch, extent, result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows from which on a product's sums have one order, however many rows there are.
const ALIKE: usize = 8;

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

/// A prompt to be answered.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    /// What its draws depend on, besides the seed; errors count from 1.
    pub number: usize,
    pub ids: &'a [u32],
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
    let all = || prompts.iter().enumerate().map(|(number, ids)| Prompt { number, ids });
    let room = room(executor, decoding);
    all().try_for_each(|prompt| check(executor, prompt, room))?;
    let mut generated = vec![Generated::default(); prompts.len()];
    let mut on_end = |number: usize, answer: Generated| {
        generated[number] = answer;
        Ok(())
    };
    let ended = generate_each(executor, decoding, &mut all(), stop, on_token, &mut on_end)?;
    Ok(ended.then_some(generated))
}

/// Generates the tokens that follow prompts, as many at once as there are slots.
///
/// `on_end` gets the number of each prompt and its answer, in the order in which answers end. Returns
/// whether all ended; not so when `stop` was set before.
///
/// # Errors
/// Fails on a prompt without tokens, and on one that leaves no room for an answer.
pub fn generate_each<'p>(
    executor: &mut Executor,
    decoding: &Decoding,
    prompts: &mut dyn Iterator<Item = Prompt<'p>>,
    stop: &AtomicBool,
    on_token: &mut dyn FnMut(usize, u32),
    on_end: &mut dyn FnMut(usize, Generated) -> Result<()>,
) -> Result<bool> {
    let room = room(executor, decoding);
    let capacity = |extent| executor.capacity(extent).unwrap_or(0) as usize;
    let count = capacity(extent::SLOTS).min(capacity(extent::ROWS)).max(1);
    let mut slots: Vec<Option<Slot>> = (0..count).map(|_| None).collect();
    let mut waiting = prompts.peekable();
    loop {
        // New prompts first, so that no slot waits for the others.
        let mut run = fill(executor, &mut slots, &mut waiting, decoding.sampling, room)?;
        let prefills = !run.is_empty();
        if !prefills {
            run = (0..count).filter(|at| slots[*at].is_some()).collect();
        }
        let Some(last) = slots.iter().rposition(Option::is_some) else { return Ok(true) };
        let used = (last + 1).max(ALIKE.min(count));
        if prefills {
            prefill(executor, &slots[..used], &run)?;
        } else {
            decode(executor, &slots[..used])?;
        }
        let logits = executor.read_f32(result::LOGITS)?;
        let vocab = logits.len() / used;
        for at in run {
            let Some(slot) = &mut slots[at] else { continue };
            slot.take(&logits[at * vocab..][..vocab], decoding.stop_ids, on_token)?;
            if let Some(slot) = slots[at].take_if(|slot| slot.done) {
                on_end(slot.prompt, slot.finish())?;
            }
        }
        if stop.load(Ordering::Relaxed) {
            let idle = slots.iter().all(Option::is_none);
            return Ok(idle && waiting.peek().is_none());
        }
    }
}

/// Returns how many tokens a prompt and its answer may have.
fn room(executor: &Executor, decoding: &Decoding) -> u64 {
    executor.capacity(extent::CACHED).unwrap_or(0).min(decoding.context.unwrap_or(u64::MAX))
}

/// Puts prompts that wait into slots that are free, as far as one prefill holds their tokens; returns which.
fn fill<'p>(
    executor: &Executor,
    slots: &mut [Option<Slot>],
    waiting: &mut std::iter::Peekable<&mut dyn Iterator<Item = Prompt<'p>>>,
    sampling: &Sampling,
    room: u64,
) -> Result<Vec<usize>> {
    let mut tokens = executor.capacity(extent::TOKENS).unwrap_or(0) as usize;
    let mut filled = Vec::new();
    for (at, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
        let Some(prompt) = waiting.peek() else { break };
        check(executor, *prompt, room)?;
        let Some(left) = tokens.checked_sub(prompt.ids.len()) else { break };
        tokens = left;
        *slot = waiting.next().map(|prompt| Slot::new(prompt.number, prompt.ids, sampling, room));
        filled.push(at);
    }
    Ok(filled)
}

fn check(executor: &Executor, prompt: Prompt, room: u64) -> Result<()> {
    let tokens = executor.capacity(extent::TOKENS).unwrap_or(0).min(room.saturating_sub(1));
    let (number, length) = (prompt.number + 1, prompt.ids.len() as u64);
    if length == 0 {
        return Err(EngineError::new("empty-prompt", format!("prompt {number} has no tokens"))
            .help("write a prompt, or use a tokenizer with a token that starts a text"));
    }
    if length > tokens {
        let message =
            format!("prompt {number} has {length} tokens, at most {tokens} leave room for an answer");
        return Err(EngineError::new("prompt-too-long", message).help("shorten the prompt"));
    }
    Ok(())
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
        // Whole blocks at once: there are many logits and hardly ever one that is not a number.
        let has_nan = |block: &[f32]| block.iter().fold(false, |nan, logit| nan | logit.is_nan());
        if logits.chunks(256).any(has_nan) {
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

/// Runs whole prompts into those slots that are new.
fn prefill(executor: &mut Executor, slots: &[Option<Slot>], new: &[usize]) -> Result<()> {
    let (mut ids, mut positions, mut token_slots) = (Vec::new(), Vec::new(), Vec::new());
    let mut bounds = vec![0];
    // Of the other slots the logits of the first token are computed and not looked at.
    let mut last = vec![0; slots.len()];
    for &at in new {
        let prompt = slots[at].as_ref().map_or(&[][..], |slot| &slot.ids);
        ids.extend(prompt.iter().map(|id| *id as i32));
        positions.extend(0..prompt.len() as i32);
        token_slots.extend(std::iter::repeat_n(at as i32, prompt.len()));
        bounds.push(ids.len() as i32);
        last[at] = ids.len() as i32 - 1;
    }
    pad(executor, &mut ids, &mut positions, &mut token_slots, &mut bounds);
    let numbers: Vec<i32> = (0..new.len() as i32).collect();
    set_extents(executor, ids.len(), new.len(), slots.len())?;
    executor.write_i32(batch::IDS, &ids)?;
    executor.write_i32(batch::POSITIONS, &positions)?;
    executor.write_i32(batch::SLOTS, &token_slots)?;
    executor.write_i32(batch::CU_SEQLENS, &bounds)?;
    executor.write_i32(batch::ROW_NUMBERS, &numbers)?;
    executor.write_i32(batch::LAST_INDEX, &last)?;
    executor.run("prefill", 0, Draw::default())
}

/// Lengthens the last prompt to [`ALIKE`] tokens in all. None before sees those behind it, and decoding writes
/// over them before it reads.
fn pad(
    executor: &Executor,
    ids: &mut Vec<i32>,
    positions: &mut Vec<i32>,
    token_slots: &mut Vec<i32>,
    bounds: &mut [i32],
) {
    let capacity = |extent| executor.capacity(extent).unwrap_or(0) as usize;
    let length = ids.len().max(ALIKE.min(capacity(extent::TOKENS)));
    let (Some(&position), Some(&slot), Some(bound)) =
        (positions.last(), token_slots.last(), bounds.last_mut())
    else {
        return;
    };
    let furthest = capacity(extent::CACHED) as i32 - 1;
    let behind = (position + 1..).map(|position| position.min(furthest));
    positions.extend(behind.take(length - ids.len()));
    token_slots.resize(length, slot);
    ids.resize(length, 0);
    *bound = length as i32;
}

/// Runs the last token of every slot, in a free one any token at its first place.
fn decode(executor: &mut Executor, slots: &[Option<Slot>]) -> Result<()> {
    let column = |of: &dyn Fn(&Slot) -> i32, free: i32| {
        slots.iter().map(|slot| slot.as_ref().map_or(free, of)).collect::<Vec<i32>>()
    };
    set_extents(executor, slots.len(), slots.len(), slots.len())?;
    executor.write_i32(batch::IDS, &column(&|slot| slot.ids[slot.ids.len() - 1] as i32, 0))?;
    executor.write_i32(batch::POSITIONS, &column(&|slot| slot.ids.len() as i32 - 1, 0))?;
    executor.write_i32(batch::LENGTHS, &column(&|slot| slot.ids.len() as i32, 1))?;
    executor.write_i32(batch::SLOTS, &(0..slots.len() as i32).collect::<Vec<i32>>())?;
    executor.run("decode", 0, Draw::default())
}

fn set_extents(executor: &mut Executor, tokens: usize, rows: usize, slots: usize) -> Result<()> {
    executor.set_extent(extent::TOKENS, tokens as u64)?;
    executor.set_extent(extent::ROWS, rows as u64)?;
    executor.set_extent(extent::BOUNDS, rows as u64 + 1)?;
    executor.set_extent(extent::SLOTS, slots as u64)
}
