//! Llama and what descends from it: one naming, and a table of what each does differently.
//!
//! Shapes: H hidden_size, I intermediate_size, A num_attention_heads, K num_key_value_heads, D head_dim, V vocab_size.

use super::Sheet;
use crate::figures::architecture::{Experts, Kind, Place, Shapes, Tensor};
use crate::figures::config::{Fields, Unknown};

/// One family: the defaults of its fields, and the parts that a block is made of.
pub struct Family {
    name: &'static str,
    vocab: u64,
    hidden: u64,
    intermediate: u64,
    layers: u64,
    heads: u64,
    /// Nothing stands for as many as there are heads.
    kv_heads: Option<u64>,
    /// Nothing stands for H / A.
    head_dim: Option<u64>,
    positions: u64,
    tied: bool,
    qkv_bias: Bias,
    o_bias: Bias,
    mlp: Mlp,
    mlp_bias: Bias,
    /// Whether q, k and v are one matrix, and gate and up are.
    fused: bool,
    /// Norms of a block, of H each.
    norms: &'static [&'static str],
    norm_bias: bool,
    qk_norm: QkNorm,
    window: Window,
}

#[derive(Clone, Copy)]
enum Bias {
    Never,
    Always,
    /// As this field says, with its default.
    Field(&'static str, bool),
}

#[derive(Clone, Copy, PartialEq)]
enum Mlp {
    Gated,
    /// Names of the projections up and down.
    Plain(&'static str, &'static str),
    Experts,
}

#[derive(Clone, Copy, PartialEq)]
enum QkNorm {
    Never,
    /// One of D for queries, one of D for keys.
    Shared,
    /// One of D for each head, when `qk_layernorm` says so.
    PerHead,
}

/// Where attention has a window.
#[derive(Clone, Copy)]
enum Window {
    Never,
    /// In every layer, `sliding_window` tokens.
    Every(Option<u64>),
    /// With `use_sliding_window`, from layer `max_window_layers` on.
    Upper(u64),
    /// In every second layer, from the first on.
    Alternate(u64),
}

const PRE_NORMS: &[&str] = &["input_layernorm", "post_attention_layernorm"];

pub const LLAMA: Family = Family {
    name: "llama",
    vocab: 32000,
    hidden: 4096,
    intermediate: 11008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    positions: 2048,
    tied: false,
    qkv_bias: Bias::Field("attention_bias", false),
    o_bias: Bias::Field("attention_bias", false),
    mlp: Mlp::Gated,
    mlp_bias: Bias::Field("mlp_bias", false),
    fused: false,
    norms: PRE_NORMS,
    norm_bias: false,
    qk_norm: QkNorm::Never,
    window: Window::Never,
};

pub const MISTRAL: Family = Family {
    name: "mistral",
    intermediate: 14336,
    kv_heads: Some(8),
    positions: 131_072,
    qkv_bias: Bias::Never,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::Every(Some(4096)),
    ..LLAMA
};

pub const MIXTRAL: Family =
    Family { name: "mixtral", mlp: Mlp::Experts, window: Window::Every(None), ..MISTRAL };

pub const QWEN2: Family = Family {
    name: "qwen2",
    vocab: 151_936,
    intermediate: 22016,
    kv_heads: Some(32),
    positions: 32768,
    qkv_bias: Bias::Always,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::Upper(28),
    ..LLAMA
};

pub const QWEN3: Family = Family {
    name: "qwen3",
    head_dim: Some(128),
    qkv_bias: Bias::Field("attention_bias", false),
    o_bias: Bias::Field("attention_bias", false),
    qk_norm: QkNorm::Shared,
    ..QWEN2
};

pub const GEMMA: Family = Family {
    name: "gemma",
    vocab: 256_000,
    hidden: 3072,
    intermediate: 24576,
    layers: 28,
    heads: 16,
    kv_heads: Some(16),
    head_dim: Some(256),
    positions: 8192,
    tied: true,
    mlp_bias: Bias::Never,
    ..LLAMA
};

pub const GEMMA2: Family = Family {
    name: "gemma2",
    hidden: 2304,
    intermediate: 9216,
    layers: 26,
    heads: 8,
    kv_heads: Some(4),
    norms: &[
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ],
    window: Window::Alternate(4096),
    ..GEMMA
};

pub const PHI3: Family = Family {
    name: "phi3",
    vocab: 32064,
    hidden: 3072,
    intermediate: 8192,
    positions: 4096,
    qkv_bias: Bias::Never,
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    fused: true,
    window: Window::Every(None),
    ..LLAMA
};

pub const SMOLLM3: Family = Family {
    name: "smollm3",
    vocab: 128_256,
    hidden: 2048,
    layers: 36,
    heads: 16,
    kv_heads: Some(4),
    positions: 32768,
    tied: true,
    window: Window::Upper(28),
    ..LLAMA
};

pub const STABLELM: Family = Family {
    name: "stablelm",
    vocab: 50304,
    hidden: 2560,
    intermediate: 6912,
    kv_heads: Some(32),
    positions: 4096,
    qkv_bias: Bias::Field("use_qkv_bias", false),
    o_bias: Bias::Never,
    mlp_bias: Bias::Never,
    norm_bias: true,
    qk_norm: QkNorm::PerHead,
    ..LLAMA
};

pub const STARCODER2: Family = Family {
    name: "starcoder2",
    vocab: 49152,
    hidden: 3072,
    intermediate: 12288,
    layers: 30,
    heads: 24,
    kv_heads: Some(2),
    positions: 4096,
    tied: true,
    qkv_bias: Bias::Field("use_bias", true),
    o_bias: Bias::Field("use_bias", true),
    mlp: Mlp::Plain("mlp.c_fc", "mlp.c_proj"),
    mlp_bias: Bias::Field("use_bias", true),
    norm_bias: true,
    window: Window::Every(None),
    ..LLAMA
};

/// Reads a config.json of a family.
pub fn read(fields: &Fields, family: &Family) -> Result<Shapes, Unknown> {
    let hidden = fields.size("hidden_size", family.hidden)?;
    let heads = fields.count("num_attention_heads", family.heads)?;
    let kv_heads = fields.optional("num_key_value_heads", family.kv_heads)?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(
            fields.wrong("num_key_value_heads", &format!("a divisor of `num_attention_heads` ({heads})"))
        );
    }
    let head_dim = match fields.optional("head_dim", family.head_dim)? {
        Some(head_dim) => head_dim,
        None => fields.head_dim(("hidden_size", hidden), ("num_attention_heads", heads))?,
    };
    let layers = fields.count("num_hidden_layers", family.layers)? as u32;
    let (window, windowed_layers) = family.window.read(fields, layers)?;
    let experts = match family.mlp {
        Mlp::Experts => Some(Experts {
            count: fields.count("num_local_experts", 8)?,
            per_token: fields.count("num_experts_per_tok", 2)?,
        }),
        Mlp::Gated | Mlp::Plain(..) => None,
    };
    if let Some(Experts { count, per_token }) = experts
        && per_token > count
    {
        return Err(fields.wrong("num_experts_per_tok", &format!("at most `num_local_experts` ({count})")));
    }
    let mut shapes = Shapes {
        family: family.name,
        tensors: Vec::new(),
        layers,
        hidden,
        intermediate: fields.size("intermediate_size", family.intermediate)?,
        heads,
        kv_heads,
        head_dim,
        vocab: fields.size("vocab_size", family.vocab)?,
        positions: fields.size("max_position_embeddings", family.positions)?,
        tied: fields.flag("tie_word_embeddings", family.tied)?,
        window,
        windowed_layers,
        gated: !matches!(family.mlp, Mlp::Plain(..)),
        parallel: family.name == STABLELM.name && fields.flag("use_parallel_residual", false)?,
        experts,
    };
    shapes.tensors = tensors(fields, family, &shapes)?;
    Ok(shapes)
}

fn tensors(fields: &Fields, family: &Family, shapes: &Shapes) -> Result<Vec<Tensor>, Unknown> {
    let qkv_bias = family.qkv_bias.read(fields)?;
    let o_bias = family.o_bias.read(fields)?;
    let mlp_bias = family.mlp_bias.read(fields)?;
    let qk_norm = match family.qk_norm {
        QkNorm::PerHead if !fields.flag("qk_layernorm", false)? => QkNorm::Never,
        other => other,
    };
    let mut sheet = Sheet::default();
    sheet.table("model.embed_tokens", [shapes.vocab, shapes.hidden], Kind::Embedding);
    for layer in 0..shapes.layers {
        sheet.at(format!("model.layers.{layer}."), Some(layer));
        for norm in family.norms.iter().filter(|norm| !(shapes.parallel && **norm == PRE_NORMS[1])) {
            sheet.norm(norm, shapes.hidden, family.norm_bias);
        }
        attention(&mut sheet, family.fused, shapes, qkv_bias, o_bias);
        norms_of_heads(&mut sheet, qk_norm, shapes);
        mlp(&mut sheet, family, shapes, mlp_bias);
    }
    sheet.at(String::new(), None);
    sheet.norm("model.norm", shapes.hidden, family.norm_bias);
    if !shapes.tied {
        sheet.table("lm_head", [shapes.vocab, shapes.hidden], Kind::Head);
    }
    Ok(sheet.tensors)
}

fn attention(sheet: &mut Sheet, fused: bool, shapes: &Shapes, qkv_bias: bool, o_bias: bool) {
    let h = shapes.hidden;
    let (q, kv) = (shapes.heads * shapes.head_dim, shapes.kv_heads * shapes.head_dim);
    let inputs: &[(&str, u64)] = match fused {
        true => &[("qkv_proj", q + 2 * kv)],
        false => &[("q_proj", q), ("k_proj", kv), ("v_proj", kv)],
    };
    for (name, out) in inputs {
        sheet.linear(&format!("self_attn.{name}"), [*out, h], qkv_bias, Place::AttentionIn);
    }
    sheet.linear("self_attn.o_proj", [h, q], o_bias, Place::AttentionOut);
}

fn norms_of_heads(sheet: &mut Sheet, qk_norm: QkNorm, shapes: &Shapes) {
    match qk_norm {
        QkNorm::Never => {}
        QkNorm::Shared => {
            sheet.norm("self_attn.q_norm", shapes.head_dim, false);
            sheet.norm("self_attn.k_norm", shapes.head_dim, false);
        }
        QkNorm::PerHead => {
            for (name, heads) in [("q_layernorm", shapes.heads), ("k_layernorm", shapes.kv_heads)] {
                for head in 0..heads {
                    sheet.norm(&format!("self_attn.{name}.norms.{head}"), shapes.head_dim, false);
                }
            }
        }
    }
}

fn mlp(sheet: &mut Sheet, family: &Family, shapes: &Shapes, bias: bool) {
    let (h, i) = (shapes.hidden, shapes.intermediate);
    match family.mlp {
        Mlp::Gated if family.fused => {
            sheet.linear("mlp.gate_up_proj", [2 * i, h], bias, Place::MlpIn);
            sheet.linear("mlp.down_proj", [h, i], bias, Place::MlpOut);
        }
        Mlp::Gated => {
            sheet.linear("mlp.gate_proj", [i, h], bias, Place::MlpIn);
            sheet.linear("mlp.up_proj", [i, h], bias, Place::MlpIn);
            sheet.linear("mlp.down_proj", [h, i], bias, Place::MlpOut);
        }
        Mlp::Plain(up, down) => {
            sheet.linear(up, [i, h], bias, Place::MlpIn);
            sheet.linear(down, [h, i], bias, Place::MlpOut);
        }
        Mlp::Experts => {
            let count = shapes.experts.map_or(0, |experts| experts.count);
            let block = "block_sparse_moe";
            sheet.add(&format!("{block}.gate.weight"), &[count, h], Kind::Router, Some(Place::MlpIn));
            for expert in 0..count {
                for (name, shape, place) in [
                    ("w1", [i, h], Place::MlpIn),
                    ("w2", [h, i], Place::MlpOut),
                    ("w3", [i, h], Place::MlpIn),
                ] {
                    let name = format!("{block}.experts.{expert}.{name}.weight");
                    sheet.add(&name, &shape, Kind::Expert, Some(place));
                }
            }
        }
    }
}

impl Bias {
    fn read(self, fields: &Fields) -> Result<bool, Unknown> {
        match self {
            Bias::Never => Ok(false),
            Bias::Always => Ok(true),
            Bias::Field(name, default) => fields.flag(name, default),
        }
    }
}

impl Window {
    /// Returns the tokens of a window and the number of layers that have one.
    fn read(self, fields: &Fields, layers: u32) -> Result<(Option<u64>, u32), Unknown> {
        let window = |default| fields.optional("sliding_window", default);
        let (window, count) = match self {
            Window::Never => (None, 0),
            Window::Every(default) => (window(default)?, layers),
            Window::Upper(_) if !fields.flag("use_sliding_window", false)? => (None, 0),
            Window::Upper(first) => {
                // Zero is allowed: then every layer has one.
                let first = match fields.0.get("max_window_layers").and_then(serde_json::Value::as_u64) {
                    Some(first) => first,
                    None => fields.size("max_window_layers", first)?,
                };
                (window(Some(4096))?, layers.saturating_sub(first.min(u64::from(layers)) as u32))
            }
            Window::Alternate(default) => (window(Some(default))?, layers.div_ceil(2)),
        };
        Ok((window, if window.is_some() { count } else { 0 }))
    }
}
