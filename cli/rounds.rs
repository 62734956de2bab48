//! Compiles in rounds: check, look at what is wanted, lower, look again, until nothing new is to be had.

use crate::diagnostics;
use crate::facts::Gatherer;
use crate::terminal::{self, Volume};
use lang::diagnostic::{Diagnostic, Severity};
use lang::facts::{Facts, Want};
use lang::source::Source;
use lower::Lowered;
use lower::figures::time::Machine;
use plan::program::Decisions;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// What a compilation came to.
pub struct Compiled {
    pub sources: Vec<Source>,
    /// Of check and lowering, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    pub checked: lang::Checked,
    /// Absent when the check found errors.
    pub lowered: Option<Lowered>,
    /// Remote sources of which nothing is known, sorted.
    pub unknown: Vec<String>,
}

/// A recipe as the command line got it.
#[derive(Debug, Clone)]
pub struct Request {
    /// As the user wrote it; `-` is standard input.
    pub path: String,
    pub text: String,
    /// The bytes, when they are not UTF-8; then there is no text.
    pub not_utf8: Option<Vec<u8>>,
    pub sets: Vec<String>,
    /// Bytes that a run may use, when the user says.
    pub memory: Option<u64>,
    /// Decisions of unfinished stages, by stage: a resumed run keeps them.
    pub decisions: BTreeMap<String, Decisions>,
    /// Devices to predict for, in place of this machine.
    pub on: Option<Machine>,
    /// Whether it is going to run on this machine.
    pub runs: bool,
    /// Ranks that training stages are divided over on this machine.
    pub devices: u32,
}

impl Request {
    /// Reads a recipe from a file or standard input.
    ///
    /// # Errors
    /// Fails, with a line for the user, when it cannot be read at all or a `--set` lacks its `=`: both
    /// are wrong use. Text that is not UTF-8 is a diagnostic.
    pub fn read(path: &str, sets: &[String], memory: Option<u64>) -> Result<Self, String> {
        if let Some(set) = sets.iter().find(|set| lang::set::split(set).is_none()) {
            let set = lang::syntax::mask(set);
            return Err(format!("`--set {set}` sets nothing; write PATH=VALUE, as in `--set dutch.lr=1e-4`"));
        }
        let bytes = read_bytes(path).map_err(|error| format!("{path}: {error}"))?;
        let (text, not_utf8) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => (String::new(), Some(error.into_bytes())),
        };
        let (path, sets) = (path.to_owned(), sets.to_vec());
        let (decisions, on, runs, devices) = (BTreeMap::new(), None, false, 1);
        Ok(Request { path, text, not_utf8, sets, memory, decisions, on, runs, devices })
    }

    /// Returns the recipe's name: the file's stem.
    pub fn name(&self) -> String {
        let stem = std::path::Path::new(&self.path).file_stem().and_then(|stem| stem.to_str());
        stem.filter(|_| self.path != "-").unwrap_or("recipe").to_owned()
    }
}

fn read_bytes(path: &str) -> std::io::Result<Vec<u8>> {
    if path != "-" {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
    Ok(bytes)
}

/// Checks and lowers, gathering facts as they are wanted.
pub fn compile(request: &Request, facts: &mut Facts, gatherer: &mut Gatherer) -> Compiled {
    if let Some(bytes) = &request.not_utf8 {
        let checked = lang::not_utf8(&request.path, bytes);
        let (sources, diagnostics) = (checked.sources.clone(), checked.diagnostics.clone());
        return Compiled { sources, diagnostics, checked, lowered: None, unknown: Vec::new() };
    }
    gatherer.fill(&[Want::Hardware], facts);
    if let Err(problem) = gatherer.open_lock(&request.path) {
        return broken_lock(request, problem);
    }
    let input = lang::Input { path: &request.path, text: &request.text, sets: &request.sets };
    let options = lower::Options {
        name: request.name(),
        memory: request.memory,
        decisions: request.decisions.clone(),
        on: request.on,
        runs: request.runs,
        devices: request.devices,
    };
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
        let unknown = unknown(&checked.wants, facts);
        return Compiled { sources: checked.sources.clone(), diagnostics, checked, lowered, unknown };
    }
}

/// Reports a lock file that cannot be used, and nothing else.
fn broken_lock(request: &Request, problem: String) -> Compiled {
    let input = lang::Input { path: &request.path, text: &request.text, sets: &request.sets };
    let mut checked = lang::check(&input, &Facts::default());
    let diagnostic = lang::lock::broken(&problem);
    checked.recipe = None;
    let sources = checked.sources.clone();
    Compiled { sources, diagnostics: vec![diagnostic], checked, lowered: None, unknown: Vec::new() }
}

/// Returns the remote sources that were asked for and are not known.
fn unknown(wants: &[Want], facts: &Facts) -> Vec<String> {
    let missing = wants.iter().filter_map(|want| match want {
        Want::Model(key) if !facts.models.contains_key(key) => Some(key),
        Want::Rows(key) if !facts.rows.contains_key(key) => Some(key),
        _ => None,
    });
    let keys: BTreeSet<&String> = missing.filter(|key| lang::paths::is_remote(key)).collect();
    keys.into_iter().cloned().collect()
}

impl Compiled {
    /// Returns what is to be said of facts and figures that are not known.
    pub fn notes(&self) -> Vec<String> {
        let unknown = self.unknown.join(", ");
        let sources = (!self.unknown.is_empty())
            .then(|| format!("nothing is known of {unknown}; what depends on it was not checked"));
        sources.into_iter().chain(self.lowered.iter().flat_map(|lowered| lowered.notes.clone())).collect()
    }

    /// Returns the diagnostics with their texts, for printing.
    pub fn found(&self) -> diagnostics::Found<'_> {
        diagnostics::Found { diagnostics: &self.diagnostics, sources: &self.sources }
    }

    /// Prints diagnostics to stderr, warnings too unless quiet; returns the exit code when one is an error.
    pub fn report(&self, format: diagnostics::Format) -> Option<ExitCode> {
        let failed = self.has_errors();
        if failed || terminal::volume() != Volume::Quiet {
            let mut out = std::io::stderr().lock();
            // Nothing can be said when stderr is closed; the exit code still tells.
            let _ = diagnostics::print(&[self.found()], format, terminal::color_stderr(), &mut out);
        }
        failed.then_some(ExitCode::FAILURE)
    }

    /// Returns whether any diagnostic is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }
}
