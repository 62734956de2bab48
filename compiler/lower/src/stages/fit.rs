//! What a stage decides so that it fits: sequences per micro-step and what is computed again.
//!
//! Where nothing fits, the diagnostic names what would, found by planning it and not by a rule of thumb.

use super::counts::counted;
use super::train::{Counts, memory_table};
use super::{Lowering, limit};
use crate::figures::process::Process;
use crate::passes::search::{Choices, Recompute, TooLarge, cheapest};
use crate::programs::Draft;
use lang::diagnostic::{Diagnostic, Severity};
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
    pub certain: Certain,
}

/// What is certain of a stage whose rows, or whose vocabulary, are not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Certain {
    /// Tokens that the longest sequence has at least.
    pub longest: u64,
    /// Numbers of the model that may turn out fewer.
    pub doubtful: u64,
}

/// Bytes that a trained number takes at most, without activations: itself, its gradient, two moments in f32, and
/// in half precision the copy in f32.
const MOST_BYTES_PER_NUMBER: u64 = 16;

impl Lowering<'_> {
    /// Returns the module of an earlier run's decisions where it fits, else the cheapest that does, or reports
    /// that none does.
    ///
    /// Over several devices every rank has all weights where that fits, and a part where it does not.
    pub(super) fn fit(&mut self, job: Job) -> Option<Module> {
        let (replicas, shards) = self.meshes();
        let limit = self.limit();
        let mut least: Option<(Mesh, Module)> = None;
        // Where activations are most of it shards need more than replicas: what is told is the least.
        for mesh in if replicas == shards { vec![shards] } else { vec![replicas, shards] } {
            let module = match self.fit_on(Job { draft: &job.draft.divided(mesh), mesh, ..job }, limit) {
                Ok(module) => return Some(module),
                Err(TooLarge { module }) => module,
            };
            if least.as_ref().is_none_or(|(_, least)| job.bytes(&module) < job.bytes(least)) {
                least = Some((mesh, *module));
            }
        }
        // Without a limit everything fits.
        let ((mesh, module), limit) = least.zip(limit)?;
        let found = self.exceeded(Job { draft: &job.draft.divided(mesh), mesh, ..job }, &module, limit);
        let is_certain = found.severity == Severity::Error;
        self.diagnostics.push(found);
        (!is_certain).then_some(module)
    }

    /// Returns the module that a stage is predicted with whose rows are not prepared: one that fits into what the
    /// user names, or what it is going to run with; else the usual one.
    pub(super) fn estimate(&mut self, job: Job, micro: u64) -> Option<Module> {
        if limit::named(self.options).is_some() || self.options.runs {
            return self.fit(job);
        }
        let (replicas, shards) = self.meshes();
        let plan = |mesh| {
            let mut module = job.draft.divided(mesh).plan(&[]);
            module.decisions.micro_batch_size = micro;
            module
        };
        let module = plan(replicas);
        let fits = |limit| module.total_bytes() * replicas.ranks() <= limit;
        Some(if replicas.ranks() == 1 || self.limit().is_none_or(fits) { module } else { plan(shards) })
    }

    /// Returns the module of a job on its devices, else the smallest.
    fn fit_on(&self, job: Job, limit: Option<u64>) -> Result<Module, TooLarge> {
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
        match again {
            Some(module) => Ok(module),
            None => job.search(job.written().unwrap_or_else(|| job.micros()), job.recompute(), limit),
        }
    }

    /// Reports a stage of which even the smallest module does not fit: an error where that is certain.
    fn exceeded(&self, job: Job, module: &Module, limit: u64) -> Diagnostic {
        let (stage, bytes, counts) = (job.stage, job.bytes(module), job.counts);
        let certain = job.certain_bytes(bytes);
        let at = stage.micro.as_ref().map_or(stage.batch.span, |micro| micro.span);
        let place = limit::place(self.options, limit);
        let with = format!("with {} per micro-step", counted(module.decisions.micro_batch_size, "sequence"));
        let report = |severity, need: &str, bytes: u64| {
            let mark = if counts.estimate { "~" } else { "" };
            let message = format!("stage `{}` {need} {mark}{}{place}", stage.name, limit::size(bytes));
            Diagnostic { severity, ..Diagnostic::error("exceeds-memory", message, at, with) }
        };
        let found = match certain > limit {
            true if counts.estimate => report(Severity::Error, "needs at least", certain),
            true => report(Severity::Error, "needs", bytes),
            false => report(Severity::Warning, "may need", bytes),
        };
        let table: Vec<String> = memory_table(module, &job.process)
            .iter()
            .map(|(name, bytes)| format!("{name} {}", limit::size(*bytes)))
            .collect();
        let found = found.with_help(self.remedy(job, limit)).with_note(table.join(", "));
        let found = match &stage.sequence {
            Some(_) => found,
            None => found.with_note(origin::default_sequence(&stage.model.name, job.positions)),
        };
        let is_open = counts.estimate && job.certain.longest < counts.longest;
        if is_open { found.with_note(limit::rows_of(counts.longest)) } else { found }
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

    /// Returns the bytes that the stage certainly needs, where its smallest module takes so many; without the
    /// driver's, which are a reserve.
    fn certain_bytes(self, smallest: u64) -> u64 {
        let bytes = if self.certain.longest < self.counts.longest {
            let counts = self.counts.shortened(self.certain.longest);
            let job = Job { counts: &counts, ..self };
            let micros = self.written().unwrap_or_else(|| vec![1]);
            let least = job.search(micros, self.least(), None);
            least.map_or(smallest, |module| self.bytes(&module)).min(smallest)
        } else {
            smallest
        };
        let copies = if self.process.driver > 0 { 1 } else { u64::from(self.mesh.replicas) };
        let doubtful = self.certain.doubtful.saturating_mul(MOST_BYTES_PER_NUMBER).saturating_mul(copies);
        bytes.saturating_sub(doubtful).saturating_sub(self.process.driver)
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

impl Lowering<'_> {
    /// Returns what would fit: the least change first.
    fn remedy(&self, job: Job, limit: u64) -> String {
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
        let one = if written.is_some_and(|written| written > 1) { "`micro=1` and " } else { "" };
        let shorter = match job.fitting_sequence(limit) {
            Some(sequence) => format!("write {one}`sequence {sequence}`, with which it fits"),
            None => "choose a smaller model".to_owned(),
        };
        let more = limit::more(self.options, least);
        let ways = [Some(shorter), self.more_devices(job, limit), Some(more)];
        ways.into_iter().flatten().collect::<Vec<_>>().join(", or ")
    }

    /// Returns how many of the GPUs that are named would do, divided as far as the batch goes.
    fn more_devices(&self, job: Job, limit: u64) -> Option<String> {
        let on = limit::gpus(self.options)?;
        let counts = limit::more_devices(on.count).take_while(|count| *count <= job.counts.batch);
        let fits = |count: &u64| {
            let mesh = Mesh { replicas: 1, shards: *count as u32 };
            let draft = job.draft.divided(mesh);
            Job { draft: &draft, mesh, ..job }.search(vec![1], job.least(), Some(limit)).is_ok()
        };
        let count = { counts }.find(fits)?;
        Some(format!("take `--on {count}x{}`", on.hardware.name))
    }
}

/// Returns a size as `--memory` takes it, rounded up to tenths of a GiB, or to MiB where it is small.
pub(super) fn rounded_up(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{}MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{:.1}GiB", (bytes as f64 / (1u64 << 30) as f64 * 10.0).ceil() / 10.0),
    }
}
