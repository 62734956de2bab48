//! Memory that the user says there is, held against what a stage cannot do without.
//!
//! Memory of a stage that can only be planned is an estimate, and an estimate may refuse nothing that could run
//! after all. What is compared is therefore the least: one sequence per micro-step unless `micro` is written, of
//! which one token unless sequences are packed, blocks recomputed unless the recipe says `none`, everything divided
//! over all devices; and of that sum [`CERTAIN`], since the model of memory is not exact. What is above the limit
//! only when rows are as long as sequences may be is a warning.

use super::Options;
use super::fit::rounded_up;
use crate::figures::activations::Recompute;
use crate::figures::formats::{Optimizer, Quantized, State};
use crate::figures::memory::{GPU_PROCESS_BYTES, Memory, PROCESS, Setup};
use crate::figures::time::Machine;
use crate::figures::trained::{Lora, Selection, Target, TargetName, Trained};
use crate::figures::{Shapes, memory, trained};
use lang::diagnostic::Diagnostic;
use lang::source::Span;
use stdlib::hardware::HardwareKind;

/// Share of the least estimate that counts; predicted and exact arenas differ by less than the rest.
const CERTAIN: f64 = 0.9;

/// The shortest sequence that is advised.
const SHORTEST: u64 = 256;

/// The most devices that are advised.
const MOST_DEVICES: u64 = 64;

/// How many ways to fit are named.
const REMEDIES: usize = 3;

/// A training stage that cannot be run yet.
pub(super) struct Stage<'a> {
    pub name: &'a str,
    /// What a message points at.
    pub at: Span,
    pub shapes: &'a Shapes,
    pub trained: &'a Trained,
    /// For micro-steps of one sequence (or pair).
    pub setup: Setup,
    pub sequence: u64,
    pub micro: Option<u64>,
    pub pack: bool,
}

/// Memory that the user names: that of a device to predict for, or what a run may use; of both the smaller.
pub(super) fn named(options: &Options) -> Option<u64> {
    let device = options.on.and_then(|on| on.memory_per_device());
    [device, options.memory].into_iter().flatten().min()
}

/// Returns the devices that a stage may be divided over.
pub(super) fn devices(options: &Options) -> u64 {
    gpus(options).map_or(1, |on| on.count)
}

/// Returns the GPUs that are predicted for, if that is asked for.
pub(super) fn gpus(options: &Options) -> Option<Machine> {
    options.on.filter(|on| on.hardware.kind == HardwareKind::Gpu)
}

/// Reports a stage that needs more than there is: an error where that is certain, a warning where rows decide.
pub(super) fn exceeded(stage: &Stage, options: &Options, limit: u64) -> Option<Diagnostic> {
    let least = stage.least(devices(options));
    let process = least.bytes(PROCESS);
    if process as f64 + (least.total() - process) as f64 * CERTAIN <= limit as f64 {
        return stage.doubtful(options, limit);
    }
    Some(
        Diagnostic::error(
            "exceeds-memory",
            format!(
                "stage `{}` needs at least ~{}{}",
                stage.name,
                size(least.total()),
                place(options, limit)
            ),
            stage.at,
            stage.label(),
        )
        .with_help(remedy(stage, options, limit))
        .with_note(parts(&least)),
    )
}

/// Says of what memory there is so much.
pub(super) fn place(options: &Options, limit: u64) -> String {
    match options.on.filter(|on| on.memory_per_device() == Some(limit)) {
        Some(on) if on.count > 1 => {
            format!(" on each of {} × {}, which has {}", on.count, on.hardware.name, size(limit))
        }
        Some(on) => format!(" on {}, which has {}", on.hardware.name, size(limit)),
        None => format!(", and {} may be used", size(limit)),
    }
}

/// Says what would give a stage so many bytes.
pub(super) fn more(options: &Options, bytes: u64) -> String {
    let Some(on) = gpus(options).filter(|on| on.memory_per_device().is_some_and(|memory| memory < bytes))
    else {
        return format!("give at least {} with `--memory`", rounded_up(bytes));
    };
    let more = options.memory.filter(|memory| *memory < bytes);
    let more = more.map_or(String::new(), |_| format!(" and `--memory {}`", rounded_up(bytes)));
    let larger =
        stdlib::hardware::HARDWARE.iter().filter_map(|hardware| Some((hardware.memory? << 30, hardware)));
    match larger.filter(|(memory, _)| *memory >= bytes).min_by_key(|(memory, _)| *memory) {
        Some((_, larger)) if on.count > 1 => format!("take `--on {}x{}`{more}", on.count, larger.name),
        Some((_, larger)) => format!("take `--on {}`{more}", larger.name),
        None => format!("take hardware with at least {} per device{more}", rounded_up(bytes)),
    }
}

/// Returns numbers of devices above a number, that are advised.
pub(super) fn more_devices(count: u64) -> impl Iterator<Item = u64> {
    let counts = std::iter::successors(Some(count.saturating_mul(2)), |count| Some(count * 2));
    counts.map(u64::next_power_of_two).take_while(|count| *count <= MOST_DEVICES)
}

fn parts(memory: &Memory) -> String {
    let parts = memory.items.iter().map(|item| format!("{} {}", item.name, size(item.bytes)));
    parts.collect::<Vec<_>>().join(", ")
}

impl Stage<'_> {
    fn least(&self, shards: u64) -> Memory {
        let sides = self.setup.tokens / self.sequence.max(1);
        let tokens = if self.pack { self.setup.tokens } else { sides };
        let tokens = tokens.saturating_mul(self.micro.unwrap_or(1));
        // What a GPU's driver takes is a reserve; what a process on cores takes is counted for every run.
        let process = if self.setup.process == GPU_PROCESS_BYTES { 0 } else { self.setup.process };
        memory(self.shapes, self.trained, &Setup { tokens, shards, process, ..self.setup })
    }

    /// Warns of a stage that needs more than there is where its rows are long.
    fn doubtful(&self, options: &Options, limit: u64) -> Option<Diagnostic> {
        let tokens = self.setup.tokens.saturating_mul(self.micro.unwrap_or(1));
        let full =
            memory(self.shapes, self.trained, &Setup { tokens, shards: devices(options), ..self.setup });
        if full.total() <= limit {
            return None;
        }
        let message =
            format!("stage `{}` may need ~{}{}", self.name, size(full.total()), place(options, limit));
        let found = Diagnostic::warning("exceeds-memory", message, self.at, self.label());
        let found = found.with_help(remedy(self, options, limit)).with_note(parts(&full));
        Some(if self.pack { found } else { found.with_note(rows_of(self.sequence)) })
    }

    fn label(&self) -> String {
        match self.micro {
            Some(micro) => format!("with {micro} sequences per micro-step, as written"),
            None => "with one sequence per micro-step".to_owned(),
        }
    }

    /// Everything that is updated as an adapter of 16 beside the frozen model.
    fn adapted(&self) -> Trained {
        let target = Target { name: TargetName::AllLinear, rank: None };
        let lora = Lora { rank: 16, targets: vec![target], also: Vec::new(), magnitudes: false };
        trained(self.shapes, &Selection { lora: Some(lora), train: Vec::new() })
    }
}

/// A change of the recipe or of the hardware, and what the stage would need with it.
struct Change {
    words: String,
    bytes: u64,
}

/// Names the changes that make it fit, those that change the least of what is learnt first; else what would do.
fn remedy(stage: &Stage, options: &Options, limit: u64) -> String {
    let changes = changes(stage, options, limit);
    let fitting: Vec<String> = changes
        .iter()
        .filter(|change| change.bytes <= limit)
        .take(REMEDIES)
        .map(|change| format!("{} (~{})", change.words, size(change.bytes)))
        .collect();
    match (fitting.is_empty(), changes.iter().min_by_key(|change| change.bytes)) {
        (false, _) => fitting.join(", or "),
        (true, Some(least)) => {
            format!(
                "choose a smaller model or more memory; the least would be to {} (~{})",
                least.words,
                size(least.bytes)
            )
        }
        (true, None) => "choose a smaller model, or more memory".to_owned(),
    }
}

fn changes(stage: &Stage, options: &Options, limit: u64) -> Vec<Change> {
    let count = devices(options);
    let micro = stage.micro.unwrap_or(1);
    let with = |setup: Setup, trained: &Trained, micro: u64, shards: u64| {
        let tokens = setup.tokens.saturating_mul(micro);
        memory(stage.shapes, trained, &Setup { tokens, shards, ..setup }).total()
    };
    let mut found = Vec::new();
    let mut add = |words: String, bytes: u64| found.push(Change { words, bytes });
    if stage.micro.is_some_and(|micro| micro > 1) {
        add("write `micro=1`".into(), with(stage.setup, stage.trained, 1, count));
    }
    if stage.setup.recompute == Recompute::None {
        let setup = Setup { recompute: Recompute::Block, ..stage.setup };
        add("write `recompute block`".into(), with(setup, stage.trained, micro, count));
    }
    let sides = stage.setup.tokens / stage.sequence.max(1);
    let shorter = std::iter::successors(Some(stage.sequence / 2), |length| Some(length / 2));
    let shorter = shorter.take_while(|&length| length >= SHORTEST).map(|length| {
        let setup = Setup { tokens: length * sides, ..stage.setup };
        (length, with(setup, stage.trained, micro, count))
    });
    if let Some((length, bytes)) = shorter.into_iter().find(|(_, bytes)| *bytes <= limit) {
        add(format!("shorten it to `sequence {length}`"), bytes);
    }
    if let Some(on) = gpus(options) {
        let sized = more_devices(count).map(|count| (count, with(stage.setup, stage.trained, micro, count)));
        if let Some((count, bytes)) = sized.into_iter().find(|(_, bytes)| *bytes <= limit) {
            add(format!("take `--on {count}x{}`", on.hardware.name), bytes);
        }
    }
    kept_and_trained(stage, |setup, trained| with(setup, trained, micro, count), &mut add);
    found
}

/// Changes of what is kept and trained: an optimizer of small numbers, an adapter, a quantised base.
fn kept_and_trained(stage: &Stage, with: impl Fn(Setup, &Trained) -> u64, add: &mut impl FnMut(String, u64)) {
    if matches!(stage.setup.optimizer, Optimizer::AdamW(State::F32 | State::Bf16)) {
        let setup = Setup { optimizer: Optimizer::AdamW(State::Int8), ..stage.setup };
        add("write `state=int8`".into(), with(setup, stage.trained));
    }
    let is_adapted = stage.trained.updates.iter().any(|update| update.is_adapter());
    let adapted = if is_adapted { stage.trained.clone() } else { stage.adapted() };
    if !is_adapted {
        add("train a `lora`".into(), with(stage.setup, &adapted));
    }
    if stage.setup.quantized.is_none() {
        let quantized = Some(Quantized { bits: 4, block: 64, double: true });
        let words = if is_adapted { "write `quantize nf4`" } else { "train a `lora` with `quantize nf4`" };
        add(words.into(), with(Setup { quantized, ..stage.setup }, &adapted));
    }
}

/// Says with which rows a figure was reckoned.
pub(super) fn rows_of(sequence: u64) -> String {
    format!("this is with rows of {sequence} tokens; shorter ones need less")
}

/// Returns bytes in the unit that shows them.
pub(super) fn size(bytes: u64) -> String {
    let in_unit = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..=0xf_ffff => format!("{:.1} KiB", in_unit(1 << 10)),
        0x10_0000..=0x3fff_ffff => format!("{:.1} MiB", in_unit(1 << 20)),
        _ => format!("{:.1} GiB", in_unit(1 << 30)),
    }
}
