//! Recipe text: nodes with their comments, and which keys of the file each came from.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A node of the recipe that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    name: String,
    /// Arguments and properties as they are written, each with the key that it came from.
    words: Vec<(String, Option<String>)>,
    children: Vec<Line>,
    /// The keys that it came from.
    pub from: Vec<String>,
    /// What the importer has to say about it.
    note: Option<String>,
}

/// A comment of the file, for the node that came from its key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comments {
    pub above: Vec<String>,
    pub beside: Option<String>,
}

/// What was written, and where each node stands in it.
pub(crate) struct Written {
    pub text: String,
    /// Nodes, arguments and properties: start and end in bytes, and the keys that they came from.
    pub places: Vec<(usize, usize, Vec<String>)>,
}

impl Line {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds an argument that is written as it is: a name, a number, a keyword.
    pub fn word(mut self, word: impl Into<String>) -> Self {
        self.words.push((word.into(), None));
        self
    }

    /// Adds an argument that is text: bare when it can be, else quoted.
    pub fn text(self, text: &str) -> Self {
        self.word(bare_or_quoted(text))
    }

    /// Adds an argument in quotes.
    pub fn quoted(self, text: &str) -> Self {
        self.word(quote(text))
    }

    /// Adds a property whose value is written as it is.
    pub fn with(self, name: &str, value: impl AsRef<str>) -> Self {
        self.word(format!("{name}={}", value.as_ref()))
    }

    /// Adds a property whose value is text.
    pub fn with_text(self, name: &str, text: &str) -> Self {
        let value = bare_or_quoted(text);
        self.with(name, value)
    }

    pub fn child(mut self, child: Line) -> Self {
        self.children.push(child);
        self
    }

    pub fn push(&mut self, child: Line) {
        self.children.push(child);
    }

    /// Names a key that it came from; the first one behind an argument or property is that one's.
    pub fn from(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        if let Some((_, from)) = self.words.last_mut() {
            from.get_or_insert_with(|| key.clone());
        }
        self.from.push(key);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Whether nothing but its name is written.
    pub fn is_bare(&self) -> bool {
        self.words.is_empty() && self.children.is_empty()
    }
}

/// Writes a recipe.
pub(crate) fn write(header: &[String], lines: &[Line], comments: impl Fn(&str) -> Comments) -> Written {
    let mut written = Written { text: String::new(), places: Vec::new() };
    for line in header {
        let _ = writeln!(written.text, "{}", format!("// {}", safe(line)).trim_end());
    }
    written.text += "adapt 1\n";
    // A key may stand behind several nodes; what is said of it is said once, at the first.
    let said = RefCell::new(BTreeSet::new());
    let comments = |key: &str| {
        if said.borrow_mut().insert(key.to_owned()) { comments(key) } else { Comments::default() }
    };
    for (at, line) in lines.iter().enumerate() {
        // Declarations without a block stand together.
        let joins = at > 0 && line.children.is_empty() && lines[at - 1].children.is_empty();
        if !joins || line.name != lines[at - 1].name {
            written.text.push('\n');
        }
        write_line(&mut written, line, 0, &comments);
    }
    written
}

fn write_line(out: &mut Written, line: &Line, depth: usize, comments: &impl Fn(&str) -> Comments) {
    let indent = "    ".repeat(depth);
    let found: Vec<Comments> = line.from.iter().map(|key| comments(key)).collect();
    let mut above: Vec<String> = found.iter().flat_map(|found| found.above.clone()).collect();
    let mut beside: Vec<String> = found.into_iter().filter_map(|found| found.beside).collect();
    beside.extend(line.note.clone());
    let words = line.words.iter().map(|(word, _)| word.as_str());
    let head = std::iter::once(line.name.as_str()).chain(words).collect::<Vec<_>>().join(" ");
    let fits = |text: &String| indent.len() + head.len() + text.chars().count() + 5 <= 110;
    let beside = match beside.as_slice() {
        [only] if line.children.is_empty() && fits(only) => format!(" // {}", safe(only)),
        _ => {
            above.append(&mut beside);
            String::new()
        }
    };
    for comment in above {
        let _ = writeln!(out.text, "{indent}// {}", safe(&comment));
    }
    out.text += &indent;
    let start = out.text.len();
    let slot = out.places.len();
    out.places.push((start, start, line.from.clone()));
    let mut at = start + line.name.len();
    for (word, key) in &line.words {
        out.places.extend(key.iter().map(|key| (at + 1, at + 1 + word.len(), vec![key.clone()])));
        at += 1 + word.len();
    }
    out.text += &head;
    if line.children.is_empty() {
        let _ = writeln!(out.text, "{beside}");
    } else {
        out.text += " {\n";
        for child in &line.children {
            write_line(out, child, depth + 1, comments);
        }
        let _ = writeln!(out.text, "{indent}}}");
    }
    out.places[slot].1 = out.text.len();
}

/// Makes a comment that ends with its line and holds nothing that KDL forbids.
fn safe(comment: &str) -> String {
    let text: String =
        comment.chars().map(|c| if is_forbidden(c) || ends_line(c) { ' ' } else { c }).collect();
    lang::syntax::mask(text.trim())
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Characters that a KDL text may not hold as they are.
fn is_forbidden(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Writes text bare when it reads as a plain word, else in quotes.
pub(crate) fn bare_or_quoted(text: &str) -> String {
    let mut letters = text.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'));
    let is_keyword = matches!(text, "true" | "false" | "null" | "inf" | "nan" | "none" | "None");
    let ends_oddly = text.ends_with([':', '.']);
    if begins && goes_on && !is_keyword && !ends_oddly { text.to_owned() } else { quote(text) }
}

/// Writes text in quotes.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if is_forbidden(c) || ends_line(c) => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// Writes a number the way recipes do: `2e-4`, `0.05`, `1.0`.
pub(crate) fn number(number: f64) -> String {
    let small = number != 0.0 && number.abs() < 0.01;
    if small || number.abs() >= 1e15 { format!("{number:e}") } else { format!("{number}") }
}

/// Writes a share as a percentage: `"5%"`.
pub(crate) fn percent(share: f64) -> String {
    let rounded = (share * 100.0 * 1e9).round() / 1e9;
    format!("\"{rounded}%\"")
}

/// Writes a number of steps: `"100 steps"`.
pub(crate) fn steps(count: f64) -> String {
    format!("\"{count} {}\"", if count == 1.0 { "step" } else { "steps" })
}

/// Writes a large count with its unit when that is exact: `"2B tokens"`.
pub(crate) fn amount(count: f64, noun: &str) -> String {
    for (size, unit) in [(1e12, "T"), (1e9, "B"), (1e6, "M")] {
        let scaled = count / size;
        if scaled >= 1.0 && (scaled * 1000.0).fract() == 0.0 {
            return format!("\"{scaled}{unit} {noun}\"");
        }
    }
    format!("\"{count} {noun}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bare_only_where_that_is_safe() {
        for (text, expected) in [
            ("q_proj", "q_proj"),
            ("std:zephyr", "std:zephyr"),
            ("true", "\"true\""),
            ("70b", "\"70b\""),
            ("a/b", "\"a/b\""),
            ("", "\"\""),
            ("a\u{202e}b\n", "\"a\\u{202e}b\\n\""),
        ] {
            assert_eq!(bare_or_quoted(text), expected);
        }
    }

    #[test]
    fn numbers_are_written_as_recipes_write_them() {
        assert_eq!([2e-4, 5.5e-5, 0.05, 1.0, 16.0].map(number), ["2e-4", "5.5e-5", "0.05", "1", "16"]);
        assert_eq!(
            [0.05, 0.1, 0.03865, 1.0 / 3.0].map(percent),
            ["\"5%\"", "\"10%\"", "\"3.865%\"", "\"33.333333333%\""]
        );
        assert_eq!(amount(2e9, "tokens"), "\"2B tokens\"");
        assert_eq!(amount(5e8, "tokens"), "\"500M tokens\"");
        assert_eq!(amount(498_073_600.0, "tokens"), "\"498073600 tokens\"");
    }
}
