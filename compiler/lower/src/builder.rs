//! Builds programs: values and ops of a forward pass, in named regions.

use plan::op::workspace_bytes;
use plan::op::{Activation, Attention, Dropout, HeadGrads, Op, OpKind, Output, PreferenceLoss, Write};
use plan::program::{Module, Program};
use plan::value::{Dim, Dtype, ExtentId, Role, ValueId};
use plan::work::{batch, extent};
use std::collections::HashMap;

/// What a forward pass is for; decides dropout and how attention finds its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whole rows, dropout active.
    Train,
    /// Whole rows, no dropout.
    Score,
    /// Whole rows; keys and values also go to the cache.
    Prefill,
    /// One new token per slot; keys and values come from the cache.
    Decode,
}

/// Sizes that extents may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacities {
    pub tokens: u64,
    pub rows: u64,
    pub trained: u64,
    /// Prompts answered at once, and positions that each may fill; 0 without decoding.
    pub slots: u64,
    pub cached: u64,
}

/// Extents of a module, in the fixed order in which [`new_module`] declares them.
pub mod ext {
    use plan::value::ExtentId;
    pub const TOKENS: ExtentId = ExtentId(0);
    pub const ROWS: ExtentId = ExtentId(1);
    pub const BOUNDS: ExtentId = ExtentId(2);
    pub const TRAINED: ExtentId = ExtentId(3);
    pub const SLOTS: ExtentId = ExtentId(4);
    pub const CACHED: ExtentId = ExtentId(5);
}

impl Capacities {
    /// Returns the extents of a module, in the order of [`ext`].
    fn extents(self) -> [(&'static str, u64); 6] {
        [
            (extent::TOKENS, self.tokens),
            (extent::ROWS, self.rows),
            (extent::BOUNDS, self.rows + 1),
            (extent::TRAINED, self.trained),
            (extent::SLOTS, self.slots),
            (extent::CACHED, self.cached),
        ]
    }
}

/// Returns an empty module with all extents.
pub fn new_module(capacities: Capacities) -> Module {
    let mut module = Module::default();
    for (name, capacity) in capacities.extents() {
        module.extent(name, capacity);
    }
    module
}

/// Gives a module that is not planned for memory other capacities, and its ops the scratch that goes with them.
pub fn resize(module: &mut Module, capacities: Capacities) {
    for (extent, (_, capacity)) in module.extents.iter_mut().zip(capacities.extents()) {
        extent.capacity = capacity;
    }
    for program in std::mem::take(&mut module.programs) {
        program.ops.iter().for_each(|op| resize_workspace(module, op));
        module.programs.push(program);
    }
}

/// Attributes of an attention layer that a model gives; the builder adds sites and operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub scale: f64,
    pub dropout: f64,
}

/// The outcome of a fused residual add and norm: the normed values and the running sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normed {
    pub y: ValueId,
    pub h: ValueId,
}

/// Collects the ops of one program.
#[derive(Debug)]
pub struct Builder<'m> {
    pub module: &'m mut Module,
    pub ops: Vec<Op>,
    pub mode: Mode,
    /// Number format of activations.
    pub dtype: Dtype,
    /// Whether rows may go on from the beginning of an earlier one.
    pub prefixes: bool,
    region: String,
    program: String,
    /// Sites of random draws, numbered in order of the forward pass.
    sites: u32,
    /// Values that outlive a program, by name.
    names: HashMap<String, ValueId>,
}

impl<'m> Builder<'m> {
    /// Starts a program.
    pub fn new(module: &'m mut Module, program: &str, mode: Mode, dtype: Dtype) -> Self {
        let (region, program) = (String::new(), program.to_owned());
        let lasting = module.values.iter().enumerate().filter(|(_, value)| value.role.is_persistent());
        let names = lasting.map(|(index, value)| (value.name.clone(), ValueId(index as u32))).collect();
        Builder { module, ops: Vec::new(), mode, dtype, prefixes: false, region, program, sites: 0, names }
    }

    /// Ends the program and adds it to the module.
    pub fn finish(mut self) {
        let ops = std::mem::take(&mut self.ops);
        self.module.programs.push(Program { name: self.program, ops });
    }

    /// Names the part of the model that the following ops belong to.
    pub fn region(&mut self, name: impl Into<String>) {
        self.region = name.into();
    }

    /// Returns the persistent value of that name, declared on first use.
    pub fn persistent(&mut self, name: &str, dtype: Dtype, role: Role, shape: Vec<Dim>) -> ValueId {
        let module = &mut *self.module;
        *self.names.entry(name.to_owned()).or_insert_with(|| module.value(name, dtype, role, shape))
    }

    /// Returns a weight, declared on first use.
    pub fn weight(&mut self, name: &str, shape: &[u64]) -> ValueId {
        let shape = shape.iter().map(|&size| size.into()).collect();
        self.persistent(name, self.dtype, Role::Weight, shape)
    }

    /// Returns an index batch value of one extent.
    pub fn index(&mut self, name: &str, extent: ExtentId) -> ValueId {
        self.persistent(name, Dtype::I32, Role::Batch, vec![extent.into()])
    }

    /// Returns a float value that the host writes before or reads after a program.
    pub fn exchanged(&mut self, name: &str, shape: Vec<Dim>) -> ValueId {
        self.persistent(name, Dtype::F32, Role::Batch, shape)
    }

    /// Makes an activation named after its region.
    pub fn activation(&mut self, name: &str, shape: Vec<Dim>) -> ValueId {
        self.activation_of(name, self.dtype, shape)
    }

    /// Makes an activation that is a sum or a statistic: f32 whatever the format.
    pub fn statistic(&mut self, name: &str, shape: Vec<Dim>) -> ValueId {
        self.activation_of(name, Dtype::F32, shape)
    }

    fn activation_of(&mut self, name: &str, dtype: Dtype, shape: Vec<Dim>) -> ValueId {
        let name = format!("{}/{}.{name}", self.program, self.region);
        self.module.value(name, dtype, Role::Activation, shape)
    }

    /// Returns the shape of a value.
    pub fn shape(&self, id: ValueId) -> Vec<Dim> {
        self.module.values[id.index()].shape.clone()
    }

    /// Returns the shape of a value with another last dimension.
    fn with_last(&self, id: ValueId, last: Dim) -> Vec<Dim> {
        let mut shape = self.shape(id);
        *shape.last_mut().expect("activations have dimensions") = last;
        shape
    }

    fn last_size(&self, id: ValueId) -> u64 {
        self.module.values[id.index()].shape.last().expect("activations have dimensions").factor
    }

    /// Adds an op, with its scratch.
    pub fn push(&mut self, kind: OpKind, inputs: Vec<ValueId>, outputs: Vec<Output>) {
        let mut op = Op::new(kind, inputs, outputs, &self.region);
        attach_workspace(self.module, &mut op, &self.program, self.ops.len());
        self.ops.push(op);
    }

    fn unary(&mut self, kind: OpKind, inputs: Vec<ValueId>, name: &str, shape: Vec<Dim>) -> ValueId {
        let y = self.activation(name, shape);
        self.push(kind, inputs, vec![set(y)]);
        y
    }

    fn site(&mut self) -> u32 {
        self.sites += 1;
        self.sites - 1
    }

    /// Looks rows of a table up: `[N]` indices and `[V,H]` to `[N,H]`.
    pub fn embed(&mut self, index: ValueId, table: ValueId, name: &str) -> ValueId {
        let shape = vec![self.shape(index)[0], self.shape(table)[1]];
        self.unary(OpKind::Embed, vec![index, table], name, shape)
    }

    /// Multiplies by a weight `[out,in]`.
    pub fn linear(&mut self, x: ValueId, w: ValueId, bias: Option<ValueId>, name: &str) -> ValueId {
        let shape = self.with_last(x, self.shape(w)[0]);
        let inputs = [x, w].into_iter().chain(bias).collect();
        self.unary(OpKind::Linear { quantized: None, adapter: None }, inputs, name, shape)
    }

    /// Normalises by the root mean square, after adding the residual.
    pub fn rms_norm(
        &mut self,
        x: ValueId,
        w: ValueId,
        residual: Option<ValueId>,
        eps: f64,
        name: &str,
    ) -> Normed {
        let inputs = [x, w].into_iter().chain(residual).collect();
        self.norm(OpKind::RmsNorm { eps }, x, inputs, residual.is_some(), name, &["rstd"])
    }

    /// Normalises to mean 0 and variance 1, after adding the residual.
    pub fn layer_norm(
        &mut self,
        x: ValueId,
        (w, b): (ValueId, ValueId),
        residual: Option<ValueId>,
        eps: f64,
        name: &str,
    ) -> Normed {
        let inputs = [x, w, b].into_iter().chain(residual).collect();
        self.norm(OpKind::LayerNorm { eps }, x, inputs, residual.is_some(), name, &["mean", "rstd"])
    }

    fn norm(
        &mut self,
        kind: OpKind,
        x: ValueId,
        inputs: Vec<ValueId>,
        residual: bool,
        name: &str,
        statistics: &[&str],
    ) -> Normed {
        let shape = self.shape(x);
        let y = self.activation(name, shape.clone());
        let mut outputs = vec![set(y)];
        for statistic in statistics {
            outputs.push(set(self.statistic(&format!("{name}.{statistic}"), vec![shape[0]])));
        }
        let h = if residual { self.activation(&format!("{name}.sum"), shape) } else { x };
        if residual {
            outputs.push(set(h));
        }
        self.push(kind, inputs, outputs);
        Normed { y, h }
    }

    /// Rotates the heads of x by their positions.
    pub fn rope(&mut self, x: ValueId, head_dim: u64, inv_freq: &[f64], scale: f64, name: &str) -> ValueId {
        let positions = self.index(batch::POSITIONS, ext::TOKENS);
        let kind =
            OpKind::Rope { head_dim: head_dim as u32, inv_freq: inv_freq.to_vec(), scale, inverse: false };
        self.unary(kind, vec![x, positions], name, self.shape(x))
    }

    /// Attends; where keys come from follows from the mode.
    pub fn attention(&mut self, q: ValueId, k: ValueId, v: ValueId, shape: AttentionShape) -> ValueId {
        let dropout = self.dropout_attribute(shape.dropout);
        let kind = Attention {
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            scale: shape.scale,
            window: None,
            softcap: None,
            alibi: None,
            dropout,
        };
        match self.mode {
            Mode::Train | Mode::Score => self.attention_rows(q, k, v, kind),
            Mode::Prefill => {
                self.append_to_cache(k, "k_cache");
                self.append_to_cache(v, "v_cache");
                self.attention_rows(q, k, v, kind)
            }
            Mode::Decode => {
                let k_cache = self.append_to_cache(k, "k_cache");
                let v_cache = self.append_to_cache(v, "v_cache");
                let lengths = self.index(batch::LENGTHS, ext::SLOTS);
                let inputs = vec![q, k_cache, v_cache, lengths];
                self.unary(OpKind::AttentionCached(kind), inputs, "attention", self.shape(q))
            }
        }
    }

    fn attention_rows(&mut self, q: ValueId, k: ValueId, v: ValueId, kind: Attention) -> ValueId {
        let (bounds, numbers) = self.rows();
        let o = self.activation("attention", self.shape(q));
        let lse = self.statistic("attention.lse", vec![self.shape(q)[0], u64::from(kind.heads).into()]);
        let prefixes = self.prefixes.then(|| self.index(batch::PREFIXES, ext::ROWS));
        let inputs = [q, k, v, bounds, numbers].into_iter().chain(prefixes).collect();
        self.push(OpKind::Attention(kind), inputs, vec![set(o), set(lse)]);
        o
    }

    fn append_to_cache(&mut self, x: ValueId, name: &str) -> ValueId {
        let shape = vec![ext::SLOTS.into(), ext::CACHED.into(), self.last_size(x).into()];
        let cache = self.persistent(&format!("{}.{name}", self.region), self.dtype, Role::Cache, shape);
        let slots = self.index(batch::SLOTS, ext::TOKENS);
        let positions = self.index(batch::POSITIONS, ext::TOKENS);
        let output = Output { value: cache, write: Write::Update };
        self.push(OpKind::CacheAppend, vec![x, slots, positions], vec![output]);
        cache
    }

    /// Returns the row boundaries and the rows' numbers.
    fn rows(&mut self) -> (ValueId, ValueId) {
        (self.index(batch::CU_SEQLENS, ext::BOUNDS), self.index(batch::ROW_NUMBERS, ext::ROWS))
    }

    /// Zeroes with probability p in training; x itself otherwise.
    pub fn dropout(&mut self, x: ValueId, p: f64, name: &str) -> ValueId {
        let Some(dropout) = self.dropout_attribute(p) else { return x };
        let (bounds, numbers) = self.rows();
        self.unary(OpKind::Dropout(dropout), vec![x, bounds, numbers], name, self.shape(x))
    }

    fn dropout_attribute(&mut self, p: f64) -> Option<Dropout> {
        let active = self.mode == Mode::Train && p > 0.0;
        active.then(|| Dropout { p, site: self.site() })
    }

    /// Applies an activation function to the gate and multiplies.
    pub fn gated_act(&mut self, gate: ValueId, up: ValueId, f: Activation) -> ValueId {
        self.unary(OpKind::GatedAct { f }, vec![gate, up], "gated", self.shape(gate))
    }

    /// Applies an activation function.
    pub fn act(&mut self, x: ValueId, f: Activation) -> ValueId {
        self.unary(OpKind::Act { f }, vec![x], "act", self.shape(x))
    }

    /// Adds two values of one shape.
    pub fn add(&mut self, a: ValueId, b: ValueId, name: &str) -> ValueId {
        self.unary(OpKind::Add, vec![a, b], name, self.shape(a))
    }

    /// Selects rows of x.
    pub fn gather(&mut self, x: ValueId, index: ValueId, name: &str) -> ValueId {
        let shape = vec![self.shape(index)[0], self.shape(x)[1]];
        self.unary(OpKind::Gather, vec![x, index], name, shape)
    }

    /// Projects to the vocabulary and adds up the cross-entropy of the trained tokens.
    pub fn lm_head_loss(&mut self, h: ValueId, w: ValueId, scale: Option<ValueId>, loss: Output) {
        let index = self.index(batch::TRAINED_INDEX, ext::TRAINED);
        let labels = self.index(batch::TRAINED_LABELS, ext::TRAINED);
        let inputs = [h, w, index, labels].into_iter().chain(scale).collect();
        self.push(OpKind::LmHeadLoss { grads: HeadGrads::None }, inputs, vec![loss]);
    }

    /// Returns the log-probability of each trained token's label.
    pub fn token_logprobs(&mut self, h: ValueId, w: ValueId) -> ValueId {
        let index = self.index(batch::TRAINED_INDEX, ext::TRAINED);
        let labels = self.index(batch::TRAINED_LABELS, ext::TRAINED);
        let logprobs = self.statistic("token_logprobs", vec![ext::TRAINED.into()]);
        let lse = self.statistic("token_lse", vec![ext::TRAINED.into()]);
        self.push(OpKind::TokenLogprobs, vec![h, w, index, labels], vec![set(logprobs), set(lse)]);
        logprobs
    }

    /// Sums (or averages) token values over each row, into `y`.
    pub fn sum_by_row(&mut self, x: ValueId, mean: bool, y: ValueId) {
        let rows = self.index(batch::TRAINED_ROW, ext::TRAINED);
        self.push(OpKind::SumByRow { mean }, vec![x, rows], vec![set(y)]);
    }

    /// Adds up the preference loss of the pairs; outputs are `[loss, metrics]`.
    pub fn preference_loss(
        &mut self,
        operands: [ValueId; 3],
        loss: PreferenceLoss,
        beta: f64,
        outputs: [Output; 2],
        gradient: bool,
    ) -> Option<ValueId> {
        let [sum, metrics] = outputs;
        let dpolicy = gradient.then(|| self.statistic("row_logprobs.grad", vec![ext::ROWS.into()]));
        let outputs = [Some(sum), dpolicy.map(set), Some(metrics)].into_iter().flatten().collect();
        self.push(OpKind::PreferenceLoss { loss, beta }, operands.to_vec(), outputs);
        dpolicy
    }
}

/// Returns an output that overwrites.
pub fn set(value: ValueId) -> Output {
    Output { value, write: Write::Set }
}

/// Gives an op the scratch that its shapes need.
pub fn attach_workspace(module: &mut Module, op: &mut Op, program: &str, index: usize) {
    let bytes = workspace_of(module, op);
    if bytes > 0 {
        let name = format!("{program}/{index}.{}.scratch", op.kind.name());
        op.workspace = Some(module.value(name, Dtype::U8, Role::Workspace, vec![bytes.into()]));
    }
}

/// Gives an op that has scratch as much as it needs now.
pub fn resize_workspace(module: &mut Module, op: &Op) {
    if let Some(scratch) = op.workspace {
        let bytes = workspace_of(module, op);
        module.values[scratch.index()].shape = vec![bytes.into()];
    }
}

/// Returns the scratch that an op needs at the capacities of its module, in bytes.
pub fn workspace_of(module: &Module, op: &Op) -> u64 {
    let capacities = module.capacities();
    let sizes = |id: ValueId| module.values[id.index()].sizes(&capacities);
    let inputs: Vec<Vec<u64>> = op.inputs.iter().map(|&id| sizes(id)).collect();
    let narrow = op.values().any(|id| module.values[id.index()].dtype == Dtype::Bf16);
    workspace_bytes(&op.kind, &inputs, if narrow { Dtype::Bf16 } else { Dtype::F32 })
}
