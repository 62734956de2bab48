//! An executor among others: collectives, programs that all ranks run together, values that shards make up.

use super::{Executor, Frozen, Place, Result, tensors};
use crate::error::EngineError;
use crate::mesh::{Answers, Collective, Job, Ranks};
use ops::backend::Draw;
use ops::view::{View, ViewMut};
use plan::op::{OpKind, Write};
use plan::program::Module;
use plan::value::{Dtype, Role, ValueId};
use plan::work::result;
use std::ops::Range;
use std::time::Instant;

/// What a program reads that the host has written: sizes of the batch, and its values.
#[derive(Debug)]
pub struct Payload {
    extents: Vec<u64>,
    /// Values, and where their bytes end.
    values: Vec<(ValueId, usize)>,
    bytes: Vec<u8>,
}

/// Ops of a program that another rank is to run.
#[derive(Debug)]
pub struct Run {
    program: usize,
    range: Range<usize>,
    micro_index: u64,
    draw: Draw,
}

impl Payload {
    /// Makes buffers that hold whatever a program of this module reads.
    pub fn new(module: &Module) -> Payload {
        let read = module.programs.iter().flat_map(|program| &program.ops).flat_map(|op| &op.inputs);
        let mut ids: Vec<ValueId> = read.copied().filter(|id| is_of_batch(module, *id)).collect();
        ids.sort();
        ids.dedup();
        let capacities = module.capacities();
        let bytes: u64 = ids.iter().map(|id| module.values[id.index()].bytes(&capacities)).sum();
        Payload {
            extents: capacities,
            values: Vec::with_capacity(ids.len()),
            bytes: Vec::with_capacity(bytes as usize),
        }
    }
}

/// Results of a micro-step: the loss, and sums over pairs where there are any.
pub type Sums = (f64, [f64; 4]);

impl Executor<'_> {
    /// Returns how many ranks run this module; 1 without a mesh.
    pub fn ranks(&self) -> usize {
        self.collective.as_ref().map_or(1, |collective| collective.ranks())
    }

    /// Returns the number of this rank.
    pub fn rank(&self) -> usize {
        self.collective.as_ref().map_or(0, |collective| collective.rank())
    }

    /// Ends the exchanges of all ranks with an error of this one.
    pub fn fail(&self, error: &EngineError) {
        if let Some(collective) = &self.collective {
            collective.fail(error);
        }
    }

    /// Asks all other ranks, where this one leads, and does its own part meanwhile.
    pub fn together<T>(
        &mut self,
        mut job: impl FnMut(usize) -> Job<()>,
        own: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let asked = self.ranks.as_ref().map(|ranks| ranks.ask(&mut job));
        let done = own(self);
        if let Err(error) = &done {
            self.fail(error);
        }
        let others = asked.map_or(Ok(Vec::new()), Answers::wait);
        // An own error that only passes on another's is the same.
        done.and_then(|done| others.map(|_| done))
    }

    /// Runs ops of a program; of one in which ranks exchange on all of them, with what is here in the batch.
    pub(super) fn run_together(
        &mut self,
        program: usize,
        range: Range<usize>,
        micro_index: u64,
        draw: Draw,
    ) -> Result<()> {
        self.begun.get_or_insert_with(Instant::now);
        let mut ops = self.programs[program].ops.iter();
        if self.ranks.is_none() || !ops.any(|op| op.op.kind.is_collective()) {
            return self.run_range(program, range, micro_index, draw);
        }
        let mut others = 1..self.ranks();
        let asked = others.try_for_each(|rank| {
            let run = Run { program, range: range.clone(), micro_index, draw };
            self.run_on(rank, run)
        });
        let done = asked.and_then(|()| self.run_range(program, range, micro_index, draw));
        if let Err(error) = &done {
            self.fail(error);
        }
        // An own error that only passes on another's is the same.
        done.and(self.ranks.as_mut().map_or(Ok(()), Ranks::all_ran))
    }

    /// Runs a micro-step on this rank alone, the others having been told theirs.
    pub fn run_micro(&mut self, micro_index: u64, draw: Draw) -> Result<()> {
        let program = self.program("micro")?;
        let all = 0..self.programs[program].ops.len();
        self.run_range(program, all, micro_index, draw)
    }

    /// Has another rank run a micro-step with the batch that is here now; [`Executor::ran`] waits for it.
    pub fn run_micro_on(&mut self, rank: usize, micro_index: u64, draw: Draw) -> Result<()> {
        let program = self.program("micro")?;
        let range = 0..self.programs[program].ops.len();
        self.run_on(rank, Run { program, range, micro_index, draw })
    }

    /// Waits for the micro-step of another rank; returns its results.
    pub fn ran(&mut self, rank: usize) -> Result<Sums> {
        self.ranks.as_mut().ok_or_else(alone)?.ran(rank)
    }

    /// Has another rank run ops with the batch that is here now.
    fn run_on(&mut self, rank: usize, run: Run) -> Result<()> {
        let mut payload = self.ranks.as_mut().ok_or_else(alone)?.payload(rank)?;
        self.fill(&mut payload, &run);
        self.ranks.as_ref().ok_or_else(alone)?.run(rank, run, payload);
        Ok(())
    }

    /// Runs what the leading rank asks for; returns the results of a micro-step.
    pub(crate) fn run_asked(&mut self, run: &Run, payload: &Payload) -> Result<Sums> {
        self.receive(payload);
        self.run_range(run.program, run.range.clone(), run.micro_index, run.draw)?;
        match self.programs[run.program].name {
            "micro" => self.sums(),
            _ => Ok(Sums::default()), // what other programs compute is the same on every rank
        }
    }

    /// Returns the results of the micro-steps so far.
    pub fn sums(&self) -> Result<Sums> {
        let metrics = match self.writes("micro", result::METRICS) {
            true => self.first::<4>(result::METRICS)?,
            false => [0.0; 4],
        };
        Ok((self.scalar(result::LOSS)?, metrics))
    }

    /// Copies what ops read of the batch; each value once, whose list is short.
    fn fill(&self, payload: &mut Payload, run: &Run) {
        let Payload { extents, values, bytes } = payload;
        extents.clone_from(&self.extents);
        values.clear();
        bytes.clear();
        for &id in self.programs[run.program].ops[run.range.clone()].iter().flat_map(|op| &op.op.inputs) {
            if !is_of_batch(self.module, id) || values.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let place = self.located(id).expect("the executor checked all offsets").0;
            let length = self.module.values[id.index()].bytes(&self.extents) as usize;
            bytes.extend_from_slice(self.arenas.bytes(place, length));
            values.push((id, bytes.len()));
        }
    }

    fn receive(&mut self, payload: &Payload) {
        self.extents.clone_from(&payload.extents);
        let mut start = 0;
        for &(id, end) in &payload.values {
            let place = self.located(id).expect("the executor checked all offsets").0;
            self.arenas.bytes_mut(place, end - start).copy_from_slice(&payload.bytes[start..end]);
            start = end;
        }
    }

    /// Returns the dimensions of the tensor that all shards of a value make up.
    pub fn whole_sizes(&self, id: ValueId) -> Vec<u64> {
        self.module.values[id.index()].whole_sizes(&self.capacities)
    }

    /// Returns the rows of that tensor which this rank holds.
    pub fn share(&self, id: ValueId) -> Range<usize> {
        let value = &self.module.values[id.index()];
        let share = value.share(self.rank() as u64, &self.capacities);
        share.start as usize..share.end as usize
    }

    /// Returns the bytes of that tensor which this rank holds, without what fills a shard up.
    pub fn share_bytes(&self, id: ValueId) -> Result<&[u8]> {
        let (place, length) = self.share_located(id, self.rank())?;
        Ok(self.arenas.bytes(place, length))
    }

    /// Returns where the rows of a rank lie in its arenas, which are laid out as here.
    pub fn share_located(&self, id: ValueId, rank: usize) -> Result<(Place, usize)> {
        let (place, length) = self.located(id)?;
        let value = &self.module.values[id.index()];
        let rows = value.shape.first().map_or(1, |dim| dim.size(&self.capacities)).max(1);
        let share = value.share(rank as u64, &self.capacities);
        Ok((place, length / rows as usize * (share.end - share.start) as usize))
    }

    /// Returns whether every rank holds a part of a value and not all of it.
    pub fn is_cut(&self, id: ValueId) -> bool {
        self.module.values[id.index()].whole_rows.is_some()
    }

    /// Returns the ranks that hold a value or a part of it, in the order of the parts, and where.
    pub fn holders(&self, id: ValueId) -> Result<Vec<(usize, Place, usize)>> {
        let ranks = if self.is_cut(id) { self.ranks() } else { 1 };
        let place = |rank| self.share_located(id, rank).map(|(place, length)| (rank, place, length));
        (0..ranks).map(place).collect()
    }

    /// Fails when a float value holds a number that is not finite, on any rank.
    pub fn all_finite(&self, id: ValueId) -> Result<bool> {
        let dtype = self.module.values[id.index()].dtype;
        let own = tensors::all_finite(dtype, self.share_bytes(id)?);
        let Some(ranks) = self.ranks.as_ref().filter(|_| self.is_cut(id)) else { return Ok(own) };
        let job = |_| -> Job<bool> {
            Box::new(move |executor| Ok(tensors::all_finite(dtype, executor.share_bytes(id)?)))
        };
        Ok(ranks.ask(job).wait()?.into_iter().fold(own, |all, other| all && other))
    }

    /// Keeps weights, masters and state of every rank as they are, for a reader on another thread.
    pub fn freeze_all(&self) -> Result<Vec<Frozen>> {
        let mut frozen = vec![self.freeze()];
        if let Some(ranks) = &self.ranks {
            frozen
                .extend(ranks.ask(|_| -> Job<Frozen> { Box::new(|executor| Ok(executor.freeze())) }).wait()?);
        }
        Ok(frozen)
    }
}

fn is_of_batch(module: &Module, id: ValueId) -> bool {
    module.values[id.index()].role == Role::Batch
}

/// The error of a rank that has no others to ask.
fn alone() -> EngineError {
    EngineError::plan("there is no other rank")
}

/// Runs a collective.
pub(super) fn exchange(
    collective: &dyn Collective,
    kind: &OpKind,
    inputs: &[View],
    outputs: &mut [ViewMut],
) -> Result<()> {
    let output = &mut outputs[0];
    let of_sums = inputs.iter().map(|input| input.dtype).chain([output.dtype]).all(|d| d == Dtype::F32);
    if !of_sums && !matches!(kind, OpKind::AllGather { .. }) {
        return Err(EngineError::plan(format!("`{}` sums f32 alone", kind.name())));
    }
    match (kind, inputs) {
        (OpKind::AllGather { .. }, [part]) => collective.all_gather(part.bytes, output.bytes),
        (OpKind::ReduceScatter { .. }, [whole]) => {
            let add = output.write != Write::Set;
            collective.reduce_scatter(whole.f32(), output.f32(), add)
        }
        (OpKind::AllReduce { .. }, []) => collective.all_reduce(output.f32()),
        _ => Err(EngineError::plan(format!("`{}` has other operands than ranks exchange", kind.name()))),
    }
}
