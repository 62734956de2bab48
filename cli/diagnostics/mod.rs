//! Diagnostics on their way out: drawn with their source, one per line, as JSON, SARIF or annotations.
//!
//! Compiler and editor share one type, [`lang::diagnostic::Diagnostic`]; its places are bytes. Here
//! they become lines and columns, which start at 1 and count Unicode scalar values.

mod github;
mod sarif;

use lang::diagnostic::{Diagnostic, Edit, Fix, Label, Severity};
use lang::source::{Source, SourceId, SourceKind, Span};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, Write};

/// How diagnostics are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Drawn with the source.
    #[default]
    Full,
    /// One line each: `file:line:column: error[code]: message`.
    Concise,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// What was found in one recipe, with the texts that the places point into.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub diagnostics: &'a [Diagnostic],
    pub sources: &'a [Source],
}

impl Found<'_> {
    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == severity).count()
    }
}

/// Writes what was found in one or several recipes.
///
/// # Errors
/// Fails when the output cannot be written.
pub fn print(found: &[Found], format: Format, color: bool, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Full => print_full(found, color, out),
        Format::Concise => print_concise(found, out),
        Format::Json => print_json(&to_json(found), out),
        Format::Sarif => print_json(&sarif::to_sarif(found), out),
        Format::Github => github::print(found, out),
    }
}

fn print_json(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn print_full(found: &[Found], color: bool, out: &mut dyn Write) -> io::Result<()> {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
    for found in found {
        for diagnostic in drawn(found) {
            writeln!(out, "{}", render(&diagnostic, found.sources, &handler))?;
        }
    }
    if let Some(line) = summary(found) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// What is drawn: of warnings that say the same of many places the first, with the others named below it.
fn drawn(found: &Found) -> Vec<Diagnostic> {
    let is_said = |one: &Diagnostic, other: &Diagnostic| {
        one.severity == Severity::Warning && one.code == other.code && one.message == other.message
    };
    let mut drawn: Vec<Diagnostic> = Vec::new();
    for (at, diagnostic) in found.diagnostics.iter().enumerate() {
        if found.diagnostics[..at].iter().any(|before| is_said(diagnostic, before)) {
            continue;
        }
        let others = found.diagnostics[at + 1..].iter().filter(|other| is_said(other, diagnostic));
        let places: Vec<String> = others.map(|other| place(other, found.sources)).collect();
        let mut diagnostic = diagnostic.clone();
        if !places.is_empty() {
            let more = if places.len() > MOST_PLACES { ", …" } else { "" };
            let shown = places.iter().take(MOST_PLACES).cloned().collect::<Vec<_>>().join(", ");
            diagnostic.notes.push(format!("the same at {shown}{more}"));
        }
        drawn.push(diagnostic);
    }
    drawn
}

/// How many further places are named.
const MOST_PLACES: usize = 12;

/// `line:column`, with the file where it is not the recipe itself.
fn place(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let at = diagnostic.primary();
    let source = &sources[at.source.0 as usize];
    let (line, column) = position(&source.text, at.start);
    if at.source.0 == 0 { format!("{line}:{column}") } else { format!("{}:{line}:{column}", name(source)) }
}

/// Counts errors and warnings in words; nothing when there are none.
fn summary(found: &[Found]) -> Option<String> {
    let count = |severity| found.iter().map(|found| found.count(severity)).sum::<usize>();
    let parts = [(count(Severity::Error), "error"), (count(Severity::Warning), "warning")];
    let written = parts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = written
        .map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Draws one diagnostic.
pub fn render(diagnostic: &Diagnostic, sources: &[Source], handler: &GraphicalReportHandler) -> String {
    let mut text = String::new();
    let drawn = Drawn::of(diagnostic, sources);
    match handler.render_report(&mut text, &drawn) {
        Ok(()) => text,
        // Writing to a string fails only when a place lies outside its text; the message still counts.
        Err(fmt::Error) => format!("{}\n\n  × {}\n", diagnostic.code, diagnostic.message),
    }
}

/// A diagnostic as miette wants it: one source, and places in other sources as related advice.
#[derive(Debug)]
struct Drawn<'a> {
    code: &'a str,
    message: &'a str,
    severity: miette::Severity,
    help: Option<String>,
    source: NamedSource<String>,
    labels: Vec<LabeledSpan>,
    related: Vec<Drawn<'a>>,
}

impl<'a> Drawn<'a> {
    fn of(diagnostic: &'a Diagnostic, sources: &[Source]) -> Self {
        let home = diagnostic.primary().source;
        let (here, elsewhere): (Vec<&Label>, Vec<&Label>) =
            diagnostic.labels.iter().partition(|label| label.span.source == home);
        let severity = match diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        };
        Self {
            code: &diagnostic.code,
            message: &diagnostic.message,
            severity,
            help: help(diagnostic),
            source: named(&sources[home.0 as usize]),
            labels: here.into_iter().map(labelled).collect(),
            related: elsewhere.into_iter().map(|label| Self::advice(label, sources)).collect(),
        }
    }

    /// A place in another source.
    fn advice(label: &'a Label, sources: &[Source]) -> Self {
        Self {
            code: "",
            message: &label.message,
            severity: miette::Severity::Advice,
            help: None,
            source: named(&sources[label.span.source.0 as usize]),
            labels: vec![labelled(label)],
            related: Vec::new(),
        }
    }
}

/// Help and notes, one per line.
fn help(diagnostic: &Diagnostic) -> Option<String> {
    let notes = diagnostic.notes.iter().map(|note| format!("note: {note}"));
    let lines: Vec<String> = diagnostic.help.iter().cloned().chain(notes).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn named(source: &Source) -> NamedSource<String> {
    NamedSource::new(name(source), source.text.clone())
}

fn labelled(label: &Label) -> LabeledSpan {
    let (start, len) = (label.span.start as usize, (label.span.end - label.span.start) as usize);
    let text = Some(label.message.clone()).filter(|text| !text.is_empty());
    let span = (start, len);
    if label.primary {
        LabeledSpan::new_primary_with_span(text, span)
    } else {
        LabeledSpan::new_with_span(text, span)
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.message)
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn code<'s>(&'s self) -> Option<Box<dyn fmt::Display + 's>> {
        (!self.code.is_empty()).then(|| Box::new(self.code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'s>(&'s self) -> Option<Box<dyn fmt::Display + 's>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'s>(&'s self) -> Option<Box<dyn Iterator<Item = &'s dyn miette::Diagnostic> + 's>> {
        let related = self.related.iter().map(|drawn| drawn as &dyn miette::Diagnostic);
        (!self.related.is_empty()).then(|| Box::new(related) as Box<dyn Iterator<Item = _>>)
    }
}

fn print_concise(found: &[Found], out: &mut dyn Write) -> io::Result<()> {
    for found in found {
        for diagnostic in found.diagnostics {
            writeln!(out, "{}", concise(diagnostic, found.sources))?;
        }
    }
    Ok(())
}

/// Writes `file:line:column: error[code]: message`.
pub fn concise(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let at = diagnostic.primary();
    let source = &sources[at.source.0 as usize];
    let (line, column) = position(&source.text, at.start);
    let Diagnostic { code, message, .. } = diagnostic;
    format!("{}:{line}:{column}: {}[{code}]: {message}", name(source), severity(diagnostic.severity))
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn name(source: &Source) -> &str {
    match source.kind {
        SourceKind::Recipe => &source.path,
        SourceKind::Set(_) => "--set",
    }
}

/// Returns line and column of an offset; both start at 1 and count Unicode scalar values.
pub fn position(text: &str, offset: u32) -> (usize, usize) {
    let before = &text[..(offset as usize).min(text.len())];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[start..].chars().count() + 1)
}

/// Builds the JSON object of the contract.
pub fn to_json(found: &[Found]) -> Value {
    let each = found.iter().flat_map(|found| {
        found.diagnostics.iter().map(|diagnostic| diagnostic_json(diagnostic, found.sources))
    });
    let count = |severity| found.iter().map(|found| found.count(severity)).sum::<usize>();
    json!({
        "diagnostics": each.collect::<Vec<_>>(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
    })
}

fn diagnostic_json(diagnostic: &Diagnostic, sources: &[Source]) -> Value {
    let mut value = json!({
        "code": diagnostic.code,
        "severity": severity(diagnostic.severity),
        "message": diagnostic.message,
        "labels": diagnostic.labels.iter().map(|label| label_json(label, sources)).collect::<Vec<_>>(),
        "help": diagnostic.help,
        "fixes": fixes_json(diagnostic, sources),
    });
    if !diagnostic.notes.is_empty() {
        value["notes"] = json!(diagnostic.notes);
    }
    value
}

fn label_json(label: &Label, sources: &[Source]) -> Value {
    let source = &sources[label.span.source.0 as usize];
    let mut value = json!({
        "file": name(source),
        "start": place_json(&source.text, label.span.start),
        "end": place_json(&source.text, label.span.end),
        "message": label.message,
        "primary": label.primary,
    });
    if let SourceKind::Set(index) = source.kind {
        value["set"] = json!(index);
    }
    value
}

fn place_json(text: &str, offset: u32) -> Value {
    let (line, column) = position(text, offset);
    json!({ "line": line, "column": column, "offset": offset })
}

fn is_set(span: Span, sources: &[Source]) -> bool {
    matches!(sources[span.source.0 as usize].kind, SourceKind::Set(_))
}

/// Fixes change files; what stands in `--set` is the user's to change.
fn fixes<'a>(diagnostic: &'a Diagnostic, sources: &'a [Source]) -> impl Iterator<Item = &'a Fix> {
    let of_file = !is_set(diagnostic.primary(), sources);
    let in_files = |fix: &&Fix| !fix.edits.iter().any(|edit| is_set(edit.span, sources));
    diagnostic.fixes.iter().filter(move |_| of_file).filter(in_files)
}

/// A place in a recipe file, for forms that can point at nothing else.
#[derive(Debug, Clone, Copy)]
struct Place(Span);

impl Place {
    /// Returns the place itself, or the start of the recipe when it lies in a `--set` value.
    fn of(span: Span, sources: &[Source]) -> Self {
        if is_set(span, sources) { Self(Span { source: SourceId(0), start: 0, end: 0 }) } else { Self(span) }
    }
}

/// Returns where a diagnostic belongs in a file: for a `--set` value what it replaces, else the start.
fn home(diagnostic: &Diagnostic, sources: &[Source]) -> Place {
    let in_file = diagnostic.labels.iter().map(|label| label.span).find(|span| !is_set(*span, sources));
    let primary = diagnostic.primary();
    Place::of(if is_set(primary, sources) { in_file.unwrap_or(primary) } else { primary }, sources)
}

/// Returns everything that a diagnostic says, as lines: for forms that have one text.
fn message(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    let mut lines = vec![diagnostic.message.clone()];
    let primary = diagnostic.primary();
    if is_set(primary, sources) {
        lines.push(format!("in --set {}", sources[primary.source.0 as usize].text));
    }
    lines.extend(diagnostic.help.iter().map(|help| format!("help: {help}")));
    lines.extend(diagnostic.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

fn fixes_json(diagnostic: &Diagnostic, sources: &[Source]) -> Vec<Value> {
    let edit = |edit: &Edit| {
        let file = name(&sources[edit.span.source.0 as usize]);
        json!({ "file": file, "start": edit.span.start, "end": edit.span.end, "text": edit.text })
    };
    fixes(diagnostic, sources)
        .map(|fix| json!({ "title": fix.title, "edits": fix.edits.iter().map(edit).collect::<Vec<_>>() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lang::facts::Facts;
    use lang::{Checked, Input, check};

    fn checked(text: &str, sets: &[&str]) -> Checked {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        check(&Input { path: "a.kdl", text, sets: &sets }, &Facts::default())
    }

    fn found(checked: &Checked) -> Found<'_> {
        Found { diagnostics: &checked.diagnostics, sources: &checked.sources }
    }

    #[test]
    fn columns_count_scalar_values_and_offsets_bytes() {
        assert_eq!(position("adapt 1\nfoo\t\"𝄞é\" x\n", 20), (2, 9));
        assert_eq!(position("é𝄞x", 6), (1, 3));
    }

    #[test]
    fn a_line_is_readable_alone() {
        let checked = checked("adapt 1\ncpd dutch {\n}\n", &[]);
        assert_eq!(
            concise(&checked.diagnostics[0], &checked.sources),
            "a.kdl:2:1: error[unknown-node]: unknown node `cpd`"
        );
    }

    #[test]
    fn json_names_the_set_argument_and_carries_no_fix_for_it() {
        let text = "adapt 1\ncpt a { epochs 1 }\n";
        let checked = checked(text, &["a.seed=1", "a.optimizer=adam"]);
        let json = to_json(&[found(&checked)]);
        let of_set = json["diagnostics"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|found| found["labels"][0]["file"] == "--set");
        let of_set = of_set.expect("the value of --set is no optimizer");
        assert_eq!(of_set["labels"][0]["set"], 1);
        assert_eq!(of_set["labels"][0]["start"], json!({ "line": 1, "column": 13, "offset": 12 }));
        assert_eq!(of_set["fixes"], json!([]));
    }

    #[test]
    fn json_has_the_fields_of_the_contract() {
        let checked = checked("adapt 1\nmodle x \"y\"\n", &[]);
        let json = to_json(&[found(&checked)]);
        assert_eq!(json["errors"], 1);
        assert_eq!(json["warnings"], 0);
        let first = &json["diagnostics"][0];
        assert_eq!(first["code"], "unknown-node");
        assert_eq!(first["labels"][0]["end"], json!({ "line": 2, "column": 6, "offset": 13 }));
        assert_eq!(
            first["fixes"][0]["edits"][0],
            json!({ "file": "a.kdl", "start": 8, "end": 13, "text": "model" })
        );
    }

    #[test]
    fn the_full_form_draws_the_source() {
        let checked = checked("adapt 1\nmodel kl\u{e9}in \"new:llama\" dtype=f23\n", &[]);
        let mut out = Vec::new();
        print(&[found(&checked)], Format::Full, false, &mut out).expect("a vector takes all");
        insta::assert_snapshot!(String::from_utf8(out).expect("UTF-8"), @r###"
missing-option

  × a model from scratch lacks `config`
   ╭─[a.kdl:2:1]
 1 │ adapt 1
 2 │ model kléin "new:llama" dtype=f23
   · ──┬──       ─────┬─────
   ·   │              ╰── from scratch
   ·   ╰── needs `config`
   ╰────
  help: write `config` in its block

missing-option

  × a model from scratch lacks `tokenizer`
   ╭─[a.kdl:2:1]
 1 │ adapt 1
 2 │ model kléin "new:llama" dtype=f23
   · ──┬──       ─────┬─────
   ·   │              ╰── from scratch
   ·   ╰── needs `tokenizer`
   ╰────
  help: write `tokenizer` in its block

unused-declaration

  ⚠ nothing uses the model `kléin`
   ╭─[a.kdl:2:7]
 1 │ adapt 1
 2 │ model kléin "new:llama" dtype=f23
   ·       ──┬──
   ·         ╰── never used
   ╰────
  help: remove it, or refer to it

unknown-value

  × `dtype` of `model` cannot be `f23`
   ╭─[a.kdl:2:32]
 1 │ adapt 1
 2 │ model kléin "new:llama" dtype=f23
   ·                               ─┬─
   ·                                ╰── not one of its values
   ╰────
  help: did you mean `f32`?

3 errors, 1 warning
"###);
    }
}
