//! When an axolotl run evaluates, saves and stops.

use super::Data;
use super::train::{Budget, budget_line};
use crate::kdl::{self, Line};
use crate::section::Section;
use crate::yaml::Value;

/// Writes when a stage evaluates, saves and stops, and its seed.
pub(crate) fn fill(config: &Section, stage: &mut Line, data: &Data) {
    let budget = budget_line(config).1;
    let (evaluates, line) = evaluate(config, data, budget);
    line.into_iter().for_each(|line| stage.push(line));
    checkpoint(config, evaluates, budget).into_iter().for_each(|line| stage.push(line));
    if let Some(patience) = config.count("early_stopping_patience").filter(|patience| *patience > 0) {
        if evaluates {
            config.carried("early_stopping_patience", "`stop-when`");
            let line = Line::new("stop-when").word("eval_loss").from(config.key("early_stopping_patience"));
            stage.push(if patience == 3 { line } else { line.with("rises", patience.to_string()) });
        } else {
            config.dropped("early_stopping_patience", "nothing is evaluated, so it never acted");
        }
    }
    if let Some(seed) = config.count("seed") {
        config.carried("seed", "`seed`");
        if seed != 42 {
            stage.push(Line::new("seed").word(seed.to_string()).from(config.key("seed")));
        }
    }
}

/// How often something happens: as the file says it, in steps or epochs.
fn every(config: &Section, steps: &str, per_epoch: &str, budget: Budget) -> Option<(String, String)> {
    if let Some(count) = config.number(per_epoch).filter(|count| *count > 0.0) {
        config.carried(per_epoch, "`every=` in epochs");
        return Some((epochs(1.0 / count), config.key(per_epoch)));
    }
    let value = config.number(steps).filter(|value| *value > 0.0)?;
    if value >= 1.0 {
        config.carried(steps, "`every=` in steps");
        return Some((kdl::steps(value.round()), config.key(steps)));
    }
    config.changed(steps, "`every=`: a share of the whole run, worked out");
    let every = match budget {
        Budget::Epochs(all) => epochs(all * value),
        Budget::Steps(all) => kdl::steps((all as f64 * value).ceil().max(1.0)),
    };
    Some((every, config.key(steps)))
}

fn epochs(epochs: f64) -> String {
    let rounded = (epochs * 1e6).round() / 1e6;
    let noun = if rounded == 1.0 { "epoch" } else { "epochs" };
    format!("\"{rounded} {noun}\"")
}

fn strategy_key(config: &Section) -> &'static str {
    if config.node("eval_strategy").is_some() { "eval_strategy" } else { "evaluation_strategy" }
}

/// Whether evaluation is switched off; `no` without quotes is false.
pub(crate) fn never_evaluates(config: &Section) -> bool {
    let strategy = config.node(strategy_key(config));
    strategy.is_some_and(|node| node.value == Value::Bool(false) || node.text() == Some("no"))
}

/// Returns whether the stage evaluates, and the line that says when, if it is not the default.
fn evaluate(config: &Section, data: &Data, budget: Budget) -> (bool, Option<Line>) {
    const KEYS: [&str; 4] = ["eval_strategy", "evaluation_strategy", "eval_steps", "evals_per_epoch"];
    let strategy_key = strategy_key(config);
    if !data.held_out {
        config.carried(strategy_key, "nothing is held out, so nothing is evaluated");
        config.drop_all(&KEYS, "never acted: no rows are held out");
        return (false, None);
    }
    if never_evaluates(config) {
        config.carried(strategy_key, "`evaluate none`");
        config.drop_all(&KEYS, "never acted: evaluation is off");
        return (false, Some(Line::new("evaluate").word("none").from(config.key(strategy_key))));
    }
    let found = every(config, "eval_steps", "evals_per_epoch", budget);
    config.carried("eval_strategy", "`evaluate`");
    config.carried("evaluation_strategy", "`evaluate`");
    let mut line = Line::new("evaluate");
    if let Some(on) = &data.evaluate_on {
        line = line.with("on", on);
    }
    if let Some((every, key)) = found {
        line.from.push(key);
        if every != "\"1 epoch\"" {
            line = line.with("every", every);
        }
    }
    (true, (!line.is_bare()).then_some(line))
}

fn checkpoint(config: &Section, evaluates: bool, budget: Budget) -> Option<Line> {
    let is_never = config
        .node("save_strategy")
        .is_some_and(|node| node.value == Value::Bool(false) || node.text() == Some("no"));
    if is_never {
        config.carried("save_strategy", "no checkpoints: the result alone is saved");
        config.drop_all(&["save_steps", "saves_per_epoch", "save_total_limit"], "never acted: saving is off");
        return None;
    }
    let found = every(config, "save_steps", "saves_per_epoch", budget);
    config.carried("save_strategy", "`checkpoint`");
    let (every, key) = found.unwrap_or_else(|| ("\"1 epoch\"".to_owned(), config.key("save_strategy")));
    let mut line = Line::new("checkpoint").with("every", every).from(key);
    if let Some(keep) = config.count("save_total_limit") {
        config.carried("save_total_limit", "`keep=` of `checkpoint`");
        if keep != 2 {
            line = line.with("keep", keep.max(1).to_string()).from(config.key("save_total_limit"));
        }
    }
    if config.flag("load_best_model_at_end") {
        let metric = config.text("metric_for_best_model").unwrap_or_else(|| "eval_loss".into());
        if evaluates && matches!(metric.as_str(), "eval_loss" | "loss") {
            config.carried("load_best_model_at_end", "`best=eval_loss`");
            config.carried("metric_for_best_model", "`best=eval_loss`");
            config.carried("greater_is_better", "the lowest loss is best");
            line = line.with("best", "eval_loss").from(config.key("load_best_model_at_end"));
        } else {
            config.dropped(
                "load_best_model_at_end",
                "only the lowest loss on held-out rows can pick the result",
            );
        }
    }
    Some(line)
}
