//! The fixtures: what becomes of each is a snapshot, and all of it checks.

mod support;

use import::{import, render};
use std::path::Path;

/// Imports a fixture and writes recipe, report and what else is said of it.
fn shown(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    let text = std::fs::read_to_string(&path).expect("a fixture is readable");
    match import(&text, file) {
        Ok(imported) => {
            support::assert_sound(file, &text, &imported);
            format!("{}\n---\n{}", imported.recipe, render(&imported.report))
        }
        Err(problems) => {
            let lines = problems.iter().map(|found| {
                format!(
                    "{file}:{}:{}: [{}] {}\n  help: {}\n",
                    found.line, found.column, found.code, found.message, found.help
                )
            });
            lines.collect()
        }
    }
}

#[test]
fn every_fixture_is_as_it_was() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry is readable").file_name().into_string().expect("a plain name"))
        .collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let name = file.rsplit_once('.').expect("a fixture has an ending").0.to_owned();
        insta::assert_snapshot!(name, shown(&file));
    }
}
