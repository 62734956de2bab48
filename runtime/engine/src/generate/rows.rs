//! Answers to the prompts of prepared rows, kept as they come.
//!
//! They go to `answers-KEY.partial`, a line each, in the order of the rows whichever ends first, and get their
//! name when all are there. A run that was stopped or killed goes on behind the last whole line. A row's draws
//! depend on its number alone, so that the file is the same in any pieces and with any number of slots.

use super::slots::{Generated, Prompt, generate_each};
use super::{ANSWERS, Prompting, push_line};
use crate::disk;
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::observer::Answer;
use crate::run::Context;
use data::{Side, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokenizer::Tokenizer;

/// What the file has that keeps answers until all are there, behind `answers-` and the key.
const PARTIAL: &str = ".partial";

/// How far answering came.
pub enum Reached {
    /// All rows are answered, in so many tokens.
    End { path: PathBuf, tokens: u64 },
    /// It was asked to stop after so many.
    Row(u64),
}

/// A line of the answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    /// Number of the row among those that are answered, from 1.
    row: u64,
    /// The dataset that it comes from.
    data: String,
    /// Hash of what the row says, in hexadecimal.
    identity: String,
    #[serde(flatten)]
    answer: Answer,
}

/// Answers all rows of the task `data` that are not answered yet.
pub fn answer(
    context: &mut Context,
    data: &str,
    executor: &mut Executor,
    prompting: &Prompting,
) -> Result<Reached> {
    let store = Store::open(&context.folder.result(data)?, Side::Eval)?;
    let stage = context.stage()?;
    let mut written = Written::open(&stage, context)?;
    let (task, total) = (&context.task.name, store.rows() as u64);
    if written.rows > 0 {
        context.observer.note(task, &format!("{} of {total} rows were answered before", written.rows));
    }
    let mut waiting =
        (written.rows as usize..store.rows()).map(|number| Prompt { number, ids: store.row(number).ids });
    // Answers of later rows wait here for those before them.
    let mut early: BTreeMap<u64, Line> = BTreeMap::new();
    let mut on_end = |number: usize, generated: Generated| {
        early.insert(number as u64, line(&store, prompting.tokenizer, number, &generated));
        while let Some(line) = early.remove(&written.rows) {
            written.push(&line)?;
        }
        let answered = written.rows + early.len() as u64;
        context.observer.progress(task, "answering rows", answered, Some(total));
        Ok(())
    };
    let decoding = &prompting.decoding;
    let ended = generate_each(executor, decoding, &mut waiting, context.stop, &mut |_, _| {}, &mut on_end)?;
    if !ended {
        written.sync()?;
        return Ok(Reached::Row(written.rows));
    }
    let tokens = written.tokens;
    Ok(Reached::End { path: written.complete(&stage)?, tokens })
}

fn line(store: &Store, tokenizer: &Tokenizer, number: usize, generated: &Generated) -> Line {
    let row = store.row(number);
    let mut stream = tokenizer.stream(row.ids, true);
    let mut answer: String = generated.ids.iter().map(|id| stream.push(*id)).collect();
    answer.push_str(&stream.finish());
    Line {
        row: number as u64 + 1,
        data: store.parts()[row.part as usize].clone(),
        identity: format!("{:016x}", row.identity),
        answer: Answer {
            prompt: tokenizer.decode(row.ids, false),
            answer,
            tokens: generated.ids.len() as u64,
            ended: generated.ended,
        },
    }
}

/// The answers that are there.
struct Written {
    path: PathBuf,
    file: File,
    rows: u64,
    tokens: u64,
    /// The next line, kept for its memory.
    bytes: Vec<u8>,
}

impl Written {
    /// Opens what an earlier start of the same task left; a line that is not whole goes.
    fn open(stage: &Path, context: &Context) -> Result<Written> {
        let key = context.task.key.as_ref();
        let key =
            key.ok_or_else(|| EngineError::plan(format!("task `{}` has no key yet", context.task.name)))?;
        let path = stage.join(format!("answers-{}{PARTIAL}", key.0));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| EngineError::io("open", &path, &e))?;
        let mut written = Written { path, file, rows: 0, tokens: 0, bytes: Vec::new() };
        let end = written.read()?;
        let cut = written.file.set_len(end).and_then(|()| written.file.seek(SeekFrom::Start(end)));
        cut.map_err(|e| EngineError::io("write", &written.path, &e))?;
        Ok(written)
    }

    /// Counts the lines that are whole and in order, returns where they end.
    fn read(&mut self) -> Result<u64> {
        let mut reader = BufReader::new(&self.file);
        let mut end = 0;
        loop {
            self.bytes.clear();
            let read = reader.read_until(b'\n', &mut self.bytes);
            let length = read.map_err(|e| EngineError::io("read", &self.path, &e))?;
            let line = serde_json::from_slice::<Line>(&self.bytes).ok();
            let next = line.filter(|line| line.row == self.rows + 1 && self.bytes.ends_with(b"\n"));
            let Some(line) = next else { return Ok(end) };
            end += length as u64;
            self.rows += 1;
            self.tokens += line.answer.tokens;
        }
    }

    fn push(&mut self, line: &Line) -> Result<()> {
        self.bytes.clear();
        push_line(&mut self.bytes, line)?;
        self.file.write_all(&self.bytes).map_err(|e| EngineError::io("write", &self.path, &e))?;
        self.rows += 1;
        self.tokens += line.answer.tokens;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| EngineError::io("sync", &self.path, &e))
    }

    /// Gives the answers their name, and removes those that other recipes began.
    fn complete(self, stage: &Path) -> Result<PathBuf> {
        self.sync()?;
        let path = stage.join(ANSWERS);
        disk::rename(&self.path, &path)?;
        for other in disk::list(stage)? {
            if other.to_string_lossy().ends_with(PARTIAL) {
                std::fs::remove_file(&other).map_err(|e| EngineError::io("remove", &other, &e))?;
            }
        }
        Ok(path)
    }
}
