//! GPT-2. Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
//!
//! Shapes: N tokens, H n_embd, I n_inner, A n_head, V vocab_size. Files hold linear weights as
//! `[in, out]`; values are `[out, in]` as everywhere, and the fused `c_attn` is three of them.

use super::{ConfigProblem, Fields, Hidden, Most, WeightSpec, plain};
use crate::builder::{AttentionShape, Builder, ext};
use plan::op::Activation;
use plan::value::ValueId;
use plan::weights::Init;
use plan::work::batch;
use serde_json::{Value, json};

/// The fields of a GPT-2 config.json that shape the graph, under their names there.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2 {
    pub vocab_size: u64,
    pub n_embd: u64,
    pub n_inner: u64,
    pub n_layer: u64,
    pub n_head: u64,
    pub n_positions: u64,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    pub embd_pdrop: f64,
    pub attn_pdrop: f64,
    pub resid_pdrop: f64,
    pub scale_attn_weights: bool,
    pub scale_attn_by_inverse_layer_idx: bool,
    pub activation_function: Activation,
    pub tie_word_embeddings: bool,
}

/// Returns the config of a new GPT-2, with the published defaults.
pub fn default_config() -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": null,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "scale_attn_weights": true,
        "scale_attn_by_inverse_layer_idx": false,
        "reorder_and_upcast_attn": false,
        "tie_word_embeddings": true,
        "use_cache": true
    })
}

impl Gpt2 {
    /// Reads a config.json.
    ///
    /// # Errors
    /// Fails on missing or contradictory fields.
    pub fn from_config(config: &Value) -> Result<Gpt2, ConfigProblem> {
        let fields = Fields(config);
        let n_embd = fields.needed("n_embd", Most::HIDDEN)?;
        let n_head = fields.needed("n_head", Most::HEADS)?;
        if n_embd % n_head != 0 {
            return Err(fields.wrong("n_embd", &format!("a multiple of `n_head` ({n_head})")));
        }
        if fields.flag("add_cross_attention", false)? {
            return Err(fields.wrong("add_cross_attention", "false: this is a decoder on its own"));
        }
        Ok(Gpt2 {
            vocab_size: fields.needed("vocab_size", Most::VOCAB)?,
            n_embd,
            n_inner: fields.count("n_inner", Most::INTERMEDIATE)?.unwrap_or(4 * n_embd),
            n_layer: fields.needed("n_layer", Most::LAYERS)?,
            n_head,
            n_positions: fields.count("n_positions", Most::POSITIONS)?.unwrap_or(1024),
            layer_norm_epsilon: fields.eps("layer_norm_epsilon", 1e-5)?,
            initializer_range: fields.number("initializer_range")?.unwrap_or(0.02),
            embd_pdrop: fields.share("embd_pdrop", 0.1)?,
            attn_pdrop: fields.share("attn_pdrop", 0.1)?,
            resid_pdrop: fields.share("resid_pdrop", 0.1)?,
            scale_attn_weights: fields.flag("scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: fields.flag("scale_attn_by_inverse_layer_idx", false)?,
            activation_function: fields.activation("activation_function", "gelu_new")?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", true)?,
        })
    }

    /// Returns the dropout that is active in training, in words, if there is any.
    pub fn dropout(&self) -> Option<String> {
        let parts =
            [("embedding", self.embd_pdrop), ("attention", self.attn_pdrop), ("residual", self.resid_pdrop)];
        let active: Vec<String> =
            parts.iter().filter(|(_, p)| *p > 0.0).map(|(name, p)| format!("{name} {p}")).collect();
        (!active.is_empty()).then(|| active.join(", "))
    }

    /// Adds the forward pass to a program.
    pub fn forward(&self, b: &mut Builder) -> Hidden {
        let h = self.n_embd;
        b.region("embed");
        let ids = b.index(batch::IDS, ext::TOKENS);
        let positions = b.index(batch::POSITIONS, ext::TOKENS);
        let wte = b.weight("wte.weight", &[self.vocab_size, h]);
        let wpe = b.weight("wpe.weight", &[self.n_positions, h]);
        let token = b.embed(ids, wte, "token");
        let position = b.embed(positions, wpe, "position");
        let x = b.add(token, position, "x");
        let mut branch = b.dropout(x, self.embd_pdrop, "dropped");
        let mut residual: Option<ValueId> = None;
        for layer in 0..self.n_layer {
            let name = |part: &str| format!("layers.{layer}.{part}");
            b.region(format!("layers.{layer}"));
            let affine = |b: &mut Builder, part: &str, size: u64| {
                (
                    b.weight(&name(&format!("{part}.weight")), &[size]),
                    b.weight(&name(&format!("{part}.bias")), &[size]),
                )
            };
            let project = |b: &mut Builder, part: &str, out: u64, input: ValueId, inputs: u64| {
                let w = b.weight(&name(&format!("{part}.weight")), &[out, inputs]);
                let bias = b.weight(&name(&format!("{part}.bias")), &[out]);
                b.linear(input, w, Some(bias), part)
            };
            let norm = affine(b, "ln_1", h);
            let normed = b.layer_norm(branch, norm, residual, self.layer_norm_epsilon, "ln_1");
            let q = project(b, "q_proj", h, normed.y, h);
            let k = project(b, "k_proj", h, normed.y, h);
            let v = project(b, "v_proj", h, normed.y, h);
            let attended = b.attention(q, k, v, self.attention_shape(layer));
            let o = project(b, "o_proj", h, attended, h);
            let o = b.dropout(o, self.resid_pdrop, "o_dropped");
            let norm = affine(b, "ln_2", h);
            let normed = b.layer_norm(o, norm, Some(normed.h), self.layer_norm_epsilon, "ln_2");
            let up = project(b, "c_fc", self.n_inner, normed.y, h);
            let act = b.act(up, self.activation_function);
            let down = project(b, "c_proj", h, act, self.n_inner);
            branch = b.dropout(down, self.resid_pdrop, "c_dropped");
            residual = Some(normed.h);
        }
        b.region("head");
        let norm = (b.weight("ln_f.weight", &[h]), b.weight("ln_f.bias", &[h]));
        let states = b.layer_norm(branch, norm, residual, self.layer_norm_epsilon, "ln_f").y;
        let head =
            if self.tie_word_embeddings { wte } else { b.weight("lm_head.weight", &[self.vocab_size, h]) };
        Hidden { states, head }
    }

    fn attention_shape(&self, layer: u64) -> AttentionShape {
        let head_dim = self.n_embd / self.n_head;
        let mut scale = if self.scale_attn_weights { 1.0 / (head_dim as f64).sqrt() } else { 1.0 };
        if self.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f64;
        }
        AttentionShape {
            heads: self.n_head,
            kv_heads: self.n_head,
            head_dim,
            scale,
            dropout: self.attn_pdrop,
        }
    }

    /// Returns the tensors of the model's files.
    pub fn weights(&self) -> Vec<WeightSpec> {
        let (h, i) = (self.n_embd, self.n_inner);
        let normal = Init::Normal { std: self.initializer_range };
        // Projections onto the residual stream start smaller, by the number of them (section 2.3 of the paper).
        let residual = Init::Normal { std: self.initializer_range / (2.0 * self.n_layer as f64).sqrt() };
        let mut all = vec![
            prefixed(plain("wte.weight".into(), "wte.weight".into(), &[self.vocab_size, h], normal)),
            prefixed(plain("wpe.weight".into(), "wpe.weight".into(), &[self.n_positions, h], normal)),
        ];
        for layer in 0..self.n_layer {
            let mut linear = |file: &str, values: &[&str], input: u64, out: u64, init: Init| {
                let rows = out / values.len() as u64;
                for (kind, shape, transpose, init) in
                    [("weight", vec![input, out], true, init), ("bias", vec![out], false, Init::Zeros)]
                {
                    let values =
                        values.iter().map(|value| (format!("layers.{layer}.{value}.{kind}"), rows)).collect();
                    let tensor = format!("h.{layer}.{file}.{kind}");
                    all.push(prefixed(WeightSpec {
                        tensor,
                        aliases: Vec::new(),
                        shape,
                        transpose,
                        values,
                        init,
                    }));
                }
            };
            linear("attn.c_attn", &["q_proj", "k_proj", "v_proj"], h, 3 * h, normal);
            linear("attn.c_proj", &["o_proj"], h, h, residual);
            linear("mlp.c_fc", &["c_fc"], h, i, normal);
            linear("mlp.c_proj", &["c_proj"], i, h, residual);
            for norm in ["ln_1", "ln_2"] {
                for (kind, init) in [("weight", Init::Ones), ("bias", Init::Zeros)] {
                    let tensor = format!("h.{layer}.{norm}.{kind}");
                    all.push(prefixed(plain(tensor, format!("layers.{layer}.{norm}.{kind}"), &[h], init)));
                }
            }
        }
        for (kind, init) in [("weight", Init::Ones), ("bias", Init::Zeros)] {
            all.push(prefixed(plain(format!("ln_f.{kind}"), format!("ln_f.{kind}"), &[h], init)));
        }
        if !self.tie_word_embeddings {
            all.push(plain("lm_head.weight".into(), "lm_head.weight".into(), &[self.vocab_size, h], normal));
        }
        all
    }
}

/// Names a tensor as the language model's files do, and accepts the bare model's name too.
fn prefixed(mut spec: WeightSpec) -> WeightSpec {
    let bare = std::mem::take(&mut spec.tensor);
    spec.tensor = format!("transformer.{bare}");
    spec.aliases.push(bare);
    spec
}
