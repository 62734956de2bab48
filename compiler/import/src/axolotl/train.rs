//! axolotl's numbers of a training run as children of a stage.

use super::{Data, adapter};
use crate::common::{self, Numbers, ONLY_RISES, Rise, Shape, Warmup, optimizer_line, schedule_line};
use crate::kdl::{Line, number};
use crate::section::Section;

/// The budget of a stage, for what is stated as a share of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    Epochs(f64),
    Steps(u64),
}

/// Writes everything that shapes the training itself.
pub(crate) fn fill(config: &Section, stage: &mut Line, kind: &str, data: &Data) {
    stage.push(sequence(config, kind, data));
    stage_precision(config, stage);
    stage.push(batch(config));
    stage.push(budget_line(config).0);
    stage.push(optimizer(config));
    schedule(config).into_iter().for_each(|line| stage.push(line));
    adapter::lines(config).into_iter().for_each(|line| stage.push(line));
    loss_on(config, kind, data).into_iter().for_each(|line| stage.push(line));
}

fn sequence(config: &Section, kind: &str, data: &Data) -> Line {
    let length = config.count("sequence_len").unwrap_or_else(|| {
        config.import.default("`sequence_len` is not written: axolotl's default 512");
        512
    });
    config.carried("sequence_len", "`sequence`");
    let mut line = Line::new("sequence").word(length.to_string()).from(config.key("sequence_len"));
    if config.flag("sample_packing") {
        config.carried("sample_packing", "`pack=#true`, isolated in attention and positions");
        line = line.with("pack", "#true").from(config.key("sample_packing"));
    } else if data.streamed {
        config.changed(
            "sample_packing",
            "axolotl joins streamed texts to full sequences all the same: `pack=#true`, isolated",
        );
        line = line.with("pack", "#true").from(config.key("sample_packing"));
    } else {
        config.carried("sample_packing", "one row per sequence");
    }
    if let Some(prompt) = config.count("max_prompt_len") {
        if kind == "dpo" {
            config.carried("max_prompt_len", "`prompt=` of `sequence`");
            line = line.with("prompt", prompt.to_string()).from(config.key("max_prompt_len"));
        } else {
            config.dropped("max_prompt_len", "acts only in DPO");
        }
    }
    if let Some(strategy) = config.text("excess_length_strategy") {
        let overflow = match strategy.as_str() {
            "drop" if kind != "cpt" => None,
            "drop" => Some("drop"),
            "truncate" => Some("truncate-end"),
            "raise" => Some("error"),
            _ => {
                config.refuse(
                    "excess_length_strategy",
                    format!("axolotl has no strategy `{strategy}`"),
                    "write drop, truncate or raise",
                );
                None
            }
        };
        config.carried("excess_length_strategy", "`overflow=` of `sequence`");
        if let Some(overflow) = overflow {
            line = line.with("overflow", overflow).from(config.key("excess_length_strategy"));
        }
    }
    line
}

fn stage_precision(config: &Section, stage: &mut Line) {
    let is_auto = |key: &str| config.node(key).and_then(|node| node.text()) == Some("auto");
    let on = |key: &str| is_auto(key) || config.flag(key);
    let untouched =
        ["bf16", "bfloat16", "fp16", "float16", "float32"].iter().all(|key| config.node(key).is_none());
    for key in ["bf16", "bfloat16"] {
        if on(key) || (untouched && key == "bf16") {
            let full = config.text("adapter").is_none();
            match (is_auto(key), full) {
                (_, true) => config.changed(
                    key,
                    "`precision bf16` with f32 master weights; axolotl keeps the weights themselves in bf16",
                ),
                (true, false) => config.changed(key, "bf16 on every device"),
                (false, false) => config.carried(key, "`precision bf16`, the default"),
            }
            ["fp16", "float16", "float32"].iter().for_each(|key| config.carried(key, "off, as it is here"));
            return;
        }
    }
    ["bf16", "bfloat16"].iter().for_each(|key| config.carried(key, "off, as it is here"));
    let (word, key) = match ["fp16", "float16"].into_iter().find(|key| on(key)) {
        Some(key) => ("f16", key),
        None => ("f32", "float32"),
    };
    config.carried(key, format!("`precision {word}`"));
    if word == "f32" && config.node("float32").is_none() {
        config.import.default("neither bf16 nor fp16 is on: f32");
    }
    stage.push(Line::new("precision").word(word).from(config.key(key)));
}

fn batch(config: &Section) -> Line {
    let micro = config.count("micro_batch_size").unwrap_or(1);
    let from = ["micro_batch_size", "gradient_accumulation_steps", "batch_size"];
    let line = |batch: u64| {
        let line = Line::new("batch").word(batch.to_string());
        from.iter().fold(line, |line, key| line.from(config.key(key)))
    };
    if let Some(batch) = config.count("batch_size") {
        config.carried("batch_size", "`batch`");
        config.changed(
            "micro_batch_size",
            "the batch is `batch`; the size of a forward is decided by the memory plan",
        );
        return line(batch).note("over all devices");
    }
    let accumulation = config.count("gradient_accumulation_steps").unwrap_or(1);
    config.changed(
        "micro_batch_size",
        "a factor of `batch`; the size of a forward is decided by the memory plan",
    );
    config.changed("gradient_accumulation_steps", "a factor of `batch`; accumulation follows from it");
    line(micro.saturating_mul(accumulation)).note(common::batch_note(micro, accumulation))
}

/// Returns the budget's line and the budget itself.
pub(crate) fn budget_line(config: &Section) -> (Line, Budget) {
    if let Some(steps) = config.number("max_steps").filter(|steps| *steps > 0.0) {
        config.carried("max_steps", "`steps`");
        config.dropped("num_epochs", "never acted: `max_steps` wins");
        let steps = steps.round().max(1.0) as u64;
        return (
            Line::new("steps").word(steps.to_string()).from(config.key("max_steps")),
            Budget::Steps(steps),
        );
    }
    config.carried("max_steps", "no limit of steps");
    let epochs = config.number("num_epochs").unwrap_or_else(|| {
        let told = "`num_epochs` is not written: axolotl's default 1";
        if !config.import.defaults.borrow().iter().any(|default| default == told) {
            config.import.default(told);
        }
        1.0
    });
    config.carried("num_epochs", "`epochs`");
    (Line::new("epochs").word(number(epochs)).from(config.key("num_epochs")), Budget::Epochs(epochs))
}

fn optimizer(config: &Section) -> Line {
    let name = config.text("optimizer").unwrap_or_else(|| {
        config.import.default("`optimizer` is not written: axolotl's default, AdamW");
        "adamw_torch_fused".into()
    });
    let Some(found) = common::optimizer(&name) else {
        let help = "write an optimizer that the language has: adamw, lion, adafactor, muon, rmsprop or sgd";
        config.refuse("optimizer", format!("the language has no optimizer `{name}`"), help);
        return Line::new("optimizer");
    };
    match (found.change, found.state) {
        (Some(change), _) => config.changed("optimizer", format!("`optimizer {}`; {change}", found.word)),
        (None, Some(state)) => {
            config.carried("optimizer", format!("`optimizer {} state={state}`", found.word))
        }
        (None, None) => config.carried("optimizer", format!("`optimizer {}`", found.word)),
    }
    let get = |key: &str, why: &str| {
        let value = config.number(key)?;
        config.carried(key, why);
        Some((value, config.key(key)))
    };
    if config.number("learning_rate").is_none() {
        config.missing("learning_rate", "write the learning rate");
    }
    let is_adamw = found.word == "adamw";
    if !is_adamw {
        config.drop_all(&["adam_beta1", "adam_beta2", "adam_epsilon"], "acts only with AdamW");
    }
    let only = |key: &str| get(key, "a number of the optimizer").filter(|_| is_adamw);
    let numbers = Numbers {
        lr: get("learning_rate", "`lr`").map(|(lr, key)| match Rise::of_trainer(config, "lr_scheduler") {
            Some(rise) => (rise.reached(lr), key),
            None => (lr, key),
        }),
        weight_decay: get("weight_decay", "`weight-decay`"),
        beta1: only("adam_beta1"),
        beta2: only("adam_beta2"),
        eps: only("adam_epsilon"),
        clip: get("max_grad_norm", "`clip`").map(|(clip, key)| (clip, Some(key))),
    };
    if config.is_on("optim_args") {
        config.dropped(
            "optim_args",
            "arguments of one implementation; the numbers of `optimizer` say what is meant",
        );
    }
    let lr = numbers.lr.as_ref().map(|(lr, _)| *lr);
    let mut line = optimizer_line(&found, Some(config.key("optimizer")), numbers);
    groups(config, lr).into_iter().for_each(|group| line.push(group));
    line
}

/// Learning rates of their own for some weights.
fn groups(config: &Section, lr: Option<f64>) -> Vec<Line> {
    let mut groups = Vec::new();
    let embedding = config.number("embedding_lr").map(|lr| (lr, "embedding_lr"));
    let scaled =
        config.number("embedding_lr_scale").zip(lr).map(|(scale, lr)| (scale * lr, "embedding_lr_scale"));
    if let Some((lr, key)) = embedding.or(scaled) {
        config.carried(key, "`group` of the optimizer");
        let group = Line::new("group").word("embed_tokens").word("lm_head").with("lr", number(lr));
        groups.push(group.from(config.key(key)));
    }
    for group in config.sections("lr_groups") {
        let modules = group.texts("modules");
        let (Some((names, _)), Some(lr)) = (common::weights(&modules), group.number("lr")) else {
            group.refuse(
                "modules",
                "a learning-rate group names its weights by a pattern",
                "name the weights, such as `q_proj`",
            );
            continue;
        };
        ["name", "modules", "lr"].iter().for_each(|key| group.carried(key, "`group` of the optimizer"));
        let line = names.iter().fold(Line::new("group"), |line, name| line.text(name));
        groups.push(line.with("lr", number(lr)).from(group.key("modules")));
    }
    groups
}

fn schedule(config: &Section) -> Option<Line> {
    if let Some(rise) = Rise::of_trainer(config, "lr_scheduler") {
        config.changed("warmup_steps", ONLY_RISES);
        config.changed("lr_scheduler", "never came to its own: the warmup is longer than the run");
        return Some(rise.line().from(config.key("warmup_steps")));
    }
    let name = config.text("lr_scheduler").unwrap_or_else(|| "cosine".into());
    let Some(shape) = common::shape(&name) else {
        let help = "write cosine, linear, constant_with_warmup, inverse_sqrt or warmup_stable_decay";
        config.refuse("lr_scheduler", format!("the language has no schedule `{name}`"), help);
        return None;
    };
    let mut warmup = warmup(config);
    let word = match shape {
        Shape::Fits(word) => {
            config.carried("lr_scheduler", format!("`schedule {word}`"));
            word
        }
        Shape::Near(word, why) => {
            config.changed("lr_scheduler", format!("`schedule {word}`, {why}"));
            word
        }
        Shape::ConstantWithoutWarmup => {
            config.carried("lr_scheduler", "`schedule constant`");
            let never = "never acted: the scheduler `constant` has no warmup";
            config.drop_all(&["warmup_steps", "warmup_ratio"], never);
            warmup = Warmup::None;
            "constant"
        }
    };
    for key in ["warmup_steps", "warmup_ratio"] {
        config.carried(key, "`warmup=` of `schedule`");
    }
    let mut line = schedule_line(word, warmup, floor(config))?;
    if word == "wsd" {
        line = wsd_decay(config, line);
    }
    let from = ["lr_scheduler", "warmup_steps", "warmup_ratio", "cosine_min_lr_ratio"];
    Some(from.iter().fold(line, |line, key| line.from(config.key(key))))
}

fn warmup(config: &Section) -> Warmup {
    if let Some(steps) = config.number("warmup_steps").filter(|steps| *steps > 0.0) {
        if steps < 1.0 {
            config.changed(
                "warmup_steps",
                "a share in a number of steps: axolotl warms up for none, and so does the recipe",
            );
            return Warmup::None;
        }
        return Warmup::Steps(steps as u64);
    }
    if let Some(share) = config.number("warmup_ratio") {
        return Warmup::Share(share);
    }
    if config.node("warmup_steps").is_some() {
        return Warmup::None;
    }
    config.import.default("no warmup is written: axolotl's default, 3% (at most 100 steps there)");
    Warmup::Share(0.03)
}

fn floor(config: &Section) -> f64 {
    if let Some(ratio) = config.number("cosine_min_lr_ratio") {
        config.carried("cosine_min_lr_ratio", "`floor=` of `schedule`");
        return ratio;
    }
    let Some(kwargs) = config.section("lr_scheduler_kwargs") else { return 0.0 };
    if let Some(rate) = kwargs.number("min_lr_rate") {
        kwargs.carried("min_lr_rate", "`floor=` of `schedule`");
        return rate;
    }
    if let Some((least, lr)) = kwargs.number("min_lr").zip(config.number("learning_rate")) {
        kwargs.carried("min_lr", "`floor=` of `schedule`, as a share of `lr`");
        return if lr > 0.0 { (least / lr * 1e9).round() / 1e9 } else { 0.0 };
    }
    0.0
}

fn wsd_decay(config: &Section, line: Line) -> Line {
    let Some(kwargs) = config.section("lr_scheduler_kwargs") else { return line };
    let Some(steps) = kwargs.count("num_decay_steps").filter(|steps| *steps > 0) else { return line };
    kwargs.carried("num_decay_steps", "`decay=` of `schedule`");
    line.with("decay", steps.to_string()).from(kwargs.key("num_decay_steps"))
}

fn loss_on(config: &Section, kind: &str, data: &Data) -> Option<Line> {
    let on_inputs = config.flag("train_on_inputs");
    if kind != "sft" {
        config.carried(
            "train_on_inputs",
            match kind {
                "cpt" => "plain text is trained whole",
                _ => "preferences are compared by their answers",
            },
        );
        return None;
    }
    config.carried(
        "train_on_inputs",
        if on_inputs { "`loss-on all`" } else { "`loss-on assistant`, the default" },
    );
    (on_inputs || data.all_turns)
        .then(|| Line::new("loss-on").word("all").from(config.key("train_on_inputs")))
}
