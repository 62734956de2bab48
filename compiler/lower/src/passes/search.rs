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
    /// Bytes that a module takes in all.
    pub bytes: &'c dyn Fn(&Module) -> u64,
    /// How many that may be; nothing where there is no limit.
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
/// Fails with the smallest that may be chosen when none fits.
pub fn cheapest(draft: &Draft, choices: &Choices) -> Result<Module, TooLarge> {
    let sizes = choices.micros.iter().map(|&micro| Size {
        micro,
        draft: draft.resized((choices.capacities)(micro)),
        choices,
    });
    let regions = draft.regions();
    let recompute = match &choices.recompute {
        Recompute::Auto => return Auto { regions, best: None, smallest: None }.search(sizes),
        Recompute::All(level) => level.map_or(Vec::new(), |level| all(&regions, level)),
        Recompute::These(recompute) => recompute.clone(),
    };
    // The first that fits is the cheapest, since fewer sequences at once only add traffic.
    let mut smallest = None;
    for size in sizes {
        let module = size.plan(&recompute);
        if size.fits(&module) {
            return Ok(module);
        }
        smallest = Some(module);
    }
    Err(TooLarge::of(smallest))
}

impl TooLarge {
    fn of(smallest: Option<Module>) -> Self {
        TooLarge { module: Box::new(smallest.expect("there is at least one micro batch to choose")) }
    }
}

/// The programs for one micro batch.
struct Size<'c> {
    micro: u64,
    draft: Draft,
    choices: &'c Choices<'c>,
}

impl Size<'_> {
    fn plan(&self, recompute: &[Recomputed]) -> Module {
        let mut module = self.draft.plan(recompute);
        module.decisions.micro_batch_size = self.micro;
        module
    }

    fn fits(&self, module: &Module) -> bool {
        self.choices.limit.is_none_or(|limit| (self.choices.bytes)(module) <= limit)
    }

    fn cost(&self, module: &Module) -> f64 {
        cost(module, self.micro, self.choices)
    }
}

/// The search where the recipe leaves recomputation to it.
struct Auto {
    regions: Vec<String>,
    best: Option<(f64, Module)>,
    smallest: Option<Module>,
}

impl Auto {
    fn search<'c>(mut self, sizes: impl Iterator<Item = Size<'c>>) -> Result<Module, TooLarge> {
        // Sizes at which not even what is cheap suffices, with the cost of that.
        let mut open: Vec<(Size, f64)> = Vec::new();
        for size in sizes {
            let none = size.plan(&[]);
            // From here on more micro-steps cost more than there is to gain.
            if !self.is_better(size.cost(&none)) {
                break;
            }
            if size.fits(&none) {
                self.take(&size, none);
                break;
            }
            let cheap = size.plan(&all(&self.regions, Level::Cheap));
            if size.fits(&cheap) {
                self.take(&size, cheap);
            } else {
                let cost = size.cost(&cheap);
                open.push((size, cost));
            }
        }
        for (size, cheap) in open {
            self.blocks(&size, cheap);
        }
        match self.best {
            Some((_, module)) => Ok(module),
            None => Err(TooLarge::of(self.smallest)),
        }
    }

    fn is_better(&self, cost: f64) -> bool {
        self.best.as_ref().is_none_or(|(least, _)| cost < *least)
    }

    fn take(&mut self, size: &Size, module: Module) {
        let cost = size.cost(&module);
        if self.is_better(cost) {
            self.best = Some((cost, module));
        }
    }

    /// Looks for the fewest whole blocks with which a size fits, as long as they cost less than the best.
    fn blocks(&mut self, size: &Size, cheap: f64) {
        if !self.is_better(cheap) {
            return;
        }
        let every = self.mixed(size, self.regions.len());
        if !size.fits(&every) {
            self.smallest = Some(every);
            return;
        }
        // Each block costs the same.
        let block = (size.cost(&every) - cheap) / self.regions.len().max(1) as f64;
        let within = |(least, _): &(f64, Module)| ((least - cheap) / block).ceil() as usize;
        let affordable = self.best.as_ref().map(|best| within(best).saturating_sub(1));
        let mut enough = affordable.unwrap_or(self.regions.len()).min(self.regions.len());
        let mut found = if enough == self.regions.len() { every } else { self.mixed(size, enough) };
        if !size.fits(&found) {
            return;
        }
        let mut too_few = 0;
        // More never need more memory, so the bound is found by halving.
        while too_few + 1 < enough {
            let middle = too_few + (enough - too_few) / 2;
            let module = self.mixed(size, middle);
            if size.fits(&module) {
                (enough, found) = (middle, module);
            } else {
                too_few = middle;
            }
        }
        self.take(size, found);
    }

    fn mixed(&self, size: &Size, blocks: usize) -> Module {
        size.plan(&mixed(&self.regions, blocks))
    }
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
