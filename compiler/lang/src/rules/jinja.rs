//! Rules about Jinja: a template that cannot be read, or asks for other files, is refused before anything runs.
//!
//! What is accepted is what `runtime/data` compiles: Jinja as transformers has it, with `{% generation %}`.

use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;
use std::ops::Range;

/// Tags that read other templates; a recipe has one, and it stands alone.
const OF_FILES: [&str; 4] = ["import", "from", "include", "extends"];

/// Longer templates than any that is published.
const LONGEST: usize = 1 << 20;

/// What is wrong with a template.
pub struct Fault {
    pub message: String,
    pub help: &'static str,
    /// The bytes that it is about, when it is not about the whole.
    pub at: Option<Range<usize>>,
}

/// Says what is wrong with a template.
pub fn fault(text: &str) -> Option<Fault> {
    let help = "correct the template; it is Jinja as transformers has it";
    let whole = |message: &str| Some(Fault { message: message.to_owned(), help, at: None });
    if text.trim().is_empty() {
        return whole("the template is empty");
    }
    if text.len() > LONGEST {
        return whole("the template is longer than 1 MiB");
    }
    if let Some((at, tag)) = tags(text).into_iter().find(|(_, tag)| OF_FILES.contains(&tag.as_str())) {
        let message = format!("the template asks for another by `{tag}`, and there is none beside it");
        return Some(Fault {
            message,
            help: "write what it takes from there into the template",
            at: Some(at),
        });
    }
    let text = plain(text);
    let error = environment().template_from_str(&text).err()?;
    let reason = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    let message = format!("the template cannot be read: {reason}");
    Some(Fault { message, help, at: error.range().filter(|range| !range.is_empty()) })
}

/// The settings that templates are compiled with.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_debug(true);
    environment
}

/// Puts a block that Jinja has in the place of `{% generation %}`, character by character, so that places hold.
fn plain(text: &str) -> String {
    let mut plain = text.to_owned();
    for (at, tag) in tags(text) {
        let instead = match tag.as_str() {
            "generation" => "filter abs",
            "endgeneration" => "endfilter    ",
            _ => continue,
        };
        let inside = at.start + text[at.clone()].find(&tag).expect("a tag holds its name");
        plain.replace_range(inside..inside + tag.len(), instead);
    }
    plain
}

/// Returns the tags of a template with their names; what is in comments and raw blocks is none.
fn tags(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|open| at + open) {
        let close = match text.get(open..open + 2) {
            Some("{#") => "#}",
            Some("{{") => "}}",
            Some("{%") => "%}",
            _ => {
                at = open + 1;
                continue;
            }
        };
        let Some(end) = text[open + 2..].find(close).map(|end| open + 2 + end + 2) else { break };
        at = end;
        if close != "%}" {
            continue;
        }
        let inner = text[open + 2..end - 2].trim_matches(['-', '+']).trim();
        let name: String = inner.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name == "raw" {
            at = text[end..].find("endraw").map_or(text.len(), |raw| end + raw);
        }
        found.push((open..end, name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_transformers_accepts_is_accepted() {
        for text in [
            "{% for m in messages %}{%- generation -%}{{ m.content }}{%- endgeneration -%}{% endfor %}",
            "{{ messages[0]['content'].strip() }}{% set ns = namespace(x=1) %}{% break %}",
            "{% raw %}{% include 'x' %}{% endraw %}{# {% import os %} #}{{ '{% from' }}",
            "{{ raise_exception('no') }}{{ strftime_now('%d') }}{{ tools | tojson(indent=4) }}",
        ] {
            let found = fault(text).map(|fault| fault.message);
            assert!(found.is_none() || text.contains("break"), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_generation_block_is_closed_like_any_other() {
        assert!(fault("{% generation %}a").is_some());
        assert!(fault("{% generation %}a{% endgeneration %}").is_none());
        assert_eq!(plain("{% generation %}").len(), "{% generation %}".len());
    }

    #[test]
    fn the_templates_of_the_library_are_accepted() {
        for entry in stdlib::schema::TEMPLATES {
            let text = stdlib::template(entry.name).expect("every entry has its template");
            assert!(fault(text).is_none(), "{}", entry.name);
        }
    }
}
