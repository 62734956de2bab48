//! Loss over held-out rows, and what follows from it.

use crate::batch::{self, Group};
use crate::error::{EngineError, Result};
use crate::executor::Executor;
use crate::observer::Evaluation;
use crate::record::Yields;
use crate::report::Summary;
use crate::run::{Context, Ended, Made};
use crate::weights;
use data::{MicroBatch, Side, Store};
use ops::backend::Draw;
use plan::work::{Evaluate, Unit, batch as names, result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Sums over rows, from which means follow.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    loss: f64,
    count: u64,
    bytes: u64,
    /// As `PreferenceLoss` gives them.
    preference: [f64; 4],
}

/// Evaluates the weights that are loaded on all rows of a store.
///
/// `reference` holds the reference log-probabilities of the store's rows, for preference objectives.
/// Returns `None` when `stop` was set before the end.
///
/// # Errors
/// Fails on a loss that is not finite and names the rows.
pub fn evaluate(
    executor: &mut Executor,
    store: &Store,
    unit: Unit,
    reference: Option<&[f32]>,
    stop: &AtomicBool,
    mut progress: impl FnMut(u64, u64),
) -> Result<Option<Evaluation>> {
    // Sums are wanted: a loss that is scaled by one over the count gets the count 1.
    executor.write_f32(names::STEP_COUNT, &[1.0])?;
    let groups = batch::groups(executor, store, unit, batch::shares(executor, "evaluate"))?;
    let mut micro = MicroBatch::default();
    let mut by_part: BTreeMap<u32, Sums> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let sums = by_part.entry(group.part).or_default();
        *sums = sums.plus(score(executor, store, unit, reference, group, &mut micro)?);
        progress(index as u64 + 1, groups.len() as u64);
    }
    let all = by_part.values().fold(Sums::default(), |all, part| all.plus(*part));
    if all.count == 0 {
        return Err(EngineError::new("no-trained-tokens", "no token of the evaluation rows has a loss")
            .help("look at the rows of the data; the template or `loss-on` may leave nothing to predict"));
    }
    let mut evaluation = all.figures(unit);
    if by_part.len() > 1 {
        let named = |(part, sums): (u32, Sums)| (store.parts()[part as usize].clone(), sums.figures(unit));
        evaluation.parts = by_part.into_iter().filter(|(_, sums)| sums.count > 0).map(named).collect();
    }
    Ok(Some(evaluation))
}

fn score(
    executor: &mut Executor,
    store: &Store,
    unit: Unit,
    reference: Option<&[f32]>,
    group: &Group,
    micro: &mut MicroBatch,
) -> Result<Sums> {
    micro.fill(store, &group.sequences, batch::shares(executor, "evaluate"));
    batch::write(executor, micro)?;
    write_reference(executor, micro, reference)?;
    executor.run("evaluate", 0, Draw::default())?;
    let loss = executor.scalar(result::LOSS)?;
    if !loss.is_finite() {
        let rows = batch::name_rows(store, [&*micro]);
        return Err(EngineError::new("non-finite-loss", format!("the evaluation loss is {loss} in {rows}"))
            .help(
                "look at these rows in the data, or lower the learning rate that the model was trained with",
            ));
    }
    let mut preference = [0.0; 4];
    if unit == Unit::Pairs && executor.has(result::METRICS) {
        preference.copy_from_slice(&executor.read(result::METRICS)?);
    }
    let bytes = micro.row_ids.iter().map(|row| u64::from(store.row(*row as usize).bytes)).sum();
    Ok(Sums { loss, count: batch::count(micro, unit), bytes, preference })
}

/// Writes the reference log-probabilities of a micro batch, when there are any.
pub fn write_reference(executor: &mut Executor, micro: &MicroBatch, of_rows: Option<&[f32]>) -> Result<()> {
    let Some(of_rows) = of_rows else { return Ok(()) };
    executor.write_each_f32(names::REFERENCE, micro.row_ids.iter().map(|row| of_rows[*row as usize]))
}

impl Sums {
    fn plus(self, other: Sums) -> Sums {
        Sums {
            loss: self.loss + other.loss,
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            preference: [0, 1, 2, 3].map(|i| self.preference[i] + other.preference[i]),
        }
    }

    fn figures(&self, unit: Unit) -> Evaluation {
        let mean = |sum: f64| sum / self.count as f64;
        let [chosen, rejected, margin, positive] = self.preference.map(mean);
        let pairs = |figure: f64| (unit == Unit::Pairs).then_some(figure);
        let bytes = unit == Unit::Tokens && self.bytes > 0;
        Evaluation {
            loss: mean(self.loss),
            count: self.count,
            bits_per_byte: bytes.then(|| self.loss / std::f64::consts::LN_2 / self.bytes as f64),
            accuracy: pairs(positive),
            rewards_chosen: pairs(chosen),
            rewards_rejected: pairs(rejected),
            margin: pairs(margin),
            parts: BTreeMap::new(),
        }
    }
}

/// Carries out the stage `evaluate`.
pub fn run(context: &mut Context, work: &Evaluate) -> Result<Ended> {
    let start = Instant::now();
    let task = &context.task.name;
    let module = context.module(work.module.as_ref())?;
    let store = Store::open(&context.folder.result(&work.data)?, Side::Eval)?;
    if store.rows() == 0 {
        return Err(EngineError::new("no-evaluation-rows", "there are no rows to evaluate on")
            .help("choose a dataset that has rows"));
    }
    let mut executor = Executor::new(module, context.backend)?;
    weights::load(&mut executor, &work.tensors, &context.folder.resolve(&work.model)?)?;
    let observer = &mut *context.observer;
    observer.task_started(task, None);
    let progress = |done, total| observer.progress(task, "evaluating", done, Some(total));
    let Some(evaluation) = evaluate(&mut executor, &store, work.unit, None, context.stop, progress)? else {
        return Ok(Ended::Stopped { step: 0 });
    };
    context.observer.evaluated(task, 0, &evaluation);
    let json = serde_json::to_value(&evaluation).map_err(|e| EngineError::plan(e.to_string()))?;
    let path = context.stage()?.join("evaluation.json");
    weights::write_json(&path, &json)?;
    let seconds = start.elapsed().as_secs_f64();
    let summary = Summary { after: Some(evaluation), seconds, ..Summary::default() };
    Ok(Ended::Made(Box::new(Made { path, yields: Yields::default(), summary })))
}
