//! Every kind of work, one after the other: tokenizer, new model, data, cpt, dpo, evaluate, generate.
//!
//! Stopping at odd moments and another number of threads must leave no trace in the results.

use engine::error::EngineError;
use engine::folder::RunFolder;
use engine::observer::{Answer, Evaluation, Observer, StepReport};
use engine::record::Record;
use engine::run::{Options, Outcome, run_task};
use engine::tensors::TensorFile;
use lower::builder::Capacities;
use lower::figures::shapes;
use lower::figures::trained::{Line, Selection};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::trained::part;
use lower::programs::{self, Training};
use ops::cpu::Cpu;
use plan::op::PreferenceLoss;
use plan::task::{Checkpoint, Conduct, Every, Figures, Key, Place, Sample, Task};
use plan::value::Dtype;
use plan::work::{
    AdamW, Amount, Artifact, Batch, Budget, DataPart, Encode, Evaluate, Generate, Initialize, MixAmount,
    Order, Overflow, Prepare, RowType, Sampling, Schedule, ScheduleShape, Sides, Train, TrainTokenizer, Unit,
    Warmup, Work,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const TEMPLATE: &str = "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}\
    <|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

const ADAMW: AdamW = AdamW { lr: 0.01, weight_decay: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, clip: 1.0 };

const SCHEDULE: Schedule = Schedule { shape: ScheduleShape::Cosine, warmup: Warmup::Share(0.1), floor: 0.1 };

const CAPACITIES: Capacities = Capacities { tokens: 192, rows: 64, trained: 192, slots: 2, cached: 64 };

/// Stops the run when it has seen so many steps, evaluations and samples.
struct Watch<'a> {
    stop: &'a AtomicBool,
    left: Option<usize>,
    heard: String,
}

impl Watch<'_> {
    fn event(&mut self) {
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
}

struct World {
    place: tempfile::TempDir,
    folder: RunFolder,
    backend: Cpu,
}

impl World {
    fn new(threads: usize) -> World {
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

    fn part(&self, file: &str, rows: RowType) -> DataPart {
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

    fn run(&self, task: &Task, stop_after: Option<usize>) -> Result<(Outcome, String), EngineError> {
        let stop = AtomicBool::new(false);
        let mut watch = Watch { stop: &stop, left: stop_after, heard: String::new() };
        let outcome = run_task(task, &self.folder, &self.backend, &mut watch, &stop, &Options::default())?;
        Ok((outcome, watch.heard))
    }

    fn done(&self, task: &Task) -> Record {
        match self.run(task, None) {
            Ok((Outcome::Done(record), _)) => *record,
            other => panic!("{}: {other:?}", task.name),
        }
    }

    /// Runs to the end, asked to stop after each `events` events.
    fn in_pieces(&self, task: &Task, events: usize) -> (Record, usize) {
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
    fn prepare(&self) -> Value {
        let work = TrainTokenizer {
            vocab: 300,
            min_frequency: 2,
            special: ["<|user|>", "<|assistant|>", "<|end|>"].map(String::from).to_vec(),
            byte_level: true,
            data: vec![self.part("text.jsonl", RowType::Text)],
        };
        let trained = self.done(&task("tokenizer:base", Work::TrainTokenizer(work), Conduct::default()));
        let tokenizer = || Artifact::Task("tokenizer:base".into());
        let sizes = [("vocab_size", trained.yields.vocab.expect("counted")), ("hidden_size", 32)];
        let more = [("intermediate_size", 64), ("num_hidden_layers", 2), ("num_attention_heads", 4)];
        let fields: Vec<(String, Value)> =
            sizes.iter().chain(&more).map(|(name, size)| ((*name).into(), json!(size))).collect();
        let config = Model::new_config("llama", &fields);
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

    fn model_bytes(&self, stage: &str) -> Vec<u8> {
        std::fs::read(self.folder.task_folder(stage).join("model/model.safetensors")).expect("saved")
    }

    fn metrics(&self, stage: &str) -> Vec<Value> {
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

fn task(name: &str, work: Work, conduct: Conduct) -> Task {
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

fn sampling(temperature: f64) -> Sampling {
    Sampling { max_tokens: 12, temperature, top_p: 0.9, top_k: 20, repetition_penalty: 1.1, seed: 3 }
}

fn conduct(template: Option<&str>) -> Conduct {
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
fn train(config: &Value, name: &str, start: &str, data: &str, objective: Objective) -> Task {
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

/// The same stage with nothing trained but the tensors of which a name of these is part.
fn with_part(mut task: Task, config: &Value, names: &[&str]) -> Task {
    let Work::Train(work) = &mut task.work else { panic!("a training stage") };
    let model = Model::from_config(config).expect("sound");
    let line = Line::Modules(names.iter().map(|name| (*name).to_owned()).collect());
    let selection = Selection { lora: None, train: vec![line] };
    let part = part(&model, &shapes(config).expect("known"), &selection);
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: part.as_ref() };
    let mut module = programs::draft(&model, &training, CAPACITIES, Dtype::F32).plan(&[]);
    module.decisions.micro_batch_size = 1;
    work.trained = part.map(|part| part.tensors);
    work.tensors = programs::file_tensors(&model, &module);
    work.module = Some(module);
    task
}

/// Returns the bytes of each tensor of a saved model.
fn tensors(world: &World, stage: &str) -> BTreeMap<String, Vec<u8>> {
    let path = world.folder.task_folder(stage).join("model/model.safetensors");
    let file = TensorFile::open(&path).expect("sound");
    let bytes = |name: &String| {
        let info = file.info(name).expect("there");
        let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
        file.read(info, 0, &mut bytes).expect("read");
        bytes
    };
    file.names().iter().map(|name| (name.clone(), bytes(name))).collect()
}

#[test]
fn frozen_tensors_keep_their_bytes_and_stops_leave_no_trace() {
    let whole = World::new(1);
    let config = whole.prepare();
    let cpt = train(&config, "dutch", "init:base", "data:text", Objective::CrossEntropy);
    let cpt = with_part(cpt, &config, &["down_proj", "norm"]);
    let read = whole.done(&cpt).summary;
    assert!(read.after.expect("held out").loss < read.before.expect("held out").loss);
    let (before, after) = (tensors(&whole, "init:base"), tensors(&whole, "dutch"));
    assert_eq!(before.len(), after.len());
    for (name, bytes) in &before {
        let is_trained = name.contains("down_proj") || name == "model.norm.weight";
        assert_eq!(*bytes != after[name], is_trained, "{name}");
    }
    // A checkpoint holds three tensors for each that is trained.
    let pieces = World::new(2);
    pieces.prepare();
    let (_, stops) = pieces.in_pieces(&cpt, 3);
    assert!(stops > 3);
    assert_eq!(pieces.model_bytes("dutch"), whole.model_bytes("dutch"));
    let checkpoints = whole.folder.task_folder("dutch").join("checkpoints");
    let last = std::fs::read_dir(checkpoints).expect("kept").next().expect("one").expect("readable").path();
    let state = TensorFile::open(&last.join("state.safetensors")).expect("sound");
    assert_eq!(state.names().len(), 3 * 3);
}

const DPO: Objective =
    Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 }, beta: 0.1 };

#[test]
fn every_kind_of_work_runs_and_stops_leave_no_trace() {
    let whole = World::new(1);
    let config = whole.prepare();
    let cpt = train(&config, "dutch", "init:base", "data:text", Objective::CrossEntropy);
    let dpo = train(&config, "aligned", "dutch", "data:pairs", DPO);
    let read = whole.done(&cpt).summary;
    let (before, after) = (read.before.expect("held out"), read.after.expect("held out"));
    let bits = |evaluation: &Evaluation| evaluation.bits_per_byte.expect("text");
    assert!(bits(&after) < 0.7 * bits(&before), "{} {}", bits(&before), bits(&after));
    assert_eq!((read.answers_before.len(), read.answers_after.len()), (3, 3));
    let chosen = whole.done(&dpo).summary;
    let (before, after) = (chosen.before.expect("held out"), chosen.after.expect("held out"));
    assert!((before.loss - std::f64::consts::LN_2).abs() < 1e-6, "{}", before.loss);
    assert!(before.margin.expect("pairs").abs() < 1e-5);
    assert!(after.loss < before.loss && after.accuracy.expect("pairs") == 1.0, "{after:?}");
    assert!(whole.folder.task_folder("aligned").join("model/chat_template.jinja").exists());
    reports(&whole, &config);

    let pieces = World::new(3);
    pieces.prepare();
    for (stage, events) in [(&cpt, 1), (&dpo, 2)] {
        let (record, stops) = pieces.in_pieces(stage, events);
        assert!(stops as u64 > record.summary.steps / 2, "{stops}");
        assert_eq!(pieces.model_bytes(&stage.name), whole.model_bytes(&stage.name), "{}", stage.name);
        assert_eq!(pieces.metrics(&stage.name), whole.metrics(&stage.name), "{}", stage.name);
    }
}

/// The stages that only look.
fn reports(world: &World, config: &Value) {
    let model = Model::from_config(config).expect("sound");
    let module = programs::evaluate(&model, Objective::CrossEntropy, CAPACITIES, Dtype::F32);
    let work = Evaluate {
        model: Artifact::Task("dutch".into()),
        data: "data:text".into(),
        unit: Unit::Tokens,
        sequence: 96,
        tensors: programs::file_tensors(&model, &module),
        module: Some(module),
    };
    let figures = world.done(&task("look", Work::Evaluate(Box::new(work)), Conduct::default())).summary.after;
    let trained = world.folder.record("dutch").expect("done").summary.after;
    assert_eq!(figures, trained);
    let module = programs::generate(&model, CAPACITIES, Dtype::F32);
    let work = Generate {
        model: Artifact::Task("aligned".into()),
        tokenizer: Artifact::Task("aligned".into()),
        prompts: vec!["de kat zit".into()],
        template: None,
        sampling: sampling(0.0),
        tensors: programs::file_tensors(&model, &module),
        stop_ids: vec![1],
        context: 64,
        module: Some(module),
    };
    let task = task("tell", Work::Generate(Box::new(work)), Conduct::default());
    let (_, heard) = world.run(&task, None).expect("runs");
    let lines =
        std::fs::read_to_string(world.folder.task_folder("tell").join("answers.jsonl")).expect("written");
    let answer: Answer = serde_json::from_str(lines.trim_end()).expect("an answer");
    assert_eq!(answer.answer, heard);
    assert!(!heard.is_empty());
}

#[test]
fn a_tokenizer_and_data_are_taken_from_the_cache() {
    let world = World::new(1);
    world.prepare();
    let cache = world.folder.cache().to_owned();
    let other = RunFolder::open(&world.place.path().join("other"), &cache, "adapt").expect("free");
    let work = TrainTokenizer {
        vocab: 300,
        min_frequency: 2,
        special: Vec::new(),
        byte_level: true,
        data: vec![world.part("text.jsonl", RowType::Text)],
    };
    let task = task("tokenizer:base", Work::TrainTokenizer(work), Conduct::default());
    let stop = AtomicBool::new(false);
    let mut watch = Watch { stop: &stop, left: None, heard: String::new() };
    let outcome = run_task(&task, &other, &world.backend, &mut watch, &stop, &Options::default());
    assert!(matches!(outcome, Ok(Outcome::AlreadyDone(_))), "{outcome:?}");
    let path: PathBuf = other.result("tokenizer:base").expect("recorded");
    assert!(path.starts_with(Path::new(&cache)) && path.join("tokenizer.json").exists());
}
