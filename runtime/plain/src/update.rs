//! Ops that rewrite their outputs in place.

use candle_core::{Result, Tensor, bail};
use plan::op::OpKind;

/// Computes what the outputs become, from the inputs and what they hold now.
pub fn update(kind: &OpKind, x: &[Tensor], current: &[Tensor]) -> Result<Vec<Tensor>> {
    match kind {
        OpKind::AdamW { beta1, beta2, eps, weight_decay, lr_scale } => {
            let (weight, m, v) = (&current[0], &current[1], &current[2]);
            let scalar =
                |index: usize| x[2].get(index)?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>();
            let (lr, correction1, correction2) = (scalar(0)? * lr_scale, scalar(1)?, scalar(2)?);
            let g = x[0].broadcast_mul(&x[1])?;
            let weight = (weight * (1.0 - lr * weight_decay))?;
            let m = ((m * *beta1)? + (&g * (1.0 - beta1))?)?;
            let v = ((v * *beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
            let denominator = ((v.sqrt()? / correction2.sqrt())? + *eps)?;
            let weight = (weight - ((&m / denominator)? * (lr / correction1))?)?;
            Ok(vec![weight, m, v])
        }
        OpKind::CacheAppend => {
            let (slots, cached, columns) = current[0].dims3()?;
            let mut lines: Vec<Tensor> = (0..slots * cached)
                .map(|line| current[0].reshape((slots * cached, columns))?.narrow(0, line, 1))
                .collect::<Result<_>>()?;
            let places = x[1].to_vec1::<i64>()?.into_iter().zip(x[2].to_vec1::<i64>()?);
            for (token, (slot, position)) in places.enumerate() {
                lines[slot as usize * cached + position as usize] = x[0].narrow(0, token, 1)?;
            }
            Ok(vec![Tensor::cat(&lines, 0)?.reshape((slots, cached, columns))?])
        }
        _ => bail!("{} does not update", kind.name()), // the caller has sorted them
    }
}
