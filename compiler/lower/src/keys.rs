//! Keys: what a task's result depends on, and nothing else.
//!
//! A key is a hash of the work's values, the keys of the tasks that it reads and the contents of the
//! files that it reads. Paths, conduct, modules and decisions are not in it.

use plan::task::Key;
use plan::work::{Artifact, Work};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Fields of the work that follow from others or say only how it is carried out.
const DERIVED: [&str; 4] = ["module", "tensors", "steps", "stop_ids"];

/// What stands in a key in place of names and paths: keys of tasks, content hashes of paths.
#[derive(Debug, Default)]
pub struct Contents {
    pub tasks: BTreeMap<String, Key>,
    pub paths: BTreeMap<String, String>,
}

/// Returns the key of a task.
pub fn key(work: &Work, contents: &Contents) -> Key {
    let mut value = serde_json::to_value(work).expect("plans are plain data");
    if let Some(fields) = value.as_object_mut() {
        for name in DERIVED {
            fields.remove(name);
        }
    }
    replace_places(&mut value, contents);
    let text = json!([plan::NUMERICS_VERSION, value]).to_string();
    Key(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
}

/// Replaces what only says where things lie by what lies there.
fn replace_places(value: &mut Value, contents: &Contents) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match (name.as_str(), &*field) {
                    ("task" | "data" | "eval_data", Value::String(task)) => {
                        *field = json!(contents.tasks.get(task));
                    }
                    ("path", Value::String(path)) => *field = json!(contents.paths.get(path)),
                    ("train_files" | "eval_files", Value::Array(files)) => {
                        let hashes =
                            files.iter().filter_map(Value::as_str).map(|file| contents.paths.get(file));
                        *field = json!(hashes.collect::<Vec<_>>());
                    }
                    _ => replace_places(field, contents),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace_places(item, contents)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the names of the tasks that a work reads, sorted, each once.
pub fn inputs(work: &Work) -> Vec<String> {
    let mut names: Vec<String> = match work {
        Work::TrainTokenizer(_) => Vec::new(),
        Work::Initialize(work) => of(&[&work.tokenizer]),
        Work::Prepare(work) => of(&[&work.tokenizer]),
        Work::Train(work) => {
            let mut names = of(&[&work.model]);
            names.extend(work.reference.iter().flat_map(|artifact| of(&[artifact])));
            names.push(work.data.clone());
            names.extend(work.eval_data.clone());
            names
        }
        Work::Evaluate(work) => {
            let mut names = of(&[&work.model]);
            names.push(work.data.clone());
            names
        }
        Work::Generate(work) => {
            let mut names = of(&[&work.model, &work.tokenizer]);
            names.extend(work.data.clone());
            names
        }
        Work::Declared(work) => {
            work.reads.iter().filter_map(|(_, artifact)| artifact.task().map(str::to_owned)).collect()
        }
    };
    names.sort();
    names.dedup();
    names
}

fn of(artifacts: &[&Artifact]) -> Vec<String> {
    artifacts.iter().filter_map(|artifact| artifact.task().map(str::to_owned)).collect()
}
