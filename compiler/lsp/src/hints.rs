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

/// `64 sequences per step, in 8 micro-steps of 8`.
fn sequences(compilation: &Compilation, task: &Task) -> Option<String> {
    let Work::Train(work) = &task.work else { return None };
    let plan::work::Batch::Sequences(batch) = work.batch else { return None };
    let noun = match work.unit {
        Unit::Tokens => "sequence",
        Unit::Pairs => "pair",
    };
    let mut stages = compilation.checked.recipe.iter().flat_map(|recipe| &recipe.stages);
    let by_tokens = stages.any(|stage| {
        matches!(stage, Stage::Train(stage)
            if stage.name == task.name && matches!(stage.batch.value, Batch::Tokens(_)))
    });
    let mark = if by_tokens && work.steps.is_none() { "~" } else { "" };
    let whole = format!("{mark}{} per step", counted(batch, noun));
    let micro = task.figures.micro_batch_size.filter(|&micro| micro > 0);
    match micro.map(|micro| micro.min(batch)) {
        Some(micro) if micro > 0 => {
            let times = counted(batch.div_ceil(micro), "micro-step");
            Some(format!("{whole}, in {times} of {micro}"))
        }
        _ => by_tokens.then_some(whole),
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
