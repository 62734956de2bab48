//! What a stage comes to, from the plan: shown beside its lines, and when the cursor rests on it.

use crate::compile::Compilation;
use crate::text::Text;
use lang::recipe::{Batch, Stage};
use plan::task::{Figure, Task};
use plan::work::{Unit, Work};

/// A note beside the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The byte that it stands behind.
    pub at: usize,
    pub label: String,
}

/// Returns the hints of the first text of a compilation; what is unknown is left out.
pub fn hints(compilation: &Compilation) -> Vec<Hint> {
    let Some(lowered) = &compilation.lowered else { return Vec::new() };
    let text = &compilation.files[0].text;
    let declared = text.outline.children(None).filter_map(|node| Some((node, text.declared(node)?)));
    let mut hints: Vec<Hint> = declared
        .filter_map(|(node, name)| Some((node, lowered.plan.task(&text.value(name))?)))
        .flat_map(|(node, task)| of_stage(compilation, text, node, task))
        .collect();
    hints.sort_by_key(|hint| hint.at);
    hints
}

/// Each figure stands at the line that it follows from; at the head when the stage does not write that line.
fn of_stage(compilation: &Compilation, text: &Text, node: usize, task: &Task) -> Vec<Hint> {
    let child = |names: &[&str]| {
        let mut children = text.outline.children(Some(node));
        children.find(|&child| names.contains(&text.kind(child)))
    };
    let budget = child(&["epochs", "steps", "tokens"]);
    let counted = match budget.map(|budget| text.kind(budget)) {
        Some("steps") => tokens(task),
        _ => steps(task),
    };
    let figures = [
        (child(&["batch"]), sequences(compilation, task)),
        (budget, counted),
        (None, trained(task)),
        (None, memory(task)),
    ];
    let mut head = Vec::new();
    let mut hints = Vec::new();
    for (line, label) in figures {
        match (line, label) {
            (Some(line), Some(label)) => {
                hints.push(Hint { at: line_end(text, line), label: format!("= {label}") })
            }
            (None, Some(label)) => head.push(label),
            (_, None) => {}
        }
    }
    if !head.is_empty() {
        hints.push(Hint { at: line_end(text, node), label: head.join(", ") });
    }
    hints
}

/// Returns the end of the last value on a node's line.
fn line_end(text: &Text, node: usize) -> usize {
    let node = &text.outline.nodes[node];
    let last = node.entries.last().and_then(|entry| entry.value.as_ref());
    last.map_or(node.name.range.end, |value| value.range.end)
}

/// Returns all that is known of a task, a line each.
pub fn figures(compilation: &Compilation, task: &Task) -> Vec<String> {
    let all = [sequences(compilation, task), steps(task), tokens(task), trained(task), memory(task)];
    all.into_iter().flatten().collect()
}

/// What a stage says of its batch.
struct OfBatch {
    sequences: u64,
    noun: &'static str,
    /// Whether it is written as tokens, so that the sequences are counted.
    by_tokens: bool,
    /// Whether the sequences of a forward are written.
    micro: bool,
    /// Whether the rows are prepared, so that what is counted and chosen is certain.
    prepared: bool,
}

fn batch(compilation: &Compilation, task: &Task) -> Option<OfBatch> {
    let noun = |pairs: bool| if pairs { "pair" } else { "sequence" };
    match &task.work {
        Work::Train(work) => {
            let plan::work::Batch::Sequences(sequences) = work.batch else { return None };
            let mut stages = compilation.checked.recipe.iter().flat_map(|recipe| &recipe.stages);
            let stage = stages.find_map(|stage| match stage {
                Stage::Train(stage) if stage.name == task.name => Some(stage),
                Stage::Train(_) | Stage::Evaluate(_) | Stage::Generate(_) => None,
            });
            Some(OfBatch {
                sequences,
                noun: noun(work.unit == Unit::Pairs),
                by_tokens: stage.is_some_and(|stage| matches!(stage.batch.value, Batch::Tokens(_))),
                micro: stage.is_some_and(|stage| stage.micro.is_some()),
                prepared: work.steps.is_some(),
            })
        }
        Work::Declared(work) => {
            let written = work.settings.get("batch")?;
            Some(OfBatch {
                sequences: written.get("sequences")?.as_u64()?,
                noun: noun(matches!(work.kind.as_str(), "dpo" | "orpo" | "simpo")),
                by_tokens: false,
                micro: written.get("micro").is_some_and(|micro| !micro.is_null()),
                prepared: false,
            })
        }
        Work::TrainTokenizer(_)
        | Work::Initialize(_)
        | Work::Prepare(_)
        | Work::Evaluate(_)
        | Work::Generate(_) => None,
    }
}

/// `64 sequences per step, in 8 micro-steps of 8`.
fn sequences(compilation: &Compilation, task: &Task) -> Option<String> {
    let batch = batch(compilation, task)?;
    let mark = if batch.by_tokens && !batch.prepared { "~" } else { "" };
    let whole = format!("{mark}{} per step", counted(batch.sequences, batch.noun));
    let micro = task.figures.micro_batch_size.filter(|&micro| micro > 0);
    match micro.map(|micro| micro.min(batch.sequences)) {
        Some(micro) if micro > 0 => {
            let mark = if batch.prepared || batch.micro { "" } else { "~" };
            let times = counted(batch.sequences.div_ceil(micro), "micro-step");
            Some(format!("{whole}, in {mark}{times} of {micro}"))
        }
        _ => batch.by_tokens.then_some(whole),
    }
}

fn steps(task: &Task) -> Option<String> {
    task.figures.steps.map(|figure| number(figure, "step"))
}

fn tokens(task: &Task) -> Option<String> {
    task.figures.tokens.map(|figure| number(figure, "token"))
}

/// Only training trains parameters.
fn trained(task: &Task) -> Option<String> {
    let trained = task.figures.trained_parameters?;
    match task.figures.parameters.filter(|&all| all != trained) {
        Some(all) => Some(format!("{} of {} parameters trained", count(trained), count(all))),
        None => Some(format!("{} trained", counted(trained, "parameter"))),
    }
}

fn memory(task: &Task) -> Option<String> {
    let sum: u64 = task.figures.memory.iter().map(|(_, bytes)| bytes).sum();
    let mark = if task.figures.memory_is_estimate { "~" } else { "" };
    (sum > 0).then(|| format!("{mark}{} of memory", bytes(sum)))
}

fn number(figure: Figure, noun: &str) -> String {
    let mark = if figure.estimate { "~" } else { "" };
    format!("{mark}{}", counted(figure.value.round() as u64, noun))
}

fn counted(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// Writes a count with separators of thousands.
fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes bytes in binary units.
fn bytes(value: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = units.iter().find(|(_, size)| value >= *size);
    fitting.map_or(format!("{value} B"), |(unit, size)| format!("{:.1} {unit}", value as f64 / *size as f64))
}
