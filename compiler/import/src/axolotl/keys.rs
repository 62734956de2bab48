//! The keys of axolotl 0.18, those that it once had and still reads or refuses by name included.

use crate::keys::{Group, Tool};

pub(crate) const TOOL: Tool = Tool { name: "axolotl", groups: GROUPS, synonyms: SYNONYMS };

const SYNONYMS: &[(&str, &str)] = &[
    ("bnb_4bit_quant_type", "bnb_config_kwargs"),
    ("bnb_4bit_use_double_quant", "bnb_config_kwargs"),
    ("bnb_4bit_compute_dtype", "bnb_config_kwargs"),
    ("eta_min", "cosine_min_lr_ratio"),
    ("min_lr", "cosine_min_lr_ratio"),
    ("min_lr_rate", "cosine_min_lr_ratio"),
    ("adam_eps", "adam_epsilon"),
    ("num_train_epochs", "num_epochs"),
    ("epochs", "num_epochs"),
    ("per_device_train_batch_size", "micro_batch_size"),
    ("per_device_eval_batch_size", "eval_batch_size"),
    ("max_seq_length", "sequence_len"),
    ("max_length", "sequence_len"),
    ("lr_scheduler_type", "lr_scheduler"),
    ("lr", "learning_rate"),
    ("model_name_or_path", "base_model"),
    ("gradient_clipping", "max_grad_norm"),
    ("packing", "sample_packing"),
    ("lora_rank", "lora_r"),
    ("torch_dtype", "bf16"),
    ("fsdp_limit_all_gathers", "fsdp_config"),
    ("sharding_strategy", "fsdp_config"),
    ("save_embedding_layers", "lora_modules_to_save"),
    ("overlap_len", "sequence_len"),
];

const GROUPS: &[Group] = &[
    Group {
        why: "devices, shards and launchers are not in a recipe: the same recipe runs on any of them",
        keys: "deepspeed fsdp fsdp_config fsdp_version fsdp_final_state_dict_type device device_map world_size
            local_rank ddp ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers ddp_find_unused_parameters
            sequence_parallel_degree context_parallel_size tensor_parallel_size tensor_parallel dp_shard_size
            dp_replicate_size expert_parallel_size heads_k_stride ring_attn_func use_ray ray_run_name
            ray_num_workers resources_per_worker accelerator_config experimental_skip_move_to_device
            qlora_sharded_model_loading gpu_memory_limit max_memory low_cpu_mem_usage lora_on_cpu use_otel_metrics",
    },
    Group {
        why: "nothing is sent to a tracker; metrics lie in the folder of the run",
        keys: "use_wandb wandb_name wandb_run_id wandb_mode wandb_project wandb_entity wandb_watch wandb_log_model
            use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts
            use_comet comet_workspace comet_project_name comet_experiment_key comet_mode comet_online
            comet_experiment_config use_tensorboard use_trackio trackio_project_name trackio_run_name
            trackio_space_id swanlab_project swanlab_experiment_name swanlab_mode use_swanlab logging_steps
            profiler_steps profiler_steps_start include_tokens_per_second include_tkps gc_steps debug
            otel_metrics_host otel_metrics_port",
    },
    Group {
        why: "kernels are chosen by the compiler and compute the same",
        keys: "flash_attention xformers_attention sdp_attention s2_attention flex_attention sage_attention
            eager_attention attn_implementation flex_attn_compile_kwargs flash_attn_cross_entropy flash_attn_rms_norm
            flash_attn_fuse_qkv flash_attn_fuse_mlp flash_optimum unsloth_cross_entropy_loss unsloth_lora_mlp
            unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm unsloth_rope lora_mlp_kernel lora_qkv_kernel
            lora_o_kernel lora_embedding_kernel torch_compile torch_compile_backend torch_compile_mode tf32
            use_kernels use_scattermoe use_sonicmoe experts_implementation llama4_linearized_experts
            cut_cross_entropy cut_cross_entropy_impl chunked_cross_entropy chunked_cross_entropy_num_chunks
            liger_rope liger_rms_norm liger_rms_norm_gated liger_layer_norm liger_swiglu liger_glu_activation
            liger_cross_entropy liger_fused_linear_cross_entropy liger_use_token_scaling tiled_mlp
            tiled_mlp_num_shards tiled_mlp_use_original_mlp batch_flattening flash_attn_supports_top_left_mask
            torchdistx_path fp32_norms fp32_norm_classes",
    },
    Group {
        why: "decided by the memory plan; it does not change what is learnt",
        keys: "gradient_checkpointing gradient_checkpointing_kwargs activation_offloading selective_checkpointing
            eval_batch_size auto_find_batch_size embeddings_skip_upcast pad_to_sequence_len
            layer_offloading bf16_stochastic_rounding",
    },
    Group {
        why: "data is read, prepared and cached by adapt itself",
        keys: "dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory dataset_shard_num
            dataset_shard_idx dataloader_pin_memory dataloader_num_workers dataloader_prefetch_factor
            dataloader_drop_last skip_prepare_dataset remove_unused_columns push_dataset_to_hub
            hf_use_auth_token preprocess_iterable is_preprocess sample_packing_group_size sample_packing_bin_size
            sample_packing_sequentially sample_packing_mp_start_method sample_packing_eff_est
            pretrain_multipack_buffer_size pretrain_multipack_attn streaming streaming_multipack_buffer_size
            multipack_real_batches eval_sample_packing total_num_tokens total_supervised_tokens
            num_generation_samples use_dynamic_finetuning",
    },
    Group {
        why: "rows are always drawn in an order of the seed",
        keys: "group_by_length curriculum_sampling shuffle_merged_datasets shuffle_before_merging_datasets
            pretraining_sample_concatenation",
    },
    Group {
        why: "acts only with `adapter`",
        keys: "adapter lora_r lora_alpha lora_dropout lora_target_modules lora_target_linear lora_target_parameters
            lora_modules_to_save lora_model_dir lora_fan_in_fan_out peft peft.loftq_config peft.loftq_config.loftq_bits
            peft.backend peft.weight_dtype peft.group_size peft_use_dora peft_use_rslora peft_layers_to_transform
            peft_layers_pattern peft_layer_replication peft_init_lora_weights peft_trainable_token_indices
            peft_ensure_weight_tying peft_autocast_adapter_dtype loraplus_lr_ratio loraplus_lr_embedding
            lora_rank_pattern lora_alpha_pattern bnb_config_kwargs gptq gptq_disable_exllama merge_lora merge_method
            relora relora_steps relora_warmup_steps relora_anneal_steps relora_prune_ratio relora_prune_method
            relora_cpu_offload jagged_restart_steps jagged_restart_warmup_steps jagged_restart_anneal_steps",
    },
    Group {
        why: "the tokenizer and its special tokens are those of the model",
        keys: "tokenizer_use_fast tokenizer_legacy tokenizer_use_mistral_common tokenizer_save_jinja_files
            tokenizer_type tokenizer_config special_tokens special_tokens.bos_token special_tokens.eos_token
            special_tokens.pad_token special_tokens.unk_token special_tokens.additional_special_tokens
            special_tokens.sep_token special_tokens.cls_token special_tokens.mask_token
            tokens added_tokens_overrides resize_token_embeddings_to_32x mean_resizing_embeddings shrink_embeddings
            fix_untrained_tokens eot_tokens tokenizer_padding_side",
    },
    Group {
        why: "models are described as data: the architecture is read from config.json and no remote code runs",
        keys: "model_type type_of_model cls_model_config trust_remote_code is_falcon_derived_model
            is_llama_derived_model is_mistral_derived_model is_qwen_derived_model is_multimodal
            overrides_of_model_kwargs model_kwargs processor_type processor_config processor_kwargs image_size
            image_resize_algorithm model_quantization_config model_quantization_config_kwargs reinit_weights",
    },
    Group {
        why: "a run always goes on from its last checkpoint",
        keys: "resume_from_checkpoint auto_resume_from_checkpoints",
    },
    Group {
        why: "results are saved as safetensors in the folder of the run",
        keys: "output_dir save_safetensors safe_serialization save_only_model save_first_step dynamic_checkpoint
            dynamic_checkpoint.enabled dynamic_checkpoint.check_interval dynamic_checkpoint.trigger_file_path
            hub_model_id hub_strategy hub_revision hub_private_repo push_to_hub strict
            axolotl_config_path",
    },
    Group {
        why: "secrets come from the environment, such as `HF_TOKEN`",
        keys: "hub_token comet_api_key",
    },
    Group {
        why: "acts only on the parts of a run that evaluate",
        keys: "eval_table_size eval_table_max_new_tokens eval_max_new_tokens do_causal_lm_eval
            eval_causal_lm_metrics do_bench_eval bench_dataset bench_split bench_source_max_len metric_for_best_model
            greater_is_better load_best_model_at_end early_stopping_patience generate_samples
            generation_max_new_tokens generation_temperature generation_top_p generation_top_k
            generation_do_sample generation_prompt_ratio lm_eval_tasks lm_eval_batch_size lm_eval_post_train
            lm_eval_model eval_steps evals_per_epoch eval_strategy evaluation_strategy eval_on_start
            test_datasets val_set_size",
    },
    Group {
        why: "stops a run that goes wrong; adapt stops at the first loss that is no number",
        keys: "loss_watchdog_threshold loss_watchdog_patience",
    },
    Group {
        why: "noise on the embeddings has no counterpart; the run learns without it",
        keys: "neftune_noise_alpha noisy_embedding_alpha",
    },
    Group {
        why: "a setting of generation or of a served demo, not of training",
        keys: "gradio_title gradio_share gradio_server_name gradio_server_port gradio_max_new_tokens
            gradio_temperature vllm default_system_message chat_template_kwargs cloud inference",
    },
    Group {
        why: "acts only in training on preferences or rewards",
        keys: "rl rl_beta dpo_beta dpo_label_smoothing dpo_loss_type dpo_loss_weights dpo_use_weighting
            dpo_use_logits_to_keep dpo_use_iterative_reference dpo_padding_free dpo_norm_loss
            dpo_generate_during_eval rpo_alpha orpo_alpha simpo_gamma cpo_alpha kto_desirable_weight
            kto_undesirable_weight rl_adapter_ref_model precompute_ref_log_probs max_prompt_len trl ebft gdpo
            reward_model process_reward_model num_labels center_rewards_coefficient",
    },
    Group {
        why: "has no word in the language",
        keys: "base_model base_model_config base_model_ignore_patterns revision_of_model model_revision
            overrides_of_model_config model_config load_in_8bit load_in_4bit datasets pretraining_dataset
            unfrozen_parameters layers_to_freeze lisa_n_layers lisa_step_interval lisa_layers_attribute
            qat quantization sequence_len max_packed_sequence_len min_sample_len excess_length_strategy
            eval_excess_length_strategy sample_packing sample_packing_size micro_batch_size
            gradient_accumulation_steps batch_size train_on_inputs chat_template chat_template_jinja
            dataset_exact_deduplication bf16 fp16 fp8 bfloat16 float16 float32 seed max_steps num_epochs
            warmup_steps warmup_ratio save_steps saves_per_epoch save_strategy save_total_limit learning_rate
            embedding_lr embedding_lr_scale weight_decay optimizer optim_args optim_target_modules lr_scheduler
            lr_scheduler_kwargs lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio lr_div_factor
            lr_groups lr_groups[].name lr_groups[].modules lr_groups[].lr adam_epsilon adam_epsilon2 adam_beta1
            adam_beta2 adam_beta3 max_grad_norm dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of
            rope_scaling use_pose pose_split_on_token_ids pose_max_context_len pose_num_chunks use_eaft eaft_alpha
            eaft_k plugins diffusion diffusion_mask_token_id spectrum_top_fraction spectrum_model_name kd_trainer
            kd_ce_alpha kd_alpha kd_temperature kd_top_k_before_softmax kd_online_server kd_beta grokfast_alpha
            grokfast_lamb llmcompressor mora moe swap_linear average_tokens_across_devices
            label_smoothing_factor hf_dataset",
    },
    Group {
        why: "has no word in the language",
        keys: "datasets[].path datasets[].split datasets[].type datasets[].input_transform datasets[].shards
            datasets[].shards_idx datasets[].preprocess_shards datasets[].conversation datasets[].chat_template
            datasets[].chat_template_jinja datasets[].data_files datasets[].input_format datasets[].name
            datasets[].ds_type datasets[].field datasets[].field_human datasets[].field_model
            datasets[].field_messages datasets[].field_tools datasets[].field_thinking
            datasets[].template_thinking_key datasets[].message_field_role datasets[].message_field_content
            datasets[].message_property_mappings datasets[].message_field_training
            datasets[].message_field_training_detail datasets[].split_thinking datasets[].logprobs_field
            datasets[].temperature datasets[].roles_to_train datasets[].train_on_eos datasets[].train_on_eot
            datasets[].roles datasets[].drop_system_message datasets[].trust_remote_code datasets[].revision
            datasets[].field_system datasets[].field_instruction datasets[].field_input datasets[].field_output
            datasets[].field_chosen datasets[].field_rejected datasets[].field_prompt datasets[].format
            datasets[].no_input_format datasets[].system_prompt datasets[].system_format datasets[].skip
            datasets[].text_column datasets[].step_separator datasets[].max_completion_length
            datasets[].train_on_last_step_only datasets[].weight
            datasets[].length datasets[].sequence_length datasets[].min_input_id datasets[].max_input_id
            datasets[].seed
            datasets[].type.system_prompt datasets[].type.system_format datasets[].type.field_system
            datasets[].type.field_instruction datasets[].type.field_input datasets[].type.field_output
            datasets[].type.format datasets[].type.no_input_format datasets[].type.field_prompt
            datasets[].type.field_chosen datasets[].type.field_rejected datasets[].type.prompt_format
            datasets[].type.chosen_format datasets[].type.rejected_format datasets[].type.field_completion
            datasets[].type.field_label datasets[].type.completion_format datasets[].type.field",
    },
    Group {
        why: "has no word in the language",
        keys: "pretraining_dataset[].name pretraining_dataset[].path pretraining_dataset[].split
            pretraining_dataset[].text_column pretraining_dataset[].type pretraining_dataset[].trust_remote_code
            pretraining_dataset[].data_files pretraining_dataset[].skip pretraining_dataset[].ds_type
            pretraining_dataset[].revision pretraining_dataset[].field
            test_datasets[].path test_datasets[].split test_datasets[].type test_datasets[].data_files
            test_datasets[].name test_datasets[].ds_type test_datasets[].revision test_datasets[].field
            test_datasets[].field_messages test_datasets[].message_property_mappings test_datasets[].roles
            test_datasets[].message_field_role test_datasets[].message_field_content test_datasets[].chat_template
            test_datasets[].roles_to_train test_datasets[].train_on_eos test_datasets[].train_on_eot
            test_datasets[].trust_remote_code test_datasets[].conversation
            test_datasets[].type.system_prompt test_datasets[].type.system_format test_datasets[].type.field_system
            test_datasets[].type.field_instruction test_datasets[].type.field_input test_datasets[].type.field_output
            test_datasets[].type.format test_datasets[].type.no_input_format",
    },
];
