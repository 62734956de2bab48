//! Diagnostics as an editor shows them.

use crate::compile::Compilation;
use crate::positions::Encoding;
use lang::diagnostic::{Diagnostic, Fix, Label, Severity};
use lang::source::Span;
use lsp_types as lsp;
use lsp_types::{TextEdit, Uri, WorkspaceEdit};
use std::collections::HashMap;

/// What is needed to name places: the texts, where they lie, and how columns are counted.
pub struct Places<'a> {
    pub compilation: &'a Compilation,
    /// Where each text of the compilation lies; nothing when that is not a file.
    pub uris: &'a [Option<Uri>],
    pub encoding: Encoding,
}

impl Places<'_> {
    /// Returns the place of a span.
    pub fn location(&self, span: Span) -> Option<lsp::Location> {
        let index = span.source.0 as usize;
        let uri = self.uris.get(index)?.clone()?;
        Some(lsp::Location { uri, range: self.range(span)? })
    }

    /// Returns the range of a span in its text.
    pub fn range(&self, span: Span) -> Option<lsp::Range> {
        let file = self.compilation.files.get(span.source.0 as usize)?;
        Some(file.text.range(span.start as usize..span.end as usize, self.encoding))
    }

    /// Converts a diagnostic; the number is that of the text that owns it.
    pub fn diagnostic(&self, found: &Diagnostic) -> Option<(usize, lsp::Diagnostic)> {
        let primary = found.primary();
        let related: Vec<_> = found.labels.iter().filter_map(|label| self.related(label)).collect();
        let unused = found.code == "unused-declaration";
        let diagnostic = lsp::Diagnostic {
            range: self.range(primary)?,
            severity: Some(match found.severity {
                Severity::Error => lsp::DiagnosticSeverity::Error,
                Severity::Warning => lsp::DiagnosticSeverity::Warning,
            }),
            code: Some(lsp::Code::String(found.code.clone())),
            source: Some("adapt".into()),
            message: lsp::Message::String(message(found)),
            tags: unused.then(|| vec![lsp::DiagnosticTag::Unnecessary]),
            related_information: (!related.is_empty()).then_some(related),
            ..Default::default()
        };
        Some((primary.source.0 as usize, diagnostic))
    }

    /// Converts a fix; nothing when a part of it lies where no editor can change it.
    pub fn edit(&self, fix: &Fix) -> Option<WorkspaceEdit> {
        let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
        for edit in &fix.edits {
            let at = self.location(edit.span)?;
            let edit = TextEdit { range: at.range, new_text: edit.text.clone() };
            changes.entry(at.uri).or_default().push(edit);
        }
        Some(WorkspaceEdit { changes: Some(changes), ..Default::default() })
    }

    fn related(&self, label: &Label) -> Option<lsp::DiagnosticRelatedInformation> {
        if label.primary {
            return None;
        }
        Some(lsp::DiagnosticRelatedInformation {
            location: self.location(label.span)?,
            message: label.message.clone(),
        })
    }
}

/// Writes the message as `check` has it, and below it what helps.
fn message(found: &Diagnostic) -> String {
    let help = found.help.iter().map(|help| format!("help: {help}"));
    let notes = found.notes.iter().map(|note| format!("note: {note}"));
    let lines: Vec<String> = std::iter::once(found.message.clone()).chain(help).chain(notes).collect();
    lines.join("\n")
}
