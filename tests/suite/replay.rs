//! Whole training runs step by step against TRL and the Hugging Face Trainer.

use crate::support::*;
use lower::objectives::Objective;
use lower::programs;
use ops::backend::Draw;
use ops::cpu::Cpu;
use plan::op::PreferenceLoss;
use plan::value::Dtype;
use plan::weights::FileTensor;
use plan::work::{AdamW, Schedule, ScheduleShape, Warmup, batch, result};
use serde_json::Value;
use std::path::Path;

struct Run {
    optimizer: AdamW,
    schedule: Schedule,
    /// Rows (or pairs) per micro-step, and micro-steps per step.
    micro: usize,
    accumulation: usize,
    steps: usize,
}

impl Run {
    /// Reads the settings that the reference's trainer was given.
    fn from_config(config: &Value) -> Run {
        let number = |name: &str| config[name].as_f64().unwrap();
        let or = |name: &str, default: f64| config.get(name).and_then(Value::as_f64).unwrap_or(default);
        let shape = match config["lr_scheduler_type"].as_str().unwrap() {
            "cosine" => ScheduleShape::Cosine,
            "linear" => ScheduleShape::Linear,
            "constant" => ScheduleShape::Constant,
            other => panic!("unexpected scheduler {other}"),
        };
        Run {
            optimizer: AdamW {
                lr: number("learning_rate"),
                weight_decay: number("weight_decay"),
                beta1: or("adam_beta1", 0.9),
                beta2: number("adam_beta2"),
                eps: or("adam_epsilon", 1e-8),
                clip: number("max_grad_norm"),
            },
            schedule: Schedule { shape, warmup: Warmup::Steps(number("warmup_steps") as u64), floor: 0.0 },
            micro: number("per_device_train_batch_size") as usize,
            accumulation: or("gradient_accumulation_steps", 1.0) as usize,
            steps: number("max_steps") as usize,
        }
    }
}

fn rows(path: &Path) -> Vec<Row> {
    let row = |line: &Value| Row { ids: numbers(&line["input_ids"]), labels: numbers(&line["labels"]) };
    json_lines(path).iter().map(row).collect()
}

/// What one step of ours came to.
struct Step {
    loss: f64,
    grad_norm: f64,
    lr: f64,
}

/// Trains on rows in their order, wrapping around; `after` sees the trained weights.
fn train(
    run: &Run,
    rows: &[Row],
    after: impl FnOnce(&engine::executor::Executor, &[FileTensor]),
) -> Vec<Step> {
    let folder = parity("objectives/policy");
    let model = model(&folder.join("config.json"));
    let mut sizes: Vec<Row> = rows.to_vec();
    sizes.sort_by_key(|row| std::cmp::Reverse(row.ids.len()));
    sizes.truncate(run.micro);
    let module =
        programs::train(&model, Objective::CrossEntropy, &run.optimizer, capacities(&sizes), Dtype::F32);
    let backend = Cpu::new(2);
    let mut executor = loaded(&module, &backend, &model, &folder);
    let mut next = rows.iter().cycle();
    let mut steps = Vec::new();
    for step in 0..run.steps {
        let micro_steps: Vec<Vec<Row>> =
            (0..run.accumulation).map(|_| next.by_ref().take(run.micro).cloned().collect()).collect();
        let trained: usize = micro_steps.iter().flatten().map(Row::trained).sum();
        executor.write_f32(batch::STEP_COUNT, &[trained as f32]).unwrap();
        let draw = Draw { seed: 0, step: step as u64 };
        executor.run("begin", 0, draw).unwrap();
        for (index, rows) in micro_steps.iter().enumerate() {
            write_rows(&mut executor, rows);
            executor.run("micro", index as u64, draw).unwrap();
        }
        steps.push(update(&mut executor, run, step, draw));
    }
    after(&executor, &programs::file_tensors(&model, &module));
    steps
}

fn update(executor: &mut engine::executor::Executor, run: &Run, step: usize, draw: Draw) -> Step {
    let loss = executor.scalar(result::LOSS).unwrap();
    let lr = run.schedule.lr(run.optimizer.lr, step as u64, run.steps as u64);
    let correction = |beta: f64| (1.0 - beta.powi(step as i32 + 1)) as f32;
    let scalars = [lr as f32, correction(run.optimizer.beta1), correction(run.optimizer.beta2)];
    executor.write_f32(batch::UPDATE_SCALARS, &scalars).unwrap();
    executor.run("update", 0, draw).unwrap();
    Step { loss, grad_norm: executor.scalar(result::GRAD_NORM).unwrap(), lr }
}

/// Each step's loss within 2e-5 + 1e-4 relative, its gradient norm within 1e-3 relative.
fn compare(name: &str, ours: &[Step], golden: &Value) {
    let theirs = golden["steps"].as_array().unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let number = |key: &str| theirs[key].as_f64().unwrap();
        let loss = number("loss");
        let off = (ours.loss - loss).abs();
        assert!(off <= 2e-5 + 1e-4 * loss.abs(), "{name}, step {step}: loss {} for {loss}", ours.loss);
        let norm = number("grad_norm");
        assert!(
            (ours.grad_norm - norm).abs() <= 1e-3 * norm,
            "{name}, step {step}: norm {} for {norm}",
            ours.grad_norm
        );
        assert_eq!(ours.lr, number("learning_rate"), "{name}, step {step}");
    }
}

#[test]
fn sft_equals_trl_step_by_step() {
    for name in ["sft", "sft_accum", "cpt_wrapped"] {
        let folder = parity("train").join(name);
        let golden = json(&folder.join("golden.json"));
        let run = Run::from_config(&golden["config"]);
        let steps = train(&run, &rows(&folder.join("data.jsonl")), |_, _| {});
        compare(name, &steps, &golden);
    }
}

/// Chosen and rejected rows of a pair, the prompt not trained.
fn pair(line: &Value) -> [Row; 2] {
    let prompt = numbers(&line["prompt_ids"]);
    ["chosen_ids", "rejected_ids"].map(|key| {
        let answer = numbers(&line[key]);
        let labels = vec![IGNORE_INDEX; prompt.len()].into_iter().chain(answer.iter().copied()).collect();
        Row { ids: prompt.iter().copied().chain(answer).collect(), labels }
    })
}

#[test]
fn dpo_equals_trl_step_by_step() {
    let folder = parity("train/dpo");
    let golden = json(&folder.join("golden.json"));
    let run = Run::from_config(&golden["config"]);
    let beta = golden["config"]["beta"].as_f64().unwrap();
    let pairs: Vec<[Row; 2]> = json_lines(&folder.join("data.jsonl")).iter().map(pair).collect();
    let policy = parity("objectives/policy");
    let model = model(&policy.join("config.json"));
    let all: Vec<Row> = pairs.iter().flatten().cloned().collect();
    let objective = Objective::Preference { loss: PreferenceLoss::Sigmoid { label_smoothing: 0.0 }, beta };
    let module = programs::train(&model, objective, &run.optimizer, capacities(&all), Dtype::F32);
    let backend = Cpu::new(2);

    let mut executor = loaded(&module, &backend, &model, &parity("objectives/ref"));
    write_rows(&mut executor, &all);
    executor.run("reference", 0, NO_DRAW).unwrap();
    let reference: Vec<f32> =
        executor.read(result::ROW_LOGPROBS).unwrap().iter().map(|&x| x as f32).collect();

    let map = programs::file_tensors(&model, &module);
    engine::weights::load(&mut executor, &map, &policy).unwrap();
    let mut steps = Vec::new();
    let theirs = golden["steps"].as_array().unwrap();
    for (step, theirs) in theirs.iter().enumerate().take(run.steps) {
        let picked: Vec<usize> = (0..run.micro).map(|at| (step * run.micro + at) % pairs.len()).collect();
        let rows: Vec<Row> = picked.iter().flat_map(|&at| pairs[at].clone()).collect();
        let scores: Vec<f32> =
            picked.iter().flat_map(|&at| [reference[2 * at], reference[2 * at + 1]]).collect();
        let draw = Draw { seed: 0, step: step as u64 };
        executor.write_f32(batch::STEP_COUNT, &[picked.len() as f32]).unwrap();
        executor.run("begin", 0, draw).unwrap();
        write_rows(&mut executor, &rows);
        executor.write_f32(batch::REFERENCE, &scores).unwrap();
        executor.run("micro", 0, draw).unwrap();
        let metrics = executor.read(result::METRICS).unwrap();
        for (metric, key) in metrics.iter().zip([
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
        ]) {
            let (ours, expected) = (metric / picked.len() as f64, theirs[key].as_f64().unwrap());
            assert!(
                (ours - expected).abs() <= 1e-4 + 1e-3 * expected.abs(),
                "step {step}: {key} {ours} for {expected}"
            );
        }
        steps.push(update(&mut executor, &run, step, draw));
    }
    compare("dpo", &steps, &golden);
}

#[test]
fn adamw_equals_the_trainer_to_the_last_weight() {
    for name in ["adamw_cosine", "adamw_linear_accum2", "adamw_constant_noclip"] {
        let folder = parity("optim").join(name);
        let golden = json(&folder.join("golden.json"));
        let run = Run::from_config(&golden["args"]);
        let rows = rows(&parity("optim/data.jsonl"));
        let steps = train(&run, &rows, |executor, map| {
            let last = folder.join("final/model.safetensors");
            let weights = last.exists().then(|| Tensors::read(&last));
            for tensor in map {
                let ours = gathered(executor, tensor, "");
                if let Some(weights) = &weights {
                    let theirs = weights.get(&tensor.name);
                    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(worst <= 1e-5, "{name}: {} is off by {worst:e}", tensor.name);
                } else {
                    let theirs = golden["final_param_norms"][&tensor.name].as_f64().unwrap();
                    assert!((norm(&ours) - theirs).abs() <= 1e-5, "{name}: norm of {}", tensor.name);
                }
            }
        });
        for (step, (ours, theirs)) in steps.iter().zip(golden["steps"].as_array().unwrap()).enumerate() {
            assert_eq!(ours.lr, theirs["lr_used"].as_f64().unwrap(), "{name}, step {step}");
            let loss = theirs["loss"].as_f64().unwrap();
            assert!((ours.loss - loss).abs() <= 1e-5, "{name}, step {step}: loss {} for {loss}", ours.loss);
            if let Some(norm) = theirs["grad_norm"].as_f64() {
                assert!((ours.grad_norm - norm).abs() <= 1e-3 * norm, "{name}, step {step}");
            }
        }
    }
}
