//! A small server with canned answers, on this machine, that remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
}

/// What is written back.
#[derive(Debug, Clone)]
pub enum Canned {
    /// Bytes as they are; then the connection closes.
    Raw(Vec<u8>),
    /// Nothing for a while.
    Silence(Duration),
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Vec<Canned>>,
    seen: Vec<Seen>,
}

pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Starts one; its thread ends with the process.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let of_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_thread);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Server { url, state }
    }

    /// Sets the answers of a path, in their order; the last one stays.
    pub fn answer(&self, path: &str, answers: impl IntoIterator<Item = Canned>) -> &Self {
        let answers = answers.into_iter().collect();
        self.state.lock().expect("no test panics with it").answers.insert(path.into(), answers);
        self
    }

    /// Sets a body of JSON.
    pub fn json(&self, path: &str, value: serde_json::Value) -> &Self {
        self.answer(path, [ok(&value.to_string())])
    }

    /// Returns what was asked, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().expect("no test panics with it").seen.clone()
    }

    /// Returns how often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }
}

/// An answer with a status, headers and a body.
pub fn canned(status: &str, headers: &[(&str, &str)], body: &str) -> Canned {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    Canned::Raw(text.into_bytes())
}

pub fn ok(body: &str) -> Canned {
    canned("200 OK", &[], body)
}

pub fn status(status: &str) -> Canned {
    canned(status, &[], "{}")
}

pub fn redirect(to: &str) -> Canned {
    canned("302 Found", &[("Location", to)], "")
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(seen) = read(&stream) else { return };
    let answer = {
        let mut state = state.lock().expect("no test panics with it");
        let path = seen.path.clone();
        state.seen.push(seen);
        match state.answers.get_mut(&path) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => status("404 Not Found"),
        }
    };
    match answer {
        // The client may have hung up, as one that refuses a large file does.
        Canned::Raw(bytes) => drop(stream.write_all(&bytes)),
        Canned::Silence(time) => std::thread::sleep(time),
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut authorization = None;
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.to_owned());
        }
    }
    Some(Seen { path, authorization })
}
