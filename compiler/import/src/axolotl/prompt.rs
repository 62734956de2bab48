//! Prompt formats that a file states itself, as templates.

use super::rows::Rows;
use crate::common::{DeclaredTemplate, Template, jinja_text};
use crate::section::Section;

/// A `type` that holds its own prompt format.
pub(crate) fn user_defined(kind: &Section) -> Option<Rows> {
    let column = |key: &str, default: &str| kind.text(key).unwrap_or_else(|| default.to_owned());
    let format = kind.text("format").unwrap_or_else(|| "{instruction} {input} ".to_owned());
    let (instruction, input) = (format.find("{instruction}"), format.find("{input}"));
    let Some(instruction_at) = instruction else {
        kind.refuse(
            "format",
            "the prompt format has no `{instruction}`",
            "write `{instruction}` where it goes",
        );
        return None;
    };
    // The language puts the input behind the instruction, a blank line between them.
    let swapped = input.is_some_and(|input| input < instruction_at);
    let (first, second) = if swapped { ("{input}", "{instruction}") } else { ("{instruction}", "{input}") };
    let (before, rest) = format.split_once(first).unwrap_or((&format, ""));
    let (between, after) = match rest.split_once(second) {
        Some((between, after)) => (Some(between.to_owned()), after),
        None => (None, rest),
    };
    let user = format!("{before}{{content}}{after}");
    if user.matches('{').count() > user.matches("{content}").count() {
        kind.refuse(
            "format",
            "the prompt format has other places than `{instruction}` and `{input}`",
            "write these two alone",
        );
        return None;
    }
    say_format(kind, between.as_deref(), swapped);
    let mut columns = [
        ("instruction", column("field_instruction", "instruction")),
        ("input", column("field_input", "input")),
    ];
    if swapped {
        let [(_, first), (_, second)] = &mut columns;
        std::mem::swap(first, second);
    }
    let mut rows = Rows::new("instruction", Some(user_template(kind, user)?));
    for (ours, theirs) in columns.iter().map(|(ours, theirs)| (*ours, theirs.as_str())) {
        rows = rows.rename(&[(ours, theirs)]);
    }
    rows = rows.rename(&[
        ("output", &column("field_output", "output")),
        ("system", &column("field_system", "system")),
    ]);
    for key in ["field_instruction", "field_input", "field_output", "field_system"] {
        if kind.node(key).is_some() {
            rows.from.push(kind.key(key));
            kind.carried(key, "the columns of `rows instruction`");
        }
    }
    Some(rows)
}

/// Says how far the prompt of the recipe is that of the file.
fn say_format(kind: &Section, between: Option<&str>, swapped: bool) {
    let order = if swapped { "; the columns are swapped, so that the order is the file's" } else { "" };
    match between {
        Some("\n\n") | None if !swapped => kind.carried("format", "a template of its own"),
        None => kind.carried("format", "a template of its own"),
        Some(between) => kind.changed(
            "format",
            format!("a template of its own; between instruction and input stands a blank line instead of {}{order}", quoted(between)),
        ),
    }
    let why = "part of the template: without an input its place is left out";
    kind.changed("no_input_format", why);
}

fn quoted(text: &str) -> String {
    format!("`{}`", text.replace('\n', "\\n"))
}

/// The template of a prompt format, with the constant system text where there is one.
fn user_template(kind: &Section, user: String) -> Option<Template> {
    let system_format = kind.text("system_format").unwrap_or_else(|| "{system}".to_owned());
    if system_format.matches('{').count() != 1 || !system_format.contains("{system}") {
        kind.refuse(
            "system_format",
            "the system format has no place, or more than one",
            "write `{system}` once",
        );
        return None;
    }
    kind.carried("system_format", "part of the template");
    let system = system_format.replace("{system}", "{content}");
    let Some(constant) = kind.text("system_prompt") else {
        let template =
            DeclaredTemplate::Turns { system: Some(system), user, assistant: "{content}{eos}".into() };
        return Some(Template::Declared("prompt".into(), Box::new(template)));
    };
    kind.carried("system_prompt", "part of the template, for rows without a system text of their own");
    let constant = system_format.replace("{system}", &constant);
    let expression = |text: &str| {
        let (before, after) = text.split_once("{content}").unwrap_or((text, ""));
        let parts = [jinja_text(before), "message['content']".to_owned(), jinja_text(after)];
        parts.into_iter().filter(|part| part != "''").collect::<Vec<_>>().join(" + ")
    };
    let jinja = format!(
        "{{%- if messages[0]['role'] != 'system' -%}}{{{{- {} -}}}}{{%- endif -%}}\n\
         {{%- for message in messages -%}}\n\
         {{%- if message['role'] == 'system' -%}}{{{{- {} -}}}}\n\
         {{%- elif message['role'] == 'user' -%}}{{{{- {} -}}}}\n\
         {{%- else -%}}{{% generation %}}{{{{- message['content'] + eos_token -}}}}{{% endgeneration %}}\n\
         {{%- endif -%}}\n\
         {{%- endfor -%}}\n",
        jinja_text(&constant),
        expression(&system),
        expression(&user),
    );
    Some(Template::Declared("prompt".into(), Box::new(DeclaredTemplate::Jinja(jinja))))
}
