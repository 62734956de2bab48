//! Forward ops, as differentiable functions of tensors.
//!
//! Shapes: N tokens, R rows, H hidden_size, V vocab_size, A num_heads, K num_kv_heads, D head_dim,
//! T trained tokens, S slots, C cached positions. Nothing here uses candle's fused ops, which cut gradients.

use candle_core::{D, DType, Device, Result, Tensor, bail};
use ops::backend::Draw;
use ops::random::{philox, stream, unit};
use plan::op::{Activation, Attention, Dropout, OpKind};

/// Computes a forward op. `current` is what the outputs hold; only their shapes are used.
pub fn forward(kind: &OpKind, x: &[Tensor], current: &[Tensor], draw: Draw) -> Result<Vec<Tensor>> {
    match kind {
        OpKind::Embed => Ok(vec![x[1].index_select(&x[0], 0)?]),
        OpKind::Gather => Ok(vec![x[0].index_select(&x[1], 0)?]),
        OpKind::Linear { .. } => {
            let y = x[0].matmul(&x[1].t()?)?;
            Ok(vec![if let Some(bias) = x.get(2) { y.broadcast_add(bias)? } else { y }])
        }
        OpKind::RmsNorm { eps } => {
            let h = if let Some(residual) = x.get(2) { (&x[0] + residual)? } else { x[0].clone() };
            let eps = Tensor::full(*eps, h.dim(0)?, h.device())?.to_dtype(h.dtype())?;
            let (y, rstd) = rms_norm(&h, &x[1], &eps)?;
            Ok(with_sum(vec![y, rstd], h, x.len() > 2))
        }
        OpKind::LayerNorm { eps } => {
            let h = if let Some(residual) = x.get(3) { (&x[0] + residual)? } else { x[0].clone() };
            let eps = Tensor::full(*eps, h.dim(0)?, h.device())?.to_dtype(h.dtype())?;
            let (y, mean, rstd) = layer_norm(&h, &x[1], &x[2], &eps)?;
            Ok(with_sum(vec![y, mean, rstd], h, x.len() > 3))
        }
        OpKind::Rope { head_dim, inv_freq, scale, inverse } => {
            Ok(vec![rope(&x[0], &x[1], *head_dim as usize, inv_freq, *scale, *inverse)?])
        }
        OpKind::Attention(a) => attention(a, [&x[0], &x[1], &x[2]], &x[3..], draw),
        OpKind::AttentionCached(a) => Ok(vec![attention_cached(a, &x[0], &x[1], &x[2], &x[3])?]),
        OpKind::GatedAct { f } => Ok(vec![(activation(*f, &x[0])? * &x[1])?]),
        OpKind::Act { f } => Ok(vec![activation(*f, &x[0])?]),
        OpKind::Add => Ok(vec![(&x[0] + &x[1])?]),
        OpKind::Copy => Ok(vec![x[0].clone()]),
        OpKind::Dropout(dropout) => Ok(vec![drop_channels(*dropout, &x[0], &x[1], &x[2], draw)?]),
        OpKind::TokenLogprobs => {
            let (logprob, lse) = logprobs(&x[0], &x[1], &x[2], &x[3])?;
            Ok(vec![logprob, lse])
        }
        OpKind::SumByRow { mean } => Ok(vec![sum_by_row(&x[0], &x[1], current[0].dim(0)?, *mean)?]),
        OpKind::Reciprocal => Ok(vec![x[0].to_dtype(current[0].dtype())?.recip()?]),
        OpKind::SumSquares => {
            let mut sum = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
            for gradient in x {
                sum = (sum + gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.reshape(1)?)?;
            }
            Ok(vec![sum.to_dtype(current[0].dtype())?])
        }
        OpKind::ClipFactor { max_norm } => {
            let norm = x[0].sqrt()?;
            let one = norm.ones_like()?;
            if *max_norm == 0.0 {
                return Ok(vec![norm, one]);
            }
            let factor = ((norm.clone() + 1e-6)?.recip()? * *max_norm)?;
            let factor = factor.gt(&one)?.where_cond(&one, &factor)?;
            Ok(vec![norm, factor])
        }
        _ => bail!("{} is not a forward op", kind.name()), // the caller has sorted them
    }
}

fn with_sum(mut outputs: Vec<Tensor>, h: Tensor, summed: bool) -> Vec<Tensor> {
    if summed {
        outputs.push(h);
    }
    outputs
}

/// Returns y and rstd; `eps` is `[N]`.
pub fn rms_norm(h: &Tensor, w: &Tensor, eps: &Tensor) -> Result<(Tensor, Tensor)> {
    let rstd = (h.sqr()?.mean(D::Minus1)? + eps)?.sqrt()?.recip()?;
    let y = h.broadcast_mul(&rstd.unsqueeze(1)?)?.broadcast_mul(w)?;
    Ok((y, rstd))
}

/// Returns y, mean and rstd; `eps` is `[N]`.
pub fn layer_norm(h: &Tensor, w: &Tensor, b: &Tensor, eps: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let mean = h.mean(D::Minus1)?;
    let centred = h.broadcast_sub(&mean.unsqueeze(1)?)?;
    let rstd = (centred.sqr()?.mean(D::Minus1)? + eps)?.sqrt()?.recip()?;
    let y = centred.broadcast_mul(&rstd.unsqueeze(1)?)?.broadcast_mul(w)?.broadcast_add(b)?;
    Ok((y, mean, rstd))
}

fn rope(
    x: &Tensor,
    positions: &Tensor,
    head_dim: usize,
    inv_freq: &[f64],
    scale: f64,
    inverse: bool,
) -> Result<Tensor> {
    let (n, columns) = x.dims2()?;
    let positions = positions.to_vec1::<i64>()?;
    let table = |part: fn(f64) -> f64, scale: f64| {
        let angles = positions.iter().flat_map(|&p| inv_freq.iter().map(move |f| p as f64 * f));
        let values: Vec<f64> = angles.map(|angle| part(angle) * scale).collect();
        Tensor::from_vec(values, (n, 1, head_dim / 2), x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(f64::cos, scale)?, table(f64::sin, if inverse { -scale } else { scale })?);
    let heads = x.reshape((n, columns / head_dim, head_dim))?;
    let low = heads.narrow(2, 0, head_dim / 2)?;
    let high = heads.narrow(2, head_dim / 2, head_dim / 2)?;
    let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_low, turned_high], 2)?.reshape((n, columns))
}

/// Returns f(x).
fn activation(f: Activation, x: &Tensor) -> Result<Tensor> {
    match f {
        Activation::Silu => x * (x.neg()?.exp()? + 1.0)?.recip()?,
        Activation::Gelu => {
            let cdf = (((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?;
            x * cdf
        }
        Activation::GeluTanh => {
            let inner = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            x * ((inner.tanh()? + 1.0)? * 0.5)?
        }
        Activation::Relu => x.relu(),
    }
}

/// Returns o `[N, A·D]` and lse `[N, A]`; `rows` are cu_seqlens, row numbers and, where there are any, prefixes.
pub fn attention(a: &Attention, [q, k, v]: [&Tensor; 3], rows: &[Tensor], draw: Draw) -> Result<Vec<Tensor>> {
    let (cu, numbers) = (rows[0].to_vec1::<i64>()?, rows[1].to_vec1::<i64>()?);
    let prefixes = rows.get(2).map_or(Ok(vec![0; numbers.len()]), Tensor::to_vec1::<i64>)?;
    let (mut outputs, mut logs) = (Vec::new(), Vec::new());
    let mut trunk = 0;
    for (row, &number) in numbers.iter().enumerate() {
        let (first, len) = (cu[row] as usize, (cu[row + 1] - cu[row]) as usize);
        let prefix = prefixes[row] as usize;
        trunk = if prefix == 0 { first } else { trunk };
        if len == 0 {
            continue;
        }
        let positions: Vec<usize> = (prefix..prefix + len).collect();
        let part = |x: &Tensor| x.narrow(0, first, len);
        let whole = |x: &Tensor| match prefix {
            0 => part(x),
            _ => Tensor::cat(&[x.narrow(0, trunk, prefix)?, part(x)?], 0),
        };
        let scores = scores(a, &part(q)?, &whole(k)?, &positions)?;
        logs.push(scores.log_sum_exp(D::Minus1)?.t()?.contiguous()?);
        let mut weights = softmax(&scores)?;
        if let Some(dropout) = a.dropout {
            weights = (weights * attention_mask(dropout, a.heads as usize, len, number, draw, q.dtype())?)?;
        }
        let o = weights.matmul(&heads(&whole(v)?, a)?)?;
        outputs.push(o.transpose(0, 1)?.reshape((len, ()))?);
    }
    if outputs.is_empty() {
        return Ok(vec![q.zeros_like()?, Tensor::zeros((0, a.heads as usize), q.dtype(), q.device())?]);
    }
    Ok(vec![Tensor::cat(&outputs, 0)?, Tensor::cat(&logs, 0)?])
}

/// Splits `[S, heads·D]` to `[A, S, D]`; key-value heads are repeated for the heads of their group.
fn heads(x: &Tensor, a: &Attention) -> Result<Tensor> {
    let (len, columns) = x.dims2()?;
    let (count, dim) = (columns / a.head_dim as usize, a.head_dim as usize);
    let split = x.reshape((len, count, dim))?.transpose(0, 1)?.contiguous()?;
    let group = a.heads as usize / count;
    let of_head: Vec<i64> = (0..a.heads as usize).map(|head| (head / group) as i64).collect();
    split.index_select(&Tensor::new(of_head, x.device())?, 0)
}

/// Returns the scores `[A, queries, keys]`, −∞ where a query does not see a key.
///
/// Keys have positions 0, 1, …; `queries` are the positions of the queries.
fn scores(a: &Attention, q: &Tensor, k: &Tensor, queries: &[usize]) -> Result<Tensor> {
    let (keys, device, dtype) = (k.dim(0)?, q.device(), q.dtype());
    let mut scores = (heads(q, a)?.matmul(&heads(k, a)?.transpose(1, 2)?.contiguous()?)? * a.scale)?;
    if let Some(cap) = a.softcap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    let pairs = || queries.iter().flat_map(|&query| (0..keys).map(move |key| (query, key)));
    let shape = (1, queries.len(), keys);
    if let Some(slopes) = &a.alibi {
        let distance: Vec<f64> = pairs().map(|(query, key)| key as f64 - query as f64).collect();
        let distance = Tensor::from_vec(distance, shape, device)?.to_dtype(dtype)?;
        let slopes =
            Tensor::new(slopes.as_slice(), device)?.to_dtype(dtype)?.reshape((slopes.len(), 1, 1))?;
        scores = (scores + slopes.broadcast_mul(&distance)?)?;
    }
    let window = a.window.map_or(usize::MAX, |window| window as usize);
    let seen: Vec<u8> = pairs().map(|(query, key)| u8::from(key <= query && query - key < window)).collect();
    let seen = Tensor::from_vec(seen, shape, device)?.broadcast_as(scores.shape())?;
    let hidden = Tensor::full(f64::NEG_INFINITY, scores.shape(), device)?.to_dtype(dtype)?;
    seen.where_cond(&scores, &hidden)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(scores, D::Minus1)
}

/// Returns 0 or 1/(1−p) for each head, query and key of a row: word key % 4 of [key/4, query, row, head].
fn attention_mask(
    dropout: Dropout,
    heads: usize,
    len: usize,
    number: i64,
    draw: Draw,
    dtype: DType,
) -> Result<Tensor> {
    let key = stream(draw.seed, draw.step, dropout.site);
    let mut mask = Vec::with_capacity(heads * len * len);
    for head in 0..heads {
        for query in 0..len {
            for position in 0..len {
                let counter = [(position / 4) as u32, query as u32, number as u32, head as u32];
                mask.push(survivor(dropout.p, philox(key, counter)[position % 4]));
            }
        }
    }
    Tensor::from_vec(mask, (heads, len, len), &Device::Cpu)?.to_dtype(dtype)
}

/// Returns the factor of an element that drew this word.
fn survivor(p: f64, word: u32) -> f64 {
    if unit(word) >= p as f32 { 1.0 / (1.0 - p) } else { 0.0 }
}

fn drop_channels(dropout: Dropout, x: &Tensor, cu: &Tensor, numbers: &Tensor, draw: Draw) -> Result<Tensor> {
    let key = stream(draw.seed, draw.step, dropout.site);
    let (cu, numbers) = (cu.to_vec1::<i64>()?, numbers.to_vec1::<i64>()?);
    let mut mask = Vec::with_capacity(x.elem_count());
    for (row, &number) in numbers.iter().enumerate() {
        for position in 0..(cu[row + 1] - cu[row]) as u32 {
            for channel in 0..x.dim(1)? as u32 {
                let word = philox(key, [channel / 4, position, number as u32, 0])[channel as usize % 4];
                mask.push(survivor(dropout.p, word));
            }
        }
    }
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

fn attention_cached(
    a: &Attention,
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    lengths: &Tensor,
) -> Result<Tensor> {
    let mut outputs = Vec::new();
    for (slot, &length) in lengths.to_vec1::<i64>()?.iter().enumerate() {
        let length = length as usize;
        let q = q.narrow(0, slot, 1)?;
        if length == 0 {
            outputs.push(q.zeros_like()?);
            continue;
        }
        let part = |cache: &Tensor| cache.get(slot)?.narrow(0, 0, length);
        let weights = softmax(&scores(a, &q, &part(keys)?, &[length - 1])?)?;
        let o = weights.matmul(&heads(&part(values)?, a)?)?;
        outputs.push(o.transpose(0, 1)?.reshape((1, ()))?);
    }
    Tensor::cat(&outputs, 0)
}

/// Returns logprob and lse of the trained tokens, `[T]` each.
pub fn logprobs(h: &Tensor, w: &Tensor, index: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    if index.dim(0)? == 0 {
        let none = Tensor::zeros(0, h.dtype(), h.device())?;
        return Ok((none.clone(), none));
    }
    let logits = h.index_select(index, 0)?.matmul(&w.t()?)?;
    let lse = logits.log_sum_exp(D::Minus1)?;
    let chosen = logits.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    Ok(((chosen - &lse)?, lse))
}

/// Returns the sums by row, or the means; 0 for a row without a trained token.
pub fn sum_by_row(x: &Tensor, index: &Tensor, rows: usize, mean: bool) -> Result<Tensor> {
    let zeros = Tensor::zeros(rows, x.dtype(), x.device())?;
    let sums = zeros.index_add(index, x, 0)?;
    if !mean {
        return Ok(sums);
    }
    let counts = zeros.index_add(index, &x.ones_like()?, 0)?;
    sums / counts.maximum(1.0)?
}
