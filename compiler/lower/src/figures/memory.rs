//! Bytes of a training stage on one device, item by item.
//!
//! Assumptions, where programs are not built yet:
//! - weights and gradients have the precision of the stage, masters are f32 and exist for what is trained
//!   only; a quantised model keeps embeddings, head, norms and routers in the precision of the stage;
//! - gradients exist for what is trained only, and for the whole step;
//! - activations as `activations` says, for the tokens of one micro-step; logits for a chunk of trained tokens;
//! - a quantised matrix is decoded one at a time;
//! - the log-probabilities of a reference are computed ahead, with the reference in the place of the
//!   weights, so it costs nothing; one that stays beside the policy costs its weights;
//! - shards divide weights, masters, gradients and state evenly; two units (a layer, or a table outside the
//!   layers) are gathered at a time, and one unit's gradient before it is divided.

use super::activations::{self, Recompute};
use super::architecture::{Kind, Shapes, Tensor};
use super::formats::{Optimizer, Precision, Quantized, is_quantized};
use super::trained::{Part, Trained, Update};
use plan::op::{HeadGrads, OpKind, REDUCE_ROWS, head_workspace};
use plan::value::{Dtype, Role};
use std::collections::HashSet;

/// What a stage needs besides its model and what it trains of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub precision: Precision,
    pub quantized: Option<Quantized>,
    pub optimizer: Optimizer,
    pub recompute: Recompute,
    pub reference: Reference,
    /// Tokens of a micro-step on one device, at most; of pairs those of both sides.
    pub tokens: u64,
    /// Devices over which weights, gradients and state are divided.
    pub shards: u64,
    /// Bytes that the process needs besides: code, driver, threads, buffers.
    pub process: u64,
}

/// Where the reference of a preference stage is while the policy is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    None,
    /// Computed ahead, or the base with its adapter off.
    Ahead,
    /// In memory beside the policy, in the precision of the stage.
    Beside,
}

/// Bytes by item; those without any are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// As `adapt plan` prints it; that of the arena where there is one.
    pub name: &'static str,
    pub bytes: u64,
}

pub const ADAPTER: &str = "adapter";
pub const GATHERED: &str = "gathered";
pub const REFERENCE: &str = "reference";
pub const PROCESS: &str = "process";

/// What a GPU's driver and libraries take besides: context, code, scratch. A reserve, not a measurement.
pub const GPU_PROCESS_BYTES: u64 = 1 << 30;

/// Numbers that the host writes for each token of a micro-step: id, position, index, label and row of 4 bytes.
const BATCH_BYTES_PER_TOKEN: u64 = 20;

impl Memory {
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// Returns the bytes of an item; 0 when there is none.
    pub fn bytes(&self, name: &str) -> u64 {
        self.items.iter().find(|item| item.name == name).map_or(0, |item| item.bytes)
    }
}

/// Devices of one kind that train together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Devices {
    pub memory_per_device: u64,
    pub count: u64,
}

/// Returns devices over which everything is divided.
pub fn devices(memory_per_device: u64, count: u64) -> Devices {
    Devices { memory_per_device, count: count.max(1) }
}

impl Devices {
    /// Returns what each device holds.
    pub fn memory(self, shapes: &Shapes, trained: &Trained, setup: &Setup) -> Memory {
        memory(shapes, trained, &Setup { shards: self.count, ..*setup })
    }

    /// Returns the most sequences per micro-step that fit, up to a limit, where `setup` counts the tokens
    /// of one; nothing when not even one fits.
    pub fn largest_micro(self, shapes: &Shapes, trained: &Trained, setup: &Setup, limit: u64) -> Option<u64> {
        let fits = |micro: u64| {
            let tokens = setup.tokens.saturating_mul(micro);
            self.memory(shapes, trained, &Setup { tokens, ..*setup }).total() <= self.memory_per_device
        };
        if !fits(1) {
            return None;
        }
        // More sequences never need less, so the bound is found by halving.
        let (mut fitting, mut too_many) = (1, limit.max(1) + 1);
        while fitting + 1 < too_many {
            let middle = fitting + (too_many - fitting) / 2;
            if fits(middle) { fitting = middle } else { too_many = middle }
        }
        Some(fitting)
    }
}

/// Returns the bytes of a training stage on each of its devices.
pub fn memory(shapes: &Shapes, trained: &Trained, setup: &Setup) -> Memory {
    let float = setup.precision.compute.bytes();
    let share = |bytes: u64| bytes.div_ceil(setup.shards.max(1));
    let (adapter, base): (Vec<&Update>, Vec<&Update>) =
        trained.updates.iter().partition(|update| update.is_adapter());
    let elements = |updates: &[&Update]| updates.iter().map(|update| update.elements()).sum::<u64>();
    let master = if setup.precision.masters { 4 } else { 0 };
    let kept = activations::elements_per_token(shapes, trained, setup.recompute);
    listed([
        (Role::Weight.name(), share(weights(shapes, trained, setup))),
        (Role::Master.name(), share(master * elements(&base))),
        (ADAPTER, share((float + master) * elements(&adapter))),
        (Role::Gradient.name(), share(float * trained.parameters())),
        (Role::State.name(), share(trained.updates.iter().map(|update| setup.optimizer.bytes(update)).sum())),
        (Role::Activation.name(), kept.saturating_mul(setup.tokens).saturating_mul(float)),
        (Role::Workspace.name(), workspace(shapes, trained, setup)),
        (GATHERED, gathered(shapes, trained, setup)),
        (REFERENCE, share(reference(shapes, setup))),
        (Role::Batch.name(), setup.tokens.saturating_mul(BATCH_BYTES_PER_TOKEN)),
        (PROCESS, setup.process),
    ])
}

/// What an evaluation or a generation needs besides its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inference {
    pub compute: Dtype,
    /// Tokens that pass through the model at once.
    pub tokens: u64,
    /// Prompts answered at once, and positions that each may fill; 0 without decoding.
    pub slots: u64,
    pub cached: u64,
    pub process: u64,
}

/// Returns the bytes of an evaluation or a generation on one device.
pub fn inference(shapes: &Shapes, needs: &Inference) -> Memory {
    let float = needs.compute.bytes();
    let of_position = 2 * shapes.kv_heads * shapes.head_dim * u64::from(shapes.layers) * float;
    let logits = match needs.slots {
        0 => 0,
        slots => slots * shapes.vocab * float,
    };
    let scratch = match needs.slots {
        0 => {
            let loss = OpKind::LmHeadLoss { grads: HeadGrads::None };
            head_workspace(&loss, needs.tokens, shapes.hidden, shapes.vocab, false) * 4
        }
        _ => 0,
    };
    listed([
        (Role::Weight.name(), shapes.parameters() * float),
        (Role::Cache.name(), of_position.saturating_mul(needs.slots).saturating_mul(needs.cached)),
        (Role::Activation.name(), activations::forward_only(shapes).saturating_mul(needs.tokens) * float),
        (Role::Workspace.name(), scratch),
        (Role::Batch.name(), needs.tokens.saturating_mul(BATCH_BYTES_PER_TOKEN) + logits),
        (PROCESS, needs.process),
    ])
}

fn listed<const N: usize>(items: [(&'static str, u64); N]) -> Memory {
    let items = items.into_iter().filter(|&(_, bytes)| bytes > 0).map(|(name, bytes)| Item { name, bytes });
    Memory { items: items.collect() }
}

/// Bytes of the weights without masters and adapters; what is trained in full is not quantised.
fn weights(shapes: &Shapes, trained: &Trained, setup: &Setup) -> u64 {
    let whole = trained.updates.iter().filter(|update| update.part == Part::Whole);
    let whole: HashSet<usize> = whole.map(|update| update.tensor).collect();
    let bytes = |(index, tensor): (usize, &Tensor)| match whole.contains(&index) {
        true => tensor.elements() * setup.precision.compute.bytes(),
        false => stored(tensor, setup),
    };
    shapes.tensors.iter().enumerate().map(bytes).sum()
}

/// Bytes of a frozen tensor.
fn stored(tensor: &Tensor, setup: &Setup) -> u64 {
    match setup.quantized {
        Some(quantized) if is_quantized(tensor.kind) => quantized.bytes(tensor.elements()),
        _ => tensor.elements() * setup.precision.compute.bytes(),
    }
}

fn reference(shapes: &Shapes, setup: &Setup) -> u64 {
    match setup.reference {
        Reference::None | Reference::Ahead => 0,
        Reference::Beside => shapes.parameters() * setup.precision.compute.bytes(),
    }
}

/// The widest scratch of an op: a chunk of logits in f32, sums of attention's gradient, partial sums
/// of the gradients of norms and biases, or a decoded matrix.
fn workspace(shapes: &Shapes, trained: &Trained, setup: &Setup) -> u64 {
    let tokens = setup.tokens;
    let logits = head_workspace(&head(shapes, trained, setup), tokens, shapes.hidden, shapes.vocab, true) * 4;
    let apart = shapes.heads > shapes.kv_heads || setup.precision.compute.bytes() < 4;
    let of_head = 1 + if apart { 2 * shapes.head_dim } else { 0 };
    let attention = tokens.saturating_mul(shapes.heads * of_head * 4);
    let biases = shapes.tensors.iter().filter(|tensor| tensor.kind == Kind::Bias);
    let widest = biases.map(Tensor::elements).max().unwrap_or(0).max(2 * shapes.hidden);
    let sums = tokens.div_ceil(REDUCE_ROWS).saturating_mul(widest * 4);
    let decoded = match setup.quantized {
        Some(_) => {
            let matrices = shapes.tensors.iter().filter(|tensor| is_quantized(tensor.kind));
            matrices.map(Tensor::elements).max().unwrap_or(0) * setup.precision.compute.bytes()
        }
        None => 0,
    };
    logits.max(attention).max(sums).max(decoded)
}

/// Returns the op at the end of a stage: of a preference stage, whose reference is somewhere, one without gradients
/// of its weights in the same pass.
fn head(shapes: &Shapes, trained: &Trained, setup: &Setup) -> OpKind {
    let is_head =
        |update: &Update| update.kind == Kind::Head || (shapes.tied && update.kind == Kind::Embedding);
    let weights = trained.updates.iter().any(|update| is_head(update) && !update.is_adapter());
    let grads = match setup.reference {
        Reference::None if weights => HeadGrads::HiddenAndWeight,
        _ => HeadGrads::Hidden,
    };
    OpKind::LmHeadLoss { grads }
}

/// What shards gather for a while.
fn gathered(shapes: &Shapes, trained: &Trained, setup: &Setup) -> u64 {
    if setup.shards <= 1 {
        return 0;
    }
    let unit = |layer: Option<u32>| shapes.tensors.iter().filter(move |tensor| tensor.layer == layer);
    let layer: u64 = unit(Some(0)).map(|tensor| stored(tensor, setup)).sum();
    let table = unit(None).map(|tensor| stored(tensor, setup)).max().unwrap_or(0);
    let float = setup.precision.compute.bytes();
    let mut of_layer = vec![0; shapes.layers as usize];
    let mut widest = 0;
    for update in &trained.updates {
        match update.layer {
            Some(layer) => of_layer[layer as usize] += update.elements(),
            None => widest = widest.max(update.elements()),
        }
    }
    let gradient = float * of_layer.into_iter().max().unwrap_or(0).max(widest);
    2 * layer.max(table) + gradient
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::architecture::shapes;
    use crate::figures::formats::State;
    use crate::figures::trained::{Line, Lora, Selection, Target, TargetName, trained};
    use serde_json::json;

    const SETUP: Setup = Setup {
        precision: Precision::BF16,
        quantized: None,
        optimizer: Optimizer::AdamW(State::F32),
        recompute: Recompute::None,
        reference: Reference::None,
        tokens: 10,
        shards: 1,
        process: 0,
    };

    /// H 8, I 16, 4 heads of 2, 2 of keys, 3 layers, 10 ids, not tied: a layer has 576 in matrices and 16 in norms.
    fn small() -> Shapes {
        shapes(&json!({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}))
        .unwrap()
    }

    const PARAMETERS: u64 = 80 + 3 * (576 + 16) + 8 + 80;

    fn full() -> Trained {
        trained(&small(), &Selection::default())
    }

    fn adapter(rank: u64) -> Selection {
        let target = Target { name: TargetName::AllLinear, rank: None };
        let lora = Lora { rank, targets: vec![target], also: Vec::new(), magnitudes: false };
        Selection { lora: Some(lora), train: Vec::new() }
    }

    fn items(memory: &Memory, names: &[&str]) -> Vec<u64> {
        names.iter().map(|name| memory.bytes(name)).collect()
    }

    #[test]
    fn sixteen_bytes_per_parameter_in_mixed_precision() {
        assert_eq!(small().parameters(), PARAMETERS);
        let names = ["weights", "masters", "gradients", "optimizer"];
        let of = |precision| {
            let memory = memory(&small(), &full(), &Setup { precision, ..SETUP });
            items(&memory, &names).iter().map(|bytes| bytes / PARAMETERS).collect::<Vec<_>>()
        };
        assert_eq!(of(Precision::BF16), [2, 4, 2, 8]);
        assert_eq!(of(Precision::BF16_WITHOUT_MASTERS), [2, 0, 2, 8]);
        assert_eq!(of(Precision::F32), [4, 0, 4, 8]);
    }

    /// Per token and layer: sums 2·8, normed 2·8, two numbers per norm 4, q and attention 2·8, k and v 2·4, log-sums 4,
    /// gate, up and their product 3·16: 112. In passing 3·8.
    #[test]
    fn activations_by_hand() {
        let of = |trained: &Trained, recompute| {
            memory(&small(), trained, &Setup { recompute, ..SETUP }).bytes("activations") / (10 * 2)
        };
        assert_eq!(of(&full(), Recompute::None), 3 * 112 + 24);
        assert_eq!(of(&full(), Recompute::Block), 3 * 8 + 112 + 8);
        let top = Selection { lora: None, train: vec![Line::Layers(Some(2..3))] };
        assert_eq!(of(&trained(&small(), &top), Recompute::None), 112 + 24);
        // Nothing but k_proj needs an input; the product before the projection down is not kept.
        let keys = Selection { lora: None, train: vec![Line::Modules(vec!["k_proj".into()])] };
        assert_eq!(of(&trained(&small(), &keys), Recompute::None), 3 * (112 - 8 - 16) + 24);
        // Seven matrices with two inner values each.
        assert_eq!(of(&trained(&small(), &adapter(2)), Recompute::None), 3 * (112 + 14) + 24);
        let head = Selection { lora: None, train: vec![Line::Modules(vec!["lm_head".into()])] };
        assert_eq!(of(&trained(&small(), &head), Recompute::None), 16 + 3 * 16);
    }

    #[test]
    fn a_quantised_base_with_its_adapter() {
        let quantized = Some(Quantized { bits: 4, block: 64, double: false });
        let trained = trained(&small(), &adapter(2));
        let memory = memory(&small(), &trained, &Setup { quantized, ..SETUP });
        let matrices = [64, 32, 32, 64, 128, 128, 128].map(|n: u64| n / 2 + 4 * n.div_ceil(64));
        let weights = 3 * matrices.iter().sum::<u64>() + 2 * (PARAMETERS - 3 * 576);
        let parameters = trained.parameters();
        assert_eq!(
            items(&memory, &["weights", "masters", ADAPTER, "gradients", "optimizer"]),
            [weights, 0, 6 * parameters, 2 * parameters, 8 * parameters]
        );
    }

    #[test]
    fn what_is_trained_in_full_is_not_quantised() {
        let quantized = Some(Quantized { bits: 8, block: 64, double: false });
        let mut selection = adapter(2);
        let weights = |selection: &Selection| {
            let trained = trained(&small(), selection);
            memory(&small(), &trained, &Setup { quantized, ..SETUP }).bytes("weights")
        };
        let frozen = weights(&selection);
        selection.train = vec![Line::Modules(vec!["up_proj".into()])];
        assert_eq!(weights(&selection), frozen + 3 * (2 * 128 - (128 + 8)));
    }

    #[test]
    fn a_cache_holds_keys_and_values_of_every_layer() {
        let needs = Inference { compute: Dtype::Bf16, tokens: 4, slots: 2, cached: 16, process: 0 };
        let memory = inference(&small(), &needs);
        assert_eq!(memory.bytes("cache"), 2 * 4 * 3 * 2 * 2 * 16);
        assert_eq!(memory.bytes("batch"), 4 * 20 + 2 * 10 * 2);
    }

    #[test]
    fn a_reference_beside_costs_its_weights() {
        let of = |reference| memory(&small(), &full(), &Setup { reference, ..SETUP }).bytes(REFERENCE);
        assert_eq!([Reference::None, Reference::Ahead, Reference::Beside].map(of), [0, 0, 2 * PARAMETERS]);
    }

    #[test]
    fn shards_divide_what_lasts_and_gather_two_layers() {
        let one = memory(&small(), &full(), &SETUP);
        let four = devices(1 << 20, 4).memory(&small(), &full(), &SETUP);
        for name in ["weights", "masters", "gradients", "optimizer"] {
            assert_eq!(four.bytes(name), one.bytes(name).div_ceil(4), "{name}");
        }
        assert_eq!((one.bytes(GATHERED), four.bytes(GATHERED)), (0, 2 * 2 * 592 + 2 * 592));
        assert_eq!(one.bytes("activations"), four.bytes("activations"));
    }

    #[test]
    fn the_largest_micro_batch_fits_and_one_more_does_not() {
        let (shapes, trained) = (small(), full());
        let total = |micro: u64| memory(&shapes, &trained, &Setup { tokens: 10 * micro, ..SETUP }).total();
        let largest = |memory, limit| devices(memory, 1).largest_micro(&shapes, &trained, &SETUP, limit);
        assert_eq!(largest(total(5), 64), Some(5));
        assert_eq!(largest(total(6) - 1, 64), Some(5));
        assert_eq!(largest(total(5), 4), Some(4));
        assert_eq!(largest(total(1) - 1, 64), None);
    }

    /// Published: QLoRA of a 65B model fits one GPU of 48 GB, which full 16-bit training exceeds by 16 times.
    #[test]
    fn qlora_of_65b_fits_48_gib() {
        let config = json!({"model_type": "llama", "hidden_size": 8192, "intermediate_size": 22016,
            "num_hidden_layers": 80, "num_attention_heads": 64});
        let shapes = shapes(&config).unwrap();
        let setup = Setup {
            quantized: Some(Quantized { bits: 4, block: 64, double: true }),
            recompute: Recompute::Block,
            tokens: 512,
            ..SETUP
        };
        let qlora = memory(&shapes, &trained(&shapes, &adapter(16)), &setup).total();
        assert!(qlora < 48 << 30, "{qlora}");
        let full =
            memory(&shapes, &trained(&shapes, &Selection::default()), &Setup { quantized: None, ..setup });
        assert!(full.total() > 780_000_000_000, "{}", full.total());
    }
}
