//! Architectures: a model is a function from its config to a graph, in named regions.
//!
//! To add one: a file here with its config, graph, weight names and initial distributions, a line
//! in [`Model`], and its goldens.

pub mod gpt2;
pub mod llama;

use crate::builder::Builder;
use plan::op::Activation;
use plan::value::ValueId;
use plan::weights::{Init, NewTensor};
use serde_json::Value;

/// A model of a known architecture.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    Llama(llama::Llama),
    Gpt2(gpt2::Gpt2),
}

/// One tensor of the model's files: how it lies there, what values it makes, how it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSpec {
    pub tensor: String,
    pub aliases: Vec<String>,
    /// Shape in the file.
    pub shape: Vec<u64>,
    pub transpose: bool,
    /// Value names and their rows after the transpose, in order.
    pub values: Vec<(String, u64)>,
    pub init: Init,
}

/// What a model's graph gives for its last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hidden {
    /// Normed hidden states, `[tokens, hidden]`.
    pub states: ValueId,
    /// The projection to the vocabulary, `[vocab, hidden]`.
    pub head: ValueId,
}

/// Why a config cannot be used; a sentence without full stop, and the field at fault if one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    pub field: Option<String>,
    pub message: String,
}

impl Model {
    /// Names of the architectures, as `new:` and `model_type` have them.
    pub const NAMES: [&'static str; 2] = ["llama", "gpt2"];

    /// Reads a config.json, with the keys of transformers 4 or 5.
    ///
    /// # Errors
    /// Fails on an unknown architecture, a missing field, or a setting that is not built.
    pub fn from_config(config: &Value) -> Result<Model, ConfigProblem> {
        match config.get("model_type").and_then(Value::as_str) {
            Some("llama") => llama::Llama::from_config(config).map(Model::Llama),
            Some("gpt2") => gpt2::Gpt2::from_config(config).map(Model::Gpt2),
            Some(other) => Err(ConfigProblem {
                field: Some("model_type".into()),
                message: format!("architecture `{other}` is not built; `llama` and `gpt2` are"),
            }),
            None => Err(ConfigProblem {
                field: Some("model_type".into()),
                message: "config.json has no `model_type`".into(),
            }),
        }
    }

    /// Returns the whole config.json of a new model: published defaults, then the recipe's fields.
    pub fn new_config(architecture: &str, fields: &[(String, Value)]) -> Value {
        let mut config = match architecture {
            "gpt2" => gpt2::default_config(),
            _ => llama::default_config(),
        };
        for (name, value) in fields {
            config[name.as_str()] = value.clone();
        }
        config
    }

    /// Adds the forward pass to a program.
    pub fn forward(&self, b: &mut Builder) -> Hidden {
        match self {
            Model::Llama(model) => model.forward(b),
            Model::Gpt2(model) => model.forward(b),
        }
    }

    /// Returns the tensors of the model's files.
    pub fn weights(&self) -> Vec<WeightSpec> {
        match self {
            Model::Llama(model) => model.weights(),
            Model::Gpt2(model) => model.weights(),
        }
    }

    /// Returns the number of ids that the embedding has rows for.
    pub fn vocab_size(&self) -> u64 {
        match self {
            Model::Llama(model) => model.vocab_size,
            Model::Gpt2(model) => model.vocab_size,
        }
    }

    /// Returns the positions that the model knows.
    pub fn max_positions(&self) -> u64 {
        match self {
            Model::Llama(model) => model.max_position_embeddings,
            Model::Gpt2(model) => model.n_positions,
        }
    }

    /// Returns the number of parameters; tied ones count once.
    pub fn parameters(&self) -> u64 {
        self.weights().iter().map(|weight| weight.shape.iter().product::<u64>()).sum()
    }

    /// Returns the number of parameters that the vocabulary decides: those of the embedding, and of a head of its own.
    pub fn vocabulary_parameters(&self) -> u64 {
        let (hidden, is_tied) = match self {
            Model::Llama(model) => (model.hidden_size, model.tie_word_embeddings),
            Model::Gpt2(model) => (model.n_embd, model.tie_word_embeddings),
        };
        self.vocab_size() * hidden * if is_tied { 1 } else { 2 }
    }

    /// Returns the dropout that is active in training, in words, if there is any.
    pub fn dropout(&self) -> Option<String> {
        match self {
            Model::Llama(model) => {
                (model.attention_dropout > 0.0).then(|| format!("attention {}", model.attention_dropout))
            }
            Model::Gpt2(model) => model.dropout(),
        }
    }

    /// Returns the tensors of a new model.
    pub fn new_tensors(&self) -> Vec<NewTensor> {
        let tensor = |w: WeightSpec| NewTensor { name: w.tensor, shape: w.shape, init: w.init };
        self.weights().into_iter().map(tensor).collect()
    }
}

/// The largest value of a field that is believed: several times that of any published model, and so small that no
/// product of sizes overflows.
#[derive(Debug, Clone, Copy)]
struct Most(u64);

impl Most {
    const HIDDEN: Most = Most(1 << 18);
    const INTERMEDIATE: Most = Most(1 << 20);
    /// Also what keeps planning quick.
    const LAYERS: Most = Most(1 << 10);
    const HEADS: Most = Most(1 << 10);
    const HEAD_DIM: Most = Most(1 << 10);
    const VOCAB: Most = Most(1 << 24);
    const POSITIONS: Most = Most(1 << 24);
}

/// Fields of a config.json, read one by one with errors that name them.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn number(&self, name: &str) -> Result<Option<f64>, ConfigProblem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(name, "a number")),
        }
    }

    /// Reads what is added under a root.
    fn eps(&self, name: &str, default: f64) -> Result<f64, ConfigProblem> {
        match self.number(name)?.unwrap_or(default) {
            eps if eps >= 0.0 => Ok(eps),
            _ => Err(self.wrong(name, "at least 0")),
        }
    }

    fn count(&self, name: &str, most: Most) -> Result<Option<u64>, ConfigProblem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) if (1..=most.0).contains(&count) => Ok(Some(count)),
                Some(_) | None => Err(self.wrong(name, &format!("a whole number from 1 to {}", most.0))),
            },
        }
    }

    fn needed(&self, name: &str, most: Most) -> Result<u64, ConfigProblem> {
        self.count(name, most)?.ok_or_else(|| ConfigProblem {
            field: Some(name.into()),
            message: format!("config.json has no `{name}`"),
        })
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, ConfigProblem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    fn share(&self, name: &str, default: f64) -> Result<f64, ConfigProblem> {
        let share = self.number(name)?.unwrap_or(default);
        if (0.0..1.0).contains(&share) { Ok(share) } else { Err(self.wrong(name, "at least 0 and below 1")) }
    }

    fn activation(&self, name: &str, default: &str) -> Result<Activation, ConfigProblem> {
        match self.0.get(name).and_then(Value::as_str).unwrap_or(default) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "relu" => Ok(Activation::Relu),
            other => Err(ConfigProblem {
                field: Some(name.into()),
                message: format!(
                    "activation `{other}` is not built; `silu`, `gelu`, `gelu_new`, `gelu_pytorch_tanh` and `relu` are"
                ),
            }),
        }
    }

    fn wrong(&self, name: &str, wanted: &str) -> ConfigProblem {
        let is = self.0.get(name).map_or("absent".to_owned(), Value::to_string);
        ConfigProblem { field: Some(name.into()), message: format!("`{name}` must be {wanted}, but is {is}") }
    }
}

/// Returns a spec of a tensor that is one value of the same shape.
fn plain(tensor: String, value: String, shape: &[u64], init: Init) -> WeightSpec {
    let values = vec![(value, shape[0])];
    WeightSpec { tensor, aliases: Vec::new(), shape: shape.to_vec(), transpose: false, values, init }
}
