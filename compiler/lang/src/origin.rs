//! Where a value came from that its node does not write, in words.
//!
//! A rule that rests on such a value says so: one of the schema with [`Diagnostic::with_default`], one that
//! follows from a fact with a note of its own. What a stage takes over from `defaults` or from another
//! stage has a place, and is noted for all rules at once where they report.

use crate::diagnostic::{Diagnostic, Label};
use crate::resolved;
use crate::source::{Origin, Span};
use crate::tree::{Item, Slot};

/// The longest sequence that is chosen when the recipe does not say.
pub const LONGEST_DEFAULT_SEQUENCE: u64 = 8192;

/// Says why sequences have the length that they have when the recipe does not say; `model` has so many positions.
pub fn default_sequence(model: &str, positions: u64) -> String {
    let unwritten = "the length of `sequence` is not written";
    match positions <= LONGEST_DEFAULT_SEQUENCE {
        true => format!("{unwritten}; it is {positions}, as many as model `{model}` has positions"),
        false => format!(
            "{unwritten}; it is {LONGEST_DEFAULT_SEQUENCE}, the most that is chosen, of the {positions} positions of model `{model}`"
        ),
    }
}

impl Diagnostic {
    /// Notes the default of the schema that a finding rests on, when nobody wrote the value; `of` is the node that has it.
    pub fn with_default(self, slot: &Slot, of: &Item) -> Self {
        match default(slot, of) {
            Some(note) if !self.notes.contains(&note) => self.with_note(note),
            Some(_) | None => self,
        }
    }

    /// Notes what the stage takes over from elsewhere among the places that a finding points at.
    pub fn with_inherited(mut self, stage: &Item) -> Self {
        let notes: Vec<String> = self.labels.iter().filter_map(|label| inherited(label, stage)).collect();
        for note in notes {
            if !self.notes.contains(&note) {
                self = self.with_note(note);
            }
        }
        self
    }
}

/// Says what a value of the schema is that nobody wrote.
fn default(slot: &Slot, of: &Item) -> Option<String> {
    if slot.is_written() {
        return None;
    }
    let kind = of.kind();
    if of.origin == Origin::Default {
        return Some(format!("`{kind}` is not written; by default it is `{}`", of.schema.absent));
    }
    let value = resolved::text(slot);
    Some(format!("`{}` of `{kind}` is not written; by default it is `{value}`", slot.name))
}

/// Says from where a stage has a child that a label points at.
fn inherited(label: &Label, stage: &Item) -> Option<String> {
    let holds = |child: &&Item| {
        let mut found = false;
        child.walk(&mut |item| found |= points_at(label.span, item));
        found
    };
    let is_inherited = |child: &&Item| matches!(child.origin, Origin::Defaults | Origin::Like);
    let child = stage.children.iter().filter(is_inherited).find(holds)?;
    let (name, stage_name) = (child.kind(), stage.declared());
    Some(match child.origin {
        Origin::Like => {
            let other = stage.property("like").and_then(Slot::text).unwrap_or_default();
            format!("`{stage_name}` has `{name}` from `{other}`, with `like=`")
        }
        _ => format!("`{stage_name}` has `{name}` from `defaults`"),
    })
}

/// Whether a place is one of a node that was taken over: its kind word, a name or a value.
fn points_at(at: Span, item: &Item) -> bool {
    let is_of_slot =
        |slot: &Slot| slot.origin != Origin::Set && slot.is_written() && (slot.span == at || slot.key == at);
    item.at == at || item.slots().any(is_of_slot)
}
