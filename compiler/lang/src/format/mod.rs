//! Recipe text in its one form, which `adapt fmt` writes.
//!
//! A text without syntax errors is cut into words, marks and comments ([`scan`]), these are put on
//! lines ([`layout`]), and the lines are indented and their comments aligned ([`write`]). No step
//! recurses, and words and comments are copied as they are written: the form of a recipe is only
//! where its blanks and line ends stand. `docs/language/format.md` states the rules.

mod layout;
mod scan;
mod write;

use crate::check::mask;
use crate::diagnostic::Diagnostic;
use crate::source::{SourceId, Span};
use crate::syntax::{self, Data, MAX_BYTES, Node, Value};

/// Why a text is not formatted: what [`syntax::parse`] reports of it, with secrets masked.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub diagnostics: Vec<Diagnostic>,
}

/// Returns a recipe in its one form; comments, groups of lines and everything that is said stay.
///
/// # Errors
/// Refuses a text with syntax errors, and one that would become too large to be read again.
///
/// # Panics
/// Panics rather than return a text that says something else.
pub fn format(text: &str) -> Result<String, Refused> {
    let (document, found) = syntax::parse(SourceId(0), text);
    if !found.is_empty() {
        return Err(refused(text, found));
    }
    let lines = layout::lines(&scan::tokens(text));
    let formatted = write::lines(&lines).ok_or_else(|| refused(text, vec![too_large()]))?;
    let (again, found) = syntax::parse(SourceId(0), &formatted);
    let kept = found.is_empty() && same(&document.nodes, &again.nodes);
    assert!(kept, "the formatter changed what a recipe says");
    Ok(formatted)
}

/// Writes what formatting changes, or would change, as a unified diff; nothing when texts are equal.
pub fn diff(old: &str, new: &str, path: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().header(path, path).to_string()
}

fn refused(text: &str, mut diagnostics: Vec<Diagnostic>) -> Refused {
    if syntax::mask(text) != text {
        diagnostics.iter_mut().for_each(mask);
    }
    Refused { diagnostics }
}

fn too_large() -> Diagnostic {
    let message = format!("formatted, the recipe would have more than the {MAX_BYTES} bytes that are read");
    let at = Span { source: SourceId(0), start: 0, end: 0 };
    Diagnostic::error("too-large", message, at, "")
        .with_help("keep data in files of their own, and share parts between recipes with `use`")
}

/// Whether two trees say the same, wherever it stands.
fn same(old: &[Node], new: &[Node]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same_node(old, new))
}

fn same_node(old: &Node, new: &Node) -> bool {
    let (properties, others) = (&old.properties, &new.properties);
    old.name.text == new.name.text
        && old.has_block == new.has_block
        && old.arguments.len() == new.arguments.len()
        && old.arguments.iter().zip(&new.arguments).all(|(old, new)| same_value(old, new))
        && properties.len() == others.len()
        && properties
            .iter()
            .zip(others)
            .all(|(old, new)| old.key.text == new.key.text && same_value(&old.value, &new.value))
        && same(&old.children, &new.children)
}

fn same_value(old: &Value, new: &Value) -> bool {
    let same = match (&old.data, &new.data) {
        // Not-a-number is the same number, too.
        (Data::Number(old), Data::Number(new)) => old.to_bits() == new.to_bits(),
        (old, new) => old == new,
    };
    same && old.bare == new.bare
}
