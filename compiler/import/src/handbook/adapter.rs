//! PEFT's arguments and what the base is stored in.

use crate::common;
use crate::kdl::{Line, number};
use crate::section::Section;

/// The adapter and what its base is stored in.
pub(crate) fn lines(config: &Section) -> Vec<Line> {
    let four = config.flag("load_in_4bit");
    let eight = config.flag("load_in_8bit");
    if !config.flag("use_peft") {
        for (key, on) in [("load_in_4bit", four), ("load_in_8bit", eight)] {
            if on {
                config.refuse(
                    key,
                    format!("`{key}` without `use_peft`: quantised weights cannot be trained"),
                    "write `use_peft: true`",
                );
            }
        }
        config.carried("use_peft", "off, as it is here");
        return Vec::new();
    }
    config.carried("use_peft", "`lora`");
    let mut line = Line::new("lora").from(config.key("use_peft"));
    // TRL's defaults are written where the language's differ.
    for (key, name, tool, ours) in [
        ("lora_r", "rank", 16.0, 16.0),
        ("lora_alpha", "alpha", 32.0, 16.0),
        ("lora_dropout", "dropout", 0.05, 0.0),
    ] {
        let value = config.number(key).unwrap_or_else(|| {
            config.import.default(format!("`{key}` is not written: TRL's {tool}"));
            tool
        });
        config.carried(key, format!("`{name}=` of `lora`"));
        line = if value == ours { line } else { line.with(name, number(value)) };
        line = line.from(config.key(key));
    }
    for (key, variant) in [("use_rslora", "rslora"), ("use_dora", "dora")] {
        if config.flag(key) {
            config.carried(key, format!("`variant={variant}`"));
            line = line.with("variant", variant).from(config.key(key));
        }
    }
    weights(config, "lora_target_modules", "targets").into_iter().for_each(|child| line.push(child));
    weights(config, "lora_modules_to_save", "also").into_iter().for_each(|child| line.push(child));
    let mut lines = vec![line];
    if eight {
        config.carried("load_in_8bit", "`quantize int8`");
        lines.push(Line::new("quantize").word("int8").from(config.key("load_in_8bit")));
    } else if four {
        lines.push(quantize(config));
    }
    lines
}

fn weights(config: &Section, key: &str, child: &str) -> Option<Line> {
    let mut modules = config.texts(key);
    if modules.is_empty() && child == "targets" {
        config.import.default(
            "`lora_target_modules` is not written: PEFT's choice for Llama-like models, q_proj and v_proj",
        );
        modules = vec!["q_proj".into(), "v_proj".into()];
    }
    if modules.is_empty() {
        return None;
    }
    let Some((names, changed)) = common::weights(&modules) else {
        config.refuse(key, "weights are named by a pattern", "name the weights, such as `q_proj`");
        return None;
    };
    if changed {
        config.changed(key, format!("`{child}`, under the names that weights have in the language"));
    } else {
        config.carried(key, format!("`{child}`"));
    }
    Some(names.iter().fold(Line::new(child), |line, name| line.text(name)).from(config.key(key)))
}

fn quantize(config: &Section) -> Line {
    config.carried("load_in_4bit", "`quantize`");
    let kind = config.text("bnb_4bit_quant_type").unwrap_or_else(|| "nf4".into());
    if !matches!(kind.as_str(), "nf4" | "fp4") {
        config.refuse(
            "bnb_4bit_quant_type",
            format!("`{kind}` is no format of 4 bits"),
            "write `nf4` or `fp4`",
        );
    }
    config.carried("bnb_4bit_quant_type", "the format of `quantize`");
    let line = Line::new("quantize").word(kind).from(config.key("load_in_4bit"));
    if config.flag("use_bnb_nested_quant") {
        config.carried("use_bnb_nested_quant", "`double=#true`, the default");
        return line.from(config.key("use_bnb_nested_quant"));
    }
    config.carried("use_bnb_nested_quant", "`double=#false`");
    line.with("double", "#false")
}
