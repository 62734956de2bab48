//! Rules about sources: what a text that names a model, a tokenizer or data may look like.

use super::Context;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::tree::{Item, Slot};

/// What comes before `owner/name` in addresses of the hub.
const HUB_PAGES: [&str; 4] = [
    "https://huggingface.co/datasets/",
    "https://huggingface.co/",
    "https://hf.co/datasets/",
    "https://hf.co/",
];

/// Openings that other tools use for the hub.
const HUB_SCHEMES: [&str; 5] = ["hf://datasets/", "hf://models/", "hf://", "huggingface:", "hub:"];

/// The longest name of the hub.
const LONGEST: usize = 96;

/// What is wrong with a source.
pub struct Problem {
    message: String,
    label: String,
    help: String,
    /// What was meant, where that is certain.
    meant: Option<String>,
}

/// Checks the source of a declaration; returns whether it can be looked at further.
pub fn check(context: &mut Context, item: &Item, source: &Slot) -> bool {
    let Some(text) = source.text() else { return false };
    let Some(problem) = problem(text, item.kind()) else { return true };
    context.report(problem.diagnostic(source.span));
    false
}

/// Checks where `publish` goes.
pub fn check_target(context: &mut Context, target: &Slot) {
    let Some(text) = target.text() else { return };
    if let Some(problem) = problem(text, "publish") {
        context.report(problem.diagnostic(target.span));
    } else if !text.starts_with("hf:") {
        let help = "write `\"hf:owner/name\"`; `export` writes to a path";
        context.report(
            bad(format!("`publish` goes to the hub, not to `{text}`"), "not on the hub", help)
                .diagnostic(target.span),
        );
    } else if !text.contains('/') {
        let message = format!("`{text}` does not say whose it is");
        context.report(bad(message, "without an owner", "write `\"hf:owner/name\"`").diagnostic(target.span));
    }
}

/// Says what is wrong with the text of a source.
pub fn problem(text: &str, kind: &str) -> Option<Problem> {
    if text.trim().is_empty() {
        return Some(bad("this source is empty".to_owned(), "names nothing", form_of(kind)));
    }
    if let Some(name) = on_hub(text, kind) {
        let meant = problem_of_name(name).is_none().then(|| format!("hf:{name}"));
        let help = meant.as_ref().map_or(form_of(kind).to_owned(), |meant| format!("write `{meant}`"));
        let message = format!("`{text}` is not how a source on the hub is written");
        return Some(Problem { message, label: "another form".to_owned(), help, meant });
    }
    if let Some(name) = text.strip_prefix("hf:") {
        return problem_of_name(name);
    }
    let scheme = scheme(text).filter(|_| kind != "publish")?;
    let is_fine = match scheme {
        "https" => kind != "model",
        "new" => kind == "model",
        _ => false,
    };
    (!is_fine).then(|| {
        let label = format!("not a place that a {kind} comes from");
        bad(format!("`{scheme}:` is not known as a source of a {kind}"), &label, form_of(kind))
    })
}

/// Returns the name on the hub that an address in another form means.
fn on_hub<'t>(text: &'t str, kind: &str) -> Option<&'t str> {
    let page = HUB_PAGES.iter().find_map(|page| text.strip_prefix(page));
    // The address of a file is one; that of a page is none.
    let page = page.filter(|name| {
        kind == "model" || kind == "publish" || name.trim_end_matches('/').split('/').count() == 2
    });
    page.or_else(|| HUB_SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)))
        .or_else(|| text.strip_prefix("hf:datasets/").filter(|name| name.contains('/')))
        .map(|name| name.trim_end_matches('/'))
}

/// The scheme that a text begins with; a single letter is a drive.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'));
    is_scheme.then_some(scheme)
}

/// Says what is wrong with `owner/name` or `name`.
fn problem_of_name(name: &str) -> Option<Problem> {
    if let Some((plain, mark, rest)) = split_mark(name).filter(|(plain, ..)| problem_of_name(plain).is_none())
    {
        let option = if mark == '#' || mark == ':' { "config" } else { "revision" };
        let message = format!("`{mark}` does not stand in a name on the hub");
        let help = format!("write `\"hf:{plain}\" {option}={rest}`");
        return Some(bad(message, "more than a name", &help));
    }
    let reason = refuse_name(name)?;
    let message = format!("`hf:{name}` is not a name on the hub: {reason}");
    Some(bad(message, reason, "write `hf:owner/name`"))
}

/// Splits off a revision or configuration, as other tools write it.
fn split_mark(name: &str) -> Option<(&str, char, &str)> {
    let at = name.find(['@', '#', ':'])?;
    let mark = name[at..].chars().next()?;
    Some((&name[..at], mark, &name[at + 1..])).filter(|(.., rest)| !rest.is_empty())
}

/// Says why a name cannot be one on the hub.
fn refuse_name(name: &str) -> Option<&'static str> {
    let parts: Vec<&str> = name.split('/').collect();
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if parts.len() > 2 {
        return Some("it has an owner and a name, nothing more");
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Some("a part of it is empty");
    }
    if !parts.iter().all(|part| part.chars().all(is_legal)) {
        return Some("it is made of letters, digits, `-`, `_` and `.`");
    }
    if parts.iter().any(|part| part.starts_with(['-', '.']) || part.ends_with(['-', '.'])) {
        return Some("it neither begins nor ends with `-` or `.`");
    }
    (name.len() > LONGEST).then_some("it is too long")
}

fn bad(message: String, label: &str, help: &str) -> Problem {
    Problem { message, label: label.to_owned(), help: help.to_owned(), meant: None }
}

/// What to write for a source.
fn form_of(kind: &str) -> &'static str {
    match kind {
        "model" => "write a folder, `\"hf:owner/name\"` or `new:ARCH`",
        "tokenizer" => "write a path or `\"hf:owner/name\"`",
        "publish" => "write `\"hf:owner/name\"`",
        _ => "write a path, `\"hf:owner/name\"` or `\"https://…\"`",
    }
}

impl Problem {
    fn diagnostic(self, at: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error("bad-source", self.message, at, self.label).with_help(self.help);
        match self.meant {
            Some(meant) => diagnostic.with_fix(format!("replace with `{meant}`"), at, format!("\"{meant}\"")),
            None => diagnostic,
        }
    }
}
