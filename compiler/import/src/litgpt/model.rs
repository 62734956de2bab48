//! Where LitGPT starts from: a converted checkpoint, or weights drawn anew.

use crate::kdl::{Line, number};
use crate::names::is_hub_id;
use crate::section::Section;

/// Declares the model of a finetuning run.
pub(crate) fn finetuned(config: &Section, lines: &mut Vec<Line>) -> String {
    if config.is_on("resume") {
        refuse_resume(config);
    }
    config.carried("resume", "a run always goes on from its last checkpoint");
    checkpoint(config, "checkpoint_dir", lines, None)
}

/// Declares the model of a pretraining run, and its tokenizer where the file names one.
pub(crate) fn pretrained(config: &Section, lines: &mut Vec<Line>) -> String {
    let resume = config.node("resume");
    let is_auto = resume.is_some_and(|node| node.text() == Some("auto"));
    if resume.is_some_and(|node| !node.is_off()) && !is_auto {
        refuse_resume(config);
        return "model".into();
    }
    if is_auto && !config.is_on("initial_checkpoint_dir") {
        config.changed("resume", "weights from scratch, as in a first run; LitGPT goes on from a checkpoint in `out_dir` when one lies there");
    }
    config.carried("resume", "a run always goes on from its last checkpoint");
    let tokenizer = tokenizer(config, lines);
    if config.is_on("initial_checkpoint_dir") {
        if let Some(architecture) = config.section("model_config") {
            for key in known(&architecture) {
                architecture.carried(key, "read from the model's config.json");
            }
        }
        config.carried("model_name", "read from the model's config.json");
        return checkpoint(config, "initial_checkpoint_dir", lines, tokenizer);
    }
    scratch(config, lines, tokenizer)
}

/// The keys of a section that LitGPT has.
fn known<'a>(section: &Section<'a>) -> impl Iterator<Item = &'a str> {
    let keys = section.node.pairs().iter().map(|pair| pair.key.as_str());
    keys.filter(|key| section.import.tool.knows(&section.key(key))).collect::<Vec<_>>().into_iter()
}

fn refuse_resume(config: &Section) {
    let help = "name the checkpoint it goes on from: `initial_checkpoint_dir` in pretraining, `checkpoint_dir` in finetuning";
    config.refuse(
        "resume",
        "the file goes on in the middle of another run, with its optimizer and its place in the data",
        help,
    );
}

fn tokenizer(config: &Section, lines: &mut Vec<Line>) -> Option<String> {
    let folder = config.text("tokenizer_dir")?;
    config.carried("tokenizer_dir", "the tokenizer of the model");
    let name = config.import.name(&folder, "tokenizer");
    lines.push(
        Line::new("tokenizer")
            .word(&name)
            .quoted(&hub_or_folder(&folder).0)
            .from(config.key("tokenizer_dir")),
    );
    Some(name)
}

fn checkpoint(config: &Section, key: &str, lines: &mut Vec<Line>, tokenizer: Option<String>) -> String {
    let Some(folder) = config.text(key) else {
        config.missing(key, "name the checkpoint that training starts from");
        return "model".into();
    };
    let (source, is_hub) = hub_or_folder(&folder);
    let name = config.import.name(&folder, "model");
    if is_hub {
        config.changed(key, "the model of the Hub, which LitGPT keeps converted under `checkpoints/`");
    } else {
        config.changed(key, "the folder, which must hold a Hugging Face model");
        config.import.need(format!(
            "convert `{folder}` with `litgpt convert_from_litgpt` to a Hugging Face model folder"
        ));
    }
    let mut line = Line::new("model").word(&name).quoted(&source).from(config.key(key));
    if let Some(tokenizer) = tokenizer {
        line.push(Line::new("tokenizer").word(tokenizer));
    }
    lines.push(line);
    name
}

/// LitGPT keeps models of the Hub under `checkpoints/owner/name`.
fn hub_or_folder(folder: &str) -> (String, bool) {
    let id = folder.strip_prefix("./").unwrap_or(folder).strip_prefix("checkpoints/").unwrap_or(folder);
    let id = id.trim_end_matches('/');
    if is_hub_id(id) && !id.starts_with("out/") {
        (format!("hf:{id}"), true)
    } else {
        (folder.to_owned(), false)
    }
}

/// Fields of LitGPT's config under the names of a Llama's config.json.
const FIELDS: [(&str, &str); 8] = [
    ("n_embd", "hidden_size"),
    ("intermediate_size", "intermediate_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_query_groups", "num_key_value_heads"),
    ("block_size", "max_position_embeddings"),
    ("norm_eps", "rms_norm_eps"),
    ("rope_base", "rope_theta"),
];

/// A Llama from scratch, when the architecture is one.
fn scratch(config: &Section, lines: &mut Vec<Line>, tokenizer: Option<String>) -> String {
    let Some(architecture) = config.section("model_config") else {
        let help = "write `model_config`, or `initial_checkpoint_dir` to start from a model";
        config.refuse(
            "model_name",
            "a model from scratch by its name alone: its sizes are in LitGPT's code, not in the file",
            help,
        );
        return "model".into();
    };
    let is = |key: &str, expected: &str| architecture.text(key).as_deref() == Some(expected);
    let is_off = |key: &str| architecture.switch(key) != Some(true);
    let whole = architecture.number("rotary_percentage").is_none_or(|share| share == 1.0);
    let is_llama = is("norm_class_name", "RMSNorm")
        && is("mlp_class_name", "LLaMAMLP")
        && ["parallel_residual", "bias", "lm_head_bias", "norm_qk"].into_iter().all(is_off)
        && architecture.number("n_expert").unwrap_or(0.0) == 0.0
        && whole;
    if !is_llama {
        let help = "start from a model with `initial_checkpoint_dir`";
        config.refuse("model_config", "a model from scratch of an architecture other than Llama", help);
        return "model".into();
    }
    let Some(tokenizer) = tokenizer else {
        config.missing("tokenizer_dir", "name the tokenizer of the new model");
        return "model".into();
    };
    let mut fields = Line::new("config");
    for (theirs, ours) in FIELDS {
        let Some(value) = architecture.number(theirs) else { continue };
        architecture.carried(theirs, format!("`{ours}` of `config`"));
        fields.push(Line::new(ours).word(number(value)).from(architecture.key(theirs)));
    }
    let tied = config.section("train").is_some_and(|train| train.flag("tie_embeddings"));
    fields.push(Line::new("tie_word_embeddings").word(format!("#{tied}")).from("train.tie_embeddings"));
    for key in known(&architecture) {
        architecture.carried(
            key,
            match key {
                "vocab_size" | "padded_vocab_size" | "padding_multiple" => "follows from the tokenizer",
                _ => "what a Llama has",
            },
        );
    }
    let name = config.import.name(&config.text("model_name").unwrap_or_default(), "model");
    config.carried("model_name", "the model's name");
    let line = Line::new("model").word(&name).word("new:llama").from(config.key("model_config"));
    lines.push(line.child(Line::new("tokenizer").word(tokenizer)).child(fields));
    name
}
