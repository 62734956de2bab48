//! What either side can do.

use crate::editor::Abilities;
use crate::highlight;
use crate::positions::Encoding;
use lsp_types::{
    CodeActionKind, CodeActionOptions, CodeActionProvider, CompletionOptions, DefinitionProvider,
    DiagnosticOptions, DiagnosticProvider, DocumentFormattingProvider, DocumentLinkOptions,
    DocumentSymbolProvider, FoldingRangeProvider, Full, HoverProvider, InlayHintProvider,
    PositionEncodingKind, ReferencesProvider, RenameOptions, RenameProvider, Save, SemanticTokensOptions,
    SemanticTokensOptionsRange, SemanticTokensProvider, ServerCapabilities, TextDocumentSync,
    TextDocumentSyncKind, TextDocumentSyncOptions,
};
use serde_json::Value;

/// What the editor can do. Only what matters is read, so that an editor may say what it likes of the rest.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub abilities: Abilities,
    /// Whether it asks for diagnostics; then none are sent unasked, or it would show each twice.
    pub pulls: bool,
    /// Whether it shows diagnostics of other texts that come with an answer.
    pub relates: bool,
    /// Whether it can be told to ask again.
    pub refreshes: bool,
    /// Whether it can watch files.
    pub watches: bool,
}

impl Client {
    /// Reads the parameters of `initialize`.
    pub fn of(params: &Value) -> Self {
        let value = |path: &str| params.pointer(&format!("/capabilities/{path}"));
        let is = |path: &str| value(path).and_then(Value::as_bool) == Some(true);
        let offered = value("general/positionEncodings").cloned().unwrap_or_default();
        let offered: Vec<PositionEncodingKind> = serde_json::from_value(offered).unwrap_or_default();
        Self {
            abilities: Abilities {
                encoding: Encoding::of(&offered),
                snippets: is("textDocument/completion/completionItem/snippetSupport"),
                code_pages: is("textDocument/publishDiagnostics/codeDescriptionSupport")
                    || is("textDocument/diagnostic/codeDescriptionSupport"),
            },
            pulls: value("textDocument/diagnostic").is_some_and(Value::is_object),
            relates: is("textDocument/diagnostic/relatedDocumentSupport"),
            refreshes: is("workspace/diagnostics/refreshSupport"),
            watches: is("workspace/didChangeWatchedFiles/dynamicRegistration"),
        }
    }
}

/// Returns what the server can do.
pub fn of_server(client: &Client) -> ServerCapabilities {
    let sync = TextDocumentSyncOptions {
        open_close: Some(true),
        change: Some(TextDocumentSyncKind::Incremental),
        save: Some(Save::Bool(true)),
        ..Default::default()
    };
    let triggers = [" ", "=", "\"", "/", ":", "$"].map(str::to_owned).to_vec();
    ServerCapabilities {
        position_encoding: Some(client.abilities.encoding.kind()),
        text_document_sync: Some(TextDocumentSync::Options(sync)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(triggers),
            ..Default::default()
        }),
        hover_provider: Some(HoverProvider::Bool(true)),
        definition_provider: Some(DefinitionProvider::Bool(true)),
        references_provider: Some(ReferencesProvider::Bool(true)),
        document_symbol_provider: Some(DocumentSymbolProvider::Bool(true)),
        document_link_provider: Some(DocumentLinkOptions::default()),
        folding_range_provider: Some(FoldingRangeProvider::Bool(true)),
        document_formatting_provider: Some(DocumentFormattingProvider::Bool(true)),
        inlay_hint_provider: Some(InlayHintProvider::Bool(true)),
        rename_provider: Some(RenameProvider::RenameOptions(RenameOptions {
            prepare_provider: Some(true),
            ..Default::default()
        })),
        code_action_provider: Some(CodeActionProvider::CodeActionOptions(CodeActionOptions {
            code_action_kinds: Some(vec![CodeActionKind::QuickFix]),
            ..Default::default()
        })),
        semantic_tokens_provider: Some(SemanticTokensProvider::SemanticTokensOptions(
            SemanticTokensOptions {
                legend: highlight::legend(),
                range: Some(SemanticTokensOptionsRange::Bool(true)),
                full: Some(Full::Bool(true)),
                ..Default::default()
            },
        )),
        diagnostic_provider: Some(DiagnosticProvider::DiagnosticOptions(DiagnosticOptions {
            identifier: Some("adapt".into()),
            inter_file_dependencies: true,
            workspace_diagnostics: false,
            ..Default::default()
        })),
        ..Default::default()
    }
}
