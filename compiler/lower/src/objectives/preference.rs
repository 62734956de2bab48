//! Preference losses. DPO: Rafailov et al. 2023, <https://arxiv.org/abs/2305.18290>, eq. 7.
//! IPO: Azar et al. 2023, <https://arxiv.org/abs/2310.12036>, eq. 17.
//!
//! Shapes: P pairs, R = 2P rows (2i chosen, 2i+1 rejected), T trained tokens: those of the responses.
//!
//! What both rows of a pair begin with, the prompt, is computed once: the rejected row goes on from the chosen
//! one. That is exact but for dropout, whose draws are of one row; where it is active each row has its own prompt.

use super::{loss_scale, loss_write};
use crate::builder::{Builder, Mode, ext, set};
use crate::models::Model;
use plan::op::{OpKind, Output, PreferenceLoss};
use plan::value::ValueId;
use plan::work::{batch, result};

/// Adds the policy's row log-probabilities and the loss of the pairs.
pub fn add(b: &mut Builder, model: &Model, loss: PreferenceLoss, beta: f64) {
    let scale = loss_scale(b);
    // Evaluation wants sums: its count is 1, set by the host, and the scale is made here.
    if b.mode == Mode::Score {
        b.region("begin");
        let count = b.exchanged(batch::STEP_COUNT, vec![1.into()]);
        b.push(OpKind::Reciprocal, vec![count], vec![set(scale)]);
    }
    b.prefixes = shares_prompts(b.mode, model);
    let hidden = model.forward(b);
    let logprobs = b.token_logprobs(hidden.states, hidden.head);
    let policy = b.statistic("row_logprobs", vec![ext::ROWS.into()]);
    b.sum_by_row(logprobs, is_mean(loss), policy);
    let reference = b.exchanged(batch::REFERENCE, vec![ext::ROWS.into()]);
    let write = loss_write(b);
    let mut output = |name: &str, size: u64| Output { value: b.exchanged(name, vec![size.into()]), write };
    let outputs = [output(result::LOSS, 1), output(result::METRICS, 4)];
    let gradient = b.mode == Mode::Train;
    b.preference_loss([policy, reference, scale], loss, beta, outputs, gradient);
}

/// Adds the forward pass that gives each row's log-probability under the weights that are loaded.
pub fn add_reference(b: &mut Builder, model: &Model, loss: PreferenceLoss) {
    b.prefixes = shares_prompts(b.mode, model);
    let hidden = model.forward(b);
    let logprobs = b.token_logprobs(hidden.states, hidden.head);
    let rows: ValueId = b.exchanged(result::ROW_LOGPROBS, vec![ext::ROWS.into()]);
    b.sum_by_row(logprobs, is_mean(loss), rows);
}

/// Returns whether the prompt of a pair is computed once in a forward pass of this mode.
pub fn shares_prompts(mode: Mode, model: &Model) -> bool {
    mode != Mode::Train || model.dropout().is_none()
}

/// IPO compares log-probabilities averaged over the tokens of a response, the others their sums.
fn is_mean(loss: PreferenceLoss) -> bool {
    match loss {
        PreferenceLoss::Ipo => true,
        PreferenceLoss::Sigmoid { .. } | PreferenceLoss::Hinge => false,
    }
}
