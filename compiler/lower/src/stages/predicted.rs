//! Figures of stages that cannot be run yet: parameters, memory, operations and time from what is known of the model.
//!
//! The model's config.json flows through the stages as the language says; where a part of it is not
//! known the figures that need it are unknown.

use super::counts;
use super::train::LONGEST_DEFAULT_SEQUENCE;
use super::{Lowering, Options};
use crate::figures::cost::Pass;
use crate::figures::formats::{Optimizer, Precision, Quantized, State};
use crate::figures::memory::{GPU_PROCESS_BYTES, Reference, Setup};
use crate::figures::trained::{Lora, Selection, Target, TargetName, Trained};
use crate::figures::{Shapes, activations::Recompute, devices, flops, memory, shapes, time, trained};
use crate::models::Model;
use lang::facts::Facts;
use lang::recipe::{ModelSource, Planned, Recipe, Ref, Stage, TokenizerSource};
use plan::task::{Figure, Figures};
use plan::value::Dtype;
use serde_json::{Value, json};
use stdlib::hardware::HardwareKind;

/// How many stages are followed before they are taken for a circle.
const CHAIN: usize = 1000;

impl Lowering<'_> {
    /// Returns the figures of a model that cannot be run.
    pub(super) fn figures_of_model(&self, planned: &Planned) -> Figures {
        let known = Known { recipe: self.recipe, facts: self.facts };
        let shapes = known.config(&planned.name).and_then(|config| shapes(&config).ok());
        Figures { parameters: shapes.map(|shapes| shapes.parameters()), ..Figures::default() }
    }

    /// Returns the figures of a training stage that cannot be run.
    pub(super) fn figures_of_training(&self, planned: &Planned) -> Figures {
        let known = Known { recipe: self.recipe, facts: self.facts };
        let counted = counts::training(self.recipe, self.facts, planned);
        let Some(model) = named(planned, "model") else { return counted };
        let Some(shapes) = known.config(&model.name).and_then(|config| shapes(&config).ok()) else {
            return counted;
        };
        let trained = trained(&shapes, &selection(&planned.settings, known.added(&model.name)));
        Figures {
            parameters: Some(shapes.parameters() + trained.adapter_parameters()),
            trained_parameters: Some(trained.parameters()),
            ..predict(&shapes, &trained, planned, self.options, self.facts, counted)
        }
    }
}

/// Adds memory, operations and time to what is counted.
fn predict(
    shapes: &Shapes,
    trained: &Trained,
    planned: &Planned,
    options: &Options,
    facts: &Facts,
    counted: Figures,
) -> Figures {
    let settings = &planned.settings;
    let sequence = number(settings, &["sequence", "tokens"])
        .unwrap_or_else(|| shapes.positions.min(LONGEST_DEFAULT_SEQUENCE));
    let sides = if counts::is_pairs(&planned.kind) { 2 } else { 1 };
    let machine = machine(options, facts);
    let precision = precision(settings);
    let mut setup = Setup {
        precision,
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
        process: match machine.map(|machine| machine.hardware.kind) {
            Some(HardwareKind::Gpu) => GPU_PROCESS_BYTES,
            Some(HardwareKind::Core) | None => super::train::PROCESS_BYTES,
        },
    };
    let batch = counts::batch(settings, sequence);
    let room = Room::of(machine, options, facts);
    let written = number(settings, &["batch", "micro"]);
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
    fn of(machine: Option<time::Machine>, options: &Options, facts: &Facts) -> Self {
        let own = facts.hardware.as_ref().map(|hardware| hardware.memory);
        let gpus = options.on.filter(|on| on.hardware.kind == HardwareKind::Gpu);
        Room {
            memory: machine.and_then(|machine| machine.memory_per_device()).or(options.memory).or(own),
            devices: gpus.map_or(1, |on| on.count),
        }
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

fn number(settings: &Value, path: &[&str]) -> Option<u64> {
    at(settings, path)?.as_u64()
}

fn word<'v>(settings: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(settings, path)?.as_str()
}

fn named<'p>(planned: &'p Planned, option: &str) -> Option<&'p Ref> {
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

/// What a stage trains; `added` is the number of rows that its model's vocabulary has grown by.
fn selection(settings: &Value, added: Option<u64>) -> Selection {
    let is_on = |lora: &&Value| word(lora, &["none"]) != Some("none");
    let lora = settings.get("lora").filter(is_on).map(lora);
    let lines = settings.get("train").and_then(Value::as_array);
    Selection {
        lora,
        train: lines.into_iter().flatten().flat_map(|line| trained::lines(&words(line), added)).collect(),
    }
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

/// What is known of models by name.
struct Known<'a> {
    recipe: &'a Recipe,
    facts: &'a Facts,
}

impl Known<'_> {
    /// Returns the config.json of a model or of a stage's result.
    fn config(&self, name: &str) -> Option<Value> {
        let mut sizes = Vec::new();
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            if let Some(mut config) = self.declared(&name) {
                // The last change of the tokenizer, which was met first, decides.
                if let Some(vocab) = sizes.into_iter().next().unwrap_or(Some(None))? {
                    config["vocab_size"] = json!(vocab);
                }
                return Some(config);
            }
            let Some(planned) = self.planned(&name) else {
                name = self.start_of(&name)?;
                continue;
            };
            if planned.kind == "swap-tokenizer" || planned.kind == "extend-tokenizer" {
                sizes.push(self.vocab_after(planned).map(Some));
            }
            name = follow(planned)?.name.clone();
        }
        None
    }

    fn planned(&self, name: &str) -> Option<&Planned> {
        self.recipe.planned.iter().find(|planned| planned.name == name)
    }

    /// The model that a runnable training stage starts from.
    fn start_of(&self, name: &str) -> Option<String> {
        self.recipe.stages.iter().find_map(|stage| match stage {
            Stage::Train(train) if train.name == name => Some(train.model.name.clone()),
            Stage::Train(_) | Stage::Evaluate(_) | Stage::Generate(_) => None,
        })
    }

    /// The config of a `model` declaration.
    fn declared(&self, name: &str) -> Option<Value> {
        if let Some(planned) = self.planned(name).filter(|planned| planned.kind == "model") {
            let source = planned.source.as_deref()?;
            let mut config = match source.strip_prefix("new:") {
                Some(architecture) => json!({ "model_type": architecture }),
                None => self.facts.models.get(source)?.config.clone(),
            };
            merge(&mut config, planned.settings.get("config").and_then(Value::as_object));
            return Some(config);
        }
        let declared = self.recipe.models.iter().find(|model| model.name == name)?;
        let fields = declared.config.iter().map(|(name, value)| (name.value.clone(), value.value.clone()));
        match &declared.source.value {
            ModelSource::Folder(path) => {
                let mut config = self.facts.models.get(path)?.config.clone();
                fields.for_each(|(name, value)| config[name] = value);
                Some(config)
            }
            ModelSource::New(architecture) => {
                let mut config = Model::new_config(architecture, &fields.collect::<Vec<_>>());
                config["vocab_size"] = json!(self.vocab(&declared.tokenizer.as_ref()?.name)?);
                Some(config)
            }
        }
    }

    /// The ids of a tokenizer.
    fn vocab(&self, name: &str) -> Option<u64> {
        if let Some(planned) = self.planned(name) {
            let trained = number(&planned.settings, &["train", "vocab"]);
            return trained
                .or_else(|| Some(self.facts.tokenizers.get(planned.source.as_deref()?)?.vocab_size));
        }
        let declared = self.recipe.tokenizers.iter().find(|tokenizer| tokenizer.name == name)?;
        match &declared.source {
            TokenizerSource::Train(train) => Some(train.vocab.value),
            TokenizerSource::Path(path) => Some(self.facts.tokenizers.get(&path.value)?.vocab_size),
        }
    }

    /// Rows of the embedding after a stage that changes the tokenizer; unknown where tokens of two
    /// tokenizers are joined, since those in both count once.
    fn vocab_after(&self, planned: &Planned) -> Option<u64> {
        let rows = match planned.kind.as_str() {
            "swap-tokenizer" => self.vocab(&named(planned, "tokenizer")?.name)?,
            _ => {
                let before = self.config(&named(planned, "model")?.name)?.get("vocab_size")?.as_u64()?;
                before.checked_add(added(planned)?)?
            }
        };
        let multiple = number(&planned.settings, &["pad-to", "multiple"]).unwrap_or(1);
        rows.checked_next_multiple_of(multiple.max(1))
    }

    /// Rows that the latest change of the tokenizer upstream has added.
    fn added(&self, name: &str) -> Option<u64> {
        let mut name = name.to_owned();
        for _ in 0..CHAIN {
            let planned = self.planned(&name)?;
            match planned.kind.as_str() {
                "extend-tokenizer" => return added(planned),
                "swap-tokenizer" | "model" => return None,
                _ => name = follow(planned)?.name.clone(),
            }
        }
        None
    }
}

/// The tokens that an `extend-tokenizer` lists; unknown when it takes those of a tokenizer.
fn added(planned: &Planned) -> Option<u64> {
    if named(planned, "tokenizer").is_some() {
        return None;
    }
    let lines = planned.settings.get("add")?.as_array()?;
    Some(
        lines.iter().filter_map(|line| line.get("token")?.as_array()).map(|tokens| tokens.len() as u64).sum(),
    )
}

/// The model that a stage starts from.
fn follow(planned: &Planned) -> Option<&Ref> {
    named(planned, "model").or_else(|| named(planned, "base")).or_else(|| named(planned, "from"))
}

fn merge(config: &mut Value, fields: Option<&serde_json::Map<String, Value>>) {
    for (name, value) in fields.into_iter().flatten() {
        config[name.as_str()] = value.clone();
    }
}
