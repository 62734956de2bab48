//! Datasets: the card first, then the server of rows, of the same commit only.

use crate::server::{Server, canned};
use crate::{COMMIT, DATASET, OTHER, find, hub, info};
use hub::{Dataset, Error, Kind};
use serde_json::{Value, json};

fn with_card(card: Value) -> Value {
    let mut answer = info(&[("data/train.parquet", 40), ("README.md", 5), ("data/a.jsonl.gz", 2)]);
    answer["cardData"] = card;
    answer
}

fn dataset(server: &Server, revision: &str, config: Option<&str>) -> hub::Result<Dataset> {
    let hub = hub(server);
    hub.dataset(&find(&hub, Kind::Dataset, "o/d", revision)?, config)
}

fn about(commit: &str, value: Value) -> crate::server::Canned {
    canned("200 OK", &[("X-Revision", commit)], &value.to_string())
}

#[test]
fn a_card_that_says_all_is_enough() {
    let server = Server::start();
    let info = json!({"features": [{"name": "text"}], "splits": [{"name": "train", "num_examples": 7}]});
    server.json(DATASET, with_card(json!({"dataset_info": info})));
    let found = dataset(&server, "main", None).expect("there");
    assert_eq!((found.columns, found.bytes), (vec!["text".to_owned()], Some(42)));
    assert_eq!((found.splits, found.doubts), ([("train".to_owned(), Some(7))].into(), vec![]));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn the_server_of_rows_fills_what_the_card_lacks() {
    let server = Server::start();
    let configs = json!([{"config_name": "nl", "data_files": [{"split": "train"}, {"split": "test"}]},
        {"config_name": "es"}]);
    server.json(DATASET, with_card(json!({"configs": configs})));
    let info = json!({"features": {"text": {}, "id": {}}, "download_size": 9,
        "splits": {"train": {"num_examples": 5}, "extra": {"num_examples": 1}}});
    server.answer("/rows/info?dataset=o%2Fd&config=nl", [about(COMMIT, json!({"dataset_info": info}))]);
    let found = dataset(&server, "main", Some("nl")).expect("there");
    assert_eq!((found.columns, found.bytes), (vec!["text".to_owned(), "id".to_owned()], Some(9)));
    assert_eq!(found.splits, [("test".to_owned(), None), ("train".to_owned(), Some(5))].into());
    assert!(matches!(dataset(&server, "main", None), Err(Error::NeedsConfig { .. })));
    assert!(matches!(dataset(&server, "main", Some("de")), Err(Error::NotFound { .. })));
}

#[test]
fn without_a_card_the_configurations_come_from_the_server_of_rows() {
    let server = Server::start();
    server.json(DATASET, with_card(Value::Null));
    let one = |rows| json!({"features": {"text": {}}, "splits": {"train": {"num_examples": rows}}});
    let answer = json!({"dataset_info": {"a": one(1), "default": one(2)}});
    server.answer("/rows/info?dataset=o%2Fd", [about(COMMIT, answer)]);
    assert_eq!(dataset(&server, "main", None).expect("there").splits["train"], Some(2));
    let answer = json!({"dataset_info": {"a": one(1), "b": one(2)}});
    server.answer("/rows/info?dataset=o%2Fd", [about(COMMIT, answer)]);
    assert!(
        matches!(dataset(&server, "main", None), Err(Error::NeedsConfig { configs, .. }) if configs.len() == 2)
    );
}

#[test]
fn an_answer_about_another_commit_is_not_used() {
    let server = Server::start();
    server.json(DATASET, with_card(Value::Null));
    let url = "/rows/info?dataset=o%2Fd&config=nl";
    let info = json!({"dataset_info": {"features": {"text": {}}, "splits": {"train": {"num_examples": 5}}}});
    server.answer(url, [about(OTHER, info.clone())]);
    let found = dataset(&server, "main", Some("nl")).expect("there");
    assert!(found.columns.is_empty() && found.splits.is_empty());
    assert!(matches!(&found.doubts[0], Error::BadAnswer { why, .. } if why.contains("another commit")));
    // One that does not say so may be about main only.
    server.json(url, info);
    assert_eq!(dataset(&server, "main", Some("nl")).expect("there").splits["train"], Some(5));
    server.json("/api/datasets/o/d/revision/v1?blobs=true", with_card(Value::Null));
    assert!(dataset(&server, "v1", Some("nl")).expect("there").columns.is_empty());
}

#[test]
fn splits_and_columns_are_looked_up_one_by_one_as_the_last_means() {
    let server = Server::start();
    server.json(DATASET, with_card(Value::Null));
    server.json("/api/datasets/o/d/parquet", json!({"nl": {"test": ["u"], "train": ["u"]}}));
    let rows = "/rows/first-rows?dataset=o%2Fd&config=nl&split=test";
    server.json(rows, json!({"features": [{"name": "text", "feature_idx": 0}], "rows": []}));
    let found = dataset(&server, "main", Some("nl")).expect("there");
    assert_eq!(found.columns, ["text"]);
    assert_eq!(found.splits, [("test".to_owned(), None), ("train".to_owned(), None)].into());
    assert!(matches!(found.doubts[..], [Error::NotFound { .. }]), "why the rows are not counted");
}
