//! axolotl's dataset types as row types: which columns, which template, what is trained.

use super::prompt;
use super::template::chat_template;
use crate::common::{DeclaredTemplate, Template};
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

    pub fn rename(mut self, columns: &[(&'static str, &str)]) -> Self {
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
        return prompt::user_defined(&dataset.section("type")?);
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
        "chatml" => (
            Template::Std("chatml"),
            "`rows instruction` with `std:chatml`; the input follows the instruction",
        ),
        _ => {
            dataset.refuse(
                "type",
                format!("the prompt style `{option}` is not known"),
                "write `alpaca`, `alpaca:chat` or `alpaca:chatml`",
            );
            return None;
        }
    };
    dataset.changed("type", why);
    let mut rows = Rows::new("instruction", Some(template)).rename(columns);
    rows.from.push(dataset.key("type"));
    let fields = ["field_instruction", "field_input", "field_output", "field_system"];
    dataset.drop_all(&fields, "axolotl reads it only inside a `type` of its own");
    Some(rows)
}

fn metharme(dataset: &Section) -> Option<Rows> {
    dataset.changed("type", "`rows instruction` with metharme's marks as `turns`");
    let template =
        turns("metharme", Some("<|system|>{content}"), "<|user|>{content}<|model|>", "{content}{eos}");
    let mut rows = Rows::new("instruction", Some(template))
        .rename(&[("instruction", "prompt"), ("output", "generation")]);
    rows.from.push(dataset.key("type"));
    Some(rows)
}

pub(crate) fn turns(name: &str, system: Option<&str>, user: &str, assistant: &str) -> Template {
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
pub(crate) fn message_keys(dataset: &Section) {
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
            at.refuse(
                key,
                format!("messages call their {part} `{name}`, which the language does not read"),
                help,
            );
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
pub(crate) fn read_roles(dataset: &Section, rows: &mut Rows) {
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
            dataset.refuse(
                "roles_to_train",
                "a stage trains the answers or every turn, not other roles alone",
                help,
            );
        }
    }
    match dataset.text("train_on_eos").as_deref() {
        Some("turn") => dataset.carried("train_on_eos", "the end of an answer is trained with it"),
        Some(_) => {
            dataset.dropped("train_on_eos", "the template says what is trained: the end of every answer")
        }
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
        None | Some("vicuna_v1.1") => {
            Some(turns("vicuna", Some("{content} "), "USER: {content} ASSISTANT:", " {content}{eos}"))
        }
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
