//! The connection: messages of the Language Server Protocol in, answers out.
//!
//! Messages are taken in order. Whatever waits is taken before diagnostics are made, so that a burst of edits
//! is checked once, and at once when it ends; a request that was cancelled while it waited is not answered.

mod capabilities;
mod requests;

use crate::editor::Editor;
use crate::outside::Outside;
use capabilities::Client;
use lsp_server::{Connection, ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::{
    DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams,
    PublishDiagnosticsParams,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long what was seen of the disk counts while a text is being changed.
const FRESH: Duration = Duration::from_secs(2);

/// Serves an editor over standard input and output; returns whether it left as the protocol wants.
///
/// # Errors
/// Fails when standard input or output does.
pub fn stdio(outside: impl Outside, base: &str) -> std::io::Result<bool> {
    let (connection, threads) = Connection::stdio();
    let orderly = serve(&connection, outside, base);
    // The threads end when nobody can send any more.
    drop(connection);
    threads.join()?;
    Ok(orderly)
}

/// Serves an editor until it leaves; returns whether it left as the protocol wants, with `shutdown` and `exit`.
/// `base` is the folder, absolute, that relative paths start at.
pub fn serve(connection: &Connection, outside: impl Outside, base: &str) -> bool {
    let Some((id, client)) = greet(connection) else { return false };
    let welcome = json!({
        "capabilities": capabilities::of_server(&client),
        "serverInfo": { "name": "adapt", "version": env!("CARGO_PKG_VERSION") },
    });
    send(connection, Response::new_ok(id, welcome));
    let editor = Editor::new(outside, base, client.abilities);
    Server { connection, editor, client, waiting: VecDeque::new(), seen: Instant::now(), leaving: false }
        .run()
}

/// Waits for `initialize`; nothing when the editor leaves before.
fn greet(connection: &Connection) -> Option<(RequestId, Client)> {
    for message in &connection.receiver {
        match message {
            Message::Request(request) if request.method == "initialize" => {
                return Some((request.id, Client::of(&request.params)));
            }
            Message::Request(request) => {
                let (code, message) = (ErrorCode::ServerNotInitialized as i32, "`initialize` comes first");
                send(connection, Response::new_err(request.id, code, message.to_owned()));
            }
            Message::Notification(notification) if notification.method == "exit" => return None,
            Message::Notification(_) | Message::Response(_) => {}
        }
    }
    None
}

/// Sends a message; one that the editor is gone for is lost, and the next read ends the loop.
fn send(connection: &Connection, message: impl Into<Message>) {
    let _ = connection.sender.send(message.into());
}

/// Reads the parameters of a message.
fn read<P: DeserializeOwned>(params: Value) -> Result<P, String> {
    serde_json::from_value(params).map_err(|error| error.to_string())
}

struct Server<'a, O: Outside> {
    connection: &'a Connection,
    editor: Editor<O>,
    client: Client,
    waiting: VecDeque<Message>,
    /// When the outside was last looked at anew.
    seen: Instant,
    /// Whether `shutdown` was asked for.
    leaving: bool,
}

impl<O: Outside> Server<'_, O> {
    fn run(mut self) -> bool {
        while let Some(message) = self.next() {
            match message {
                Message::Request(request) => self.request(request),
                Message::Notification(notification) if notification.method == "exit" => return self.leaving,
                Message::Notification(notification) => self.notification(notification),
                Message::Response(_) => {}
            }
        }
        false
    }

    /// Returns the next message. Diagnostics are sent when none waits.
    fn next(&mut self) -> Option<Message> {
        self.collect();
        if let Some(message) = self.waiting.pop_front() {
            return Some(message);
        }
        self.publish();
        self.connection.receiver.recv().ok()
    }

    /// Takes what waits; requests that are cancelled among it are refused.
    fn collect(&mut self) {
        for message in self.connection.receiver.try_iter() {
            match &message {
                Message::Notification(cancel) if cancel.method == "$/cancelRequest" => {
                    let id = cancel.params.get("id").cloned().unwrap_or_default();
                    let is_meant = |waiting: &Message| matches!(waiting, Message::Request(request) if json!(request.id) == id);
                    if let Some(at) = self.waiting.iter().position(is_meant)
                        && let Some(Message::Request(request)) = self.waiting.remove(at)
                    {
                        let (code, message) = (ErrorCode::RequestCanceled as i32, "cancelled");
                        send(self.connection, Response::new_err(request.id, code, message.to_owned()));
                    }
                }
                _ => self.waiting.push_back(message),
            }
        }
    }

    fn request(&mut self, request: Request) {
        let response = match request.method.as_str() {
            _ if self.leaving => {
                let message = "nothing is answered behind `shutdown`".to_owned();
                Response::new_err(request.id, ErrorCode::InvalidRequest as i32, message)
            }
            "shutdown" => {
                self.leaving = true;
                Response::new_ok(request.id, Value::Null)
            }
            _ => match requests::answer(&mut self.editor, &self.client, &request.method, request.params) {
                Ok(result) => Response::new_ok(request.id, result),
                Err((code, message)) => Response::new_err(request.id, code as i32, message),
            },
        };
        send(self.connection, response);
    }

    /// Takes note of a change; what cannot be read is skipped, as the protocol asks.
    fn notification(&mut self, notification: Notification) {
        let params = notification.params;
        match notification.method.as_str() {
            "initialized" => self.watch(),
            "textDocument/didOpen" => {
                if let Ok(DidOpenTextDocumentParams { text_document: text }) = read(params) {
                    let is_ours = text.language_id.to_string() != "kdl";
                    self.editor.open(text.uri, text.version, text.text, is_ours);
                    self.seen = Instant::now();
                }
            }
            "textDocument/didChange" => {
                if let Ok(DidChangeTextDocumentParams { text_document: text, content_changes }) = read(params)
                {
                    self.look_again();
                    self.editor.change(&text.text_document_identifier.uri, text.version, content_changes);
                }
            }
            "textDocument/didClose" => {
                if let Ok(DidCloseTextDocumentParams { text_document }) = read(params) {
                    self.editor.close(&text_document.uri);
                }
            }
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => {
                self.editor.refresh();
                self.seen = Instant::now();
                if self.client.pulls && self.client.refreshes {
                    self.ask("workspace/diagnostic/refresh", Value::Null);
                }
            }
            _ => {}
        }
    }

    /// Looks at the disk anew when the last look is too long ago.
    fn look_again(&mut self) {
        if self.seen.elapsed() > FRESH {
            self.editor.refresh();
            self.seen = Instant::now();
        }
    }

    /// Asks the editor to say when a file changes that a recipe may read.
    fn watch(&mut self) {
        if self.client.watches {
            let glob = "**/*.{kdl,json,jsonl,jinja,txt,lock,safetensors}";
            let options = json!({ "watchers": [{ "globPattern": glob }] });
            let method = "workspace/didChangeWatchedFiles";
            let registration = json!({ "id": "files", "method": method, "registerOptions": options });
            self.ask("client/registerCapability", json!({ "registrations": [registration] }));
        }
    }

    fn ask(&self, method: &str, params: Value) {
        let id = RequestId::from(method.to_owned());
        send(self.connection, Request { id, method: method.to_owned(), params });
    }

    /// Sends the diagnostics that have changed, unless the editor asks for them itself.
    fn publish(&mut self) {
        if self.client.pulls {
            return;
        }
        for report in self.editor.reports() {
            let params = PublishDiagnosticsParams {
                uri: report.uri,
                version: report.version,
                diagnostics: report.diagnostics,
            };
            let method = "textDocument/publishDiagnostics".to_owned();
            send(self.connection, Notification::new(method, params));
        }
    }
}
