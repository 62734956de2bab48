//! Compiles in rounds: check, look at what is wanted, lower, look again, until nothing new is to be had.

use crate::facts::Gatherer;
use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::{Facts, Want};
use lang::source::Source;
use lower::Lowered;
use plan::program::Decisions;
use std::collections::BTreeMap;

/// What a compilation came to.
pub struct Compiled {
    pub sources: Vec<Source>,
    /// Of check and lowering, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    pub checked: lang::Checked,
    /// Absent when the check found errors.
    pub lowered: Option<Lowered>,
}

/// A recipe as the command line got it.
#[derive(Debug, Clone)]
pub struct Request {
    /// As the user wrote it; `-` is standard input.
    pub path: String,
    pub text: String,
    pub sets: Vec<String>,
    /// Bytes that a run may use, when the user says.
    pub memory: Option<u64>,
    /// Decisions of unfinished stages, by stage: a resumed run keeps them.
    pub decisions: BTreeMap<String, Decisions>,
}

impl Request {
    /// Reads a recipe from a file or standard input.
    ///
    /// # Errors
    /// Fails when it cannot be read at all; text that is not UTF-8 is a diagnostic of the check.
    pub fn read(path: &str, sets: &[String], memory: Option<u64>) -> std::io::Result<Self> {
        let bytes = match path {
            "-" => {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
                bytes
            }
            path => std::fs::read(path)?,
        };
        let text = String::from_utf8(bytes).unwrap_or_else(|error| replace_bad_bytes(error.as_bytes()));
        Ok(Request { path: path.to_owned(), text, sets: sets.to_vec(), memory, decisions: BTreeMap::new() })
    }

    /// Returns the recipe's name: the file's stem.
    pub fn name(&self) -> String {
        let stem = std::path::Path::new(&self.path).file_stem().and_then(|stem| stem.to_str());
        stem.filter(|_| self.path != "-").unwrap_or("recipe").to_owned()
    }
}

/// Keeps the place of the first bad byte visible: the check reports the replacement character there.
fn replace_bad_bytes(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Checks and lowers, gathering facts as they are wanted.
pub fn compile(request: &Request, facts: &mut Facts, gatherer: &mut Gatherer) -> Compiled {
    gatherer.fill(&[Want::Hardware], facts);
    let input = lang::Input { path: &request.path, text: &request.text, sets: &request.sets };
    let options =
        lower::Options { name: request.name(), memory: request.memory, decisions: request.decisions.clone() };
    loop {
        let checked = lang::check(&input, facts);
        if gatherer.fill(&checked.wants, facts) {
            continue;
        }
        let lowered =
            checked.recipe.as_ref().map(|recipe| lower::lower(recipe, &checked.sources, facts, &options));
        if lowered.as_ref().is_some_and(|lowered| gatherer.fill(&lowered.wants, facts)) {
            continue;
        }
        let mut diagnostics = checked.diagnostics.clone();
        diagnostics.extend(lowered.iter().flat_map(|lowered| lowered.diagnostics.iter().cloned()));
        diagnostics.sort_by_key(Diagnostic::primary);
        return Compiled { sources: checked.sources.clone(), diagnostics, checked, lowered };
    }
}

impl Compiled {
    /// Returns the diagnostics with their texts, for printing.
    pub fn found(&self) -> crate::diagnostics::Found<'_> {
        crate::diagnostics::Found { diagnostics: &self.diagnostics, sources: &self.sources }
    }

    /// Returns whether any diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}
