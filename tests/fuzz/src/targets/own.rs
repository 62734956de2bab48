//! Faults made on purpose: a test sees with them that each kind is found and its input saved.

use crate::outcome::{Finding, timed};
use std::time::{Duration, Instant};

pub fn run(input: &[u8]) -> Result<(), Finding> {
    let says = |word: &[u8]| input.windows(word.len()).any(|window| window == word);
    assert!(!says(b"panics"), "panics on purpose");
    if says(b"overflows") {
        return Err(Finding::new("no overflow", descend(0).to_string()));
    }
    if says(b"lingers") {
        let start = Instant::now();
        timed(|| while start.elapsed() < Duration::from_secs(1) {});
    }
    if says(b"hangs") {
        std::thread::sleep(Duration::from_secs(3600));
    }
    if says(b"lies") { Err(Finding::new("a lie", "")) } else { Ok(()) }
}

/// Recurses without an end in sight.
fn descend(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + room[7] }
}
