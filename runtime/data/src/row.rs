//! Rows: what the columns of each row type mean.

use crate::error::DataError;
use crate::read::{Format, RawRow, kind_of};
use plan::work::{DataPart, RowType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// Returns the name that templates know.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// Recognises the common names of roles.
    fn of(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "user" | "human" => Some(Self::User),
            "assistant" | "gpt" => Some(Self::Assistant),
            "tool" => Some(Self::Tool),
            _ => None,
        }
    }
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// A row of a dataset, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceRow {
    Text(String),
    Chat(Vec<Message>),
    Preference { prompt: Vec<Message>, chosen: Vec<Message>, rejected: Vec<Message> },
}

impl SourceRow {
    /// Understands a raw row of a dataset.
    ///
    /// # Errors
    /// Fails when a column is missing or holds something else than the row type needs.
    pub fn parse(part: &DataPart, raw: &RawRow, file: &Path) -> Result<Self, DataError> {
        if raw.format == Format::Document {
            return document(part, raw, file);
        }
        let object = raw.object(file)?;
        let columns = Columns { part, object: &object };
        let row = match part.rows {
            RowType::Text => columns.required("text").map(|text| Self::Text(text.to_owned())),
            RowType::Instruction => columns.instruction().map(Self::Chat),
            RowType::Chat => columns.chat().map(Self::Chat),
            RowType::Preference => columns.preference(),
        };
        row.map_err(|error| error.in_file(file).at_row(raw.row))
    }

    /// Tells why the row says nothing, if it does.
    pub fn empty(&self) -> Option<&'static str> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Some("no text"),
            Self::Preference { chosen, rejected, .. } if chosen == rejected => Some(crate::encode::EQUAL),
            Self::Text(_) | Self::Chat(_) | Self::Preference { .. } => None,
        }
    }

    /// Returns a hash of what the row says; columns that are not used do not count.
    pub fn hash(&self) -> u128 {
        let mut hasher = blake3::Hasher::new();
        let mut add = |tag: u8, text: &str| {
            hasher.update(&[tag]);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        let list = |add: &mut dyn FnMut(u8, &str), tag: u8, messages: &[Message]| {
            add(tag, "");
            messages.iter().for_each(|message| add(message.role as u8, &message.content));
        };
        match self {
            Self::Text(text) => add(10, text),
            Self::Chat(messages) => list(&mut add, 11, messages),
            Self::Preference { prompt, chosen, rejected } => {
                list(&mut add, 12, prompt);
                list(&mut add, 13, chosen);
                list(&mut add, 14, rejected);
            }
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        u128::from_le_bytes(bytes)
    }
}

fn document(part: &DataPart, raw: &RawRow, file: &Path) -> Result<SourceRow, DataError> {
    match part.rows {
        RowType::Text => Ok(SourceRow::Text(raw.document(file)?)),
        rows @ (RowType::Instruction | RowType::Chat | RowType::Preference) => {
            let message =
                format!("a text file holds text rows, but dataset `{}` has {}", part.name, named(rows));
            Err(DataError::new("wrong-row-type", message)
                .help("write `rows text`, or name JSONL or JSON files")
                .in_file(file))
        }
    }
}

fn named(rows: RowType) -> &'static str {
    match rows {
        RowType::Text => "`rows text`",
        RowType::Instruction => "`rows instruction`",
        RowType::Chat => "`rows chat`",
        RowType::Preference => "`rows preference`",
    }
}

fn bad(message: String) -> DataError {
    DataError::new("bad-row", message)
        .help("correct that row, or allow some to be left out: `on-bad-row skip max=20`")
}

/// The columns of a row under their canonical names.
struct Columns<'a> {
    part: &'a DataPart,
    object: &'a Map<String, Value>,
}

impl<'a> Columns<'a> {
    /// Returns the name of a column in the source.
    fn source<'n>(&self, name: &'n str) -> &'n str
    where
        'a: 'n,
    {
        let renamed = self.part.columns.iter().find(|(canonical, _)| canonical == name);
        renamed.map_or(name, |(_, source)| source)
    }

    /// Whether another column is read from the source's column of this name.
    fn is_taken(&self, name: &str) -> bool {
        let is_own = self.part.columns.iter().any(|(canonical, _)| canonical == name);
        !is_own && self.part.columns.iter().any(|(_, source)| source == name)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        if self.is_taken(name) {
            return None;
        }
        self.object.get(self.source(name)).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, DataError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let kind = || bad(format!("column `{}` holds {}, not text", self.source(name), kind_of(value)));
        value.as_str().map(Some).ok_or_else(kind)
    }

    fn required(&self, name: &str) -> Result<&'a str, DataError> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> DataError {
        let source = self.source(name);
        if self.object.contains_key(source) {
            return bad(format!("column `{source}` is null"));
        }
        let there: Vec<String> = self.object.keys().map(|key| format!("`{key}`")).collect();
        let there = if there.is_empty() { "there are none".into() } else { there.join(", ") };
        let rows = named(self.part.rows);
        DataError::new("missing-column", format!("columns are {there}; {rows} needs `{source}`"))
            .help(self.remedy(name))
    }

    fn remedy(&self, name: &str) -> String {
        let has = |names: &[&str]| names.iter().all(|name| self.object.contains_key(*name));
        let looks = [
            (RowType::Preference, has(&["chosen", "rejected"])),
            (RowType::Chat, has(&["messages"]) || has(&["conversations"])),
            (RowType::Instruction, has(&["instruction", "output"])),
            (RowType::Text, has(&["text"])),
        ];
        let fitting = looks.iter().find(|(rows, fits)| *fits && *rows != self.part.rows);
        match fitting {
            Some((rows, _)) => format!("this looks like {}", named(*rows)),
            None => {
                let rows = named(self.part.rows).trim_matches('`');
                format!("say which column it is: `{rows} {name}=COLUMN`")
            }
        }
    }

    fn instruction(&self) -> Result<Vec<Message>, DataError> {
        let mut question = self.required("instruction")?.to_owned();
        if let Some(input) = self.text("input")?.filter(|input| !input.trim().is_empty()) {
            question.push_str("\n\n");
            question.push_str(input);
        }
        let answer = self.required("output")?;
        let system = self.text("system")?.filter(|system| !system.is_empty());
        let mut messages: Vec<Message> =
            system.map(|text| Message::new(Role::System, text)).into_iter().collect();
        messages.push(Message::new(Role::User, question));
        messages.push(Message::new(Role::Assistant, answer));
        Ok(messages)
    }

    fn chat(&self) -> Result<Vec<Message>, DataError> {
        let column = ["messages", "conversations"].into_iter().find(|name| self.get(name).is_some());
        let column = column.ok_or_else(|| self.missing("messages"))?;
        let mut messages = self.messages(column)?.unwrap_or_default();
        if messages.is_empty() {
            return Err(bad(format!("column `{}` has no message", self.source(column))));
        }
        let system = self.text("system")?.filter(|system| !system.is_empty());
        if let Some(system) = system.filter(|_| messages[0].role != Role::System) {
            messages.insert(0, Message::new(Role::System, system));
        }
        Ok(messages)
    }

    /// Returns a column that holds messages, or nothing when it holds other text.
    fn messages(&self, name: &str) -> Result<Option<Vec<Message>>, DataError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let column = self.source(name);
        let list = |list: &Vec<Value>| {
            let messages = list.iter().enumerate();
            messages.map(|(at, message)| message_of(column, at + 1, message)).collect::<Result<_, _>>()
        };
        match value {
            Value::Array(items) => list(items).map(Some),
            Value::String(text) => match serde_json::from_str(text) {
                Ok(Value::Array(items)) if items.iter().all(Value::is_object) => list(&items).map(Some),
                Ok(_) | Err(_) => Ok(None),
            },
            other => Err(bad(format!("column `{column}` holds {}, not messages", kind_of(other)))),
        }
    }

    fn preference(&self) -> Result<SourceRow, DataError> {
        let mut prompt = self.side("prompt", Role::User)?.unwrap_or_default();
        let side = |name| self.side(name, Role::Assistant)?.ok_or_else(|| self.missing(name));
        let (mut chosen, mut rejected) = (side("chosen")?, side("rejected")?);
        let shared = shared_prefix(&chosen, &rejected);
        if shared > 0 {
            prompt = chosen[..shared].to_vec();
            chosen.drain(..shared);
            rejected.drain(..shared);
        }
        if chosen.is_empty() || rejected.is_empty() {
            return Err(bad("`chosen` and `rejected` must each end with an answer of their own".into()));
        }
        Ok(SourceRow::Preference { prompt, chosen, rejected })
    }

    fn side(&self, name: &str, role: Role) -> Result<Option<Vec<Message>>, DataError> {
        if let Some(messages) = self.messages(name)? {
            return Ok(Some(messages));
        }
        Ok(self.text(name)?.map(|text| vec![Message::new(role, text)]))
    }
}

/// Returns how many messages both sides begin with; equal sides keep their last one.
fn shared_prefix(chosen: &[Message], rejected: &[Message]) -> usize {
    let shared = chosen.iter().zip(rejected).take_while(|(one, other)| one == other).count();
    let all = shared == chosen.len() && shared == rejected.len();
    if all { shared.saturating_sub(1) } else { shared }
}

fn message_of(column: &str, number: usize, value: &Value) -> Result<Message, DataError> {
    let place = format!("message {number} of `{column}`");
    let Some(object) = value.as_object() else {
        return Err(bad(format!("{place} is {}, not an object", kind_of(value))));
    };
    let field = |names: [&str; 2]| names.iter().find_map(|name| object.get(*name));
    let role = field(["role", "from"]).and_then(Value::as_str);
    let role = role.ok_or_else(|| bad(format!("{place} has no `role`")))?;
    let content = field(["content", "value"]).filter(|content| !content.is_null());
    let content = content.ok_or_else(|| bad(format!("{place} has no `content`")))?;
    let content = content_text(content).ok_or_else(|| bad(format!("the content of {place} is no text")))?;
    let role = Role::of(role).ok_or_else(|| {
        DataError::new("unknown-role", format!("{place} has the role `{role}`"))
            .help("roles are `system`, `user`, `assistant` and `tool`; allow some rows to be left out: `on-bad-row skip max=20`")
    })?;
    Ok(Message { role, content })
}

/// Content is text, or a list of parts that are all text.
fn content_text(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let parts = value.as_array()?.iter();
    parts.map(|part| part.as_str().or_else(|| part.get("text")?.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::work::MixAmount;

    fn part(rows: RowType, columns: &[(&str, &str)]) -> DataPart {
        DataPart {
            name: "d".into(),
            rows,
            columns: columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect(),
            train_files: Vec::new(),
            eval_files: Vec::new(),
            transforms: Vec::new(),
            holdout: None,
            seed: 0,
            max_bad_rows: 0,
            amount: MixAmount::Weight(1.0),
        }
    }

    fn parse(rows: RowType, columns: &[(&str, &str)], json: &str) -> Result<SourceRow, DataError> {
        let raw = RawRow { row: 37, bytes: json.into(), format: Format::Lines };
        SourceRow::parse(&part(rows, columns), &raw, Path::new("d.jsonl"))
    }

    fn short(messages: &[Message]) -> String {
        let one = |message: &Message| format!("{:?}:{}", message.role, message.content);
        messages.iter().map(one).collect::<Vec<_>>().join("|")
    }

    fn chat(rows: RowType, columns: &[(&str, &str)], json: &str) -> String {
        match parse(rows, columns, json).expect("a good row") {
            SourceRow::Chat(messages) => short(&messages),
            other => panic!("not a chat: {other:?}"),
        }
    }

    #[test]
    fn instruction_rows_become_chats() {
        let json = r#"{"instruction":"Tel op.","input":"2 2","answer":"4","system":"Kort."}"#;
        let found = chat(RowType::Instruction, &[("output", "answer")], json);
        assert_eq!(found, "System:Kort.|User:Tel op.\n\n2 2|Assistant:4");
    }

    #[test]
    fn a_column_is_read_once() {
        let json = r#"{"input":"Tel op.","output":"4"}"#;
        let found = chat(RowType::Instruction, &[("instruction", "input")], json);
        assert_eq!(found, "User:Tel op.|Assistant:4", "`input` is the instruction, and no input as well");
    }

    #[test]
    fn chats_come_in_many_shapes() {
        let expected = "User:Hoi|Assistant:Dag";
        for json in [
            r#"{"messages":[{"role":"user","content":"Hoi"},{"role":"assistant","content":"Dag"}]}"#,
            r#"{"conversations":[{"from":"human","value":"Hoi"},{"from":"gpt","value":"Dag"}]}"#,
            r#"{"messages":"[{\"role\":\"user\",\"content\":\"Hoi\"},{\"role\":\"assistant\",\"content\":\"Dag\"}]"}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hoi"}]},{"role":"assistant","content":"Dag"}]}"#,
        ] {
            assert_eq!(chat(RowType::Chat, &[], json), expected);
        }
    }

    #[test]
    fn the_prompt_of_a_preference_is_given_or_shared() {
        let expected = ("User:Q".to_owned(), "Assistant:a".to_owned(), "Assistant:b".to_owned());
        for json in [
            r#"{"prompt":"Q","chosen":"a","rejected":"b"}"#,
            r#"{"prompt":[{"role":"user","content":"Q"}],"chosen":[{"role":"assistant","content":"a"}],"rejected":"b"}"#,
            r#"{"prompt":"Q","chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"b"}]}"#,
        ] {
            let Ok(SourceRow::Preference { prompt, chosen, rejected }) =
                parse(RowType::Preference, &[], json)
            else {
                panic!("not a preference: {json}")
            };
            assert_eq!((short(&prompt), short(&chosen), short(&rejected)), expected);
        }
        let same = parse(RowType::Preference, &[], r#"{"prompt":"Q","chosen":"a","rejected":"a"}"#);
        assert_eq!(same.expect("a good row").empty(), Some("chosen equals rejected"));
    }

    #[test]
    fn errors_name_the_row_and_what_is_there() {
        let error = parse(RowType::Instruction, &[], r#"{"prompt":"a","chosen":"b","rejected":"c"}"#);
        let error = error.expect_err("no such column");
        assert_eq!(
            error.to_string(),
            "d.jsonl:37: columns are `prompt`, `chosen`, `rejected`; `rows instruction` needs `instruction`"
        );
        assert_eq!(error.help, "this looks like `rows preference`");
        let error = parse(RowType::Chat, &[], r#"{"messages":[{"role":"bing","content":"b"}]}"#);
        assert_eq!(error.expect_err("no such role").code, "unknown-role");
        for (rows, json) in [
            (RowType::Text, r#"{"text":null}"#),
            (RowType::Text, r#"{"text":3}"#),
            (RowType::Chat, r#"{"messages":[]}"#),
            (RowType::Chat, r#"{"messages":["a"]}"#),
            (RowType::Chat, r#"{"messages":[{"role":"user","content":null}]}"#),
        ] {
            assert_eq!(parse(rows, &[], json).expect_err(json).code, "bad-row");
        }
    }

    #[test]
    fn the_hash_is_of_what_is_said() {
        let hash = |json| parse(RowType::Text, &[], json).expect("a good row").hash();
        assert_eq!(hash(r#"{"id":1,"text":"a"}"#), hash(r#"{"text":"a","id":2}"#));
        assert_ne!(hash(r#"{"text":"a"}"#), hash(r#"{"text":"b"}"#));
    }
}
