//! A whole session over the protocol: open, break, complete, fix, rename, close, for text with emoji.

use crate::desk::Disk;
use lsp_server::{Connection, Message, Notification, Request, RequestId, Response};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// A client at the other end of a server that runs on a thread.
struct Client {
    connection: Connection,
    server: Option<JoinHandle<bool>>,
    folder: TempDir,
    next: i32,
}

impl Client {
    fn start(capabilities: Value) -> (Self, Value) {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let (server, connection) = Connection::memory();
        let base = folder.path().to_str().expect("UTF-8").to_owned();
        let server = std::thread::spawn(move || {
            let disk = Disk::at(std::path::Path::new(&base));
            lsp::serve(&server, disk, &base)
        });
        let mut client = Self { connection, server: Some(server), folder, next: 0 };
        let welcome = client.ask("initialize", json!({ "processId": null, "capabilities": capabilities }));
        client.tell("initialized", json!({}));
        (client, welcome)
    }

    fn uri(&self) -> String {
        format!("file://{}/a.kdl", self.folder.path().display())
    }

    fn tell(&self, method: &str, params: Value) {
        let message = Notification { method: method.into(), params };
        self.connection.sender.send(message.into()).expect("the server listens");
    }

    fn send(&mut self, method: &str, params: Value) -> RequestId {
        self.next += 1;
        let id = RequestId::from(self.next);
        let message = Request { id: id.clone(), method: method.into(), params };
        self.connection.sender.send(message.into()).expect("the server listens");
        id
    }

    fn receive(&self) -> Message {
        let patience = std::time::Duration::from_secs(20);
        self.connection.receiver.recv_timeout(patience).expect("the server answers")
    }

    fn response(&self, id: &RequestId) -> Response {
        loop {
            match self.receive() {
                Message::Response(response) if response.id == *id => return response,
                Message::Response(other) => panic!("an answer that was not waited for: {other:?}"),
                Message::Notification(_) | Message::Request(_) => {}
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        match self.response(&id).response_result {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error:?}"),
        }
    }

    /// Waits for the diagnostics of a version.
    fn diagnostics(&self, version: i32) -> Vec<Value> {
        loop {
            if let Message::Notification(found) = self.receive()
                && found.method == "textDocument/publishDiagnostics"
                && found.params["version"] == version
            {
                return found.params["diagnostics"].as_array().expect("a list").clone();
            }
        }
    }

    fn leave(mut self) {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        let server = self.server.take().expect("the server runs");
        assert!(server.join().expect("the server does not panic"), "it was left as the protocol wants");
    }
}

fn document(uri: &str) -> Value {
    json!({ "textDocument": { "uri": uri } })
}

fn at(uri: &str, line: u32, character: u32) -> Value {
    json!({ "textDocument": { "uri": uri }, "position": { "line": line, "character": character } })
}

fn codes(diagnostics: &[Value]) -> Vec<&str> {
    diagnostics.iter().map(|found| found["code"].as_str().expect("codes are words")).collect()
}

const RECIPE: &str = "adapt 1\n\
    param n 8 doc=\"how many 🙂🙂\"\n\
    model base \"base\"\n\
    dataset talks \"talks.jsonl\" {\n    rows text\n}\n\
    cpt /* 🙂 */ dutch {\n    model base; data talks; batch $n; steps 2\n    optimizer adamw lr=1e-4\n    sequence 64 pack=#true\n}\n";

#[test]
fn a_session_of_text_with_emoji() {
    let (mut client, welcome) = Client::start(json!({ "general": { "positionEncodings": ["utf-16"] } }));
    assert_eq!(welcome["capabilities"]["positionEncoding"], "utf-16");
    let uri = client.uri();
    let item = json!({ "uri": uri, "languageId": "adapt", "version": 1, "text": RECIPE });
    client.tell("textDocument/didOpen", json!({ "textDocument": item }));
    let opened = client.diagnostics(1);
    assert!(!codes(&opened).contains(&"bare-keyword"), "{opened:?}");
    // An editor that does not say that it follows links gets none, and nothing is written for it.
    assert!(opened.iter().all(|found| found["codeDescription"].is_null()), "{opened:?}");
    assert!(!client.folder.path().join("shown").exists());

    // Break it: `#true` becomes `true`, behind an emoji on an earlier line and in the range's own line.
    let text = RECIPE.replace("sequence 64 pack=#true", "/* 🙂 */ sequence 64 pack=true");
    let line = text.lines().position(|line| line.contains("pack")).expect("the line is there") as u32;
    let range =
        json!({ "start": { "line": line, "character": 4 }, "end": { "line": line, "character": 26 } });
    let change = json!({ "range": range, "text": "/* 🙂 */ sequence 64 pack=true" });
    let versioned = json!({ "uri": uri, "version": 2 });
    client.tell("textDocument/didChange", json!({ "textDocument": versioned, "contentChanges": [change] }));
    let broken = client.diagnostics(2);
    let found = broken.iter().find(|found| found["code"] == "bare-keyword").expect("`true` is refused");
    assert_eq!(found["range"]["start"], json!({ "line": line, "character": 30 }));
    assert_eq!(found["range"]["end"], json!({ "line": line, "character": 34 }));

    // Complete, in the broken text.
    let completed = client.ask("textDocument/completion", at(&uri, line, 4));
    assert!(!completed["items"].as_array().expect("a list").is_empty());

    // Fix it by the code action.
    let context = json!({ "diagnostics": [found] });
    let asked = json!({ "textDocument": { "uri": uri }, "range": found["range"], "context": context });
    let actions = client.ask("textDocument/codeAction", asked);
    let edits = &actions[0]["edit"]["changes"][&uri];
    assert_eq!(edits[0]["newText"], "#true", "{actions}");
    let change = json!({ "range": edits[0]["range"], "text": edits[0]["newText"] });
    let versioned = json!({ "uri": uri, "version": 3 });
    client.tell("textDocument/didChange", json!({ "textDocument": versioned, "contentChanges": [change] }));
    let fixed = client.diagnostics(3);
    assert_eq!(codes(&fixed), codes(&opened));

    // Rename, with an emoji before the name on its line.
    let line = text.lines().position(|line| line.starts_with("cpt")).expect("the stage is there") as u32;
    let mut asked = at(&uri, line, 14);
    asked["newName"] = json!("nederlands");
    let renamed = client.ask("textDocument/rename", asked.clone());
    let edits = renamed["changes"][&uri].as_array().expect("a list");
    assert_eq!(edits.len(), 1);
    assert_eq!(edits[0]["range"]["start"], json!({ "line": line, "character": 13 }));
    assert_eq!(edits[0]["range"]["end"], json!({ "line": line, "character": 18 }));
    asked["newName"] = json!("no name");
    let id = client.send("textDocument/rename", asked);
    assert!(
        client.response(&id).response_result.is_err_and(|error| error.message.contains("cannot be a name"))
    );

    client.tell("textDocument/didClose", document(&uri));
    let pulled = client.ask("textDocument/diagnostic", document(&uri));
    assert_eq!(pulled["items"], json!([]));
    client.leave();
}

#[test]
fn an_editor_that_pulls_is_not_pushed_at() {
    let capabilities = json!({
        "general": { "positionEncodings": ["utf-16", "utf-8"] },
        "textDocument": { "diagnostic": { "relatedDocumentSupport": true, "codeDescriptionSupport": true } },
    });
    let (mut client, welcome) = Client::start(capabilities);
    assert_eq!(welcome["capabilities"]["positionEncoding"], "utf-8");
    let uri = client.uri();
    let item = json!({ "uri": uri, "languageId": "adapt", "version": 1, "text": "/* 🙂 */ sfd a {\n" });
    client.tell("textDocument/didOpen", json!({ "textDocument": item }));
    let pulled = client.ask("textDocument/diagnostic", document(&uri));
    let items = pulled["items"].as_array().expect("a list");
    let unknown = items.iter().find(|found| found["code"] == "unknown-node").expect("`sfd` is unknown");
    assert_eq!(unknown["range"]["start"]["character"], 11);
    let page = unknown["codeDescription"]["href"].as_str().expect("a code leads to its page");
    assert!(page.starts_with("file://") && page.ends_with("/shown/diagnostics/unknown-node.md"), "{page}");
    let symbols = client.ask("textDocument/documentSymbol", document(&uri));
    assert_eq!(symbols[0]["name"], "sfd");
    client.leave();
}

#[test]
fn wrong_messages_are_answered_as_such() {
    let (mut client, _) = Client::start(json!({}));
    let id = client.send("textDocument/hover", json!({ "nonsense": 1 }));
    assert_eq!(client.response(&id).response_result.map_err(|error| error.code), Err(-32602));
    let id = client.send("adapt/nonsense", Value::Null);
    assert_eq!(client.response(&id).response_result.map_err(|error| error.code), Err(-32601));
    client.tell("textDocument/didChange", json!([1, 2]));
    client.tell("$/setTrace", json!({ "value": "off" }));
    let nowhere = at("file:///nowhere/x.kdl", 3, 3);
    assert_eq!(client.ask("textDocument/hover", nowhere), Value::Null);
    client.leave();
}

#[test]
fn a_burst_of_edits_is_checked_when_it_ends() {
    let (client, _) = Client::start(json!({}));
    let uri = client.uri();
    let item = json!({ "uri": uri, "languageId": "adapt", "version": 0, "text": "adapt 1\n" });
    client.tell("textDocument/didOpen", json!({ "textDocument": item }));
    let start = json!({ "line": 1, "character": 0 });
    for version in 1..=200 {
        let change = json!({ "range": { "start": start, "end": start }, "text": "sft a {\n}\n" });
        let versioned = json!({ "uri": uri, "version": version });
        client
            .tell("textDocument/didChange", json!({ "textDocument": versioned, "contentChanges": [change] }));
    }
    let last = client.diagnostics(200);
    let twice = codes(&last).iter().filter(|code| **code == "duplicate-name").count();
    assert_eq!(twice, 199);
    client.leave();
}

#[test]
fn every_request_has_its_answer() {
    let (mut client, _) = Client::start(json!({}));
    let uri = client.uri();
    let item = json!({ "uri": uri, "languageId": "adapt", "version": 1, "text": RECIPE });
    client.tell("textDocument/didOpen", json!({ "textDocument": item }));
    client.diagnostics(1);
    // `base` behind `model`, in the stage of the eighth line.
    let name = at(&uri, 7, 12);
    let found = client.ask("textDocument/definition", name.clone());
    assert_eq!(found[0]["range"]["start"], json!({ "line": 2, "character": 6 }));
    let mut asked = name.clone();
    asked["context"] = json!({ "includeDeclaration": true });
    assert_eq!(client.ask("textDocument/references", asked).as_array().map(Vec::len), Some(2));
    assert!(client.ask("textDocument/prepareRename", name).is_object());
    let folded = client.ask("textDocument/foldingRange", document(&uri));
    assert_eq!(folded.as_array().map(Vec::len), Some(2), "dataset and stage: {folded}");
    assert_eq!(client.ask("textDocument/documentLink", document(&uri)), json!([]));
    let whole = client.ask("textDocument/semanticTokens/full", document(&uri));
    let range = json!({ "start": { "line": 6, "character": 0 }, "end": { "line": 11, "character": 0 } });
    let mut asked = document(&uri);
    asked["range"] = range;
    let part = client.ask("textDocument/semanticTokens/range", asked.clone());
    let count = |tokens: &Value| tokens["data"].as_array().map_or(0, Vec::len);
    assert!(0 < count(&part) && count(&part) < count(&whole), "{part} of {whole}");
    assert!(client.ask("textDocument/inlayHint", asked).is_array());
    let mut asked = document(&uri);
    asked["options"] = json!({ "tabSize": 4, "insertSpaces": true });
    let edits = client.ask("textDocument/formatting", asked);
    assert!(!edits.as_array().expect("a list").is_empty(), "two nodes stand on one line");
    let mut asked = document(&uri);
    asked["range"] = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 9, "character": 0 } });
    asked["context"] = json!({ "diagnostics": [], "only": ["refactor"] });
    assert_eq!(client.ask("textDocument/codeAction", asked), json!([]), "fixes are no refactorings");
    client.leave();
}

#[test]
fn a_file_that_changes_is_looked_at_again() {
    let capabilities = json!({
        "textDocument": { "diagnostic": {} },
        "workspace": {
            "diagnostics": { "refreshSupport": true },
            "didChangeWatchedFiles": { "dynamicRegistration": true },
        },
    });
    let (client, _) = Client::start(capabilities);
    let request = |client: &Client| loop {
        if let Message::Request(request) = client.receive() {
            return request;
        }
    };
    let watch = request(&client);
    assert_eq!(watch.method, "client/registerCapability");
    let glob = &watch.params["registrations"][0]["registerOptions"]["watchers"][0]["globPattern"];
    assert!(glob.as_str().is_some_and(|glob| glob.contains("kdl") && glob.contains("lock")), "{glob}");
    let answer = Response::new_ok(watch.id, Value::Null);
    client.connection.sender.send(answer.into()).expect("the server listens");
    client.tell("workspace/didChangeWatchedFiles", json!({ "changes": [] }));
    assert_eq!(request(&client).method, "workspace/diagnostic/refresh");
    client.leave();
}

#[test]
fn the_order_of_a_session_is_kept() {
    let (server, connection) = Connection::memory();
    let folder = TempDir::new().expect("a temporary folder can be made");
    let base = folder.path().to_str().expect("UTF-8").to_owned();
    let disk = Disk::at(folder.path());
    let thread = std::thread::spawn(move || lsp::serve(&server, disk, &base));
    let ask = |id: i32, method: &str| {
        let request = Request { id: id.into(), method: method.into(), params: json!({ "capabilities": {} }) };
        connection.sender.send(request.into()).expect("the server listens");
        let Ok(Message::Response(response)) = connection.receiver.recv() else { panic!("an answer") };
        response.response_result.map_err(|error| error.code)
    };
    assert_eq!(ask(1, "textDocument/hover"), Err(-32002), "`initialize` comes first");
    assert!(ask(2, "initialize").is_ok());
    assert_eq!(ask(3, "shutdown"), Ok(Value::Null));
    assert_eq!(ask(4, "textDocument/hover"), Err(-32600), "nothing is answered behind `shutdown`");
    // An editor that is gone without a word did not leave as the protocol wants.
    drop(connection);
    assert!(!thread.join().expect("the server does not panic"));
}
