//! What every import must hold, whatever the file.

use import::Imported;
use lang::facts::Facts;
use lang::{Input, check};
use saphyr_parser::{Event, Parser};
use std::collections::BTreeSet;

/// Asserts that the recipe checks and that every key of the file has an entry.
pub fn assert_sound(file: &str, text: &str, imported: &Imported) {
    let checked = check(&Input { path: "recipe.kdl", text: &imported.recipe, sets: &[] }, &Facts::default());
    let others: Vec<&str> = checked
        .diagnostics
        .iter()
        .filter(|found| found.code != "not-yet-runnable")
        .map(|found| found.message.as_str())
        .collect();
    assert!(others.is_empty(), "{file}: {others:?}\n{}", imported.recipe);
    let formatted = lang::format::format(&imported.recipe).ok();
    assert_eq!(
        formatted.as_deref(),
        Some(imported.recipe.as_str()),
        "{file}: not in the one form of recipes"
    );
    let reported: BTreeSet<(&str, u32)> =
        imported.report.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
    for (key, line) in keys(text) {
        assert!(reported.contains(&(key.as_str(), line)), "{file}: `{key}` on line {line} has no entry");
    }
    for entry in &imported.report {
        assert!(!entry.why.is_empty(), "{file}: `{}` has no reason", entry.key);
    }
}

/// Every key of a text with its path and line, read from the events alone.
pub fn keys(text: &str) -> Vec<(String, u32)> {
    let mut events = Vec::new();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.expect("what was imported is YAML");
        documents += usize::from(matches!(event, Event::DocumentStart(_)));
        events.push((event, span.start.line() as u32));
    }
    let mut walk = Walk { events, at: 0, found: Vec::new() };
    let mut document = 0;
    while walk.at < walk.events.len() {
        if matches!(walk.events[walk.at].0, Event::DocumentStart(_)) {
            walk.at += 1;
            let prefix = if documents > 1 { format!("[{document}]") } else { String::new() };
            walk.node(&prefix);
            document += 1;
        } else {
            walk.at += 1;
        }
    }
    walk.found
}

struct Walk<'a> {
    events: Vec<(Event<'a>, u32)>,
    at: usize,
    found: Vec<(String, u32)>,
}

impl Walk<'_> {
    fn node(&mut self, path: &str) {
        let event = self.events[self.at].0.clone();
        self.at += 1;
        match event {
            Event::MappingStart(..) => {
                while !matches!(self.events[self.at].0, Event::MappingEnd) {
                    let (Event::Scalar(key, ..), line) = self.events[self.at].clone() else {
                        panic!("a key of an imported file is a scalar");
                    };
                    self.at += 1;
                    let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
                    self.found.push((path.clone(), line));
                    self.node(&path);
                }
                self.at += 1;
            }
            Event::SequenceStart(..) => {
                let mut item = 0;
                while !matches!(self.events[self.at].0, Event::SequenceEnd) {
                    self.node(&format!("{path}[{item}]"));
                    item += 1;
                }
                self.at += 1;
            }
            _ => {}
        }
    }
}
