//! What axolotl trains and the language does not: refused, since a recipe without it would learn something else.

use crate::section::Section;

/// Switches that make another kind of training, with the reason.
const SWITCHES: [(&str, &str); 19] = [
    ("reward_model", "a reward model is trained, which the language does not do"),
    ("process_reward_model", "a reward model is trained, which the language does not do"),
    ("processor_type", "images or sound are trained on, which the language does not do"),
    ("gptq", "the base is quantised by GPTQ, which the language does not read"),
    ("lora_model_dir", "training goes on from an adapter, which a stage cannot start from"),
    ("peft_layers_to_transform", "the adapter is on some layers only"),
    ("peft_layers_pattern", "the adapter is on some layers only"),
    ("peft_layer_replication", "layers are replicated"),
    ("peft_trainable_token_indices", "single tokens are trained beside the adapter"),
    ("lora_target_parameters", "the adapter is on parameters that are no linear layers"),
    ("lora_rank_pattern", "ranks differ by a pattern"),
    ("lisa_n_layers", "LISA trains changing layers"),
    ("unfrozen_parameters", "parameters are frozen by patterns of their names"),
    ("use_pose", "positions are skipped to lengthen the context"),
    ("use_eaft", "the loss is weighted by entropy"),
    ("qat", "training imitates quantisation"),
    ("reinit_weights", "weights are drawn anew"),
    ("kd_trainer", "a teacher is distilled"),
    ("max_packed_sequence_len", "axolotl has removed this key and stops on it"),
];

/// Plugins that change kernels or reports only.
const HARMLESS: [&str; 7] =
    ["Liger", "CutCrossEntropy", "LMEval", "Kernels", "SwanLab", "ChunkedCE", "TransformersV5"];

/// Refuses what has no counterpart and would change what is learnt.
pub(crate) fn check(config: &Section) {
    for (key, reason) in SWITCHES {
        if config.is_on(key) {
            config.refuse(key, format!("{reason} (`{key}`)"), "train this with axolotl, or remove the key");
        }
    }
    if let Some(adapter) =
        config.text("adapter").filter(|adapter| !matches!(adapter.as_str(), "lora" | "qlora"))
    {
        config.refuse(
            "adapter",
            format!("the language has no adapter `{adapter}`"),
            "write `lora` or `qlora`",
        );
    }
    for plugin in config.texts("plugins") {
        let class = plugin.rsplit('.').next().unwrap_or_default();
        if !HARMLESS.iter().any(|harmless| class.starts_with(harmless)) {
            let message = format!("the plugin `{class}` may change what is learnt");
            config.refuse("plugins", message, "remove it when the recipe is to do without it");
        }
    }
    if config.is_on("plugins") {
        config.dropped("plugins", "kernels are chosen by the compiler and compute the same");
    }
    check_adapter(config);
    if config.flag("fp8") {
        config.refuse("fp8", "fp8 is no precision of the language", "write `bf16: true`");
    }
    if config.is_on("rope_scaling") {
        config.refuse(
            "rope_scaling",
            "axolotl has removed this key and stops on it",
            "write it under `overrides_of_model_config`",
        );
    }
}

/// What axolotl itself refuses about adapters.
fn check_adapter(config: &Section) {
    let adapter = config.text("adapter");
    for key in ["load_in_8bit", "load_in_4bit"] {
        if adapter.is_none() && config.flag(key) {
            let message = format!(
                "`{key}` without `adapter`: quantised weights cannot be trained, and axolotl refuses it too"
            );
            config.refuse(key, message, "write `adapter: qlora`, or remove the key");
        }
    }
    let is_four = config.flag("load_in_4bit");
    if adapter.as_deref() == Some("qlora") && !is_four {
        config.refuse(
            "adapter",
            "`adapter: qlora` needs `load_in_4bit: true`, and axolotl refuses it without",
            "write `load_in_4bit: true`",
        );
    }
    if is_four && config.flag("load_in_8bit") {
        config.refuse("load_in_8bit", "the base is loaded in 4 and in 8 bits", "keep one of them");
    }
}
