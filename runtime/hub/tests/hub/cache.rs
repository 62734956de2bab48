//! The cache of the Python libraries, with and without a hub.

use crate::server::Server;
use crate::{COMMIT, MODEL, OTHER, file, find, find_model, hub_with_cache, serve_model, settings};
use hub::{Error, Hub, Kind, Origin, Settings};
use serde_json::json;
use std::fs;
use std::path::Path;

/// Fills a cache as `snapshot_download` does: blobs, and links to them.
fn fill(cache: &Path, files: &[(&str, &str)]) {
    let folder = cache.join("models--o--m");
    let snapshot = folder.join("snapshots").join(COMMIT);
    for part in [folder.join("refs"), folder.join("blobs"), snapshot.clone()] {
        fs::create_dir_all(part).expect("created");
    }
    fs::write(folder.join("refs/main"), COMMIT).expect("written");
    for (name, text) in files {
        fs::write(folder.join("blobs").join(name), text).expect("written");
        std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).expect("linked");
    }
}

const TOKENIZER: &str = r#"{"model": {"vocab": {"a": 0, "</s>": 1}}}"#;

#[test]
fn a_filled_cache_pins_without_network() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("a folder"));
    fill(cache.path(), &[("config.json", "{\"a\": 1}"), ("tokenizer.json", TOKENIZER)]);
    let hub = hub_with_cache(&server, cache.path(), true);
    for revision in ["main", COMMIT] {
        let found = find(&hub, Kind::Model, "o/m", revision).expect("in the cache");
        assert_eq!((found.commit.as_str(), found.origin), (COMMIT, Origin::Cache));
        assert_eq!(found.files[0].bytes, Some(8), "of the blob, not of the link");
        assert_eq!(hub.model(&found).expect("in the cache").config, json!({"a": 1}));
        assert_eq!(hub.tokenizer(&found).expect("in the cache").vocab_size, 2);
    }
    assert!(server.seen().is_empty(), "offline means that nothing is sent");
}

#[test]
fn offline_without_a_cache_is_said() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("a folder"));
    let hub = hub_with_cache(&server, cache.path(), true);
    assert!(matches!(find_model(&hub), Err(Error::Offline { .. })));
    fill(cache.path(), &[("config.json", "{}")]);
    assert!(matches!(find(&hub, Kind::Model, "o/m", OTHER), Err(Error::Offline { .. })));
    assert!(matches!(find(&hub, Kind::Dataset, "o/m", "main"), Err(Error::Offline { .. })));
    let found = find_model(&hub).expect("in the cache");
    let missing = hub.tokenizer(&found).expect_err("not in the cache");
    assert_eq!(
        missing.to_string(),
        "tokenizer.json of model `o/m` is not in the cache, and the hub was not asked"
    );
    assert!(server.seen().is_empty());
}

#[test]
fn the_hub_says_what_is_pinned_and_the_cache_saves_the_fetching() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("a folder"));
    fill(cache.path(), &[("config.json", "{\"from\": \"cache\"}")]);
    fs::write(cache.path().join("models--o--m/refs/main"), OTHER).expect("written");
    serve_model(&server, &[("config.json", "{}"), ("generation_config.json", "{\"b\": 2}")]);
    let hub = hub_with_cache(&server, cache.path(), false);
    let found = find_model(&hub).expect("there");
    assert_eq!(
        (found.commit.as_str(), found.origin),
        (COMMIT, Origin::Hub),
        "not the older one of the cache"
    );
    let model = hub.model(&found).expect("there");
    assert_eq!((model.config, model.generation_config), (json!({"from": "cache"}), Some(json!({"b": 2}))));
    assert_eq!((server.count(&file("config.json")), server.count(&file("generation_config.json"))), (0, 1));
}

#[test]
fn the_cache_stands_in_for_a_hub_that_is_away_but_not_for_one_that_refuses() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("a folder"));
    fill(cache.path(), &[("config.json", "{}")]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let away = Settings {
        endpoint: format!("http://{port}"),
        cache: Some(cache.path().into()),
        ..settings(&server)
    };
    let found = find_model(&Hub::new(away).expect("sound")).expect("in the cache");
    assert_eq!(found.origin, Origin::Cache);
    let hub = hub_with_cache(&server, cache.path(), false);
    assert!(matches!(find_model(&hub), Err(Error::NotFound { .. })));
    assert_eq!(server.count(MODEL), 1);
}

#[test]
fn a_link_of_the_cache_that_is_too_large_is_refused() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("a folder"));
    fill(cache.path(), &[("config.json", "")]);
    let blob = cache.path().join("models--o--m/blobs/config.json");
    fs::File::options()
        .write(true)
        .open(blob)
        .and_then(|file| file.set_len(hub::SMALL_FILE + 1))
        .expect("grown");
    let hub = hub_with_cache(&server, cache.path(), true);
    let found = find_model(&hub).expect("in the cache");
    assert!(matches!(hub.model(&found), Err(Error::TooLarge { .. })));
}
