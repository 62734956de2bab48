//! Whole training stages over a tiny module: stopping, killing, resuming, and what must not be lost.

use crate::checkpoint;
use crate::error::EngineError;
use crate::folder::{Done, RunFolder};
use crate::initialize;
use crate::observer::{Observer, StepReport};
use crate::record::Yields;
use crate::report::Summary;
use crate::run::{Options, Outcome, run_task};
use crate::tensors::TensorFile;
use crate::testing::{Loops, training_module};
use crate::weights::write_json;
use data::store::TokenRow;
use data::{Side, StoreWriter};
use plan::task::{Checkpoint, Conduct, Every, Figures, Key, Place, Task};
use plan::weights::{FileTensor, Init, NewTensor, Piece};
use plan::work::{
    AdamW, Artifact, Batch, Budget, Initialize, Order, Schedule, ScheduleShape, Train, TrainTokenizer, Unit,
    Warmup, Work,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A run folder with prepared data and a model to start from.
struct World {
    place: tempfile::TempDir,
    folder: RunFolder,
}

const STEPS: u64 = 9;

impl World {
    fn new() -> World {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder =
            RunFolder::open(&place.path().join("run"), &place.path().join("cache"), "adapt").expect("free");
        let world = World { place, folder };
        world.write_start(0.5);
        world.write_data(1);
        world
    }

    fn start(&self) -> PathBuf {
        self.place.path().join("start")
    }

    fn write_start(&self, std: f64) {
        let start = self.start();
        std::fs::create_dir_all(&start).expect("created");
        write_json(&start.join("config.json"), &json!({ "model_type": "tiny" })).expect("written");
        let spec = TrainTokenizer {
            vocab: 260,
            min_frequency: 2,
            special: Vec::new(),
            byte_level: true,
            data: Vec::new(),
        };
        let texts = ["een kat", "een hond"].map(String::from);
        let tokenizer = tokenizer::train(&spec, texts.into_iter(), |_| {}).expect("trained");
        tokenizer.save(&start, None).expect("saved");
        let w = NewTensor { name: "embed".into(), shape: vec![8, 4], init: Init::Normal { std } };
        initialize::write(&[w], "f32", 3, &start, &Loops).expect("written");
    }

    /// Ten rows of two datasets to train on and three held out.
    fn write_data(&self, mask: u8) {
        let path = self.place.path().join("cache/data/k");
        let mut writer = StoreWriter::create(&path, &["a".into(), "b".into()]).expect("created");
        for row in 0..13_u32 {
            let ids: Vec<u32> = (0..3 + row % 3).map(|at| (row + at) % 8).collect();
            let token_row = TokenRow {
                mask: vec![mask; ids.len()],
                bytes: ids.len() as u32,
                ids,
                part: row % 2,
                identity: u64::from(row),
                shared: 0,
            };
            writer.push(if row < 10 { Side::Train } else { Side::Eval }, &token_row).expect("pushed");
        }
        writer.finish().expect("finished");
        // Any work will do: only the record of the task is read.
        let work = Work::Initialize(Initialize {
            tokenizer: Artifact::Path(String::new()),
            config: json!(null),
            generation_config: json!(null),
            tensors: Vec::new(),
            dtype: "f32".into(),
            seed: 0,
        });
        let data = Task { work, ..self.task("data", Conduct::default()) };
        let record = self.folder.make_record(&data, &path, Yields::default(), Summary::default());
        record.and_then(|record| record.write(&self.folder.task_folder("data"))).expect("written");
    }

    fn task(&self, key: &str, conduct: Conduct) -> Task {
        let module = training_module();
        let w = module.named("w").expect("there");
        let piece = Piece { value: w, file_start: 0, value_start: 0, rows: 8 };
        let tensor = FileTensor {
            name: "embed".into(),
            aliases: Vec::new(),
            shape: vec![8, 4],
            transpose: false,
            pieces: vec![piece],
        };
        let work = Train {
            objective: "cpt".into(),
            unit: Unit::Tokens,
            preference: None,
            model: Artifact::Path(self.start().display().to_string()),
            data: "data".into(),
            eval_data: None,
            reference: None,
            batch: Batch::Sequences(4),
            order: Order::Shuffled,
            sequence: 8,
            pack: false,
            budget: Budget::Steps(STEPS),
            steps: Some(STEPS),
            precision: plan::value::Dtype::F32,
            optimizer: AdamW { lr: 0.05, weight_decay: 0.0, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 },
            schedule: Schedule { shape: ScheduleShape::Cosine, warmup: Warmup::Steps(1), floor: 0.0 },
            seed: 7,
            trained: None,
            config: None,
            generation_config: None,
            chat_template: None,
            tensors: vec![tensor],
            dtype: "f32".into(),
            module: Some(module),
        };
        Task {
            name: if key == "data" { "data".into() } else { "dutch".into() },
            inputs: Vec::new(),
            work: Work::Train(Box::new(work)),
            key: Some(Key(key.into())),
            conduct,
            origin: Place { file: "a.kdl".into(), start: 3, end: 9 },
            figures: Figures::default(),
        }
    }

    fn run(&self, task: &Task, stop_after: Option<u64>) -> Result<Outcome, EngineError> {
        self.run_with(task, stop_after, &Options::default())
    }

    fn run_with(&self, task: &Task, after: Option<u64>, options: &Options) -> Result<Outcome, EngineError> {
        let stop = AtomicBool::new(false);
        let mut observer = Stopper { stop: &stop, after };
        run_task(task, &self.folder, &Loops, &mut observer, &stop, options)
    }

    fn stage(&self) -> PathBuf {
        self.folder.task_folder("dutch")
    }

    fn weights(&self) -> Vec<u8> {
        let file = TensorFile::open(&self.stage().join("model/model.safetensors")).expect("sound");
        let mut bytes = vec![0; 8 * 4 * 4];
        file.read(file.info("embed").expect("there"), 0, &mut bytes).expect("read");
        bytes
    }

    /// Lines of metrics.jsonl without their times.
    fn metrics(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.stage().join("metrics.jsonl")).expect("written");
        let timeless = |line: &str| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let fields = line.as_object_mut().expect("an object");
            fields.remove("seconds");
            fields.remove("tokens_per_second");
            line
        };
        text.lines().map(timeless).collect()
    }

    fn events_bytes(&self) -> u64 {
        let files = crate::disk::list(&self.stage()).expect("listed").into_iter();
        let events = files.filter(|path| path.to_string_lossy().contains("tfevents"));
        events.map(|path| path.metadata().expect("there").len()).sum()
    }
}

/// Asks to stop after a step; at step 100 + n it dies as if killed after step n.
struct Stopper<'a> {
    stop: &'a AtomicBool,
    after: Option<u64>,
}

impl Observer for Stopper<'_> {
    fn step(&mut self, _task: &str, report: &StepReport) {
        if self.after == Some(report.step) {
            self.stop.store(true, Ordering::Relaxed);
        }
        assert_ne!(self.after, Some(report.step + 100), "killed");
    }
}

fn checkpoints(every: Every) -> Conduct {
    let evaluate = Some(Every::Steps(3));
    Conduct { evaluate, checkpoint: Some(Checkpoint { every, keep: 2 }), samples: Vec::new() }
}

fn killed(world: &World, task: &Task, step: u64) {
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(task, Some(100 + step))));
    assert!(died.is_err(), "it was killed");
}

#[test]
fn training_lowers_the_loss_and_is_recorded() {
    let world = World::new();
    let task = world.task("k1", Conduct::default());
    let Ok(Outcome::Done(record)) = world.run(&task, None) else { panic!("it runs to its end") };
    let (before, after) = (record.summary.before.expect("held out"), record.summary.after.expect("held out"));
    assert!(after.loss < before.loss, "{} {}", after.loss, before.loss);
    assert_eq!(before.parts.keys().collect::<Vec<_>>(), ["a", "b"]);
    let bits = before.loss * before.count as f64 / std::f64::consts::LN_2 / 12.0;
    assert!((before.bits_per_byte.expect("text") - bits).abs() < 1e-9);
    assert_eq!(record.summary.steps, STEPS);
    let lines = world.metrics();
    assert_eq!(lines.len() as u64, STEPS + 2);
    assert_eq!(lines[0]["step"], 0);
    assert_eq!(lines[1]["lr"], 0.0);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        assert!(world.stage().join("model").join(name).exists(), "{name}");
    }
    assert!(!world.stage().join("checkpoints").exists());
    assert!(matches!(world.run(&task, None), Ok(Outcome::AlreadyDone(_))));
}

#[test]
fn stopping_and_going_on_gives_the_same_bits() {
    let whole = World::new();
    let task = whole.task("k1", checkpoints(Every::Steps(100)));
    whole.run(&task, None).expect("runs");
    for stop in 1..STEPS {
        let world = World::new();
        let task = world.task("k1", checkpoints(Every::Steps(100)));
        assert_eq!(world.run(&task, Some(stop)), Ok(Outcome::Stopped { step: stop }));
        let state = world.folder.unfinished("dutch").expect("sound").expect("a checkpoint");
        assert_eq!((state.step, state.decisions.micro_batch_size), (stop, 2));
        assert!(matches!(world.run(&task, None), Ok(Outcome::Done(_))));
        assert_eq!(world.weights(), whole.weights(), "stopped after {stop}");
        assert_eq!(world.metrics(), whole.metrics(), "stopped after {stop}");
        assert_eq!(world.events_bytes(), whole.events_bytes(), "stopped after {stop}");
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let whole = World::new();
    let task = whole.task("k1", checkpoints(Every::Steps(2)));
    whole.run(&task, None).expect("runs");
    for kills in [vec![1], vec![2, 3], vec![3, 5, 5, 8], vec![9]] {
        let world = World::new();
        let task = world.task("k1", checkpoints(Every::Steps(2)));
        for &step in &kills {
            killed(&world, &task, step);
        }
        assert!(matches!(world.run(&task, None), Ok(Outcome::Done(_))));
        assert_eq!(world.weights(), whole.weights(), "{kills:?}");
        assert_eq!(world.metrics(), whole.metrics(), "{kills:?}");
    }
}

/// Notes what it hears, and puts a file where checkpoints go after a step.
struct Blocker<'a> {
    stage: &'a Path,
    at: Option<u64>,
    heard: Vec<String>,
}

impl Observer for Blocker<'_> {
    fn step(&mut self, _task: &str, report: &StepReport) {
        self.heard.push(format!("step {}", report.step));
        if self.at == Some(report.step) {
            std::fs::write(checkpoint::folder(self.stage), "in the way").expect("written");
        }
    }
    fn checkpoint(&mut self, _task: &str, step: u64) {
        self.heard.push(format!("saved {step}"));
    }
}

#[test]
fn a_checkpoint_is_complete_before_the_next_update() {
    let world = World::new();
    let task = world.task("k1", checkpoints(Every::Steps(4)));
    let stage = world.stage();
    let mut observer = Blocker { stage: &stage, at: None, heard: Vec::new() };
    let never = AtomicBool::new(false);
    run_task(&task, &world.folder, &Loops, &mut observer, &never, &Options::default()).expect("runs");
    let expected = ["step 4", "saved 4", "step 5", "step 6", "step 7", "step 8", "saved 8", "step 9"];
    assert_eq!(observer.heard[3..], expected);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_update() {
    let world = World::new();
    let task = world.task("k1", checkpoints(Every::Steps(4)));
    let stage = world.stage();
    let mut observer = Blocker { stage: &stage, at: Some(4), heard: Vec::new() };
    let never = AtomicBool::new(false);
    let error = run_task(&task, &world.folder, &Loops, &mut observer, &never, &Options::default());
    let error = error.expect_err("it cannot be written");
    assert!(error.message.contains("checkpoints"), "{}", error.message);
    assert_eq!(error.place, Some(task.origin.clone()));
    assert_eq!(observer.heard, ["step 1", "step 2", "step 3", "step 4"]);
    // One evaluation before the first step and one after the third.
    assert_eq!(world.metrics().len(), 6);
}

#[test]
fn what_a_killed_save_left_is_cleared() {
    let world = World::new();
    let task = world.task("k1", checkpoints(Every::Steps(2)));
    killed(&world, &task, 5);
    let left =
        [world.stage().join("model.tmp-12"), checkpoint::folder(&world.stage()).join("step-000006.tmp-12")];
    for folder in &left {
        std::fs::create_dir_all(folder).expect("created");
        std::fs::write(folder.join("half"), "half").expect("written");
    }
    assert!(matches!(world.run(&task, None), Ok(Outcome::Done(_))));
    assert!(left.iter().all(|folder| !folder.exists()));
}

#[test]
fn a_loss_that_is_not_finite_names_step_and_rows_and_loses_nothing() {
    let world = World::new();
    let task = world.task("k1", checkpoints(Every::Steps(2)));
    killed(&world, &task, 5);
    let newest = checkpoint::newest(&world.stage()).expect("sound").expect("there");
    assert_eq!(newest.state.step, 4);
    let mut broken = task.clone();
    let Work::Train(work) = &mut broken.work else { panic!("a training task") };
    work.optimizer.lr = f64::INFINITY;
    let error = world.run(&broken, None).expect_err("not finite");
    assert_eq!((error.code, error.stage.as_deref()), ("non-finite-loss", Some("dutch")));
    assert_eq!(error.place, Some(task.origin.clone()));
    assert!(error.message.contains("step 6 is") && error.message.contains("of `a`"), "{}", error.message);
    assert_eq!(checkpoint::newest(&world.stage()).expect("sound").expect("there").path, newest.path);
    assert!(matches!(world.run(&task, None), Ok(Outcome::Done(_))));
}

#[test]
fn a_changed_recipe_does_not_go_on_unless_forked() {
    let world = World::new();
    let task = world.task("k1", Conduct::default());
    world.run(&task, Some(3)).expect("stops");
    let changed = world.task("k2", Conduct::default());
    assert_eq!(world.run(&changed, None).expect_err("refused").code, "recipe-changed");
    assert!(matches!(world.run(&task, Some(4)), Ok(Outcome::Stopped { step: 4 })));
    let forked = world.run_with(&changed, None, &Options { fork: true }).expect("goes on");
    let Outcome::Done(record) = forked else { panic!("it runs to its end") };
    assert_eq!((record.key.0.as_str(), record.summary.steps), ("k2", STEPS));
}

#[test]
fn what_changed_since_the_checkpoint_is_named() {
    let world = World::new();
    let of = |key| Task { inputs: vec!["data".into()], ..world.task(key, Conduct::default()) };
    world.run(&of("k1"), Some(3)).expect("stops");
    let told = |task: &Task| {
        let error = world.run(task, None).expect_err("refused");
        assert_eq!(error.code, "recipe-changed");
        error.message
    };
    // Only the key differs: so do the weights that it is of.
    let start = world.start().display().to_string();
    assert!(told(&of("k2")).contains(&format!("made from other files in {start}")));
    let mut other = of("k2");
    let Work::Train(work) = &mut other.work else { panic!("a training task") };
    work.optimizer.lr = 0.1;
    assert!(told(&other).contains("under another recipe"));
    let data = world.folder.task_folder("data");
    let record = crate::record::Record::read(&data).expect("there");
    crate::record::Record { key: Key("other".into()), ..record }.write(&data).expect("written");
    assert!(told(&of("k2")).contains("made from another `data`"));
    assert!(told(&other).contains("under another recipe"));
}

#[test]
fn a_loss_that_is_not_finite_before_any_training_is_not_the_learning_rate_s() {
    let world = World::new();
    // Finite weights whose products are not.
    world.write_start(1e30);
    let error = world.run(&world.task("k1", Conduct::default()), None).expect_err("not finite");
    assert_eq!(error.code, "non-finite-loss");
    let help = error.help.expect("there is one");
    assert!(help.contains("before any training") && !help.contains("learning rate"), "{help}");
}

#[test]
fn a_finished_result_is_moved_aside_for_another() {
    let world = World::new();
    let task = world.task("k1", Conduct::default());
    world.run(&task, None).expect("runs");
    world.run(&world.task("k2", Conduct::default()), None).expect("runs");
    let aside = world.folder.path().join("dutch.k1");
    assert!(aside.join("model/model.safetensors").exists());
    std::fs::write(world.stage().join("model/config.json"), "{}").expect("written");
    let Done::No(Some(note)) = world.folder.is_done(&world.task("k2", Conduct::default())) else {
        panic!("edited");
    };
    assert!(note.contains("config.json was changed"), "{note}");
}

#[test]
fn a_step_without_trained_tokens_is_an_error() {
    let world = World::new();
    world.write_data(0);
    let mut task = world.task("k1", Conduct::default());
    // Without held-out rows, so that training is reached.
    let Work::Train(work) = &mut task.work else { panic!("a training task") };
    work.eval_data = Some("none".into());
    let path = world.place.path().join("cache/data/none");
    StoreWriter::create(&path, &["a".into()]).and_then(StoreWriter::finish).expect("written");
    let none = Task { name: "none".into(), ..task.clone() };
    let record = world.folder.make_record(&none, &path, Yields::default(), Summary::default()).expect("made");
    record.write(&world.folder.task_folder("none")).expect("written");
    assert_eq!(world.run(&task, None).expect_err("nothing to learn").code, "no-trained-tokens-in-step");
}

#[test]
fn start_weights_must_be_finite() {
    let world = World::new();
    world.write_start(f64::INFINITY);
    let error = world.run(&world.task("k1", Conduct::default()), None).expect_err("refused");
    assert_eq!(error.code, "non-finite-weights");
    assert!(Path::new(&world.start()).exists());
}
