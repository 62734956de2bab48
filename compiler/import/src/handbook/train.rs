//! transformers' training arguments as children of a stage.

use super::adapter;
use crate::common::{self, Numbers, ONLY_RISES, Rise, Shape, Warmup, optimizer_line, schedule_line};
use crate::kdl::{Line, number};
use crate::section::Section;

/// Writes everything that shapes the training itself.
pub(crate) fn fill(config: &Section, stage: &mut Line, kind: &str) {
    stage.push(sequence(config, kind));
    precision(config).into_iter().for_each(|line| stage.push(line));
    stage.push(batch(config));
    stage.push(budget(config));
    stage.push(optimizer(config));
    schedule(config).into_iter().for_each(|line| stage.push(line));
    adapter::lines(config).into_iter().for_each(|line| stage.push(line));
    if kind == "sft" {
        loss_on(config).into_iter().for_each(|line| stage.push(line));
    }
}

fn sequence(config: &Section, kind: &str) -> Line {
    let keys: [&str; 2] = match kind {
        "cpt" | "sft" => ["max_seq_length", "max_length"],
        _ => ["max_length", "max_seq_length"],
    };
    let found = keys.iter().find_map(|key| config.count(key).map(|length| (*key, length)));
    let (key, length) = found.unwrap_or_else(|| {
        config.import.default(format!("`{}` is not written: TRL's default 1024", keys[0]));
        (keys[0], 1024)
    });
    config.carried(key, "`sequence`");
    let mut line = Line::new("sequence").word(length.to_string()).from(config.key(key));
    if matches!(kind, "cpt" | "sft") {
        let packs = config.switch("packing");
        config.carried("packing", "`pack=` of `sequence`, isolated in attention and positions");
        let older = config.is_on("dataset_mixer");
        if packs == Some(true) || packs.is_none() && older {
            line = line.with("pack", "#true").from(config.key("packing"));
        }
        if packs.is_none() && older {
            config.import.default(
                "`packing` is not written: the script packs, here isolated in attention and positions",
            );
        }
    }
    if let Some(prompt) = config.count("max_prompt_length") {
        match kind {
            "dpo" => {
                config.carried("max_prompt_length", "`prompt=` of `sequence`");
                line = line.with("prompt", prompt.to_string()).from(config.key("max_prompt_length"));
            }
            "orpo" => config.dropped(
                "max_prompt_length",
                "rows longer than `sequence` are left out and counted, whatever their prompt",
            ),
            _ => {}
        }
    }
    line
}

fn precision(config: &Section) -> Option<Line> {
    let dtype_key = if config.node("dtype").is_some() { "dtype" } else { "torch_dtype" };
    let dtype = config.text(dtype_key);
    let (word, key) = if config.flag("bf16") {
        ("bf16", "bf16")
    } else if config.flag("fp16") {
        ("f16", "fp16")
    } else {
        match dtype.as_deref() {
            Some("bfloat16") => ("bf16", dtype_key),
            Some("float16") => ("f16", dtype_key),
            _ => ("f32", "bf16"),
        }
    };
    config.carried("bf16", format!("`precision {word}`"));
    config.carried("fp16", format!("`precision {word}`"));
    match dtype.as_deref() {
        Some("bfloat16") if !config.flag("use_peft") && word == "bf16" => {
            config.changed(
                dtype_key,
                "weights have f32 masters here; the script keeps the weights themselves in bf16",
            );
        }
        Some("float16") if word == "bf16" => config.changed(dtype_key, "bf16 throughout, as `bf16` asks for"),
        _ => config.carried(dtype_key, format!("`precision {word}`")),
    }
    (word != "bf16").then(|| Line::new("precision").word(word).from(config.key(key)))
}

fn batch(config: &Section) -> Line {
    let told = config.is_on("per_device_train_batch_size");
    let micro = config.count("per_device_train_batch_size").unwrap_or(8);
    if !told {
        config.import.default("`per_device_train_batch_size` is not written: transformers' 8");
    }
    let accumulation = config.count("gradient_accumulation_steps").unwrap_or(1);
    config.changed(
        "per_device_train_batch_size",
        "a factor of `batch`; the size of a forward is decided by the memory plan",
    );
    config.changed("gradient_accumulation_steps", "a factor of `batch`; accumulation follows from it");
    let line = Line::new("batch").word(micro.saturating_mul(accumulation).to_string());
    let line =
        line.from(config.key("per_device_train_batch_size")).from(config.key("gradient_accumulation_steps"));
    line.note(common::batch_note(micro, accumulation))
}

/// The number of epochs, unless steps are stated.
pub(crate) fn epochs(config: &Section) -> f64 {
    config.number("num_train_epochs").unwrap_or(3.0)
}

fn budget(config: &Section) -> Line {
    if let Some(steps) = config.number("max_steps").filter(|steps| *steps > 0.0) {
        config.carried("max_steps", "`steps`");
        config.dropped("num_train_epochs", "never acted: `max_steps` wins");
        return Line::new("steps").word(steps.round().max(1.0).to_string()).from(config.key("max_steps"));
    }
    config.carried("max_steps", "no limit of steps");
    if config.node("num_train_epochs").is_none() {
        config.import.default("`num_train_epochs` is not written: transformers' 3");
    }
    config.carried("num_train_epochs", "`epochs`");
    Line::new("epochs").word(number(epochs(config))).from(config.key("num_train_epochs"))
}

fn optimizer(config: &Section) -> Line {
    let name = config.text("optim").unwrap_or_else(|| "adamw_torch".into());
    let Some(found) = common::optimizer(&name) else {
        let help = "write an optimizer that the language has: adamw, lion, adafactor, muon, rmsprop or sgd";
        config.refuse("optim", format!("the language has no optimizer `{name}`"), help);
        return Line::new("optimizer");
    };
    match found.change {
        Some(change) => config.changed("optim", format!("`optimizer {}`; {change}", found.word)),
        None => config.carried("optim", format!("`optimizer {}`", found.word)),
    }
    let get = |key: &str| {
        let value = config.number(key)?;
        config.carried(key, "a number of the optimizer");
        Some((value, config.key(key)))
    };
    let is_adamw = found.word == "adamw";
    if !is_adamw {
        config.drop_all(&["adam_beta1", "adam_beta2", "adam_epsilon"], "acts only with AdamW");
    }
    let only = |key: &str| if is_adamw { get(key) } else { None };
    let lr = get("learning_rate").unwrap_or_else(|| {
        config.import.default("`learning_rate` is not written: transformers' 5e-5");
        (5e-5, config.key("learning_rate"))
    });
    let lr = match Rise::of_trainer(config, "lr_scheduler_type") {
        Some(rise) => (rise.reached(lr.0), lr.1),
        None => lr,
    };
    let numbers = Numbers {
        lr: Some(lr),
        weight_decay: get("weight_decay"),
        beta1: only("adam_beta1"),
        beta2: only("adam_beta2"),
        eps: only("adam_epsilon"),
        clip: get("max_grad_norm").map(|(clip, key)| (clip, Some(key))),
    };
    optimizer_line(&found, Some(config.key("optim")), numbers)
}

fn schedule(config: &Section) -> Option<Line> {
    if let Some(rise) = Rise::of_trainer(config, "lr_scheduler_type") {
        config.changed("warmup_steps", ONLY_RISES);
        config.changed("lr_scheduler_type", "never came to its own: the warmup is longer than the run");
        return Some(rise.line().from(config.key("warmup_steps")));
    }
    let name = config.text("lr_scheduler_type").unwrap_or_else(|| {
        config.import.default("`lr_scheduler_type` is not written: transformers' linear");
        "linear".into()
    });
    let Some(shape) = common::shape(&name) else {
        let help = "write cosine, linear, constant_with_warmup, inverse_sqrt or warmup_stable_decay";
        config.refuse("lr_scheduler_type", format!("the language has no schedule `{name}`"), help);
        return None;
    };
    let steps = config.count("warmup_steps").filter(|steps| *steps > 0);
    let share = config.number("warmup_ratio").filter(|share| *share > 0.0);
    let mut warmup = match (steps, share) {
        (Some(steps), _) => Warmup::Steps(steps),
        (None, Some(share)) => Warmup::Share(share),
        (None, None) => Warmup::None,
    };
    let word = match shape {
        Shape::Fits(word) => {
            config.carried("lr_scheduler_type", format!("`schedule {word}`"));
            word
        }
        Shape::Near(word, why) => {
            config.changed("lr_scheduler_type", format!("`schedule {word}`, {why}"));
            word
        }
        Shape::ConstantWithoutWarmup => {
            config.carried("lr_scheduler_type", "`schedule constant`");
            config.drop_all(
                &["warmup_steps", "warmup_ratio"],
                "never acted: the scheduler `constant` has no warmup",
            );
            warmup = Warmup::None;
            "constant"
        }
    };
    if steps.is_some() && share.is_some() {
        config.dropped("warmup_ratio", "never acted: `warmup_steps` wins");
    }
    config.carried("warmup_steps", "`warmup=` of `schedule`");
    config.carried("warmup_ratio", "`warmup=` of `schedule`");
    let line = schedule_line(word, warmup, floor(config))?;
    let from = ["lr_scheduler_type", "warmup_steps", "warmup_ratio"];
    Some(from.iter().fold(line, |line, key| line.from(config.key(key))))
}

fn floor(config: &Section) -> f64 {
    let Some(kwargs) = config.section("lr_scheduler_kwargs") else { return 0.0 };
    if let Some(rate) = kwargs.number("min_lr_rate") {
        kwargs.carried("min_lr_rate", "`floor=` of `schedule`");
        return rate;
    }
    let Some((least, lr)) = kwargs.number("min_lr").zip(config.number("learning_rate")) else { return 0.0 };
    kwargs.carried("min_lr", "`floor=` of `schedule`, as a share of `lr`");
    if lr > 0.0 { (least / lr * 1e9).round() / 1e9 } else { 0.0 }
}

fn loss_on(config: &Section) -> Option<Line> {
    if config.flag("assistant_only_loss") {
        config.carried("assistant_only_loss", "`loss-on assistant`, the default");
        return None;
    }
    if config.flag("completion_only_loss") {
        config.carried("completion_only_loss", "`loss-on completion`");
        return Some(Line::new("loss-on").word("completion").from(config.key("completion_only_loss")));
    }
    config.carried("assistant_only_loss", "`loss-on all`");
    config.import.default("the script trains on every token, the prompts too: `loss-on all`");
    Some(Line::new("loss-on").word("all"))
}
