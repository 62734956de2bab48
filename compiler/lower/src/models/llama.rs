//! Llama. Touvron et al. 2023, <https://arxiv.org/abs/2302.13971>; grouped heads and the rope
//! scaling of Llama 3 as in the released configs.
//!
//! Shapes: N tokens, H hidden_size, I intermediate_size, A num_attention_heads,
//! K num_key_value_heads, D head_dim, V vocab_size.

use super::{ConfigProblem, Fields, Hidden, Most, WeightSpec, plain};
use crate::builder::{AttentionShape, Builder, Mode, ext};
use plan::op::Activation;
use plan::value::ValueId;
use plan::weights::Init;
use plan::work::batch;
use serde_json::{Value, json};

/// The fields of a Llama config.json that shape the graph, under their names there.
#[derive(Debug, Clone, PartialEq)]
pub struct Llama {
    pub vocab_size: u64,
    pub hidden_size: u64,
    pub intermediate_size: u64,
    pub num_hidden_layers: u64,
    pub num_attention_heads: u64,
    pub num_key_value_heads: u64,
    pub head_dim: u64,
    pub max_position_embeddings: u64,
    pub rms_norm_eps: f64,
    pub initializer_range: f64,
    pub attention_dropout: f64,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub tie_word_embeddings: bool,
    pub hidden_act: Activation,
    /// Rotation per position of each pair of channels, `[head_dim/2]`.
    pub inv_freq: Vec<f64>,
}

/// Returns the config of a new Llama: the defaults of transformers at a small size's shape.
pub fn default_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": null,
        "head_dim": null,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-6,
        "use_cache": true,
        "tie_word_embeddings": false,
        "rope_theta": 10000.0,
        "rope_scaling": null,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false
    })
}

impl Llama {
    /// Reads a config.json.
    ///
    /// # Errors
    /// Fails on missing or contradictory fields and on rope types that are not built.
    pub fn from_config(config: &Value) -> Result<Llama, ConfigProblem> {
        let fields = Fields(config);
        let hidden_size = fields.needed("hidden_size", Most::HIDDEN)?;
        let heads = fields.needed("num_attention_heads", Most::HEADS)?;
        let kv_heads = fields.count("num_key_value_heads", Most::HEADS)?.unwrap_or(heads);
        let head_dim = match fields.count("head_dim", Most::HEAD_DIM)? {
            Some(head_dim) => head_dim,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(
                    fields.wrong("hidden_size", &format!("a multiple of `num_attention_heads` ({heads})"))
                );
            }
        };
        if heads % kv_heads != 0 {
            return Err(
                fields.wrong("num_key_value_heads", &format!("a divisor of `num_attention_heads` ({heads})"))
            );
        }
        if head_dim % 2 != 0 {
            return Err(fields.wrong("head_dim", "even, since channels are rotated in pairs"));
        }
        Ok(Llama {
            vocab_size: fields.needed("vocab_size", Most::VOCAB)?,
            hidden_size,
            intermediate_size: fields.needed("intermediate_size", Most::INTERMEDIATE)?,
            num_hidden_layers: fields.needed("num_hidden_layers", Most::LAYERS)?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: fields
                .count("max_position_embeddings", Most::POSITIONS)?
                .unwrap_or(2048),
            rms_norm_eps: fields.eps("rms_norm_eps", 1e-6)?,
            initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
            attention_dropout: fields.share("attention_dropout", 0.0)?,
            attention_bias: fields.flag("attention_bias", false)?,
            mlp_bias: fields.flag("mlp_bias", false)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            hidden_act: fields.activation("hidden_act", "silu")?,
            inv_freq: inverse_frequencies(config, head_dim)?,
        })
    }

    /// Adds the forward pass to a program.
    pub fn forward(&self, b: &mut Builder) -> Hidden {
        let (h, a, k, d) =
            (self.hidden_size, self.num_attention_heads, self.num_key_value_heads, self.head_dim);
        b.region("embed");
        let ids = b.index(batch::IDS, ext::TOKENS);
        let table = b.weight("embed_tokens.weight", &[self.vocab_size, h]);
        let mut branch = b.embed(ids, table, "x");
        let mut residual: Option<ValueId> = None;
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("layers.{layer}.{part}");
            b.region(format!("layers.{layer}"));
            let norm = b.weight(&name("input_layernorm.weight"), &[h]);
            let normed = b.rms_norm(branch, norm, residual, self.rms_norm_eps, "input_norm");
            let project =
                |b: &mut Builder, part: &str, out: u64, input: ValueId, inputs: u64, biased: bool| {
                    let w = b.weight(&name(&format!("{part}.weight")), &[out, inputs]);
                    let bias = biased.then(|| b.weight(&name(&format!("{part}.bias")), &[out]));
                    b.linear(input, w, bias, part)
                };
            let q = project(b, "q_proj", a * d, normed.y, h, self.attention_bias);
            let key = project(b, "k_proj", k * d, normed.y, h, self.attention_bias);
            let v = project(b, "v_proj", k * d, normed.y, h, self.attention_bias);
            let q = b.rope(q, d, &self.inv_freq, 1.0, "q_rope");
            let key = b.rope(key, d, &self.inv_freq, 1.0, "k_rope");
            let shape = AttentionShape {
                heads: a,
                kv_heads: k,
                head_dim: d,
                scale: 1.0 / (d as f64).sqrt(),
                dropout: self.attention_dropout,
            };
            let attended = b.attention(q, key, v, shape);
            let o = project(b, "o_proj", h, attended, a * d, self.attention_bias);
            let norm = b.weight(&name("post_attention_layernorm.weight"), &[h]);
            let normed = b.rms_norm(o, norm, Some(normed.h), self.rms_norm_eps, "post_norm");
            let gate = project(b, "gate_proj", self.intermediate_size, normed.y, h, self.mlp_bias);
            let up = project(b, "up_proj", self.intermediate_size, normed.y, h, self.mlp_bias);
            let gated = b.gated_act(gate, up, self.hidden_act);
            branch = project(b, "down_proj", h, gated, self.intermediate_size, self.mlp_bias);
            residual = Some(normed.h);
        }
        b.region("head");
        let norm = b.weight("norm.weight", &[h]);
        let states = b.rms_norm(branch, norm, residual, self.rms_norm_eps, "norm").y;
        let head =
            if self.tie_word_embeddings { table } else { b.weight("lm_head.weight", &[self.vocab_size, h]) };
        debug_assert!(b.mode != Mode::Decode || b.ops.iter().all(|op| op.kind.name() != "attention"));
        Hidden { states, head }
    }

    /// Returns the tensors of the model's files.
    pub fn weights(&self) -> Vec<WeightSpec> {
        let (h, i) = (self.hidden_size, self.intermediate_size);
        let (qd, kd) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        let normal = Init::Normal { std: self.initializer_range };
        let embed = plain(
            "model.embed_tokens.weight".into(),
            "embed_tokens.weight".into(),
            &[self.vocab_size, h],
            normal,
        );
        let mut all = vec![embed];
        for layer in 0..self.num_hidden_layers {
            let mut matrix = |group: &str, part: &str, out: u64, input: u64, biased: bool| {
                let file = |kind: &str| format!("model.layers.{layer}.{group}.{part}.{kind}");
                let value = |kind: &str| format!("layers.{layer}.{part}.{kind}");
                all.push(plain(file("weight"), value("weight"), &[out, input], normal));
                if biased {
                    all.push(plain(file("bias"), value("bias"), &[out], Init::Zeros));
                }
            };
            matrix("self_attn", "q_proj", qd, h, self.attention_bias);
            matrix("self_attn", "k_proj", kd, h, self.attention_bias);
            matrix("self_attn", "v_proj", kd, h, self.attention_bias);
            matrix("self_attn", "o_proj", h, qd, self.attention_bias);
            matrix("mlp", "gate_proj", i, h, self.mlp_bias);
            matrix("mlp", "up_proj", i, h, self.mlp_bias);
            matrix("mlp", "down_proj", h, i, self.mlp_bias);
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                let value = format!("layers.{layer}.{norm}.weight");
                all.push(plain(format!("model.{value}"), value, &[h], Init::Ones));
            }
        }
        all.push(plain("model.norm.weight".into(), "norm.weight".into(), &[h], Init::Ones));
        if !self.tie_word_embeddings {
            all.push(plain("lm_head.weight".into(), "lm_head.weight".into(), &[self.vocab_size, h], normal));
        }
        all
    }
}

/// Returns the rotation per position of each channel pair, from `rope_parameters` (transformers 5)
/// or `rope_theta` and `rope_scaling` (4).
fn inverse_frequencies(config: &Value, head_dim: u64) -> Result<Vec<f64>, ConfigProblem> {
    let parameters = config.get("rope_parameters").filter(|value| value.is_object());
    let scaling = parameters.or_else(|| config.get("rope_scaling").filter(|value| value.is_object()));
    let theta = parameters
        .and_then(|parameters| parameters.get("rope_theta"))
        .or_else(|| config.get("rope_theta"))
        .and_then(Value::as_f64)
        .unwrap_or(10000.0);
    if theta as f32 <= 0.0 {
        return Err(ConfigProblem {
            field: Some("rope_theta".into()),
            message: format!("`rope_theta` is {theta}, but must be above 0"),
        });
    }
    // Rounded to f32 as the published models compute them.
    let base: Vec<f64> = (0..head_dim / 2)
        .map(|pair| f64::from(1.0 / (theta as f32).powf((2 * pair) as f32 / head_dim as f32)))
        .collect();
    let Some(scaling) = scaling else { return Ok(base) };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    match kind.unwrap_or("default") {
        "default" => Ok(base),
        "llama3" => llama3_frequencies(scaling, base),
        other => Err(ConfigProblem {
            field: Some("rope_scaling".into()),
            message: format!("rope type `{other}` is not built; `default` and `llama3` are"),
        }),
    }
}

/// Slows long wavelengths by `factor` and blends between, as Llama 3.1's released configs ask.
fn llama3_frequencies(scaling: &Value, base: Vec<f64>) -> Result<Vec<f64>, ConfigProblem> {
    let number = |name: &str| {
        scaling.get(name).and_then(Value::as_f64).ok_or_else(|| ConfigProblem {
            field: Some("rope_scaling".into()),
            message: format!("rope type `llama3` needs `{name}`"),
        })
    };
    let factor = number("factor")?;
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    let original = number("original_max_position_embeddings")?;
    let scaled = base.into_iter().map(|frequency| {
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength < original / high {
            return frequency;
        }
        if wavelength > original / low {
            return frequency / factor;
        }
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    });
    Ok(scaled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        let mut config = default_config();
        for (name, size) in [
            ("vocab_size", 64),
            ("hidden_size", 32),
            ("intermediate_size", 48),
            ("num_hidden_layers", 2),
            ("num_attention_heads", 4),
        ] {
            config[name] = json!(size);
        }
        config
    }

    #[test]
    fn both_key_styles_give_the_same_rotation() {
        let mut old = config();
        old["rope_theta"] = json!(500000.0);
        old["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16});
        let mut new = config();
        new["rope_theta"] = Value::Null;
        new["rope_parameters"] = old["rope_scaling"].clone();
        new["rope_parameters"]["rope_theta"] = json!(500000.0);
        assert_eq!(Llama::from_config(&old).unwrap().inv_freq, Llama::from_config(&new).unwrap().inv_freq);
    }

    #[test]
    fn unknown_rope_types_and_bad_heads_are_refused_by_name() {
        let mut yarn = config();
        yarn["rope_scaling"] = json!({"type": "yarn", "factor": 2.0});
        assert!(Llama::from_config(&yarn).unwrap_err().message.contains("`yarn`"));
        let mut heads = config();
        heads["num_key_value_heads"] = json!(3);
        assert_eq!(Llama::from_config(&heads).unwrap_err().field.as_deref(), Some("num_key_value_heads"));
    }

    #[test]
    fn numbers_that_give_no_finite_loss_are_refused_by_name() {
        for (name, number) in [("rope_theta", 0.0), ("rope_theta", -1e4), ("rms_norm_eps", -1.0)] {
            let mut config = config();
            config[name] = json!(number);
            let problem = Llama::from_config(&config).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(name), "{number}: {}", problem.message);
        }
        let mut zero = config();
        zero["rms_norm_eps"] = json!(0.0);
        assert!(Llama::from_config(&zero).is_ok());
    }
}
