//! alignment-handbook's mixes of datasets.

use crate::kdl::{Line, percent};
use crate::names::source;
use crate::section::Section;
use crate::yaml::Value;

/// What the data of a file came to.
pub(crate) struct Data {
    pub lines: Vec<Line>,
    pub name: String,
    pub held_out: bool,
}

/// One dataset with the splits and the share that are read of it.
struct Part {
    id: String,
    config: Option<String>,
    revision: Option<String>,
    train: String,
    eval: Option<String>,
    fraction: f64,
    from: String,
}

/// Reads `dataset_mixer`, `dataset_mixture` or `dataset_name`.
pub(crate) fn read(config: &Section, kind: &str) -> Data {
    let (parts, holdout) = if config.is_on("dataset_mixture") {
        mixture(config)
    } else if config.is_on("dataset_mixer") {
        (mixer(config), None)
    } else {
        (named(config), None)
    };
    if parts.is_empty() && config.import.problems.borrow().is_empty() {
        config.missing("dataset_mixer", "name the data that is trained on");
    }
    let mut data = Data { lines: Vec::new(), name: "data".into(), held_out: holdout.is_some() };
    let mut taken = Vec::new();
    let evaluates = evaluates(config);
    for part in parts {
        let name = config.import.name(&part.id, "rows");
        let mut line = Line::new("dataset").word(&name).quoted(&source(&part.id)).from(&part.from);
        if let Some(configuration) = &part.config {
            line = line.with_text("config", configuration);
        }
        if let Some(revision) = &part.revision {
            line = line.with_text("revision", revision);
        }
        line.push(rows(config, kind));
        let mut split = Line::new("split").with_text("train", &part.train).from(config.key("dataset_splits"));
        if let Some(eval) = part.eval.as_ref().filter(|_| evaluates) {
            split = split.with_text("eval", eval);
            data.held_out = true;
        }
        line.push(split);
        holdout.iter().for_each(|line_of| line.push(line_of.clone()));
        data.lines.push(line);
        taken.push((name, part.fraction, part.from));
    }
    data.name = join(config, taken, &mut data.lines);
    data
}

/// Whether anything is evaluated, during training or at its end.
pub(crate) fn evaluates(config: &Section) -> bool {
    let strategy = ["eval_strategy", "evaluation_strategy"].into_iter().find_map(|key| config.node(key));
    let by_strategy =
        strategy.is_some_and(|node| node.value != Value::Bool(false) && node.text() != Some("no"));
    by_strategy || at_the_end(config)
}

/// Whether `do_eval` asks for one evaluation after training. Text, even `"no"`, is true to Python.
pub(crate) fn at_the_end(config: &Section) -> bool {
    config.node("do_eval").is_some_and(|node| match &node.value {
        Value::Bool(on) => *on,
        Value::Text(text) => !text.is_empty(),
        _ => false,
    })
}

fn rows(config: &Section, kind: &str) -> Line {
    match kind {
        "cpt" => {
            let key = if config.is_on("dataset_text_field") { "dataset_text_field" } else { "text_column" };
            let line = Line::new("rows").word("text").from(config.key(key));
            match config.text(key) {
                Some(column) => {
                    config.carried(key, "the column of `rows text`");
                    if column == "text" { line } else { line.with_text("text", &column) }
                }
                None => line,
            }
        }
        "sft" => Line::new("rows").word("chat"),
        "kto" => Line::new("rows").word("labelled"),
        _ => Line::new("rows").word("preference"),
    }
}

/// `dataset_mixer` pairs its fractions with the train splits in their order, one list with the other.
fn mixer(config: &Section) -> Vec<Part> {
    let Some(mixer) = config.section("dataset_mixer") else {
        config.refuse(
            "dataset_mixer",
            "`dataset_mixer` takes a mapping of datasets to shares",
            "write `owner/name: 1.0`",
        );
        return Vec::new();
    };
    let splits = config.texts("dataset_splits");
    let splits = if splits.is_empty() {
        config.import.default("`dataset_splits` is not written: train and test");
        vec!["train".to_owned(), "test".to_owned()]
    } else {
        splits
    };
    let of =
        |word: &str| splits.iter().filter(|split| split.contains(word)).cloned().collect::<Vec<String>>();
    let (train, test) = (of("train"), of("test"));
    if let Some(odd) = splits.iter().find(|split| !split.contains("train") && !split.contains("test")) {
        config.refuse(
            "dataset_splits",
            format!("the split `{odd}` is neither train nor test"),
            "name splits that contain `train` or `test`",
        );
    }
    if train.is_empty() {
        config.refuse("dataset_splits", "no split is trained on", "name a split that contains `train`");
        return Vec::new();
    }
    let configs = config.texts("dataset_configs");
    if !configs.is_empty() {
        config.carried("dataset_configs", "`config=` of the datasets, by position");
    }
    let ids: Vec<&str> =
        mixer.node.pairs().iter().filter(|pair| pair.key != "<<").map(|pair| pair.key.as_str()).collect();
    if test.len() > 1 {
        config.changed(
            "dataset_splits",
            format!("`split`; of the test splits only `{}` is evaluated", test[0]),
        );
    } else if train.len() > 1 {
        config.changed("dataset_splits", "shares are paired with the list of train splits, as the script does: the later splits are never read");
    } else if evaluates(config) || test.is_empty() {
        config.carried("dataset_splits", "`split` of every dataset");
    } else {
        config.changed(
            "dataset_splits",
            "`split` of every dataset; nothing is evaluated, so the test split is not named",
        );
    }
    let mut parts = Vec::new();
    let pairs = ids.iter().flat_map(|id| train.iter().map(move |split| (*id, split.clone())));
    // The script zips its fractions with all pairs of dataset and split.
    for ((id, split), fraction_of) in pairs.zip(ids.iter()) {
        let Some(fraction) = mixer.number(fraction_of) else { continue };
        if !(0.0..=1.0).contains(&fraction) {
            mixer.refuse(fraction_of, "a share of a dataset is between 0 and 1", "write a share such as 0.5");
            continue;
        }
        if fraction == 1.0 || ids.len() == 1 && fraction == 0.0 {
            mixer.carried(fraction_of, "the dataset, all of it");
        } else {
            mixer.changed(
                fraction_of,
                "`fraction=` of the mix, drawn by seed; the script takes the first rows",
            );
        }
        if fraction == 0.0 {
            continue;
        }
        let at = ids.iter().position(|other| *other == id).unwrap_or_default();
        parts.push(Part {
            id: id.to_owned(),
            config: configs.get(at).filter(|name| name.as_str() != "default").cloned(),
            revision: None,
            train: split,
            eval: test.first().cloned(),
            fraction,
            from: mixer.key(id),
        });
    }
    parts
}

/// The newer `dataset_mixture`: a list, with rows held out of all of it.
fn mixture(config: &Section) -> (Vec<Part>, Option<Line>) {
    let Some(mixture) = config.section("dataset_mixture") else {
        config.refuse("dataset_mixture", "`dataset_mixture` takes a mapping", "write `datasets:` in it");
        return (Vec::new(), None);
    };
    let mut parts = Vec::new();
    for entry in mixture.sections("datasets") {
        let Some(id) = entry.text("id") else {
            entry.missing("id", "name the dataset");
            continue;
        };
        entry.carried("id", "the dataset");
        let weight = entry.number("weight").unwrap_or(1.0);
        if !(weight > 0.0 && weight <= 1.0) {
            entry.refuse("weight", "a share of a dataset is between 0 and 1", "write a share such as 0.5");
            continue;
        }
        entry.carried("weight", "`fraction=` of the mix");
        entry.carried("config", "`config=` of the dataset");
        entry.carried("split", "`split` of the dataset");
        entry.carried("columns", "columns that are not read are left out anyway");
        entry.carried("revision", "`revision=` of the dataset");
        parts.push(Part {
            id,
            config: entry.text("config").filter(|name| name != "default"),
            revision: entry.text("revision"),
            train: entry.text("split").unwrap_or_else(|| "train".into()),
            eval: None,
            fraction: weight,
            from: entry.key("id"),
        });
    }
    mixture.dropped("seed", "rows are drawn by the seed of the datasets");
    let held = mixture.number("test_split_size").filter(|size| *size > 0.0).map(|size| {
        mixture.carried("test_split_size", "`holdout` in every dataset");
        let amount = if size < 1.0 { percent(size) } else { size.to_string() };
        Line::new("holdout").word(amount).from(mixture.key("test_split_size"))
    });
    (parts, held.filter(|_| evaluates(config)))
}

/// TRL's own way: one dataset by name.
fn named(config: &Section) -> Vec<Part> {
    let Some(id) = config.text("dataset_name") else { return Vec::new() };
    for key in ["dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split"] {
        config.carried(key, "the dataset and its splits");
    }
    vec![Part {
        id,
        config: config.text("dataset_config"),
        revision: None,
        train: config.text("dataset_train_split").unwrap_or_else(|| "train".into()),
        eval: Some(config.text("dataset_test_split").unwrap_or_else(|| "test".into())),
        fraction: 1.0,
        from: config.key("dataset_name"),
    }]
}

fn join(config: &Section, parts: Vec<(String, f64, String)>, lines: &mut Vec<Line>) -> String {
    match parts.as_slice() {
        [] => return "data".into(),
        [(name, fraction, _)] if *fraction == 1.0 => return name.clone(),
        _ => {}
    }
    let name = config.import.free("mixed");
    let mut mix = Line::new("mix").word(&name);
    for (part, fraction, _) in parts {
        mix.push(Line::new("take").word(part).with("fraction", percent(fraction)));
    }
    lines.push(mix);
    name
}
