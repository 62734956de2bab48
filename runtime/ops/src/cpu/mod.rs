//! The CPU backend: fused kernels over slices, of numbers in f32 or bf16, computed in f32.
//!
//! One file per family of ops. A kernel cuts its work by shapes alone and every sum has one order, so
//! results are bit-equal for any number of threads; between instruction sets they agree to rounding.

mod activation;
mod attention;
mod cache;
mod elementwise;
mod embed;
pub(crate) mod float;
mod gemm;
mod head;
mod linear;
mod norm;
mod optimizer;
mod pool;
mod preference;
mod product;
mod rope;
pub(crate) mod simd;
mod sync;

use crate::backend::{Backend, Call, OpError};
use crate::check::{check, number_format};
use crate::view::ViewMut;
use plan::op::{OpKind, Write};
use plan::value::Dtype;
use pool::Pool;
pub use simd::instruction_set;

/// The CPU backend.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
}

impl Cpu {
    /// Makes a backend with that many threads (at least one).
    ///
    /// # Panics
    /// Panics when the system refuses to start threads.
    pub fn new(threads: usize) -> Self {
        Cpu { pool: Pool::new(threads) }
    }

    /// Returns the number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        if let Some(lacking) = lacking(kind) {
            return Err(OpError(format!("the cpu backend has no {lacking} (op {})", kind.name())));
        }
        if !matches!(float, Dtype::F32 | Dtype::Bf16) && !matches!(kind, OpKind::Cast) {
            let name = float.name();
            return Err(OpError(format!(
                "the cpu backend computes in f32 and bf16, not in {name} (op {})",
                kind.name()
            )));
        }
        Ok(())
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.pool.run(count, usize::MAX, task);
    }

    fn release(&self) {
        self.pool.release();
    }

    fn run(&self, mut call: Call<'_, '_>) -> Result<(), OpError> {
        let format = number_format(&call);
        self.supports(call.kind, format)?;
        check(&call, format)?;
        let (pool, call) = (&self.pool, &mut call);
        match call.kind {
            OpKind::Embed => embed::embed(pool, call),
            OpKind::EmbedGrad => embed::embed_grad(pool, call),
            OpKind::Gather => embed::gather(pool, call),
            OpKind::Linear { .. } => linear::linear(pool, call),
            OpKind::LinearGradX => linear::grad_x(pool, call),
            OpKind::LinearGradW => linear::grad_w(pool, call),
            OpKind::BiasGrad => linear::bias_grad(pool, call),
            OpKind::RmsNorm { eps } => norm::rms(pool, call, *eps),
            OpKind::RmsNormGrad => norm::rms_grad(pool, call),
            OpKind::LayerNorm { eps } => norm::layer(pool, call, *eps),
            OpKind::LayerNormGrad => norm::layer_grad(pool, call),
            OpKind::Rope { head_dim, inv_freq, scale, inverse } => {
                rope::rope(pool, call, *head_dim as usize, inv_freq, *scale, *inverse)
            }
            OpKind::Attention(attention) => attention::attention(pool, call, attention),
            OpKind::AttentionGrad(attention) => attention::attention_grad(pool, call, attention),
            OpKind::AttentionCached(attention) => cache::attention(pool, call, attention),
            OpKind::CacheAppend => cache::append(call),
            OpKind::GatedAct { f } => activation::gated(pool, call, *f),
            OpKind::GatedActGrad { f } => activation::gated_grad(pool, call, *f),
            OpKind::Act { f } => activation::act(pool, call, *f),
            OpKind::ActGrad { f } => activation::act_grad(pool, call, *f),
            OpKind::Add => elementwise::add(pool, call),
            OpKind::Copy => elementwise::copy(pool, call),
            OpKind::Cast => elementwise::cast(pool, call),
            OpKind::Dropout(dropout) => elementwise::dropout(pool, call, *dropout),
            OpKind::LmHeadLoss { .. } => head::loss(pool, call),
            OpKind::TokenLogprobs => head::logprobs(pool, call),
            OpKind::TokenLogprobsGrad => head::logprobs_grad(pool, call),
            OpKind::SumByRow { mean } => preference::sum_by_row(call, *mean),
            OpKind::SpreadToTokens { mean } => preference::spread_to_tokens(call, *mean),
            OpKind::PreferenceLoss { loss, beta } => preference::loss(call, *loss, *beta),
            OpKind::Reciprocal => optimizer::reciprocal(call),
            OpKind::SumSquares => optimizer::sum_squares(pool, call),
            OpKind::ClipFactor { max_norm } => optimizer::clip_factor(call, *max_norm),
            OpKind::AdamW { beta1, beta2, eps, weight_decay, lr_scale } => {
                let rates = optimizer::Rates {
                    beta1: *beta1,
                    beta2: *beta2,
                    eps: *eps,
                    weight_decay: *weight_decay,
                    lr_scale: *lr_scale,
                };
                optimizer::adamw(pool, call, rates)
            }
            OpKind::Route { .. }
            | OpKind::Dispatch { .. }
            | OpKind::GroupedLinear { .. }
            | OpKind::Combine { .. }
            | OpKind::AllGather { .. }
            | OpKind::ReduceScatter { .. }
            | OpKind::AllReduce { .. } => unreachable!("refused above"),
        }
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
        OpKind::Linear { quantized: None, adapter: None }
        | OpKind::Embed
        | OpKind::EmbedGrad
        | OpKind::LinearGradX
        | OpKind::LinearGradW
        | OpKind::BiasGrad
        | OpKind::RmsNorm { .. }
        | OpKind::RmsNormGrad
        | OpKind::LayerNorm { .. }
        | OpKind::LayerNormGrad
        | OpKind::Rope { .. }
        | OpKind::Attention(_)
        | OpKind::AttentionGrad(_)
        | OpKind::GatedAct { .. }
        | OpKind::GatedActGrad { .. }
        | OpKind::Act { .. }
        | OpKind::ActGrad { .. }
        | OpKind::Add
        | OpKind::Copy
        | OpKind::Dropout(_)
        | OpKind::LmHeadLoss { .. }
        | OpKind::TokenLogprobs
        | OpKind::TokenLogprobsGrad
        | OpKind::SumByRow { .. }
        | OpKind::SpreadToTokens { .. }
        | OpKind::PreferenceLoss { .. }
        | OpKind::Reciprocal
        | OpKind::SumSquares
        | OpKind::ClipFactor { .. }
        | OpKind::AdamW { .. }
        | OpKind::Gather
        | OpKind::CacheAppend
        | OpKind::AttentionCached(_)
        | OpKind::Cast => None,
    }
}

/// Returns whether an output is added to.
fn adds(output: &ViewMut<'_>) -> bool {
    output.write == Write::Add
}

/// Returns the first `len` floats of the workspace.
///
/// # Errors
/// Fails when the plan gave less; kernels and `plan::op::workspace_bytes` must agree.
fn workspace<'a>(op: &OpKind, bytes: &'a mut [u8], len: usize) -> Result<&'a mut [f32], OpError> {
    let given = bytes.len();
    let bytes = bytes.get_mut(..len * 4).ok_or_else(|| {
        OpError(format!("{}: needs {} bytes of workspace, the plan gave {given}", op.name(), len * 4))
    })?;
    Ok(bytemuck::cast_slice_mut(bytes))
}
