//! A small world to run stages in: text, pairs, a tokenizer, a model of two layers.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use engine::error::EngineError;
use engine::folder::RunFolder;
use engine::observer::{Answer, Evaluation, Observer, StepReport};
use engine::record::Record;
use engine::run::{Options, Outcome, run_task};
use lower::builder::Capacities;
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs;
use ops::cpu::Cpu;
use plan::op::PreferenceLoss;
use plan::task::{Checkpoint, Conduct, Every, Figures, Key, Place, Sample, Task};
use plan::value::Dtype;
use plan::work::{
    AdamW, Amount, Artifact, Batch, Budget, DataPart, Encode, Initialize, MixAmount, Order, Overflow,
    Prepare, RowType, Sampling, Schedule, ScheduleShape, Sides, Train, TrainTokenizer, Unit, Warmup, Work,
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

pub const TEMPLATE: &str = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\
    <|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

pub const ADAMW: AdamW = AdamW { lr: 0.01, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, clip: 1.0 };

pub const SCHEDULE: Schedule =
    Schedule { shape: ScheduleShape::Cosine, warmup: Warmup::Share(0.1), floor: 0.1 };

pub const CAPACITIES: Capacities = Capacities { tokens: 192, rows: 64, trained: 192, slots: 2, cached: 64 };

/// Stops the run when it has seen so many steps, evaluations and samples.
pub struct Watch<'a> {
    pub stop: &'a AtomicBool,
    pub left: Option<usize>,
    pub heard: String,
}

impl Watch<'_> {
    pub fn event(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.left == Some(0) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, _: &str, _: &StepReport) {
        self.event();
    }
    fn evaluated(&mut self, _: &str, _: u64, _: &Evaluation) {
        self.event();
    }
    fn sampled(&mut self, _: &str, _: u64, _: &[Answer]) {
        self.event();
    }
    fn text(&mut self, _: &str, _: usize, piece: &str) {
        self.heard.push_str(piece);
    }
    fn note(&mut self, _: &str, note: &str) {
        self.heard.push_str(note);
    }
    fn progress(&mut self, _: &str, verb: &str, _: u64, _: Option<u64>) {
        if verb == "answering rows" {
            self.event();
        }
    }
}

pub struct World {
    pub place: tempfile::TempDir,
    pub folder: RunFolder,
    pub backend: Cpu,
}

impl World {
    pub fn new(threads: usize) -> World {
        let place = tempfile::tempdir().expect("a temporary folder");
        let text: Vec<Value> = (0..40)
            .map(|i| json!({ "text": format!("de kat zit op mat {} en de hond op mat {}", i % 7, i % 5) }))
            .collect();
        let pairs: Vec<Value> = (0..24)
            .map(|i| {
                json!({ "prompt": format!("waar zit kat {i}?"), "chosen": format!("op mat {}", i % 7), "rejected": "weg" })
            })
            .collect();
        for (name, rows) in [("text.jsonl", text), ("pairs.jsonl", pairs)] {
            let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
            std::fs::write(place.path().join(name), lines.join("\n")).expect("written");
        }
        let folder =
            RunFolder::open(&place.path().join("run"), &place.path().join("cache"), "adapt").expect("free");
        World { place, folder, backend: Cpu::new(threads) }
    }

    pub fn part(&self, file: &str, rows: RowType) -> DataPart {
        DataPart {
            name: file.trim_end_matches(".jsonl").into(),
            rows,
            columns: Vec::new(),
            train_files: vec![self.place.path().join(file).display().to_string()],
            eval_files: Vec::new(),
            transforms: Vec::new(),
            holdout: Some(Amount::Rows(4)),
            seed: 1,
            max_bad_rows: 0,
            amount: MixAmount::Weight(1.0),
        }
    }

    pub fn run(&self, task: &Task, stop_after: Option<usize>) -> Result<(Outcome, String), EngineError> {
        let stop = AtomicBool::new(false);
        let mut watch = Watch { stop: &stop, left: stop_after, heard: String::new() };
        let outcome = run_task(task, &self.folder, &self.backend, &mut watch, &stop, &Options::default())?;
        Ok((outcome, watch.heard))
    }

    pub fn done(&self, task: &Task) -> Record {
        match self.run(task, None) {
            Ok((Outcome::Done(record), _)) => *record,
            other => panic!("{}: {other:?}", task.name),
        }
    }

    /// Runs to the end, asked to stop after each `events` events.
    pub fn in_pieces(&self, task: &Task, events: usize) -> (Record, usize) {
        for stops in 0..1000 {
            match self.run(task, Some(events)).expect("runs").0 {
                Outcome::Done(record) => return (*record, stops),
                Outcome::Stopped { .. } => {}
                Outcome::AlreadyDone(_) => panic!("it is not done"),
            }
        }
        panic!("it never ends");
    }

    /// Tokenizer, model and data, and the config of the model.
    pub fn prepare(&self) -> Value {
        let sizes = [("hidden_size", 32), ("intermediate_size", 64)];
        let more = [("num_hidden_layers", 2), ("num_attention_heads", 4)];
        let fields: Vec<(&str, Value)> =
            sizes.into_iter().chain(more).map(|(name, size)| (name, json!(size))).collect();
        self.prepare_with(&fields)
    }

    /// The same for a Llama of other sizes; without a vocabulary it has the tokenizer's.
    pub fn prepare_with(&self, fields: &[(&str, Value)]) -> Value {
        self.prepare_as("llama", fields)
    }

    /// The same for another model.
    pub fn prepare_as(&self, architecture: &str, fields: &[(&str, Value)]) -> Value {
        let work = TrainTokenizer {
            vocab: 300,
            min_frequency: 2,
            special: ["<|user|>", "<|assistant|>", "<|end|>"].map(String::from).to_vec(),
            byte_level: true,
            data: vec![self.part("text.jsonl", RowType::Text)],
        };
        let trained = self.done(&task("tokenizer:base", Work::TrainTokenizer(work), Conduct::default()));
        let tokenizer = || Artifact::Task("tokenizer:base".into());
        let vocab = ("vocab_size".to_owned(), json!(trained.yields.vocab.expect("counted")));
        let others = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let fields: Vec<(String, Value)> = std::iter::once(vocab).chain(others).collect();
        let config = Model::new_config(architecture, &fields);
        let work = Initialize {
            tokenizer: tokenizer(),
            tensors: Model::from_config(&config).expect("sound").new_tensors(),
            config: config.clone(),
            generation_config: json!({}),
            dtype: "f32".into(),
            seed: 5,
        };
        self.done(&task("init:base", Work::Initialize(work), Conduct::default()));
        for (name, file, rows, encode) in [
            ("data:text", "text.jsonl", RowType::Text, Encode::Text),
            (
                "data:pairs",
                "pairs.jsonl",
                RowType::Preference,
                Encode::Preference { template: TEMPLATE.into() },
            ),
        ] {
            let work = Prepare {
                parts: vec![self.part(file, rows)],
                mix: None,
                tokenizer: tokenizer(),
                encode,
                sequence: 96,
                prompt: None,
                overflow: Overflow::Error,
                sides: Sides::Both,
            };
            let record = self.done(&task(name, Work::Prepare(work), Conduct::default()));
            assert!(record.yields.prepared.expect("counted").train.rows > 0);
        }
        config
    }

    pub fn model_bytes(&self, stage: &str) -> Vec<u8> {
        std::fs::read(self.folder.task_folder(stage).join("model/model.safetensors")).expect("saved")
    }

    pub fn metrics(&self, stage: &str) -> Vec<Value> {
        let path = self.folder.task_folder(stage).join("metrics.jsonl");
        let text = std::fs::read_to_string(path).expect("written");
        let timeless = |line: &str| {
            let mut line: Value = serde_json::from_str(line).expect("JSON");
            let fields = line.as_object_mut().expect("an object");
            fields.retain(|name, _| !name.contains("second"));
            line
        };
        text.lines().map(timeless).collect()
    }
}

pub fn task(name: &str, work: Work, conduct: Conduct) -> Task {
    Task {
        name: name.into(),
        inputs: Vec::new(),
        work,
        key: Some(Key(format!("{name}-0123456789").replace(':', "-"))),
        conduct,
        origin: Place::default(),
        figures: Figures::default(),
    }
}

pub fn sampling(temperature: f64) -> Sampling {
    Sampling { max_tokens: 12, temperature, top_p: 0.9, top_k: 20, repetition_penalty: 1.1, seed: 3 }
}

pub fn conduct(template: Option<&str>) -> Conduct {
    let prompts = ["de kat", "waar zit kat 3?", "de"].map(String::from).to_vec();
    let sample = Sample {
        every: Every::Steps(4),
        prompts,
        template: template.map(String::from),
        sampling: sampling(0.7),
        stop_ids: vec![1],
    };
    Conduct {
        evaluate: Some(Every::Epochs(0.5)),
        checkpoint: Some(Checkpoint { every: Every::Steps(3), keep: 2 }),
        samples: vec![sample],
    }
}

/// A training stage on `data`, from the model of task `start`.
pub fn train(config: &Value, name: &str, start: &str, data: &str, objective: Objective) -> Task {
    let model = Model::from_config(config).expect("sound");
    let mut module = programs::train(&model, objective, &ADAMW, CAPACITIES, Dtype::F32);
    module.decisions.micro_batch_size = if objective.unit() == Unit::Pairs { 2 } else { 1 };
    let pairs = objective.unit() == Unit::Pairs;
    let work = Train {
        objective: name.into(),
        unit: objective.unit(),
        preference: None,
        model: Artifact::Task(start.into()),
        data: data.into(),
        eval_data: None,
        reference: pairs.then(|| Artifact::Task(start.into())),
        batch: Batch::Sequences(if pairs { 6 } else { 2 }),
        order: Order::Shuffled,
        sequence: 96,
        pack: !pairs,
        budget: Budget::Epochs(6.0),
        steps: None,
        precision: Dtype::F32,
        optimizer: ADAMW,
        schedule: SCHEDULE,
        seed: 11,
        trained: None,
        config: Some(config.clone()),
        generation_config: None,
        chat_template: pairs.then(|| TEMPLATE.into()),
        tensors: programs::file_tensors(&model, &module),
        dtype: "f32".into(),
        module: Some(module),
    };
    task(name, Work::Train(Box::new(work)), conduct(pairs.then_some(TEMPLATE)))
}

pub const DPO: Objective =
    Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 }, beta: 0.1 };
