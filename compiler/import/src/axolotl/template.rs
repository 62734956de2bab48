//! axolotl's chat templates, by name or as Jinja.

use super::rows::turns;
use crate::common::{DeclaredTemplate, Template, known_jinja};
use crate::section::Section;

/// The template of a dataset of messages: its own, else that of the file, else the tokenizer's.
pub(crate) fn chat_template(dataset: &Section, config: &Section) -> Option<Template> {
    for section in [dataset, config] {
        if let Some(jinja) = section.text("chat_template_jinja") {
            section.carried("chat_template", "a template of its own");
            let is_path = jinja.ends_with(".jinja") || jinja.ends_with(".jinja2");
            if let Some(known) = known_jinja(&jinja) {
                section.changed("chat_template_jinja", format!("`std:{known}`, which writes the same marks"));
                return Some(Template::Std(known));
            }
            let why = if jinja.contains("{% generation %}") || is_path {
                "the template"
            } else {
                "the template; adapt wants `{% generation %}` around answers when it cannot find them itself"
            };
            section.changed("chat_template_jinja", why);
            let template =
                if is_path { DeclaredTemplate::File(jinja) } else { DeclaredTemplate::Jinja(jinja) };
            return Some(Template::Declared("chat".into(), Box::new(template)));
        }
        if let Some(name) = section.text("chat_template") {
            return named_template(section, &name);
        }
    }
    Some(Template::Own)
}

fn named_template(section: &Section, name: &str) -> Option<Template> {
    let std = match name {
        "chatml" => "chatml",
        "llama3" => "llama3",
        "gemma" => "gemma",
        "alpaca" => "alpaca",
        "inst" | "mistral_v1" | "mistral_v2v3" | "mistral_v3_tekken" | "mistral_v7_tekken" => {
            section.changed("chat_template", "`std:mistral`, the nearest of Mistral's templates");
            return Some(Template::Std("mistral"));
        }
        "metharme" => {
            section.carried("chat_template", "metharme's marks as `turns`");
            return Some(turns(
                "metharme",
                Some("<|system|>{content}"),
                "<|user|>{content}<|model|>",
                "{content}{eos}",
            ));
        }
        "tokenizer_default" => {
            section.carried("chat_template", "the model's own template");
            return Some(Template::Own);
        }
        other => {
            let why = match other.strip_prefix("tokenizer_default_fallback_") {
                Some(_) => {
                    "the model's own template; a model without one is an error, not a fallback".to_owned()
                }
                None => format!(
                    "the model's own template, which is `{other}` where the model is of that family; else declare one"
                ),
            };
            section.changed("chat_template", why);
            return Some(Template::Own);
        }
    };
    section.carried("chat_template", format!("`template std:{std}`"));
    Some(Template::Std(std))
}
