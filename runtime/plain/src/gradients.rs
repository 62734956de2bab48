//! Gradient ops, by candle's autograd on the forward ops; ops that give a loss with its gradients too.

use crate::forward::{attention, forward, layer_norm, logprobs, rms_norm, sum_by_row};
use candle_core::{D, Result, Tensor, Var, bail};
use ops::backend::Draw;
use plan::op::{HeadGrads, OpKind, PreferenceLoss};

/// Computes a gradient op. `current` is what the outputs hold; only their shapes are used.
pub fn gradient(kind: &OpKind, x: &[Tensor], current: &[Tensor], draw: Draw) -> Result<Vec<Tensor>> {
    match kind {
        OpKind::EmbedGrad => {
            let table = current[0].zeros_like()?;
            differentiate(&[&table], |v| seeded(&v[0].index_select(&x[1], 0)?, &x[0]))
        }
        OpKind::LinearGradX => {
            let input = Tensor::zeros((x[0].dim(0)?, x[1].dim(1)?), x[0].dtype(), x[0].device())?;
            differentiate(&[&input], |v| seeded(&v[0].matmul(&x[1].t()?)?, &x[0]))
        }
        OpKind::LinearGradW => {
            let weight = Tensor::zeros((x[0].dim(1)?, x[1].dim(1)?), x[0].dtype(), x[0].device())?;
            differentiate(&[&weight], |v| seeded(&x[1].matmul(&v[0].t()?)?, &x[0]))
        }
        OpKind::BiasGrad => {
            let bias = Tensor::zeros(x[0].dim(1)?, x[0].dtype(), x[0].device())?;
            differentiate(&[&bias], |v| seeded(&v[0].broadcast_as(x[0].shape())?, &x[0]))
        }
        OpKind::RmsNormGrad => {
            let (h, w, rstd) = (&x[1], &x[2], &x[3]);
            // The op has no eps; what was added to the mean follows from rstd.
            let eps = (rstd.sqr()?.recip()? - h.sqr()?.mean(D::Minus1)?)?;
            let grads = differentiate(&[h, w], |v| seeded(&rms_norm(&v[0], &v[1], &eps)?.0, &x[0]))?;
            plus_residual(grads, x.get(4))
        }
        OpKind::LayerNormGrad => {
            let (h, w, mean, rstd) = (&x[1], &x[2], &x[3], &x[4]);
            let variance = h.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?.mean(D::Minus1)?;
            let eps = (rstd.sqr()?.recip()? - variance)?;
            let b = w.zeros_like()?;
            let grads =
                differentiate(&[h, w, &b], |v| seeded(&layer_norm(&v[0], &v[1], &v[2], &eps)?.0, &x[0]))?;
            plus_residual(grads, x.get(5))
        }
        OpKind::AttentionGrad(a) => differentiate(&[&x[1], &x[2], &x[3]], |v| {
            seeded(&attention(a, [&v[0], &v[1], &v[2]], &x[6..], draw)?[0], &x[0])
        }),
        OpKind::GatedActGrad { f } => {
            let kind = OpKind::GatedAct { f: *f };
            differentiate(&[&x[1], &x[2]], |v| seeded(&forward(&kind, v, current, draw)?[0], &x[0]))
        }
        OpKind::ActGrad { f } => {
            let kind = OpKind::Act { f: *f };
            differentiate(&[&x[1]], |v| seeded(&forward(&kind, v, current, draw)?[0], &x[0]))
        }
        OpKind::TokenLogprobsGrad => {
            differentiate(&[&x[1], &x[2]], |v| seeded(&logprobs(&v[0], &v[1], &x[3], &x[4])?.0, &x[0]))
        }
        OpKind::SpreadToTokens { mean } => {
            let tokens = current[0].zeros_like()?;
            let rows = x[0].dim(0)?;
            differentiate(&[&tokens], |v| seeded(&sum_by_row(&v[0], &x[1], rows, *mean)?, &x[0]))
        }
        OpKind::LmHeadLoss { grads } => head_loss(*grads, x),
        OpKind::PreferenceLoss { loss, beta } => preference_loss(*loss, *beta, x, current.len() == 3),
        _ => bail!("{} is not a gradient op", kind.name()), // the caller has sorted them
    }
}

/// Returns Σ y·dy, whose gradient is that of y against dy.
fn seeded(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    (y * dy)?.sum_all()
}

/// Returns the gradients of a scalar function with respect to each of its arguments.
fn differentiate(arguments: &[&Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
    let vars = arguments.iter().map(|x| Var::from_tensor(x)).collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let mut grads = f(&tensors)?.backward()?;
    let of = |tensor: &Tensor| match grads.remove(tensor) {
        Some(grad) => Ok(grad),
        None => tensor.zeros_like(), // an argument that nothing depends on
    };
    tensors.iter().map(of).collect()
}

/// Adds the gradient that reaches h on other ways.
fn plus_residual(mut grads: Vec<Tensor>, dh: Option<&Tensor>) -> Result<Vec<Tensor>> {
    if let Some(dh) = dh {
        grads[0] = (&grads[0] + dh)?;
    }
    Ok(grads)
}

fn head_loss(grads: HeadGrads, x: &[Tensor]) -> Result<Vec<Tensor>> {
    let scale = match x.get(4) {
        Some(scale) => scale.clone(),
        None => Tensor::ones(1, x[0].dtype(), x[0].device())?,
    };
    let loss = |h: &Tensor, w: &Tensor| {
        let (logprob, _) = logprobs(h, w, &x[2], &x[3])?;
        let sum =
            if x[2].dim(0)? == 0 { scale.zeros_like()? } else { logprob.sum_all()?.reshape(1)?.neg()? };
        sum * &scale
    };
    let mut outputs = vec![loss(&x[0], &x[1])?];
    match grads {
        HeadGrads::None => {}
        HeadGrads::Hidden => {
            outputs.extend(differentiate(&[&x[0]], |v| loss(&v[0], &x[1])?.sum_all())?);
        }
        HeadGrads::HiddenAndWeight => {
            outputs.extend(differentiate(&[&x[0], &x[1]], |v| loss(&v[0], &v[1])?.sum_all())?);
        }
    }
    Ok(outputs)
}

fn preference_loss(
    kind: PreferenceLoss,
    beta: f64,
    x: &[Tensor],
    with_gradient: bool,
) -> Result<Vec<Tensor>> {
    let column = |rows: &Tensor, which: usize| rows.reshape(((), 2))?.narrow(1, which, 1)?.squeeze(1);
    let rewards = |policy: &Tensor| {
        let reward = (policy - &x[1])?;
        Ok::<_, candle_core::Error>((column(&reward, 0)?, column(&reward, 1)?))
    };
    let loss = |policy: &Tensor| {
        let (chosen, rejected) = rewards(policy)?;
        pair_losses(kind, beta, &(chosen - rejected)?)?.sum_all()?.reshape(1)? * &x[2]
    };
    let mut outputs = vec![loss(&x[0])?];
    if with_gradient {
        outputs.extend(differentiate(&[&x[0]], |v| loss(&v[0])?.sum_all())?);
    }
    let (chosen, rejected) = rewards(&x[0])?;
    let (chosen, rejected) = ((chosen * beta)?, (rejected * beta)?);
    let margin = (&chosen - &rejected)?;
    // A tie is half right: a policy that equals its reference is at chance.
    let zero = margin.zeros_like()?;
    let above = margin.gt(&zero)?.to_dtype(margin.dtype())?;
    let right = ((above + margin.ge(&zero)?.to_dtype(margin.dtype())?)? * 0.5)?;
    let sums = [chosen, rejected, margin, right].map(|metric| metric.sum_all());
    let sums = sums.into_iter().collect::<Result<Vec<_>>>()?;
    outputs.push(Tensor::stack(&sums, 0)?);
    Ok(outputs)
}

fn pair_losses(kind: PreferenceLoss, beta: f64, d: &Tensor) -> Result<Tensor> {
    match kind {
        PreferenceLoss::Sigmoid { label_smoothing: s } => {
            let scaled = (d * beta)?;
            (softplus(&scaled.neg()?)? * (1.0 - s))? + (softplus(&scaled)? * s)?
        }
        PreferenceLoss::Ipo => (d - 0.5 / beta)?.sqr(),
        PreferenceLoss::Hinge => ((d * -beta)? + 1.0)?.relu(),
    }
}

/// Returns log(1 + eˣ) = −log σ(−x).
fn softplus(x: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[x.zeros_like()?, x.clone()], 0)?.log_sum_exp(0)
}
