//! What a check found: one internal type, converted to terminal, JSON and editor forms at the edge.

use crate::source::Span;
use serde::{Deserialize, Serialize};

/// How bad it is. Errors stop a run; warnings name a likely mistake and an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
///
/// `code` is kebab-case and names the problem; `message` is lowercase without full stop and
/// makes sense alone; exactly one label is primary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub code: String,
    pub severity: Severity,
    pub message: String,
    pub labels: Vec<Label>,
    /// Something that the reader can change, starting with a verb, or a did-you-mean.
    pub help: Option<String>,
    /// Facts of the case, each a sentence.
    pub notes: Vec<String>,
    pub fixes: Vec<Fix>,
}

/// A place and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub span: Span,
    pub message: String,
    pub primary: bool,
}

/// A change that a machine may apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fix {
    pub title: String,
    pub edits: Vec<Edit>,
}

/// Replaces the text of `span` with `text`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    pub span: Span,
    pub text: String,
}

impl Diagnostic {
    /// Starts an error with its primary label.
    pub fn error(code: &str, message: impl Into<String>, at: Span, label: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message, at, label)
    }

    /// Starts a warning with its primary label.
    pub fn warning(code: &str, message: impl Into<String>, at: Span, label: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message, at, label)
    }

    fn new(
        severity: Severity,
        code: &str,
        message: impl Into<String>,
        at: Span,
        label: impl Into<String>,
    ) -> Self {
        Self {
            code: code.to_owned(),
            severity,
            message: visible(message.into()),
            labels: vec![Label { span: at, message: visible(label.into()), primary: true }],
            help: None,
            notes: Vec::new(),
            fixes: Vec::new(),
        }
    }

    /// Adds a secondary label.
    pub fn with_label(mut self, span: Span, message: impl Into<String>) -> Self {
        self.labels.push(Label { span, message: visible(message.into()), primary: false });
        self
    }

    /// Sets the help.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(visible(help.into()));
        self
    }

    /// Adds a note.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(visible(note.into()));
        self
    }

    /// Adds a fix of one edit.
    pub fn with_fix(mut self, title: impl Into<String>, span: Span, text: impl Into<String>) -> Self {
        self.fixes.push(Fix { title: visible(title.into()), edits: vec![Edit { span, text: text.into() }] });
        self
    }

    /// Returns the primary label's span.
    pub fn primary(&self) -> Span {
        self.labels
            .iter()
            .find(|label| label.primary)
            .expect("every diagnostic is made with its primary label")
            .span
    }
}

/// Writes characters that break a line, hide what stands beside them or steer a terminal as KDL escapes
/// them: a sentence quotes what a recipe says, whatever it says.
pub fn visible(sentence: String) -> String {
    let is_plain = sentence.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain || !sentence.contains(is_unseen) {
        return sentence;
    }
    let escaped = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        c if is_unseen(c) => format!("\\u{{{:x}}}", c as u32),
        c => c.to_string(),
    };
    sentence.chars().map(escaped).collect()
}

/// Whether a character is a control character, ends lines, or changes the direction of text.
fn is_unseen(c: char) -> bool {
    let directs = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || directs || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceId;

    #[test]
    fn a_sentence_shows_what_cannot_be_seen() {
        let at = Span { source: SourceId(0), start: 0, end: 0 };
        let found = Diagnostic::error("unknown-name", "`a\r\n\u{1b}[31mé`", at, "\u{202e}x")
            .with_label(at, "\t")
            .with_help("\u{feff}")
            .with_note("🦀 \u{2028}")
            .with_fix("\u{0}", at, "\n");
        assert_eq!(found.message, r"`a\r\n\u{1b}[31mé`");
        assert_eq!(
            found.labels.iter().map(|label| label.message.as_str()).collect::<Vec<_>>(),
            [r"\u{202e}x", r"\t"]
        );
        assert_eq!((found.help.as_deref(), found.notes[0].as_str()), (Some(r"\u{feff}"), r"🦀 \u{2028}"));
        assert_eq!((found.fixes[0].title.as_str(), found.fixes[0].edits[0].text.as_str()), (r"\u{0}", "\n"));
    }
}
