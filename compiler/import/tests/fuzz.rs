//! Broken files: whatever is done to a fixture, it is imported or refused, soon, and soundly.

mod support;

use import::import;
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

fn fixtures() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = std::fs::read_dir(folder).expect("the fixtures are there");
    let paths = entries.map(|entry| entry.expect("an entry is readable").path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).expect("a fixture is text")).collect()
}

/// What is done to a text.
#[derive(Debug, Clone)]
enum Change {
    Insert(usize, String),
    Delete(usize, usize),
    RepeatLine(usize),
    DropLine(usize),
    SwapLines(usize, usize),
    /// Replaces the value of a line.
    Value(usize, String),
    Indent(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    let piece = prop_oneof![
        Just(":".to_owned()),
        Just("\n".to_owned()),
        Just("- ".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("<<: *a\n".to_owned()),
        Just("\u{202e}".to_owned()),
        Just("é".to_owned()),
        Just("\u{0}".to_owned()),
        Just("---\n".to_owned()),
        Just("{".to_owned()),
        Just("[[[[".to_owned()),
        Just("\"".to_owned()),
        Just("# ".to_owned()),
        Just("!!float ".to_owned()),
        Just("\r".to_owned()),
        "\\PC{0,6}",
    ];
    let value = prop_oneof![
        Just("1e999".to_owned()),
        Just("-0".to_owned()),
        Just(".nan".to_owned()),
        Just("9223372036854775808".to_owned()),
        Just("{a: {b: [1]}}".to_owned()),
        Just("[]".to_owned()),
        Just("\"\"".to_owned()),
        Just("no".to_owned()),
        Just("'$x \\ \" {content}'".to_owned()),
        Just("\"\\u202e\\0\\n\"".to_owned()),
        Just("5e-324".to_owned()),
        Just("1:99:99".to_owned()),
        Just("''".to_owned()),
        Just("0.1".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("../../a b/ü".to_owned()),
        Just("-1".to_owned()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
    ];
    prop_oneof![
        (at(), piece).prop_map(|(at, text)| Change::Insert(at, text)),
        (at(), 1..40usize).prop_map(|(at, count)| Change::Delete(at, count)),
        at().prop_map(Change::RepeatLine),
        at().prop_map(Change::DropLine),
        (at(), at()).prop_map(|(a, b)| Change::SwapLines(a, b)),
        (at(), value.clone()).prop_map(|(at, text)| Change::Value(at, text)),
        (at(), value).prop_map(|(at, text)| Change::Value(at, text)),
        (at(), 0..6usize).prop_map(|(at, count)| Change::Indent(at, count)),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let count = lines.len().max(1);
    match change {
        Change::Insert(at, piece) => {
            let mut at = at % (text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            return format!("{}{piece}{}", &text[..at], &text[at..]);
        }
        Change::Delete(at, length) => {
            let letters: Vec<char> = text.chars().collect();
            let at = at % (letters.len() + 1);
            let end = (at + length).min(letters.len());
            return letters[..at].iter().chain(&letters[end..]).collect();
        }
        Change::RepeatLine(at) => {
            if let Some(line) = lines.get(at % count).cloned() {
                lines.insert(at % count, line);
            }
        }
        Change::DropLine(at) => {
            if at % count < lines.len() {
                lines.remove(at % count);
            }
        }
        Change::SwapLines(a, b) => {
            if !lines.is_empty() {
                lines.swap(a % count, b % count);
            }
        }
        Change::Value(at, value) => {
            if let Some(line) = lines.get_mut(at % count)
                && let Some((key, _)) = line.split_once(": ")
            {
                *line = format!("{key}: {value}\n");
            }
        }
        Change::Indent(at, spaces) => {
            if let Some(line) = lines.get_mut(at % count) {
                *line = format!("{}{}", " ".repeat(*spaces), line.trim_start());
            }
        }
    }
    lines.concat()
}

/// `ADAPT_FUZZ_CASES` asks for more than the default run.
fn cases() -> u32 {
    std::env::var("ADAPT_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_broken_file_is_imported_soundly_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let fixtures = fixtures();
        let text = changes.iter().fold(fixtures[which.index(fixtures.len())].clone(), |text, change| apply(&text, change));
        let start = Instant::now();
        match import(&text, "recipes/orpo.yml") {
            Ok(imported) => support::assert_sound("a mutated fixture", &text, &imported),
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(problem.start <= problem.end && problem.end as usize <= text.len(), "{problem:?}");
                    prop_assert!(text.is_char_boundary(problem.start as usize), "{problem:?}");
                }
            }
        }
        prop_assert!(start.elapsed() < Duration::from_secs(1));
    }
}
