//! The keys of alignment-handbook: its own arguments, and those of TRL and transformers that it takes.

use crate::keys::{Group, Tool};

pub(crate) const TOOL: Tool = Tool { name: "alignment-handbook", groups: GROUPS, synonyms: SYNONYMS };

const SYNONYMS: &[(&str, &str)] = &[
    ("datasets_mixer", "dataset_mixer"),
    ("base_model", "model_name_or_path"),
    ("micro_batch_size", "per_device_train_batch_size"),
    ("num_epochs", "num_train_epochs"),
    ("sequence_len", "max_seq_length"),
    ("optimizer", "optim"),
    ("lr_scheduler", "lr_scheduler_type"),
    ("epochs", "num_train_epochs"),
    ("lora_rank", "lora_r"),
    ("lora_target_linear", "lora_target_modules"),
];

const GROUPS: &[Group] = &[
    Group {
        why: "devices, shards and launchers are not in a recipe: the same recipe runs on any of them",
        keys: "deepspeed fsdp fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap local_rank
            ddp_backend ddp_bucket_cap_mb ddp_find_unused_parameters ddp_broadcast_buffers ddp_timeout
            accelerator_config parallelism_config tp_size no_cuda use_cpu use_mps_device use_ipex
            xpu_backend tpu_num_cores tpu_metrics_debug split_batches low_cpu_mem_usage device_map",
    },
    Group {
        why: "nothing is sent to a tracker; metrics lie in the folder of the run",
        keys: "report_to run_name project trackio_space_id logging_dir logging_steps logging_strategy
            logging_first_step logging_nan_inf_filter log_level log_level_replica log_on_each_node debug
            disable_tqdm include_tokens_per_second include_num_input_tokens_seen wandb_entity wandb_project
            wandb_run_group skip_memory_metrics log_completions generate_during_eval",
    },
    Group {
        why: "kernels are chosen by the compiler and compute the same",
        keys: "use_flash_attention_2 attn_implementation use_liger_kernel use_liger_loss use_liger liger_kernel_config
            torch_compile torch_compile_backend torch_compile_mode tf32 torchdynamo half_precision_backend
            jit_mode_eval fp16_opt_level bf16_full_eval fp16_full_eval fp16_backend padding_free use_kernels",
    },
    Group {
        why: "decided by the memory plan; it does not change what is learnt",
        keys: "gradient_checkpointing gradient_checkpointing_kwargs per_device_eval_batch_size per_gpu_eval_batch_size
            per_gpu_train_batch_size auto_find_batch_size eval_accumulation_steps torch_empty_cache_steps
            activation_offloading use_cache",
    },
    Group {
        why: "data is read, prepared and cached by adapt itself",
        keys: "preprocessing_num_workers dataset_num_proc dataloader_num_workers dataloader_pin_memory
            dataloader_drop_last dataloader_persistent_workers dataloader_prefetch_factor remove_unused_columns
            label_names dataset_batch_size dataset_kwargs dataset_streaming streaming ignore_bias_buffers
            group_by_length length_column_name past_index pad_token_id padding_value label_pad_token_id
            pad_to_multiple_of data_seed full_determinism eos_token pad_token",
    },
    Group {
        why: "results are saved as safetensors in the folder of the run",
        keys: "output_dir overwrite_output_dir hub_model_id hub_model_revision hub_strategy
            hub_private_repo hub_always_push hub_revision push_to_hub push_to_hub_model_id
            push_to_hub_organization save_safetensors save_only_model save_on_each_node
            resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint mp_parameters
            do_train do_predict benchmarks callbacks system_prompt save_final_model",
    },
    Group {
        why: "secrets come from the environment, such as `HF_TOKEN`",
        keys: "hub_token push_to_hub_token",
    },
    Group {
        why: "models are described as data: the architecture is read from config.json and no remote code runs",
        keys: "trust_remote_code model_code_revision torch_dtype dtype bnb_4bit_quant_storage
            model_init_kwargs ref_model_init_kwargs base_model_revision adapter_kwargs",
    },
    Group {
        why: "acts only with `use_peft`",
        keys: "use_peft lora_r lora_alpha lora_dropout lora_target_modules lora_target_parameters
            lora_modules_to_save lora_task_type use_rslora use_dora load_in_8bit load_in_4bit bnb_4bit_quant_type
            use_bnb_nested_quant",
    },
    Group {
        why: "acts only when something is evaluated",
        keys: "do_eval eval_strategy evaluation_strategy eval_steps eval_delay eval_on_start eval_packing
            metric_for_best_model greater_is_better load_best_model_at_end prediction_loss_only
            include_inputs_for_metrics include_for_metrics batch_eval_metrics eval_do_concat_batches
            eval_use_gather_object use_legacy_prediction_loop",
    },
    Group {
        why: "the tokenizer and its template are those of the model unless the recipe says otherwise",
        keys: "tokenizer_name_or_path tokenizer_revision truncation_side padding_side chat_template
            chat_template_path chat_template_kwargs auto_insert_empty_system_msg add_special_tokens",
    },
    Group {
        why: "acts only in training on preferences",
        keys: "beta loss_type loss_weights label_smoothing max_prompt_length max_target_length max_completion_length
            truncation_mode reference_free ref_model_mixup_alpha ref_model_sync_steps sync_ref_model
            model_adapter_name ref_adapter_name force_use_ref_model precompute_ref_log_probs
            precompute_ref_batch_size rpo_alpha discopop_tau f_divergence_type f_alpha_divergence_coef use_weighting
            use_logits_to_keep use_num_logits_to_keep ld_alpha tools is_encoder_decoder disable_dropout
            desirable_weight undesirable_weight gamma_beta_ratio simpo_gamma cpo_alpha hub_dataset_name base_model_attribute_name",
    },
    Group {
        why: "has no word in the language",
        keys: "model_name_or_path model_revision dataset_mixer dataset_splits dataset_configs dataset_mixture
            dataset_mixture.datasets dataset_mixture.datasets[].id dataset_mixture.datasets[].config
            dataset_mixture.datasets[].split dataset_mixture.datasets[].columns dataset_mixture.datasets[].weight
            dataset_mixture.datasets[].revision dataset_mixture.seed dataset_mixture.test_split_size
            dataset_name dataset_config dataset_train_split dataset_test_split text_column dataset_text_field
            max_train_samples max_eval_samples max_seq_length max_length packing packing_strategy shuffle_dataset
            neftune_noise_alpha bf16 fp16 learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon
            max_grad_norm optim optim_args optim_target_modules adafactor lr_scheduler_type lr_scheduler_kwargs
            warmup_ratio warmup_steps num_train_epochs max_steps per_device_train_batch_size
            gradient_accumulation_steps num_of_sequences chars_per_token seed save_strategy save_steps
            save_total_limit assistant_only_loss completion_only_loss label_smoothing_factor
            average_tokens_across_devices sampling_strategy",
    },
];
