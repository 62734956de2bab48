//! Facts of a small Llama, its tokenizer and its prepared data.

use lang::facts::{ModelFact, PartFact, PreparedFact, TokenizerFact};
use serde_json::json;

pub fn tokenizer() -> TokenizerFact {
    let mark = |text: &str, id| Some((text.to_owned(), id));
    TokenizerFact {
        vocab_size: 96,
        bos: mark("<s>", 1),
        eos: mark("</s>", 2),
        pad: mark("<pad>", 0),
        special: vec![("<|im_start|>".into(), 3), ("<|im_end|>".into(), 4)],
        chat_template: None,
        files: vec!["base/tokenizer.json".into()],
        memory: None,
        problem: None,
        partial: false,
    }
}

pub fn model() -> ModelFact {
    ModelFact {
        config: json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 96,
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 128, "torch_dtype": "bfloat16"}),
        tensors: None,
        weight_files: vec!["base/model.safetensors".into()],
        generation_config: Some(json!({"eos_token_id": [2, 7]})),
        chat_template: None,
        problem: None,
        partial: false,
        pickled: None,
    }
}

pub fn prepared(rows: u64) -> PreparedFact {
    let part = |rows: u64| PartFact {
        rows,
        tokens: rows * 40,
        trained_tokens: rows * 20,
        longest: 60,
        sequences: rows,
        longest_pair: 90,
        shared_tokens: rows * 10,
    };
    PreparedFact { train: part(rows), eval: part(rows / 10) }
}
