//! alignment-handbook: one file per stage, read by a script of its own.

mod adapter;
mod data;
mod keys;
mod train;
mod watch;

pub(crate) use keys::TOOL;

use crate::axolotl::dpo_loss;
use crate::common::{DeclaredTemplate, Template, known_jinja, stage_name};
use crate::kdl::{Line, number};
use crate::names::{is_hub_id, source};
use crate::section::Section;

/// Turns a file into the nodes of a recipe.
pub(crate) fn read(config: &Section, path: &str) -> Vec<Line> {
    let kind = kind(config, path);
    let mut lines = Vec::new();
    let base = model(config, &mut lines);
    let template = template(config, kind, &mut lines);
    let data = data::read(config, kind);
    lines.extend(data.lines.iter().cloned());
    let other = match kind {
        "cpt" => "adapted",
        "sft" => "tuned",
        _ => "aligned",
    };
    let name = stage_name(config, "hub_model_id", "output_dir", other);
    let mut stage = Line::new(kind).word(&name);
    stage.push(Line::new("model").word(base));
    stage.push(Line::new("data").word(&data.name));
    if let Some((reference, key)) = template {
        stage.push(Line::new("template").word(reference).from(key));
    }
    train::fill(config, &mut stage, kind);
    objective(config, kind).into_iter().for_each(|line| stage.push(line));
    watch::fill(config, &mut stage, data.held_out);
    lines.push(stage);
    lines.extend(publish(config, &name));
    lines
}

/// Which script the file is for: its keys tell, and where they do not, the names in it and its path.
fn kind(config: &Section, path: &str) -> &'static str {
    let names = ["output_dir", "hub_model_id", "run_name"].map(|key| config.text(key).unwrap_or_default());
    let named = format!("{path} {}", names.join(" ")).to_lowercase();
    let says = |word: &str| named.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
    let splits = config.texts("dataset_splits").join(" ");
    let has_preferences =
        ["beta", "loss_type", "max_prompt_length", "rpo_alpha"].iter().any(|key| config.is_on(key))
            || splits.contains("prefs");
    for other in ["grpo", "gkd", "ppo", "rloo", "reward"] {
        if says(other) && has_preferences | config.is_on("reward_funcs") {
            config.refuse(
                "output_dir",
                format!("the language has no objective `{other}`"),
                "it has dpo, orpo, kto and simpo",
            );
        }
    }
    if has_preferences {
        return match ["orpo", "kto", "simpo"].into_iter().find(|word| says(word)) {
            Some(word) => word,
            None => "dpo",
        };
    }
    let is_text = config.is_on("text_column") || says("cpt");
    if is_text { "cpt" } else { "sft" }
}

fn model(config: &Section, lines: &mut Vec<Line>) -> String {
    let Some(id) = config.text("model_name_or_path") else {
        config.missing("model_name_or_path", "name the model that training starts from");
        return "model".into();
    };
    config.carried("model_name_or_path", "the model");
    let name = config.import.name(&id, "model");
    let mut line = Line::new("model").word(&name).quoted(&source(&id)).from(config.key("model_name_or_path"));
    if let Some(revision) = config.text("model_revision") {
        config.carried("model_revision", "`revision=` of the model");
        if revision != "main" && is_hub_id(&id) {
            line = line.with_text("revision", &revision).from(config.key("model_revision"));
        }
    }
    if let Some(tokenizer) = config.text("tokenizer_name_or_path").filter(|tokenizer| *tokenizer != id) {
        config.carried("tokenizer_name_or_path", "another tokenizer of the same size");
        let tokenizer_name = config.import.name(&format!("{tokenizer}-tokenizer"), "tokenizer");
        let at = config.key("tokenizer_name_or_path");
        lines.push(Line::new("tokenizer").word(&tokenizer_name).quoted(&source(&tokenizer)).from(at));
        line.push(Line::new("tokenizer").word(tokenizer_name));
    }
    config.carried("tokenizer_name_or_path", "the model's own tokenizer");
    lines.push(line);
    name
}

/// The template that the file states, and the key it came from.
fn template(config: &Section, kind: &str, lines: &mut Vec<Line>) -> Option<(String, String)> {
    if config.flag("auto_insert_empty_system_msg") {
        config.dropped("auto_insert_empty_system_msg", "a message that is not in the data is not inserted");
    }
    let (key, jinja) =
        ["chat_template", "chat_template_path"].into_iter().find_map(|key| Some((key, config.text(key)?)))?;
    if kind == "cpt" {
        config.dropped(key, "plain text is rendered by no template");
        return None;
    }
    let template = match known_jinja(&jinja) {
        _ if key == "chat_template_path" => {
            Template::Declared("chat".into(), Box::new(DeclaredTemplate::File(jinja)))
        }
        Some(known) => Template::Std(known),
        None => Template::Declared("chat".into(), Box::new(DeclaredTemplate::Jinja(jinja))),
    };
    match template {
        Template::Std(name) => {
            config.carried(key, format!("`template std:{name}`, which writes the same marks"));
            Some((format!("std:{name}"), config.key(key)))
        }
        Template::Declared(wanted, inner) => {
            config.carried(key, "a template of its own");
            let name = config.import.free(&wanted);
            lines.push(inner.line(&name));
            Some((name, config.key(key)))
        }
        Template::Own => None,
    }
}

/// Writes the numbers of an objective on preferences.
fn objective(config: &Section, kind: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    if matches!(kind, "cpt" | "sft") {
        return lines;
    }
    if let Some(beta) = config.number("beta") {
        config.carried("beta", "`beta`");
        let default = if kind == "simpo" { 2.0 } else { 0.1 };
        if beta != default {
            lines.push(Line::new("beta").word(number(beta)).from(config.key("beta")));
        }
    } else {
        config.import.default("`beta` is not written: TRL's 0.1");
        if kind == "simpo" {
            lines.push(Line::new("beta").word("0.1"));
        }
    }
    if kind == "dpo" {
        lines.extend(loss(config));
    } else if config.is_on("loss_type") {
        let fits = config.texts("loss_type").iter().all(|loss| loss == kind);
        if !fits {
            config.refuse("loss_type", format!("`{kind}` has one loss in the language"), "remove the key");
        }
        config.carried("loss_type", format!("the loss of `{kind}`"));
    }
    if let Some(gamma) = config.number("simpo_gamma").filter(|_| kind == "simpo") {
        config.carried("simpo_gamma", "`margin`");
        if gamma != 0.5 {
            lines.push(Line::new("margin").word(number(gamma)).from(config.key("simpo_gamma")));
        }
    }
    if let Some(ratio) = config.number("gamma_beta_ratio").filter(|_| kind == "simpo") {
        config.carried("gamma_beta_ratio", "`margin`, which is the ratio times `beta`");
        let margin = ratio * config.number("beta").unwrap_or(0.1);
        lines.push(Line::new("margin").word(number(margin)).from(config.key("gamma_beta_ratio")));
    }
    let mut weights = Line::new("weights");
    for (key, name) in [("desirable_weight", "desirable"), ("undesirable_weight", "undesirable")] {
        let Some(weight) = config.number(key).filter(|_| kind == "kto") else { continue };
        config.carried(key, "`weights`");
        if weight != 1.0 {
            weights = weights.with(name, number(weight)).from(config.key(key));
        }
    }
    if !weights.is_bare() {
        lines.push(weights);
    }
    config.carried(
        "precompute_ref_log_probs",
        "the reference is computed when it is needed; the numbers are the same",
    );
    lines
}

fn loss(config: &Section) -> Vec<Line> {
    let mut lines = Vec::new();
    let losses = config.texts("loss_type");
    if let [name] = losses.as_slice() {
        match dpo_loss(name) {
            Some("sigmoid") => config.carried("loss_type", "`loss sigmoid`, the default"),
            Some(loss) => {
                config.carried("loss_type", "`loss`");
                lines.push(Line::new("loss").word(loss).from(config.key("loss_type")));
            }
            None => {
                let message = format!("the language has no DPO loss `{name}`");
                config.refuse(
                    "loss_type",
                    message,
                    "it has sigmoid, ipo, hinge, robust, apo_zero and kto_pair",
                );
            }
        }
    } else if losses.len() > 1 {
        config.refuse("loss_type", "several losses are added, and a stage has one", "keep one loss");
    }
    if config.number("rpo_alpha").is_some_and(|alpha| alpha != 0.0) {
        config.refuse(
            "rpo_alpha",
            "a part of plain likelihood beside DPO has no word in the language",
            "remove the key",
        );
    }
    if config.flag("reference_free") {
        config.refuse(
            "reference_free",
            "DPO without a reference has no word in the language",
            "use `simpo` or `orpo`",
        );
    }
    if let Some(share) = config.number("label_smoothing") {
        config.carried("label_smoothing", "`label-smoothing`");
        if share != 0.0 {
            lines.push(Line::new("label-smoothing").word(number(share)).from(config.key("label_smoothing")));
        }
    }
    lines
}

/// Where the result is pushed to.
fn publish(config: &Section, stage: &str) -> Option<Line> {
    let id = config.text("hub_model_id")?;
    if !config.flag("push_to_hub") {
        config.dropped("hub_model_id", "acts only with `push_to_hub`");
        return None;
    }
    if !is_hub_id(&id) {
        config.changed("push_to_hub", "add `publish` with the owner's name, which the file does not say");
        return None;
    }
    config.changed("push_to_hub", "`publish`, to a private repository unless `private #false` is written");
    let name = config.import.free("publish-model");
    let line = Line::new("publish").word(name).from(config.key("hub_model_id"));
    Some(line.child(Line::new("model").word(stage)).child(Line::new("to").quoted(&format!("hf:{id}"))))
}
