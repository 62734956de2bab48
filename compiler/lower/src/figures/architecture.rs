//! The shapes of a published architecture: every tensor of its checkpoint, from config.json alone.

use super::config::Fields;
use super::families;
use serde_json::Value;

pub use super::config::Unknown;

/// More than this is a mistake in the config; below it, no figure of bytes overflows.
const MOST_PARAMETERS: u128 = 1 << 50;

/// What a model is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes {
    /// The `model_type` of config.json, in its current spelling.
    pub family: &'static str,
    /// In the order of the forward pass; tied matrices stand once, as the embedding.
    pub tensors: Vec<Tensor>,
    pub layers: u32,
    pub hidden: u64,
    /// Width between the two projections of an MLP; of one expert where there are experts.
    pub intermediate: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
    pub vocab: u64,
    pub positions: u64,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Tokens that an attention with a window sees, and in how many layers it has one.
    pub window: Option<u64>,
    pub windowed_layers: u32,
    /// Whether the MLP multiplies a gate with what it projects up.
    pub gated: bool,
    /// Whether attention and MLP read the same residual stream, side by side.
    pub parallel: bool,
    pub experts: Option<Experts>,
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    pub count: u64,
    /// How many of them each token passes through.
    pub per_token: u64,
}

/// One tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Key in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<u64>,
    pub layer: Option<u32>,
    pub kind: Kind,
    /// Of a matrix of a layer, what it multiplies.
    pub place: Option<Place>,
}

/// What a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Embedding,
    Head,
    Linear,
    /// Weight or bias of a norm.
    Norm,
    /// Bias of a linear layer.
    Bias,
    Expert,
    Router,
    Positions,
}

/// Which values of a layer a matrix multiplies; its gradient needs them, so they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The normed input of attention.
    AttentionIn,
    /// What attention gives.
    AttentionOut,
    /// The normed input of the MLP.
    MlpIn,
    /// What stands before the projection down.
    MlpOut,
}

impl Kind {
    /// Returns whether it is a matrix of a layer, which an adapter on all linear layers stands on.
    pub fn is_linear(self) -> bool {
        match self {
            Kind::Linear | Kind::Expert | Kind::Router => true,
            Kind::Embedding | Kind::Head | Kind::Norm | Kind::Bias | Kind::Positions => false,
        }
    }
}

impl Tensor {
    /// Returns the number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Returns the name without `.weight` or `.bias`.
    pub fn module(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(module, _)| module)
    }
}

impl Shapes {
    /// Returns the number of parameters; tied ones count once.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).sum()
    }

    /// Returns the parameters that one token is multiplied with or added to: of experts only its own.
    pub fn active_parameters(&self) -> u64 {
        let active = |tensor: &Tensor| match (tensor.kind, self.experts) {
            (Kind::Expert, Some(experts)) => tensor.elements() * experts.per_token / experts.count,
            _ => tensor.elements(),
        };
        self.tensors.iter().map(active).sum()
    }

    /// Returns the tensors of one layer.
    pub fn layer(&self, layer: u32) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().filter(move |tensor| tensor.layer == Some(layer))
    }
}

/// Returns the shapes that a config.json describes; fields that it leaves out have their published defaults.
///
/// # Errors
/// Fails when the architecture is not known or its fields contradict each other.
pub fn shapes(config: &Value) -> Result<Shapes, Unknown> {
    let shapes = families::read(&Fields(config))?;
    let wide = |tensor: &Tensor| tensor.shape.iter().map(|&size| u128::from(size)).product::<u128>();
    let parameters: u128 = shapes.tensors.iter().map(wide).sum();
    if parameters > MOST_PARAMETERS {
        let message = format!("the config describes {parameters} parameters, more than any model has");
        return Err(Unknown { field: None, message });
    }
    Ok(shapes)
}
