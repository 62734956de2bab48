//! The search over what may be decided: sequences per micro-step, and what is computed again.
//!
//! Candidates are planned for memory, and the cheapest that fits is taken. A static cost decides, never a
//! measurement, so that a plan is the same on every machine with the same limit. The cost of a step is that
//! of its micro-steps; an op costs the larger of its operations and its traffic, weighed by [`BALANCE`].

use crate::builder::{Capacities, ext};
use crate::programs::Draft;
use plan::cost::op_cost;
use plan::program::{Level, Module, Recomputed};

/// Floating point operations that take as long as moving one byte, about, on the machines of today.
const BALANCE: f64 = 20.0;

/// What the search may choose from.
pub struct Choices<'c> {
    /// Sequences per micro-step, from many to few.
    pub micros: Vec<u64>,
    pub recompute: Recompute,
    /// Sequences per step.
    pub batch: u64,
    /// Tokens of a sequence, at most, and of a row in the mean.
    pub sequence_tokens: u64,
    pub row_tokens: f64,
    /// What a micro-step of so many sequences needs room for.
    pub capacities: &'c dyn Fn(u64) -> Capacities,
    /// Bytes that all arenas may take; nothing where there is no limit.
    pub limit: Option<u64>,
}

/// What is said about computing activations again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recompute {
    /// As memory needs.
    Auto,
    /// Every region, at this level; nothing keeps all.
    All(Option<Level>),
    /// As decided before.
    These(Vec<Recomputed>),
}

/// A plan that does not fit.
#[derive(Debug, Clone)]
pub struct TooLarge {
    /// The smallest that may be chosen.
    pub module: Box<Module>,
}

/// Returns the cheapest module that fits, with its decisions.
///
/// # Errors
/// Fails with the smallest that was tried when none fits.
pub fn cheapest(draft: &Draft, choices: &Choices) -> Result<Module, TooLarge> {
    let mut best: Option<(f64, Module)> = None;
    let mut smallest: Option<Module> = None;
    for &micro in &choices.micros {
        let sized = draft.resized((choices.capacities)(micro));
        // More micro-steps cost more, but may have less to compute again; that cannot make up for too many.
        if best.as_ref().is_some_and(|(least, _)| cost(&sized.plan(&[]), micro, choices) >= *least) {
            break;
        }
        match fit(&sized, micro, choices) {
            Ok(module) => {
                let cost = cost(&module, micro, choices);
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, module));
                }
            }
            Err(TooLarge { module }) => smallest = Some(*module),
        }
    }
    match (best, smallest) {
        (Some((_, module)), _) => Ok(module),
        (None, Some(module)) => Err(TooLarge { module: Box::new(module) }),
        (None, None) => unreachable!("there is at least one micro batch to choose"),
    }
}

/// Returns the module of a micro batch that computes the least again and fits.
fn fit(draft: &Draft, micro: u64, choices: &Choices) -> Result<Module, TooLarge> {
    let plan = |recompute: &[Recomputed]| {
        let mut module = draft.plan(recompute);
        module.decisions.micro_batch_size = micro;
        module
    };
    let fits = |module: &Module| choices.limit.is_none_or(|limit| module.total_bytes() <= limit);
    let checked = |module: Module| match fits(&module) {
        true => Ok(module),
        false => Err(TooLarge { module: Box::new(module) }),
    };
    let regions = draft.regions();
    match &choices.recompute {
        Recompute::These(recompute) => return checked(plan(recompute)),
        Recompute::All(level) => {
            return checked(plan(&level.map_or(Vec::new(), |level| all(&regions, level))));
        }
        Recompute::Auto => {}
    }
    for recompute in [Vec::new(), all(&regions, Level::Cheap)] {
        let module = plan(&recompute);
        if fits(&module) {
            return Ok(module);
        }
    }
    // The fewest whole blocks; more never need more memory, so the bound is found by halving.
    let mut found = checked(plan(&mixed(&regions, regions.len())))?;
    let (mut too_few, mut enough) = (0, regions.len());
    while too_few + 1 < enough {
        let middle = too_few + (enough - too_few) / 2;
        let module = plan(&mixed(&regions, middle));
        if fits(&module) {
            (enough, found) = (middle, module);
        } else {
            too_few = middle;
        }
    }
    Ok(found)
}

fn all(regions: &[String], level: Level) -> Vec<Recomputed> {
    regions.iter().map(|region| Recomputed { region: region.clone(), level }).collect()
}

/// The first `blocks` regions as a whole, since theirs are kept the longest, and what is cheap of the others.
fn mixed(regions: &[String], blocks: usize) -> Vec<Recomputed> {
    let level = |index: usize| if index < blocks { Level::Block } else { Level::Cheap };
    let regions = regions.iter().enumerate();
    regions.map(|(index, region)| Recomputed { region: region.clone(), level: level(index) }).collect()
}

/// Returns the cost of a step with so many sequences per micro-step, in operations.
pub fn cost(module: &Module, micro: u64, choices: &Choices) -> f64 {
    let tokens = micro * choices.sequence_tokens;
    let mut extents = module.capacities();
    extents[ext::TOKENS.0 as usize] = tokens;
    extents[ext::TRAINED.0 as usize] = tokens;
    let program = module.program("micro").expect("a training stage has micro-steps");
    let costs = program.ops.iter().map(|op| op_cost(module, op, &extents, choices.row_tokens));
    let one: f64 = costs.map(|cost| cost.flops.max(BALANCE * cost.bytes)).sum();
    one * choices.batch.div_ceil(micro.max(1)) as f64
}
