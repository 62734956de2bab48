//! Objectives: what is minimised, as ops on top of a model's hidden states.
//!
//! To add one: a file here, a line in [`Objective`], its schema in `stdlib`, and its goldens.

mod cross_entropy;
mod preference;

use crate::builder::{Builder, Mode};
use crate::models::Model;
use plan::op::PreferenceLoss;
use plan::value::ValueId;
use plan::work::Unit;

/// A loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Mean negative log-probability of the trained tokens: continued pretraining and SFT.
    CrossEntropy,
    /// Preference loss against a reference.
    Preference { loss: PreferenceLoss, beta: f64 },
}

impl Objective {
    /// Returns what the mean is over.
    pub fn unit(self) -> Unit {
        match self {
            Objective::CrossEntropy => Unit::Tokens,
            Objective::Preference { .. } => Unit::Pairs,
        }
    }

    /// Returns whether a pair's prompt is computed once in training.
    pub fn shares_prompts(self, model: &Model) -> bool {
        match self {
            Objective::CrossEntropy => false,
            Objective::Preference { .. } => preference::shares_prompts(Mode::Train, model),
        }
    }

    /// Adds the ops from batch to loss; in training the loss is scaled and adds up over micro-steps.
    pub fn add(self, b: &mut Builder, model: &Model) {
        match self {
            Objective::CrossEntropy => cross_entropy::add(b, model),
            Objective::Preference { loss, beta } => preference::add(b, model, loss, beta),
        }
    }

    /// Adds the program that gives each row's reference log-probability.
    pub fn add_reference(self, b: &mut Builder, model: &Model) {
        match self {
            Objective::CrossEntropy => {}
            Objective::Preference { loss, .. } => preference::add_reference(b, model, loss),
        }
    }
}

/// Returns the scale of the loss in training.
fn loss_scale(b: &mut Builder) -> ValueId {
    b.exchanged(crate::passes::update::LOSS_SCALE, vec![1.into()])
}

/// Returns how a program of this mode writes the loss.
fn loss_write(b: &Builder) -> plan::op::Write {
    match b.mode {
        Mode::Train => plan::op::Write::Accumulate,
        Mode::Score | Mode::Prefill | Mode::Decode => plan::op::Write::Set,
    }
}
