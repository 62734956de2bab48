//! Times parsing and checking: `cargo run --release -p lang --example time_check -- RECIPE.kdl …`.
//!
//! Every recipe is also timed at 300 lines or more, by repeating what it declares.

use lang::facts::Facts;
use lang::source::SourceId;
use lang::{Input, check, syntax};
use std::time::{Duration, Instant};

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines = text.lines().count().max(1);
        for copies in [1, 300usize.div_ceil(lines)] {
            time(&path, &repeated(&text, copies));
        }
    }
}

fn time(path: &str, text: &str) {
    let check = |text: &str| drop(check(&Input { path, text, sets: &[] }, &Facts::default()));
    println!(
        "{path}: {} lines, {} bytes: parse {:?}, recovery reader {:?}, check {:?}",
        text.lines().count(),
        text.len(),
        best(text, |text| drop(syntax::parse(SourceId(0), text))),
        best(text, |text| drop(syntax::recover(SourceId(0), text))),
        best(text, check),
    );
}

/// Repeats the declarations of a recipe.
fn repeated(text: &str, copies: usize) -> String {
    let copy = text.replacen("adapt 1\n", "", 1);
    text.to_owned() + &copy.repeat(copies - 1)
}

/// The best of many times, each with a text of its own, since texts that were read are remembered.
fn best(text: &str, work: impl Fn(&str)) -> Duration {
    let once = |number: usize| {
        let text = format!("{text}\n// {number}");
        let start = Instant::now();
        work(&text);
        start.elapsed()
    };
    (0..50).map(once).min().unwrap_or_default()
}
