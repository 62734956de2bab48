//! LitGPT's numbers of a training run as children of a stage.

use crate::common::{Numbers, ONLY_RISES, Optimizer, Rise, Warmup, optimizer_line, schedule_line};
use crate::kdl::{self, Line, amount, number};
use crate::section::Section;
use crate::yaml::{Node, Value};

/// Writes everything that shapes the training itself.
pub(crate) fn fill(config: &Section, stage: &mut Line, pretrains: bool) {
    let empty = Node::empty();
    let train = config.section("train").unwrap_or_else(|| Section::new(config.import, &empty, "train"));
    sequence(&train, pretrains).into_iter().for_each(|line| stage.push(line));
    precision(config).into_iter().for_each(|line| stage.push(line));
    stage.push(batch(&train, pretrains));
    stage.push(budget(&train, pretrains));
    let (line, lr) = optimizer(config, &train, pretrains);
    stage.push(line);
    schedule(&train, pretrains, lr).into_iter().for_each(|line| stage.push(line));
    lora(config).into_iter().for_each(|line| stage.push(line));
    quantize(config).into_iter().for_each(|line| stage.push(line));
    tied(&train, pretrains);
}

fn sequence(train: &Section, pretrains: bool) -> Option<Line> {
    let length = train.count("max_seq_length")?;
    let line = Line::new("sequence").word(length.to_string()).from(train.key("max_seq_length"));
    if pretrains {
        train.changed(
            "max_seq_length",
            "`sequence … pack=#true`: texts fill sequences, here isolated in attention and positions",
        );
        return Some(line.with("pack", "#true"));
    }
    train.carried("max_seq_length", "`sequence`; longer rows are cut at their end, as there");
    Some(line.with("overflow", "truncate-end"))
}

fn precision(config: &Section) -> Option<Line> {
    let line = |line: Line| Some(line.from(config.key("precision")));
    let Some(name) = config.text("precision") else {
        config.import.default("`precision` is not written: bf16 with bf16 weights where the device has it");
        return Some(Line::new("precision").word("bf16").with("master", "none"));
    };
    match name.as_str() {
        "bf16-mixed" => {
            config.carried("precision", "`precision bf16`, the default");
            None
        }
        "bf16-true" => {
            config.carried("precision", "`precision bf16 master=none`");
            line(Line::new("precision").word("bf16").with("master", "none"))
        }
        "32-true" | "32" => {
            config.carried("precision", "`precision f32`");
            line(Line::new("precision").word("f32"))
        }
        "16-mixed" => {
            config.carried("precision", "`precision f16`");
            line(Line::new("precision").word("f16"))
        }
        "16-true" => {
            config.changed("precision", "`precision f16`, with f32 master weights");
            line(Line::new("precision").word("f16"))
        }
        other => {
            config.refuse(
                "precision",
                format!("the language has no precision `{other}`"),
                "write bf16-true, bf16-mixed, 16-mixed or 32-true",
            );
            None
        }
    }
}

fn batch(train: &Section, pretrains: bool) -> Line {
    let default = if pretrains { 512 } else { 16 };
    let batch = train.count("global_batch_size").unwrap_or_else(|| {
        train.import.default(format!("`train.global_batch_size` is not written: LitGPT's {default}"));
        default
    });
    train.carried("global_batch_size", "`batch`, over all devices");
    train.changed("micro_batch_size", "the size of a forward is decided by the memory plan");
    Line::new("batch").word(batch.to_string()).from(train.key("global_batch_size"))
}

fn budget(train: &Section, pretrains: bool) -> Line {
    if train.is_on("max_time") {
        train.dropped("max_time", "a budget of time would end differently on every machine");
    }
    if pretrains {
        train.drop_all(&["epochs"], "`litgpt pretrain` does not take it");
        train.drop_all(&["max_steps"], "never acted: `litgpt pretrain` stops at `max_tokens`");
        let tokens = train.number("max_tokens").unwrap_or_else(|| {
            train.missing("max_tokens", "write the number of tokens to train on");
            0.0
        });
        train.carried("max_tokens", "`tokens`");
        return Line::new("tokens").word(amount(tokens, "tokens")).from(train.key("max_tokens"));
    }
    train.drop_all(&["max_tokens"], "`litgpt finetune` does not take it");
    if let Some(steps) = train.count("max_steps").filter(|steps| *steps > 0) {
        if train.is_on("epochs") {
            train.changed("max_steps", "`steps`; there the epochs may end earlier");
            train.dropped("epochs", "a stage has one budget: `max_steps`");
        }
        train.carried("max_steps", "`steps`");
        return Line::new("steps").word(steps.to_string()).from(train.key("max_steps"));
    }
    let epochs = train.number("epochs").unwrap_or_else(|| {
        train.import.default("`train.epochs` is not written: LitGPT's 5");
        5.0
    });
    train.carried("epochs", "`epochs`");
    Line::new("epochs").word(number(epochs)).from(train.key("epochs"))
}

/// Returns the optimizer and its learning rate.
fn optimizer(config: &Section, train: &Section, pretrains: bool) -> (Line, f64) {
    let section = config.section("optimizer");
    let class = match &section {
        Some(section) => section.text("class_path"),
        None => config.text("optimizer"),
    };
    let class = class.unwrap_or_else(|| {
        config.import.default("`optimizer` is not written: torch's AdamW");
        "torch.optim.AdamW".into()
    });
    let found = by_class(&class);
    match (&section, &found) {
        (Some(section), Some(found)) => mark(section, "class_path", found),
        (None, Some(found)) => mark(config, "optimizer", found),
        (_, None) => {
            let help = "write torch.optim.AdamW, or another optimizer that the language has";
            config.refuse("optimizer", format!("the language has no optimizer `{class}`"), help);
            return (Line::new("optimizer"), 0.0);
        }
    }
    let found = found.expect("a class without a counterpart returned above");
    let empty = Node::empty();
    let path = config.key("optimizer.init_args");
    let args = section.as_ref().and_then(|section| section.section("init_args"));
    let args = args.unwrap_or_else(|| Section::new(config.import, &empty, path));
    (
        line(config, train, &found, &args, pretrains, class.ends_with(".Adam")),
        args.number("lr").unwrap_or(1e-3),
    )
}

fn mark(section: &Section, key: &str, found: &Optimizer) {
    match found.change {
        Some(change) => section.changed(key, format!("`optimizer {}`; {change}", found.word)),
        None => section.carried(key, format!("`optimizer {}`", found.word)),
    }
}

fn line(
    config: &Section,
    train: &Section,
    found: &Optimizer,
    args: &Section,
    pretrains: bool,
    coupled: bool,
) -> Line {
    let get = |key: &str| {
        let value = args.number(key)?;
        args.carried(key, "a number of the optimizer");
        Some((value, args.key(key)))
    };
    let default = |key: &str, value: f64| {
        config.import.default(format!("`{key}` of the optimizer is not written: torch's {}", number(value)));
        Some((value, args.key(key)))
    };
    let is_adamw = found.word == "adamw";
    let decay = get("weight_decay")
        .or_else(|| if is_adamw && !coupled { default("weight_decay", 0.01) } else { None });
    if coupled && decay.as_ref().is_some_and(|(decay, _)| *decay != 0.0) {
        args.refuse(
            "weight_decay",
            "Adam's decay is part of the gradient, the language's is not",
            "use torch.optim.AdamW, or no decay",
        );
    }
    let betas = args.node("betas").map(Node::items).unwrap_or_default();
    let beta = |at: usize| match betas.get(at).map(|node| &node.value) {
        Some(Value::Float(value)) => Some((*value, args.key("betas"))),
        Some(Value::Int(value)) => Some((*value as f64, args.key("betas"))),
        Some(Value::Text(text)) => text.parse().ok().map(|value| (value, args.key("betas"))),
        _ => None,
    };
    if args.node("betas").is_some() {
        args.carried("betas", "`beta1=` and `beta2=`");
    }
    let clip = if pretrains {
        train.carried("max_norm", "`clip=`");
        train.number("max_norm").map(|clip| (clip, Some(train.key("max_norm"))))
    } else {
        // `litgpt finetune` does not clip, whatever the file says.
        train.drop_all(&["max_norm"], "`litgpt finetune` does not take it");
        Some((0.0, None))
    };
    let numbers = Numbers {
        lr: get("lr").or_else(|| default("lr", 1e-3)).map(|(lr, key)| match only_rises(train, pretrains) {
            Some(rise) => (rise.reached(lr), key),
            None => (lr, key),
        }),
        weight_decay: decay,
        beta1: beta(0),
        beta2: beta(1),
        eps: if is_adamw { get("eps") } else { None },
        clip,
    };
    let key = if config.section("optimizer").is_some() { "optimizer.class_path" } else { "optimizer" };
    for kernel in ["fused", "foreach", "capturable", "amsgrad", "maximize", "differentiable"] {
        if args.is_on(kernel) && matches!(kernel, "amsgrad" | "maximize") {
            args.refuse(kernel, format!("`{kernel}` has no word in the language"), "remove it");
        }
        args.carried(kernel, "kernels are chosen by the compiler");
    }
    let mut line = optimizer_line(found, Some(key.to_owned()), numbers);
    if let Some((momentum, key)) = get("momentum").filter(|(momentum, _)| !is_adamw && *momentum != 0.0) {
        line = line.with("momentum", number(momentum)).from(key);
    }
    line
}

fn by_class(class: &str) -> Option<Optimizer> {
    let of = |word, state, change| Some(Optimizer { word, state, change });
    match class.rsplit('.').next().unwrap_or(class) {
        "AdamW" | "Adam" => of("adamw", None, None),
        "AdamW8bit" => of("adamw", Some("int8"), None),
        "PagedAdamW" | "PagedAdamW32bit" => {
            of("adamw", None, Some("paging to host memory is left to the memory plan"))
        }
        "PagedAdamW8bit" => {
            of("adamw", Some("int8"), Some("paging to host memory is left to the memory plan"))
        }
        "Lion" => of("lion", None, None),
        "Adafactor" => of("adafactor", None, None),
        "RMSprop" => of("rmsprop", None, None),
        "SGD" => of("sgd", None, None),
        "Muon" => of("muon", None, None),
        _ => None,
    }
}

/// A warmup beyond the steps of a finetuning run.
fn only_rises(train: &Section, pretrains: bool) -> Option<Rise> {
    if pretrains {
        return None;
    }
    Rise::of(train.number("lr_warmup_steps"), train.number("max_steps").filter(|steps| *steps > 0.0))
}

fn schedule(train: &Section, pretrains: bool, lr: f64) -> Option<Line> {
    if let Some(rise) = only_rises(train, pretrains) {
        train.changed("lr_warmup_steps", ONLY_RISES);
        train.drop_all(&["min_lr"], "never acted: `litgpt finetune` takes the rate down to 0");
        return Some(rise.line().from(train.key("lr_warmup_steps")));
    }
    let default = if pretrains { 2000 } else { 100 };
    let steps = train.count("lr_warmup_steps");
    let fraction = train.number("lr_warmup_fraction");
    let warmup = match (steps, fraction) {
        (Some(steps), _) => Warmup::Steps(steps),
        (None, Some(fraction)) => {
            let epochs = train.number("epochs").filter(|epochs| *epochs > 0.0).unwrap_or(1.0);
            train.changed(
                "lr_warmup_fraction",
                "a share of one epoch there, of the whole stage here: worked out",
            );
            Warmup::Share(fraction / epochs)
        }
        (None, None) if train.node.get("lr_warmup_steps").is_some() => Warmup::None,
        (None, None) => {
            train.import.default(format!("`train.lr_warmup_steps` is not written: LitGPT's {default}"));
            Warmup::Steps(default)
        }
    };
    train.carried("lr_warmup_steps", "`warmup=` of `schedule`");
    let mut floor = 0.0;
    if pretrains {
        let least = train.number("min_lr").unwrap_or_else(|| {
            train.import.default("`train.min_lr` is not written: LitGPT's 4e-5");
            4e-5
        });
        train.carried("min_lr", "`floor=` of `schedule`, as a share of `lr`");
        floor = if lr > 0.0 { (least / lr * 1e9).round() / 1e9 } else { 0.0 };
    } else {
        train.drop_all(&["min_lr"], "never acted: `litgpt finetune` takes the rate down to 0");
    }
    let line = schedule_line("cosine", warmup, floor)?;
    Some(line.from(train.key("lr_warmup_steps")).from(train.key("min_lr")))
}

/// LitGPT's places for adapters, under the names of weights.
const PLACES: [(&str, bool, &[&str]); 6] = [
    ("lora_query", true, &["q_proj"]),
    ("lora_key", false, &["k_proj"]),
    ("lora_value", true, &["v_proj"]),
    ("lora_projection", false, &["o_proj"]),
    ("lora_mlp", false, &["gate_proj", "up_proj", "down_proj"]),
    ("lora_head", false, &["lm_head"]),
];

fn lora(config: &Section) -> Option<Line> {
    let keys = ["lora_r", "lora_alpha", "lora_dropout"];
    let places = PLACES.iter().map(|(key, ..)| *key);
    if !keys.into_iter().chain(places).any(|key| config.node.get(key).is_some()) {
        return None;
    }
    let mut line = Line::new("lora");
    for (key, name, tool, ours) in [
        ("lora_r", "rank", 8.0, 16.0),
        ("lora_alpha", "alpha", 16.0, 16.0),
        ("lora_dropout", "dropout", 0.05, 0.0),
    ] {
        let value = config.number(key).unwrap_or_else(|| {
            config.import.default(format!("`{key}` is not written: LitGPT's {tool}"));
            tool
        });
        config.carried(key, format!("`{name}=` of `lora`"));
        line = if value == ours { line } else { line.with(name, number(value)) };
        line = line.from(config.key(key));
    }
    let mut targets = Line::new("targets");
    for (key, default, weights) in PLACES {
        config.carried(key, "`targets`");
        if config.switch(key).unwrap_or(default) {
            targets.from.push(config.key(key));
            targets = weights.iter().fold(targets, |line, weight| line.word(*weight));
        }
    }
    Some(line.child(targets))
}

fn quantize(config: &Section) -> Option<Line> {
    let name = config.text("quantize")?;
    let short = name.strip_prefix("bnb.").unwrap_or(&name);
    let (word, double) = match short {
        "nf4" => ("nf4", false),
        "nf4-dq" => ("nf4", true),
        "fp4" => ("fp4", false),
        "fp4-dq" => ("fp4", true),
        "int8-training" | "int8" => ("int8", true),
        other => {
            config.refuse(
                "quantize",
                format!("the language has no quantisation `{other}`"),
                "write bnb.nf4, bnb.fp4 or bnb.int8-training",
            );
            return None;
        }
    };
    config.carried("quantize", "`quantize`");
    let line = Line::new("quantize").word(word).from(config.key("quantize"));
    Some(if double { line } else { line.with("double", "#false") })
}

fn tied(train: &Section, pretrains: bool) {
    if pretrains {
        train.carried("tie_embeddings", "tied-ness is part of the model");
    } else {
        train.drop_all(&["tie_embeddings"], "`litgpt finetune` does not take it");
    }
}

/// Writes when a stage evaluates and saves, and its seed.
pub(crate) fn watch(config: &Section, stage: &mut Line, pretrains: bool, held_out: bool) {
    let empty = Node::empty();
    let eval = config.section("eval").unwrap_or_else(|| Section::new(config.import, &empty, "eval"));
    let default = if pretrains { 1000 } else { 100 };
    if held_out {
        let steps = eval.count("interval").filter(|steps| *steps > 0).unwrap_or(default);
        eval.carried("interval", "`evaluate every=`");
        stage.push(Line::new("evaluate").with("every", kdl::steps(steps as f64)).from(eval.key("interval")));
        eval.drop_all(&["max_iters"], "all held-out rows are evaluated, not the first batches");
        eval.drop_all(
            &["max_new_tokens", "evaluate_example"],
            "add `sample` with a prompt for answers during training",
        );
        for (key, when) in
            [("initial_validation", "before its first step"), ("final_validation", "after its last step")]
        {
            if eval.is_on(key) {
                eval.carried(key, format!("a stage evaluates {when}"));
            } else if eval.node(key).is_some() {
                eval.dropped(key, format!("a stage evaluates {when} all the same"));
            }
        }
    } else {
        let why = "the class holds rows out by itself; add `holdout` to the dataset to evaluate";
        eval.drop_all(
            &[
                "interval",
                "max_iters",
                "max_new_tokens",
                "initial_validation",
                "final_validation",
                "evaluate_example",
            ],
            why,
        );
    }
    let train = config.section("train").unwrap_or_else(|| Section::new(config.import, &empty, "train"));
    if let Some(steps) = train.count("save_interval").filter(|steps| *steps > 0) {
        train.carried("save_interval", "`checkpoint every=`");
        stage.push(
            Line::new("checkpoint").with("every", kdl::steps(steps as f64)).from(train.key("save_interval")),
        );
    }
    if let Some(seed) = config.count("seed") {
        config.carried("seed", "`seed`");
        if seed != 42 {
            stage.push(Line::new("seed").word(seed.to_string()).from(config.key("seed")));
        }
    }
}
