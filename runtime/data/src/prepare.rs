//! Preparing data: two passes over the files, one store.
//!
//! The first pass keeps a hash of every row, by which transforms, holdout and duplicates are decided.
//! The second encodes the rows that count, in parallel and in order, and streams them to the store.
//! Mixing and order then only rearrange the index.

use crate::encode::{Encoded, Encoder, NO_TRAINED};
use crate::error::DataError;
use crate::mix::mix;
use crate::pack::packed_sequences;
use crate::read::{RawRow, RawRows};
use crate::report::{BadRow, Lengths, PartReport, PrepareReport};
use crate::row::SourceRow;
use crate::select::{Fate, Scanned, Selection, UNWANTED, select};
use crate::store::{Record, Side, StoreWriter};
use plan::work::{DataPart, Encode, Prepare, Prepared, PreparedSide, Sides};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::path::Path;
use tokenizer::Tokenizer;

/// Rows that are worked on at a time, by number and by bytes.
const CHUNK_ROWS: usize = 4096;
const CHUNK_BYTES: usize = 8 << 20;
/// Bad rows that a report names; all are counted.
const NAMED_BAD_ROWS: usize = 20;
const BAD: &str = "bad row";

/// How far preparing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// Source rows of this phase so far.
    pub rows: u64,
    /// Bytes of rows of this phase so far, and of all files.
    pub bytes: u64,
    pub total_bytes: u64,
}

/// The passes of preparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Reading,
    Encoding,
}

/// Turns the rows of datasets into a store.
///
/// The store appears under `out` when it is complete; an older one there is replaced then.
///
/// # Errors
/// Fails when data cannot be read or is not what the task says, when nothing is left to train on, and
/// when the disk does.
pub fn prepare(
    spec: &Prepare,
    tokenizer: &Tokenizer,
    out: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PrepareReport, DataError> {
    let encoder = Encoder::new(spec, tokenizer)?;
    let mut reports: Vec<PartReport> = spec.parts.iter().map(named).collect();
    let mut meter = Meter::new(&spec.parts, progress);
    let scanned = scan_all(&spec.parts, &mut reports, &mut meter)?;
    let selections = select(&spec.parts, &scanned, spec.sides)?;
    drop(scanned);
    let names: Vec<String> = spec.parts.iter().map(|part| part.name.clone()).collect();
    let mut job = Job {
        pool: own_threads()?,
        writer: StoreWriter::create(out, &names)?,
        sources: Default::default(),
        lengths: Vec::new(),
        encoder,
    };
    meter.start(Phase::Encoding);
    for (index, (part, selection)) in spec.parts.iter().zip(&selections).enumerate() {
        job.encode_part(index as u32, part, selection, &mut reports[index], &mut meter)?;
    }
    check_rows(spec, &job.writer, &reports)?;
    job.arrange(spec, &selections, &mut reports)?;
    finish(job, spec, reports)
}

/// Returns threads that end with the work: what tokenizers remember of words stays with each thread.
fn own_threads() -> Result<ThreadPool, DataError> {
    ThreadPoolBuilder::new().build().map_err(|error| {
        DataError::new("out-of-memory", format!("cannot start the threads that encode rows: {error}"))
            .help("let the process have more threads")
    })
}

fn named(part: &DataPart) -> PartReport {
    PartReport { name: part.name.clone(), ..PartReport::default() }
}

fn finish(job: Job, spec: &Prepare, parts: Vec<PartReport>) -> Result<PrepareReport, DataError> {
    let Job { writer, lengths, .. } = job;
    let pairs = matches!(spec.encode, Encode::Preference { .. });
    let side = |side| summary(writer.records(side), spec.sequence, pairs);
    let prepared = Prepared { train: side(Side::Train), eval: side(Side::Eval) };
    let report = PrepareReport { prepared, parts, lengths: Lengths::of(lengths) };
    writer.write_file("report.json", &format!("{:#}\n", serde_json::json!(report)))?;
    writer.finish()?;
    Ok(report)
}

fn summary(records: &[Record], sequence: u64, pairs: bool) -> PreparedSide {
    let sum = |of: fn(&Record) -> u32| records.iter().map(|record| u64::from(of(record))).sum();
    PreparedSide {
        rows: records.len() as u64,
        tokens: sum(|record| record.length),
        trained_tokens: sum(|record| record.trained),
        longest: records.iter().map(|record| u64::from(record.length)).max().unwrap_or(0),
        packed_sequences: packed_sequences(records.iter().map(|record| record.length), sequence),
        longest_pair: if pairs { longest_pair(records) } else { 0 },
        shared_tokens: sum(|record| record.shared),
    }
}

/// Returns the most tokens of a pair, what both of its rows begin with counted once.
fn longest_pair(records: &[Record]) -> u64 {
    records.chunks(2).map(|pair| pair.iter().map(Record::own).sum()).max().unwrap_or(0)
}

/// Returns the texts of the training side of datasets, for training a tokenizer.
///
/// Transforms and holdout apply; bad rows are left out as far as the datasets allow.
pub fn texts(parts: &[DataPart]) -> impl Iterator<Item = Result<String, DataError>> + Send + use<> {
    let parts = parts.to_vec();
    let mut reports: Vec<PartReport> = parts.iter().map(named).collect();
    let ignore = &mut |_: Progress| {};
    let mut meter = Meter::new(&parts, ignore);
    let selections =
        scan_all(&parts, &mut reports, &mut meter).and_then(|scanned| select(&parts, &scanned, Sides::Both));
    let selections: Box<dyn Iterator<Item = _> + Send> = match selections {
        Ok(selections) => Box::new(parts.into_iter().zip(selections).flat_map(texts_of)),
        Err(error) => Box::new(std::iter::once(Err(error))),
    };
    selections
}

fn texts_of(
    (part, selection): (DataPart, Selection),
) -> impl Iterator<Item = Result<String, DataError>> + Send {
    let files = part.train_files.clone();
    let rows = files.into_iter().flat_map(move |file| {
        let file = std::path::PathBuf::from(file);
        let part = part.clone();
        let rows: Box<dyn Iterator<Item = _> + Send> = match RawRows::open(&file) {
            Ok(rows) => Box::new(rows),
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        rows.map(move |raw| SourceRow::parse(&part, &raw?, &file))
    });
    let good = rows.filter(|row| match row {
        Ok(row) => row.empty().is_none(),
        Err(error) => !skippable(error), // Counted when the files were scanned.
    });
    let mut number = 0;
    good.filter_map(move |row| {
        let row = match row {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        number += 1;
        match (selection.train.get(number - 1), row) {
            (Some(Fate::Train), SourceRow::Text(text)) => Some(Ok(text)),
            (Some(Fate::Train), SourceRow::Chat(_) | SourceRow::Preference { .. }) => None,
            (Some(Fate::Eval | Fate::Dropped(_)) | None, _) => None,
        }
    })
}

/// Counts bytes and rows for whoever shows progress.
struct Meter<'a> {
    report: &'a mut dyn FnMut(Progress),
    state: Progress,
}

impl<'a> Meter<'a> {
    fn new(parts: &[DataPart], report: &'a mut dyn FnMut(Progress)) -> Self {
        let files = parts.iter().flat_map(|part| part.train_files.iter().chain(&part.eval_files));
        let total_bytes = files.map(|file| std::fs::metadata(file).map_or(0, |data| data.len())).sum();
        Self { report, state: Progress { phase: Phase::Reading, rows: 0, bytes: 0, total_bytes } }
    }

    fn start(&mut self, phase: Phase) {
        self.state = Progress { phase, rows: 0, bytes: 0, ..self.state };
    }

    fn add(&mut self, chunk: &[RawRow]) {
        self.state.rows += chunk.len() as u64;
        self.state.bytes += chunk.iter().map(|raw| raw.bytes.len() as u64).sum::<u64>();
        (self.report)(self.state);
    }
}

/// Hands out the rows of files in chunks of bounded size.
fn for_chunks(
    files: &[String],
    mut handle: impl FnMut(&Path, Vec<RawRow>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for file in files {
        let file = Path::new(file);
        let mut rows = RawRows::open(file)?.peekable();
        while rows.peek().is_some() {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while chunk.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
                let Some(raw) = rows.next() else { break };
                let raw = raw?;
                bytes += raw.bytes.len();
                chunk.push(raw);
            }
            handle(file, chunk)?;
        }
    }
    Ok(())
}

fn scan_all(
    parts: &[DataPart],
    reports: &mut [PartReport],
    meter: &mut Meter,
) -> Result<Vec<Scanned>, DataError> {
    let both = parts.iter().zip(reports);
    both.map(|(part, report)| {
        let train = scan(part, &part.train_files, report, meter)?;
        let eval = scan(part, &part.eval_files, report, meter)?;
        Ok(Scanned { train, eval })
    })
    .collect()
}

/// Returns the hashes of the good rows of files; counts the others.
fn scan(
    part: &DataPart,
    files: &[String],
    report: &mut PartReport,
    meter: &mut Meter,
) -> Result<Vec<u128>, DataError> {
    let mut hashes = Vec::new();
    for_chunks(files, |file, chunk| {
        let parse = |raw: &RawRow| {
            SourceRow::parse(part, raw, file).map(|row| row.empty().map_or_else(|| Ok(row.hash()), Err))
        };
        let parsed: Vec<_> = chunk.par_iter().map(parse).collect();
        meter.add(&chunk);
        for (raw, row) in chunk.iter().zip(parsed) {
            report.read += 1;
            match row {
                Ok(Ok(hash)) => hashes.push(hash),
                Ok(Err(reason)) => report.drop(reason),
                Err(error) => skip_bad(part, report, error.at_row(raw.row))?,
            }
        }
        Ok(())
    })?;
    Ok(hashes)
}

/// Tells whether an error is about one row, so that `on-bad-row skip` covers it.
fn skippable(error: &DataError) -> bool {
    const OF_ROWS: [&str; 5] =
        ["bad-row", "missing-column", "unknown-role", "template-refuses-row", "cannot-encode"];
    OF_ROWS.contains(&error.code)
}

fn skip_bad(part: &DataPart, report: &mut PartReport, error: DataError) -> Result<(), DataError> {
    let skipped = report.dropped.get(BAD).copied().unwrap_or(0);
    if !skippable(&error) || part.max_bad_rows == 0 {
        return Err(error);
    }
    if skipped >= part.max_bad_rows {
        let message = format!("{} (and {skipped} bad rows before it, all that `max` allows)", error.message);
        return Err(DataError { message, ..error });
    }
    report.drop(BAD);
    if report.bad.len() < NAMED_BAD_ROWS {
        report.bad.push(BadRow {
            file: error.file.map_or_else(String::new, |file| file.display().to_string()),
            row: error.row.unwrap_or(0),
            message: error.message,
        });
    }
    Ok(())
}

/// The second pass.
struct Job<'a> {
    pool: ThreadPool,
    encoder: Encoder<'a>,
    writer: StoreWriter,
    /// Of each record of a side: its part, and the place of its source row in that part's order.
    sources: [Vec<(u32, u32)>; 2],
    /// Tokens of rows before overflow.
    lengths: Vec<u32>,
}

impl Job<'_> {
    fn encode_part(
        &mut self,
        index: u32,
        part: &DataPart,
        selection: &Selection,
        report: &mut PartReport,
        meter: &mut Meter,
    ) -> Result<(), DataError> {
        let sides = [(&part.train_files, &selection.train), (&part.eval_files, &selection.eval)];
        let mut offset = 0;
        for (at, (files, fates)) in sides.into_iter().enumerate() {
            // Held-out rows of eval files come after those drawn from the training side.
            let rank = |row: usize| match at {
                0 => selection.rank[row],
                _ => (selection.rank.len() + row) as u32,
            };
            let mut next = 0;
            for_chunks(files, |file, chunk| {
                let encoded =
                    self.encode_chunk(index, part, file, &chunk, &fates[next.min(fates.len())..])?;
                meter.add(&chunk);
                for (fate, outcome) in encoded {
                    let place = rank(next);
                    next += 1;
                    match (fate, outcome) {
                        (Fate::Dropped(UNWANTED), _) => {}
                        (Fate::Dropped(reason), _) => report.drop(reason),
                        (_, Some(Err(error))) => skip_bad(part, report, error)?,
                        (Fate::Train, Some(Ok(encoded))) => {
                            self.write(Side::Train, (index, place), encoded, report)?;
                        }
                        (Fate::Eval, Some(Ok(encoded))) => {
                            self.write(Side::Eval, (index, place), encoded, report)?;
                        }
                        (Fate::Train | Fate::Eval, None) => {} // Only dropped rows are not encoded.
                    }
                }
                Ok(())
            })?;
            offset += next;
            if next != fates.len() {
                return Err(changed(part));
            }
        }
        debug_assert_eq!(offset, selection.train.len() + selection.eval.len());
        Ok(())
    }

    /// Encodes the good rows of a chunk that count, each beside its fate.
    #[allow(clippy::type_complexity)] // one use; a name would hide what it is
    fn encode_chunk(
        &self,
        index: u32,
        part: &DataPart,
        file: &Path,
        chunk: &[RawRow],
        fates: &[Fate],
    ) -> Result<Vec<(Fate, Option<Result<Encoded, DataError>>)>, DataError> {
        let parsed: Vec<_> =
            chunk.par_iter().map(|raw| (raw.row, SourceRow::parse(part, raw, file))).collect();
        let good = parsed.into_iter().filter_map(|(row, source)| match source {
            Ok(source) => source.empty().is_none().then_some((row, source)),
            Err(_) => None, // Counted by the first pass.
        });
        let good: Vec<_> = good.collect();
        if good.len() > fates.len() {
            return Err(changed(part));
        }
        let encode = |((row, source), fate): ((u64, SourceRow), &Fate)| {
            let encode = || {
                let encoded = self.encoder.encode(&source, index, source.hash());
                encoded.map_err(|error| error.in_file(file).at_row(row))
            };
            (*fate, matches!(fate, Fate::Train | Fate::Eval).then(encode))
        };
        Ok(self.pool.install(|| good.into_par_iter().zip(fates).map(encode).collect()))
    }

    fn write(
        &mut self,
        side: Side,
        source: (u32, u32),
        encoded: Encoded,
        report: &mut PartReport,
    ) -> Result<(), DataError> {
        self.lengths.extend(&encoded.full);
        report.truncated += u64::from(encoded.truncated);
        if let Some(reason) = encoded.dropped {
            report.drop(reason);
            return Ok(());
        }
        report.answers += encoded.answers;
        report.ended_answers += encoded.ended;
        match side {
            Side::Train => report.train += 1,
            Side::Eval => report.eval += 1,
        }
        for row in &encoded.rows {
            self.writer.push(side, row)?;
            self.sources[side as usize].push(source);
        }
        Ok(())
    }

    /// Brings rows into the order of transforms, and training rows into the proportions of the mix.
    fn arrange(
        &mut self,
        spec: &Prepare,
        selections: &[Selection],
        reports: &mut [PartReport],
    ) -> Result<(), DataError> {
        let size = match spec.encode {
            Encode::Text | Encode::Chat { .. } | Encode::Prompt { .. } => 1,
            Encode::Preference { .. } => 2,
        };
        for side in Side::BOTH {
            let records = self.writer.records(side);
            let mut order: Vec<usize> = (0..records.len()).collect();
            order.sort_by_key(|&at| self.sources[side as usize][at]); // Stable: pieces and pairs stay in order.
            let mut by_part = vec![Vec::new(); selections.len()];
            for at in order {
                by_part[records[at].part as usize].push(records[at]);
            }
            let arranged = match side {
                Side::Train => mix(&spec.parts, spec.mix, &by_part, size)?,
                Side::Eval => by_part.concat(),
            };
            if side == Side::Train {
                count_taken(&by_part, &arranged, reports);
            }
            self.writer.set_records(side, arranged);
        }
        Ok(())
    }
}

fn count_taken(by_part: &[Vec<Record>], mixed: &[Record], reports: &mut [PartReport]) {
    for record in mixed {
        let report = &mut reports[record.part as usize];
        report.taken_rows += 1;
        report.taken_tokens += u64::from(record.length);
    }
    for (records, report) in by_part.iter().zip(reports) {
        let tokens: u64 = records.iter().map(|record| u64::from(record.length)).sum();
        report.epochs = if tokens == 0 { 0.0 } else { report.taken_tokens as f64 / tokens as f64 };
    }
}

fn changed(part: &DataPart) -> DataError {
    DataError::new("data-changed", format!("the files of `{}` changed while they were read", part.name))
        .help("run again when nothing writes to them")
}

/// Refuses a store that would have nothing to train or to evaluate on, and says why.
fn check_rows(spec: &Prepare, writer: &StoreWriter, reports: &[PartReport]) -> Result<(), DataError> {
    let side = match spec.sides {
        Sides::Both => Side::Train,
        Sides::EvalOnly => Side::Eval,
    };
    if !writer.records(side).is_empty() {
        return Ok(());
    }
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for (reason, count) in reports.iter().flat_map(|report| &report.dropped) {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => reasons.push((reason, *count)),
        }
    }
    reasons.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let names: Vec<String> = reports.iter().map(|report| format!("`{}`", report.name)).collect();
    let names = names.join(", ");
    let read: u64 = reports.iter().map(|report| report.read).sum();
    let list: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if reasons.first().is_some_and(|(reason, _)| *reason == NO_TRAINED) {
        let message =
            format!("no token is trained in any of the {read} rows of {names}: {}", list.join(", "));
        return Err(DataError::new("no-trained-tokens", message)
            .help("see whether the rows have answers that the template marks, and raise `sequence` if they are cut off"));
    }
    let why = if list.is_empty() { "the files hold none".into() } else { list.join(", ") };
    Err(DataError::new("no-rows", format!("none of the {read} rows of {names} is left: {why}"))
        .help("raise `sequence` or choose another `overflow` if rows are too long; else look at the data"))
}
