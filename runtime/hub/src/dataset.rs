//! What is known of a dataset's rows: columns, splits and their counts.
//!
//! The card says it best, since it belongs to the commit. What it lacks the server of rows may know, but
//! only of the commit that the main branch has: an answer about another one is not used.

use crate::repo::{Repo, encode};
use crate::snapshot::{Origin, RepoFile, Snapshot, json};
use crate::{ANSWER, Error, Hub, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Endings of files that hold rows, with `.gz` and `.zst` taken off.
const ROW_FILES: [&str; 6] = [".parquet", ".jsonl", ".json", ".csv", ".txt", ".arrow"];

/// One configuration of a dataset; what is empty is unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dataset {
    pub columns: Vec<String>,
    /// Rows by split, where they are known.
    pub splits: BTreeMap<String, Option<u64>>,
    /// Bytes of the files that it is made of.
    pub bytes: Option<u64>,
    /// Why something is unknown.
    pub doubts: Vec<Error>,
}

impl Dataset {
    fn is_complete(&self) -> bool {
        !self.columns.is_empty() && !self.splits.is_empty() && self.splits.values().all(Option::is_some)
    }

    /// Takes over what is not known yet. Counts hold for the splits of the same names only.
    fn fill(&mut self, other: Dataset) {
        if self.columns.is_empty() {
            self.columns = other.columns;
        }
        if self.splits.is_empty() {
            self.splits = other.splits;
        } else {
            for (name, rows) in &mut self.splits {
                *rows = rows.or_else(|| *other.splits.get(name)?);
            }
        }
        self.bytes = self.bytes.or(other.bytes);
    }
}

impl Hub {
    /// Reads what describes the rows of a dataset. Without `config` it is the only one, or the default.
    ///
    /// # Errors
    /// Fails when the configuration does not exist, or none is named and there are several.
    pub fn dataset(&self, snapshot: &Snapshot, config: Option<&str>) -> Result<Dataset> {
        let names = config_names(&snapshot.card);
        let chosen = choose(config, &names, &snapshot.card, &snapshot.repo)?;
        let mut found = of_card(&snapshot.card, chosen.as_deref());
        if found.bytes.is_none() && names.len() < 2 && snapshot.origin == Origin::Hub {
            found.bytes = crate::bytes_of(&snapshot.row_files());
        }
        if !found.is_complete() {
            match snapshot.origin {
                Origin::Hub => self.ask_for_rows(snapshot, chosen, &mut found)?,
                Origin::Cache => {
                    found
                        .doubts
                        .push(Error::Offline { what: format!("the description of {}", snapshot.repo) });
                }
            }
        }
        if found.is_complete() {
            found.doubts.clear();
        }
        Ok(found)
    }

    fn ask_for_rows(&self, snapshot: &Snapshot, chosen: Option<String>, found: &mut Dataset) -> Result<()> {
        let query = |config: &Option<String>| {
            let config = config.as_ref().map(|config| format!("&config={}", encode(config, b"")));
            format!("?dataset={}{}", encode(&snapshot.repo.id, b""), config.unwrap_or_default())
        };
        let mut config = chosen;
        match self.rows_server(snapshot, &format!("/info{}", query(&config))) {
            Ok(answer) => {
                let info = answer.get("dataset_info").unwrap_or(&Value::Null);
                let is_partial = answer.get("partial").and_then(Value::as_bool) == Some(true);
                let info = match &config {
                    Some(_) => info,
                    None => {
                        let names: Vec<String> =
                            info.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
                        config = choose(None, &names, &Value::Null, &snapshot.repo)?;
                        config.as_ref().and_then(|config| info.get(config)).unwrap_or(&Value::Null)
                    }
                };
                found.fill(of_info(info, is_partial));
            }
            Err(error) => found.doubts.push(error),
        }
        self.ask_for_the_rest(snapshot, &config, &query(&config), found);
        Ok(())
    }

    /// Columns stand with the first rows, splits in the list of Parquet files.
    fn ask_for_the_rest(
        &self,
        snapshot: &Snapshot,
        config: &Option<String>,
        query: &str,
        found: &mut Dataset,
    ) {
        let Some(config) = config else { return };
        if found.splits.is_empty() && snapshot.is_head {
            let url = format!("{}{}/parquet", self.endpoint, snapshot.repo.api());
            match self.value(&url, &format!("the list of Parquet files of {}", snapshot.repo)) {
                Ok(listed) => {
                    let splits = listed.get(config).and_then(Value::as_object).into_iter().flatten();
                    found.splits = splits.map(|(name, _)| (name.clone(), None)).collect();
                }
                Err(error) => found.doubts.push(error),
            }
        }
        let Some(split) = found.splits.keys().next().filter(|_| found.columns.is_empty()) else { return };
        let split = encode(split, b"");
        match self.rows_server(snapshot, &format!("/first-rows{query}&split={split}")) {
            Ok(answer) => found.columns = columns(answer.get("features")),
            Err(error) => found.doubts.push(error),
        }
    }

    fn rows_server(&self, snapshot: &Snapshot, path: &str) -> Result<Value> {
        let what = format!("the description of the rows of {}", snapshot.repo);
        let answer = self.http.get(&format!("{}{path}", self.rows_server), &what, ANSWER)?;
        match &answer.revision {
            Some(commit) if *commit != snapshot.commit => {
                let why = "it is about another commit than the one that is pinned".into();
                Err(Error::BadAnswer { what, why })
            }
            None if !snapshot.is_head => {
                let why = "it does not say which commit it is about".into();
                Err(Error::BadAnswer { what, why })
            }
            _ => json(&answer.body, &what),
        }
    }

    fn value(&self, url: &str, what: &str) -> Result<Value> {
        json(&self.http.get(url, what, ANSWER)?.body, what)
    }
}

impl Snapshot {
    /// Returns the files of a dataset that hold rows.
    pub fn row_files(&self) -> Vec<&RepoFile> {
        let is_one = |file: &&RepoFile| {
            let path = file.path.trim_end_matches(".gz").trim_end_matches(".zst");
            ROW_FILES.iter().any(|end| path.ends_with(end)) && !file.path.starts_with('.')
        };
        self.files.iter().filter(is_one).collect()
    }
}

/// Returns a list of the card, which writes a single entry without one.
fn list<'a>(card: &'a Value, key: &str) -> Vec<&'a Value> {
    match card.get(key) {
        Some(Value::Array(several)) => several.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    }
}

fn config_name(entry: &Value) -> &str {
    entry.get("config_name").and_then(Value::as_str).unwrap_or("default")
}

/// Returns the configurations of the card: those it defines, else those it describes.
fn config_names(card: &Value) -> Vec<String> {
    let defined = list(card, "configs");
    let entries = if defined.is_empty() { list(card, "dataset_info") } else { defined };
    entries.into_iter().map(|entry| config_name(entry).to_owned()).collect()
}

/// Chooses a configuration as the Python library does; none when nothing is known of any.
fn choose(config: Option<&str>, names: &[String], card: &Value, repo: &Repo) -> Result<Option<String>> {
    let defined = list(card, "configs");
    if let Some(config) = config {
        // What a card only describes may be one of several; what it defines is all there is.
        return match defined.is_empty() || names.iter().any(|name| name == config) {
            true => Ok(Some(config.to_owned())),
            false => Err(Error::NotFound { what: format!("configuration `{config}` of {repo}") }),
        };
    }
    let is_default = |entry: &&&Value| entry.get("default").and_then(Value::as_bool) == Some(true);
    let marked = defined.iter().find(is_default).map(|entry| config_name(entry));
    let usual = names.iter().map(String::as_str).find(|name| *name == "default");
    match (names, marked.or(usual)) {
        ([], _) => Ok(None),
        ([only], _) => Ok(Some(only.clone())),
        (_, Some(name)) => Ok(Some(name.to_owned())),
        (several, None) => Err(Error::NeedsConfig { what: repo.to_string(), configs: several.to_vec() }),
    }
}

/// Returns what the card says of a configuration.
fn of_card(card: &Value, chosen: Option<&str>) -> Dataset {
    let of = |key| list(card, key).into_iter().find(|entry| Some(config_name(entry)) == chosen);
    let mut found = of("dataset_info").map(|info| of_info(info, false)).unwrap_or_default();
    if found.splits.is_empty() {
        found.splits = of("configs").map(splits_of_files).unwrap_or_default();
    }
    found
}

/// Reads a description, which cards and the server of rows write alike. A partial one counted some rows only.
fn of_info(info: &Value, is_partial: bool) -> Dataset {
    let of_split = |split: &Value| split.get("num_examples").and_then(Value::as_u64).filter(|_| !is_partial);
    let splits = match info.get("splits") {
        Some(Value::Array(splits)) => splits
            .iter()
            .filter_map(|split| Some((split.get("name")?.as_str()?.to_owned(), of_split(split))))
            .collect(),
        Some(Value::Object(splits)) => {
            splits.iter().map(|(name, split)| (name.clone(), of_split(split))).collect()
        }
        _ => BTreeMap::new(),
    };
    let bytes = info.get("download_size").and_then(Value::as_u64).filter(|&bytes| bytes > 0 && !is_partial);
    Dataset { columns: columns(info.get("features")), splits, bytes, doubts: Vec::new() }
}

/// Features are a list of entries with names, or an object.
fn columns(features: Option<&Value>) -> Vec<String> {
    match features {
        Some(Value::Array(list)) => {
            list.iter().filter_map(|one| Some(one.get("name")?.as_str()?.to_owned())).collect()
        }
        Some(Value::Object(map)) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// Files without a split make up `train`.
fn splits_of_files(config: &Value) -> BTreeMap<String, Option<u64>> {
    let split = |files: &Value| files.get("split").and_then(Value::as_str).unwrap_or("train").to_owned();
    match config.get("data_files") {
        Some(Value::Array(files)) => files.iter().map(|files| (split(files), None)).collect(),
        Some(files @ (Value::String(_) | Value::Object(_))) => [(split(files), None)].into(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use serde_json::json;

    fn choose_of(card: Value, config: Option<&str>) -> Result<Option<String>> {
        let repo = Repo::new(Kind::Dataset, "o/d").expect("sound");
        choose(config, &config_names(&card), &card, &repo)
    }

    #[test]
    fn a_configuration_is_the_named_the_only_or_the_default_one() {
        let two = json!({"configs": [{"config_name": "nl"}, {"config_name": "es"}]});
        let marked = json!({"configs": [{"config_name": "nl"}, {"config_name": "es", "default": true}]});
        let usual = json!({"dataset_info": [{"config_name": "x"}, {"features": []}]});
        assert_eq!(choose_of(two.clone(), Some("es")), Ok(Some("es".into())));
        assert!(matches!(choose_of(two.clone(), Some("de")), Err(Error::NotFound { .. })));
        assert!(
            matches!(choose_of(two, None), Err(Error::NeedsConfig { configs, .. }) if configs == ["nl", "es"])
        );
        assert_eq!(choose_of(marked, None), Ok(Some("es".into())));
        assert_eq!(choose_of(usual.clone(), None), Ok(Some("default".into())));
        assert_eq!(choose_of(usual, Some("undescribed")), Ok(Some("undescribed".into())));
        assert_eq!(choose_of(json!({"dataset_info": {"features": []}}), None), Ok(Some("default".into())));
        assert_eq!(choose_of(Value::Null, None), Ok(None));
    }

    #[test]
    fn cards_describe_rows_in_two_forms_and_may_only_name_splits() {
        let card = json!({"dataset_info": {"config_name": "nl", "download_size": 9,
            "features": [{"name": "b", "dtype": "string"}, {"name": "a", "list": []}],
            "splits": [{"name": "train", "num_examples": 5}, {"name": "test"}]}});
        let found = of_card(&card, Some("nl"));
        assert_eq!((found.columns, found.bytes), (vec!["b".to_owned(), "a".to_owned()], Some(9)));
        assert_eq!(found.splits, [("train".to_owned(), Some(5)), ("test".to_owned(), None)].into());
        assert_eq!(of_card(&card, Some("es")), Dataset::default());
        let files = json!({"configs": [{"config_name": "nl", "data_files": [{"split": "dev", "path": "x"}]},
            {"config_name": "es", "data_files": "es/*"}]});
        assert_eq!(of_card(&files, Some("nl")).splits, [("dev".to_owned(), None)].into());
        assert_eq!(of_card(&files, Some("es")).splits, [("train".to_owned(), None)].into());
    }

    #[test]
    fn counts_of_a_part_are_not_counts() {
        let info =
            json!({"features": {"text": {}}, "download_size": 3, "splits": {"train": {"num_examples": 5}}});
        assert_eq!(of_info(&info, false).splits["train"], Some(5));
        let partial = of_info(&info, true);
        assert_eq!((partial.splits["train"], partial.bytes, partial.columns.len()), (None, None, 1));
    }
}
