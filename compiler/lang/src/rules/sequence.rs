//! Rules about sequences: their length, the limit of prompts, what is too long, and rows that are tokens already.

use super::Context;
use super::data::{origins, row_type, row_type_slot};
use super::flow::ModelType;
use crate::diagnostic::Diagnostic;
use crate::origin::{self, LONGEST_DEFAULT_SEQUENCE};
use crate::source::Span;
use crate::suggest;
use crate::tree::{Item, Slot};
use crate::values::show_number;

/// Checks the sequences of a training stage.
pub fn check_training(context: &mut Context, item: &Item, start: &ModelType) {
    check_positions(context, item, start);
    check_prompt(context, item, start);
    check_overflow(context, item);
    check_tokens(context, item);
}

/// A sequence must not be longer than the model's positions.
pub fn check_positions(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(sequence) = item.child_argument("sequence") else { return };
    let (Some(base), Some(positions), Some(length)) = (start.base, start.positions, sequence.number()) else {
        return;
    };
    if length <= positions as f64 {
        return;
    }
    let message = format!(
        "the sequence has {} tokens, but model `{}` has {positions} positions",
        show_number(length),
        base.declared()
    );
    context.report(
        Diagnostic::error("sequence-too-long", message, sequence.span, "longer than the model's positions")
            .with_label(positions_place(base, start), format!("{positions} positions"))
            .with_help(format!("write `sequence {positions}` or less")),
    );
}

/// Where the positions are stated: a field that the recipe overrides, else the model's source.
pub fn positions_place(base: &Item, start: &ModelType) -> Span {
    let field = start.architecture.map_or("", |architecture| architecture.positions);
    let mut fields = base.child("config").into_iter().flat_map(|config| &config.config);
    let written = fields.find(|(name, _)| name.value == field).map(|(_, value)| value.span);
    written.or(base.argument().map(|source| source.span)).unwrap_or(base.at)
}

/// How long sequences are, and what says so.
struct Length {
    tokens: f64,
    at: Span,
    /// Why they are so long when nobody says.
    note: Option<String>,
}

/// Returns the length of a stage's sequences: as written, else as the model's positions give it.
fn length(sequence: &Item, start: &ModelType) -> Option<Length> {
    if let Some(written) = sequence.arguments.first() {
        return Some(Length { tokens: written.number()?, at: written.span, note: None });
    }
    let (base, positions) = (start.base?, start.positions?);
    Some(Length {
        tokens: positions.min(LONGEST_DEFAULT_SEQUENCE) as f64,
        at: positions_place(base, start),
        note: Some(origin::default_sequence(base.declared(), positions)),
    })
}

/// Rows of preferences and labelled answers have prompts that can be limited.
fn check_prompt(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(sequence) = item.child("sequence") else { return };
    let Some(prompt) = sequence.property("prompt") else { return };
    let has_prompts = item.schema.fits.iter().any(|rows| matches!(*rows, "preference" | "labelled"));
    if !has_prompts && prompt.origin.is_own() {
        let message = format!("`prompt` of `sequence` has no effect in `{}`", item.kind());
        context.report(
            Diagnostic::error("ineffective-option", message, prompt.key, "changes nothing here")
                .with_label(item.at, "not a stage of preference rows")
                .with_help("remove it"),
        );
    } else if let Some(length) =
        length(sequence, start).filter(|length| prompt.number() >= Some(length.tokens))
    {
        let label = if length.note.is_some() { "the model's positions" } else { "the sequence" };
        let found = Diagnostic::error(
            "out-of-range",
            "the prompt may be as long as the whole sequence",
            prompt.span,
            "leaves no room for an answer",
        )
        .with_label(length.at, label)
        .with_help("write less than the length of the sequence");
        context.report(length.note.into_iter().fold(found, Diagnostic::with_note));
    }
}

fn check_overflow(context: &mut Context, item: &Item) {
    let overflow = item.child("sequence").and_then(|sequence| sequence.property("overflow"));
    let Some(overflow) = overflow.filter(|overflow| overflow.origin.is_own()) else { return };
    let reason = match overflow.text() {
        Some("split") if item.kind() != "cpt" => "a row of this stage cannot be cut",
        Some("truncate-prompt") if item.kind() == "cpt" => "plain text has no prompt",
        Some("truncate-prompt") if tokens_rows(context, item).is_some() => "rows of token ids have no prompt",
        _ => return,
    };
    let message =
        format!("`overflow={}` does not fit `{}`", overflow.text().unwrap_or_default(), item.kind());
    context.report(
        Diagnostic::error("ineffective-option", message, overflow.span, reason)
            .with_label(item.at, "in this stage")
            .with_help("write `drop`, `truncate-end` or `error`, or leave it out"),
    );
}

/// Returns the data of a stage and where it says that its rows are token ids already.
fn tokens_rows<'a>(context: &Context<'a>, item: &Item) -> Option<(&'a Item, &'a Slot)> {
    let data = context.names.follow(item, "data")?;
    row_type(context.names, data).filter(|rows| *rows == "tokens")?;
    Some((data, row_type_slot(context.names, data)?))
}

/// Rows of token ids are rendered already, and say themselves what is trained.
fn check_tokens(context: &mut Context, item: &Item) {
    let Some((data, rows)) = tokens_rows(context, item) else { return };
    for child in item.children.iter().filter(|child| matches!(child.kind(), "template" | "loss-on")) {
        if child.argument().is_some_and(|value| value.origin.is_own()) {
            let message = format!("`{}` has no effect on rows of token ids", child.kind());
            context.report(
                Diagnostic::error("ineffective-option", message, child.at, "changes nothing here")
                    .with_label(rows.span, "rendered and labelled already")
                    .with_help("remove it"),
            );
        }
    }
    if item.kind() == "sft" {
        origins(context.names, data).into_iter().for_each(|part| check_labels(context, item, part));
    }
}

/// `sft` trains on what the labels say; without them nothing tells prompt from answer.
fn check_labels(context: &mut Context, item: &Item, dataset: &Item) {
    let Some(rows) = dataset.child("rows") else { return };
    let Some(labels) = rows.property("labels").filter(|labels| !labels.is_written()) else { return };
    let fact = context.source_key(dataset).and_then(|key| context.facts.rows.get(&key));
    let Some(fact) = fact.filter(|fact| fact.problem.is_none() && !fact.columns.is_empty()) else { return };
    let column = labels.text().unwrap_or_default();
    if fact.columns.iter().any(|known| known == column) {
        return;
    }
    let message = format!("`sft` needs labels, but the rows of `{}` have no column `{column}`", fact.file);
    let reference = item.child_argument("data").map_or(item.at, |data| data.span);
    let diagnostic = Diagnostic::error("missing-column", message, reference, "rows without labels")
        .with_label(rows.argument().map_or(rows.at, |kind| kind.span), "token ids declared here")
        .with_note(format!(
            "the columns are {}",
            suggest::list(fact.columns.iter().map(String::as_str), "and")
        ))
        .with_default(labels, rows)
        .with_help("name the column with `labels=…` of `rows`, or train on every token with `cpt`");
    context.report(diagnostic);
}
