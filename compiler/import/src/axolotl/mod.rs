//! axolotl: one flat file per training run.

mod adapter;
mod data;
mod keys;
mod preference;
mod prompt;
mod refused;
mod rows;
mod template;
mod train;
mod watch;

pub(crate) use keys::TOOL;
pub(crate) use preference::dpo_loss;

use crate::common::{Template, stage_name};
use crate::kdl::Line;
use crate::names::{is_hub_id, source};
use crate::section::Section;
use data::Datasets as Data;

/// Turns a file into the nodes of a recipe.
pub(crate) fn read(config: &Section) -> Vec<Line> {
    refused::check(config);
    let objective = preference::objective(config);
    let mut lines = Vec::new();
    let (mut model_lines, base) = model(config);
    lines.append(&mut model_lines);
    let mut data = data::read(config, objective.as_ref());
    let template = data.template.take().map(|template| name_template(config, template, &mut lines));
    lines.append(&mut data.lines);
    let start = match added_tokens(config, &base) {
        Some((line, name)) => {
            lines.push(line);
            name
        }
        None => base,
    };
    let kind = objective.as_ref().map_or(data.stage, |objective| objective.stage);
    let other = match kind {
        "cpt" => "adapted",
        "sft" => "tuned",
        _ => "aligned",
    };
    let name = stage_name(config, "hub_model_id", "output_dir", other);
    let mut stage = Line::new(kind).word(&name);
    stage.push(Line::new("model").word(start));
    stage.push(Line::new("data").word(&data.name));
    stage_template(&mut stage, kind, template);
    train::fill(config, &mut stage, kind, &data);
    if let Some(objective) = objective {
        objective.lines.into_iter().for_each(|line| stage.push(line));
    }
    watch::fill(config, &mut stage, &data);
    lines.push(stage);
    lines.extend(publish(config, &name));
    lines
}

/// Declares the template when it is one of the file's own, and returns the reference to it.
fn name_template(config: &Section, template: Template, lines: &mut Vec<Line>) -> Option<String> {
    match template {
        Template::Own => None,
        Template::Std(name) => Some(format!("std:{name}")),
        Template::Declared(wanted, inner) => {
            let name = config.import.free(&wanted);
            lines.push(inner.line(&name));
            Some(name)
        }
    }
}

fn stage_template(stage: &mut Line, kind: &str, template: Option<Option<String>>) {
    if let Some(reference) = template.flatten().filter(|_| kind != "cpt") {
        stage.push(Line::new("template").word(reference));
    }
}

/// The model, with another tokenizer or overrides where the file has them.
fn model(config: &Section) -> (Vec<Line>, String) {
    let Some(id) = config.text("base_model") else {
        config.missing("base_model", "name the model that training starts from");
        return (Vec::new(), "model".into());
    };
    config.carried("base_model", "the model");
    let name = config.import.name(&id, "model");
    let mut line = Line::new("model").word(&name).quoted(&source(&id)).from(config.key("base_model"));
    for key in ["revision_of_model", "model_revision"] {
        if let Some(revision) = config.text(key) {
            config.carried(key, "the revision of the model");
            if revision != "main" && is_hub_id(&id) {
                line = line.with_text("revision", &revision);
            }
        }
    }
    if let Some(other) = config.text("base_model_config") {
        if other == id {
            config.carried("base_model_config", "the model's own config.json");
        } else {
            let help = "put the right config.json beside the weights";
            config.refuse("base_model_config", "a model reads the config.json of its own folder only", help);
        }
    }
    config.carried("model_type", "read from config.json");
    config.carried("tokenizer_type", "read from the tokenizer's files");
    let mut lines = Vec::new();
    if let Some(tokenizer) = config.text("tokenizer_config").filter(|tokenizer| *tokenizer != id) {
        config.carried("tokenizer_config", "another tokenizer of the same size");
        let tokenizer_name = config.import.name(&format!("{tokenizer}-tokenizer"), "tokenizer");
        let at = config.key("tokenizer_config");
        lines.push(Line::new("tokenizer").word(&tokenizer_name).quoted(&source(&tokenizer)).from(at));
        line.push(Line::new("tokenizer").word(tokenizer_name));
    }
    config.carried("tokenizer_config", "the model's own tokenizer");
    for key in ["overrides_of_model_config", "model_config"] {
        if let Some(child) = config.section(key).and_then(|overrides| config_line(&overrides)) {
            line.push(child);
        }
    }
    if config.flag("trust_remote_code") {
        config.dropped("trust_remote_code", "no remote code runs: models are described as data");
    }
    lines.push(line);
    (lines, name)
}

/// Fields of config.json that the file overrides.
fn config_line(overrides: &Section) -> Option<Line> {
    let mut line = Line::new("config");
    for pair in overrides.node.pairs() {
        if pair.key == "output_router_logits" {
            overrides.carried(&pair.key, "the router loss of a model with experts is always on");
            continue;
        }
        let Some(value) = crate::section::as_text(&pair.value) else {
            let message =
                format!("the override `{}` is a list or a mapping, which a recipe cannot write", pair.key);
            overrides.refuse(&pair.key, message, "change config.json in a copy of the model's folder");
            continue;
        };
        let value = match &pair.value.value {
            crate::yaml::Value::Bool(on) => format!("#{on}"),
            crate::yaml::Value::Text(_) => crate::kdl::bare_or_quoted(&value),
            _ => value,
        };
        overrides.carried(&pair.key, "a field of `config`");
        line.push(
            Line::new(&crate::kdl::bare_or_quoted(&pair.key)).word(value).from(overrides.key(&pair.key)),
        );
    }
    (!line.is_bare()).then_some(line)
}

/// Tokens that the file adds become a stage before training.
fn added_tokens(config: &Section, base: &str) -> Option<(Line, String)> {
    let mut tokens = config.texts("tokens");
    let mut from = Vec::new();
    if !tokens.is_empty() {
        config.carried("tokens", "`extend-tokenizer` before the training stage");
        from.push(config.key("tokens"));
    }
    if let Some(special) = config.section("special_tokens") {
        let more = special.texts("additional_special_tokens");
        if !more.is_empty() {
            special.carried("additional_special_tokens", "`extend-tokenizer` before the training stage");
            from.push(special.key("additional_special_tokens"));
            tokens.extend(more);
        }
        if special.node("pad_token").is_some() {
            special.dropped("pad_token", "nothing is padded");
        }
        special.drop_all(
            &["bos_token", "eos_token", "unk_token"],
            "special tokens are the tokenizer's own; check that they are the same there",
        );
    }
    if tokens.is_empty() {
        return None;
    }
    let name = config.import.free("extended");
    let mut line = Line::new("extend-tokenizer").word(&name).child(Line::new("model").word(base));
    let mut add = tokens.iter().fold(Line::new("add"), |line, token| line.quoted(token));
    add.from = from;
    line.push(add);
    let mean = config.switch("mean_resizing_embeddings");
    config.carried("mean_resizing_embeddings", "`init normal`: mean and covariance of the old rows");
    if mean != Some(true) {
        config.import.default("new rows are drawn around the old ones (`init normal`); axolotl draws them as for a new model unless `mean_resizing_embeddings` is on");
    }
    line.push(Line::new("init").word("normal"));
    if config.flag("resize_token_embeddings_to_32x") {
        config.carried("resize_token_embeddings_to_32x", "`pad-to 32`");
        line.push(Line::new("pad-to").word("32"));
    }
    Some((line, name))
}

/// Where the result is pushed to.
fn publish(config: &Section, stage: &str) -> Option<Line> {
    let id = config.text("hub_model_id")?;
    if !is_hub_id(&id) {
        config.changed(
            "hub_model_id",
            "gives the stage its name; to push, add `publish` with the owner's name",
        );
        return None;
    }
    let name = config.import.free("publish-model");
    let mut line = Line::new("publish").word(name).from(config.key("hub_model_id"));
    line.push(Line::new("model").word(stage));
    line.push(Line::new("to").quoted(&format!("hf:{id}")));
    if config.switch("hub_private_repo") == Some(false) {
        config.carried("hub_private_repo", "`private #false`");
        line.push(Line::new("private").word("#false").from(config.key("hub_private_repo")));
    }
    config.carried("hub_private_repo", "the default of `publish`");
    config.dropped("hub_strategy", "the result is pushed once, at the end");
    Some(line)
}
