//! What goes over the wire, and what does not.

use crate::server::{Canned, Server, canned, ok, redirect, status};
use crate::{COMMIT, MODEL, OTHER, file, find, find_model, hub, hub_with_token, info, serve_model, settings};
use hub::{Error, Hub, Kind, Origin, Settings};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn a_revision_becomes_a_commit_with_files_sizes_and_licence() {
    let server = Server::start();
    server.json("/api/models/o/m/revision/refs%2Fpr%2F1?blobs=true", info(&[("b.bin", 5), ("a.json", 2)]));
    let found = find(&hub(&server), Kind::Model, "o/m", "refs/pr/1").expect("there");
    assert_eq!((found.commit.as_str(), found.origin), (COMMIT, Origin::Hub));
    assert_eq!(found.licence.as_deref(), Some("apache-2.0"));
    let files: Vec<_> = found.files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
    assert_eq!(files, [("a.json", Some(2)), ("b.bin", Some(5))]);
}

#[test]
fn an_answer_without_a_commit_or_about_another_one_pins_nothing() {
    let server = Server::start();
    for answer in [json!({}), json!({"sha": "main", "siblings": []}), json!({"sha": COMMIT}), json!([1])] {
        server.json(MODEL, answer);
        assert!(matches!(find_model(&hub(&server)), Err(Error::BadAnswer { .. })));
    }
    server.answer(MODEL, [ok("<html>")]);
    assert!(matches!(find_model(&hub(&server)), Err(Error::BadAnswer { .. })));
    server.json(&format!("/api/models/o/m/revision/{OTHER}?blobs=true"), info(&[]));
    let found = find(&hub(&server), Kind::Model, "o/m", OTHER);
    assert!(matches!(found, Err(Error::BadAnswer { why, .. }) if why.contains("another commit")));
}

#[test]
fn what_is_not_there_and_what_is_not_open_differ() {
    let server = Server::start();
    assert!(
        matches!(find_model(&hub(&server)), Err(Error::NotFound { what }) if what == "model `o/m` at `main`")
    );
    assert_eq!(server.count(MODEL), 1, "asking again would not help");
    for code in ["401 Unauthorized", "403 Forbidden"] {
        server.answer(MODEL, [status(code)]);
        let without = find_model(&hub(&server)).expect_err("not open");
        assert!(
            matches!(without, Error::NeedsToken { had_token: false, .. })
                && without.help().contains("HF_TOKEN")
        );
        let with = find_model(&hub_with_token(&server)).expect_err("not open to this user");
        assert!(matches!(with, Error::NeedsToken { had_token: true, .. }), "{with:?}");
    }
}

#[test]
fn a_busy_hub_is_asked_again_twice_and_no_more() {
    let server = Server::start();
    let busy = || canned("429 Too Many Requests", &[("Retry-After", "0")], "");
    let sound = || ok(&info(&[]).to_string());
    server.answer(MODEL, [busy(), status("503 Service Unavailable"), sound()]);
    assert_eq!(find_model(&hub(&server)).expect("in the end").commit, COMMIT);
    assert_eq!(server.count(MODEL), 3);
    server.answer(MODEL, [busy(), busy(), busy(), sound()]);
    assert!(matches!(find_model(&hub(&server)), Err(Error::Busy { status: 429, .. })));
    assert_eq!(server.count(MODEL), 6);
}

#[test]
fn a_body_that_ends_early_is_no_body() {
    let server = Server::start();
    serve_model(&server, &[("config.json", "{\"a\": 1}")]);
    let cut = || Canned::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\"".to_vec());
    let found = find_model(&hub(&server)).expect("there");
    server.answer(&file("config.json"), [cut(), ok("{\"a\": 1}")]);
    assert_eq!(hub(&server).model(&found).expect("the second time").config, json!({"a": 1}));
    server.answer(&file("config.json"), [cut()]);
    assert!(
        matches!(hub(&server).model(&found), Err(Error::BadAnswer { why, .. }) if why.contains("closed"))
    );
    assert_eq!(server.count(&file("config.json")), 5, "two, then three");
}

#[test]
fn a_body_of_another_length_than_listed_is_refused() {
    let server = Server::start();
    serve_model(&server, &[("config.json", "{\"a\": 1}")]);
    let found = find_model(&hub(&server)).expect("there");
    server.answer(&file("config.json"), [ok("{}")]);
    assert!(
        matches!(hub(&server).model(&found), Err(Error::BadAnswer { why, .. }) if why.contains("2 bytes"))
    );
}

#[test]
fn a_huge_file_is_refused_before_it_is_fetched_and_while() {
    let server = Server::start();
    let limit = hub::SMALL_FILE;
    server.json(MODEL, info(&[("config.json", limit + 1)]));
    let listed = find_model(&hub(&server)).expect("there");
    assert_eq!(
        hub(&server).model(&listed),
        Err(Error::TooLarge { what: "config.json of model `o/m`".into(), limit })
    );
    assert_eq!(server.count(&file("config.json")), 0);

    server.json(MODEL, json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}));
    let unlisted = find_model(&hub(&server)).expect("there");
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{{", limit + 1);
    server.answer(&file("config.json"), [Canned::Raw(announced.into_bytes())]);
    assert!(matches!(hub(&server).model(&unlisted), Err(Error::TooLarge { .. })));
    let mut unannounced = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    unannounced.resize(limit as usize + 4096, b' ');
    server.answer(&file("config.json"), [Canned::Raw(unannounced)]);
    assert!(matches!(hub(&server).model(&unlisted), Err(Error::TooLarge { .. })));
}

#[test]
fn the_token_goes_to_the_endpoint_and_not_where_it_redirects() {
    let (server, elsewhere) = (Server::start(), Server::start());
    serve_model(&server, &[("config.json", "{}"), ("generation_config.json", "[]")]);
    // Out and back: once a redirect has left the endpoint, nothing that follows is trusted.
    server.answer(&file("config.json"), [redirect(&format!("{}/blob", elsewhere.url))]);
    elsewhere.answer("/blob", [redirect(&format!("{}/back", server.url))]);
    server.answer("/back", [ok("{}")]);
    server.answer(&file("generation_config.json"), [redirect("/moved")]).answer("/moved", [ok("[]")]);
    let hub = hub_with_token(&server);
    let found = find_model(&hub).expect("there");
    assert!(hub.model(&found).is_ok());

    let token_to = |server: &Server, path: &str| {
        let seen = server.seen().into_iter().find(|seen| seen.path == path).expect("asked");
        seen.authorization
    };
    for path in [MODEL, &file("config.json"), &file("generation_config.json"), "/moved"] {
        assert_eq!(token_to(&server, path).as_deref(), Some("Bearer hf_secret"), "{path}");
    }
    assert_eq!(token_to(&elsewhere, "/blob"), None);
    assert_eq!(token_to(&server, "/back"), None);
}

#[test]
fn a_refusal_elsewhere_says_nothing_of_the_token() {
    let (server, elsewhere) = (Server::start(), Server::start());
    serve_model(&server, &[("config.json", "{}")]);
    server.answer(&file("config.json"), [redirect(&format!("{}/blob", elsewhere.url))]);
    elsewhere.answer("/blob", [status("403 Forbidden")]);
    let hub = hub_with_token(&server);
    let found = find_model(&hub).expect("there");
    assert!(matches!(hub.model(&found), Err(Error::BadAnswer { why, .. }) if why.contains("status 403")));
}

#[test]
fn the_server_of_rows_gets_no_token() {
    let (server, rows) = (Server::start(), Server::start());
    server.json(crate::DATASET, info(&[]));
    let token = Some(hub::Token::new("hf_secret").expect("sound"));
    let hub =
        Hub::new(Settings { token, rows_server: rows.url.clone(), ..settings(&server) }).expect("sound");
    let found = find(&hub, Kind::Dataset, "o/d", "main").expect("there");
    assert!(hub.dataset(&found, None).is_ok());
    assert!(!rows.seen().is_empty() && rows.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[test]
fn redirects_leave_https_never_and_end() {
    let server = Server::start();
    server.answer(MODEL, [redirect("http://example.org/x")]);
    let error = find_model(&hub(&server)).expect_err("not https");
    assert!(matches!(&error, Error::BadAnswer { why, .. } if why.contains("example.org")), "{error:?}");
    server.answer(MODEL, [redirect(MODEL)]);
    assert!(
        matches!(find_model(&hub(&server)), Err(Error::BadAnswer { why, .. }) if why.contains("too often"))
    );
    server.answer(MODEL, [status("302 Found")]);
    assert!(
        matches!(find_model(&hub(&server)), Err(Error::BadAnswer { why, .. }) if why.contains("nowhere"))
    );
}

#[test]
fn silence_is_a_timeout_and_a_closed_port_is_unreachable() {
    let server = Server::start();
    server.answer(MODEL, [Canned::Silence(Duration::from_secs(20))]);
    let impatient = Settings { timeout: Duration::from_millis(200), ..settings(&server) };
    let begin = Instant::now();
    let found = find_model(&Hub::new(impatient).expect("sound"));
    assert!(matches!(found, Err(Error::Timeout { host }) if host == "127.0.0.1"));
    assert!(begin.elapsed() < Duration::from_secs(10), "it was not asked again");

    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let closed = Settings { endpoint: format!("http://{port}"), ..settings(&server) };
    assert!(matches!(find_model(&Hub::new(closed).expect("sound")), Err(Error::Unreachable { .. })));
}

#[test]
fn no_error_repeats_the_token() {
    let server = Server::start();
    let hub = hub_with_token(&server);
    for answer in ["401 Unauthorized", "404 Not Found", "418 Teapot", "500 Internal Server Error"] {
        server.answer(MODEL, [status(answer)]);
        let error = find_model(&hub).expect_err("no success");
        assert!(!format!("{error} {error:?} {} {hub:?}", error.help()).contains("hf_secret"));
    }
}
