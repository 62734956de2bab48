//! `cpt`, `sft` and `dpo`.

use super::counts::counted;
use super::fit::{Certain, Job};
use super::model::{config_dtype, generation_config};
use super::{Lowering, ModelInfo, duration, limit, predicted, stop_ids};
use crate::builder::Capacities;
use crate::figures::memory::GPU_PROCESS_BYTES;
use crate::figures::process::{self, Process};
use crate::figures::trained::{self, Selection};
use crate::models::Model;
use crate::objectives::Objective;
use crate::passes::{self, trained::TrainedPart};
use crate::programs::{self, Training};
use lang::diagnostic::Diagnostic;
use lang::facts::{PreparedFact, Rates};
use lang::origin::LONGEST_DEFAULT_SEQUENCE;
use lang::recipe::{self, DpoLoss, Every, Shape, Train};
use plan::cost::program_cost;
use plan::op::PreferenceLoss;
use plan::program::{Mesh, Module};
use plan::task::{Checkpoint, Conduct, Figure, Figures, Ranks, Sample};
use plan::value::{Dtype, Role};
use plan::work::{
    self, Artifact, DataPart, Encode, LossOn, Sampling, Schedule, ScheduleShape, Sides, Unit, Work,
};
use serde_json::json;
use std::rc::Rc;
use stdlib::hardware::HardwareKind;

/// Tokens of a micro-step that keep both caches and cores busy; more gains nothing on a CPU.
const MICRO_STEP_TOKENS: u64 = 4096;

/// Bytes of a token in the mean, at most, of any tokenizer worth its name.
const MOST_TOKEN_BYTES: f64 = 8.0;

/// Tokens of a micro-step at most: those of four of the longest sequences that a model may know. With more, sizes
/// of large models would overflow.
const MOST_TOKENS: u64 = 1 << 26;

/// Tokens of the shortest row.
const LEAST_ROW: u64 = 2;

/// Tokens that a chat template may add around a prompt.
const TEMPLATE_TOKENS: u64 = 128;

impl Lowering<'_> {
    /// Lowers a training stage to its data and training tasks.
    pub(super) fn train(&mut self, stage: &Train) {
        let Some(start) = self.model(&stage.model) else { return };
        let objective = objective(&stage.objective);
        let template = match stage.objective {
            recipe::Objective::Cpt => None,
            recipe::Objective::Sft { .. } | recipe::Objective::Dpo { .. } => {
                self.template(stage.template.as_ref(), &start)
            }
        };
        let sequence = sequence(stage.sequence.as_ref().map(|sequence| sequence.value), start.model.as_ref());
        let Some(encode) = encode(stage, template.as_deref()) else { return };
        let prompt = stage.prompt.as_ref().map(|prompt| prompt.value);
        let limits = (sequence, prompt);
        let overflow = stage.overflow.value;
        let Some(prepare) =
            self.prepare(&stage.data, &start.tokenizer, encode.clone(), limits, overflow, Sides::Both)
        else {
            return;
        };
        let known_longest = self.known_longest(stage, sequence, &prepare.parts);
        let guess = Guess { bytes: self.data_bytes(&prepare.parts), rows: self.data_rows(&prepare.parts) };
        let data = self.task(
            &format!("data:{}", stage.name),
            Work::Prepare(prepare),
            Conduct::default(),
            stage.data.span,
            Figures::default(),
        );
        let eval_data = stage.evaluate.as_ref().and_then(|evaluate| evaluate.on.as_ref()).and_then(|on| {
            let prepare = self.prepare(on, &start.tokenizer, encode, limits, overflow, Sides::EvalOnly)?;
            let name = format!("data:{}:{}", stage.name, on.name);
            Some(self.task(&name, Work::Prepare(prepare), Conduct::default(), on.span, Figures::default()))
        });
        let reference = self.reference(stage, &start);
        let prepared = self.whole_data(&data, eval_data.as_deref());
        let shares = start.guess.as_ref().is_some_and(|model| objective.shares_prompts(model));
        let counts = Counts::new(stage, (objective.unit(), shares), sequence, prepared.as_ref(), guess);
        self.diagnostics.extend(self.too_many_devices(stage, &counts));
        let conduct = self.conduct(stage, &start, template.as_deref());
        let tokenizer = process::tokenizer(
            start.tokenizer.fact.as_ref().and_then(|fact| fact.memory),
            !conduct.samples.is_empty() && template.is_none(),
        );
        let rows = counts.row_bytes(stage.pack.value, prepared.as_ref());
        let process = Process { rows, ..self.process(tokenizer) };
        let part = part(stage, &start);
        let optimizer = optimizer(stage);
        // Of the sequences of a step, those of one rank.
        let share = counts.batch.div_ceil(self.ranks());
        let micro = stage.micro.as_ref().map_or_else(|| counts.default_micro(share), |micro| micro.value);
        let micro = micro.clamp(1, share.max(1));
        if let Some(found) = too_many_tokens(stage, micro.saturating_mul(counts.tokens_per_sequence())) {
            self.diagnostics.push(found);
            return;
        }
        let draft = start.guess.as_ref().map(|model| {
            let capacities = counts.capacities(micro, &conduct, model.max_positions());
            let training = Training { objective, optimizer: &optimizer, part: part.as_ref() };
            programs::draft(model, &training, capacities, precision(stage))
        });
        let job = start.guess.as_ref().zip(draft.as_ref()).map(|(model, draft)| Job {
            stage,
            draft,
            mesh: Mesh::default(),
            counts: &counts,
            conduct: &conduct,
            positions: model.max_positions(),
            process: Process { threads: self.deciding_threads(), ..process },
            certain: Certain {
                longest: if prepared.is_some() { counts.longest } else { known_longest },
                doubtful: if start.model.is_some() { 0 } else { model.vocabulary_parameters() },
            },
        });
        let is_known = start.model.is_some() && prepared.is_some();
        let module = job.filter(|_| is_known).and_then(|job| self.fit(job));
        let estimated = job.filter(|_| !is_known).and_then(|job| self.estimate(job, micro));
        let planned = module.as_ref().or(estimated.as_ref());
        let mut figures = figures(stage, &start, objective.unit(), &counts, planned);
        figures.memory = planned.map(|module| memory_table(module, &process)).unwrap_or_default();
        figures.mapped = prepared.as_ref().map(mapped).unwrap_or_default();
        let running = module.as_ref().or(estimated.as_ref()).map(|module| duration::Stage {
            module,
            counts: &counts,
            conduct: &conduct,
            prepared: prepared.as_ref(),
        });
        figures.seconds = match (running, self.rates()) {
            (Some(running), Some(rates)) => Some(running.seconds(&rates)),
            _ => {
                let machine = predicted::machine(self.options, self.facts);
                predicted::seconds(machine, &figures, precision(stage))
            }
        };
        figures.memory_is_estimate = estimated.is_some();
        figures.devices = self.options.on.map(|on| (on.hardware.name.to_owned(), on.count));
        let tensors = match (&start.model, &module) {
            (Some(model), Some(module)) => programs::file_tensors(model, module),
            _ => Vec::new(),
        };
        let tokenizer = start.tokenizer.fact.as_ref();
        let config = start.config.clone().map(|mut config| {
            config["dtype"] = json!(config_dtype(&start.dtype));
            config
        });
        let result_template = template.clone().or_else(|| start.template.clone());
        let work = work::Train {
            objective: kind(&stage.objective).to_owned(),
            unit: objective.unit(),
            preference: match objective {
                Objective::Preference { loss, beta } => Some(work::Preference { loss, beta }),
                Objective::CrossEntropy => None,
            },
            model: start.artifact.clone(),
            data,
            eval_data,
            reference,
            batch: work::Batch::Sequences(counts.batch),
            order: work::Order::Shuffled,
            sequence,
            pack: stage.pack.value,
            budget: budget(stage.budget.value),
            steps: prepared.is_some().then_some(counts.steps),
            precision: precision(stage),
            optimizer,
            schedule: schedule(stage),
            seed: stage.seed.value,
            trained: part.map(|part| part.tensors),
            config: config.clone(),
            generation_config: tokenizer.map(|tokenizer| {
                generation_config(start.generation_config.as_ref(), tokenizer, result_template.as_deref())
            }),
            chat_template: result_template.clone(),
            tensors,
            dtype: start.dtype.clone(),
            module,
        };
        let generation_config = work.generation_config.clone();
        let name = self.task(&stage.name, Work::Train(Box::new(work)), conduct, stage.at, figures);
        let result = ModelInfo {
            artifact: Artifact::Task(name),
            config,
            generation_config,
            template: result_template,
            ..(*start).clone()
        };
        self.models.insert(stage.name.clone(), Rc::new(result));
    }

    /// Returns the reference of a preference stage: what it names, else its own start.
    fn reference(&mut self, stage: &Train, start: &ModelInfo) -> Option<Artifact> {
        let recipe::Objective::Dpo { reference, .. } = &stage.objective else { return None };
        match reference {
            None => Some(start.artifact.clone()),
            Some(reference) => Some(self.model(reference)?.artifact.clone()),
        }
    }

    /// Returns what this machine was measured to reach; nothing where the prediction is for another.
    fn rates(&self) -> Option<Rates> {
        self.facts.hardware.as_ref().filter(|_| self.options.on.is_none())?.rates
    }

    /// Returns the threads that a stage runs on: of what is predicted for, else of this machine.
    pub(super) fn threads(&self) -> u64 {
        let own = self.facts.hardware.as_ref().map_or(1, |hardware| u64::from(hardware.threads));
        let cores = self.options.on.filter(|on| on.hardware.kind == HardwareKind::Core);
        cores.map_or(own, |on| on.count)
    }

    /// Returns what a process has beside its rows: on GPUs only what the driver takes of their memory.
    pub(super) fn process(&self, tokenizer: u64) -> Process {
        let driver = limit::gpus(self.options).map_or(0, |_| GPU_PROCESS_BYTES);
        Process { threads: self.threads(), tokenizer, rows: 0, driver }
    }

    /// Returns the tokens that the longest sequence has at least, as far as that is known before rows are prepared.
    ///
    /// Long rows may be dropped, and transforms may keep only short ones; whatever is left is a row.
    fn known_longest(&self, stage: &Train, sequence: u64, parts: &[DataPart]) -> u64 {
        if stage.pack.value {
            return sequence;
        }
        let is_cut = stage.overflow.value == recipe::Overflow::Split;
        let whole = parts.iter().filter(|part| is_cut && part.transforms.is_empty());
        let longest = whole.filter_map(|part| self.data_rows(std::slice::from_ref(part)).zip(Some(part)));
        let means =
            longest.map(|(rows, part)| self.data_bytes(std::slice::from_ref(part)) as f64 / rows.max(1.0));
        let longest = means.fold(0.0, f64::max) / MOST_TOKEN_BYTES;
        (longest as u64).clamp(LEAST_ROW, sequence.max(LEAST_ROW))
    }

    /// Returns the threads that what fits is decided for: with fewer, the same is decided.
    fn deciding_threads(&self) -> u64 {
        let cores = self.facts.hardware.as_ref().map_or(1, |hardware| u64::from(hardware.cores));
        if self.options.on.is_some() { self.threads() } else { self.threads().max(cores) }
    }

    /// Returns the counts of the training rows and of whatever is evaluated on.
    fn whole_data(&self, data: &str, eval_data: Option<&str>) -> Option<PreparedFact> {
        let mut fact = self.prepared(data)?.clone();
        if let Some(eval_data) = eval_data {
            fact.eval = self.prepared(eval_data)?.eval.clone();
        }
        Some(fact)
    }

    fn conduct(&self, stage: &Train, start: &ModelInfo, template: Option<&str>) -> Conduct {
        let samples = stage.samples.iter().map(|sample| Sample {
            every: every(sample.every.value),
            prompts: sample.prompts.iter().map(|prompt| prompt.value.clone()).collect(),
            template: template.map(str::to_owned),
            sampling: Sampling {
                max_tokens: sample.max_tokens.value,
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
                repetition_penalty: 1.0,
                seed: stage.seed.value,
            },
            stop_ids: stop_ids(template, start.tokenizer.fact.as_ref()),
        });
        Conduct {
            evaluate: stage.evaluate.as_ref().map(|evaluate| every(evaluate.every.value)),
            checkpoint: stage.checkpoint.as_ref().map(|checkpoint| Checkpoint {
                every: every(checkpoint.every.value),
                keep: checkpoint.keep.value,
            }),
            samples: samples.collect(),
        }
    }
}

/// Reports a micro-step of more tokens than any memory holds.
fn too_many_tokens(stage: &Train, tokens: u64) -> Option<Diagnostic> {
    let written =
        [stage.micro.as_ref().map(|micro| micro.span), stage.sequence.as_ref().map(|sequence| sequence.span)];
    let at = written.into_iter().flatten().next().unwrap_or(stage.batch.span);
    let message = format!("a micro-step of `{}` has {tokens} tokens, {MOST_TOKENS} are the most", stage.name);
    let found = Diagnostic::error("out-of-range", message, at, "too many tokens at once");
    (tokens > MOST_TOKENS).then(|| found.with_help("write a smaller `micro`, or a shorter `sequence`"))
}

/// What is known of data that is not prepared yet.
#[derive(Debug, Clone, Copy)]
struct Guess {
    bytes: u64,
    rows: Option<f64>,
}

/// How much there is to do; estimates until the data is prepared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub unit: Unit,
    pub estimate: bool,
    /// Sequences (or pairs) per step.
    pub batch: u64,
    steps: u64,
    /// Passes over the rows that those are.
    epochs: f64,
    tokens_per_step: f64,
    /// Tokens of the longest sequence that a micro-step may hold.
    pub longest: u64,
    /// Tokens of a pair at most, where its prompt is computed once and that is known.
    longest_pair: Option<u64>,
    /// Of all tokens, the share that is computed.
    computed: f64,
    /// Most rows in one sequence.
    rows_per_sequence: u64,
    pub mean_row: f64,
}

impl Counts {
    fn new(
        stage: &Train,
        (unit, shares): (Unit, bool),
        sequence: u64,
        prepared: Option<&PreparedFact>,
        guess: Guess,
    ) -> Self {
        // Unprepared text has about four bytes a token; the figures are marked as estimates.
        let guess_tokens = guess.bytes as f64 / 4.0;
        let pack = stage.pack.value;
        let (tokens, rows, packed) = match prepared {
            Some(fact) => (fact.train.tokens as f64, fact.train.rows as f64, fact.train.sequences as f64),
            None => {
                let rows_per_source = if unit == Unit::Pairs { 2.0 } else { 1.0 };
                let rows =
                    guess.rows.map_or(guess_tokens / (sequence as f64 / 2.0), |rows| rows * rows_per_source);
                (guess_tokens, rows.max(1.0), (guess_tokens / sequence as f64).max(1.0))
            }
        };
        let rows_per_unit = if unit == Unit::Pairs { 2.0 } else { 1.0 };
        let sequences = if pack { packed } else { rows / rows_per_unit }.ceil().max(1.0);
        let mean_sequence = (tokens / sequences).max(1.0);
        let batch = match stage.batch.value {
            recipe::Batch::Sequences(count) => count,
            recipe::Batch::Tokens(count) => (count as f64 / mean_sequence).round().max(1.0) as u64,
        };
        let steps_per_epoch = (sequences as u64).div_ceil(batch.max(1));
        let tokens_per_step = tokens / steps_per_epoch as f64;
        let steps = match stage.budget.value {
            recipe::Budget::Steps(steps) => steps,
            recipe::Budget::Epochs(epochs) => (epochs * steps_per_epoch as f64).ceil() as u64,
            recipe::Budget::Tokens(count) => (count as f64 / tokens_per_step.max(1.0)).ceil() as u64,
        };
        let longest_row = prepared.map_or(sequence, |fact| fact.train.longest.max(fact.eval.longest).max(2));
        let shared = prepared.filter(|_| shares && unit == Unit::Pairs);
        let longest_pair = shared.map(|fact| fact.train.longest_pair.max(fact.eval.longest_pair));
        Counts {
            unit,
            longest_pair: longest_pair.filter(|longest| *longest > 0),
            computed: 1.0 - shared.map_or(0.0, |fact| fact.train.shared_tokens as f64 / tokens.max(1.0)),
            estimate: prepared.is_none(),
            batch,
            steps: steps.max(1),
            epochs: steps as f64 / steps_per_epoch.max(1) as f64,
            tokens_per_step,
            longest: if pack { sequence } else { longest_row.min(sequence) },
            rows_per_sequence: if pack {
                (sequence / 2).max(1).min(rows as u64).max(1)
            } else {
                rows_per_unit as u64
            },
            mean_row: tokens / rows.max(1.0),
        }
    }

    /// Returns the counts with sequences of at most so many tokens.
    pub(super) fn shortened(self, longest: u64) -> Counts {
        Counts { longest, ..self }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn epochs(&self) -> f64 {
        self.epochs
    }

    pub(super) fn tokens_per_step(&self) -> f64 {
        self.tokens_per_step
    }

    /// Tokens of one sequence (or pair) at most.
    pub(super) fn tokens_per_sequence(&self) -> u64 {
        match self.unit {
            Unit::Tokens => self.longest,
            Unit::Pairs => self.longest_pair.unwrap_or(u64::MAX).min(self.longest.saturating_mul(2)),
        }
    }

    /// Bytes of the rows that are in memory, besides those of a micro-step.
    fn row_bytes(&self, packed: bool, prepared: Option<&PreparedFact>) -> u64 {
        let (train, eval) = prepared.map(|fact| (fact.train.clone(), fact.eval.rows)).unwrap_or_default();
        let pairs = self.unit == Unit::Pairs;
        let sequences = match (pairs, packed) {
            (true, _) => train.rows / 2,
            (false, true) => train.sequences,
            (false, false) => train.rows,
        };
        let tokens = self.tokens_per_step * self.computed;
        let (rows, held_out) = (train.rows, eval);
        process::Rows { rows, sequences, held_out, tokens, packed, scored: pairs }.bytes()
    }

    /// The largest micro batch within the token target, evened out over the micro-steps of so many sequences.
    pub(super) fn default_micro(&self, batch: u64) -> u64 {
        let batch = batch.max(1);
        let most = (MICRO_STEP_TOKENS / self.tokens_per_sequence()).clamp(1, batch);
        batch.div_ceil(batch.div_ceil(most))
    }

    pub(super) fn capacities(&self, micro: u64, conduct: &Conduct, positions: u64) -> Capacities {
        let sampling = sampling_capacities(
            conduct.samples.iter().map(|sample| (sample.prompts.as_slice(), sample.sampling.max_tokens)),
            positions,
        );
        let tokens = (micro * self.tokens_per_sequence()).max(sampling.tokens);
        let rows = (micro * self.rows_per_sequence).max(sampling.slots);
        Capacities { tokens, rows, trained: tokens, slots: sampling.slots, cached: sampling.cached }
    }
}

/// Returns what answering groups of prompts needs; a prompt has at most as many tokens as bytes.
pub(super) fn sampling_capacities<'a>(
    groups: impl Iterator<Item = (&'a [String], u64)>,
    positions: u64,
) -> Capacities {
    let mut most = Capacities { tokens: 0, rows: 0, trained: 0, slots: 0, cached: 0 };
    for (prompts, max_tokens) in groups {
        let length = |prompt: &String| (prompt.len() as u64 + TEMPLATE_TOKENS).min(positions);
        let longest = prompts.iter().map(length).max().unwrap_or(0);
        most.tokens = most.tokens.max(prompts.iter().map(length).sum());
        most.slots = most.slots.max(prompts.len() as u64);
        most.cached = most.cached.max((longest + max_tokens).min(positions));
    }
    most.rows = most.slots;
    most
}

/// Returns the sequence length: as written, else the model's positions up to a limit.
pub(super) fn sequence(written: Option<u64>, model: Option<&Model>) -> u64 {
    let positions = model.map_or(LONGEST_DEFAULT_SEQUENCE, Model::max_positions);
    written.unwrap_or(positions.min(LONGEST_DEFAULT_SEQUENCE))
}

/// Returns the number format of a stage that runs; others are planned from their settings.
pub(super) fn precision(stage: &Train) -> Dtype {
    debug_assert!(stage.masters.as_ref().is_none_or(|masters| masters.value), "planned, not run");
    match stage.precision.value {
        recipe::Precision::F32 => Dtype::F32,
        recipe::Precision::Bf16 => Dtype::Bf16,
        recipe::Precision::F16 => Dtype::F16,
    }
}

fn kind(objective: &recipe::Objective) -> &'static str {
    match objective {
        recipe::Objective::Cpt => "cpt",
        recipe::Objective::Sft { .. } => "sft",
        recipe::Objective::Dpo { .. } => "dpo",
    }
}

fn objective(objective: &recipe::Objective) -> Objective {
    match objective {
        recipe::Objective::Cpt | recipe::Objective::Sft { .. } => Objective::CrossEntropy,
        recipe::Objective::Dpo { beta, loss, label_smoothing, .. } => Objective::Preference {
            loss: match loss.value {
                DpoLoss::Sigmoid => PreferenceLoss::Sigmoid { label_smoothing: label_smoothing.value },
                DpoLoss::Ipo => PreferenceLoss::Ipo,
                DpoLoss::Hinge => PreferenceLoss::Hinge,
            },
            beta: beta.value,
        },
    }
}

/// Returns how rows become tokens; nothing when the template is missing, which the check reports.
fn encode(stage: &Train, template: Option<&str>) -> Option<Encode> {
    match &stage.objective {
        recipe::Objective::Cpt => Some(Encode::Text),
        recipe::Objective::Sft { loss_on } => {
            Some(Encode::Chat { template: template?.to_owned(), loss_on: lower_loss_on(loss_on.value) })
        }
        recipe::Objective::Dpo { .. } => Some(Encode::Preference { template: template?.to_owned() }),
    }
}

fn lower_loss_on(loss_on: recipe::LossOn) -> LossOn {
    match loss_on {
        recipe::LossOn::Assistant => LossOn::Assistant,
        recipe::LossOn::Last => LossOn::Last,
        recipe::LossOn::Completion => LossOn::Completion,
        recipe::LossOn::All => LossOn::All,
    }
}

fn optimizer(stage: &Train) -> work::AdamW {
    let optimizer = &stage.optimizer;
    work::AdamW {
        lr: optimizer.lr.value,
        weight_decay: optimizer.weight_decay.value,
        beta1: optimizer.beta1.value,
        beta2: optimizer.beta2.value,
        eps: optimizer.eps.value,
        clip: optimizer.clip.value,
    }
}

fn schedule(stage: &Train) -> Schedule {
    Schedule {
        shape: match stage.schedule.shape.value {
            Shape::Cosine => ScheduleShape::Cosine,
            Shape::Linear => ScheduleShape::Linear,
            Shape::Constant => ScheduleShape::Constant,
        },
        warmup: match stage.schedule.warmup.value {
            recipe::Warmup::Share(share) => work::Warmup::Share(share),
            recipe::Warmup::Steps(steps) => work::Warmup::Steps(steps),
        },
        floor: stage.schedule.floor.value,
    }
}

fn budget(budget: recipe::Budget) -> work::Budget {
    match budget {
        recipe::Budget::Epochs(epochs) => work::Budget::Epochs(epochs),
        recipe::Budget::Steps(steps) => work::Budget::Steps(steps),
        recipe::Budget::Tokens(tokens) => work::Budget::Tokens(tokens),
    }
}

fn every(every: Every) -> plan::task::Every {
    match every {
        Every::Steps(steps) => plan::task::Every::Steps(steps),
        Every::Epochs(epochs) => plan::task::Every::Epochs(epochs),
        Every::Seconds(seconds) => plan::task::Every::Seconds(seconds),
    }
}

/// Returns bytes by role of all ranks, and by item of the process, as `adapt plan` lists them; of GPUs those of one.
pub(super) fn memory_table(module: &Module, process: &Process) -> Vec<(String, u64)> {
    let on_gpus = process.driver > 0;
    let ranks = if on_gpus { 1 } else { module.mesh.ranks() };
    let arenas = rank_table(module).into_iter().map(|(name, bytes)| (name, bytes * ranks));
    let exchange = ("exchange".to_owned(), if on_gpus { 0 } else { module.mesh.exchange_bytes() });
    let items = process.items(module).into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
    arenas.chain([exchange]).chain(items).filter(|(_, bytes)| *bytes > 0).collect()
}

/// Returns bytes by role of one rank.
fn rank_table(module: &Module) -> Vec<(String, u64)> {
    let arenas = Role::ALL.iter().map(|&role| (role.name().to_owned(), module.arena_bytes(role)));
    arenas.filter(|(_, bytes)| *bytes > 0).collect()
}

/// Returns the bytes of the files of rows that a stage maps.
fn mapped(prepared: &PreparedFact) -> Vec<(String, u64)> {
    let sides = [("training rows", &prepared.train), ("held-out rows", &prepared.eval)];
    let sides = sides.map(|(name, part)| (name.to_owned(), process::mapped(part)));
    sides.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

/// Returns the elements of all values of a role.
fn elements(module: &Module, role: Role) -> u64 {
    let values = module.values.iter().filter(|value| value.role == role);
    values.map(|value| value.whole_sizes(&module.capacities()).iter().product::<u64>()).sum()
}

/// Returns what the lines of `train` name.
pub(super) fn selection(stage: &Train) -> Selection {
    let lines = stage.train.iter().flat_map(|line| {
        let words: Vec<String> = line.iter().map(|word| word.value.clone()).collect();
        trained::lines(&words, None)
    });
    Selection { lora: None, train: lines.collect() }
}

/// Returns what the stage trains; nothing when that is everything, or what there is to train is not known.
fn part(stage: &Train, start: &ModelInfo) -> Option<TrainedPart> {
    passes::trained::part(start.guess.as_ref()?, start.shapes.as_deref()?, &selection(stage))
}

fn figures(
    stage: &Train,
    start: &ModelInfo,
    unit: Unit,
    counts: &Counts,
    module: Option<&Module>,
) -> Figures {
    let figure = |value: f64| Some(Figure { value, estimate: counts.estimate });
    let parameters = start.guess.as_ref().map(Model::parameters);
    let flops_per_token = module.and_then(|module| {
        let mut extents = module.capacities();
        // One full micro-step without rows for sampling.
        extents[0] = module.decisions.micro_batch_size.max(1) * counts.tokens_per_sequence();
        extents[3] = extents[0];
        let cost = program_cost(module, module.program("micro")?, &extents, counts.mean_row);
        // Per token of the rows: a prompt that two of them have is computed once.
        Some(cost.flops / extents[0] as f64 * counts.computed)
    });
    let exact_steps = matches!(stage.budget.value, recipe::Budget::Steps(_));
    let noun = match unit {
        Unit::Tokens => "trained tokens",
        Unit::Pairs => "pairs",
    };
    Figures {
        steps: Some(Figure { value: counts.steps as f64, estimate: counts.estimate && !exact_steps }),
        tokens: figure(counts.steps as f64 * counts.tokens_per_step),
        parameters,
        trained_parameters: module.map(|module| elements(module, Role::Gradient)).or(parameters),
        seconds: None,
        seconds_at_most: false,
        devices: None,
        ranks: module
            .filter(|module| module.mesh.ranks() > 1)
            .map(|module| Ranks { mesh: module.mesh, memory: rank_table(module) }),
        flops_per_token,
        memory: Vec::new(),
        mapped: Vec::new(),
        micro_batch_size: module.map(|module| module.decisions.micro_batch_size).filter(|size| *size > 0),
        memory_is_estimate: false,
        loss: Some(format!(
            "mean over the {noun} of {}",
            counted(
                counts.batch,
                match unit {
                    Unit::Tokens => "sequence",
                    Unit::Pairs => "pair",
                }
            )
        )),
    }
}
