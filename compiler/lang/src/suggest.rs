//! "Did you mean": the nearest of the words that are allowed.
//!
//! What is near is a help. It is a fix only where nothing else can have been meant: see [`offer`].

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Words of other systems, with what they are called here.
const SYNONYMS: [(&str, &str); 75] = [
    ("learning-rate", "lr"),
    ("learning_rate", "lr"),
    ("max_lr", "lr"),
    ("lr_scheduler", "schedule"),
    ("lr_scheduler_type", "schedule"),
    ("scheduler", "schedule"),
    ("warmup_ratio", "warmup"),
    ("warmup_steps", "warmup"),
    ("max_grad_norm", "clip"),
    ("grad_clip", "clip"),
    ("max_seq_length", "sequence"),
    ("max_length", "sequence"),
    ("sequence_len", "sequence"),
    ("seq_len", "sequence"),
    ("block_size", "sequence"),
    ("batch_size", "batch"),
    ("global_batch_size", "batch"),
    ("micro_batch_size", "batch"),
    ("gradient_accumulation_steps", "batch"),
    ("num_train_epochs", "epochs"),
    ("num_epochs", "epochs"),
    ("max_steps", "steps"),
    ("dataset", "data"),
    ("datasets", "data"),
    ("base_model", "model"),
    ("chat_template", "template"),
    ("eval", "evaluate"),
    ("save_steps", "checkpoint"),
    ("gradient_checkpointing", "recompute"),
    ("dtype", "precision"),
    ("pretrain", "cpt"),
    ("pretraining", "cpt"),
    ("finetune", "sft"),
    ("fine-tune", "sft"),
    ("instruct", "sft"),
    ("peft", "lora"),
    ("max-new-tokens", "max-tokens"),
    ("max_new_tokens", "max-tokens"),
    ("lora_r", "rank"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("lora_target_modules", "targets"),
    ("target_modules", "targets"),
    ("lora_modules_to_save", "also"),
    ("modules_to_save", "also"),
    ("load_in_4bit", "quantize"),
    ("load_in_8bit", "quantize"),
    ("adapter", "lora"),
    ("sample_packing", "pack"),
    ("packing", "pack"),
    ("val_set_size", "holdout"),
    ("eval_steps", "evaluate"),
    ("evals_per_epoch", "evaluate"),
    ("saves_per_epoch", "checkpoint"),
    ("save_total_limit", "keep"),
    ("load_best_model_at_end", "best"),
    ("early_stopping_patience", "stop-when"),
    ("unfrozen_parameters", "train"),
    ("train_on_inputs", "loss-on"),
    ("max_prompt_length", "prompt"),
    ("loss_type", "loss"),
    ("rl_beta", "beta"),
    ("dpo_beta", "beta"),
    ("ref_model", "reference"),
    ("optim", "optimizer"),
    ("lr_groups", "group"),
    ("adam_epsilon", "eps"),
    ("cosine_min_lr_ratio", "floor"),
    ("min_lr_ratio", "floor"),
    ("adamw_torch", "adamw"),
    ("adamw_torch_fused", "adamw"),
    ("constant_with_warmup", "constant"),
    ("bfloat16", "bf16"),
    ("float16", "f16"),
    ("float32", "f32"),
];

/// Words of [`SYNONYMS`] that only lead to their option: it counts otherwise, or takes other values.
const RELATED: [&str; 27] = [
    "max_lr",
    "warmup_ratio",
    "batch_size",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "dataset",
    "datasets",
    "base_model",
    "chat_template",
    "eval",
    "save_steps",
    "gradient_checkpointing",
    "dtype",
    "finetune",
    "fine-tune",
    "peft",
    "lora_target_modules",
    "load_in_4bit",
    "load_in_8bit",
    "adapter",
    "val_set_size",
    "eval_steps",
    "evals_per_epoch",
    "saves_per_epoch",
    "load_best_model_at_end",
    "early_stopping_patience",
    "train_on_inputs",
];

/// Words that are near to words of the language and mean something else.
const OTHERS: [&str; 16] = [
    "adam",
    "radam",
    "nadam",
    "sgdw",
    "lamb",
    "nuslerp",
    "multislerp",
    "grpo",
    "cpo",
    "rpo",
    "ppo",
    "ipo",
    "rdpo",
    "sppo",
    "tf32",
    "fp8",
];

/// Adds the word that was most likely meant, as a fix where it is certain; `prefix` stands before both.
pub fn offer(diagnostic: Diagnostic, word: &str, near: &str, at: Span, prefix: &str) -> Diagnostic {
    let right = format!("{prefix}{near}");
    let diagnostic = diagnostic.with_help(format!("did you mean `{right}`?"));
    match is_certain(word, near) {
        true => diagnostic.with_fix(format!("replace with `{right}`"), at, right),
        false => diagnostic,
    }
}

/// Whether a word can have meant nothing but another: its exact synonym, its beginning, or it with a slip of the
/// pen. Another digit is another thing, and no slip.
pub fn is_certain(word: &str, near: &str) -> bool {
    if RELATED.contains(&word) || OTHERS.contains(&word) {
        return false;
    }
    if SYNONYMS.contains(&(word, near)) {
        return true;
    }
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let digits = |word: &str| word.chars().filter(char::is_ascii_digit).collect::<String>();
    let (word, near) = (plain(word), plain(near));
    let letters = word.chars().count();
    let begins_alike = word.chars().next() == near.chars().next();
    digits(&word) == digits(&near)
        && match distance(&word, &near) {
            0 => true,
            1 => letters >= 3,
            2 => letters >= 6 && begins_alike,
            _ => letters >= LEAST_OF_A_BEGINNING && near.starts_with(&word),
        }
}

/// How many letters tell which word was begun.
const LEAST_OF_A_BEGINNING: usize = 5;

/// Returns the allowed word that was most likely meant.
pub fn nearest<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed: Vec<&str> = allowed.into_iter().collect();
    let synonym = SYNONYMS.iter().find(|(foreign, _)| *foreign == word).map(|(_, ours)| *ours);
    if let Some(ours) = synonym.and_then(|ours| allowed.iter().find(|allowed| **allowed == ours)) {
        return Some(ours);
    }
    let lower = word.to_lowercase().replace('_', "-");
    let letters = word.chars().count();
    if let Some(whole) = begun(&lower, &allowed).filter(|_| letters >= LEAST_OF_A_BEGINNING) {
        return Some(whole);
    }
    let limit = (letters / 3).clamp(1, 3).min(letters.saturating_sub(1));
    // Most words are told apart by their length, which costs next to nothing.
    let is_near = |allowed: &&str| allowed.chars().count().abs_diff(letters) <= limit;
    allowed
        .into_iter()
        .filter(is_near)
        .map(|allowed| (distance(&lower, allowed), allowed))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, allowed)| allowed)
}

/// Returns the one word that begins so.
fn begun<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let mut fitting = allowed.iter().copied().filter(|allowed| allowed.starts_with(word));
    fitting.next().filter(|_| fitting.next().is_none())
}

fn distance(word: &str, allowed: &str) -> usize {
    if word.len() > 64 {
        return usize::MAX;
    }
    strsim::osa_distance(word, &allowed.to_lowercase().replace('_', "-"))
}

/// Joins words for a sentence: `` `a`, `b` or `c` ``.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    sentence(words.into_iter().map(|word| format!("`{word}`")).collect(), last)
}

/// Joins parts of a sentence: `a, b or c`.
pub fn sentence(words: Vec<String>, last: &str) -> String {
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certain_is_a_fix() {
        for (word, near) in [
            ("weight_decay", "weight-decay"),
            ("max_grad_norm", "clip"),
            ("lenght", "length"),
            ("cosin", "cosine"),
            ("completio", "completion"),
            ("CPT", "cpt"),
        ] {
            assert!(is_certain(word, near), "{word}");
        }
        for (word, near) in [
            ("gradient_accumulation_steps", "batch"),
            ("nuslerp", "slerp"),
            ("adam", "adamw"),
            ("grpo", "orpo"),
            ("int4", "int8"),
            ("words2", "words1"),
            ("q5_0", "q4_0"),
        ] {
            assert!(!is_certain(word, near), "{word}");
        }
    }

    #[test]
    fn the_nearest_word_is_found() {
        let allowed = ["lr", "weight-decay", "beta1", "beta2"];
        assert_eq!(nearest("weight_decay", allowed), Some("weight-decay"));
        assert_eq!(nearest("learning-rate", allowed), Some("lr"));
        assert_eq!(nearest("beta3", allowed), Some("beta1"));
        assert_eq!(nearest("colour", allowed), None);
        assert_eq!(nearest("instruct", ["text", "instruction"]), Some("instruction"));
        assert_eq!(nearest("dare-", ["dare-linear", "dare-ties"]), None);
        assert_eq!(nearest("lora_target_modules", ["rank", "targets"]), Some("targets"));
        assert_eq!(nearest("adamw_torch_fused", ["lion", "adamw"]), Some("adamw"));
    }
}
