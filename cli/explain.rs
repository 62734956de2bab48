//! `adapt explain CODE|PATH`: what a diagnostic means, or what a word of the language does.

use crate::{terminal, text};
use std::process::ExitCode;
use stdlib::reference::{self, Entry, Found, Line};
use stdlib::schema::{self, Status};

/// Explain a diagnostic, or a word of the recipe language
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt explain                       every diagnostic and every kind of node, a line each
  adapt explain unknown-option        a diagnostic: what it means, an example that fails and one that passes
  adapt explain sft                   a kind of node: what it takes and gives, and what stands in it
  adapt explain sft.optimizer.lr      an option: type, range, default
  adapt explain warmup                leading parts may be left out
  adapt explain std:chatml            what comes with adapt: templates, hardware
  adapt explain new:llama             an architecture and its fields")]
pub struct Args {
    /// Code such as `unknown-option`, or path such as `sft.optimizer.lr`; without it all are listed
    #[arg(value_name = "CODE|PATH")]
    pub of: Option<String>,
}

/// Prints what there is to say of a code or path, or the list of all.
pub fn run(args: &Args) -> ExitCode {
    let Some(of) = &args.of else { return terminal::print(&list()) };
    match explain(of) {
        Ok(text) => terminal::print(&text),
        Err(message) => terminal::wrong_use(&message),
    }
}

/// Returns the explanation of a code or path.
///
/// # Errors
/// Fails, in words for the user, when there is no such thing or several are meant.
fn explain(of: &str) -> Result<String, String> {
    if let Some(page) = stdlib::pages::find(of) {
        return Ok(page.to_owned());
    }
    match reference::find(of) {
        Found::Here(found) => {
            let parts: Vec<String> =
                found.iter().map(|(path, entry, others)| entry_text(path, entry, others)).collect();
            Ok(parts.join("\n"))
        }
        Found::Several(paths) => Err(format!("`{of}` is ambiguous; choose {}", listed(&paths))),
        Found::Nothing => Err(unknown(of)),
    }
}

fn list() -> String {
    let row = |(name, doc): (&str, &str)| vec![name.to_owned(), doc.to_owned()];
    let nodes: Vec<Vec<String>> = schema::TOP.iter().map(|node| row((node.name, node.doc))).collect();
    let codes = stdlib::pages::PAGES.iter().map(|(code, page)| row((code, stdlib::pages::summary(page))));
    format!(
        "nodes of a recipe (more with `adapt explain sft`, `adapt explain sft.optimizer`)\n{}\ndiagnostics\n{}",
        text::table(&nodes, &[]),
        text::table(&codes.collect::<Vec<_>>(), &[])
    )
}

/// Writes an entry: its path, what it is, its facts, and tables of what stands in it.
fn entry_text(path: &str, entry: &Entry, others: &[String]) -> String {
    let mut out = format!("{path}\n\n");
    if !entry.doc().is_empty() {
        out += &format!("{}\n\n", entry.doc());
    }
    let mut facts: Vec<Vec<String>> =
        entry.facts().into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    if !others.is_empty() {
        facts.push(vec!["the same in".into(), others.join(", ")]);
    }
    out += &text::table(&facts, &[]);
    for (title, lines) in entry.lines().into_iter().filter(|(_, lines)| !lines.is_empty()) {
        out += &format!("\n{}", lines_text(title, &lines));
    }
    out
}

/// Writes a table; columns in which nothing stands are left out.
fn lines_text(title: &str, lines: &[Line]) -> String {
    let rows: Vec<[String; 5]> = lines.iter().map(line_row).collect();
    let head = [title, "type", "default", "", "what it is"].map(str::to_owned);
    let is_used = |column: usize| column == 0 || rows.iter().any(|row| !row[column].is_empty());
    let columns: Vec<usize> = (0..head.len()).filter(|column| is_used(*column)).collect();
    let cells = |row: &[String; 5]| columns.iter().map(|column| row[*column].clone()).collect();
    let table: Vec<Vec<String>> = std::iter::once(cells(&head)).chain(rows.iter().map(cells)).collect();
    text::table(&table, &[])
}

fn line_row(line: &Line) -> [String; 5] {
    let mut marks = Vec::new();
    if line.required {
        marks.push("required");
    }
    if line.repeats {
        marks.push("repeats");
    }
    if line.status == Status::Later {
        marks.push("later");
    }
    let only = line.only.join("`, `");
    let doc = if only.is_empty() { line.doc.to_owned() } else { format!("{} With `{only}`.", line.doc) };
    [line.name.clone(), line.ty.clone(), line.default.clone(), marks.join(", "), doc]
}

/// Says what comes nearest to something that does not exist.
fn unknown(of: &str) -> String {
    let (known, below) = reference::names_below(of);
    let rest = of.strip_prefix(&known).unwrap_or(of).trim_start_matches('.');
    let first = rest.split('.').next().unwrap_or(rest);
    if !known.is_empty() {
        let help = match lang::nearest(first, below.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{known}.{near}`?"),
            None if below.is_empty() => "nothing stands in it".to_owned(),
            None => format!("it has {}", listed(&below)),
        };
        return format!("`{known}` has no `{first}`; {help}");
    }
    let all = reference::entries();
    let ends = all.iter().map(|(path, _)| path.rsplit('.').next().unwrap_or(path));
    let codes = stdlib::pages::PAGES.iter().map(|(code, _)| *code);
    let tops = below.iter().map(String::as_str);
    let near = lang::nearest(of, codes.chain(tops)).or_else(|| lang::nearest(of, ends));
    let help = near.map_or("run `adapt explain` to list what there is".to_owned(), |near| {
        format!("did you mean `{near}`?")
    });
    format!("there is no diagnostic and no word of the language `{of}`; {help}")
}

/// Joins names, a long list cut short.
fn listed(names: &[String]) -> String {
    const MOST: usize = 12;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(MOST);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_and_every_code_can_be_explained() {
        for (path, entry) in reference::entries() {
            let text = explain(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(text.contains(entry.doc()), "{path}:\n{text}");
        }
        for (code, page) in stdlib::pages::PAGES {
            assert_eq!(explain(code).as_deref(), Ok(*page), "{code}");
        }
    }

    #[test]
    fn no_word_of_the_language_is_hidden_by_a_code() {
        let paths: Vec<String> = reference::entries().into_iter().map(|(path, _)| path).collect();
        for (code, _) in stdlib::pages::PAGES {
            assert!(!paths.iter().any(|path| path == code), "{code}");
        }
    }

    #[test]
    fn what_is_unknown_names_what_is_near() {
        let cases = [
            ("sft.optimizer.learning-rate", "did you mean `sft.optimizer.lr`?"),
            ("sfd", "did you mean `sft`?"),
            ("unknown-optoin", "did you mean `unknown-option`?"),
            ("std:chatmml", "did you mean `std:chatml`?"),
            ("warmupp", "did you mean `warmup`?"),
        ];
        for (path, expected) in cases {
            let error = explain(path).expect_err(path);
            assert!(error.ends_with(expected), "{path}: {error}");
        }
    }

    #[test]
    fn an_option_is_explained_in_full() {
        let text = explain("sft.optimizer.beta1").expect("it is in the schema");
        for part in
            ["a number", "at least 0, below 1", "`0.9`", "works with", "`adamw`", "cpt.optimizer.beta1"]
        {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }
}
