//! Rules about stages that learn from preferences: `dpo`, `kto` and their losses and references.

use super::Context;
use super::flow::{self, ModelType, TokenizerOf};
use crate::diagnostic::Diagnostic;
use crate::tree::{Item, Slot};

/// Checks what only these stages have.
pub fn check(context: &mut Context, item: &Item, start: &ModelType) {
    check_label_smoothing(context, item);
    check_robust(context, item);
    check_reference(context, item, start);
    if item.kind() == "kto" {
        check_rows_of_a_step(context, item);
        check_weights(context, item);
    }
}

/// Label smoothing belongs to losses that ask how many pairs are the wrong way round.
fn check_label_smoothing(context: &mut Context, item: &Item) {
    let (Some(share), Some(loss)) = (item.child("label-smoothing"), item.child_argument("loss")) else {
        return;
    };
    let is_set = share.argument().and_then(Slot::number).is_some_and(|share| share > 0.0);
    if is_set && !matches!(loss.text(), Some("sigmoid" | "robust")) {
        let message =
            format!("`label-smoothing` has no effect with `loss {}`", loss.text().unwrap_or_default());
        context.report(
            Diagnostic::error("ineffective-option", message, share.at, "changes nothing here")
                .with_label(loss.span, "because of this")
                .with_help("remove it, or write `loss sigmoid` or `loss robust`"),
        );
    }
}

/// Without a share of wrong pairs the robust loss is the plain one.
fn check_robust(context: &mut Context, item: &Item) {
    let Some(loss) = item.child_argument("loss").filter(|loss| loss.text() == Some("robust")) else { return };
    let Some(child) = item.child("label-smoothing") else { return };
    let Some(share) = child.argument() else { return };
    if share.number() != Some(0.0) {
        return;
    }
    let help = "write the share of pairs that are the wrong way round, such as `label-smoothing 0.1`, or `loss sigmoid`";
    let found = if share.is_written() {
        let message = "`loss robust` with `label-smoothing 0` is `loss sigmoid`";
        Diagnostic::error("out-of-range", message, share.span, "no pair is wrong")
    } else if item.damaged {
        return;
    } else {
        let message = "`loss robust` lacks `label-smoothing`";
        Diagnostic::error("missing-option", message, item.at, "needs `label-smoothing`")
            .with_default(share, child)
    };
    context.report(found.with_label(loss.span, "because of this").with_help(help));
}

/// Policy and reference read the same token ids.
fn check_reference(context: &mut Context, item: &Item, start: &ModelType) {
    let Some(slot) = item.child_argument("reference") else { return };
    let Some(model) = context.names.follow(item, "reference") else { return };
    let reference = flow::model_type(context, model);
    let (Some(policy), Some(tokenizer)) = (start.tokenizer, reference.tokenizer) else { return };
    if is_same(policy, tokenizer) && start.added == reference.added {
        return;
    }
    let (Some(ours), Some(theirs)) = (start.ids.or(start.vocab), reference.ids.or(reference.vocab)) else {
        return;
    };
    if ours == theirs {
        return;
    }
    let message = format!("the reference has {theirs} token ids, and the model that is trained {ours}");
    let trained = item.child_argument("model").map_or(item.at, |model| model.span);
    context.report(
        Diagnostic::error("vocabulary-mismatch", message, slot.span, format!("{theirs} token ids"))
            .with_label(trained, format!("{ours} token ids"))
            .with_help("name a reference with the same tokenizer, or leave it out to compare with the stage's own start"),
    );
}

fn is_same(one: TokenizerOf, other: TokenizerOf) -> bool {
    std::ptr::eq(one.item(), other.item())
}

/// What the model gives away to unrelated rows is estimated from the other rows of a step.
fn check_rows_of_a_step(context: &mut Context, item: &Item) {
    let Some(rows) = item.child_argument("batch").filter(|rows| rows.number() == Some(1.0)) else { return };
    context.report(
        Diagnostic::error(
            "out-of-range",
            "`kto` compares the rows of a step, and this step has one",
            rows.span,
            "nothing to compare with",
        )
        .with_label(item.at, "needs several rows per step")
        .with_help("write `batch 8` or more; `micro=1` keeps the memory of one"),
    );
}

/// Rows of weight 0 on both sides are no rows.
fn check_weights(context: &mut Context, item: &Item) {
    let Some(weights) = item.child("weights") else { return };
    let zero = |name: &str| weights.property(name).filter(|slot| slot.number() == Some(0.0));
    let (Some(good), Some(bad)) = (zero("desirable"), zero("undesirable")) else { return };
    let (first, second) = if good.span < bad.span { (good, bad) } else { (bad, good) };
    context.report(
        Diagnostic::error(
            "nothing-to-train",
            "good and bad rows both weigh nothing",
            second.span,
            "the second",
        )
        .with_label(first.span, "the first")
        .with_help("give one of them a weight above 0"),
    );
}
