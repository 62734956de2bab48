//! SARIF 2.1.0, for code scanning and editors. <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>
//!
//! One run with a rule for every code that occurs, its page as help. Columns count Unicode scalar
//! values, ends are exclusive. A `--set` value stands in no file: its finding is placed at what it
//! replaces, else at the start of the recipe, and names the argument.

use super::{Found, Place, home, message, position, severity};
use lang::diagnostic::{Diagnostic, Edit, Label, Severity};
use lang::source::{Source, SourceKind, Span};
use serde_json::{Value, json};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// Builds the log of one run of the command.
pub fn to_sarif(found: &[Found]) -> Value {
    let mut log = Log::default();
    let results: Vec<Value> = found
        .iter()
        .flat_map(|found| found.diagnostics.iter().map(move |diagnostic| (diagnostic, found.sources)))
        .map(|(diagnostic, sources)| log.result(diagnostic, sources))
        .collect();
    let errors = found.iter().flat_map(|found| found.diagnostics);
    let failed = errors.into_iter().any(|found| found.severity == Severity::Error);
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "adapt",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": log.codes.iter().map(|code| rule(code)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{ "executionSuccessful": true, "exitCode": i32::from(failed) }],
            "artifacts": log.files.iter().map(|file| json!({ "location": { "uri": uri(file) } })).collect::<Vec<_>>(),
            "results": results,
        }],
    })
}

/// A code with its page.
fn rule(code: &str) -> Value {
    let page = stdlib::pages::find(code).unwrap_or_default();
    let summary = stdlib::pages::summary(page);
    json!({
        "id": code,
        "shortDescription": { "text": if summary.is_empty() { code } else { summary } },
        "help": { "text": page, "markdown": page },
    })
}

/// The codes and files met so far; results refer to them by index.
#[derive(Default)]
struct Log {
    codes: Vec<String>,
    files: Vec<String>,
}

impl Log {
    fn result(&mut self, diagnostic: &Diagnostic, sources: &[Source]) -> Value {
        let place = home(diagnostic, sources);
        let mut location = self.location(place, sources);
        if let Some((index, argument)) = set_of(diagnostic.primary(), sources) {
            location["logicalLocations"] = json!([{
                "name": format!("--set {argument}"),
                "fullyQualifiedName": format!("--set/{index}"),
                "kind": "parameter",
            }]);
        }
        let mut result = json!({
            "ruleId": diagnostic.code,
            "ruleIndex": index_of(&mut self.codes, &diagnostic.code),
            "level": severity(diagnostic.severity),
            "message": { "text": message(diagnostic, sources) },
            "locations": [location],
        });
        let related = self.related(diagnostic, sources);
        if !related.is_empty() {
            result["relatedLocations"] = json!(related);
        }
        let fixes = self.fixes(diagnostic, sources);
        if !fixes.is_empty() {
            result["fixes"] = json!(fixes);
        }
        result
    }

    /// The secondary labels that stand in a file.
    fn related(&mut self, diagnostic: &Diagnostic, sources: &[Source]) -> Vec<Value> {
        let in_file = |label: &&Label| !label.primary && set_of(label.span, sources).is_none();
        let labels = diagnostic.labels.iter().filter(in_file).enumerate();
        labels
            .map(|(index, label)| {
                let mut location = self.location(Place::of(label.span, sources), sources);
                location["id"] = json!(index + 1);
                location["message"] = json!({ "text": label.message });
                location
            })
            .collect()
    }

    fn fixes(&mut self, diagnostic: &Diagnostic, sources: &[Source]) -> Vec<Value> {
        let fixes = super::fixes(diagnostic, sources);
        fixes
            .map(|fix| {
                json!({
                    "description": { "text": fix.title },
                    "artifactChanges": self.changes(&fix.edits, sources),
                })
            })
            .collect()
    }

    /// The edits of a fix, gathered by file.
    fn changes(&mut self, edits: &[Edit], sources: &[Source]) -> Vec<Value> {
        let mut files: Vec<u32> = edits.iter().map(|edit| edit.span.source.0).collect();
        files.dedup();
        let of_file = |file: u32| {
            let edits = edits.iter().filter(move |edit| edit.span.source.0 == file);
            edits.map(move |edit| {
                let region = region(&sources[file as usize].text, edit.span);
                json!({ "deletedRegion": region, "insertedContent": { "text": edit.text } })
            })
        };
        files
            .iter()
            .map(|&file| {
                json!({
                    "artifactLocation": self.artifact(&sources[file as usize]),
                    "replacements": of_file(file).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    fn location(&mut self, place: Place, sources: &[Source]) -> Value {
        let source = &sources[place.0.source.0 as usize];
        json!({ "physicalLocation": {
            "artifactLocation": self.artifact(source),
            "region": region(&source.text, place.0),
        } })
    }

    fn artifact(&mut self, source: &Source) -> Value {
        json!({ "uri": uri(&source.path), "index": index_of(&mut self.files, &source.path) })
    }
}

fn index_of(list: &mut Vec<String>, item: &str) -> usize {
    list.iter().position(|known| known == item).unwrap_or_else(|| {
        list.push(item.to_owned());
        list.len() - 1
    })
}

/// The `--set` argument that a place lies in: its index and text.
fn set_of(span: Span, sources: &[Source]) -> Option<(u32, &str)> {
    let source = &sources[span.source.0 as usize];
    match source.kind {
        SourceKind::Set(index) => Some((index, &source.text)),
        SourceKind::Recipe => None,
    }
}

fn region(text: &str, span: Span) -> Value {
    let ((start_line, start_column), (end_line, end_column)) =
        (position(text, span.start), position(text, span.end));
    json!({
        "startLine": start_line,
        "startColumn": start_column,
        "endLine": end_line,
        "endColumn": end_column,
        "byteOffset": span.start,
        "byteLength": span.end - span.start,
    })
}

/// Writes a path as a URI reference: relative ones stay relative, what a URI cannot hold is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte as char)
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("a b/é.kdl"), "a%20b/%C3%A9.kdl");
        assert_eq!(uri("/r/a.kdl"), "file:///r/a.kdl");
        assert_eq!(uri("c:x.kdl"), "c%3Ax.kdl");
    }
}
