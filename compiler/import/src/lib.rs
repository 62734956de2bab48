//! YAML of other tools to recipes.
//!
//! Reads what axolotl, alignment-handbook, LitGPT and mergekit train and merge from, writes a recipe
//! that does the same, and accounts for every key of the file: carried over, changed, without a
//! counterpart, or unknown to that tool too. What cannot become a recipe is refused with the reason;
//! a recipe that would learn something else without saying so is never written. Pure: text in, text out.

mod dialect;
mod problem;
mod report;

mod axolotl;
mod handbook;
mod litgpt;
mod mergekit;

mod comments;
mod common;
mod kdl;
mod keys;
mod names;
mod section;
mod yaml;

pub use dialect::Dialect;
pub use problem::Problem;
pub use report::{Entry, Outcome, render};

use crate::comments::Explained;
use crate::kdl::{Line, Written};
use crate::keys::Tool;
use crate::problem::Place;
use crate::section::{Import, Section};
use crate::yaml::Node;
use lang::diagnostic::{Severity, visible};
use lang::facts::Facts;
use lang::{Input, check};

/// A file that became a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub dialect: Dialect,
    /// The recipe; it checks without errors and is in the form of `adapt fmt`.
    pub recipe: String,
    /// One entry for every key of the file, in its order.
    pub report: Vec<Entry>,
    /// What the file leaves to defaults of the tool that are not those of the language, each a sentence.
    pub defaults: Vec<String>,
    /// What must be there before the recipe runs and is not in the file, each a sentence.
    pub needs: Vec<String>,
}

/// Turns a file of another tool into a recipe. `path` tells what the text alone does not, such as
/// which script of alignment-handbook it is for; nothing is opened.
///
/// # Errors
/// Returns every reason that was found why the file cannot become a recipe, sorted by place.
pub fn import(text: &str, path: &str) -> Result<Imported, Vec<Problem>> {
    let documents = yaml::load(text).map_err(|problem| vec![problem])?;
    let first = documents.iter().find(|document| !document.pairs().is_empty());
    let Some(first) = first.or(documents.first()) else {
        let help = "name a file of axolotl, alignment-handbook, LitGPT or mergekit";
        return Err(vec![Problem::refuse("the file is empty", Place::START, help)]);
    };
    let dialect = dialect::recognise(first).map_err(|problem| vec![problem])?;
    one_document(dialect, &documents)?;
    let import = Import::new(tool(dialect));
    for (at, document) in documents.iter().enumerate() {
        import.ledger.borrow_mut().enter(document, &prefix(documents.len(), at));
    }
    let lines = read(dialect, &import, &documents, path);
    let mut problems = import.problems.take();
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.start, problem.message.clone()));
        problems.dedup();
        return Err(problems);
    }
    import.finish(&documents);
    let written = write(text, path, &documents, &import, dialect, &lines);
    refuse_unsound(&written, &import)?;
    let recipe = formatted(&written.text)?;
    let Import { ledger, defaults, needs, .. } = import;
    Ok(Imported {
        dialect,
        recipe,
        report: ledger.into_inner().finish(),
        defaults: defaults.into_inner(),
        needs: needs.into_inner().into_iter().map(visible).collect(),
    })
}

fn tool(dialect: Dialect) -> Tool {
    match dialect {
        Dialect::Axolotl => axolotl::TOOL,
        Dialect::AlignmentHandbook => handbook::TOOL,
        Dialect::LitGpt => litgpt::TOOL,
        Dialect::Mergekit => mergekit::TOOL,
    }
}

/// The path of a document's keys: with several documents, their number from 0 stands before them.
fn prefix(documents: usize, at: usize) -> String {
    if documents > 1 { format!("[{at}]") } else { String::new() }
}

/// Only mergekit-multi reads several documents.
fn one_document(dialect: Dialect, documents: &[Node]) -> Result<(), Vec<Problem>> {
    match documents.get(1) {
        Some(second) if dialect != Dialect::Mergekit => {
            let message = format!("{} reads one document, and here a second begins", dialect.name());
            Err(vec![Problem::refuse(message, second.at, "write each to a file of its own")])
        }
        _ => Ok(()),
    }
}

fn read(dialect: Dialect, import: &Import, documents: &[Node], path: &str) -> Vec<Line> {
    let sections: Vec<Section> = documents
        .iter()
        .enumerate()
        .map(|(at, document)| Section::new(import, document, prefix(documents.len(), at)))
        .collect();
    match dialect {
        Dialect::Axolotl => axolotl::read(&sections[0]),
        Dialect::AlignmentHandbook => handbook::read(&sections[0], path),
        Dialect::LitGpt => litgpt::read(&sections[0]),
        Dialect::Mergekit => mergekit::read(&sections),
    }
}

fn write(
    text: &str,
    path: &str,
    documents: &[Node],
    import: &Import,
    dialect: Dialect,
    lines: &[Line],
) -> Written {
    let ledger = import.ledger.borrow();
    let explained = Explained::of(text, documents, ledger.keys(), |word| import.tool.has_word(word));
    let file = path.rsplit(['/', '\\']).next().filter(|file| !matches!(*file, "" | "-"));
    let mut header = vec![match file {
        Some(file) => format!("From `{file}` of {}.", dialect.name()),
        None => format!("From a file of {}.", dialect.name()),
    }];
    if !explained.header.is_empty() {
        header.push(String::new());
        header.extend(explained.header.iter().cloned());
    }
    let defaults = import.defaults.borrow();
    if !defaults.is_empty() {
        header.push(String::new());
        header.extend(defaults.iter().map(|default| format!("{default}.")));
    }
    let needs = import.needs.borrow();
    if !needs.is_empty() {
        header.push(String::new());
        header.extend(needs.iter().map(|need| format!("Before it runs: {need}.")));
    }
    kdl::write(&header, lines, |key| explained.about(key))
}

/// Brings the recipe into the one form of recipes, as `adapt fmt` does.
fn formatted(recipe: &str) -> Result<String, Vec<Problem>> {
    lang::format::format(recipe).map_err(|_| {
        let help = "report the file: it is a mistake of this program";
        vec![Problem::refuse("the recipe of this file cannot be formatted", Place::START, help)]
    })
}

/// A recipe with mistakes is not written: what the checker says of it is said of the file.
fn refuse_unsound(written: &Written, import: &Import) -> Result<(), Vec<Problem>> {
    let checked = check(&Input { path: "recipe.kdl", text: &written.text, sets: &[] }, &Facts::default());
    let mut problems: Vec<Problem> = Vec::new();
    for found in checked.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        let at = found.primary().start as usize;
        let place = written
            .places
            .iter()
            .filter(|(start, end, _)| *start <= at && at < *end)
            .filter_map(|(start, end, keys)| {
                let place = keys.iter().find_map(|key| import.ledger.borrow().value_place(key));
                place.map(|place| (end - start, place))
            })
            .min_by_key(|(length, _)| *length);
        let place = place.map_or(Place::START, |(_, place)| place);
        let help = found.help.clone().unwrap_or_else(|| "change the value".to_owned());
        problems.push(Problem::refuse(format!("in the recipe {}", found.message), place, help));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}
