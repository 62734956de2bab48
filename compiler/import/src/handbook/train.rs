//! transformers' training arguments as children of a stage.

use super::data::{at_the_end, evaluates};
use crate::common::{self, Numbers, Shape, Warmup, optimizer_line, schedule_line};
use crate::kdl::{self, Line, number};
use crate::section::Section;
use crate::yaml::Value;

/// Writes everything that shapes the training itself.
pub(crate) fn fill(config: &Section, stage: &mut Line, kind: &str) {
    stage.push(sequence(config, kind));
    precision(config).into_iter().for_each(|line| stage.push(line));
    stage.push(batch(config));
    stage.push(budget(config));
    stage.push(optimizer(config));
    schedule(config).into_iter().for_each(|line| stage.push(line));
    adapter(config).into_iter().for_each(|line| stage.push(line));
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
            config.import.default("`packing` is not written: the script packs, here isolated in attention and positions");
        }
    }
    if let Some(prompt) = config.count("max_prompt_length") {
        match kind {
            "dpo" => {
                config.carried("max_prompt_length", "`prompt=` of `sequence`");
                line = line.with("prompt", prompt.to_string()).from(config.key("max_prompt_length"));
            }
            "orpo" => config.dropped("max_prompt_length", "rows longer than `sequence` are left out and counted, whatever their prompt"),
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
            config.changed(dtype_key, "weights have f32 masters here; the script keeps the weights themselves in bf16");
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
    config.changed("per_device_train_batch_size", "a factor of `batch`; the size of a forward is decided by the memory plan");
    config.changed("gradient_accumulation_steps", "a factor of `batch`; accumulation follows from it");
    let line = Line::new("batch").word(micro.saturating_mul(accumulation).to_string());
    let line = line.from(config.key("per_device_train_batch_size")).from(config.key("gradient_accumulation_steps"));
    line.note(common::batch_note(micro, accumulation))
}

/// The number of epochs, unless steps are stated.
fn epochs(config: &Section) -> f64 {
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
            config.drop_all(&["warmup_steps", "warmup_ratio"], "never acted: the scheduler `constant` has no warmup");
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

fn adapter(config: &Section) -> Vec<Line> {
    let four = config.flag("load_in_4bit");
    let eight = config.flag("load_in_8bit");
    if !config.flag("use_peft") {
        for (key, on) in [("load_in_4bit", four), ("load_in_8bit", eight)] {
            if on {
                config.refuse(key, format!("`{key}` without `use_peft`: quantised weights cannot be trained"), "write `use_peft: true`");
            }
        }
        config.carried("use_peft", "off, as it is here");
        return Vec::new();
    }
    config.carried("use_peft", "`lora`");
    let mut line = Line::new("lora").from(config.key("use_peft"));
    // TRL's defaults are written where the language's differ.
    for (key, name, tool, ours) in
        [("lora_r", "rank", 16.0, 16.0), ("lora_alpha", "alpha", 32.0, 16.0), ("lora_dropout", "dropout", 0.05, 0.0)]
    {
        let value = config.number(key).unwrap_or_else(|| {
            config.import.default(format!("`{key}` is not written: TRL's {tool}"));
            tool
        });
        config.carried(key, format!("`{name}=` of `lora`"));
        line = if value == ours { line } else { line.with(name, number(value)) };
        line = line.from(config.key(key));
    }
    for (key, variant) in [("use_rslora", "rslora"), ("use_dora", "dora")] {
        if config.flag(key) {
            config.carried(key, format!("`variant={variant}`"));
            line = line.with("variant", variant).from(config.key(key));
        }
    }
    weights(config, "lora_target_modules", "targets").into_iter().for_each(|child| line.push(child));
    weights(config, "lora_modules_to_save", "also").into_iter().for_each(|child| line.push(child));
    let mut lines = vec![line];
    if eight {
        config.carried("load_in_8bit", "`quantize int8`");
        lines.push(Line::new("quantize").word("int8").from(config.key("load_in_8bit")));
    } else if four {
        lines.push(quantize(config));
    }
    lines
}

fn weights(config: &Section, key: &str, child: &str) -> Option<Line> {
    let mut modules = config.texts(key);
    if modules.is_empty() && child == "targets" {
        config.import.default("`lora_target_modules` is not written: PEFT's choice for Llama-like models, q_proj and v_proj");
        modules = vec!["q_proj".into(), "v_proj".into()];
    }
    if modules.is_empty() {
        return None;
    }
    let Some((names, changed)) = common::weights(&modules) else {
        config.refuse(key, "weights are named by a pattern", "name the weights, such as `q_proj`");
        return None;
    };
    if changed {
        config.changed(key, format!("`{child}`, under the names that weights have in the language"));
    } else {
        config.carried(key, format!("`{child}`"));
    }
    Some(names.iter().fold(Line::new(child), |line, name| line.text(name)).from(config.key(key)))
}

fn quantize(config: &Section) -> Line {
    config.carried("load_in_4bit", "`quantize`");
    let kind = config.text("bnb_4bit_quant_type").unwrap_or_else(|| "nf4".into());
    if !matches!(kind.as_str(), "nf4" | "fp4") {
        config.refuse("bnb_4bit_quant_type", format!("`{kind}` is no format of 4 bits"), "write `nf4` or `fp4`");
    }
    config.carried("bnb_4bit_quant_type", "the format of `quantize`");
    let line = Line::new("quantize").word(kind).from(config.key("load_in_4bit"));
    if config.flag("use_bnb_nested_quant") {
        config.carried("use_bnb_nested_quant", "`double=#true`, the default");
        return line.from(config.key("use_bnb_nested_quant"));
    }
    config.carried("use_bnb_nested_quant", "`double=#false`");
    line.with("double", "#false")
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

/// Writes when a stage evaluates and saves, and its seed.
pub(crate) fn watch(config: &Section, stage: &mut Line, held_out: bool) {
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
        config.changed("do_eval", if is_text { format!("{why}: text is true to Python, whatever it says") } else { why.into() });
        config.drop_all(&["eval_steps"], "never acted: evaluation comes at the end");
        let every = match config.number("max_steps").filter(|steps| *steps > 0.0) {
            Some(steps) => kdl::steps(steps as f64),
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
    config.carried("save_strategy", if is_never { "no checkpoints: the result alone is saved" } else { "`checkpoint`" });
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
