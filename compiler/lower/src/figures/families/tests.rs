//! Known totals, and what fields do.

use crate::figures::architecture::{Experts, Kind, shapes};
use serde_json::{Value, json};

fn check(config: Value, total: u64) {
    assert_eq!(shapes(&config).unwrap().parameters(), total, "{config}");
}

#[test]
fn gpt2_from_its_defaults() {
    check(json!({"model_type": "gpt2"}), 124_439_808);
    check(json!({"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25}), 1_557_611_200);
}

#[test]
fn llamas() {
    check(json!({"model_type": "llama"}), 6_738_415_616);
    check(
        json!({"model_type": "llama", "vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8}),
        8_030_261_248,
    );
    let smollm2 = |hidden, intermediate, layers, heads, kv_heads| {
        json!({"model_type": "llama", "vocab_size": 49152,
        "tie_word_embeddings": true, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads})
    };
    check(smollm2(576, 1536, 30, 9, 3), 134_515_008);
    check(smollm2(960, 2560, 32, 15, 5), 361_821_120);
    check(smollm2(2048, 8192, 24, 32, 32), 1_711_376_384);
}

#[test]
fn mistral_and_mixtral() {
    check(json!({"model_type": "mistral"}), 7_241_732_096);
    check(json!({"model_type": "mixtral"}), 46_702_792_704);
    check(
        json!({"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 6144, "intermediate_size": 16384,
            "num_hidden_layers": 56, "num_attention_heads": 48, "num_key_value_heads": 8}),
        140_620_634_112,
    );
    let mixtral = shapes(&json!({"model_type": "mixtral"})).unwrap();
    assert_eq!(mixtral.experts, Some(Experts { count: 8, per_token: 2 }));
    assert_eq!(mixtral.active_parameters(), 12_879_925_248);
}

#[test]
fn gemmas() {
    check(json!({"model_type": "gemma"}), 8_537_680_896);
    check(json!({"model_type": "gemma2"}), 2_614_341_888);
}

#[test]
fn qwens() {
    // Qwen2.5-0.5B and 7B, Qwen3-0.6B.
    check(
        json!({"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": true}),
        494_032_768,
    );
    check(
        json!({"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4}),
        7_615_616_512,
    );
    check(
        json!({"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": true}),
        596_049_920,
    );
}

#[test]
fn phi3_mini() {
    check(json!({"model_type": "phi3"}), 3_821_079_552);
}

#[test]
fn smollm3_3b() {
    check(json!({"model_type": "smollm3"}), 3_075_098_624);
}

#[test]
fn stablelm_3b() {
    check(json!({"model_type": "stablelm"}), 2_795_443_200);
}

#[test]
fn starcoder2s() {
    check(json!({"model_type": "starcoder2"}), 3_030_371_328);
    check(
        json!({"model_type": "starcoder2", "hidden_size": 6144, "intermediate_size": 24576, "num_hidden_layers": 40,
            "num_attention_heads": 48, "num_key_value_heads": 4, "tie_word_embeddings": false}),
        15_957_889_024,
    );
}

#[test]
fn neox_and_pythias() {
    check(json!({"model_type": "gpt_neox"}), 20_554_567_680);
    let pythia = |vocab, hidden: u64, layers, heads| {
        json!({"model_type": "gpt_neox", "vocab_size": vocab, "hidden_size": hidden,
        "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads})
    };
    check(pythia(50304, 512, 6, 8), 70_426_624);
    check(pythia(50304, 768, 12, 12), 162_322_944);
    check(pythia(50432, 4096, 32, 32), 6_857_302_016);
}

#[test]
fn mpt_7b() {
    check(
        json!({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432}),
        6_649_286_656,
    );
    let biased = shapes(&json!({"model_type": "mpt", "no_bias": false})).unwrap_err();
    assert_eq!(biased.field.as_deref(), Some("no_bias"));
}

#[test]
fn falcons_under_old_and_new_names() {
    check(json!({"model_type": "falcon"}), 6_921_720_704);
    check(
        json!({"model_type": "RefinedWebModel", "hidden_size": 4544, "n_head": 71, "n_layer": 32, "vocab_size": 65024,
            "multi_query": true, "parallel_attn": true, "bias": false, "alibi": false}),
        6_921_720_704,
    );
    let forty = json!({"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8,
        "num_hidden_layers": 60, "new_decoder_architecture": true});
    check(forty, 41_303_293_952);
    check(
        json!({"model_type": "RefinedWeb", "hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60}),
        41_303_293_952,
    );
}

/// What transformers leaves out of a config is the default; what is null is not.
#[test]
fn null_is_not_absent() {
    let of = |kv_heads: Option<Value>| {
        let mut config = json!({"model_type": "mistral"});
        if let Some(value) = kv_heads {
            config["num_key_value_heads"] = value;
        }
        shapes(&config).unwrap().kv_heads
    };
    assert_eq!(of(None), 8);
    assert_eq!(of(Some(Value::Null)), 32);
    assert_eq!(of(Some(json!(4))), 4);
}

#[test]
fn windows() {
    let of = |config: Value| {
        let shapes = shapes(&config).unwrap();
        (shapes.window, shapes.windowed_layers)
    };
    assert_eq!(of(json!({"model_type": "mistral"})), (Some(4096), 32));
    assert_eq!(of(json!({"model_type": "mistral", "sliding_window": null})), (None, 0));
    assert_eq!(of(json!({"model_type": "qwen2", "sliding_window": 4096})), (None, 0));
    assert_eq!(of(json!({"model_type": "qwen2", "use_sliding_window": true})), (Some(4096), 4));
    let all = json!({"model_type": "qwen2", "use_sliding_window": true, "max_window_layers": 0});
    assert_eq!(of(all), (Some(4096), 32));
    assert_eq!(of(json!({"model_type": "gemma2"})), (Some(4096), 13));
    assert_eq!(of(json!({"model_type": "llama", "sliding_window": 4096})), (None, 0));
}

#[test]
fn what_is_wrong_is_named() {
    let field = |config: Value| shapes(&config).unwrap_err().field.unwrap();
    assert_eq!(field(json!({})), "model_type");
    assert_eq!(field(json!({"model_type": "mamba"})), "model_type");
    assert_eq!(field(json!({"model_type": "llama", "hidden_size": 0})), "hidden_size");
    assert_eq!(field(json!({"model_type": "llama", "hidden_size": 4097})), "hidden_size");
    assert_eq!(field(json!({"model_type": "llama", "num_key_value_heads": 5})), "num_key_value_heads");
    assert_eq!(field(json!({"model_type": "llama", "tie_word_embeddings": 1})), "tie_word_embeddings");
    assert_eq!(field(json!({"model_type": "llama", "hidden_size": 1u64 << 40})), "hidden_size");
    assert_eq!(field(json!({"model_type": "llama", "num_hidden_layers": 4_000_000})), "num_hidden_layers");
    let huge = json!({"model_type": "gpt2", "n_embd": 1 << 24, "n_head": 1, "n_layer": 1});
    assert_eq!(shapes(&huge).unwrap_err().field, None);
    assert_eq!(field(json!({"model_type": "mixtral", "num_experts_per_tok": 9})), "num_experts_per_tok");
}

/// Every family: names are unique, matrices of layers say what they multiply, and a tied head stands once.
#[test]
fn tensors_are_well_formed() {
    for (family, _) in super::FAMILIES {
        let shapes = shapes(&json!({"model_type": family})).unwrap();
        let names: std::collections::HashSet<&str> = shapes.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), shapes.tensors.len(), "{family}");
        for tensor in &shapes.tensors {
            assert_eq!(tensor.kind.is_linear(), tensor.place.is_some(), "{}", tensor.name);
            assert_eq!(
                tensor.name.contains(&format!(".{}.", tensor.layer.unwrap_or(u32::MAX))),
                tensor.layer.is_some(),
                "{}",
                tensor.name
            );
        }
        let heads = shapes.tensors.iter().filter(|tensor| tensor.kind == Kind::Head).count();
        assert_eq!(heads, usize::from(!shapes.tied), "{family}");
    }
}

/// Where programs are built too, both know the same tensors.
#[test]
fn shapes_equal_those_of_models_that_are_built() {
    let llama = json!({"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": true, "mlp_bias": true});
    let gpt2 =
        json!({"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 48});
    for (family, fields) in [("llama", llama), ("gpt2", gpt2)] {
        for tied in [true, false] {
            let mut fields: Vec<_> = fields.as_object().unwrap().clone().into_iter().collect();
            fields.push(("tie_word_embeddings".into(), json!(tied)));
            let config = crate::models::Model::new_config(family, &fields);
            let model = crate::models::Model::from_config(&config).unwrap();
            let mut built: Vec<_> =
                model.weights().into_iter().map(|weight| (weight.tensor, weight.shape)).collect();
            let mut read: Vec<_> = shapes(&config)
                .unwrap()
                .tensors
                .into_iter()
                .map(|tensor| (tensor.name, tensor.shape))
                .collect();
            built.sort();
            read.sort();
            assert_eq!(built, read);
        }
    }
}
