//! Rules about the numbers of a merge: weights, and how much of each model's changes is kept over depth.

use super::Context;
use super::flow;
use super::merge::{Method, Use};
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};
use crate::values::{Typed, show_number};

/// How far the probability of keeping spreads when nobody says.
const EPSILON: f64 = 0.15;

/// A sum below this is taken for 0.
const NOTHING: f64 = 1e-8;

/// Checks the numbers of all models of a merge.
pub fn check(context: &mut Context, item: &Item, method: &Method, models: &[&Item]) {
    if method.weight != Use::Unused {
        check_weights(context, item, method, models);
    }
    for model in models {
        if method.epsilon != Use::Unused {
            check_spread(context, method, model);
        }
        let layers =
            context.names.follow(item, "from").and_then(|first| flow::model_type(context, first).layers);
        for child in &model.children {
            check_length(context, child, layers);
        }
    }
}

/// The values of a number over depth; nothing when it is written twice or cannot be read.
fn values<'i>(model: &'i Item, name: &str) -> Option<Vec<&'i Slot>> {
    let property = model.properties.iter().find(|slot| slot.name == name);
    let slots = match (property, model.child(name)) {
        (Some(slot), None) => vec![slot],
        (None, Some(child)) => child.arguments.iter().collect(),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    (!slots.is_empty() && slots.iter().all(|slot| slot.value != Typed::Broken)).then_some(slots)
}

/// Weights of nothing merge nothing; those that are divided by their sum must have one.
fn check_weights(context: &mut Context, item: &Item, method: &Method, models: &[&Item]) {
    let weights: Option<Vec<Vec<&Slot>>> = models.iter().map(|model| values(model, "weight")).collect();
    let Some(weights) = weights.filter(|weights| !weights.is_empty() && !item.damaged) else { return };
    let number = |slot: &&Slot| slot.number().unwrap_or(0.0);
    let all_zero = weights.iter().flatten().all(|slot| number(slot) == 0.0);
    let written = item.child("method").and_then(|method| method.property("normalize"));
    let normalized = written.map_or(method.normalized, |slot| slot.value == Typed::Bool(true));
    // The first and the last layer take the ends of a curve.
    let ends = |place: fn(&Vec<&'_ Slot>) -> usize| -> Vec<&Slot> {
        weights.iter().map(|curve| curve[place(curve)]).collect()
    };
    let mut sides = [ends(|_| 0), ends(|curve| curve.len() - 1)].into_iter();
    let without_sum = sides.find(|side| side.iter().map(number).sum::<f64>().abs() < NOTHING);
    let Some(side) = without_sum.filter(|_| all_zero || normalized) else { return };
    let (message, help) = match all_zero {
        true => ("every weight is 0, so that nothing is merged", "give at least one model another weight"),
        false => (
            "the weights add up to 0, and are divided by their sum",
            "choose weights with another sum, or write `normalize=#false` after the method",
        ),
    };
    let Some((last, rest)) = side.split_last() else { return };
    let diagnostic = Diagnostic::error("out-of-range", message, last.span, "the last weight").with_help(help);
    let diagnostic = match written {
        None if !all_zero => diagnostic.with_note(format!(
            "`normalize` of `method` is not written; `{}` divides by the sum by default",
            method.name
        )),
        _ => diagnostic,
    };
    context.report(
        rest.iter().fold(diagnostic, |diagnostic, weight| diagnostic.with_label(weight.span, "a weight")),
    );
}

/// `density` less and plus `epsilon` are probabilities.
fn check_spread(context: &mut Context, method: &Method, model: &Item) {
    let Some(density) = values(model, "density") else { return };
    let epsilon = values(model, "epsilon");
    if epsilon.is_none()
        && (model.child("epsilon").is_some() || model.properties.iter().any(|slot| slot.name == "epsilon"))
    {
        return;
    }
    let knots = [density.len(), epsilon.as_ref().map_or(1, Vec::len)];
    let places =
        knots.iter().flat_map(|&count| (0..count).map(move |at| at as f64 / (count.max(2) - 1) as f64));
    let outside = places.into_iter().find_map(|depth| {
        let (kept, slot) = at(&density, depth);
        let (spread, other) = epsilon.as_ref().map_or((EPSILON, slot), |epsilon| at(epsilon, depth));
        let is_inside = kept - spread > NOTHING && kept + spread < 1.0 - NOTHING;
        (!is_inside).then_some((kept, spread, slot, other))
    });
    let Some((kept, spread, slot, other)) = outside else { return };
    let message = format!(
        "`{}` keeps changes with a probability from {} to {}, which must lie between 0 and 1",
        method.name,
        show(kept - spread),
        show(kept + spread)
    );
    let diagnostic = match epsilon {
        Some(_) => Diagnostic::error("out-of-range", message, other.span, "spreads too far")
            .with_label(slot.span, "around this density"),
        None => Diagnostic::error("out-of-range", message, slot.span, "too near to 0 or 1")
            .with_note(format!("without `epsilon` the probability spreads by {EPSILON}")),
    };
    let room = kept.min(1.0 - kept);
    context.report(diagnostic.with_help(match room > NOTHING {
        true => format!("write `epsilon` below {}, or move `density` towards the middle", show(room)),
        false => "write a `density` below 1".to_owned(),
    }));
}

/// The value of a curve at a depth between 0 and 1, with the value that is nearest to it.
fn at<'s>(curve: &[&'s Slot], depth: f64) -> (f64, &'s Slot) {
    let number = |at: usize| curve[at].number().unwrap_or(0.0);
    let place = depth * (curve.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let value = number(low) + (number(high) - number(low)) * (place - low as f64);
    (value, curve[place.round() as usize])
}

fn show(number: f64) -> String {
    show_number((number * 1e6).round() / 1e6)
}

/// A curve has no more values than the model has layers.
fn check_length(context: &mut Context, curve: &Item, layers: Option<u64>) {
    let Some(layers) = layers else { return };
    if let Some(surplus) = curve.arguments.get(layers as usize) {
        let message = format!("`{}` has {} values for {layers} layers", curve.kind(), curve.arguments.len());
        context.report(
            Diagnostic::error("extra-value", message, surplus.span, "no layer is left for it")
                .with_help(format!("write at most {layers} values")),
        );
    }
}
