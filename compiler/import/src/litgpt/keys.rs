//! The keys of LitGPT 0.5: `finetune_lora`, `finetune_full`, `finetune_adapter` and `pretrain`.

use crate::keys::{Group, Tool};

pub(crate) const TOOL: Tool = Tool { name: "LitGPT", groups: GROUPS, synonyms: SYNONYMS };

const SYNONYMS: &[(&str, &str)] = &[
    ("num_epochs", "epochs"),
    ("batch_size", "global_batch_size"),
    ("learning_rate", "optimizer"),
    ("warmup_steps", "lr_warmup_steps"),
    ("gradient_clipping", "max_norm"),
    ("max_grad_norm", "max_norm"),
    ("lora_rank", "lora_r"),
    ("base_model", "checkpoint_dir"),
];

const GROUPS: &[Group] = &[
    Group {
        why: "devices and launchers are not in a recipe: the same recipe runs on any of them",
        keys: "devices num_nodes",
    },
    Group {
        why: "nothing is sent to a tracker; metrics lie in the folder of the run",
        keys: "logger_name log log.project log.run log.group log.teamspace log.metadata log.log_model log.save_logs
            log.checkpoint_name train.log_interval",
    },
    Group {
        why: "results are saved in the folder of the run",
        keys: "out_dir",
    },
    Group {
        why: "secrets come from the environment, such as `HF_TOKEN`",
        keys: "access_token",
    },
    Group {
        why: "data is read, prepared and cached by adapt itself",
        keys: "data.init_args.num_workers data.init_args.download_dir data.init_args.ignore_index
            data.init_args.file_name data.init_args.file_url data.init_args.repo_id data.init_args.path_to_train
            data.init_args.use_starcoder",
    },
    Group {
        why: "acts only in evaluation",
        keys: "eval.interval eval.max_new_tokens eval.max_iters eval.initial_validation eval.final_validation
            eval.evaluate_example",
    },
    Group {
        why: "the architecture is read from the model's config.json",
        keys: "model_name model_config model_config.name model_config.hf_config model_config.scale_embeddings
            model_config.attention_scores_scalar model_config.block_size model_config.sliding_window_size
            model_config.sliding_window_layer_placing model_config.sliding_window_indices
            model_config.vocab_size model_config.padding_multiple model_config.padded_vocab_size
            model_config.n_layer model_config.n_head model_config.head_size model_config.n_embd
            model_config.n_query_groups model_config.rotary_percentage model_config.parallel_residual
            model_config.bias model_config.attn_bias model_config.lm_head_bias
            model_config.shared_attention_norm model_config.norm_class_name model_config.norm_eps
            model_config.norm_qk model_config.post_attention_norm model_config.post_mlp_norm
            model_config.mlp_class_name model_config.gelu_approximate model_config.intermediate_size
            model_config.rope_condense_ratio model_config.rope_base model_config.rope_adjustments
            model_config.rope_local_base_freq model_config.rope_indices model_config.n_expert
            model_config.n_expert_per_token model_config.moe_intermediate_size
            model_config.attention_logit_softcapping model_config.final_logit_softcapping",
    },
    Group {
        why: "has no word in the language",
        keys: "checkpoint_dir initial_checkpoint_dir tokenizer_dir resume precision quantize seed optimizer
            optimizer.class_path optimizer.init_args lora_r lora_alpha lora_dropout lora_query lora_key lora_value
            lora_projection lora_mlp lora_head data data.class_path data.init_args.mask_prompt
            data.init_args.val_split_fraction data.init_args.prompt_style data.init_args.prompt_style.class_path
            data.init_args.seed data.init_args.json_path data.init_args.include_multiturn_conversations
            data.init_args.subsets data.init_args.data_path data.init_args.split_names
            data.init_args.train_data_path data.init_args.val_data_path data.init_args.template
            train train.save_interval train.global_batch_size train.micro_batch_size
            train.lr_warmup_steps train.lr_warmup_fraction train.epochs train.max_tokens train.max_steps
            train.max_time train.max_seq_length train.tie_embeddings train.max_norm train.min_lr
            train.learning_rate train.weight_decay train.beta1 train.beta2 eval",
    },
];
