//! What a stage decides so that it fits: sequences per micro-step and what is computed again.
//!
//! Where nothing fits, the diagnostic names what would, found by planning it and not by a rule of thumb.

use super::train::{Counts, memory_table};
use super::{Lowering, limit};
use crate::figures::process::Process;
use crate::passes::search::{Choices, Recompute, TooLarge, cheapest};
use crate::programs::Draft;
use lang::diagnostic::Diagnostic;
use lang::origin;
use lang::recipe::{self, Train};
use plan::program::{Level, Mesh, Module};
use plan::task::Conduct;

/// Of the memory of a machine this share is left to its system and to what else runs: 1/16.
const RESERVE: u64 = 16;

/// The shortest sequence that is proposed.
const SHORTEST_SEQUENCE: u64 = 64;

/// What a stage has to fit: its programs, its counts, and how it is carried out.
#[derive(Clone, Copy)]
pub(super) struct Job<'j> {
    pub stage: &'j Train,
    pub draft: &'j Draft,
    pub mesh: Mesh,
    pub counts: &'j Counts,
    pub conduct: &'j Conduct,
    /// Positions that the model knows.
    pub positions: u64,
    /// What there is beside the arenas.
    pub process: Process,
}

impl Lowering<'_> {
    /// Returns the module of an earlier run's decisions where it fits, else the cheapest that does, or reports
    /// that none does.
    ///
    /// Over several devices every rank has all weights where that fits, and a part where it does not.
    pub(super) fn fit(&mut self, job: Job) -> Option<Module> {
        let (replicas, shards) = self.meshes();
        let divided = |mesh| self.fit_on(Job { draft: &job.draft.divided(mesh), mesh, ..job });
        // Where activations are most of it shards need more than replicas: what is told is the least.
        let fitting = divided(replicas).or_else(|(replicas, exceeded)| {
            divided(shards).map_err(|(shards, other)| if shards < replicas { other } else { exceeded })
        });
        fitting.map_err(|exceeded| self.diagnostics.push(*exceeded)).ok()
    }

    /// Returns the module of a job, else the bytes that it needs and what to say of them.
    fn fit_on(&self, job: Job) -> Result<Module, (u64, Box<Diagnostic>)> {
        let limit = self.limit();
        let before = self.options.decisions.get(&job.stage.name);
        // On a machine with less memory what was decided may no longer do; the run then says what differs.
        let again = before.and_then(|before| {
            let micros = job.written().unwrap_or_else(|| vec![before.micro_batch_size.max(1)]);
            let recompute = match job.recompute() {
                Recompute::Auto => Recompute::These(before.recompute.clone()),
                written => written,
            };
            job.search(micros, recompute, limit).ok()
        });
        if let Some(module) = again {
            return Ok(module);
        }
        match job.search(job.written().unwrap_or_else(|| job.micros()), job.recompute(), limit) {
            Ok(module) => Ok(module),
            // Without a limit everything fits.
            Err(TooLarge { module }) => {
                let exceeded = exceeds_memory(job, &module, limit.unwrap_or(u64::MAX));
                Err((job.bytes(&module), Box::new(exceeded)))
            }
        }
    }

    /// Returns the bytes that a stage may use: those asked for, else the machine's without the reserve.
    pub(super) fn limit(&self) -> Option<u64> {
        let machine = self.facts.hardware.as_ref().map(|hardware| hardware.memory);
        limit::named(self.options).or(machine.map(|memory| memory - memory / RESERVE))
    }
}

impl Job<'_> {
    fn search(self, micros: Vec<u64>, recompute: Recompute, limit: Option<u64>) -> Result<Module, TooLarge> {
        let capacities = |micro| self.counts.capacities(micro, self.conduct, self.positions);
        let choices = Choices {
            micros,
            recompute,
            batch: self.batch(),
            sequence_tokens: self.counts.tokens_per_sequence(),
            row_tokens: self.counts.mean_row,
            capacities: &capacities,
            bytes: &|module| self.bytes(module),
            limit,
        };
        cheapest(self.draft, &choices)
    }

    /// Sequences of a step that one rank takes, at most.
    fn batch(self) -> u64 {
        self.counts.batch.div_ceil(self.mesh.ranks()).max(1)
    }

    /// Bytes that the whole run of a module takes.
    fn bytes(self, module: &Module) -> u64 {
        memory_table(module, &self.process).iter().map(|(_, bytes)| bytes).sum()
    }

    /// The micro batch that the recipe asks for.
    fn written(self) -> Option<Vec<u64>> {
        let micro = self.stage.micro.as_ref()?.value;
        Some(vec![micro.clamp(1, self.batch())])
    }

    /// What the recipe says about computing activations again.
    fn recompute(self) -> Recompute {
        match self.stage.recompute.value {
            recipe::Recompute::Auto => Recompute::Auto,
            recipe::Recompute::None => Recompute::All(None),
            recipe::Recompute::Block => Recompute::All(Some(Level::Block)),
        }
    }

    /// The micro batches to choose from: the one that keeps the machine busy, then halves of it.
    fn micros(self) -> Vec<u64> {
        let mut micros = vec![self.counts.default_micro(self.batch())];
        while let Some(&micro) = micros.last().filter(|micro| **micro > 1) {
            micros.push(micro.div_ceil(2));
        }
        micros
    }

    /// What the stage may be planned with where memory is least.
    fn least(self) -> Recompute {
        match self.stage.recompute.value {
            recipe::Recompute::None => Recompute::All(None),
            recipe::Recompute::Auto | recipe::Recompute::Block => Recompute::All(Some(Level::Block)),
        }
    }

    /// Returns the longest sequence, a multiple of 64, of which one at a time would fit.
    fn fitting_sequence(self, limit: u64) -> Option<u64> {
        let fits = |sequence: u64| {
            let counts = self.counts.shortened(sequence);
            Job { counts: &counts, ..self }.search(vec![1], self.least(), Some(limit)).is_ok()
        };
        let (mut fitting, mut too_long) = (0, self.counts.longest.div_ceil(SHORTEST_SEQUENCE));
        while fitting + 1 < too_long {
            let middle = fitting + (too_long - fitting) / 2;
            if fits(middle * SHORTEST_SEQUENCE) { fitting = middle } else { too_long = middle }
        }
        (fitting > 0).then_some(fitting * SHORTEST_SEQUENCE)
    }
}

fn exceeds_memory(job: Job, module: &Module, limit: u64) -> Diagnostic {
    let stage = job.stage;
    let span = stage.micro.as_ref().map_or(stage.batch.span, |micro| micro.span);
    let table: Vec<String> = memory_table(module, &job.process)
        .iter()
        .map(|(name, bytes)| format!("{name} {}", limit::size(*bytes)))
        .collect();
    let bytes = job.bytes(module);
    let found = Diagnostic::error(
        "exceeds-memory",
        format!("stage `{}` needs {}, {} may be used", stage.name, limit::size(bytes), limit::size(limit)),
        span,
        format!("with {} sequences per micro-step", module.decisions.micro_batch_size),
    )
    .with_help(remedy(job, limit))
    .with_note(table.join(", "));
    match &stage.sequence {
        Some(_) => found,
        None => found.with_note(origin::default_sequence(&stage.model.name, job.positions)),
    }
}

/// Returns what would fit: the least change first.
fn remedy(job: Job, limit: u64) -> String {
    let stage = job.stage;
    let written = stage.micro.as_ref().map(|micro| micro.value);
    let fixed = job.written().unwrap_or_else(|| job.micros());
    if stage.recompute.value == recipe::Recompute::None
        && job.search(fixed, Recompute::Auto, Some(limit)).is_ok()
    {
        return "write `recompute auto`, with which it fits".to_owned();
    }
    let fewer = written.and_then(|written| {
        let halves = std::iter::successors(Some(written / 2), |micro| Some(micro / 2));
        let mut halves = halves.take_while(|micro| *micro > 0);
        halves.find(|&micro| job.search(vec![micro], job.least(), Some(limit)).is_ok())
    });
    if let Some(micro) = fewer {
        return format!("write `micro={micro}`, or leave it out and it is chosen to fit");
    }
    let least = job.search(vec![1], job.least(), None);
    let least = least.map_or(0, |module| job.bytes(&module));
    let more = format!("give at least {} with `--memory`", rounded_up(least));
    let one = if written.is_some_and(|written| written > 1) { "`micro=1` and " } else { "" };
    match job.fitting_sequence(limit) {
        Some(sequence) => format!("write {one}`sequence {sequence}`, with which it fits, or {more}"),
        None => format!("choose a smaller model, or {more}"),
    }
}

/// Returns a size as `--memory` takes it, rounded up to tenths of a GiB, or to MiB where it is small.
pub(super) fn rounded_up(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{}MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1}GiB", (bytes as f64 / (1u64 << 30) as f64 * 10.0).ceil() / 10.0),
    }
}
