//! Which tool a file is for, by its keys.

use crate::problem::{Place, Problem};
use crate::yaml::Node;

/// The tools whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Axolotl,
    AlignmentHandbook,
    LitGpt,
    Mergekit,
}

impl Dialect {
    /// Returns the tool's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Axolotl => "axolotl",
            Self::AlignmentHandbook => "alignment-handbook",
            Self::LitGpt => "LitGPT",
            Self::Mergekit => "mergekit",
        }
    }
}

/// Files of other tools that are easily taken for one of the four, by a key that gives them away.
const OTHERS: [(&str, &str); 9] = [
    ("finetuning_type", "LLaMA-Factory"),
    ("_component_", "torchtune"),
    ("gate_mode", "mergekit-moe"),
    ("compute_environment", "accelerate"),
    ("distributed_type", "accelerate"),
    ("zero_optimization", "DeepSpeed"),
    ("genome", "mergekit-evolve"),
    ("jobs", "a continuous-integration service"),
    ("services", "Docker Compose"),
];

/// Keys by which a tool names its model, and what it reads beside them.
const ALONE: [(&str, &str); 4] = [
    ("merge_method", "mergekit's `models`, `slices` or `modules`"),
    ("base_model", "axolotl's `datasets`, or mergekit's `merge_method`"),
    ("model_name_or_path", "alignment-handbook's `dataset_mixer`, `dataset_mixture` or training arguments"),
    ("checkpoint_dir", "LitGPT's `data` or `train`"),
];

/// Recognises the tool of a document.
pub(crate) fn recognise(document: &Node) -> Result<Dialect, Problem> {
    let has = |key: &str| document.get(key).is_some();
    let has_in = |key: &str, inner: &str| document.get(key).is_some_and(|node| node.get(inner).is_some());
    let count = |keys: &[&str]| keys.iter().filter(|key| has(key)).count();
    if document.pairs().is_empty() {
        let message = "the file holds no keys";
        return Err(Problem::refuse(message, document.at, help()));
    }
    if let Some((key, tool)) = OTHERS.iter().find(|(key, _)| has(key)) {
        let at = document.pairs().iter().find(|pair| pair.key == *key).map_or(document.at, |pair| pair.at);
        return Err(Problem::refuse(format!("this is a file of {tool}, told by `{key}`"), at, help()));
    }
    if has("merge_method") && count(&["models", "slices", "modules"]) > 0 {
        return Ok(Dialect::Mergekit);
    }
    if has_in("data", "class_path")
        || count(&["checkpoint_dir", "initial_checkpoint_dir", "tokenizer_dir", "out_dir"]) > 0
            && has("train")
        || has_in("train", "global_batch_size")
    {
        return Ok(Dialect::LitGpt);
    }
    let handbook = [
        "dataset_mixer",
        "dataset_mixture",
        "dataset_splits",
        "per_device_train_batch_size",
        "num_train_epochs",
    ];
    if has("model_name_or_path") && count(&handbook) > 0 {
        return Ok(Dialect::AlignmentHandbook);
    }
    let axolotl = [
        "datasets",
        "pretraining_dataset",
        "micro_batch_size",
        "sequence_len",
        "adapter",
        "num_epochs",
        "sample_packing",
    ];
    if has("base_model") && count(&axolotl) > 0 || count(&axolotl) >= 3 {
        return Ok(Dialect::Axolotl);
    }
    if let Some((key, lacking)) = ALONE.iter().find(|(key, _)| has(key)) {
        let at = document.pairs().iter().find(|pair| pair.key == *key).map_or(document.at, |pair| pair.at);
        let message = format!("nothing says what is done with `{key}`: it needs {lacking}");
        return Err(Problem::refuse(message, at, "add what is missing, or name the whole file"));
    }
    let message = "this is no file of axolotl, alignment-handbook, LitGPT or mergekit";
    let at = document.pairs().first().map_or(Place::START, |pair| pair.at);
    Err(Problem::refuse(message, at, help()))
}

fn help() -> &'static str {
    "name a file that such a tool trains or merges from; it says so by `base_model`, `model_name_or_path`, `checkpoint_dir` or `merge_method`"
}
