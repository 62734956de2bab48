//! axolotl's training on preferences: DPO and its losses, ORPO, KTO, SimPO.

use super::rows::{Rows, message_keys, read_roles};
use super::template::chat_template;
use crate::common::{DeclaredTemplate, Template};
use crate::kdl::{Line, number};
use crate::section::Section;
use crate::yaml::Value;

/// What is optimised.
pub(crate) struct Objective {
    pub stage: &'static str,
    pub lines: Vec<Line>,
}

/// Reads `rl` and its numbers; nothing when the file trains on texts or answers alone.
pub(crate) fn objective(config: &Section) -> Option<Objective> {
    let rl = config.text("rl")?;
    let (stage, loss) = match rl.as_str() {
        "dpo" => ("dpo", None),
        "ipo" => ("dpo", Some("ipo")),
        "orpo" => ("orpo", None),
        "kto" => ("kto", None),
        "simpo" => ("simpo", None),
        other => {
            let message = format!("the language has no objective `{other}`");
            config.refuse(
                "rl",
                message,
                "train this with axolotl; the language has dpo, orpo, kto and simpo",
            );
            return None;
        }
    };
    config.carried("rl", format!("the stage `{stage}`"));
    let mut lines = Vec::new();
    lines.extend(beta(config, stage));
    lines.extend(loss_line(config, stage, loss));
    lines.extend(smoothing(config, stage));
    lines.extend(margin(config, stage));
    lines.extend(weights(config, stage));
    config.dropped("rl_adapter_ref_model", "with `lora` the reference is the base with the adapter off");
    config.carried(
        "precompute_ref_log_probs",
        "the reference is computed when it is needed; the numbers are the same",
    );
    Some(Objective { stage, lines })
}

fn beta(config: &Section, stage: &str) -> Option<Line> {
    let keys: &[&str] = if stage == "orpo" { &["orpo_alpha", "rl_beta"] } else { &["rl_beta", "dpo_beta"] };
    let default = if stage == "simpo" { 2.0 } else { 0.1 };
    let found = keys.iter().find_map(|key| config.number(key).map(|beta| (*key, beta)));
    let Some((key, beta)) = found else {
        let tools = 0.1;
        config.import.default(format!("`rl_beta` is not written: TRL's default {tools}"));
        return (tools != default).then(|| Line::new("beta").word(number(tools)));
    };
    config.carried(key, "`beta`");
    (beta != default).then(|| Line::new("beta").word(number(beta)).from(config.key(key)))
}

fn loss_line(config: &Section, stage: &str, loss: Option<&'static str>) -> Option<Line> {
    let written = config.texts("dpo_loss_type");
    let line = |loss: &str| Line::new("loss").word(loss);
    match (stage, written.as_slice(), loss) {
        ("dpo", [], loss) => loss.map(|loss| line(loss).from(config.key("rl"))),
        ("dpo", [name], _) => {
            let Some(loss) = dpo_loss(name) else {
                config.refuse(
                    "dpo_loss_type",
                    format!("the language has no loss `{name}`"),
                    "write sigmoid, ipo, hinge, robust or apo_zero",
                );
                return None;
            };
            config.carried("dpo_loss_type", "`loss`");
            (loss != "sigmoid").then(|| line(loss).from(config.key("dpo_loss_type")))
        }
        ("dpo", _, _) => {
            config.refuse("dpo_loss_type", "several losses are added, and a stage has one", "keep one loss");
            None
        }
        _ => None,
    }
}

/// Returns the language's loss for one of TRL's DPO trainer.
pub(crate) fn dpo_loss(name: &str) -> Option<&'static str> {
    Some(match name {
        "sigmoid" => "sigmoid",
        "ipo" => "ipo",
        "hinge" => "hinge",
        "robust" => "robust",
        "apo_zero" => "apo-zero",
        "kto_pair" => "kto-pair",
        _ => return None,
    })
}

fn smoothing(config: &Section, stage: &str) -> Option<Line> {
    let share = config.number("dpo_label_smoothing")?;
    if stage != "dpo" {
        return None;
    }
    config.carried("dpo_label_smoothing", "`label-smoothing`");
    let line = Line::new("label-smoothing").word(number(share)).from(config.key("dpo_label_smoothing"));
    (share != 0.0).then_some(line)
}

fn margin(config: &Section, stage: &str) -> Option<Line> {
    if stage != "simpo" {
        return None;
    }
    if config.number("cpo_alpha").is_some_and(|alpha| alpha != 0.0) {
        config.refuse(
            "cpo_alpha",
            "SimPO with a part of plain likelihood has no word in the language",
            "write `cpo_alpha: 0`",
        );
    }
    config.carried("cpo_alpha", "off, as it is here");
    let gamma = config.number("simpo_gamma")?;
    config.carried("simpo_gamma", "`margin`");
    (gamma != 0.5).then(|| Line::new("margin").word(number(gamma)).from(config.key("simpo_gamma")))
}

fn weights(config: &Section, stage: &str) -> Option<Line> {
    if stage != "kto" {
        return None;
    }
    let mut line = Line::new("weights");
    for (key, name) in [("kto_desirable_weight", "desirable"), ("kto_undesirable_weight", "undesirable")] {
        let Some(weight) = config.number(key) else { continue };
        config.carried(key, "`weights`");
        if weight != 1.0 {
            line = line.with(name, number(weight)).from(config.key(key));
        }
    }
    (!line.is_bare()).then_some(line)
}

/// Reads the type of a dataset of preferences.
pub(crate) fn rows(dataset: &Section, config: &Section, objective: &Objective) -> Option<Rows> {
    let kind = if objective.stage == "kto" { "labelled" } else { "preference" };
    let Some(node) = dataset.node("type") else {
        dataset.missing("type", "write the dataset's type, such as `type: chatml.intel`");
        return None;
    };
    if matches!(node.value, Value::Map(_)) {
        return user_defined(&dataset.section("type")?, kind);
    }
    let name = dataset.text("type")?;
    let (family, form) = name.split_once('.').unwrap_or((&name, "default"));
    let template = match family {
        "chatml" => Template::Std("chatml"),
        "llama3" => Template::Std("llama3"),
        "zephyr" => Template::Std("zephyr"),
        "chat_template" => {
            message_keys(dataset);
            chat_template(dataset, config)?
        }
        _ => return refuse(dataset, &name),
    };
    let Some(columns) = columns(form, kind) else { return refuse(dataset, &name) };
    let drops_system = matches!(form, "intel" | "argilla" | "icr");
    if drops_system {
        dataset.changed("type", format!("`rows {kind}`; a `system` column is not read"));
    } else {
        dataset.carried("type", format!("`rows {kind}`"));
    }
    let mut rows = Rows::new(kind, Some(template));
    let renamed = columns.iter().filter(|(ours, theirs)| ours != theirs);
    rows.columns.extend(renamed.map(|(ours, theirs)| (*ours, (*theirs).to_owned())));
    rows.from.push(dataset.key("type"));
    read_roles(dataset, &mut rows);
    for (key, ours) in
        [("field_messages", "prompt"), ("field_chosen", "chosen"), ("field_rejected", "rejected")]
    {
        let Some(column) = dataset.text(key) else { continue };
        dataset.carried(key, format!("a column of `rows {kind}`"));
        rows.columns.retain(|(name, _)| *name != ours);
        if column != ours {
            rows.columns.push((ours, column));
        }
    }
    Some(rows)
}

type Columns = &'static [(&'static str, &'static str)];

/// The columns of one of axolotl's forms of preference data.
fn columns(form: &str, kind: &str) -> Option<Columns> {
    let labelled = kind == "labelled";
    Some(match form {
        "default" if !labelled => &[("prompt", "messages")],
        "argilla_chat" | "ultra" | "prompt_pairs" if !labelled => &[],
        "intel" => &[("prompt", "question")],
        "icr" if !labelled => &[("prompt", "input")],
        "argilla" if !labelled => {
            &[("prompt", "instruction"), ("chosen", "chosen_response"), ("rejected", "rejected_response")]
        }
        "argilla" => &[("prompt", "instruction")],
        "argilla_chat" | "prompt_pairs" | "ultra" => &[],
        _ => return None,
    })
}

fn refuse(dataset: &Section, name: &str) -> Option<Rows> {
    let message = format!("`{name}` is none of axolotl's types of preference data that this importer knows");
    let help = "write `chat_template.default`, or `chatml.` or `llama3.` with argilla, argilla_chat, icr, intel, prompt_pairs or ultra";
    dataset.refuse("type", message, help);
    None
}

/// A `type` that holds its own columns and formats.
fn user_defined(kind: &Section, rows: &'static str) -> Option<Rows> {
    let mut found = Rows::new(rows, None);
    let keys: &[(&str, &'static str)] = if rows == "labelled" {
        &[("field_prompt", "prompt"), ("field_completion", "completion"), ("field_label", "label")]
    } else {
        &[("field_prompt", "prompt"), ("field_chosen", "chosen"), ("field_rejected", "rejected")]
    };
    for (key, ours) in keys {
        let Some(column) = kind.text(key) else { continue };
        kind.carried(key, format!("a column of `rows {rows}`"));
        found.from.push(kind.key(key));
        if column != *ours {
            found.columns.push((ours, column));
        }
    }
    let answers = ["chosen_format", "rejected_format", "completion_format"];
    let formats: Vec<(&str, String)> =
        answers.iter().filter_map(|key| Some((*key, kind.text(key)?))).collect();
    let prompt = kind.text("prompt_format").unwrap_or_else(|| "{prompt}".to_owned());
    let user = prompt.replace("{prompt}", "{content}");
    let assistant = formats.first().map_or("{content}".to_owned(), |(_, format)| {
        ["{chosen}", "{rejected}", "{completion}"]
            .iter()
            .fold(format.clone(), |text, mark| text.replace(mark, "{content}"))
    });
    let others = formats.iter().skip(1).all(|(_, format)| {
        ["{chosen}", "{rejected}", "{completion}"]
            .iter()
            .fold(format.clone(), |text, mark| text.replace(mark, "{content}"))
            == assistant
    });
    let is_plain = |text: &str| text.matches("{content}").count() == 1 && text.matches('{').count() == 1;
    if !others || !is_plain(&user) || !is_plain(&assistant) {
        let key = if is_plain(&user) {
            formats.first().map_or("prompt_format", |(key, _)| key)
        } else {
            "prompt_format"
        };
        kind.refuse(
            key,
            "the formats cannot be said as one template",
            "write one place in each, and the same answer format twice",
        );
        return None;
    }
    for key in ["prompt_format", "chosen_format", "rejected_format", "completion_format"] {
        kind.carried(key, "a template of its own");
    }
    let assistant = if assistant.contains("{eos}") { assistant } else { format!("{assistant}{{eos}}") };
    let turns = DeclaredTemplate::Turns { system: None, user, assistant };
    found.template = Some(Template::Declared("prompt".into(), Box::new(turns)));
    Some(found)
}
