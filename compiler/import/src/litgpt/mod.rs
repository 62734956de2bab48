//! LitGPT: `finetune_lora`, `finetune_full` and `pretrain`.

mod data;
mod keys;
mod model;
mod train;

pub(crate) use keys::TOOL;

use crate::common::stage_name;
use crate::kdl::Line;
use crate::section::Section;

/// Turns a file into the nodes of a recipe.
pub(crate) fn read(config: &Section) -> Vec<Line> {
    let pretrains = pretrains(config);
    let mut lines = Vec::new();
    let base =
        if pretrains { model::pretrained(config, &mut lines) } else { model::finetuned(config, &mut lines) };
    let data = data::read(config, pretrains);
    lines.extend(data.lines.iter().cloned());
    let (kind, other) = if pretrains { ("cpt", "adapted") } else { ("sft", "tuned") };
    let name = stage_name(config, "out_dir", "out_dir", other);
    let mut stage = Line::new(kind).word(name);
    stage.push(Line::new("model").word(base));
    stage.push(Line::new("data").word(&data.name).from("data.class_path"));
    if let Some(template) = &data.template {
        stage.push(Line::new("template").word(template));
    }
    train::fill(config, &mut stage, pretrains);
    data.loss_on.iter().for_each(|line| stage.push(line.clone()));
    train::watch(config, &mut stage, pretrains, data.held_out);
    lines.push(stage);
    lines
}

/// Whether the file is for `litgpt pretrain`.
fn pretrains(config: &Section) -> bool {
    let only_there = ["initial_checkpoint_dir", "tokenizer_dir", "model_name", "model_config"];
    let has_tokens = config.section("train").is_some_and(|train| train.is_on("max_tokens"));
    !config.is_on("checkpoint_dir")
        && (has_tokens || only_there.iter().any(|key| config.node.get(key).is_some()))
}
