//! Reads from a server on this machine, from a cache, and from neither.

mod cache;
mod datasets;
mod models;
mod server;
mod transport;

use hub::{Hub, Kind, Repo, Revision, Settings, Snapshot, Token};
use serde_json::{Value, json};
use server::Server;
use std::path::Path;
use std::time::Duration;

/// The commits of the tests.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// Where the API tells about the model of the tests.
const MODEL: &str = "/api/models/o/m/revision/main?blobs=true";
const DATASET: &str = "/api/datasets/o/d/revision/main?blobs=true";

fn settings(server: &Server) -> Settings {
    Settings {
        endpoint: server.url.clone(),
        rows_server: format!("{}/rows", server.url),
        token: None,
        cache: None,
        offline: false,
        timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        backoff: Duration::from_millis(1),
    }
}

fn hub(server: &Server) -> Hub {
    Hub::new(settings(server)).expect("sound settings")
}

fn hub_with_token(server: &Server) -> Hub {
    let token = Some(Token::new("hf_secret").expect("sound"));
    Hub::new(Settings { token, ..settings(server) }).expect("sound settings")
}

fn hub_with_cache(server: &Server, cache: &Path, offline: bool) -> Hub {
    let cache = Some(cache.to_path_buf());
    Hub::new(Settings { cache, offline, ..settings(server) }).expect("sound settings")
}

fn find(hub: &Hub, kind: Kind, id: &str, revision: &str) -> hub::Result<Snapshot> {
    let revision = Revision::new(revision).expect("a revision");
    hub.find(&Repo::new(kind, id).expect("a name"), &revision)
}

fn find_model(hub: &Hub) -> hub::Result<Snapshot> {
    find(hub, Kind::Model, "o/m", "main")
}

/// What the API answers about a repository with these files and bytes of each.
fn info(files: &[(&str, u64)]) -> Value {
    let siblings: Vec<Value> =
        files.iter().map(|(name, size)| json!({"rfilename": name, "size": size})).collect();
    json!({"sha": COMMIT, "siblings": siblings, "tags": ["license:apache-2.0"]})
}

/// Serves the files of the model at the commit, with their list.
fn serve_model(server: &Server, files: &[(&str, &str)]) {
    let sizes: Vec<(&str, u64)> = files.iter().map(|(name, text)| (*name, text.len() as u64)).collect();
    server.json(MODEL, info(&sizes));
    for (name, text) in files {
        server.answer(&file(name), [server::ok(text)]);
    }
}

/// Where a file of the model lies.
fn file(name: &str) -> String {
    format!("/o/m/resolve/{COMMIT}/{name}")
}
