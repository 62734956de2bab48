//! LitGPT's data modules: Python classes, of which the file holds the name and the arguments.

use crate::common::{DeclaredTemplate, Template};
use crate::kdl::{Line, percent};
use crate::section::Section;

/// What the data of a file came to.
pub(crate) struct Data {
    pub lines: Vec<Line>,
    pub name: String,
    pub template: Option<String>,
    pub held_out: bool,
    pub loss_on: Option<Line>,
}

/// A data module of LitGPT that reads a public dataset.
struct Known {
    class: &'static str,
    source: &'static str,
    rows: &'static str,
    columns: &'static [(&'static str, &'static str)],
    /// Train and eval split, when the set has them.
    splits: Option<(&'static str, &'static str)>,
    /// What it holds out unless told otherwise.
    holds_out: f64,
}

const KNOWN: [Known; 7] = [
    Known {
        class: "Alpaca",
        source: "https://raw.githubusercontent.com/tloen/alpaca-lora/main/alpaca_data_cleaned_archive.json",
        rows: "instruction",
        columns: &[],
        splits: None,
        holds_out: 0.03865,
    },
    Known {
        class: "Alpaca2k",
        source: "hf:mhenrichsen/alpaca_2k_test",
        rows: "instruction",
        columns: &[],
        splits: None,
        holds_out: 0.05,
    },
    Known {
        class: "AlpacaGPT4",
        source: "https://raw.githubusercontent.com/Instruction-Tuning-with-GPT-4/GPT-4-LLM/main/data/alpaca_gpt4_data.json",
        rows: "instruction",
        columns: &[],
        splits: None,
        holds_out: 0.03847,
    },
    Known {
        class: "Dolly",
        source: "https://huggingface.co/datasets/databricks/databricks-dolly-15k/resolve/main/databricks-dolly-15k.jsonl",
        rows: "instruction",
        columns: &[("input", "context"), ("output", "response")],
        splits: None,
        holds_out: 0.1,
    },
    Known {
        class: "Deita",
        source: "hf:HuggingFaceH4/deita-10k-v0-sft",
        rows: "chat",
        columns: &[],
        splits: Some(("train_sft", "test_sft")),
        holds_out: 0.0,
    },
    Known {
        class: "TinyStories",
        source: "hf:roneneldan/TinyStories",
        rows: "text",
        columns: &[],
        splits: Some(("train", "validation")),
        holds_out: 0.0,
    },
    Known {
        class: "OpenWebText",
        source: "hf:Skylion007/openwebtext",
        rows: "text",
        columns: &[],
        splits: None,
        holds_out: 0.0005,
    },
];

/// Reads `data`.
pub(crate) fn read(config: &Section, pretrains: bool) -> Data {
    let mut data =
        Data { lines: Vec::new(), name: "data".into(), template: None, held_out: false, loss_on: None };
    let Some(class) = class_path(config) else {
        config.missing("data", "name the data module, such as `class_path: litgpt.data.JSON`");
        return data;
    };
    let module = config.section("data");
    let empty = crate::yaml::Node::empty();
    let args = module.as_ref().and_then(|module| module.section("init_args"));
    let args = args.unwrap_or_else(|| Section::new(config.import, &empty, "data.init_args"));
    let short = class.rsplit('.').next().unwrap_or(&class).to_owned();
    let is_own = class.starts_with("litgpt.data.") || !class.contains('.');
    let known = KNOWN.iter().find(|known| is_own && known.class == short);
    let mut line = match (known, short.as_str()) {
        (Some(known), _) => public(config, known, &mut data),
        (None, "JSON") if is_own => json(config, &args, &mut data),
        (None, "TextFiles") if is_own => text_files(config, &args, &mut data),
        _ => by_hand(config, &class, &short, &args, pretrains, &mut data),
    };
    let whole_rows = |rows: &str| (rows == "text") != pretrains;
    if known.is_some_and(|known| whole_rows(known.rows)) || (pretrains && short == "JSON") {
        config.refuse(
            "data",
            format!("`{short}` does not fit this kind of run"),
            "name a data module of texts for pretraining, of instructions for finetuning",
        );
    }
    hold_out(&args, known, &mut line, &mut data);
    data.lines.push(line);
    if !pretrains {
        prompt_style(&args, &mut data);
        loss_on(&args, &mut data);
    }
    data
}

/// `data` is a class with its arguments, or a class alone.
fn class_path(config: &Section) -> Option<String> {
    match config.section("data") {
        Some(data) => data.text("class_path"),
        None => config.text("data"),
    }
}

fn mark_class(config: &Section, changed: Option<&str>, why: &str) {
    let mark = |section: &Section, key: &str| match changed {
        Some(text) => section.changed(key, text),
        None => section.carried(key, why),
    };
    match config.section("data") {
        Some(data) => mark(&data, "class_path"),
        None => mark(config, "data"),
    }
}

fn public(config: &Section, known: &Known, data: &mut Data) -> Line {
    mark_class(config, None, "the public dataset that the class reads");
    let name = config.import.name(known.class, "rows");
    data.name.clone_from(&name);
    let mut rows = Line::new("rows").word(known.rows);
    for (ours, theirs) in known.columns {
        rows = rows.with_text(ours, theirs);
    }
    let mut line = Line::new("dataset").word(name).quoted(known.source).from("data.class_path").child(rows);
    if let Some((train, eval)) = known.splits {
        line.push(Line::new("split").with_text("train", train).with_text("eval", eval));
        data.held_out = true;
    }
    line
}

/// Rows of instruction, input and output in a JSON or JSONL file.
fn json(config: &Section, args: &Section, data: &mut Data) -> Line {
    mark_class(config, None, "`rows instruction`");
    let path = args.text("json_path").unwrap_or_else(|| {
        args.missing("json_path", "name the file of instructions");
        "data.json".into()
    });
    args.carried("json_path", "the source of the dataset");
    let name = config.import.name(&path, "rows");
    data.name.clone_from(&name);
    let mut line = Line::new("dataset").word(name).quoted(&path).from(args.key("json_path"));
    line.push(Line::new("rows").word("instruction").from("data.class_path"));
    // A folder holds train and val files; a file needs a share.
    let is_file = path.ends_with(".json") || path.ends_with(".jsonl");
    if !is_file {
        line.push(Line::new("split").word("train=train").word("eval=val"));
        data.held_out = true;
    }
    line
}

fn text_files(config: &Section, args: &Section, data: &mut Data) -> Line {
    mark_class(config, None, "`rows text`: every file a text");
    let path = args.text("train_data_path").unwrap_or_else(|| {
        args.missing("train_data_path", "name the folder of texts");
        "texts".into()
    });
    args.carried("train_data_path", "the source of the dataset");
    args.dropped("val_data_path", "declare it as a dataset and name it with `evaluate on=`");
    let name = config.import.name(&path, "rows");
    data.name.clone_from(&name);
    let source = format!("{}/*.txt", path.trim_end_matches('/'));
    let line = Line::new("dataset").word(name).quoted(&source).from(args.key("train_data_path"));
    line.child(Line::new("rows").word("text").from("data.class_path"))
}

/// A class whose rows only its code knows: they are to be written to a file, which the recipe names.
fn by_hand(
    config: &Section,
    class: &str,
    short: &str,
    args: &Section,
    pretrains: bool,
    data: &mut Data,
) -> Line {
    let name = config.import.name(&dashed(short), "rows");
    data.name.clone_from(&name);
    let path = format!("data/{name}.jsonl");
    let (rows, shape) = if pretrains {
        ("text", "one `{\"text\": …}` a line")
    } else {
        ("instruction", "one `{\"instruction\": …, \"input\": …, \"output\": …}` a line")
    };
    config.import.need(format!("write the rows that `{class}` yields to `{path}`, {shape}"));
    let what = if class.starts_with("litgpt.") {
        "a class whose source the language does not read"
    } else {
        "Python code, which the file only names"
    };
    let why = format!("{what}: its rows are to lie in `{path}`, {shape}");
    mark_class(config, Some(&why), "");
    let code = "an argument of the class, whose rows are to be written to a file";
    for pair in args.node.pairs() {
        if !matches!(
            pair.key.as_str(),
            "mask_prompt" | "val_split_fraction" | "prompt_style" | "seed" | "ignore_index" | "num_workers"
        ) {
            args.dropped(&pair.key, code);
        }
    }
    let line = Line::new("dataset").word(name).quoted(&path).from("data.class_path");
    line.child(Line::new("rows").word(rows))
}

/// `AlpacaVi` becomes `alpaca-vi`.
fn dashed(class: &str) -> String {
    let mut out = String::new();
    let letters: Vec<char> = class.chars().collect();
    for (at, c) in letters.iter().enumerate() {
        let follows_word = at > 0 && letters[at - 1].is_ascii_lowercase();
        let begins_word = at > 0 && letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (follows_word || begins_word) {
            out.push('-');
        }
        out.push(*c);
    }
    out
}

fn hold_out(args: &Section, known: Option<&Known>, line: &mut Line, data: &mut Data) {
    let from = args.key("val_split_fraction");
    let share = args.number("val_split_fraction");
    if share.is_some() {
        args.carried("val_split_fraction", "`holdout`");
    }
    let share = share.or(known.map(|known| known.holds_out)).filter(|share| *share > 0.0);
    if let Some(seed) = args.count("seed") {
        args.carried("seed", "the seed of the dataset's `shuffle`");
        if seed != 42 {
            line.push(Line::new("shuffle").with("seed", seed.to_string()).from(args.key("seed")));
        }
    }
    if let Some(share) = share.filter(|_| !data.held_out) {
        line.push(Line::new("holdout").word(percent(share)).from(from));
        data.held_out = true;
    }
}

fn prompt_style(args: &Section, data: &mut Data) {
    const KEY: &str = "prompt_style";
    let inner = args.section(KEY);
    let style = match &inner {
        Some(style) => style.text("class_path"),
        None => args.text(KEY),
    };
    let (at, key) = match &inner {
        Some(inner) => (inner, "class_path"),
        None => (args, KEY),
    };
    let style = style.unwrap_or_else(|| {
        args.import.default("`prompt_style` is not written: Alpaca's");
        "alpaca".into()
    });
    let short = style.rsplit('.').next().unwrap_or(&style).to_lowercase();
    let own = style.starts_with("litgpt.prompts.") || !style.contains('.');
    let std = match short.as_str() {
        "alpaca" => Some("alpaca"),
        "chatml" => Some("chatml"),
        "llama2" => Some("llama2"),
        "llama3" => Some("llama3"),
        "gemma" => Some("gemma"),
        "tinyllama" | "zephyr" => Some("zephyr"),
        "mistral" | "mixtral" => Some("mistral"),
        _ => None,
    };
    if let Some(std) = std.filter(|_| own) {
        match std {
            "alpaca" => at.changed(key, "`std:alpaca`, which lacks the sentence before LitGPT's prompt"),
            _ => at.carried(key, format!("`template std:{std}`")),
        }
        data.template = Some(format!("std:{std}"));
        return;
    }
    if own && short == "default" {
        at.carried(key, "a template of the text alone");
        let turns = DeclaredTemplate::Turns {
            system: None,
            user: "{content}".into(),
            assistant: "{content}{eos}".into(),
        };
        declare(args, Template::Declared("plain".into(), Box::new(turns)), at.key(key), data);
        return;
    }
    let name = args.import.name(&dashed(style.rsplit('.').next().unwrap_or(&style)), "prompt");
    let path = format!("{name}.jinja");
    at.changed(key, format!("Python code, which the file only names: its prompt is to lie in `{path}`"));
    args.import
        .need(format!("write the prompt of `{style}` to `{path}`, with `{{% generation %}}` around answers"));
    data.lines.insert(0, DeclaredTemplate::File(path).line(&name).from(at.key(key)));
    data.template = Some(name);
}

fn declare(args: &Section, template: Template, from: String, data: &mut Data) {
    if let Template::Declared(wanted, inner) = template {
        let name = args.import.free(&wanted);
        data.lines.insert(0, inner.line(&name).from(from));
        data.template = Some(name);
    }
}

fn loss_on(args: &Section, data: &mut Data) {
    let masks = args.flag("mask_prompt");
    args.carried("mask_prompt", if masks { "`loss-on assistant`, the default" } else { "`loss-on all`" });
    if !masks {
        data.loss_on = Some(Line::new("loss-on").word("all").from(args.key("mask_prompt")));
    }
}
