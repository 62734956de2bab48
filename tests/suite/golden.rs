//! Logits, losses and gradients of tiny models against the Hugging Face stack.

use crate::support::*;
use lower::objectives::Objective;
use lower::programs;
use ops::backend::Backend;
use ops::cpu::Cpu;
use plain::Plain;

use plan::value::Dtype;
use plan::work::{batch, result};

const MODELS: [&str; 4] = ["gpt2", "llama", "llama2", "llama3_rope"];

/// Largest difference of a logit. The references themselves move by 2e-6 to 1.5e-5 between f32 and f64.
const LOGITS: f64 = 2e-5;

fn backends() -> Vec<Box<dyn Backend>> {
    vec![Box::new(Cpu::new(2)), Box::new(Plain::new())]
}

/// Rows of a case; with `pad.` the second is shorter, which here is simply a shorter row.
fn rows(golden: &Tensors, prefix: &str) -> Vec<Row> {
    let ids = golden.rows(&format!("{prefix}input_ids"));
    let labels = golden.rows(&format!("{prefix}labels"));
    let mut rows: Vec<Row> = ids.into_iter().zip(labels).map(|(ids, labels)| Row { ids, labels }).collect();
    if !prefix.is_empty() {
        for (row, mask) in rows.iter_mut().zip(golden.rows("pad.attention_mask")) {
            let length = mask.iter().filter(|&&on| on != 0).count();
            row.ids.truncate(length);
            row.labels.truncate(length);
        }
    }
    rows
}

#[test]
fn logits_equal_the_references_with_both_config_styles() {
    for backend in backends() {
        for name in MODELS {
            let folder = parity(name);
            let golden = Tensors::read(&folder.join("golden.safetensors"));
            for config in ["config.json", "config.v4.json"] {
                let model = model(&folder.join(config));
                for prefix in ["", "pad."] {
                    let rows = rows(&golden, prefix);
                    let module = programs::logits(&model, capacities(&rows), Dtype::F32);
                    let mut executor = loaded(&module, backend.as_ref(), &model, &folder);
                    write_rows(&mut executor, &rows);
                    executor.run("logits", 0, NO_DRAW).unwrap();
                    let logits = executor.read(result::LOGITS).unwrap();
                    compare_logits(&logits, golden.get(&format!("{prefix}logits")), &rows, name);
                }
            }
        }
    }
}

/// Our rows lie one after another, the references' are padded to the first row's length.
fn compare_logits(ours: &[f64], theirs: &[f64], rows: &[Row], name: &str) {
    let padded = rows[0].ids.len();
    let vocab = theirs.len() / rows.len() / padded;
    let mut at = 0;
    for (number, row) in rows.iter().enumerate() {
        for position in 0..row.ids.len() {
            let theirs = &theirs[(number * padded + position) * vocab..][..vocab];
            let worst =
                ours[at..at + vocab].iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= LOGITS, "{name}: row {number}, position {position} is off by {worst:e}");
            at += vocab;
        }
    }
}

#[test]
fn loss_and_every_gradient_equal_the_references() {
    for backend in backends() {
        for name in MODELS {
            let folder = parity(name);
            let golden = Tensors::read(&folder.join("golden.safetensors"));
            let facts = json(&folder.join("golden.json"));
            let model = model(&folder.join("config.json"));
            for prefix in ["", "pad."] {
                let rows = rows(&golden, prefix);
                let module =
                    programs::train(&model, Objective::CrossEntropy, &ADAMW, capacities(&rows), Dtype::F32);
                let mut executor = loaded(&module, backend.as_ref(), &model, &folder);
                write_rows(&mut executor, &rows);
                let trained: usize = rows.iter().map(Row::trained).sum();
                executor.write_f32(batch::STEP_COUNT, &[trained as f32]).unwrap();
                executor.run("begin", 0, NO_DRAW).unwrap();
                executor.run("micro", 0, NO_DRAW).unwrap();
                let loss = executor.scalar(result::LOSS).unwrap();
                let expected = golden.get(&format!("{prefix}loss"))[0];
                assert!(
                    (loss - expected).abs() <= 1e-5 * expected.abs(),
                    "{name}: loss {loss} for {expected}"
                );
                let section = if prefix.is_empty() { &facts } else { &facts["pad"] };
                let all = section["grad_norm"].as_f64().unwrap();
                for tensor in programs::file_tensors(&model, &module) {
                    let ours = gathered(&executor, &tensor, ".grad");
                    if prefix.is_empty() {
                        let theirs = golden.get(&format!("grad.{}", tensor.name));
                        let bound = 1e-4 * norm(theirs) + 1e-7 * all;
                        let off = distance(&ours, theirs);
                        assert!(
                            off <= bound,
                            "{name}: gradient of {} is off by {off:e}, {bound:e} allowed",
                            tensor.name
                        );
                    } else {
                        let theirs = section["grad_norms"][&tensor.name].as_f64().unwrap();
                        let off = (norm(&ours) - theirs).abs();
                        assert!(
                            off <= 1e-4 * theirs + 1e-7 * all,
                            "{name}: norm of {} is off by {off:e}",
                            tensor.name
                        );
                    }
                }
                executor.write_f32(batch::UPDATE_SCALARS, &[0.0, 1.0, 1.0]).unwrap();
                executor.run("update", 0, NO_DRAW).unwrap();
                let ours = executor.scalar(result::GRAD_NORM).unwrap();
                assert!((ours - all).abs() <= 1e-4 * all, "{name}: gradient norm {ours} for {all}");
            }
        }
    }
}

/// No reference is left out: the gradients listed are those that are compared.
#[test]
fn every_reference_gradient_is_of_a_tensor_that_is_trained() {
    for name in MODELS {
        let folder = parity(name);
        let model = model(&folder.join("config.json"));
        let tensors: Vec<String> =
            model.weights().into_iter().map(|weight| format!("grad.{}", weight.tensor)).collect();
        let golden = Tensors::read(&folder.join("golden.safetensors"));
        let theirs: Vec<&str> = golden.names().filter(|name| name.starts_with("grad.")).collect();
        assert_eq!(theirs.len(), tensors.len());
        assert!(theirs.iter().all(|name| tensors.iter().any(|tensor| tensor == name)));
    }
}
