//! What chat templates of transformers expect of Jinja beyond minijinja's own.

use super::{CLOSE, OPEN};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat;
use serde_json::Value as Json;

/// Deep enough for any honest template.
const RECURSION: usize = 200;

/// Returns an environment with the settings of transformers.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax); // Building fails only for delimiters, and these are the usual ones.
    }
    environment.set_recursion_limit(RECURSION);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.add_filter("__generation", |text: String| format!("{OPEN}{text}{CLOSE}"));
    environment.add_filter("tojson", to_json);
    // In Python None is not iterable.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(&format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// `json.dumps(value, ensure_ascii=False)` of Python; the built-in filter escapes for HTML.
fn to_json(value: Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = indent.or(options.get::<Option<Value>>("indent")?);
    let indent =
        indent.filter(|indent| indent.kind() == ValueKind::Number).and_then(|indent| indent.as_usize());
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let default = if indent.is_some() { [",", ": "] } else { [", ", ": "] };
    let [item, key] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        _ => default.map(str::to_owned),
    };
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    let mut writer = Writer { indent, ascii, sort, item, key, text: String::new() };
    writer.value(&json, 0);
    Ok(writer.text)
}

struct Writer {
    indent: Option<usize>,
    ascii: bool,
    sort: bool,
    item: String,
    key: String,
    text: String,
}

impl Writer {
    fn value(&mut self, value: &Json, depth: usize) {
        match value {
            Json::String(text) => self.string(text),
            Json::Array(items) if items.is_empty() => self.text.push_str("[]"),
            Json::Object(object) if object.is_empty() => self.text.push_str("{}"),
            Json::Array(items) => {
                self.text.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.separate(at, depth + 1);
                    self.value(item, depth + 1);
                }
                self.line(depth);
                self.text.push(']');
            }
            Json::Object(object) => self.object(object, depth),
            Json::Null | Json::Bool(_) | Json::Number(_) => self.text.push_str(&value.to_string()),
        }
    }

    fn object(&mut self, object: &serde_json::Map<String, Json>, depth: usize) {
        let mut entries: Vec<_> = object.iter().collect();
        if self.sort {
            entries.sort_by_key(|(key, _)| *key);
        }
        self.text.push('{');
        for (at, (key, value)) in entries.into_iter().enumerate() {
            self.separate(at, depth + 1);
            self.string(key);
            let colon = self.key.clone();
            self.text.push_str(&colon);
            self.value(value, depth + 1);
        }
        self.line(depth);
        self.text.push('}');
    }

    fn separate(&mut self, at: usize, depth: usize) {
        if at > 0 {
            let comma = self.item.clone();
            self.text.push_str(&comma);
        }
        self.line(depth);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        let quoted = Json::String(text.to_owned()).to_string();
        if !self.ascii {
            self.text.push_str(&quoted);
            return;
        }
        for unit in quoted.chars() {
            if unit.is_ascii() {
                self.text.push(unit);
            } else {
                let mut buffer = [0; 2];
                for code in unit.encode_utf16(&mut buffer) {
                    self.text.push_str(&format!("\\u{code:04x}"));
                }
            }
        }
    }
}
