//! Times parsing and checking: `cargo run --release -p lang --example time_check -- RECIPE.kdl …`.
//!
//! Every recipe is also timed three times as long, by repeating it under other names.

use lang::facts::Facts;
use lang::source::SourceId;
use lang::{Input, check, syntax};
use std::time::{Duration, Instant};

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines = text.lines().count();
        for copies in [1, 300usize.div_ceil(lines.max(1))] {
            let text = repeated(&text, copies);
            println!(
                "{path}: {} lines, {} bytes: parse {:?}, recovery reader {:?}, check {:?}",
                text.lines().count(),
                text.len(),
                best(|| drop(syntax::parse(SourceId(0), &text))),
                best(|| drop(syntax::recover(SourceId(0), &text))),
                best(|| drop(check(&Input { path: &path, text: &text, sets: &[] }, &Facts::default()))),
            );
        }
    }
}

/// Repeats the declarations of a recipe; names are repeated with them, which costs what other names would.
fn repeated(text: &str, copies: usize) -> String {
    let copy = text.replacen("adapt 1\n", "", 1);
    text.to_owned() + &copy.repeat(copies - 1)
}

fn best(work: impl Fn()) -> Duration {
    let once = || {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..50).map(|_| once()).min().unwrap_or_default()
}
