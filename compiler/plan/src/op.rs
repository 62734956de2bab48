//! The ops: what each reads, writes and means. Kernels and gradient rules follow this page.
//!
//! Shapes: N tokens of the micro-step (all rows one after another, no padding), R rows,
//! H hidden_size, I intermediate_size, V vocab_size, A num_heads, K num_kv_heads, D head_dim,
//! T trained tokens, P pairs (R = 2P: row 2i is chosen, row 2i+1 rejected), S slots, C cached
//! positions. What tokens and weights are made of has one dtype per op, its number format. Sums and
//! statistics (losses, norms' mean and rstd, log-probabilities, gradients of weights, all operands of
//! the optimizer) are f32 even when the format is bf16. Index operands are i32. Reductions over more
//! than one element are done in f32 or wider, in an order that depends on shapes alone.
//!
//! Operands are positional, in the order listed at each op; `?` marks those that may be left
//! off the end or, where listed as an attribute, switched off by it.

use crate::blocks::packed_words;
use crate::value::{Dtype, ValueId};
use serde::{Deserialize, Serialize};

/// How an op writes an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    /// `y = f(x)`, whatever was there.
    Set,
    /// `y += f(x)`.
    Add,
    /// `Set` in the first micro-step of a step, `Add` in the others.
    Accumulate,
    /// Reads and rewrites `y` in place (optimizer, cache).
    Update,
}

/// One output of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub value: ValueId,
    pub write: Write,
}

/// One op of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Op {
    pub kind: OpKind,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<Output>,
    /// Scratch of this op alone, a flat u8 value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<ValueId>,
    /// Named part of the model that the op belongs to: `layers.7`.
    pub region: String,
}

/// Elementwise activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// x/2 · (1 + erf(x/√2)).
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), `gelu_new` and `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Random zeroing with probability `p`, survivors scaled by 1/(1−p).
///
/// `site` names the place in the model; recomputed copies of an op keep it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    pub p: f64,
    pub site: u32,
}

/// How a weight is stored when it is not stored as numbers of its dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantized {
    pub format: QuantFormat,
    /// Elements that share a scale.
    pub block: u32,
    /// Whether the scales are quantised again.
    pub double: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantFormat {
    Nf4,
    Fp4,
    Int8,
}

/// Low-rank adapter inside a linear: y += scale · dropout(x) Aᵀ Bᵀ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    pub rank: u32,
    pub scale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Dropout>,
}

/// Attributes of attention, shared by forward and gradient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Multiplies q·k, usually 1/√head_dim.
    pub scale: f64,
    /// A token sees at most this many positions, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Scores become cap · tanh(score / cap).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// Slopes, one per head; slope · (key position − query position) is added to the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alibi: Option<Vec<f32>>,
    /// On the attention probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Dropout>,
}

/// Preference loss over pairs; d = (pc − pr) − (rc − rr) with policy and reference logprobs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// −(1−s)·log σ(βd) − s·log σ(−βd), s = label smoothing. Rafailov et al. 2023, eq. 7.
    Sigmoid { label_smoothing: f64 },
    /// (d̄ − 1/(2β))² with d̄ from logprobs averaged over the response tokens. Azar et al. 2023, eq. 17.
    Ipo,
    /// max(0, 1 − βd).
    Hinge,
}

/// Mesh axis that a collective runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshAxis {
    Replicas,
    Shards,
    All,
}

/// What an op computes. Operands are given as `inputs → outputs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum OpKind {
    /// `[index [N], table [V,H]] → [y [N,H]]`: y[n] = table[index[n]].
    Embed,
    /// `[dy [N,H], index [N]] → [dtable [V,H]]`: dtable[index[n]] += dy[n], in order of n.
    EmbedGrad,
    /// `[x [N,in], w [out,in], bias? [out]] → [y [N,out]]`: y = x wᵀ + bias; y may be f32 in any format.
    /// With an adapter also `lora_a [r,in], lora_b [out,r]` at the end of the inputs.
    Linear {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quantized: Option<Quantized>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adapter: Option<Adapter>,
    },
    /// `[dy [N,out], w [out,in]] → [dx [N,in]]`: dx = dy w.
    LinearGradX,
    /// `[dy [N,out], x [N,in]] → [dw [out,in]]`: dw = dyᵀ x.
    LinearGradW,
    /// `[dy [N,out]] → [db [out]]`: column sums.
    BiasGrad,
    /// `[x [N,H], w [H], residual? [N,H]] → [y [N,H], rstd [N], h? [N,H]]`:
    /// h = x + residual (h = x and no third output without it), rstd = 1/√(mean(h²)+eps), y = w·h·rstd.
    RmsNorm { eps: f64 },
    /// `[dy [N,H], h [N,H], w [H], rstd [N], dh? [N,H]] → [dx [N,H], dw? [H]]`: gradient with respect to h,
    /// plus dh (the gradient that reaches h on other ways). dx holds for x and for residual alike.
    RmsNormGrad,
    /// `[x [N,H], w [H], b [H], residual? [N,H]] → [y [N,H], mean [N], rstd [N], h? [N,H]]`.
    LayerNorm { eps: f64 },
    /// `[dy, h, w, mean, rstd, dh?] → [dx [N,H], dw? [H], db? [H]]`, as [`OpKind::RmsNormGrad`].
    LayerNormGrad,
    /// `[x [N, heads·D], positions [N]] → [y]`: rotates pairs (i, i + D/2) of each head by
    /// positions · inv_freq[i]; cos and sin times `scale`. `inverse` rotates back (the gradient).
    /// Su et al. 2021, arXiv 2104.09864, in the half-split layout of Hugging Face.
    Rope { head_dim: u32, inv_freq: Vec<f64>, scale: f64, inverse: bool },
    /// `[q [N,A·D], k [N,K·D], v [N,K·D], cu_seqlens [R+1], row_numbers [R], prefixes? [R]] → [o [N,A·D], lse [N,A]]`:
    /// causal softmax attention inside each row; lse = log Σ exp(score), natural logarithm, f32.
    /// A row with a prefix p > 0 goes on from the first p tokens of the last row before it that has none, its trunk:
    /// its tokens stand at the positions p, p + 1, … and see those p tokens, at 0 … p − 1, besides their own row. So
    /// what rows begin with alike is there once. Not with dropout, whose draws are of one row.
    Attention(Attention),
    /// `[do, q, k, v, o, lse, cu_seqlens, row_numbers, prefixes?] → [dq, dk, dv]`; what reaches the keys and values
    /// of a trunk from its own row comes first, then from the rows that go on from it, in their order.
    AttentionGrad(Attention),
    /// `[gate [N,I], up [N,I]] → [y [N,I]]`: y = f(gate) · up.
    GatedAct { f: Activation },
    /// `[dy, gate, up] → [dgate, dup]`.
    GatedActGrad { f: Activation },
    /// `[x] → [y]`: y = f(x).
    Act { f: Activation },
    /// `[dy, x] → [dx]`.
    ActGrad { f: Activation },
    /// `[a, b] → [y]`: y = a + b.
    Add,
    /// `[x] → [y]`: a copy, or with `Write::Add` y += x.
    Copy,
    /// `[x [N,H], cu_seqlens [R+1], row_numbers [R]] → [y]`. Its gradient is the same op on dy.
    Dropout(Dropout),
    /// `[h [N,H], w [V,H], trained_index [T], trained_labels [T], scale? [1]] → [loss [1], dh? [N,H], dw? [V,H]]`:
    /// loss = scale · Σ_t (lse(z_t) − z_t[label]), z_t = w h[index_t]; scale is 1 when absent.
    /// With dh also the gradients, in the same pass; rows of dh without a trained token become 0.
    /// Logits exist for one chunk of tokens at a time. A token may be trained for several labels, as the last of a
    /// prompt is for the first of each answer: it stands in `trained_index` once for each, and its gradient is their
    /// sum in that order.
    LmHeadLoss { grads: HeadGrads },
    /// `[h, w, trained_index, trained_labels] → [logprob [T], lse [T]]`: f32.
    TokenLogprobs,
    /// `[dlogprob [T], h, w, trained_index, trained_labels, lse [T]] → [dh [N,H], dw? [V,H]]`.
    TokenLogprobsGrad,
    /// `[x [T], trained_row [T]] → [y [R]]`: sums over the trained tokens of each row; `mean` divides by their count.
    SumByRow { mean: bool },
    /// `[dy [R], trained_row [T]] → [dx [T]]`: the gradient of [`OpKind::SumByRow`].
    SpreadToTokens { mean: bool },
    /// `[policy [R], reference [R], scale [1]] → [loss [1], dpolicy? [R], metrics [4]]`: loss = scale · Σ pairs.
    /// metrics sums over pairs: β(pc−rc), β(pr−rr), their difference, and 1 where it is > 0, ½ where it is 0.
    PreferenceLoss { loss: PreferenceLoss, beta: f64 },
    /// `[count [1]] → [scale [1]]`: 1/count. The divisor of the loss, from the whole step over all ranks.
    Reciprocal,
    /// `[gradients …] → [sum [1]]`: Σ g², in the order of the inputs.
    SumSquares,
    /// `[sum [1]] → [norm [1], factor [1]]`: norm = √sum, factor = min(1, max_norm/(norm + 1e-6)); 1 when max_norm is 0.
    ClipFactor { max_norm: f64 },
    /// `[gradient, factor [1], update_scalars [3]] → [weight, m, v, rounded?]`, all outputs `Update`;
    /// `rounded` is a copy of the new weight in another dtype.
    /// update_scalars = (lr, 1−β1ᵗ, 1−β2ᵗ). Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2:
    /// g = gradient·factor; w −= lr·weight_decay·w; m = β1 m + (1−β1) g; v = β2 v + (1−β2) g²;
    /// w −= lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + eps).
    AdamW { beta1: f64, beta2: f64, eps: f64, weight_decay: f64, lr_scale: f64 },
    /// `[x [N,H], index [S]] → [y [S,H]]`: y[s] = x[index[s]].
    Gather,
    /// `[x [N,K·D], slots [N], positions [N]] → [cache [S,C,K·D]]`, `Update`: cache[slots[n], positions[n]] = x[n].
    CacheAppend,
    /// `[q [S,A·D], k_cache [S,C,K·D], v_cache, lengths [S]] → [o [S,A·D]]`: each slot's one new token, at position
    /// lengths−1, attends to the first `lengths` cached positions of its slot.
    AttentionCached(Attention),
    /// `[x] → [y]` of another dtype.
    Cast,
    /// `[x [N,H], w [E,H]] → [expert [N·top_k], weight [N·top_k]]`.
    Route { experts: u32, top_k: u32 },
    /// `[x [N,H], expert [routed]] → [y [routed,H], expert_offsets [E+1], source [routed]]`: rows sorted by expert.
    Dispatch { experts: u32, top_k: u32 },
    /// `[x [routed,in], w [E,out,in], expert_offsets] → [y [routed,out]]`.
    GroupedLinear { experts: u32 },
    /// `[y [routed,H], weight [routed], source [routed]] → [x [N,H]]`.
    Combine { top_k: u32 },
    /// `[shard] → [whole]` along the first dimension; rows of shards beyond those of the whole are left out.
    AllGather { axis: MeshAxis },
    /// `[whole] → [shard]`, summed over ranks in their order; rows of a shard beyond those of the whole are 0.
    ReduceScatter { axis: MeshAxis },
    /// `[x] → [y]`, summed over ranks in their order.
    AllReduce { axis: MeshAxis },
}

/// Which gradients [`OpKind::LmHeadLoss`] computes along with the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadGrads {
    /// Outputs `[loss]`.
    None,
    /// Outputs `[loss, dh]`.
    Hidden,
    /// Outputs `[loss, dh, dw]`.
    HiddenAndWeight,
}

impl OpKind {
    /// Returns whether the op runs between ranks, and not on one backend.
    pub fn is_collective(&self) -> bool {
        matches!(self, OpKind::AllGather { .. } | OpKind::ReduceScatter { .. } | OpKind::AllReduce { .. })
    }

    /// Returns the name of the op in the words of `adapt plan --ops`.
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Embed => "embed",
            OpKind::EmbedGrad => "embed_grad",
            OpKind::Linear { .. } => "linear",
            OpKind::LinearGradX => "linear_grad_x",
            OpKind::LinearGradW => "linear_grad_w",
            OpKind::BiasGrad => "bias_grad",
            OpKind::RmsNorm { .. } => "rms_norm",
            OpKind::RmsNormGrad => "rms_norm_grad",
            OpKind::LayerNorm { .. } => "layer_norm",
            OpKind::LayerNormGrad => "layer_norm_grad",
            OpKind::Rope { .. } => "rope",
            OpKind::Attention(_) => "attention",
            OpKind::AttentionGrad(_) => "attention_grad",
            OpKind::GatedAct { .. } => "gated_act",
            OpKind::GatedActGrad { .. } => "gated_act_grad",
            OpKind::Act { .. } => "act",
            OpKind::ActGrad { .. } => "act_grad",
            OpKind::Add => "add",
            OpKind::Copy => "copy",
            OpKind::Dropout(_) => "dropout",
            OpKind::LmHeadLoss { .. } => "lm_head_loss",
            OpKind::TokenLogprobs => "token_logprobs",
            OpKind::TokenLogprobsGrad => "token_logprobs_grad",
            OpKind::SumByRow { .. } => "sum_by_row",
            OpKind::SpreadToTokens { .. } => "spread_to_tokens",
            OpKind::PreferenceLoss { .. } => "preference_loss",
            OpKind::Reciprocal => "reciprocal",
            OpKind::SumSquares => "sum_squares",
            OpKind::ClipFactor { .. } => "clip_factor",
            OpKind::AdamW { .. } => "adamw",
            OpKind::Gather => "gather",
            OpKind::CacheAppend => "cache_append",
            OpKind::AttentionCached(_) => "attention_cached",
            OpKind::Cast => "cast",
            OpKind::Route { .. } => "route",
            OpKind::Dispatch { .. } => "dispatch",
            OpKind::GroupedLinear { .. } => "grouped_linear",
            OpKind::Combine { .. } => "combine",
            OpKind::AllGather { .. } => "all_gather",
            OpKind::ReduceScatter { .. } => "reduce_scatter",
            OpKind::AllReduce { .. } => "all_reduce",
        }
    }
}

/// Returns the operands of an op that may be given as its outputs instead: pairs of input and output.
///
/// Written so, the op lacks these inputs and has [`Write::Update`] for all of these outputs: it reads what
/// they hold and rewrites it.
pub fn in_place(kind: &OpKind) -> &'static [(usize, usize)] {
    match kind {
        OpKind::Rope { .. } | OpKind::ActGrad { .. } | OpKind::AllReduce { .. } => &[(0, 0)],
        OpKind::GatedActGrad { .. } => &[(1, 0), (2, 1)],
        _ => &[], // the others read and write different places
    }
}

/// Inputs of [`OpKind::Attention`] without `prefixes`.
pub const ATTENTION_INPUTS: usize = 5;

/// Returns the tokens whose logits exist at once in a head op: more where it sums a gradient of the weights, which
/// is read and written once for each chunk.
pub fn head_chunk(kind: &OpKind) -> u64 {
    match kind {
        OpKind::LmHeadLoss { grads: HeadGrads::HiddenAndWeight } => 768,
        _ => 384, // the others are bound by their products, or come in fewer tokens
    }
}

/// Most groups of blocks of the vocabulary that sum the gradient of hidden rows on their own.
const HEAD_GROUPS: u64 = 16;

/// Returns the words of the vocabulary that a task of the head ops has.
pub fn head_block(vocab: u64) -> u64 {
    (vocab / 32).next_multiple_of(48).clamp(96, 768)
}

/// Returns the blocks of the vocabulary, those of a group, and the number of groups.
pub fn head_groups(vocab: u64) -> (u64, u64, u64) {
    let blocks = vocab.div_ceil(head_block(vocab));
    let each = blocks.div_ceil(HEAD_GROUPS).max(1);
    (blocks, each, blocks.div_ceil(each))
}

/// Returns the floats that head ops need as scratch: a chunk's logits, its gathered hidden rows and these packed,
/// two sums for each block and three numbers for each token; for gradients what each group sums, and hidden rows
/// packed the other way.
pub fn head_workspace(kind: &OpKind, trained: u64, hidden: u64, vocab: u64, grads: bool) -> u64 {
    let (blocks, _, groups) = head_groups(vocab);
    let tokens = trained.min(head_chunk(kind));
    let packed = |n: u64, k: u64| packed_words(n as usize, k as usize) as u64;
    let each = tokens * (vocab + hidden + 2 * blocks + 3) + packed(tokens, hidden);
    each + if grads { tokens * groups * hidden + packed(hidden, tokens) } else { 0 }
}

/// Rows that one partial sum of a column reduction covers (norm and bias gradients).
pub const REDUCE_ROWS: u64 = 64;

/// Returns the scratch that an op needs, in bytes, given the dimensions of its operands.
///
/// `inputs` and `outputs` are operand shapes at capacity, `format` the dtype of tokens and weights.
/// Every backend stays within it; what a kernel needs per thread it keeps in its pool.
pub fn workspace_bytes(kind: &OpKind, inputs: &[Vec<u64>], format: Dtype) -> u64 {
    let float = if format == Dtype::F64 { 8 } else { 4 };
    let partials = |rows: u64, columns: u64| rows.div_ceil(REDUCE_ROWS) * columns * float;
    let head = |hidden: &[u64], weight: &[u64], trained: u64, grads| {
        head_workspace(kind, trained, hidden[1], weight[0], grads) * float
    };
    match kind {
        OpKind::RmsNormGrad => partials(inputs[0][0], inputs[0][1]),
        OpKind::LayerNormGrad => 2 * partials(inputs[0][0], inputs[0][1]),
        OpKind::BiasGrad => partials(inputs[0][0], inputs[0][1]),
        // Row sums of do·o, one per token and head; dk and dv by each head, where they are rounded or summed at the end.
        OpKind::AttentionGrad(a) => {
            let size = |index: usize| inputs[index].iter().product::<u64>();
            let apart = a.heads > a.kv_heads || matches!(format, Dtype::Bf16 | Dtype::F16);
            (size(5) + if apart { 2 * size(1) } else { 0 }) * float
        }
        OpKind::LmHeadLoss { grads } => head(&inputs[0], &inputs[1], inputs[2][0], *grads != HeadGrads::None),
        OpKind::TokenLogprobs => head(&inputs[0], &inputs[1], inputs[2][0], false),
        OpKind::TokenLogprobsGrad => head(&inputs[1], &inputs[2], inputs[3][0], true),
        _ => 0,
    }
}
