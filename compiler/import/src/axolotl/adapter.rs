//! axolotl's adapters and what their base is stored in.

use crate::common;
use crate::kdl::{self, Line, number};
use crate::section::Section;

/// The adapter and what its base is stored in.
pub(crate) fn lines(config: &Section) -> Vec<Line> {
    let Some(adapter) = config.text("adapter") else { return Vec::new() };
    config.carried("adapter", "`lora`");
    let mut line = Line::new("lora").from(config.key("adapter"));
    for (key, name) in [("lora_r", "rank"), ("lora_alpha", "alpha")] {
        let Some(value) = config.number(key) else {
            config.missing(key, "write it, as axolotl wants it too");
            continue;
        };
        config.carried(key, format!("`{name}=` of `lora`"));
        line = if value == 16.0 { line } else { line.with(name, number(value)) };
        line = line.from(config.key(key));
    }
    if let Some(dropout) = config.number("lora_dropout") {
        config.carried("lora_dropout", "`dropout=` of `lora`");
        line = if dropout == 0.0 { line } else { line.with("dropout", number(dropout)) };
        line = line.from(config.key("lora_dropout"));
    }
    line = variant(config, line);
    targets(config).into_iter().for_each(|targets| line.push(targets));
    also(config).into_iter().for_each(|also| line.push(also));
    let mut lines = vec![line];
    lines.extend(quantize(config, &adapter));
    if config.is_on("lora_fan_in_fan_out") {
        config.carried("lora_fan_in_fan_out", "the layout of weights is the architecture's");
    }
    lines
}

fn variant(config: &Section, mut line: Line) -> Line {
    for (key, variant) in [("peft_use_dora", "dora"), ("peft_use_rslora", "rslora")] {
        if config.flag(key) {
            config.carried(key, format!("`variant={variant}`"));
            line = line.with("variant", variant).from(config.key(key));
        }
    }
    let loftq = config.section("peft").and_then(|peft| peft.section("loftq_config"));
    if let Some(loftq) = loftq {
        loftq.carried("loftq_bits", "`init=loftq`; the bits are those of `quantize`");
        line = line.with("init", "loftq").from(loftq.key("loftq_bits"));
    }
    if let Some(ratio) = config.number("loraplus_lr_ratio") {
        config.carried("loraplus_lr_ratio", "`lr-ratio=`");
        line = line.with("lr-ratio", number(ratio)).from(config.key("loraplus_lr_ratio"));
    }
    for key in ["jagged_restart_steps", "relora_steps"] {
        if let Some(steps) = config.count(key).filter(|steps| *steps > 0) {
            config.carried(key, "`restart=` of `lora`");
            line = line.with("restart", kdl::steps(steps as f64)).from(config.key(key));
        }
    }
    config.carried("relora", "`restart=` of `lora`");
    line
}

fn targets(config: &Section) -> Option<Line> {
    let modules = config.texts("lora_target_modules");
    if config.flag("lora_target_linear")
        || modules.iter().any(|name| matches!(name.as_str(), "all-linear" | "all_linear"))
    {
        config.carried("lora_target_linear", "`targets all-linear`");
        config.carried("lora_target_modules", "part of `targets all-linear`");
        return Some(
            Line::new("targets")
                .word("all-linear")
                .from(config.key("lora_target_linear"))
                .from(config.key("lora_target_modules")),
        );
    }
    if modules.is_empty() {
        config.missing(
            "lora_target_modules",
            "name the weights that get an adapter, or write `lora_target_linear: true`",
        );
        return None;
    }
    let Some((names, changed)) = common::weights(&modules) else {
        let help = "name the weights, such as `q_proj`, or write `lora_target_linear: true`";
        config.refuse("lora_target_modules", "the adapter's weights are named by a pattern", help);
        return None;
    };
    if changed {
        config.changed("lora_target_modules", "`targets`, under the names that weights have in the language");
    } else {
        config.carried("lora_target_modules", "`targets`");
    }
    let line = names.iter().fold(Line::new("targets"), |line, name| line.text(name));
    Some(line.from(config.key("lora_target_modules")))
}

fn also(config: &Section) -> Option<Line> {
    let modules = config.texts("lora_modules_to_save");
    if modules.is_empty() {
        return None;
    }
    let Some((names, changed)) = common::weights(&modules) else {
        config.refuse(
            "lora_modules_to_save",
            "weights are named by a pattern",
            "name the weights, such as `lm_head`",
        );
        return None;
    };
    if changed {
        config.changed("lora_modules_to_save", "`also`, under the names that weights have in the language");
    } else {
        config.carried("lora_modules_to_save", "`also`: trained in full");
    }
    let line = names.iter().fold(Line::new("also"), |line, name| line.text(name));
    Some(line.from(config.key("lora_modules_to_save")))
}

fn quantize(config: &Section, adapter: &str) -> Option<Line> {
    if config.flag("load_in_8bit") {
        config.carried("load_in_8bit", "`quantize int8`");
        return Some(Line::new("quantize").word("int8").from(config.key("load_in_8bit")));
    }
    if !config.flag("load_in_4bit") {
        return None;
    }
    let mut line = Line::new("quantize").word("nf4").from(config.key("load_in_4bit"));
    if adapter == "qlora" {
        config.carried("load_in_4bit", "`quantize nf4`");
    } else {
        // axolotl builds its own settings for `qlora` only; else the library's defaults hold.
        config.changed("load_in_4bit", "`quantize fp4 double=#false`, what the library takes when `adapter` is not `qlora`; for QLoRA write `quantize nf4`");
        line = Line::new("quantize").word("fp4").with("double", "#false").from(config.key("load_in_4bit"));
    }
    if let Some(kwargs) = config.section("bnb_config_kwargs") {
        if kwargs.switch("bnb_4bit_use_double_quant") == Some(false) && adapter == "qlora" {
            line = line.with("double", "#false").from(kwargs.key("bnb_4bit_use_double_quant"));
        }
        kwargs.carried("bnb_4bit_use_double_quant", "`double=` of `quantize`");
        if let Some(kind) = kwargs.text("bnb_4bit_quant_type") {
            if kind != "nf4" {
                kwargs.refuse(
                    "bnb_4bit_quant_type",
                    format!("`{kind}` beside axolotl's own settings"),
                    "write `nf4`",
                );
            }
            kwargs.carried("bnb_4bit_quant_type", "`quantize nf4`");
        }
    }
    Some(line)
}
