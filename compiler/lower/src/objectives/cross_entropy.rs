//! Cross-entropy over trained tokens.
//!
//! loss = 1/T · Σ_t −log p(label_t), T the trained tokens of the whole step. In evaluation the sum.

use super::{loss_scale, loss_write};
use crate::builder::{Builder, Mode};
use crate::models::Model;
use plan::op::Output;
use plan::work::result;

pub fn add(b: &mut Builder, model: &Model) {
    let hidden = model.forward(b);
    let scale = (b.mode == Mode::Train).then(|| loss_scale(b));
    let value = b.exchanged(result::LOSS, vec![1.into()]);
    let loss = Output { value, write: loss_write(b) };
    b.lm_head_loss(hidden.states, hidden.head, scale, loss);
}
