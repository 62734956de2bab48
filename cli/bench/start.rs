//! How long a run takes to begin: from the start of its process to the first forward pass, data prepared.
//!
//! A run of its own is started each time, on a model folder with random weights and a tokenizer as large as the
//! model's vocabulary. What it writes about its steps tells when the first one began.

use super::random;
use super::{Bench, Measured, load, median, print, spread};
use engine::events;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Measure the time from the start of `adapt run` to the first forward pass, and its first step beside later ones
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench start --model-config config.json
  adapt bench start --model-config config.json --rounds 9 --steps 3 --precision bf16")]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    /// Tokens of a row
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(2..))]
    seq: u64,
    /// Rows of a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Steps of a run, of which those after the first are what it is compared with
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(2..))]
    steps: u64,
    /// Runs that are measured, after one that prepares the data
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
}

/// What one run took, in seconds.
#[derive(Debug, Clone, Copy)]
struct Began {
    to_first_forward: f64,
    first_step: f64,
    /// The middle of the others.
    later_step: f64,
}

/// Prints a line for each run, and one for all.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let folder = bench.scratch("start")?;
    lay_out(args, bench, &folder.0)?;
    // Prepares the data, and finds out what the machine reaches.
    adapt(bench, &folder.0, &["--set", "steps=1"])?;
    let mut found = Vec::new();
    for round in 1..=args.rounds {
        let load = load();
        let began = one(bench, &folder.0)?;
        print(&json!({
            "bench": "start",
            "round": round,
            "config": args.measured.name(),
            "precision": args.measured.dtype().name(),
            "seq": args.seq,
            "batch": args.batch,
            "threads": bench.threads,
            "to_first_forward_s": began.to_first_forward,
            "first_step_s": began.first_step,
            "later_step_s": began.later_step,
            "first_over_later": began.ratio(),
            "load": load,
        }))?;
        found.push(began);
    }
    let of = |figure: fn(&Began) -> f64| spread(&found.iter().map(figure).collect::<Vec<_>>());
    print(&json!({
        "bench": "start-summary",
        "rounds": args.rounds,
        "to_first_forward_s": of(|began| began.to_first_forward),
        "first_over_later": of(Began::ratio),
    }))
}

impl Began {
    fn ratio(&self) -> f64 {
        self.first_step / self.later_step
    }
}

/// Writes the recipe, the model and the data.
fn lay_out(args: &Args, bench: &Bench, folder: &Path) -> Result<(), String> {
    let config = args.measured.config()?;
    let model = args.measured.model(&config)?;
    let base = folder.join("model");
    std::fs::create_dir_all(&base).map_err(|error| format!("{}: {error}", base.display()))?;
    random::write_weights(bench, &model, &base)?;
    let tokenizer = tokenizer(model.vocab_size())?;
    let files = [
        ("model/config.json", config.to_string()),
        ("model/tokenizer.json", tokenizer.to_string()),
        ("rows.jsonl", rows(args.seq, args.batch * args.steps)),
        ("start.kdl", recipe(args)),
    ];
    files.iter().try_for_each(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    })
}

fn recipe(args: &Args) -> String {
    let Args { seq, batch, steps, .. } = args;
    let precision = args.measured.dtype().name();
    format!(
        "adapt 1
model base \"model\"
dataset rows \"rows.jsonl\" {{ rows text }}
cpt start {{
    model base
    data rows
    sequence {seq}
    batch {batch}
    steps {steps}
    precision {precision}
    optimizer adamw lr=1e-5 weight-decay=0.01
}}
"
    )
}

/// Returns rows of text of so many tokens: letters, of which no two are joined.
fn rows(seq: u64, count: u64) -> String {
    let letter = |id: u32| char::from(b'a' + (id % 26) as u8);
    let text = |number| random::ids(1 << 16, 3, number, seq).into_iter().map(letter).collect::<String>();
    (0..count).map(|number| json!({ "text": text(number) }).to_string() + "\n").collect()
}

/// Returns a tokenizer.json of so many ids: all bytes, and joined symbols of bytes that no letter has.
///
/// # Errors
/// Fails when there are fewer ids than bytes.
fn tokenizer(ids: u64) -> Result<Value, String> {
    if ids < 256 {
        return Err(format!("the model has {ids} ids, fewer than there are bytes"));
    }
    // The characters that stand for bytes: printable ones for themselves, the others from 256 on.
    let is_shown = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 256..;
    let symbols: Vec<String> = (0..256)
        .map(|byte| if is_shown(byte) { byte } else { hidden.next().expect("without an end") })
        .map(|code| char::from_u32(code).expect("far below surrogates").to_string())
        .collect();
    let joined = &symbols[128..];
    let mut tokens = symbols.clone();
    let mut merges = Vec::new();
    let mut longest = 128..256;
    while (tokens.len() as u64) < ids {
        let end = tokens.len();
        let pairs = longest.clone().flat_map(|at| joined.iter().map(move |symbol| (at, symbol)));
        for (at, symbol) in pairs.take(ids as usize - end) {
            merges.push(format!("{} {symbol}", tokens[at]));
            tokens.push(format!("{}{symbol}", tokens[at]));
        }
        longest = end..tokens.len();
    }
    let vocab: serde_json::Map<String, Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    Ok(json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
    }))
}

/// Starts a run and measures how it began.
fn one(bench: &Bench, folder: &Path) -> Result<Began, String> {
    let started = SystemTime::now();
    adapt(bench, folder, &[])?;
    let stage = folder.join("run/start");
    let steps = seconds_of_steps(&stage.join("metrics.jsonl"))?;
    let (&first_step, later) = steps.split_first().ok_or("the run has no steps")?;
    let ended = end_of_first_step(&stage)?;
    let started = started.duration_since(UNIX_EPOCH).map_err(|_| "the clock is before 1970")?;
    let to_first_forward = ended - first_step - started.as_secs_f64();
    Ok(Began { to_first_forward, first_step, later_step: median(later) })
}

/// Runs the recipe in a run folder of its own; prepared data stays in a cache beside it.
fn adapt(bench: &Bench, folder: &Path, more: &[&str]) -> Result<(), String> {
    let run = folder.join("run");
    if run.exists() {
        std::fs::remove_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
    }
    let path = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let threads = bench.threads.to_string();
    let mut command = Command::new(path);
    command.args(["run", "start.kdl", "--quiet", "--out", "run", "--threads", &threads]).args(more);
    command.current_dir(folder).env("ADAPT_CACHE", folder.join("cache"));
    let output = command.output().map_err(|error| format!("`adapt run` does not start: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("`adapt run` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}

fn seconds_of_steps(metrics: &Path) -> Result<Vec<f64>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", metrics.display());
    let text = std::fs::read_to_string(metrics).map_err(|error| failed(&error))?;
    let seconds = |line: &str| -> Result<Option<f64>, String> {
        let line: Value = serde_json::from_str(line).map_err(|error| failed(&error))?;
        Ok(line["seconds"].as_f64())
    };
    text.lines().filter_map(|line| seconds(line).transpose()).collect()
}

/// Returns when the first step was done, in seconds since 1970, from the event file of a stage.
fn end_of_first_step(stage: &Path) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", stage.display());
    for entry in std::fs::read_dir(stage).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(events::PREFIX)
            && let Some(time) = time_of_step(&std::fs::read(&path).map_err(failed)?, 1)
        {
            return Ok(time);
        }
    }
    Err(format!("{} has no event of step 1", stage.display()))
}

/// Returns the time of the first event of a step below 128; frames and messages are as `engine::events` writes them.
fn time_of_step(mut file: &[u8], step: u8) -> Option<f64> {
    const CHECKSUM: usize = 4;
    const TIME: u8 = 0x09;
    const STEP: u8 = 0x10;
    loop {
        let (length, rest) = file.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let event = rest.get(CHECKSUM..CHECKSUM.checked_add(length)?)?;
        if let [TIME, a, b, c, d, e, f, g, h, STEP, found, ..] = *event
            && found == step
        {
            return Some(f64::from_le_bytes([a, b, c, d, e, f, g, h]));
        }
        file = rest.get(CHECKSUM + length + CHECKSUM..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_step_is_that_of_its_event() {
        let folder = tempfile::tempdir().unwrap();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let mut file = events::EventFile::create(folder.path()).unwrap();
        let before = now();
        file.scalars(1, [("loss", 1.0)]).unwrap();
        let after = now();
        file.scalars(2, [("loss", 1.0)]).unwrap();
        let time = end_of_first_step(folder.path()).unwrap();
        assert!((before..=after).contains(&time), "{before} {time} {after}");
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(time_of_step(&bytes, 2).unwrap() >= after);
        assert_eq!(time_of_step(&bytes, 3), None);
        assert_eq!(time_of_step(&bytes[..bytes.len() - 3], 3), None);
    }

    #[test]
    fn tokenizers_have_as_many_ids_as_the_model() {
        assert!(tokenizer(255).is_err());
        let folder = tempfile::tempdir().unwrap();
        for ids in [256, 300, 49152, 16640 + 256 + 5] {
            let path = folder.path().join("tokenizer.json");
            std::fs::write(&path, tokenizer(ids).unwrap().to_string()).unwrap();
            let tokenizer = tokenizer::Tokenizer::load(&path).unwrap();
            assert_eq!(tokenizer.vocab_size() as u64, ids);
            // No two letters are joined, so that the lengths of rows are known.
            let text = rows(50, 1);
            let row: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(tokenizer.encode(row["text"].as_str().unwrap()).unwrap().ids.len(), 50);
        }
    }
}
