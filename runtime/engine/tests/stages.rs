//! Every kind of work, one after the other: tokenizer, new model, data, cpt, dpo, evaluate, generate.
//!
//! Stopping at odd moments and another number of threads must leave no trace in the results.

mod world;

use engine::folder::RunFolder;
use engine::observer::{Answer, Evaluation};
use engine::run::{Options, Outcome, run_task};
use engine::tensors::TensorFile;
use lower::figures::shapes;
use lower::figures::trained::{Line, Selection};
use lower::models::Model;
use lower::objectives::Objective;
use lower::passes::trained::part;
use lower::programs::{self, Training};
use plan::task::{Conduct, Task};
use plan::value::Dtype;
use plan::work::{Artifact, Evaluate, Generate, RowType, TrainTokenizer, Unit, Work};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use world::*;

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

/// The same stage with weights and activations in bf16.
fn in_bf16(mut task: Task, config: &Value, objective: Objective) -> Task {
    let Work::Train(work) = &mut task.work else { panic!("a training stage") };
    let model = Model::from_config(config).expect("sound");
    let mut module = programs::train(&model, objective, &ADAMW, CAPACITIES, Dtype::Bf16);
    module.decisions = work.module.as_ref().expect("planned").decisions.clone();
    work.precision = Dtype::Bf16;
    work.tensors = programs::file_tensors(&model, &module);
    work.module = Some(module);
    task
}

#[test]
fn bf16_learns_as_f32_does_and_stops_leave_no_trace() {
    let narrow = World::new(1);
    let config = narrow.prepare();
    let stages = || {
        let cpt = train(&config, "dutch", "init:base", "data:text", Objective::CrossEntropy);
        [(cpt, Objective::CrossEntropy), (train(&config, "aligned", "dutch", "data:pairs", DPO), DPO)]
    };
    let wide = World::new(1);
    wide.prepare();
    let pieces = World::new(2);
    pieces.prepare();
    for (stage, objective) in stages() {
        let in_f32 = wide.done(&stage).summary;
        let stage = in_bf16(stage, &config, objective);
        let in_bf16 = narrow.done(&stage).summary;
        let loss = |summary: &engine::report::Summary| summary.after.as_ref().expect("held out").loss;
        let (narrow_loss, wide_loss) = (loss(&in_bf16), loss(&in_f32));
        assert!(
            (narrow_loss - wide_loss).abs() < 0.02 * wide_loss,
            "{}: {narrow_loss} {wide_loss}",
            stage.name
        );
        let (_, stops) = pieces.in_pieces(&stage, 3);
        assert!(stops > 3);
        assert_eq!(pieces.model_bytes(&stage.name), narrow.model_bytes(&stage.name), "{}", stage.name);
        assert_eq!(pieces.metrics(&stage.name), narrow.metrics(&stage.name), "{}", stage.name);
    }
    // The model is saved in f32: from the masters, which hold more than bf16 can.
    let saved = tensors(&narrow, "dutch");
    let halves = saved.values().flat_map(|bytes| bytes.chunks_exact(4)).filter(|word| word[..2] != [0, 0]);
    assert!(halves.count() > 1000);
}
