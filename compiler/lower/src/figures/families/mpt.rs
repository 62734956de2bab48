//! MPT: ALiBi in place of positions, no biases; norms have weights only.

use super::Sheet;
use crate::figures::architecture::{Kind, Place, Shapes};
use crate::figures::config::{Fields, Unknown};

pub fn read(fields: &Fields) -> Result<Shapes, Unknown> {
    if !fields.flag("no_bias", true)? {
        return Err(Unknown::of("no_bias", "the shapes of an MPT with biases are not known".into()));
    }
    let attention = fields.object("attn_config");
    if attention.flag("qk_ln", false)?
        || attention.text("attn_type").is_some_and(|kind| kind != "multihead_attention")
    {
        return Err(Unknown::of(
            "attn_config",
            "the shapes of an MPT with `qk_ln` or another attention than `multihead_attention` are not known"
                .into(),
        ));
    }
    if !attention.flag("alibi", true)? {
        return Err(Unknown::of("attn_config", "the shapes of an MPT without `alibi` are not known".into()));
    }
    let hidden = fields.size("d_model", 2048)?;
    let heads = fields.count("n_heads", 16)?;
    let head_dim = fields.head_dim(("d_model", hidden), ("n_heads", heads))?;
    let intermediate = hidden * fields.size("expansion_ratio", 4)?;
    let layers = fields.count("n_layers", 24)? as u32;
    let vocab = fields.size("vocab_size", 50368)?;
    let tied = fields.flag("tie_word_embeddings", true)?;
    let mut sheet = Sheet::default();
    sheet.table("transformer.wte", [vocab, hidden], Kind::Embedding);
    for layer in 0..layers {
        sheet.at(format!("transformer.blocks.{layer}."), Some(layer));
        sheet.norm("norm_1", hidden, false);
        sheet.linear("attn.Wqkv", [3 * hidden, hidden], false, Place::AttentionIn);
        sheet.linear("attn.out_proj", [hidden, hidden], false, Place::AttentionOut);
        sheet.norm("norm_2", hidden, false);
        sheet.linear("ffn.up_proj", [intermediate, hidden], false, Place::MlpIn);
        sheet.linear("ffn.down_proj", [hidden, intermediate], false, Place::MlpOut);
    }
    sheet.at(String::new(), None);
    sheet.norm("transformer.norm_f", hidden, false);
    if !tied {
        sheet.table("lm_head", [vocab, hidden], Kind::Head);
    }
    Ok(Shapes {
        family: "mpt",
        tensors: sheet.tensors,
        layers,
        hidden,
        intermediate,
        heads,
        kv_heads: heads,
        head_dim,
        vocab,
        positions: fields.size("max_seq_len", 2048)?,
        tied,
        window: None,
        windowed_layers: 0,
        gated: false,
        parallel: false,
        experts: None,
    })
}
