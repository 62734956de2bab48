//! When a run of alignment-handbook evaluates and saves.

use super::data::{at_the_end, evaluates};
use super::train::epochs;
use crate::kdl::{self, Line};
use crate::section::Section;
use crate::yaml::Value;

/// Writes when a stage evaluates and saves, and its seed.
pub(crate) fn fill(config: &Section, stage: &mut Line, held_out: bool) {
    evaluate(config, held_out).into_iter().for_each(|line| stage.push(line));
    checkpoint(config).into_iter().for_each(|line| stage.push(line));
    if let Some(seed) = config.count("seed") {
        config.carried("seed", "`seed`");
        if seed != 42 {
            stage.push(Line::new("seed").word(seed.to_string()).from(config.key("seed")));
        }
    }
}

fn evaluate(config: &Section, held_out: bool) -> Option<Line> {
    let key = if config.node("eval_strategy").is_some() { "eval_strategy" } else { "evaluation_strategy" };
    if !evaluates(config) {
        config.carried(key, "nothing is evaluated");
        config.carried("do_eval", "nothing is evaluated");
        config.drop_all(&["eval_steps", "eval_delay"], "never acted: evaluation is off");
        return None;
    }
    if !held_out {
        config.drop_all(&[key, "eval_steps", "do_eval"], "never acted: there is no test split");
        return None;
    }
    let strategy = config.node(key);
    config.carried(key, "`evaluate`");
    let is_off = strategy.is_none_or(|node| node.value == Value::Bool(false) || node.text() == Some("no"));
    if is_off && at_the_end(config) {
        let why = "`evaluate` once, at the end of training";
        let is_text = config.node("do_eval").and_then(|node| node.text()).is_some();
        config.changed(
            "do_eval",
            if is_text { format!("{why}: text is true to Python, whatever it says") } else { why.into() },
        );
        config.drop_all(&["eval_steps"], "never acted: evaluation comes at the end");
        let every = match config.number("max_steps").filter(|steps| *steps > 0.0) {
            Some(steps) => kdl::steps(steps),
            None => format!("\"{} epochs\"", epochs(config)),
        };
        return Some(Line::new("evaluate").with("every", every).from(config.key("do_eval")));
    }
    config.carried("do_eval", "`evaluate`");
    if strategy.and_then(|node| node.text()) != Some("steps") {
        config.drop_all(&["eval_steps"], "never acted: evaluation goes by epochs");
        return None;
    }
    let every = steps(config, "eval_steps", None)?;
    Some(Line::new("evaluate").with("every", every).from(config.key("eval_steps")).from(config.key(key)))
}

/// A number of steps, or a share of the whole run.
fn steps(config: &Section, key: &str, default: Option<f64>) -> Option<String> {
    let count = config.number(key).or(default).or_else(|| config.number("logging_steps"))?;
    if count >= 1.0 {
        config.carried(key, "`every=` in steps");
        return Some(kdl::steps(count.round()));
    }
    if count <= 0.0 {
        return None;
    }
    config.changed(key, "`every=`: a share of the whole run, worked out");
    Some(match config.number("max_steps").filter(|steps| *steps > 0.0) {
        Some(all) => kdl::steps((all * count).ceil().max(1.0)),
        None => format!("\"{} epochs\"", (epochs(config) * count * 1e6).round() / 1e6),
    })
}

fn checkpoint(config: &Section) -> Option<Line> {
    let strategy = config.node("save_strategy");
    let is_never = strategy.is_some_and(|node| node.value == Value::Bool(false) || node.text() == Some("no"));
    config.carried(
        "save_strategy",
        if is_never { "no checkpoints: the result alone is saved" } else { "`checkpoint`" },
    );
    if is_never {
        config.drop_all(&["save_steps", "save_total_limit"], "never acted: saving is off");
        return None;
    }
    let every = match strategy.and_then(|node| node.text()) {
        Some("epoch") => {
            config.drop_all(&["save_steps"], "never acted: saving goes by epochs");
            "\"1 epoch\"".to_owned()
        }
        _ => steps(config, "save_steps", Some(500.0))?,
    };
    let mut line = Line::new("checkpoint").with("every", every);
    line.from.extend([config.key("save_steps"), config.key("save_strategy")]);
    if let Some(keep) = config.count("save_total_limit") {
        config.carried("save_total_limit", "`keep=` of `checkpoint`");
        if keep != 2 {
            line = line.with("keep", keep.max(1).to_string()).from(config.key("save_total_limit"));
        }
    }
    if config.flag("load_best_model_at_end") {
        let metric = config.text("metric_for_best_model").unwrap_or_else(|| "eval_loss".into());
        if evaluates(config) && matches!(metric.as_str(), "eval_loss" | "loss") {
            ["load_best_model_at_end", "metric_for_best_model", "greater_is_better"]
                .iter()
                .for_each(|key| config.carried(key, "`best=eval_loss`"));
            line = line.with("best", "eval_loss").from(config.key("load_best_model_at_end"));
        }
    }
    Some(line)
}
