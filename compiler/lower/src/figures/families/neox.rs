//! GPT-NeoX, Pythia among it: q, k and v are one matrix, attention and MLP stand side by side.

use super::Sheet;
use crate::figures::architecture::{Kind, Place, Shapes};
use crate::figures::config::{Fields, Unknown};

pub fn read(fields: &Fields) -> Result<Shapes, Unknown> {
    let hidden = fields.size("hidden_size", 6144)?;
    let heads = fields.count("num_attention_heads", 64)?;
    let head_dim = fields.head_dim(("hidden_size", hidden), ("num_attention_heads", heads))?;
    let intermediate = fields.size("intermediate_size", 24576)?;
    let layers = fields.count("num_hidden_layers", 44)? as u32;
    let vocab = fields.size("vocab_size", 50432)?;
    let tied = fields.flag("tie_word_embeddings", false)?;
    let bias = fields.flag("attention_bias", true)?;
    let mut sheet = Sheet::default();
    sheet.table("gpt_neox.embed_in", [vocab, hidden], Kind::Embedding);
    for layer in 0..layers {
        sheet.at(format!("gpt_neox.layers.{layer}."), Some(layer));
        sheet.norm("input_layernorm", hidden, true);
        sheet.norm("post_attention_layernorm", hidden, true);
        sheet.linear("attention.query_key_value", [3 * hidden, hidden], bias, Place::AttentionIn);
        sheet.linear("attention.dense", [hidden, hidden], bias, Place::AttentionOut);
        sheet.linear("mlp.dense_h_to_4h", [intermediate, hidden], true, Place::MlpIn);
        sheet.linear("mlp.dense_4h_to_h", [hidden, intermediate], true, Place::MlpOut);
    }
    sheet.at(String::new(), None);
    sheet.norm("gpt_neox.final_layer_norm", hidden, true);
    if !tied {
        sheet.table("embed_out", [vocab, hidden], Kind::Head);
    }
    Ok(Shapes {
        family: "gpt_neox",
        tensors: sheet.tensors,
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads: heads,
        head_dim,
        vocab,
        positions: fields.size("max_position_embeddings", 2048)?,
        tied,
        window: None,
        windowed_layers: 0,
        gated: false,
        parallel: fields.flag("use_parallel_residual", true)?,
        experts: None,
    })
}
