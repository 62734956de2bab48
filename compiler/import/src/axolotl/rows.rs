//! axolotl's dataset types as row types: which columns, which template, what is trained.

use crate::common::{DeclaredTemplate, Template, jinja_text};
use crate::kdl::Line;
use crate::section::Section;
use crate::yaml::Value;

/// What the rows of a dataset are.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub kind: &'static str,
    /// Column renames: the language's name, the column.
    pub columns: Vec<(&'static str, String)>,
    /// Nothing for plain text and token ids.
    pub template: Option<Template>,
    /// Roles of the source that have another name in the language.
    pub roles: Vec<(String, &'static str)>,
    /// Keys that the renames came from.
    pub from: Vec<String>,
    /// Whether every turn is trained.
    pub all_turns: bool,
}

impl Rows {
    pub fn new(kind: &'static str, template: Option<Template>) -> Self {
        Self { kind, columns: Vec::new(), template, roles: Vec::new(), from: Vec::new(), all_turns: false }
    }

    fn rename(mut self, columns: &[(&'static str, &str)]) -> Self {
        let renamed = columns.iter().filter(|(ours, theirs)| ours != theirs);
        self.columns.extend(renamed.map(|(ours, theirs)| (*ours, (*theirs).to_owned())));
        self
    }

    /// Writes the children of `dataset` that say what its rows are.
    pub fn lines(&self) -> Vec<Line> {
        let mut rows = Line::new("rows").word(self.kind);
        rows.from.clone_from(&self.from);
        for (ours, theirs) in &self.columns {
            rows = rows.with_text(ours, theirs);
        }
        let roles = self.roles.iter();
        let roles = roles.map(|(theirs, ours)| Line::new("role").text(theirs).with("as", ours));
        std::iter::once(rows).chain(roles).collect()
    }
}

/// Reads the type of a dataset for supervised fine-tuning or continued pretraining.
pub(crate) fn supervised(dataset: &Section, config: &Section) -> Option<Rows> {
    let Some(node) = dataset.node("type") else {
        return untyped(dataset);
    };
    if let Value::Map(_) = node.value {
        return user_defined(&dataset.section("type")?, "type");
    }
    let kind = dataset.text("type")?;
    let (base, option) = kind.split_once(':').map_or((kind.as_str(), ""), |(base, option)| (base, option));
    let base = base.strip_suffix(".load").or(base.strip_suffix(".default")).unwrap_or(base);
    match base {
        "completion" | "pretrain" => Some(plain_text(dataset)),
        "alpaca" | "alpaca_w_system" => alpaca(dataset, option, &[]),
        "alpaca_w_system.load_open_orca" => alpaca(
            dataset,
            option,
            &[("instruction", "question"), ("output", "response"), ("system", "system_prompt")],
        ),
        "alpaca_chat.load_qa" => {
            alpaca(dataset, "chat", &[("instruction", "question"), ("output", "answer")])
        }
        "gpteacher" => alpaca(dataset, option, &[("output", "response")]),
        "oasst" => alpaca(dataset, option, &[("instruction", "INSTRUCTION"), ("output", "RESPONSE")]),
        "metharme" => metharme(dataset),
        "chat_template" => chat(dataset, config),
        "sharegpt" => sharegpt(dataset, config),
        _ if base.starts_with("sharegpt") => sharegpt(dataset, config),
        _ => {
            refuse_type(dataset, base);
            None
        }
    }
}

/// Types that axolotl has and the language has no rows for.
const OTHER_TYPES: [&str; 24] = [
    "alpaca_chat",
    "alpaca_chat.load_concise",
    "alpaca_chat.load_camel_ai",
    "alpaca_instruct",
    "alpaca_w_system.load_open_orca_chatml",
    "concisechoice",
    "context_qa",
    "context_qa.load_v2",
    "context_qa.load_404",
    "creative_acr.load_answer",
    "creative_acr.load_critique",
    "creative_acr.load_revise",
    "explainchoice",
    "input_output",
    "jeopardy",
    "llama2_chat",
    "orcamini",
    "pygmalion",
    "reflection",
    "stepwise_supervised",
    "summarizetldr",
    "bradley_terry",
    "bradley_terry.chat_template",
    "synthetic",
];

fn refuse_type(dataset: &Section, kind: &str) {
    if OTHER_TYPES.contains(&kind) || kind.starts_with("ebft") {
        let message = format!("rows of the type `{kind}` fit no row type of the language");
        let help = "convert them to `instruction` rows or `chat` rows, and name their new type here";
        dataset.refuse("type", message, help);
        return;
    }
    let known = ["completion", "pretrain", "alpaca", "chat_template", "gpteacher", "oasst", "metharme"];
    let near = match kind {
        "text" | "raw" => Some("completion"),
        _ => lang::nearest(kind, known),
    };
    let help = match near {
        Some(near) => format!("write `type: {near}` if that is meant"),
        None => "write one of axolotl's types, such as `chat_template` or `alpaca`".to_owned(),
    };
    dataset.refuse("type", format!("axolotl has no dataset type `{kind}`"), help);
}

/// Without a type the rows are token ids already.
fn untyped(dataset: &Section) -> Option<Rows> {
    dataset.missing("type", "write the dataset's type, such as `type: chat_template` or `type: completion`");
    None
}

fn plain_text(dataset: &Section) -> Rows {
    dataset.carried("type", "`rows text`: plain text");
    let mut rows = Rows::new("text", None);
    for key in ["field", "text_column"] {
        if let Some(column) = dataset.text(key) {
            dataset.carried(key, "the column of `rows text`");
            rows.from.push(dataset.key(key));
            rows = rows.rename(&[("text", &column)]);
        }
    }
    rows.from.push(dataset.key("type"));
    rows
}

fn alpaca(dataset: &Section, option: &str, columns: &[(&'static str, &str)]) -> Option<Rows> {
    let (template, why) = match option {
        "" | "instruct" => (
            Template::Std("alpaca"),
            "`rows instruction` with `std:alpaca`, which lacks the sentence before axolotl's prompt and puts the input behind the instruction",
        ),
        "chat" => (
            turns("chat", None, "USER: {content}\nASSISTANT:", "{content}{eos}"),
            "`rows instruction` with axolotl's chat prompt; the input follows the instruction",
        ),
        "chatml" => (Template::Std("chatml"), "`rows instruction` with `std:chatml`; the input follows the instruction"),
        _ => {
            dataset.refuse("type", format!("the prompt style `{option}` is not known"), "write `alpaca`, `alpaca:chat` or `alpaca:chatml`");
            return None;
        }
    };
    dataset.changed("type", why);
    let mut rows = Rows::new("instruction", Some(template)).rename(columns);
    rows.from.push(dataset.key("type"));
    // Fields may be renamed beside the type, as well as inside it.
    for (key, ours) in [
        ("field_instruction", "instruction"),
        ("field_input", "input"),
        ("field_output", "output"),
        ("field_system", "system"),
    ] {
        if dataset.node(key).is_some() {
            dataset.dropped(key, "axolotl reads it only inside a `type` of its own");
        }
        let _ = ours;
    }
    Some(rows)
}

fn metharme(dataset: &Section) -> Option<Rows> {
    dataset.changed("type", "`rows instruction` with metharme's marks as `turns`");
    let template = turns("metharme", Some("<|system|>{content}"), "<|user|>{content}<|model|>", "{content}{eos}");
    let mut rows = Rows::new("instruction", Some(template)).rename(&[("instruction", "prompt"), ("output", "generation")]);
    rows.from.push(dataset.key("type"));
    Some(rows)
}

fn turns(name: &str, system: Option<&str>, user: &str, assistant: &str) -> Template {
    let template = DeclaredTemplate::Turns {
        system: system.map(str::to_owned),
        user: user.to_owned(),
        assistant: assistant.to_owned(),
    };
    Template::Declared(name.to_owned(), Box::new(template))
}

/// Conversations, rendered by a chat template.
fn chat(dataset: &Section, config: &Section) -> Option<Rows> {
    dataset.carried("type", "`rows chat`");
    let template = chat_template(dataset, config);
    let mut rows = Rows::new("chat", template);
    rows.from.push(dataset.key("type"));
    if let Some(column) = dataset.text("field_messages") {
        dataset.carried("field_messages", "the column of `rows chat`");
        rows.from.push(dataset.key("field_messages"));
        if column != "conversations" {
            rows = rows.rename(&[("messages", &column)]);
        }
    }
    if let Some(column) = dataset.text("field_tools") {
        dataset.carried("field_tools", "the column `tools` of `rows chat`");
        rows = rows.rename(&[("tools", &column)]);
    }
    message_keys(dataset);
    read_roles(dataset, &mut rows);
    trained_roles(dataset, &mut rows);
    Some(rows)
}

/// The parts of a message must go by the names that the language reads.
fn message_keys(dataset: &Section) {
    let known = |part: &str, name: &str| match part {
        "role" => matches!(name, "role" | "from"),
        "content" => matches!(name, "content" | "value"),
        _ => false,
    };
    let check = |at: &Section, key: &str, part: &str| {
        let Some(name) = at.text(key) else { return };
        if known(part, &name) {
            at.carried(key, "recognised: `role` or `from`, `content` or `value`");
        } else if matches!(part, "role" | "content") {
            let help = "rename the parts of the messages to `role` and `content`";
            at.refuse(key, format!("messages call their {part} `{name}`, which the language does not read"), help);
        }
    };
    check(dataset, "message_field_role", "role");
    check(dataset, "message_field_content", "content");
    if let Some(mappings) = dataset.section("message_property_mappings") {
        for pair in mappings.node.pairs() {
            check(&mappings, &pair.key, &pair.key);
        }
    }
}

/// `roles` maps roles of the source to those of the language.
fn read_roles(dataset: &Section, rows: &mut Rows) {
    let Some(roles) = dataset.section("roles") else { return };
    for pair in roles.node.pairs() {
        let ours = match pair.key.as_str() {
            "user" | "human" => "user",
            "assistant" | "gpt" | "model" => "assistant",
            "system" => "system",
            "tool" => "tool",
            _ => {
                let message = format!("the role `{}` is none of user, assistant, system and tool", pair.key);
                roles.refuse(&pair.key, message, "map the roles of the source to these four");
                continue;
            }
        };
        let known = ["user", "human", "assistant", "gpt", "system", "tool"];
        let others = roles.texts(&pair.key).into_iter().filter(|role| !known.contains(&role.as_str()));
        rows.roles.extend(others.map(|role| (role, ours)));
        roles.carried(&pair.key, "the usual names are recognised; others stand in `role … as=…`");
    }
}

/// `roles_to_train` names the assistant, or everyone.
fn trained_roles(dataset: &Section, rows: &mut Rows) {
    if dataset.node("roles_to_train").is_some() {
        let roles = dataset.texts("roles_to_train");
        let is_answer = |role: &String| matches!(role.as_str(), "assistant" | "gpt" | "model" | "bot");
        if !roles.is_empty() && roles.iter().all(is_answer) {
            dataset.carried("roles_to_train", "answers are what is trained");
        } else if roles.iter().any(is_answer) {
            rows.all_turns = true;
            dataset.changed("roles_to_train", "`loss-on all`: every turn is trained, or the answers alone");
        } else {
            let help = "train on `assistant`, or on every role";
            dataset.refuse("roles_to_train", "a stage trains the answers or every turn, not other roles alone", help);
        }
    }
    match dataset.text("train_on_eos").as_deref() {
        Some("turn") => dataset.carried("train_on_eos", "the end of an answer is trained with it"),
        Some(_) => dataset.dropped("train_on_eos", "the template says what is trained: the end of every answer"),
        None => {}
    }
}

/// The removed `sharegpt` type: conversations of `from` and `value`.
fn sharegpt(dataset: &Section, config: &Section) -> Option<Rows> {
    let conversation = dataset.text("conversation");
    let template = match conversation.as_deref() {
        Some("chatml") => Some(Template::Std("chatml")),
        Some("llama-2" | "llama2") => Some(Template::Std("llama2")),
        Some("llama3" | "llama-3") => Some(Template::Std("llama3")),
        Some("zephyr") => Some(Template::Std("zephyr")),
        Some("mistral") => Some(Template::Std("mistral")),
        Some("gemma") => Some(Template::Std("gemma")),
        None if config.is_on("chat_template") => chat_template(dataset, config),
        None | Some("vicuna_v1.1") => Some(turns(
            "vicuna",
            Some("{content} "),
            "USER: {content} ASSISTANT:",
            " {content}{eos}",
        )),
        Some(other) => {
            let message = format!("the conversation style `{other}` has no template in the language");
            dataset.refuse("conversation", message, "write `type: chat_template` with a `chat_template`");
            return None;
        }
    };
    dataset.carried("conversation", "the template");
    let why = "`rows chat`: conversations of `from` and `value` are recognised; axolotl itself has removed the type";
    dataset.changed("type", why);
    let mut rows = Rows::new("chat", template);
    rows.from.push(dataset.key("type"));
    if let Some(column) = dataset.text("field_messages").filter(|column| column != "conversations") {
        rows = rows.rename(&[("messages", &column)]);
    }
    dataset.carried("field_messages", "the column of `rows chat`");
    read_roles(dataset, &mut rows);
    Some(rows)
}

/// The template of a dataset of messages: its own, else that of the file, else the tokenizer's.
pub(crate) fn chat_template(dataset: &Section, config: &Section) -> Option<Template> {
    for section in [dataset, config] {
        if let Some(jinja) = section.text("chat_template_jinja") {
            section.carried("chat_template", "a template of its own");
            let is_path = jinja.ends_with(".jinja") || jinja.ends_with(".jinja2");
            if let Some(known) = crate::common::known_jinja(&jinja) {
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
            return Some(turns("metharme", Some("<|system|>{content}"), "<|user|>{content}<|model|>", "{content}{eos}"));
        }
        "tokenizer_default" => {
            section.carried("chat_template", "the model's own template");
            return Some(Template::Own);
        }
        other => {
            let why = match other.strip_prefix("tokenizer_default_fallback_") {
                Some(_) => "the model's own template; a model without one is an error, not a fallback".to_owned(),
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

/// A `type` that holds its own prompt format.
fn user_defined(kind: &Section, _key: &str) -> Option<Rows> {
    let column = |key: &str, default: &str| kind.text(key).unwrap_or_else(|| default.to_owned());
    let format = kind.text("format").unwrap_or_else(|| "{instruction} {input} ".to_owned());
    let (instruction, input) = (format.find("{instruction}"), format.find("{input}"));
    let Some(instruction_at) = instruction else {
        kind.refuse("format", "the prompt format has no `{instruction}`", "write `{instruction}` where it goes");
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
        kind.refuse("format", "the prompt format has other places than `{instruction}` and `{input}`", "write these two alone");
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
    rows = rows.rename(&[("output", &column("field_output", "output")), ("system", &column("field_system", "system"))]);
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
        kind.refuse("system_format", "the system format has no place, or more than one", "write `{system}` once");
        return None;
    }
    kind.carried("system_format", "part of the template");
    let system = system_format.replace("{system}", "{content}");
    let Some(constant) = kind.text("system_prompt") else {
        let template = DeclaredTemplate::Turns { system: Some(system), user, assistant: "{content}{eos}".into() };
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
