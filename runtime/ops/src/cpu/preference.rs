//! Sums of token logprobs by row, and preference losses.
//!
//! Shapes: T trained tokens, R = 2P rows of P pairs; row 2i is chosen, row 2i+1 rejected. Numbers are few,
//! so everything is computed in f64 on one thread.

use super::adds;
use super::simd::put;
use crate::backend::{Call, OpError};
use crate::check::{check_index, check_rising};
use plan::op::PreferenceLoss;

/// Calls `each(row, tokens of the row)` for the rows that have trained tokens.
fn by_row(index: &[i32], mut each: impl FnMut(usize, std::ops::Range<usize>)) {
    let mut start = 0;
    for run in index.chunk_by(|a, b| a == b) {
        each(run[0] as usize, start..start + run.len());
        start += run.len();
    }
}

/// `[x [T], trained_row [T]] → [y [R]]`: rows without a trained token get 0.
pub fn sum_by_row(call: &mut Call<'_, '_>, mean: bool) -> Result<(), OpError> {
    let (x, index) = (call.inputs[0].f32(), call.inputs[1].i32());
    let output = &mut call.outputs[0];
    let add = adds(output);
    let y = output.f32();
    check_index("sum_by_row", "trained_row", index, y.len())?;
    check_rising("sum_by_row", "trained_row", index, false)?;
    if !add {
        y.fill(0.0);
    }
    by_row(index, |row, tokens| {
        let count = tokens.len() as f64;
        let sum: f64 = x[tokens].iter().map(|&x| f64::from(x)).sum();
        y[row] += (if mean { sum / count } else { sum }) as f32;
    });
    Ok(())
}

/// `[dy [R], trained_row [T]] → [dx [T]]`.
pub fn spread_to_tokens(call: &mut Call<'_, '_>, mean: bool) -> Result<(), OpError> {
    let (dy, index) = (call.inputs[0].f32(), call.inputs[1].i32());
    check_index("spread_to_tokens", "trained_row", index, dy.len())?;
    check_rising("spread_to_tokens", "trained_row", index, false)?;
    let output = &mut call.outputs[0];
    let add = adds(output);
    let dx = output.f32();
    by_row(index, |row, tokens| {
        let share = if mean { f64::from(dy[row]) / tokens.len() as f64 } else { f64::from(dy[row]) };
        for dx in &mut dx[tokens] {
            put(add, dx, share as f32);
        }
    });
    Ok(())
}

/// `[policy [R], reference [R], scale [1]] → [loss [1], dpolicy? [R], metrics [4]]`.
pub fn loss(call: &mut Call<'_, '_>, kind: PreferenceLoss, beta: f64) -> Result<(), OpError> {
    let (policy, reference) = (call.inputs[0].f32(), call.inputs[1].f32());
    let scale = f64::from(call.inputs[2].f32()[0]);
    let (first, rest) = call.outputs.split_first_mut().expect("operands are checked");
    let (metrics, gradient) = rest.split_last_mut().expect("operands are checked");
    let mut gradient = gradient.first_mut().map(|view| (adds(view), view.f32()));
    let (mut total, mut sums) = (0.0, [0.0; 4]);
    for pair in 0..policy.len() / 2 {
        let (chosen, rejected) = (2 * pair, 2 * pair + 1);
        let reward = |row: usize| f64::from(policy[row]) - f64::from(reference[row]);
        let (value, slope) = pair_loss(kind, beta, reward(chosen) - reward(rejected));
        total += value;
        if let Some((add, gradient)) = &mut gradient {
            put(*add, &mut gradient[chosen], (scale * slope) as f32);
            put(*add, &mut gradient[rejected], (-scale * slope) as f32);
        }
        let (won, lost) = (beta * reward(chosen), beta * reward(rejected));
        // A tie is half right: a policy that equals its reference is at chance.
        let right = match won.partial_cmp(&lost) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            Some(std::cmp::Ordering::Less) | None => 0.0,
        };
        for (sum, value) in sums.iter_mut().zip([won, lost, won - lost, right]) {
            *sum += value;
        }
    }
    put(adds(first), &mut first.f32()[0], (scale * total) as f32);
    let add = adds(metrics);
    for (metric, sum) in metrics.f32().iter_mut().zip(sums) {
        put(add, metric, sum as f32);
    }
    Ok(())
}

/// Returns the loss of one pair and its derivative by d.
fn pair_loss(kind: PreferenceLoss, beta: f64, d: f64) -> (f64, f64) {
    match kind {
        PreferenceLoss::Sigmoid { label_smoothing: s } => {
            let value = (1.0 - s) * softplus(-beta * d) + s * softplus(beta * d);
            (value, beta * (s * sigmoid(beta * d) - (1.0 - s) * sigmoid(-beta * d)))
        }
        PreferenceLoss::Ipo => {
            let off = d - 0.5 / beta;
            (off * off, 2.0 * off)
        }
        PreferenceLoss::Hinge => {
            let lacking = 1.0 - beta * d;
            // Written so that NaN stays NaN.
            if lacking <= 0.0 { (0.0, 0.0) } else { (lacking, -beta) }
        }
    }
}

/// Returns log(1 + eˣ) = −log σ(−x).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}
