//! What this version runs, and what it only checks and plans: the statuses of the schema, with sources and formats.

use crate::reference::{Entry, entries};
use crate::schema::{self, Status};

/// Where the data or weights of a source lie, or in which form.
#[derive(Debug)]
pub struct Place {
    /// How the source begins or ends.
    pub mark: &'static str,
    pub doc: &'static str,
    pub status: Status,
}

/// Beginnings of sources.
pub static SCHEMES: &[Place] = &[
    Place { mark: "hf:", doc: "The hub.", status: Status::Later },
    Place { mark: "https://", doc: "The web.", status: Status::Later },
];

/// Endings of data files.
pub static FORMATS: &[Place] = &[
    Place { mark: ".jsonl", doc: "A JSON object per line.", status: Status::Built },
    Place { mark: ".json", doc: "A JSON list of objects.", status: Status::Built },
    Place { mark: ".txt", doc: "Plain text.", status: Status::Built },
    Place { mark: ".csv", doc: "Comma-separated values.", status: Status::Later },
    Place { mark: ".tsv", doc: "Tab-separated values.", status: Status::Later },
    Place { mark: ".parquet", doc: "Apache Parquet.", status: Status::Later },
    Place { mark: ".arrow", doc: "Apache Arrow.", status: Status::Later },
    Place { mark: ".gz", doc: "Any of these, compressed with gzip.", status: Status::Later },
    Place { mark: ".zst", doc: "Any of these, compressed with Zstandard.", status: Status::Later },
    Place { mark: ".zip", doc: "Any of these, in a ZIP archive.", status: Status::Later },
    Place { mark: ".xz", doc: "Any of these, compressed with xz.", status: Status::Later },
];

/// Words among the free texts of a child that do not run yet: child, word.
pub static WORDS: &[(&str, &str)] = &[("train", "new-rows")];

/// Returns the page `docs/language/capabilities.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# What runs\n\nWritten from `stdlib` by a test. `adapt check` and `adapt plan` take the whole language; what is \
         under *not yet* is checked and planned, marked with [`not-yet-runnable`](../diagnostics/not-yet-runnable.md), \
         and refused by `adapt run` before it does anything.\n\n## Nodes\n\n| node | runs | not yet |\n|---|---|---|\n",
    );
    for top in schema::TOP {
        let all = matches!(top.status, Status::Later);
        let parts = if all { "all of it".to_owned() } else { later_parts(top.name).join(", ") };
        page += &format!("| `{}` | {} | {parts} |\n", top.name, if all { "no" } else { "yes" });
    }
    page += &table(
        "Templates",
        schema::TEMPLATES.iter().map(|entry| (format!("std:{}", entry.name), entry.status)),
    );
    page += &table(
        "Architectures",
        schema::ARCHITECTURES.iter().map(|entry| (entry.name.to_owned(), entry.status)),
    );
    let local = [("a path".to_owned(), Status::Built), ("new:ARCH".to_owned(), Status::Built)];
    page += &table("Sources", local.into_iter().chain(places(SCHEMES)));
    page += &table("Data files", places(FORMATS));
    page
}

fn places(places: &'static [Place]) -> impl Iterator<Item = (String, Status)> {
    places.iter().map(|place| (place.mark.to_owned(), place.status))
}

/// What of a node that runs does not run yet: children, properties and words, without what stands in those.
fn later_parts(top: &str) -> Vec<String> {
    let trains = top == "defaults" || schema::top(top).is_some_and(|top| top.training);
    let mut found: Vec<String> = Vec::new();
    for (path, entry) in entries() {
        let Some(inner) = path.strip_prefix(&format!("{top}.")) else { continue };
        let is_within =
            found.iter().any(|known: &String| inner.starts_with(&format!("{}.", known.trim_matches('`'))));
        if entry.status() == Status::Later && !is_within && !matches!(entry, Entry::Field(..)) {
            found.push(format!("`{inner}`"));
        }
        let words = WORDS.iter().filter(|(child, _)| trains && *child == inner);
        found.extend(words.map(|(child, word)| format!("`{child}.{word}`")));
    }
    found
}

fn table(title: &str, rows: impl Iterator<Item = (String, Status)>) -> String {
    let (mut runs, mut later) = (Vec::new(), Vec::new());
    for (name, status) in rows {
        match status {
            Status::Built => runs.push(format!("`{name}`")),
            Status::Later => later.push(format!("`{name}`")),
        }
    }
    let or_none = |names: Vec<String>| if names.is_empty() { "–".to_owned() } else { names.join(", ") };
    format!("\n## {title}\n\n| runs | not yet |\n|---|---|\n| {} | {} |\n", or_none(runs), or_none(later))
}
