//! What a stage updates: the tensors that its `train` lines name, as weights of the program.
//!
//! The names are resolved by `figures::trained`, which predictions use too, so that the plan's figures and
//! the program are of one mind. A file tensor that is dealt to several values is trained with all of them.

use crate::figures::Shapes;
use crate::figures::trained::{Part, Selection, trained};
use crate::models::Model;
use plan::program::Module;
use plan::value::{Role, ValueId};
use std::collections::HashSet;

/// A part of a model that is trained, the rest being frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedPart {
    /// Names in the model's files, sorted.
    pub tensors: Vec<String>,
    /// Names of the values that they are dealt to.
    values: HashSet<String>,
}

/// Returns what a selection trains of a model; nothing when that is everything.
pub fn part(model: &Model, shapes: &Shapes, selection: &Selection) -> Option<TrainedPart> {
    let found = trained(shapes, selection);
    let whole = found.updates.iter().filter(|update| update.part == Part::Whole);
    let names: HashSet<&str> = whole.map(|update| shapes.tensors[update.tensor].name.as_str()).collect();
    let (chosen, frozen): (Vec<_>, Vec<_>) = model.weights().into_iter().partition(|spec| {
        names.contains(spec.tensor.as_str()) || spec.aliases.iter().any(|name| names.contains(name.as_str()))
    });
    if frozen.is_empty() {
        return None;
    }
    let values = chosen.iter().flat_map(|spec| spec.values.iter().map(|(name, _)| name.clone())).collect();
    let mut tensors: Vec<String> = chosen.into_iter().map(|spec| spec.tensor).collect();
    tensors.sort();
    Some(TrainedPart { tensors, values })
}

/// Returns the weights of a module that are trained.
pub fn weights(module: &Module, part: Option<&TrainedPart>) -> HashSet<ValueId> {
    let ids = (0..module.values.len() as u32).map(ValueId);
    let is_trained = |id: &ValueId| {
        let value = &module.values[id.index()];
        value.role == Role::Weight && part.is_none_or(|part| part.values.contains(&value.name))
    };
    ids.filter(is_trained).collect()
}
