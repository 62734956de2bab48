//! axolotl's lists of datasets as declarations and a mix.

use super::preference::{self, Objective};
use super::rows::{self, Rows};
use super::watch::never_evaluates;
use crate::common::Template;
use crate::kdl::{Line, percent};
use crate::names::{is_hub_id, source};
use crate::section::Section;
use crate::yaml::Node;

/// What the datasets of a file came to.
pub(crate) struct Datasets {
    pub lines: Vec<Line>,
    /// The dataset or mix that is trained on.
    pub name: String,
    /// `cpt` or `sft`, as the rows say.
    pub stage: &'static str,
    pub template: Option<Template>,
    /// Whether there are rows to evaluate on.
    pub held_out: bool,
    /// A dataset that is named for evaluation.
    pub evaluate_on: Option<String>,
    /// Whether every turn is trained.
    pub all_turns: bool,
    /// Whether rows are streamed and joined to full sequences.
    pub streamed: bool,
}

/// How much of a dataset is taken.
enum Share {
    All,
    Part(f64),
}

/// Reads `datasets` or `pretraining_dataset`, and what is held out of them.
pub(crate) fn read(config: &Section, objective: Option<&Objective>) -> Datasets {
    let streamed = config.is_on("pretraining_dataset");
    let key = if streamed { "pretraining_dataset" } else { "datasets" };
    // axolotl once took the id of a Hub set alone.
    let alone = config.node(key).filter(|node| node.text().is_some()).map(|node| Node::holding("path", node));
    let sections = match &alone {
        Some(node) => {
            config.carried(key, "the source of the dataset");
            vec![Section::new(config.import, node, config.key(key))]
        }
        None => config.sections(key),
    };
    let mut datasets = Datasets {
        lines: Vec::new(),
        name: "data".into(),
        stage: if streamed { "cpt" } else { "sft" },
        template: None,
        held_out: false,
        evaluate_on: None,
        all_turns: false,
        streamed,
    };
    if sections.is_empty() {
        config.missing("datasets", "name the data that is trained on");
        return datasets;
    }
    if streamed && config.is_on("datasets") {
        config.dropped("datasets", "axolotl trains on `pretraining_dataset` when both are there");
    }
    let holdout = holdout(config, sections.len(), streamed);
    let mut parts = Vec::new();
    let mut kinds: Vec<(Rows, Section)> = Vec::new();
    for section in sections {
        let Some(rows) = read_rows(&section, config, objective, streamed) else { continue };
        let sources = sources(&section);
        for source in sources {
            let (line, name, share) = declare(&section, config, &source, &rows, holdout.clone());
            datasets.lines.push(line);
            parts.push((name, share));
        }
        kinds.push((rows, section));
    }
    datasets.held_out = holdout.is_some() && !parts.is_empty();
    agree(&kinds);
    if let Some((rows, _)) = kinds.first() {
        datasets.template.clone_from(&rows.template);
        datasets.all_turns = kinds.iter().any(|(rows, _)| rows.all_turns);
        if rows.kind == "text" {
            datasets.stage = "cpt";
        }
    }
    test_datasets(config, objective, &mut datasets);
    datasets.name = join(config, parts, &mut datasets.lines);
    datasets
}

fn read_rows(
    section: &Section,
    config: &Section,
    objective: Option<&Objective>,
    streamed: bool,
) -> Option<Rows> {
    if streamed {
        if !matches!(section.text("type").as_deref(), None | Some("pretrain" | "completion")) {
            section.refuse("type", "streamed data is plain text", "write `type: pretrain`");
            return None;
        }
        section.carried("type", "`rows text`: plain text");
        let rows = Rows::new("text", None);
        let Some(column) = section.text("text_column").or_else(|| section.text("field")) else {
            return Some(rows);
        };
        section.carried("text_column", "the column of `rows text`");
        section.carried("field", "the column of `rows text`");
        let columns = if column == "text" { Vec::new() } else { vec![("text", column)] };
        return Some(Rows { columns, ..rows });
    }
    match objective {
        Some(objective) => preference::rows(section, config, objective),
        None => rows::supervised(section, config),
    }
}

/// All parts must be rows of one type under one template.
fn agree(kinds: &[(Rows, Section)]) {
    let Some(((first, _), rest)) = kinds.split_first() else { return };
    for (rows, section) in rest {
        if rows.kind != first.kind {
            let message = format!(
                "{} rows and {} rows are trained in one run, but a stage takes rows of one type",
                first.kind, rows.kind
            );
            section.refuse(
                "type",
                message,
                "give each kind a file, import both, and put one stage behind the other",
            );
        } else if rows.template != first.template {
            let message = "two datasets have different templates, but a stage has one";
            section.refuse(
                "type",
                message,
                "give each a file, import both, and put one stage behind the other",
            );
        }
    }
}

/// The files or the Hub set of one entry.
fn sources(section: &Section) -> Vec<String> {
    let path = section.text("path");
    let files = section.texts("data_files");
    let is_loader = |path: &str| matches!(path, "json" | "csv" | "parquet" | "text" | "arrow");
    match (path.as_deref(), files.is_empty()) {
        (None, true) => {
            section.missing("path", "name the data that is trained on");
            Vec::new()
        }
        (Some(path), true) => {
            section.carried("path", "the source of the dataset");
            refuse_place(section, "path", path);
            vec![path.to_owned()]
        }
        (Some(path), false) if is_hub_id(path) && !is_loader(path) => {
            section.carried("path", "the source of the dataset");
            section.changed("data_files", "the files are read over https from the Hub's main revision");
            let base = format!("https://huggingface.co/datasets/{path}/resolve/main");
            files.iter().map(|file| format!("{base}/{file}")).collect()
        }
        (path, false) => {
            section.carried("path", "told by the ending of the file");
            section.carried("data_files", "the source of the dataset");
            files.iter().for_each(|file| refuse_place(section, "data_files", file));
            let folder =
                path.filter(|path| !is_loader(path) && !files.iter().any(|file| file.starts_with('/')));
            let join = |file: &String| folder.map_or(file.clone(), |folder| format!("{folder}/{file}"));
            files.iter().map(join).collect()
        }
    }
}

fn refuse_place(section: &Section, key: &str, path: &str) {
    let schemes = ["s3://", "gs://", "gcs://", "az://", "abfs://", "adl://", "oci://", "http://"];
    if let Some(scheme) = schemes.iter().find(|scheme| path.starts_with(**scheme)) {
        let message = format!("a recipe does not read data from `{scheme}…`");
        section.refuse(key, message, "copy the data to a file or to the Hub, and name it here");
    }
}

/// Declares one dataset.
fn declare(
    section: &Section,
    config: &Section,
    path: &str,
    rows: &Rows,
    holdout: Option<Line>,
) -> (Line, String, Share) {
    let name = match section.import.name(path, "rows").as_str() {
        "data" => section.import.free("examples"),
        name => name.to_owned(),
    };
    let source = source(path);
    let is_hub = source.starts_with("hf:");
    let mut line = Line::new("dataset").word(&name).quoted(&source);
    line.from.extend(["path", "data_files"].map(|key| section.key(key)));
    if let Some(configuration) = section.text("name").filter(|_| is_hub) {
        section.carried("name", "`config=` of the dataset");
        line = line.with_text("config", &configuration);
    }
    if let Some(revision) = section.text("revision").filter(|_| is_hub) {
        section.carried("revision", "`revision=` of the dataset");
        line = line.with_text("revision", &revision);
    }
    if section.node("ds_type").is_some() {
        section.carried("ds_type", "told by the ending of the file");
    }
    rows.lines().into_iter().for_each(|child| line.push(child));
    let (split, limit, share) = split(section, is_hub);
    split.into_iter().chain(limit).for_each(|child| line.push(child));
    if config.flag("dataset_exact_deduplication") {
        config.carried("dataset_exact_deduplication", "`dedup exact` in every dataset");
        line.push(Line::new("dedup").word("exact").from(config.key("dataset_exact_deduplication")));
    }
    if let Some(least) = config.count("min_sample_len") {
        config.carried("min_sample_len", "`filter length` in every dataset");
        let filter = Line::new("filter").word("length").with("of", "tokens").with("min", least.to_string());
        line.push(filter.from(config.key("min_sample_len")));
    }
    holdout.into_iter().for_each(|child| line.push(child));
    (line, name, share)
}

/// Which split is read, and how much of it.
fn split(section: &Section, is_hub: bool) -> (Option<Line>, Option<Line>, Share) {
    let written = section.text("split");
    let from = section.key("split");
    let (name, slice) = match written.as_deref().map(|split| split.split_once('[').unwrap_or((split, ""))) {
        Some((name, slice)) => (name.to_owned(), slice.trim_end_matches(']').to_owned()),
        None => ("train".to_owned(), String::new()),
    };
    // A file holds one split; only the Hub has several.
    let line = is_hub.then(|| Line::new("split").with_text("train", &name).from(from.clone()));
    let shards = section.count("shards").filter(|shards| *shards > 0);
    if let Some(shards) = shards {
        section.changed("shards", format!("one part in {shards}, drawn by seed"));
        section.changed("shards_idx", "which of the parts: any, drawn by seed");
        return (line, None, Share::Part(1.0 / shards as f64));
    }
    let head = slice.strip_prefix(':').unwrap_or_default();
    if slice.is_empty() {
        section
            .carried("split", if is_hub { "the split that is trained on" } else { "a file has one split" });
        return (line, None, Share::All);
    }
    if let Some(share) = head.strip_suffix('%').and_then(|share| share.parse::<f64>().ok()) {
        section.changed("split", format!("the first {share}% become {share}% drawn by seed, in a mix"));
        return (line, None, Share::Part(share / 100.0));
    }
    if let Ok(rows) = head.parse::<u64>() {
        section.carried("split", "`limit … head`");
        return (line, Some(Line::new("limit").word(rows.to_string()).word("head").from(from)), Share::All);
    }
    let help = "write a slice from the start, such as `train[:1000]`, or cut the data beforehand";
    section.refuse("split", format!("the slice `[{slice}]` has no word in the language"), help);
    (line, None, Share::All)
}

/// What `val_set_size` holds out of each dataset.
fn holdout(config: &Section, datasets: usize, streamed: bool) -> Option<Line> {
    let size = config.number("val_set_size")?;
    let key = "val_set_size";
    if size == 0.0 {
        config.carried(key, "nothing is held out");
        return None;
    }
    if streamed {
        config.dropped(key, "axolotl holds nothing out of a streamed `pretraining_dataset`");
        return None;
    }
    if size < 0.0 || (size > 1.0 && size.fract() != 0.0) {
        config.refuse(key, "`val_set_size` is a share below 1 or a number of rows", "write 0.05, or 500");
        return None;
    }
    let line = Line::new("holdout");
    if size < 1.0 {
        let why = if datasets > 1 { "`holdout` in every dataset, of the same share" } else { "`holdout`" };
        config.carried(key, why);
        return Some(line.word(percent(size)).from(config.key(key)));
    }
    let each = (size / datasets as f64).ceil();
    if datasets > 1 {
        config.changed(key, format!("`holdout {each}` in every dataset, {} in all", each * datasets as f64));
    } else {
        config.carried(key, "`holdout`");
    }
    Some(line.word(each.to_string()).from(config.key(key)))
}

/// Data that is named for evaluation.
fn test_datasets(config: &Section, objective: Option<&Objective>, datasets: &mut Datasets) {
    let sections = config.sections("test_datasets");
    if sections.is_empty() {
        return;
    }
    if never_evaluates(config) {
        config.dropped("test_datasets", "never acted: evaluation is off");
        return;
    }
    if sections.len() > 1 {
        let help = "keep one, or hold rows out with `val_set_size`";
        config.refuse("test_datasets", "a stage evaluates on one dataset, and the file names several", help);
        return;
    }
    let section = &sections[0];
    let Some(rows) = read_rows(section, config, objective, false) else { return };
    let Some(path) = sources(section).into_iter().next() else { return };
    let (line, name, _) = declare(section, config, &path, &rows, None);
    datasets.lines.push(line);
    datasets.held_out = true;
    datasets.evaluate_on = Some(name);
}

/// Joins several datasets, all of each unless the file takes less.
fn join(config: &Section, parts: Vec<(String, Share)>, lines: &mut Vec<Line>) -> String {
    if let [(name, Share::All)] = parts.as_slice() {
        return name.clone();
    }
    let name = config.import.free("mixed");
    let mut mix = Line::new("mix").word(&name);
    for (part, share) in parts {
        let share = match share {
            Share::All => 1.0,
            Share::Part(share) => share,
        };
        mix.push(Line::new("take").word(part).with("fraction", percent(share)));
    }
    lines.push(mix);
    name
}
