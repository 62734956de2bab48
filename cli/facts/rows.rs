//! The first rows of data: columns, roles, bytes of a row.

use super::files::look_at;
use lang::facts::{PathFact, RowsFact};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Bytes of a data file that are looked at for its columns.
const FIRST_BYTES: u64 = 256 << 10;

/// Files of a dataset that are looked at for columns.
const MOST_FILES: usize = 64;

/// Rows that are looked at for columns.
const FIRST_ROWS: usize = 16;

/// Looks at the first rows of a dataset for its columns and splits.
pub(super) fn rows(source: &str) -> RowsFact {
    let files = match look_at(source) {
        PathFact::File(_) => vec![source.to_owned()],
        PathFact::Many(files) => files.into_iter().map(|(path, _)| path).collect(),
        PathFact::Missing | PathFact::Unreadable(_) => Vec::new(),
    };
    let stem = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.split('.').next().unwrap_or(name).to_owned()
    };
    let mut splits: Vec<String> = files.iter().map(stem).collect();
    splits.dedup();
    let file = files.first().cloned().unwrap_or_default();
    let row_bytes = row_bytes(Path::new(&file));
    let mut fact = RowsFact {
        columns: Vec::new(),
        splits,
        split_rows: BTreeMap::new(),
        measured: None,
        roles: roles(Path::new(&file)),
        file: file.clone(),
        row_bytes,
        problem: None,
    };
    if file.is_empty() {
        fact.problem = Some("there is no data file".into());
        return fact;
    }
    // Of several files the one with the fewest columns tells what may be relied on.
    for path in files.iter().take(MOST_FILES) {
        match columns(Path::new(path)) {
            Ok(columns)
                if fact.columns.is_empty()
                    || columns.len() < fact.columns.len()
                    || !holds(&columns, &fact.columns) =>
            {
                fact.columns = columns;
                fact.file = path.clone();
            }
            Ok(_) => {}
            Err(problem) => fact.problem = Some(problem),
        }
    }
    fact
}

fn holds(columns: &[String], others: &[String]) -> bool {
    others.iter().all(|other| columns.contains(other))
}

/// Returns the mean bytes of the first rows of a file with a row on each line.
fn row_bytes(file: &Path) -> Option<f64> {
    let mut bytes = Vec::new();
    if file.extension()? != "jsonl" {
        return None;
    }
    fs::File::open(file).ok()?.take(FIRST_BYTES).read_to_end(&mut bytes).ok()?;
    let rows = bytes.iter().filter(|&&byte| byte == b'\n').count();
    (rows > 0).then(|| bytes.len() as f64 / rows as f64)
}

/// Returns the roles of messages in the first rows of a file with a row on each line, each with its first place.
fn roles(file: &Path) -> BTreeMap<String, String> {
    let mut roles = BTreeMap::new();
    let mut bytes = Vec::new();
    let reader = fs::File::open(file).ok().filter(|_| file.extension().is_some_and(|end| end == "jsonl"));
    if reader.is_none_or(|reader| reader.take(FIRST_BYTES).read_to_end(&mut bytes).is_err()) {
        return roles;
    }
    let text = String::from_utf8_lossy(&bytes);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().take(FIRST_ROWS).enumerate() {
        let Ok(row) = serde_json::from_str::<Value>(line) else { continue };
        let messages = row.get("messages").or(row.get("conversations")).and_then(Value::as_array);
        for message in messages.into_iter().flatten() {
            if let Some(role) = message.get("role").or(message.get("from")).and_then(Value::as_str) {
                let place = || format!("{}:{}", file.display(), number + 1);
                roles.entry(role.to_owned()).or_insert_with(place);
            }
        }
    }
    roles
}

/// Returns the names in the first line of a table; none where that holds quotes, which a quick look does not read.
fn header_of_table(text: &str, separator: char) -> Vec<String> {
    let line = text.lines().next().unwrap_or_default();
    if line.contains('"') {
        return Vec::new();
    }
    line.split(separator).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn columns(file: &Path) -> Result<Vec<String>, String> {
    if file.extension().is_some_and(|end| end == "txt") {
        return Ok(vec!["text".into()]);
    }
    let reader = fs::File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut bytes = Vec::new();
    reader.take(FIRST_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    match file.extension().and_then(|end| end.to_str()) {
        Some("csv") => return Ok(header_of_table(text, ',')),
        Some("tsv") => return Ok(header_of_table(text, '\t')),
        _ => {}
    }
    let mut columns: Vec<String> = Vec::new();
    let mut add = |row: &Value| {
        for name in row.as_object().into_iter().flat_map(|fields| fields.keys()) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    };
    if file.extension().is_some_and(|end| end == "json") && text.trim_start().starts_with('[') {
        // Rows of an array are read one by one, so that a long file need not be read to its end.
        let rest = text.trim_start().trim_start_matches('[');
        let mut rest = rest.trim_start();
        for _ in 0..FIRST_ROWS {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let Some(Ok(row)) = stream.next() else { break };
            add(&row);
            rest = rest[stream.byte_offset()..].trim_start().trim_start_matches(',').trim_start();
        }
    } else {
        // A broken row is the preparing's to report, with its number.
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.take(FIRST_ROWS).filter_map(|line| serde_json::from_str(line).ok()).for_each(|row| add(&row));
    }
    Ok(columns)
}
