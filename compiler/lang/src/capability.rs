//! What the language has and this version cannot run: said once per place, and remembered per node.
//!
//! The table of it is the schema: every entry with `status=later`. A recipe that uses one checks and
//! plans; running it is refused before anything happens.

use crate::diagnostic::{Diagnostic, Severity};
use crate::rules::sources;
use crate::source::Span;
use serde::{Deserialize, Serialize};
use stdlib::capabilities::{FORMATS, Place, SCHEMES, WORDS};
use stdlib::schema::{self, Choice, Status};

/// A part of the language that is used and cannot be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// In words, with backticks where it is written so.
    pub what: String,
    pub span: Span,
    /// What to write instead, when there is such a thing.
    pub instead: Option<String>,
    /// Whether nobody wrote it, so that damaged text may have said otherwise.
    pub by_default: bool,
}

impl Missing {
    pub fn new(what: impl Into<String>, span: Span) -> Self {
        Self { what: what.into(), span, instead: None, by_default: false }
    }

    /// Says what to write instead.
    pub fn instead(mut self, help: impl Into<String>) -> Self {
        self.instead = Some(help.into());
        self
    }

    /// Returns the warning of `check`.
    pub fn warning(&self) -> Diagnostic {
        let message = format!("this version of adapt cannot run {} yet", self.what);
        Diagnostic::warning("not-yet-runnable", message, self.span, "planned, not run")
            .with_help(self.instead.clone().unwrap_or_else(|| "leave it out to run the recipe".to_owned()))
    }

    /// Returns the error of `run`.
    pub fn refusal(&self) -> Diagnostic {
        Diagnostic { severity: Severity::Error, ..self.warning() }
    }
}

/// Returns what is missing for a source to be read, from its text alone.
pub fn of_source(text: &str, kind: &str, span: Span) -> Option<Missing> {
    // What names nothing is refused, not planned.
    if sources::problem(text, kind).is_some() {
        return None;
    }
    let is_later = |place: &&Place| place.status == Status::Later;
    let mut schemes = SCHEMES.iter().filter(is_later);
    if let Some(scheme) = schemes.find(|scheme| text.starts_with(scheme.mark)) {
        let place = if scheme.mark == "hf:" { "from the hub" } else { "from the web" };
        return Some(
            Missing::new(format!("a {kind} {place}"), span).instead("download it and write its path"),
        );
    }
    let ending = FORMATS.iter().filter(is_later).find(|ending| text.ends_with(ending.mark))?.mark;
    (kind == "dataset").then(|| {
        Missing::new(format!("a dataset in the format `{ending}`"), span).instead("convert it to JSONL")
    })
}

/// Returns what is missing for a template of the library.
pub fn of_template(name: &str, span: Span) -> Option<Missing> {
    let entry = schema::TEMPLATES.iter().find(|entry| name.strip_prefix("std:") == Some(entry.name))?;
    (entry.status == Status::Later).then(|| Missing::new(format!("`{name}`"), span))
}

/// Returns what is missing for a word among the free texts of a child.
pub fn of_word(child: &str, word: &str, span: Span) -> Option<Missing> {
    WORDS.contains(&(child, word)).then(|| Missing::new(format!("`{child} {word}`"), span))
}

/// Returns what to write in place of a word that cannot be run.
pub fn other_words(choices: &[Choice]) -> Option<String> {
    let built: Vec<&str> =
        choices.iter().filter(|choice| choice.status == Status::Built).map(|choice| choice.name).collect();
    (!built.is_empty()).then(|| format!("write {} to run the recipe", crate::suggest::list(built, "or")))
}
