//! Rules about lines of `train` that meet: what one trains another need not name, and what one leaves out another must not.

use super::Context;
use super::flow::ModelType;
use super::updated::{self, Part};
use super::weights::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::tree::Slot;
use std::ops::Range;

/// Checks the parts of all lines of a stage against each other.
pub fn check(context: &mut Context, start: &ModelType, parts: &[Part]) {
    let all_layers = parts.iter().filter_map(|part| match part {
        Part::Layers(word, ranges) if ranges.is_empty() => Some(*word),
        Part::Layers(..) | Part::NewRows(_) | Part::AllBut(..) | Part::Weight(_) => None,
    });
    let all_layers: Vec<&Slot> = all_layers.collect();
    weights::check_repeated(context, start, &all_layers);
    if let Some(layers) = all_layers.first() {
        check_beside_layers(context, start, parts, layers);
    } else {
        check_ranges(context, start, parts);
    }
    let mut all_but = parts.iter().filter_map(|part| match part {
        Part::AllBut(word, names) => Some((*word, names.as_slice())),
        Part::Layers(..) | Part::NewRows(_) | Part::Weight(_) => None,
    });
    if let Some((word, names)) = all_but.next() {
        check_beside_all_but(context, start, parts, (word, names));
        if let Some((second, _)) = all_but.next() {
            context.report(two_lists(word, second));
        }
    }
}

/// All layers are trained: a range of them, or a weight in them, is one of these.
fn check_beside_layers(context: &mut Context, start: &ModelType, parts: &[Part], layers: &Slot) {
    check_weights_in_layers(context, start, parts, layers);
    for part in parts {
        match part {
            Part::Layers(word, ranges) if !ranges.is_empty() => context.report(trained_already(word, layers)),
            Part::Weight(_) | Part::Layers(..) | Part::NewRows(_) | Part::AllBut(..) => {}
        }
    }
}

/// All layers are trained, as `layers` says: a weight in them is one of these.
fn check_weights_in_layers(context: &mut Context, start: &ModelType, parts: &[Part], layers: &Slot) {
    for part in parts {
        if let Part::Weight(slot) = part
            && is_in_layers(start, slot) == Some(true)
        {
            context.report(trained_already(slot, layers));
        }
    }
}

/// A range within another adds nothing to it, and ranges that hold all layers leave nothing to a weight in them.
fn check_ranges(context: &mut Context, start: &ModelType, parts: &[Part]) {
    let slots = parts.iter().flat_map(|part| match part {
        Part::Layers(_, ranges) => ranges.as_slice(),
        Part::NewRows(_) | Part::AllBut(..) | Part::Weight(_) => &[],
    });
    let ranges: Vec<(&Slot, Range<u64>)> =
        slots.filter_map(|slot| Some((*slot, updated::range(slot)?))).collect();
    for (at, (slot, own)) in ranges.iter().enumerate() {
        if let Some((first, _)) = ranges[..at].iter().find(|(_, first)| first == own) {
            context.report(range_twice(slot, first));
        } else if let Some((wider, _)) =
            ranges.iter().find(|(_, other)| other != own && is_within(own, other))
        {
            context.report(trained_already(slot, wider));
        }
    }
    let (Some((first, _)), Some(layers)) = (ranges.first(), start.layers) else { return };
    let exist = ranges.iter().map(|(_, range)| range.clone()).filter(|range| range.end <= layers);
    if reach(exist.collect()) == layers {
        check_weights_in_layers(context, start, parts, first);
    }
}

/// Returns how many layers from the first on are in ranges, without a gap.
fn reach(mut ranges: Vec<Range<u64>>) -> u64 {
    ranges.sort_by_key(|range| range.start);
    ranges.iter().fold(0, |end, range| if range.start <= end { end.max(range.end) } else { end })
}

fn is_within(inner: &Range<u64>, outer: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// All but some weights are trained: another is one of these, or one of those that are left out.
fn check_beside_all_but(
    context: &mut Context,
    start: &ModelType,
    parts: &[Part],
    (word, names): (&Slot, &[&Slot]),
) {
    let no_layers = names.iter().find(|name| name.text() == Some("layers"));
    if let Some(layers) = no_layers {
        let within = names.iter().filter(|name| is_in_layers(start, name) == Some(true));
        within.for_each(|name| context.report(left_out_already(name, layers)));
    }
    let name =
        |slot: &Slot| weights::canonical(start.architecture, slot.text().unwrap_or_default()).to_owned();
    for part in parts {
        let (Part::Weight(slot) | Part::Layers(slot, _)) = part else { continue };
        let in_layers = is_in_layers(start, slot);
        let by_name = names.iter().find(|left_out| name(left_out) == name(slot));
        let left_out = by_name.or(no_layers.filter(|_| in_layers == Some(true)));
        match left_out {
            Some(left_out) => context.report(left_out_and_trained(slot, left_out)),
            // Whether a weight is in the layers that are left out is known of a known architecture only.
            None if no_layers.is_some() && in_layers.is_none() => {}
            None => context.report(trained_already(slot, word)),
        }
    }
}

/// Whether a weight stands in the blocks, when that is known.
fn is_in_layers(start: &ModelType, slot: &Slot) -> Option<bool> {
    let place = weights::place(&start.architecture?.weights, slot.text()?)?;
    Some(Place::in_layers(place))
}

fn two_lists(first: &Slot, second: &Slot) -> Diagnostic {
    Diagnostic::error("conflicting-options", "`all-but` stands twice", second.span, "the second")
        .with_label(first.span, "the first")
        .with_help("name everything that stays as it is on one line")
}

fn trained_already(slot: &Slot, by: &Slot) -> Diagnostic {
    let message = format!("`{}` is trained already", slot.text().unwrap_or_default());
    Diagnostic::error("ineffective-option", message, slot.span, "changes nothing here")
        .with_label(by.span, "because of this")
        .with_help("remove one of them")
}

fn left_out_already(slot: &Slot, by: &Slot) -> Diagnostic {
    let message = format!("`{}` is left out already", slot.text().unwrap_or_default());
    Diagnostic::error("ineffective-option", message, slot.span, "changes nothing here")
        .with_label(by.span, "because of this")
        .with_help("remove one of them")
}

fn range_twice(slot: &Slot, first: &Slot) -> Diagnostic {
    let message = format!("the range `{}` stands twice", slot.text().unwrap_or_default());
    Diagnostic::error("repeated-option", message, slot.span, "the second")
        .with_label(first.span, "the first")
        .with_help("keep one of them")
}

fn left_out_and_trained(slot: &Slot, left_out: &Slot) -> Diagnostic {
    let message = format!("`{}` is trained and left out", slot.text().unwrap_or_default());
    let (first, second) = if left_out.span < slot.span { (left_out, slot) } else { (slot, left_out) };
    Diagnostic::error("conflicting-options", message, second.span, "the second")
        .with_label(first.span, "the first")
        .with_help("keep one of them")
}
