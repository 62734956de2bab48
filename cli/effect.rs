//! Leaves out of a resolved recipe the values that are not in effect.
//!
//! A default of the schema may have nothing to act on: `every` beside `evaluate none`, `seed` of a merge that
//! draws nothing, a column that the rows do not have. The rules of the check know; so what is resolved is
//! checked as a recipe, and values that nobody wrote at their place and that the check calls without effect go.

use crate::show;
use lang::facts::Facts;
use lang::resolved::{Resolved, ResolvedNode, ResolvedValue};
use lang::source::{Origin, SourceId, Span};
use lang::{Checked, Input, check};

/// Codes that say that a value has no effect here.
const WITHOUT_EFFECT: [&str; 2] = ["ineffective-option", "missing-column"];

/// Most rounds of leaving out; one can uncover another.
const ROUNDS: usize = 8;

/// Returns what is in effect of a resolved recipe.
pub fn in_effect(checked: &Checked, facts: &Facts) -> Resolved {
    let mut resolved = checked.resolved.clone();
    let path = checked.sources.first().map_or("-", |source| source.path.as_str());
    for _ in 0..ROUNDS {
        let (text, marks) = show::marked(&resolved);
        let found = check(&Input { path, text: &text, sets: &[] }, facts);
        let without = found.diagnostics.iter().filter(|found| WITHOUT_EFFECT.contains(&found.code.as_str()));
        let mut idle: Vec<&Mark> = without.filter_map(|found| marked_at(&marks, found.primary())).collect();
        // From the end, so that what is left out moves nothing that is still to be.
        idle.sort_by(|a, b| (&b.path, b.value).cmp(&(&a.path, a.value)));
        idle.dedup_by(|a, b| a.path == b.path && a.value == b.value);
        let before = count(&resolved.nodes);
        idle.into_iter().for_each(|mark| leave_out(&mut resolved, mark));
        if count(&resolved.nodes) == before {
            break;
        }
    }
    resolved
}

/// Where a node's word or one of its values stands in the text.
pub struct Mark {
    pub start: usize,
    pub end: usize,
    /// The node: its index, then those of the children that lead to it.
    pub path: Vec<usize>,
    /// The value; nothing for the word.
    pub value: Option<usize>,
}

fn marked_at(marks: &[Mark], at: Span) -> Option<&Mark> {
    let is_there = |mark: &&Mark| (mark.start..mark.end).contains(&(at.start as usize));
    marks.iter().find(is_there).filter(|_| at.source == SourceId(0))
}

fn count(nodes: &[ResolvedNode]) -> usize {
    nodes.iter().map(|node| 1 + node.values.len() + count(&node.children)).sum()
}

fn leave_out(resolved: &mut Resolved, mark: &Mark) {
    let Some((last, way)) = mark.path.split_last() else { return };
    let mut nodes = &mut resolved.nodes;
    for &index in way {
        nodes = &mut nodes[index].children;
    }
    match mark.value {
        Some(value) if is_taken_over(&nodes[*last].values[value]) => {
            nodes[*last].values.remove(value);
        }
        // A declaration or a stage is not left out, and a child only where nobody wrote any of it.
        None if !way.is_empty() && nodes[*last].values.iter().all(is_taken_over) => {
            nodes.remove(*last);
        }
        _ => {}
    }
}

/// Whether a value comes from elsewhere than its own place.
fn is_taken_over(value: &ResolvedValue) -> bool {
    matches!(value.origin, Origin::Default | Origin::Defaults | Origin::Like)
}
