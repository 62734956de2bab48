//! Every op by plain candle calls, in f32 and f64: what the ops mean, as a program.
//!
//! Operands are copied in and out; nothing here is fast. Forward ops are in [`forward`], gradient ops in
//! [`gradients`] and, wherever there is a forward op to differentiate, made by candle's autograd and not
//! by a formula of ours: that makes this backend an independent check of the fused ones.

mod forward;
mod gradients;
mod tensors;
mod update;

use candle_core::Tensor;
use ops::backend::{Backend, Call, Draw, OpError};
use ops::check::{check, check_index, check_prefixes, check_rising, check_rows, rewrites};
use plan::op::{OpKind, in_place};
use plan::value::Dtype;

/// The plain backend.
#[derive(Debug, Default)]
pub struct Plain;

impl Plain {
    /// Makes the backend.
    pub fn new() -> Self {
        Plain
    }
}

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        if let Some(lacking) = lacking(kind) {
            return Err(OpError(format!("the plain backend has no {lacking} (op {})", kind.name())));
        }
        if !matches!(float, Dtype::F32 | Dtype::F64) {
            let (op, name) = (kind.name(), float.name());
            return Err(OpError(format!(
                "the plain backend computes in f32 or f64, not in {name} (op {op})"
            )));
        }
        Ok(())
    }

    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        let op = call.kind.name();
        if let Some(lacking) = lacking(call.kind) {
            return Err(OpError(format!("the plain backend has no {lacking} (op {op})")));
        }
        let float = call.outputs.first().map_or(Dtype::F32, |output| output.dtype);
        check(&call, float)?;
        check_indices(&call)?;
        compute(call).map_err(|error| OpError(format!("{op}: {error}")))
    }
}

fn compute(call: Call<'_, '_>) -> candle_core::Result<()> {
    let mut inputs = call.inputs.iter().map(tensors::read).collect::<candle_core::Result<Vec<_>>>()?;
    let current = call.outputs.iter().map(tensors::read_output).collect::<candle_core::Result<Vec<_>>>()?;
    if rewrites(&call) {
        // What an op rewrites in place stands where its definition has it.
        for &(input, output) in in_place(call.kind) {
            inputs.insert(input, current[output].clone());
        }
    }
    let results = results(call.kind, &inputs, &current, call.draw)?;
    for ((output, current), result) in call.outputs.iter_mut().zip(&current).zip(&results) {
        tensors::write(output, current, result)?;
    }
    Ok(())
}

/// Computes the outputs of an op from its inputs and, for updates, from what the outputs hold.
fn results(
    kind: &OpKind,
    inputs: &[Tensor],
    current: &[Tensor],
    draw: Draw,
) -> candle_core::Result<Vec<Tensor>> {
    match kind {
        OpKind::EmbedGrad
        | OpKind::LinearGradX
        | OpKind::LinearGradW
        | OpKind::BiasGrad
        | OpKind::RmsNormGrad
        | OpKind::LayerNormGrad
        | OpKind::AttentionGrad(_)
        | OpKind::GatedActGrad { .. }
        | OpKind::ActGrad { .. }
        | OpKind::TokenLogprobsGrad
        | OpKind::SpreadToTokens { .. }
        | OpKind::LmHeadLoss { .. }
        | OpKind::PreferenceLoss { .. } => gradients::gradient(kind, inputs, current, draw),
        OpKind::AdamW { .. } | OpKind::CacheAppend => update::update(kind, inputs, current),
        OpKind::Cast => Ok(vec![inputs[0].to_dtype(current[0].dtype())?]),
        OpKind::Embed
        | OpKind::Linear { .. }
        | OpKind::RmsNorm { .. }
        | OpKind::LayerNorm { .. }
        | OpKind::Rope { .. }
        | OpKind::Attention(_)
        | OpKind::GatedAct { .. }
        | OpKind::Act { .. }
        | OpKind::Add
        | OpKind::Copy
        | OpKind::Dropout(_)
        | OpKind::TokenLogprobs
        | OpKind::SumByRow { .. }
        | OpKind::Reciprocal
        | OpKind::SumSquares
        | OpKind::ClipFactor { .. }
        | OpKind::Gather
        | OpKind::AttentionCached(_) => forward::forward(kind, inputs, current, draw),
        OpKind::Route { .. }
        | OpKind::Dispatch { .. }
        | OpKind::GroupedLinear { .. }
        | OpKind::Combine { .. }
        | OpKind::AllGather { .. }
        | OpKind::ReduceScatter { .. }
        | OpKind::AllReduce { .. } => candle_core::bail!("not an op of this backend"),
    }
}

/// Checks operands that index others, with the words of the fused backends.
fn check_indices(call: &Call<'_, '_>) -> Result<(), OpError> {
    let (op, inputs) = (call.kind.name(), call.inputs);
    let rows = |index: usize| inputs[index].dims.rows();
    match call.kind {
        OpKind::Embed => check_index(op, "index", inputs[0].i32(), rows(1)),
        OpKind::EmbedGrad => check_index(op, "index", inputs[1].i32(), call.outputs[0].dims.rows()),
        OpKind::Gather => check_index(op, "index", inputs[1].i32(), rows(0)),
        OpKind::Attention(_) | OpKind::AttentionGrad(_) => {
            let cu = if matches!(call.kind, OpKind::Attention(_)) { 3 } else { 6 };
            check_rows(op, inputs[cu].i32(), rows(0))?;
            inputs.get(cu + 2).map_or(Ok(()), |view| check_prefixes(op, inputs[cu].i32(), view.i32()))
        }
        OpKind::Dropout(_) => check_rows(op, inputs[1].i32(), rows(0)),
        OpKind::LmHeadLoss { .. } | OpKind::TokenLogprobs | OpKind::TokenLogprobsGrad => {
            let h = if matches!(call.kind, OpKind::TokenLogprobsGrad) { 1 } else { 0 };
            check_index(op, "trained_index", inputs[h + 2].i32(), rows(h))?;
            check_index(op, "trained_labels", inputs[h + 3].i32(), rows(h + 1))
        }
        OpKind::SumByRow { .. } | OpKind::SpreadToTokens { .. } => {
            let by_row = if matches!(call.kind, OpKind::SumByRow { .. }) {
                call.outputs[0].dims.rows()
            } else {
                rows(0)
            };
            check_index(op, "trained_row", inputs[1].i32(), by_row)?;
            check_rising(op, "trained_row", inputs[1].i32(), false)
        }
        OpKind::CacheAppend => {
            let sizes = call.outputs[0].dims;
            check_index(op, "slots", inputs[1].i32(), sizes.sizes()[0])?;
            check_index(op, "positions", inputs[2].i32(), sizes.sizes()[1])
        }
        OpKind::AttentionCached(_) => {
            check_index(op, "lengths", inputs[3].i32(), inputs[1].dims.sizes()[1] + 1)
        }
        _ => Ok(()), // no operand indexes another
    }
}

/// Returns what this backend lacks for an op.
fn lacking(kind: &OpKind) -> Option<&'static str> {
    match kind {
        OpKind::Route { .. }
        | OpKind::Dispatch { .. }
        | OpKind::GroupedLinear { .. }
        | OpKind::Combine { .. } => Some("mixture of experts yet"),
        OpKind::AllGather { .. } | OpKind::ReduceScatter { .. } | OpKind::AllReduce { .. } => {
            Some("collectives: they run between devices, not on one")
        }
        OpKind::Linear { quantized: Some(_), .. } => Some("quantised weights yet"),
        OpKind::Linear { adapter: Some(_), .. } => Some("adapters inside a linear yet"),
        OpKind::AttentionCached(attention) if attention.dropout.is_some() => Some("dropout in decoding"),
        _ => None, // `results` lists the ops that there are
    }
}
