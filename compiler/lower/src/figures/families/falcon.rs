//! Falcon, also under its first names and fields (`RefinedWebModel`: `n_layer`, `n_head`, `n_head_kv`).
//!
//! q, k and v are one matrix; with `multi_query` all heads share one key and one value. In the new
//! decoder architecture there are groups of heads and a norm each for attention and MLP.

use super::Sheet;
use crate::figures::architecture::{Kind, Place, Shapes};
use crate::figures::config::{Fields, Unknown};

pub fn read(fields: &Fields) -> Result<Shapes, Unknown> {
    let hidden = fields.size("hidden_size", 4544)?;
    let heads = fields.first_of(&["num_attention_heads", "n_head"], 71)?;
    let head_dim = fields.head_dim(("hidden_size", hidden), ("num_attention_heads", heads))?;
    // The 40B was first published with groups of heads and without the field that says so.
    let grouped = fields.text("model_type") == Some("RefinedWeb");
    let new_decoder = fields.flag("new_decoder_architecture", grouped)?;
    let kv_heads = match (new_decoder, fields.flag("multi_query", true)?) {
        (true, _) => fields.first_of(&["num_kv_heads", "n_head_kv"], heads)?,
        (false, true) => 1,
        (false, false) => heads,
    };
    let intermediate = fields.optional("ffn_hidden_size", None)?.unwrap_or(4 * hidden);
    let layers = fields.first_of(&["num_hidden_layers", "n_layer"], 32)? as u32;
    let vocab = fields.size("vocab_size", 65024)?;
    let tied = fields.flag("tie_word_embeddings", true)?;
    let bias = fields.flag("bias", false)?;
    let parallel = new_decoder || fields.flag("parallel_attn", true)?;
    let norms: &[&str] = match (new_decoder, fields.optional("num_ln_in_parallel_attn", None)?) {
        (true, None | Some(2)) => &["ln_attn", "ln_mlp"],
        _ if parallel => &["input_layernorm"],
        _ => &["input_layernorm", "post_attention_layernorm"],
    };
    let mut sheet = Sheet::default();
    sheet.table("transformer.word_embeddings", [vocab, hidden], Kind::Embedding);
    for layer in 0..layers {
        sheet.at(format!("transformer.h.{layer}."), Some(layer));
        for norm in norms {
            sheet.norm(norm, hidden, true);
        }
        let qkv = (heads + 2 * kv_heads) * head_dim;
        sheet.linear("self_attention.query_key_value", [qkv, hidden], bias, Place::AttentionIn);
        sheet.linear("self_attention.dense", [hidden, hidden], bias, Place::AttentionOut);
        sheet.linear("mlp.dense_h_to_4h", [intermediate, hidden], bias, Place::MlpIn);
        sheet.linear("mlp.dense_4h_to_h", [hidden, intermediate], bias, Place::MlpOut);
    }
    sheet.at(String::new(), None);
    sheet.norm("transformer.ln_f", hidden, true);
    if !tied {
        sheet.table("lm_head", [vocab, hidden], Kind::Head);
    }
    Ok(Shapes {
        family: "falcon",
        tensors: sheet.tensors,
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads,
        head_dim,
        vocab,
        positions: fields.size("max_position_embeddings", 2048)?,
        tied,
        window: None,
        windowed_layers: 0,
        gated: false,
        parallel,
        experts: None,
    })
}
