//! Private characters in rendered text: what is between them, and how they get there.

use crate::error::DataError;
use crate::row::Message;
use std::ops::Range;

/// Noncharacters of Unicode, which no text may hold: begin and end of what is trained, and the inside of
/// a special token that is data.
pub const OPEN: char = '\u{FDD0}';
pub const CLOSE: char = '\u{FDD1}';
pub const GUARD: char = '\u{FDD2}';

/// Rendered text without its private characters, and where they were.
#[derive(Debug, Default)]
pub struct Parsed {
    pub text: String,
    pub spans: Vec<Range<usize>>,
    pub guards: Vec<usize>,
}

impl Parsed {
    pub fn of(rendered: &str) -> Self {
        let mut parsed = Self { text: String::with_capacity(rendered.len()), ..Self::default() };
        let mut open = Vec::new();
        for character in rendered.chars() {
            match character {
                OPEN => open.push(parsed.text.len()),
                CLOSE => {
                    // Of nested marks the outer pair counts.
                    if let Some(start) = open.pop().filter(|_| open.is_empty()) {
                        parsed.spans.push(start..parsed.text.len());
                    }
                }
                GUARD => parsed.guards.push(parsed.text.len()),
                _ => parsed.text.push(character),
            }
        }
        parsed
    }
}

/// Refuses data that holds the private characters.
pub fn refuse_private(messages: &[Message]) -> Result<(), DataError> {
    let private = |message: &Message| message.content.contains([OPEN, CLOSE, GUARD]);
    if messages.iter().any(private) {
        return Err(DataError::new("bad-row", "the row holds noncharacters of Unicode (U+FDD0 to U+FDD2)")
            .help("remove them from the row, or allow some to be left out: `on-bad-row skip max=20`"));
    }
    Ok(())
}

/// Puts a content between private characters.
pub fn wrap(content: &str) -> String {
    format!("{OPEN}{content}{CLOSE}")
}

/// The same, with the space around the content outside.
pub fn wrap_trimmed(content: &str) -> String {
    let inner = content.trim();
    if inner.is_empty() {
        return format!("{content}{OPEN}{CLOSE}");
    }
    let before = content.len() - content.trim_start().len();
    let after = before + inner.len();
    format!("{}{OPEN}{inner}{CLOSE}{}", &content[..before], &content[after..])
}

/// Turns generation blocks into blocks of the filter that writes the private characters.
///
/// Returns the template and whether there were any. Whitespace control (`-`) stays as it is.
/// Line breaks become `\n`, as Jinja reads them.
pub fn rewrite(jinja: &str) -> (String, bool) {
    let jinja = &jinja.replace("\r\n", "\n").replace('\r', "\n");
    let mut result = String::with_capacity(jinja.len());
    let mut rest = jinja.as_str();
    let mut marked = false;
    while let Some((before, tag)) = rest.split_once("{%") {
        result.push_str(before);
        let Some((inside, after)) = tag.split_once("%}") else {
            result.push_str("{%");
            rest = tag;
            continue;
        };
        let name = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let new = match name.trim() {
            "generation" => inside.replace("generation", "filter __generation"),
            "endgeneration" => inside.replace("endgeneration", "endfilter"),
            _ => inside.to_owned(),
        };
        marked |= new != inside;
        result.push_str("{%");
        result.push_str(&new);
        result.push_str("%}");
        rest = after;
    }
    result.push_str(rest);
    (result, marked)
}
