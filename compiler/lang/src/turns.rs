//! `turns`: one text per role becomes a Jinja template whose structure says what is trained.

/// Writes the template; in an answer everything from `{content}` on is trained.
pub fn jinja(system: Option<&str>, user: &str, assistant: &str) -> String {
    let (opening, trained) = match assistant.find("{content}") {
        Some(at) => assistant.split_at(at),
        None => ("", assistant),
    };
    let system = system
        .map(expression)
        .unwrap_or_else(|| "raise_exception('this template has no system turn')".into());
    format!(
        "{{%- for message in messages -%}}\n\
         {{%- if message['role'] == 'system' -%}}\n{{{{- {system} -}}}}\n\
         {{%- elif message['role'] == 'user' -%}}\n{{{{- {user} -}}}}\n\
         {{%- elif message['role'] == 'assistant' -%}}\n{{{{- {opening} -}}}}\n\
         {{% generation %}}{{{{- {trained} -}}}}{{% endgeneration %}}\n\
         {{%- else -%}}\n{{{{- raise_exception('this template has no turn for the role ' + message['role']) -}}}}\n\
         {{%- endif -%}}\n{{%- endfor -%}}\n\
         {{%- if add_generation_prompt -%}}\n{{{{- {opening} -}}}}\n{{%- endif -%}}\n",
        user = expression(user),
        opening = expression(opening),
        trained = expression(trained),
    )
}

/// Turns a text with `{content}`, `{bos}` and `{eos}` into a Jinja expression.
fn expression(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((at, name, value)) = next_placeholder(rest) {
        if at > 0 {
            parts.push(quote(&rest[..at]));
        }
        parts.push(value.to_owned());
        rest = &rest[at + name.len()..];
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(quote(rest));
    }
    parts.join(" + ")
}

fn next_placeholder(text: &str) -> Option<(usize, &'static str, &'static str)> {
    let placeholders = [("{content}", "message['content']"), ("{bos}", "bos_token"), ("{eos}", "eos_token")];
    placeholders.into_iter().filter_map(|(name, value)| Some((text.find(name)?, name, value))).min()
}

fn quote(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('\'', "\\'")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\t', "\\t");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trained_part_begins_at_the_content() {
        let jinja = jinja(None, "U: {content}\n", "A: {content}{eos}");
        assert!(
            jinja.contains(
                "{{- 'A: ' -}}\n{% generation %}{{- message['content'] + eos_token -}}{% endgeneration %}"
            ),
            "{jinja}"
        );
        assert!(jinja.contains("{{- 'U: ' + message['content'] + '\\n' -}}"), "{jinja}");
    }

    #[test]
    fn quotes_in_a_turn_are_escaped() {
        assert_eq!(expression("it's {bos}"), r"'it\'s ' + bos_token");
    }
}
