//! Figures of stages that cannot be run yet: parameters, memory, operations and time from what is known of the model.
//!
//! The model's config.json flows through the stages as the language says; where a part of it is not
//! known the figures that need it are unknown.

use super::counts;
use super::known::Known;
use super::{Lowering, Options, limit};
use crate::figures::cost::Pass;
use crate::figures::formats::{Optimizer, Precision, Quantized, State};
use crate::figures::memory::{GPU_PROCESS_BYTES, Reference, Setup};
use crate::figures::process::PROCESS_BYTES;
use crate::figures::trained::{Lora, Selection, Target, TargetName, Trained};
use crate::figures::{Shapes, activations::Recompute, devices, flops, memory, time, trained};
use lang::diagnostic::Diagnostic;
use lang::facts::Facts;
use lang::origin::LONGEST_DEFAULT_SEQUENCE;
use lang::recipe::{Planned, Ref};
use plan::task::{Figure, Figures};
use plan::value::Dtype;
use serde_json::Value;
use stdlib::hardware::HardwareKind;

impl Lowering<'_> {
    /// Returns the figures of a model that cannot be run.
    pub(super) fn figures_of_model(&self, planned: &Planned) -> Figures {
        let known = Known { recipe: self.recipe, facts: self.facts };
        let shapes = known.shapes(&planned.name);
        Figures { parameters: shapes.map(|shapes| shapes.parameters()), ..Figures::default() }
    }

    /// Returns the figures of a training stage that cannot be run; reports it when it does not fit.
    pub(super) fn figures_of_training(&mut self, planned: &Planned) -> Figures {
        let known = Known { recipe: self.recipe, facts: self.facts };
        let counted = counts::training(self.recipe, self.facts, planned);
        let Some(model) = named(planned, "model") else { return counted };
        let Some(shapes) = known.shapes(&model.name) else {
            if let Some(why) = known.why_unknown(&model.name) {
                self.unknown.entry(why).or_default().stages.push(planned.name.clone());
            }
            return counted;
        };
        let selection = selection(&planned.settings, known.added(&model.name));
        let trained = trained(&shapes, &selection.what);
        let parameters = Some(shapes.parameters() + trained.adapter_parameters());
        if !selection.is_whole {
            if let Some(why) = known.why_uncounted(&model.name) {
                self.unknown.entry(why).or_default().trained.push(planned.name.clone());
            }
            return Figures { parameters, ..counted };
        }
        let parts = Parts::of(&shapes, planned, self.options, self.facts);
        self.diagnostics.extend(parts.held(&shapes, &trained, planned, self.options));
        Figures {
            parameters,
            trained_parameters: Some(trained.parameters()),
            ..predict(&shapes, &trained, planned, &parts, self.options, self.facts, counted)
        }
    }
}

/// What of a stage's settings decides about memory.
struct Parts {
    sequence: u64,
    /// Sequences of a pair, else 1.
    sides: u64,
    /// For micro-steps of one sequence (or pair).
    setup: Setup,
    micro: Option<u64>,
}

impl Parts {
    fn of(shapes: &Shapes, planned: &Planned, options: &Options, facts: &Facts) -> Self {
        let settings = &planned.settings;
        let sequence = number(settings, &["sequence", "tokens"])
            .unwrap_or_else(|| shapes.positions.min(LONGEST_DEFAULT_SEQUENCE));
        let sides = if counts::is_pairs(&planned.kind) { 2 } else { 1 };
        let setup = Setup {
            precision: precision(settings),
            quantized: quantized(settings),
            optimizer: optimizer(settings),
            recompute: recompute(planned),
            reference: if matches!(planned.kind.as_str(), "dpo" | "kto") {
                Reference::Ahead
            } else {
                Reference::None
            },
            tokens: sequence * sides,
            shards: 1,
            process: process(options, facts),
        };
        Parts { sequence, sides, setup, micro: number(settings, &["batch", "micro"]) }
    }

    /// Reports a stage that does not fit into what the user names.
    fn held(
        &self,
        shapes: &Shapes,
        trained: &Trained,
        planned: &Planned,
        options: &Options,
    ) -> Option<Diagnostic> {
        let pack = at(&planned.settings, &["sequence", "pack"]).and_then(Value::as_bool).unwrap_or(false);
        let stage = limit::Stage {
            name: &planned.name,
            at: planned.at,
            shapes,
            trained,
            setup: self.setup,
            sequence: self.sequence,
            micro: self.micro,
            pack,
        };
        limit::exceeded(&stage, options, limit::named(options)?)
    }
}

/// What the process needs on the hardware that is predicted for.
fn process(options: &Options, facts: &Facts) -> u64 {
    match machine(options, facts).map(|machine| machine.hardware.kind) {
        Some(HardwareKind::Gpu) => GPU_PROCESS_BYTES,
        Some(HardwareKind::Core) | None => PROCESS_BYTES,
    }
}

/// Adds memory, operations and time to what is counted.
fn predict(
    shapes: &Shapes,
    trained: &Trained,
    planned: &Planned,
    parts: &Parts,
    options: &Options,
    facts: &Facts,
    counted: Figures,
) -> Figures {
    let settings = &planned.settings;
    let &Parts { sequence, sides, mut setup, micro: written } = parts;
    let machine = machine(options, facts);
    let precision = setup.precision;
    let batch = counts::batch(settings, sequence);
    let room = Room::of(options, facts);
    let micro = written.unwrap_or_else(|| room.micro(shapes, trained, &mut setup, batch));
    setup.tokens = setup.tokens.saturating_mul(micro);
    let bytes = memory(shapes, trained, &setup);
    let per_token = flops(
        shapes,
        trained,
        &Pass {
            row_tokens: sequence as f64,
            trained_share: 1.0,
            recompute: setup.recompute,
            reference: setup.reference,
        },
    )
    .total();
    let figures = Figures {
        memory: bytes.items.iter().map(|item| (item.name.to_owned(), item.bytes)).collect(),
        memory_is_estimate: true,
        flops_per_token: Some(per_token),
        micro_batch_size: Some(micro),
        devices: options.on.map(|on| (on.hardware.name.to_owned(), on.count)),
        ..counted
    };
    let full = figures.steps.map(|steps| steps.value * (batch * sequence * sides) as f64);
    let most = Figures { tokens: full.map(|value| Figure { value, estimate: true }), ..figures.clone() };
    let of = |figures: &Figures| seconds(machine, figures, compute(machine?, precision));
    let known = of(&figures);
    Figures { seconds: known.or_else(|| of(&most)), seconds_at_most: known.is_none(), ..figures }
}

/// Returns the time that a stage's operations take on a machine, where both are known.
pub(super) fn seconds(machine: Option<time::Machine>, figures: &Figures, format: Dtype) -> Option<Figure> {
    let flops = figures.flops_per_token? * figures.tokens?.value;
    Some(Figure { value: machine?.seconds(flops, format), estimate: true })
}

/// What there is to fit into.
struct Room {
    /// Bytes of one device; nothing when unknown.
    memory: Option<u64>,
    devices: u64,
}

impl Room {
    fn of(options: &Options, facts: &Facts) -> Self {
        let own = facts.hardware.as_ref().map(|hardware| hardware.memory);
        Room { memory: limit::named(options).or(own), devices: limit::devices(options) }
    }

    /// Returns as many sequences of a micro-step as fit; shards where one does not fit alone.
    fn micro(&self, shapes: &Shapes, trained: &Trained, setup: &mut Setup, batch: u64) -> u64 {
        let Some(memory) = self.memory else { return 1 };
        let most = batch.div_ceil(self.devices).max(1);
        devices(memory, 1).largest_micro(shapes, trained, setup, most).unwrap_or_else(|| {
            setup.shards = self.devices;
            devices(memory, self.devices).largest_micro(shapes, trained, setup, most).unwrap_or(1)
        })
    }
}

/// Returns what a time is predicted for: the hardware that is asked for, else this machine as far as it is known.
pub(super) fn machine(options: &Options, facts: &Facts) -> Option<time::Machine> {
    if options.on.is_some() {
        return options.on;
    }
    let own = facts.hardware.as_ref()?;
    Some(time::Machine {
        hardware: stdlib::hardware::find(own.profile.as_deref()?)?,
        count: u64::from(own.threads),
        ghz: own.ghz?,
    })
}

/// Cores without bf16 instructions compute in f32.
fn compute(machine: time::Machine, precision: Precision) -> Dtype {
    match machine.hardware.kind {
        HardwareKind::Gpu => precision.compute,
        HardwareKind::Core if machine.hardware.peaks.bf16 > machine.hardware.peaks.f32 => precision.compute,
        HardwareKind::Core => Dtype::F32,
    }
}

fn at<'v>(settings: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(settings, |value, key| value.get(key))
}

pub(super) fn number(settings: &Value, path: &[&str]) -> Option<u64> {
    at(settings, path)?.as_u64()
}

fn word<'v>(settings: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(settings, path)?.as_str()
}

pub(super) fn named<'p>(planned: &'p Planned, option: &str) -> Option<&'p Ref> {
    planned.refs.iter().find(|(path, _)| path == option).map(|(_, reference)| reference)
}

fn precision(settings: &Value) -> Precision {
    match (word(settings, &["precision", "name"]), word(settings, &["precision", "master"])) {
        (Some("f32"), _) => Precision::F32,
        (Some("f16"), _) => Precision::F16,
        (_, Some("none")) => Precision::BF16_WITHOUT_MASTERS,
        _ => Precision::BF16,
    }
}

fn quantized(settings: &Value) -> Option<Quantized> {
    let bits = match word(settings, &["quantize", "format"])? {
        "nf4" | "fp4" => 4,
        "int8" => 8,
        _ => return None,
    };
    let double = at(settings, &["quantize", "double"]).and_then(Value::as_bool).unwrap_or(false);
    Some(Quantized { bits, block: number(settings, &["quantize", "block"]).unwrap_or(64), double })
}

fn optimizer(settings: &Value) -> Optimizer {
    match word(settings, &["optimizer", "name"]) {
        Some("lion") => Optimizer::Lion,
        Some("adafactor") => Optimizer::Adafactor,
        Some("muon") => Optimizer::Muon,
        Some("rmsprop") => Optimizer::RmsProp,
        Some("sgd") => Optimizer::Sgd,
        _ => Optimizer::AdamW(match word(settings, &["optimizer", "state"]) {
            Some("bf16") => State::Bf16,
            Some("int8") => State::Int8,
            _ => State::F32,
        }),
    }
}

/// `auto` is predicted as recomputing every block, which is what lets a large model fit.
fn recompute(planned: &Planned) -> Recompute {
    match at(&planned.conduct, &["recompute", "what"]).and_then(Value::as_str) {
        Some("none") => Recompute::None,
        _ => Recompute::Block,
    }
}

fn words(value: &Value) -> Vec<String> {
    let list = value.get("weights").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a stage trains, as far as it can be counted.
struct Counted {
    what: Selection,
    /// Whether that is all; rows that nobody can count yet are left out of it.
    is_whole: bool,
}

/// What a stage trains; `added` is the number of rows that its model's vocabulary has grown by, when it is known.
fn selection(settings: &Value, added: Option<u64>) -> Counted {
    let is_on = |lora: &&Value| word(lora, &["none"]) != Some("none");
    let lora = settings.get("lora").filter(is_on).map(lora);
    let lines = settings.get("train").and_then(Value::as_array);
    let lines: Vec<Vec<String>> = lines.into_iter().flatten().map(words).collect();
    // Rows that cannot be counted leave the whole count unknown.
    let new_rows = lines.iter().flatten().any(|word| word == "new-rows");
    let is_whole = !new_rows || added.is_some();
    let train = lines.iter().flat_map(|line| trained::lines(line, added)).collect();
    Counted { what: Selection { lora, train }, is_whole }
}

fn lora(settings: &Value) -> Lora {
    let lists = |key: &str| settings.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let target = |line: &Value| {
        let rank = number(line, &["rank"]);
        let name = |name: String| match name.as_str() {
            "all-linear" => TargetName::AllLinear,
            _ => TargetName::Module(name),
        };
        words(line).into_iter().map(move |word| Target { name: name(word), rank }).collect::<Vec<_>>()
    };
    let mut targets: Vec<Target> = lists("targets").iter().flat_map(target).collect();
    if targets.is_empty() {
        targets.push(Target { name: TargetName::AllLinear, rank: None });
    }
    Lora {
        rank: number(settings, &["rank"]).unwrap_or(16),
        targets,
        also: lists("also").iter().flat_map(words).collect(),
        magnitudes: word(settings, &["variant"]) == Some("dora"),
    }
}
