//! Text from a model: prompts to tokens, tokens to text. What runs the programs is in [`slots`], and answers
//! to the rows of a dataset are in [`rows`].

mod rows;
mod slots;

pub use slots::{Decoding, Generated, generate};

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::observer::Answer;
use crate::record::Yields;
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::{disk, weights};
use data::row::{Message, Role};
use data::template::{ChatTemplate, Specials};
use plan::work::Generate;
use rows::Reached;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokenizer::Tokenizer;

/// The file of a stage's answers.
const ANSWERS: &str = "answers.jsonl";

/// How prompts are turned into tokens and answered.
#[derive(Debug, Clone, Copy)]
pub struct Prompting<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Chat template; absent: the text goes on.
    pub template: Option<&'a str>,
    pub decoding: Decoding<'a>,
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

/// Carries out the stage `generate`.
pub fn run(context: &mut Context, work: &Generate) -> Result<Ended> {
    let start = Instant::now();
    let module = context.module(work.module.as_ref())?;
    let tokenizer = Tokenizer::load(&context.folder.resolve(&work.tokenizer)?)?;
    let mut executor = Executor::new(module, context.backend)?;
    weights::load(&mut executor, &work.tensors, &context.folder.resolve(&work.model)?)?;
    context.observer.task_started(&context.task.name, None);
    let prompting = Prompting {
        tokenizer: &tokenizer,
        template: work.template.as_deref(),
        decoding: Decoding {
            sampling: &work.sampling,
            stop_ids: &work.stop_ids,
            context: Some(work.context),
        },
    };
    let (path, summary) = match &work.data {
        Some(data) => match rows::answer(context, data, &mut executor, &prompting)? {
            Reached::End { path, tokens } => (path, Summary { tokens, ..Summary::default() }),
            Reached::Row(row) => return Ok(Ended::Stopped { step: row }),
        },
        None => match answer_prompts(context, work, &mut executor, &prompting)? {
            Some((path, answers)) => (path, Summary { answers_after: answers, ..Summary::default() }),
            None => return Ok(Ended::Stopped { step: 0 }),
        },
    };
    let summary = Summary { seconds: start.elapsed().as_secs_f64(), ..summary };
    Ok(Ended::Made(Box::new(Made { path, yields: Yields::default(), summary })))
}

/// Answers the prompts of the recipe; nothing when it was asked to stop.
fn answer_prompts(
    context: &mut Context,
    work: &Generate,
    executor: &mut Executor,
    prompting: &Prompting,
) -> Result<Option<(PathBuf, Vec<Answer>)>> {
    let (task, observer) = (&context.task.name, &mut *context.observer);
    let mut on_text = |prompt: usize, piece: &str| observer.text(task, prompt, piece);
    let answers = answer(executor, prompting, &work.prompts, context.stop, &mut on_text)?;
    let Some(answers) = answers else { return Ok(None) };
    context.observer.sampled(task, 0, &answers);
    let mut lines = Vec::new();
    for answer in &answers {
        push_line(&mut lines, answer)?;
    }
    let path = context.stage()?.join(ANSWERS);
    disk::write_file(&path, &lines)?;
    Ok(Some((path, answers)))
}

/// Appends a value as one line of JSON.
fn push_line(lines: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(&mut *lines, value).map_err(|e| EngineError::plan(e.to_string()))?;
    lines.push(b'\n');
    Ok(())
}
