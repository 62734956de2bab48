//! GPT-2. Matrices lie `[in, out]` in the checkpoint, and q, k and v are one.

use super::Sheet;
use crate::figures::architecture::{Kind, Place, Shapes};
use crate::figures::config::{Fields, Unknown};

pub fn read(fields: &Fields) -> Result<Shapes, Unknown> {
    let hidden = fields.size("n_embd", 768)?;
    let heads = fields.count("n_head", 12)?;
    let head_dim = fields.head_dim(("n_embd", hidden), ("n_head", heads))?;
    let intermediate = fields.optional("n_inner", None)?.unwrap_or(4 * hidden);
    let layers = fields.count("n_layer", 12)? as u32;
    let vocab = fields.size("vocab_size", 50257)?;
    let positions = fields.size("n_positions", 1024)?;
    let tied = fields.flag("tie_word_embeddings", true)?;
    let mut sheet = Sheet::default();
    sheet.table("transformer.wte", [vocab, hidden], Kind::Embedding);
    sheet.table("transformer.wpe", [positions, hidden], Kind::Positions);
    for layer in 0..layers {
        sheet.at(format!("transformer.h.{layer}."), Some(layer));
        let mut transposed = |name: &str, input: u64, out: u64, place: Place| {
            sheet.add(&format!("{name}.weight"), &[input, out], Kind::Linear, Some(place));
            sheet.add(&format!("{name}.bias"), &[out], Kind::Bias, None);
        };
        transposed("attn.c_attn", hidden, 3 * hidden, Place::AttentionIn);
        transposed("attn.c_proj", hidden, hidden, Place::AttentionOut);
        transposed("mlp.c_fc", hidden, intermediate, Place::MlpIn);
        transposed("mlp.c_proj", intermediate, hidden, Place::MlpOut);
        sheet.norm("ln_1", hidden, true);
        sheet.norm("ln_2", hidden, true);
    }
    sheet.at(String::new(), None);
    sheet.norm("transformer.ln_f", hidden, true);
    if !tied {
        sheet.table("lm_head", [vocab, hidden], Kind::Head);
    }
    Ok(Shapes {
        family: "gpt2",
        tensors: sheet.tensors,
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads: heads,
        head_dim,
        vocab,
        positions,
        tied,
        window: None,
        windowed_layers: 0,
        gated: false,
        parallel: false,
        experts: None,
    })
}
