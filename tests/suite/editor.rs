//! `adapt lsp` over real standard input and output: a session as an editor has it.

use crate::workshop::Workshop;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};

/// An editor with the server as its child.
struct Editor {
    server: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    next: u64,
}

impl Editor {
    fn start(shop: &Workshop, encodings: &[&str]) -> Self {
        let mut command = shop.command(&["lsp"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut server = command.spawn().unwrap();
        let (to, from) = (server.stdin.take().unwrap(), BufReader::new(server.stdout.take().unwrap()));
        let mut editor = Editor { server, to, from, next: 0 };
        let capabilities = json!({ "general": { "positionEncodings": encodings } });
        let welcome = editor.ask("initialize", json!({ "processId": null, "capabilities": capabilities }));
        assert_eq!(welcome["capabilities"]["positionEncoding"], encodings[0]);
        editor.tell("initialized", json!({}));
        editor
    }

    fn write(&mut self, message: &Value) {
        let text = message.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.to.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.write(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.write(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.read();
            if message["id"] == id && message.get("method").is_none() {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "the server has ended");
            if line.trim().is_empty() {
                break;
            }
            if let Some(number) = line.strip_prefix("Content-Length:") {
                length = number.trim().parse().unwrap();
            }
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Waits for the diagnostics of a version of the text.
    fn diagnostics(&mut self, version: i64) -> Vec<Value> {
        loop {
            let message = self.read();
            let is_meant = message["method"] == "textDocument/publishDiagnostics";
            if is_meant && message["params"]["version"] == version {
                return message["params"]["diagnostics"].as_array().unwrap().clone();
            }
        }
    }

    fn open(&mut self, uri: &str, text: &str) -> Vec<Value> {
        let item = json!({ "uri": uri, "languageId": "adapt", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": item }));
        self.diagnostics(1)
    }

    fn change(&mut self, uri: &str, version: i64, range: &Value, text: &str) -> Vec<Value> {
        let versioned = json!({ "uri": uri, "version": version });
        let change = json!({ "range": range, "text": text });
        self.tell("textDocument/didChange", json!({ "textDocument": versioned, "contentChanges": [change] }));
        self.diagnostics(version)
    }

    fn leave(mut self) {
        assert_eq!(self.ask("shutdown", Value::Null), Value::Null);
        self.tell("exit", Value::Null);
        assert_eq!(self.server.wait().unwrap().code(), Some(0));
    }
}

/// The recipe of the workshop, with emoji before what is changed.
fn text(shop: &Workshop) -> String {
    let text = shop.read("tiny.kdl");
    let text = text.replace("cpt dutch {", "/* 🙂🙂 */ cpt dutch {");
    text.replace("    template std:chatml\n", "    /* 🙂 */ template std:chatml\n")
}

fn uri(shop: &Workshop, name: &str) -> String {
    format!("file://{}", shop.path(name).display())
}

/// Returns the line that holds a word, and the column of the word in UTF-16.
fn place(text: &str, word: &str) -> (usize, usize) {
    let at = text.find(word).unwrap_or_else(|| panic!("no `{word}`"));
    let before = &text[..at];
    let column = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count(), column.encode_utf16().count())
}

fn range(line: usize, from: usize, to: usize) -> Value {
    json!({ "start": { "line": line, "character": from }, "end": { "line": line, "character": to } })
}

#[test]
fn a_session_opens_breaks_completes_fixes_renames_and_closes() {
    let shop = Workshop::new();
    let (uri, text) = (uri(&shop, "tiny.kdl"), text(&shop));
    let mut editor = Editor::start(&shop, &["utf-16"]);
    let before = editor.open(&uri, &text);

    let (line, column) = place(&text, "template std:chatml");
    let word = range(line, column, column + "template".len());
    let broken = editor.change(&uri, 2, &word, "templat");
    let found = broken.iter().find(|found| found["code"] == "unknown-option").unwrap();
    assert_eq!(found["range"], range(line, column, column + "templat".len()));

    let position = json!({ "line": line, "character": column + "templ".len() });
    let asked = json!({ "textDocument": { "uri": uri }, "position": position });
    let completed = editor.ask("textDocument/completion", asked);
    let items = completed["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["label"] == "template"), "{completed}");

    let context = json!({ "diagnostics": [found] });
    let asked = json!({ "textDocument": { "uri": uri }, "range": found["range"], "context": context });
    let actions = editor.ask("textDocument/codeAction", asked);
    let edit = &actions[0]["edit"]["changes"][&uri][0];
    assert_eq!(edit["newText"], "template", "{actions}");
    let fixed = editor.change(&uri, 3, &edit["range"].clone(), "template");
    assert_eq!(fixed, before);

    let (line, column) = place(&text, "dutch {");
    let position = json!({ "line": line, "character": column + 1 });
    let asked = json!({ "textDocument": { "uri": uri }, "position": position, "newName": "gelezen" });
    let renamed = editor.ask("textDocument/rename", asked);
    let edits = renamed["changes"][&uri].as_array().unwrap();
    assert_eq!(edits.len(), 2, "its declaration and the stage that starts from it: {renamed}");
    assert_eq!(edits[0]["range"], range(line, column, column + "dutch".len()));

    editor.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    editor.leave();
}

#[test]
fn the_editor_is_told_what_check_says() {
    let shop = Workshop::new();
    shop.edit("    batch 4\n    steps 8\n", "    batch 0 /* 🙂 */ micro=true\n    stepz 8\n");
    shop.edit("model dutch", "model duch");
    let text = shop.read("tiny.kdl");
    let checked = shop.run(&["check", "tiny.kdl", "--format", "json"]);
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    let expected: Vec<(Value, String, u64, u64)> = checked["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let labels = found["labels"].as_array().unwrap();
            let start = &labels.iter().find(|label| label["primary"] == true).unwrap()["start"];
            let (line, column) = (start["line"].as_u64().unwrap(), start["column"].as_u64().unwrap());
            let message = found["message"].as_str().unwrap().to_owned();
            (found["code"].clone(), message, line - 1, column - 1)
        })
        .collect();
    let mut editor = Editor::start(&shop, &["utf-8"]);
    let found = editor.open(&uri(&shop, "tiny.kdl"), &text);
    let told: Vec<(Value, String, u64, u64)> = found
        .iter()
        .map(|found| {
            let start = &found["range"]["start"];
            let (line, bytes) = (start["line"].as_u64().unwrap(), start["character"].as_u64().unwrap());
            // `check` counts characters, the editor here bytes.
            let written = text.lines().nth(line as usize).unwrap_or_default();
            let column = written[..bytes as usize].chars().count() as u64;
            let message = found["message"].as_str().unwrap().lines().next().unwrap_or_default().to_owned();
            (found["code"].clone(), message, line, column)
        })
        .collect();
    assert!(expected.len() >= 3, "{expected:?}");
    assert_eq!(told, expected);
    editor.leave();
}
