//! Activations: elements per token that the forward pass leaves for the backward pass.
//!
//! Kept of a layer, H hidden, A heads, K key heads, D head size, I intermediate; nothing below the lowest
//! trained layer:
//! - the residual sum before each norm, H each (one where attention and MLP stand side by side), and with norms after
//!   attention and MLP what they norm, H each;
//! - what attention reads and gives: rotated q, k, v and its output, D(2A + 2K), and the log of its sums, A;
//!   with norms on q and k also what they norm, D(A + K). Scores, S×S, never exist;
//! - gate and up, 2I (up alone where there is no gate);
//! - the input of a matrix whose gradient is wanted, or beside which an adapter stands: normed values H
//!   (once per norm), and I before the projection down. A frozen matrix needs no input;
//! - the inner values of adapters, their rank each; two numbers per norm.
//!
//! Of experts the MLP's part counts for each expert of a token, with the token's sorted copy and the
//! experts' outputs, H each, and the router's scores.
//!
//! In passing there are, at most, the head's final states with their sum and gradient, 3H, or the gradients of
//! the residual stream, H, and of what stands before the projection down, I where that is not kept and leaves
//! no place; other gradients lie where their values were. With `recompute block` a layer keeps its input, H, and
//! one layer at a time what is listed above.

use super::architecture::{Kind, Place, Shapes};
use super::trained::{Part, Trained};

/// Which activations are computed again in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    None,
    /// Those within each layer.
    Block,
}

/// Returns the elements per token that exist at the worst moment of a micro-step.
pub fn elements_per_token(shapes: &Shapes, trained: &Trained, recompute: Recompute) -> u64 {
    let h = shapes.hidden;
    let Some(lowest) = trained.lowest_layer() else {
        // Nothing flows back into the layers: one layer forward at a time, then the head.
        return forward_only(shapes).max(3 * h);
    };
    let needs = Needs::new(shapes, trained);
    let norms = Norms::new(shapes);
    let layers = (lowest..shapes.layers).map(|layer| kept(shapes, norms, needs.of(layer)));
    let last = needs.of(shapes.layers - 1);
    let passing = in_passing(shapes, last);
    match recompute {
        Recompute::None => layers.sum::<u64>() + passing.max(3 * h),
        Recompute::Block => {
            let one = layers.max().unwrap_or(0);
            u64::from(shapes.layers - lowest) * h + (one + passing).max(3 * h)
        }
    }
}

/// Returns the elements per token of a forward pass that keeps nothing: the widest moment of a layer.
///
/// Beside the MLP's inner values there are the residual stream and its normed copy, and where no gate makes the
/// inner values wide, as much again in holes that attention has left.
pub fn forward_only(shapes: &Shapes) -> u64 {
    let (h, i) = (shapes.hidden, shapes.intermediate);
    let (q, kv) = (shapes.heads * shapes.head_dim, shapes.kv_heads * shapes.head_dim);
    let narrow = 4 * h + 2 * i * per_token(shapes);
    let gated = if shapes.gated { 2 * h + 3 * i * per_token(shapes) } else { 0 };
    narrow.max(gated).max(2 * h + 2 * q + 2 * kv)
}

/// What the trained tensors of each layer need.
struct Needs {
    layers: Vec<LayerNeeds>,
}

#[derive(Debug, Clone, Copy, Default)]
struct LayerNeeds {
    attention_in: bool,
    attention_out: bool,
    mlp_in: bool,
    mlp_out: bool,
    /// Ranks of the adapters that a token passes through.
    ranks: u64,
}

impl Needs {
    fn new(shapes: &Shapes, trained: &Trained) -> Needs {
        let mut layers = vec![LayerNeeds::default(); shapes.layers as usize];
        let mut expert_ranks = vec![0; shapes.layers as usize];
        for update in &trained.updates {
            let (Some(layer), Some(place)) = (update.layer, update.place) else { continue };
            let needs = &mut layers[layer as usize];
            match place {
                Place::AttentionIn => needs.attention_in = true,
                Place::AttentionOut => needs.attention_out = true,
                Place::MlpIn => needs.mlp_in = true,
                Place::MlpOut => needs.mlp_out = true,
            }
            match (update.part, update.kind) {
                (Part::LoraA, Kind::Expert) => expert_ranks[layer as usize] += update.shape[0],
                (Part::LoraA, _) => needs.ranks += update.shape[0],
                (Part::Whole | Part::Rows | Part::LoraB | Part::Magnitude, _) => {}
            }
        }
        for (needs, ranks) in layers.iter_mut().zip(expert_ranks) {
            needs.ranks += shapes.experts.map_or(0, |experts| ranks * experts.per_token / experts.count);
        }
        Needs { layers }
    }

    fn of(&self, layer: u32) -> LayerNeeds {
        self.layers[layer as usize]
    }
}

fn kept(shapes: &Shapes, norms: Norms, needs: LayerNeeds) -> u64 {
    let (h, d) = (shapes.hidden, shapes.head_dim);
    let sums = if shapes.parallel { h } else { 2 * h };
    // Norms before attention and MLP; any more stand after them.
    let after = norms.hidden.saturating_sub(2) * h;
    let normed = match norms.hidden {
        1 => u64::from(needs.attention_in || needs.mlp_in) * h,
        _ => (u64::from(needs.attention_in) + u64::from(needs.mlp_in)) * h,
    };
    let (q, kv) = (shapes.heads * d, shapes.kv_heads * d);
    let before_head_norms = if norms.of_heads { q + kv } else { 0 };
    let attention = 2 * q + 2 * kv + shapes.heads + before_head_norms;
    let statistics = 2 * norms.hidden;
    sums + after + normed + statistics + attention + mlp(shapes, needs) + needs.ranks
}

/// The norms of a layer, which all layers have alike.
#[derive(Debug, Clone, Copy)]
struct Norms {
    /// Over the residual stream.
    hidden: u64,
    /// Whether there are norms of queries and keys.
    of_heads: bool,
}

impl Norms {
    fn new(shapes: &Shapes) -> Norms {
        let norms =
            shapes.layer(0).filter(|tensor| tensor.kind == Kind::Norm && tensor.name.ends_with("weight"));
        let (hidden, of_heads): (Vec<_>, Vec<_>) = norms.partition(|norm| norm.shape[0] == shapes.hidden);
        Norms { hidden: hidden.len() as u64, of_heads: !of_heads.is_empty() }
    }
}

fn mlp(shapes: &Shapes, needs: LayerNeeds) -> u64 {
    let (h, i) = (shapes.hidden, shapes.intermediate);
    let projected = if shapes.gated { 2 * i } else { i };
    let inner = projected + u64::from(needs.mlp_out) * i;
    match shapes.experts {
        None => inner,
        Some(experts) => {
            let sorted = u64::from(needs.mlp_in) * h;
            experts.per_token * (inner + sorted + h) + experts.count
        }
    }
}

/// Gradients in the layer where the backward pass begins: of the residual stream, and of what stands before the
/// projection down, which takes that value's place where it was kept.
fn in_passing(shapes: &Shapes, needs: LayerNeeds) -> u64 {
    let before = if needs.mlp_out { 0 } else { shapes.intermediate };
    shapes.hidden + per_token(shapes) * before
}

fn per_token(shapes: &Shapes) -> u64 {
    shapes.experts.map_or(1, |experts| experts.per_token)
}
