//! The stage `generate` over the rows of a dataset: order, stops, other numbers of slots, damaged files.

mod world;

use engine::run::Outcome;
use lower::builder::Capacities;
use lower::models::Model;
use lower::programs;
use plan::task::{Conduct, Key, Task};
use plan::value::Dtype;
use plan::work::{Artifact, Encode, Generate, Overflow, Prepare, RowType, Sampling, Sides, Work};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use world::*;

const ROWS: usize = 24;

/// A world with the prompts of the pairs prepared, and the config of its model.
fn world(threads: usize) -> (World, Value) {
    let world = World::new(threads);
    let config = world.prepare();
    let mut part = world.part("pairs.jsonl", RowType::Preference);
    part.holdout = None;
    let work = Prepare {
        parts: vec![part],
        mix: None,
        tokenizer: Artifact::Task("tokenizer:base".into()),
        encode: Encode::Prompt { template: TEMPLATE.into() },
        sequence: 96,
        prompt: None,
        overflow: Overflow::Drop,
        sides: Sides::EvalOnly,
    };
    let record = world.done(&task("data:told", Work::Prepare(work), Conduct::default()));
    let eval = record.yields.prepared.expect("counted").eval;
    assert_eq!((eval.rows, eval.trained_tokens), (ROWS as u64, 0));
    (world, config)
}

fn told(config: &Value, slots: u64, temperature: f64, precision: Dtype) -> Task {
    let model = Model::from_config(config).expect("sound");
    let capacities = Capacities { tokens: 96, rows: slots, trained: 0, slots, cached: 96 };
    let module = programs::generate(&model, capacities, precision);
    let work = Generate {
        model: Artifact::Task("init:base".into()),
        tokenizer: Artifact::Task("tokenizer:base".into()),
        prompts: Vec::new(),
        data: Some("data:told".into()),
        template: Some(TEMPLATE.into()),
        sampling: Sampling { max_tokens: 20, ..sampling(temperature) },
        precision,
        tensors: programs::file_tensors(&model, &module),
        // A token that comes now and then, so that answers are of all lengths.
        stop_ids: vec![40, 77, 120],
        context: 96,
        module: Some(module),
    };
    task("told", Work::Generate(Box::new(work)), Conduct::default())
}

fn answers(world: &World) -> String {
    fs::read_to_string(world.folder.task_folder("told").join("answers.jsonl")).expect("written")
}

fn partial(world: &World, task: &Task) -> PathBuf {
    let Key(key) = task.key.as_ref().expect("given");
    world.folder.task_folder("told").join(format!("answers-{key}.partial"))
}

#[test]
fn rows_are_answered_in_order_whatever_is_answered_beside_them() {
    for precision in [Dtype::F32, Dtype::Bf16] {
        for temperature in [0.0, 1.0] {
            let (whole, config) = world(2);
            let record = whole.done(&told(&config, 8, temperature, precision));
            let lines: Vec<Value> =
                answers(&whole).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert_eq!(lines.len(), ROWS);
            let mut tokens = 0;
            for (index, line) in lines.iter().enumerate() {
                assert_eq!((&line["row"], &line["data"]), (&(index + 1).into(), &"pairs".into()));
                let prompt = format!("<s><|user|>waar zit kat {index}?<|end|><|assistant|>");
                assert_eq!(line["prompt"], prompt.as_str());
                assert_eq!(line["identity"].as_str().map(str::len), Some(16));
                tokens += line["tokens"].as_u64().expect("a number");
            }
            assert_eq!(record.summary.tokens, tokens);
            let lengths = |line: &Value| line["tokens"].clone();
            // What is most likely may be alike for all; what is drawn is not.
            let vary = lines.iter().any(|line| lengths(line) != lengths(&lines[0]));
            assert!(vary || temperature == 0.0, "one length only");

            let (other, config) = world(1);
            other.done(&told(&config, 16, temperature, precision));
            assert_eq!(answers(&other), answers(&whole), "16 slots, {temperature}, {precision:?}");
        }
    }
}

#[test]
fn a_stopped_run_goes_on_and_answers_no_row_again() {
    let (whole, config) = world(1);
    let task = told(&config, 8, 1.0, Dtype::F32);
    whole.done(&task);
    let (pieces, _) = world(2);
    // Each piece ends after some answers; what ended out of turn is answered again.
    let (_, stops) = pieces.in_pieces(&task, 6);
    assert!(stops >= 2, "{stops}");
    assert_eq!(answers(&pieces), answers(&whole));
    assert!(!partial(&pieces, &task).exists());
}

#[test]
fn a_line_that_was_cut_off_is_written_anew() {
    let (whole, config) = world(1);
    let task = told(&config, 8, 1.0, Dtype::F32);
    whole.done(&task);
    let all = answers(&whole);
    let tenth: usize = all.split_inclusive('\n').take(10).map(str::len).sum();
    for (kept, answered) in [(tenth, 10), (tenth + 30, 10), (tenth - 1, 9), (all.len(), ROWS)] {
        let (cut, _) = world(1);
        fs::create_dir_all(cut.folder.task_folder("told")).expect("created");
        // The answer of the first row is another: it is taken as it stands.
        let marked = all.replacen("\"answer\":\"", "\"answer\":\"¡", 1);
        fs::write(partial(&cut, &task), &marked.as_bytes()[..kept + '¡'.len_utf8()]).expect("written");
        let (outcome, notes) = cut.run(&task, None).expect("runs");
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        assert_eq!(answers(&cut), marked, "{kept}");
        assert_eq!(notes, format!("{answered} of {ROWS} rows were answered before"));
    }
    // What another recipe began is not taken up, and goes when this one is done.
    let (other, _) = world(1);
    let stale = other.folder.task_folder("told").join("answers-old.partial");
    fs::create_dir_all(other.folder.task_folder("told")).expect("created");
    fs::write(&stale, &all.as_bytes()[..tenth]).expect("written");
    other.done(&task);
    assert_eq!(answers(&other), all);
    assert!(!stale.exists());
}
