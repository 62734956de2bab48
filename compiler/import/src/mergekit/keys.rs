//! The keys of mergekit, and of mergekit-multi, which reads several documents.

use crate::keys::{Group, Tool};

pub(crate) const TOOL: Tool = Tool { name: "mergekit", groups: GROUPS, synonyms: SYNONYMS };

const SYNONYMS: &[(&str, &str)] =
    &[("method", "merge_method"), ("base", "base_model"), ("weights", "weight"), ("torch_dtype", "dtype")];

const GROUPS: &[Group] = &[
    Group {
        why: "a matter of how it is computed, not of what comes out",
        keys: "parameters.int8_mask models[].parameters.int8_mask slices[].parameters.int8_mask allow_crimes",
    },
    Group {
        why: "the template of the result is that of its tokenizer",
        keys: "chat_template",
    },
    Group {
        why: "acts only in other methods than this one",
        keys: "parameters.normalize parameters.rescale parameters.lambda parameters.t parameters.gamma
            parameters.weight parameters.density parameters.epsilon parameters.scale parameters.filter_wise
            parameters.normalize_weights parameters.eps parameters.max_iter parameters.tol
            parameters.nuslerp_flatten parameters.nuslerp_row_wise parameters.select_topk parameters.r
            parameters.alpha parameters.swapping parameters.random_mask parameters.random_mask_seed
            parameters.rectify_embed parameters.embed_slerp parameters.consensus_method parameters.majority_sign_method
            models[].parameters.weight models[].parameters.density models[].parameters.epsilon
            models[].parameters.gamma models[].parameters.scale models[].parameters.t models[].parameters.lambda
            models[].parameters.normalize models[].parameters.select_topk
            slices[].parameters.t slices[].parameters.weight slices[].parameters.density slices[].parameters.scale
            slices[].parameters.normalize slices[].sources[].parameters.weight slices[].sources[].parameters.density
            slices[].sources[].parameters.scale slices[].sources[].parameters.epsilon
            slices[].sources[].parameters.gamma slices[].sources[].parameters.t",
    },
    Group {
        why: "has no word in the language",
        keys: "name merge_method base_model base_model.model base_model.model.path base_model.model.revision
            base_model.lora base_model.lora.path base_model.lora.revision base_model.override_architecture
            base_model.path base_model.revision models models[].model models[].model.model
            models[].model.model.path models[].model.model.revision models[].model.lora models[].model.lora.path
            models[].model.lora.revision models[].model.path models[].model.revision
            models[].model.override_architecture models[].parameters
            slices slices[].sources[].model slices[].sources[].layer_range slices[].parameters modules
            parameters dtype out_dtype tokenizer_source tokenizer tokenizer.source tokenizer.tokens
            tokenizer.pad_to_multiple_of",
    },
];
