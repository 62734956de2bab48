//! Requests to the editor's core, and its answers in the protocol's form.

use super::capabilities::Client;
use super::read;
use crate::editor::Editor;
use crate::outside::Outside;
use lsp_server::ErrorCode;
use lsp_types::{
    CodeActionKind, CodeActionParams, CompletionParams, DefinitionParams, DocumentDiagnosticParams,
    DocumentFormattingParams, DocumentLinkParams, DocumentSymbolParams, FoldingRangeParams,
    FullDocumentDiagnosticReport, HoverParams, InlayHintParams, PrepareRenameParams, ReferenceParams,
    RelatedDocument, RelatedFullDocumentDiagnosticReport, RenameParams, SemanticTokens, SemanticTokensParams,
    SemanticTokensRangeParams,
};
use serde_json::{Value, json};

/// An answer, or why there is none.
type Answer = Result<Value, (ErrorCode, String)>;

/// Answers a request.
pub fn answer<O: Outside>(editor: &mut Editor<O>, client: &Client, method: &str, params: Value) -> Answer {
    let unread = |error: String| (ErrorCode::InvalidParams, error);
    match method {
        "textDocument/completion" => {
            let asked = read::<CompletionParams>(params).map_err(unread)?.text_document_position_params;
            let items = editor.completion(&asked.text_document.uri, asked.position);
            Ok(json!({ "isIncomplete": false, "items": items }))
        }
        "textDocument/hover" => {
            let asked = read::<HoverParams>(params).map_err(unread)?.text_document_position_params;
            Ok(json!(editor.hover(&asked.text_document.uri, asked.position)))
        }
        "textDocument/definition" => {
            let asked = read::<DefinitionParams>(params).map_err(unread)?.text_document_position_params;
            Ok(json!(editor.definition(&asked.text_document.uri, asked.position)))
        }
        "textDocument/references" => {
            let asked = read::<ReferenceParams>(params).map_err(unread)?;
            let (at, declaration) = (asked.text_document_position_params, asked.context.include_declaration);
            Ok(json!(editor.references(&at.text_document.uri, at.position, declaration)))
        }
        "textDocument/prepareRename" => {
            let asked = read::<PrepareRenameParams>(params).map_err(unread)?.text_document_position_params;
            Ok(json!(editor.prepare_rename(&asked.text_document.uri, asked.position)))
        }
        "textDocument/rename" => {
            let asked = read::<RenameParams>(params).map_err(unread)?;
            let at = asked.text_document_position_params;
            let renamed = editor.rename(&at.text_document.uri, at.position, &asked.new_name);
            renamed.map(|edit| json!(edit)).map_err(|reason| (ErrorCode::RequestFailed, reason))
        }
        "textDocument/codeAction" => {
            let asked = read::<CodeActionParams>(params).map_err(unread)?;
            let only = asked.context.only.unwrap_or_default();
            let wanted = only.is_empty()
                || only.iter().any(|kind| [CodeActionKind::QuickFix, CodeActionKind::Empty].contains(kind));
            let actions =
                if wanted { editor.actions(&asked.text_document.uri, asked.range) } else { Vec::new() };
            Ok(json!(actions))
        }
        "textDocument/diagnostic" => {
            let asked = read::<DocumentDiagnosticParams>(params).map_err(unread)?;
            let items = editor.diagnostics(&asked.text_document.uri);
            let full = |items| FullDocumentDiagnosticReport { items, ..Default::default() };
            let related = || {
                let related = editor.related(&asked.text_document.uri).into_iter();
                related
                    .map(|(uri, items)| (uri, RelatedDocument::FullDocumentDiagnosticReport(full(items))))
                    .collect()
            };
            let related_documents = client.relates.then(related);
            Ok(json!(RelatedFullDocumentDiagnosticReport {
                related_documents,
                full_document_diagnostic_report: full(items),
            }))
        }
        _ => answer_of_text(editor, method, params),
    }
}

/// Answers what is asked of a whole text or a part of it.
fn answer_of_text<O: Outside>(editor: &mut Editor<O>, method: &str, params: Value) -> Answer {
    let unread = |error: String| (ErrorCode::InvalidParams, error);
    match method {
        "textDocument/documentSymbol" => {
            let asked = read::<DocumentSymbolParams>(params).map_err(unread)?;
            Ok(json!(editor.symbols(&asked.text_document.uri)))
        }
        "textDocument/documentLink" => {
            let asked = read::<DocumentLinkParams>(params).map_err(unread)?;
            Ok(json!(editor.links(&asked.text_document.uri)))
        }
        "textDocument/foldingRange" => {
            let asked = read::<FoldingRangeParams>(params).map_err(unread)?;
            Ok(json!(editor.folding(&asked.text_document.uri)))
        }
        "textDocument/semanticTokens/full" => {
            let asked = read::<SemanticTokensParams>(params).map_err(unread)?;
            let data = editor.tokens(&asked.text_document.uri, None);
            Ok(json!(SemanticTokens { result_id: None, data }))
        }
        "textDocument/semanticTokens/range" => {
            let asked = read::<SemanticTokensRangeParams>(params).map_err(unread)?;
            let data = editor.tokens(&asked.text_document.uri, Some(asked.range));
            Ok(json!(SemanticTokens { result_id: None, data }))
        }
        "textDocument/inlayHint" => {
            let asked = read::<InlayHintParams>(params).map_err(unread)?;
            Ok(json!(editor.hints(&asked.text_document.uri, asked.range)))
        }
        "textDocument/formatting" => {
            let asked = read::<DocumentFormattingParams>(params).map_err(unread)?;
            Ok(json!(editor.format(&asked.text_document.uri)))
        }
        _ => Err((ErrorCode::MethodNotFound, format!("`{method}` is not answered here"))),
    }
}
