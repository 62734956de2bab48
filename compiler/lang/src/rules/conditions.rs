//! Rules about the conditions of `keep` and `drop`: they can be read, and the columns are there.

use super::Context;
use crate::conditions::{self, Condition, Place};
use crate::diagnostic::Diagnostic;
use crate::facts::RowsFact;
use crate::source::Span;
use crate::suggest;
use crate::tree::{Item, Slot};

/// Checks every condition of a dataset.
pub fn check(context: &mut Context, dataset: &Item) {
    let steps = dataset.children.iter().filter(|child| matches!(child.kind(), "keep" | "drop"));
    for slot in steps.filter_map(|step| step.property("where")) {
        let Some(text) = slot.text() else { continue };
        match conditions::check(text, slot.span, context.written(slot.span)) {
            Ok(condition) => check_columns(context, dataset, slot, &condition),
            Err(found) => found.into_iter().for_each(|found| context.report(found)),
        }
    }
}

/// Every column is one of the first rows, when those are known.
fn check_columns(context: &mut Context, dataset: &Item, slot: &Slot, condition: &Condition) {
    let key = context.source_key(dataset);
    let fact = key.and_then(|key| context.facts.rows.get(&key));
    let Some(fact) = fact.filter(|fact| fact.problem.is_none() && !fact.columns.is_empty()) else { return };
    let place = Place::of(slot.text().unwrap_or_default(), slot.span, context.written(slot.span));
    for (path, bytes) in conditions::columns(condition) {
        let first = path.split('.').next().unwrap_or(path);
        if fact.columns.iter().any(|known| known == first || known == path) {
            continue;
        }
        let at = place.at(&(bytes.start..bytes.start + first.len()));
        context.report(missing_column(dataset, fact, first, at, place.is_exact()));
    }
}

fn missing_column(dataset: &Item, fact: &RowsFact, column: &str, at: Span, exact: bool) -> Diagnostic {
    let names = || fact.columns.iter().map(String::as_str);
    let message = format!("the rows of `{}` have no column `{column}`", fact.file);
    let diagnostic = Diagnostic::error("missing-column", message, at, "no such column")
        .with_note(format!("the columns are {}", suggest::list(names(), "and")));
    let renamed = source_name(dataset, column).filter(|name| names().any(|known| known == *name));
    let (near, help) = match (renamed, suggest::nearest(column, names())) {
        (Some(name), _) => (name, format!("write `{name}`, which is its name in the source")),
        (None, Some(near)) => (near, format!("did you mean `{near}`?")),
        (None, None) => return diagnostic.with_help("name one of the columns, as the source has it"),
    };
    let diagnostic = diagnostic.with_help(help);
    if exact { diagnostic.with_fix(format!("replace with `{near}`"), at, near) } else { diagnostic }
}

/// Returns what a column of the row type is called in the source.
fn source_name<'a>(dataset: &'a Item, column: &str) -> Option<&'a str> {
    let renamed = dataset.child("rows")?.property(column)?;
    renamed.text().filter(|_| renamed.is_written())
}
