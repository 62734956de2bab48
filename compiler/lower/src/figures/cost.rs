//! Floating point operations of a stage per token; a multiply and an add count as two.
//!
//! Per token: 2 per parameter of every matrix that it passes through forward, 2 for the gradient of what
//! flows back, from the head down to the lowest trained layer, and 2 for the gradient of each trained
//! parameter; where everything is trained that is the 6·N of Kaplan et al. 2020 (<https://arxiv.org/abs/2001.08361>, section 2.1).
//! Of experts those of a token count. The lookup of an embedding costs nothing; the head is computed for trained tokens only.
//! Attention is causal and takes 4·A·D per token seen forward and twice that backward; over all of a row of S tokens
//! that is the usual 12·L·H·S, halved. Norms, activation functions, decoding of quantised weights and optimizers are left out.

use super::activations::Recompute;
use super::architecture::{Kind, Shapes};
use super::memory::Reference;
use super::trained::{Trained, Update};

/// What a token goes through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Mean tokens of a row: attention does not reach beyond it.
    pub row_tokens: f64,
    /// Share of the tokens that the loss looks at.
    pub trained_share: f64,
    pub recompute: Recompute,
    /// With any reference, its log-probabilities are computed once per token. Those computed ahead serve
    /// every epoch: the caller counts them once.
    pub reference: Reference,
}

/// Operations per token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flops {
    pub forward: f64,
    /// Gradients of what flows back.
    pub backward: f64,
    /// Gradients of what is trained.
    pub weights: f64,
    pub recomputed: f64,
    pub reference: f64,
}

impl Flops {
    pub fn total(self) -> f64 {
        self.forward + self.backward + self.weights + self.recomputed + self.reference
    }
}

/// Returns the operations per token of a training stage.
pub fn flops(shapes: &Shapes, trained: &Trained, pass: &Pass) -> Flops {
    let base = Layers::new(shapes, |_| 0.0);
    let layers = Layers::new(shapes, |layer| adapters(shapes, trained, layer));
    let head = 2.0 * (shapes.vocab * shapes.hidden) as f64 * pass.trained_share;
    let attention = attention(shapes, pass.row_tokens);
    let forward = layers.from(0) + attention.from(0) + head;
    let lowest = trained.lowest_layer();
    let flowing = |layers: &Layers| lowest.map_or(0.0, |lowest| layers.from(lowest));
    let any = !trained.updates.is_empty();
    Flops {
        forward,
        backward: if any { flowing(&layers) + 2.0 * flowing(&attention) + head } else { 0.0 },
        weights: trained.updates.iter().map(|update| gradient(shapes, update, pass.trained_share)).sum(),
        recomputed: match pass.recompute {
            Recompute::None => 0.0,
            Recompute::Block => flowing(&layers) + flowing(&attention),
        },
        reference: match pass.reference {
            Reference::None => 0.0,
            Reference::Ahead | Reference::Beside => base.from(0) + attention.from(0) + head,
        },
    }
}

/// Operations of each layer.
struct Layers(Vec<f64>);

impl Layers {
    fn new(shapes: &Shapes, more: impl Fn(u32) -> f64) -> Layers {
        let matrices = |layer: u32| -> f64 {
            let matrices = shapes.layer(layer).filter(|tensor| tensor.kind.is_linear());
            matrices.map(|tensor| 2.0 * tensor.elements() as f64 * share(shapes, tensor.kind)).sum()
        };
        Layers((0..shapes.layers).map(|layer| matrices(layer) + more(layer)).collect())
    }

    fn from(&self, lowest: u32) -> f64 {
        self.0[lowest as usize..].iter().sum()
    }
}

fn adapters(shapes: &Shapes, trained: &Trained, layer: u32) -> f64 {
    let of_layer = trained.updates.iter().filter(|update| update.is_adapter() && update.layer == Some(layer));
    of_layer.map(|update| 2.0 * update.elements() as f64 * share(shapes, update.kind)).sum()
}

/// Attention of each layer: products with keys and with values, for the tokens that a token sees on average.
fn attention(shapes: &Shapes, row_tokens: f64) -> Layers {
    let per_token_seen = (4 * shapes.heads * shapes.head_dim) as f64;
    let seen = |window: Option<u64>| match window {
        // The first tokens of a row see less than a whole window.
        Some(window) if (window as f64) < row_tokens => {
            let window = window as f64;
            window - window * window / (2.0 * row_tokens)
        }
        Some(_) | None => row_tokens / 2.0,
    };
    let windowed = |layer: u32| layer < shapes.windowed_layers;
    // Which layers have the window makes no difference to the sum over all.
    let of = |layer| per_token_seen * seen(if windowed(layer) { shapes.window } else { None });
    Layers((0..shapes.layers).map(of).collect())
}

/// Operations for the gradient of one trained tensor; vectors, and rows that are only looked up, cost next to nothing.
fn gradient(shapes: &Shapes, update: &Update, trained_share: f64) -> f64 {
    let operations = 2.0 * update.elements() as f64;
    match update.kind {
        Kind::Linear | Kind::Expert | Kind::Router => operations * share(shapes, update.kind),
        Kind::Head => operations * trained_share,
        Kind::Embedding if shapes.tied => operations * trained_share,
        Kind::Embedding | Kind::Norm | Kind::Bias | Kind::Positions => 0.0,
    }
}

/// Share of a tensor's parameters that one token is multiplied with.
fn share(shapes: &Shapes, kind: Kind) -> f64 {
    match (kind, shapes.experts) {
        (Kind::Expert, Some(experts)) => experts.per_token as f64 / experts.count as f64,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::architecture::shapes;
    use crate::figures::trained::{Line, Lora, Selection, Target, TargetName, trained};
    use serde_json::json;

    const PASS: Pass = Pass {
        row_tokens: 100.0,
        trained_share: 1.0,
        recompute: Recompute::None,
        reference: Reference::None,
    };

    /// H 8, I 16, 4 heads of 2, 2 of keys, 3 layers, 10 ids, not tied.
    fn small() -> Shapes {
        shapes(&json!({"model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}))
        .unwrap()
    }

    /// Parameters of the matrices of one layer: q, k, v, o, and three of the MLP.
    const MATRICES: f64 = (64 + 32 + 32 + 64 + 3 * 128) as f64;
    /// 4 · 4 heads of 2 · 50 tokens.
    const ATTENTION: f64 = 1600.0;
    const HEAD: f64 = 80.0;

    fn all() -> Trained {
        trained(&small(), &Selection::default())
    }

    #[test]
    fn full_training_is_six_per_parameter_and_attention() {
        let flops = flops(&small(), &all(), &PASS);
        assert_eq!(flops.forward, 3.0 * (2.0 * MATRICES + ATTENTION) + 2.0 * HEAD);
        assert_eq!(flops.backward, 3.0 * (2.0 * MATRICES + 2.0 * ATTENTION) + 2.0 * HEAD);
        assert_eq!(flops.weights, 3.0 * 2.0 * MATRICES + 2.0 * HEAD);
        assert_eq!(flops.total(), 6.0 * (3.0 * MATRICES + HEAD) + 3.0 * 3.0 * ATTENTION);
        // 12 · layers · hidden · row / 2.
        assert_eq!(3.0 * 3.0 * ATTENTION, 12.0 * 3.0 * 8.0 * 100.0 / 2.0);
    }

    #[test]
    fn an_adapter_costs_its_own_gradients_only() {
        let target = Target { name: TargetName::AllLinear, rank: None };
        let lora = Lora { rank: 1, targets: vec![target], also: Vec::new(), magnitudes: false };
        let adapter = trained(&small(), &Selection { lora: Some(lora), train: Vec::new() });
        let flops = flops(&small(), &adapter, &PASS);
        let own = 2.0 * adapter.parameters() as f64;
        assert_eq!(flops.weights, own);
        assert_eq!(flops.forward, 3.0 * (2.0 * MATRICES + ATTENTION) + 2.0 * HEAD + own);
        assert_eq!(flops.backward, flops.forward + 3.0 * ATTENTION);
    }

    #[test]
    fn nothing_flows_below_the_lowest_trained_layer() {
        let top = Selection { lora: None, train: vec![Line::Layers(Some(2..3))] };
        let flops_of =
            |selection: &Selection, pass: &Pass| flops(&small(), &trained(&small(), selection), pass);
        assert_eq!(flops_of(&top, &PASS).backward, 2.0 * MATRICES + 2.0 * ATTENTION + 2.0 * HEAD);
        let head = Selection { lora: None, train: vec![Line::Modules(vec!["lm_head".into()])] };
        assert_eq!(flops_of(&head, &PASS).backward, 2.0 * HEAD);
        assert_eq!(flops_of(&head, &PASS).weights, 2.0 * HEAD);
        let recomputed = Pass { recompute: Recompute::Block, ..PASS };
        assert_eq!(flops_of(&top, &recomputed).recomputed, 2.0 * MATRICES + ATTENTION);
        assert_eq!(flops_of(&head, &recomputed).recomputed, 0.0);
    }

    #[test]
    fn a_reference_is_one_more_forward_and_untrained_tokens_need_no_head() {
        let with = flops(&small(), &all(), &Pass { reference: Reference::Ahead, ..PASS });
        assert_eq!(with.reference, with.forward);
        let half = flops(&small(), &all(), &Pass { trained_share: 0.5, ..PASS });
        assert_eq!(flops(&small(), &all(), &PASS).total() - half.total(), 3.0 * HEAD);
    }

    #[test]
    fn a_token_passes_through_its_own_experts() {
        let mixtral = shapes(&json!({"model_type": "mixtral"})).unwrap();
        let flops = flops(&mixtral, &trained(&mixtral, &Selection::default()), &PASS);
        let counted = mixtral.active_parameters() as f64;
        // Embedding and norms are no products; attention over 100 tokens is little.
        assert!((flops.total() / (6.0 * counted) - 1.0).abs() < 0.02, "{}", flops.total() / counted);
    }

    #[test]
    fn a_window_bounds_what_attention_sees() {
        let of = |row_tokens: f64| {
            let config = json!({"model_type": "mistral", "num_hidden_layers": 1, "sliding_window": 10});
            attention(&shapes(&config).unwrap(), row_tokens).from(0) / (4.0 * 4096.0)
        };
        assert_eq!(of(8.0), 4.0);
        assert_eq!(of(10.0), 5.0);
        assert_eq!(of(100.0), 9.5);
    }
}
