//! Runs the programs of a module: operands at the plan's offsets, one call of the backend per op.
//!
//! What an op needs to know is worked out once, when the module is loaded; a run of a program then
//! only multiplies extents and cuts slices, and allocates nothing per op.

use crate::arena::{Arenas, Bases, Frozen, KEPT, Place};
use crate::error::{EngineError, Result};
use crate::mesh::{Ranks, Threads};
use crate::tensors;
use ops::backend::{Backend, Call, Draw};
use ops::view::{Dims, MAX_RANK, View, ViewMut};
use plan::op::{Op, OpKind, Output, Write};
use plan::program::{Module, Program};
use plan::value::{Dim, Dtype, Role, Value, ValueId};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

mod between;

pub use between::{Payload, Run, Sums};

/// A module in memory, ready to run.
pub struct Executor<'a> {
    module: &'a Module,
    backend: &'a dyn Backend,
    arenas: Arenas,
    extents: Vec<u64>,
    capacities: Vec<u64>,
    values: HashMap<&'a str, ValueId>,
    programs: Vec<Prepared<'a>>,
    /// What this rank exchanges through, where the module is one for several.
    collective: Option<Arc<Threads>>,
    /// The other ranks, where this one leads.
    ranks: Option<Ranks>,
    /// When the first program began to run.
    begun: Option<Instant>,
    /// Room for the operands of one op, empty between runs.
    inputs: Vec<View<'static>>,
    outputs: Vec<ViewMut<'static>>,
}

/// A program with its operands resolved.
struct Prepared<'a> {
    name: &'a str,
    ops: Vec<PreparedOp<'a>>,
}

struct PreparedOp<'a> {
    op: &'a Op,
    inputs: Vec<Operand>,
    outputs: Vec<(Operand, Write)>,
    workspace: Option<Operand>,
}

/// A value's dtype, shape and place.
#[derive(Debug, Clone, Copy)]
struct Operand {
    dtype: Dtype,
    shape: [Dim; MAX_RANK],
    rank: usize,
    place: Place,
    capacity: u64,
}

impl<'a> Executor<'a> {
    /// Checks that the backend can run a module, allocates its arenas and resolves its operands.
    ///
    /// # Errors
    /// Fails when the backend lacks an op, when the plan is broken (no offset, operands that overlap)
    /// and when there is not enough memory.
    pub fn new(module: &'a Module, backend: &'a dyn Backend) -> Result<Self> {
        Self::of(module, backend, None)
    }

    /// Makes the executor of one rank of a mesh.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn of_rank(module: &'a Module, backend: &'a dyn Backend, collective: Arc<Threads>) -> Result<Self> {
        Self::of(module, backend, Some(collective))
    }

    /// Makes the executor of the rank that leads the others.
    ///
    /// # Errors
    /// As [`Executor::new`].
    pub fn leading(module: &'a Module, backend: &'a dyn Backend, ranks: Ranks) -> Result<Self> {
        let executor = Self::of(module, backend, Some(ranks.own()))?;
        Ok(Executor { ranks: Some(ranks), ..executor })
    }

    fn of(module: &'a Module, backend: &'a dyn Backend, collective: Option<Arc<Threads>>) -> Result<Self> {
        for program in &module.programs {
            check_supported(module, program, backend, collective.is_some())?;
        }
        let programs =
            module.programs.iter().map(|program| prepare(module, program)).collect::<Result<Vec<_>>>()?;
        let ops = || programs.iter().flat_map(|program: &Prepared| &program.ops);
        let most_inputs = ops().map(|op| op.inputs.len()).max().unwrap_or(0);
        let most_outputs = ops().map(|op| op.outputs.len()).max().unwrap_or(0);
        let values = module.values.iter().enumerate();
        Ok(Executor {
            module,
            backend,
            arenas: Arenas::new(module, backend)?,
            extents: module.capacities(),
            capacities: module.capacities(),
            collective,
            ranks: None,
            begun: None,
            inputs: Vec::with_capacity(most_inputs),
            outputs: Vec::with_capacity(most_outputs),
            values: values.map(|(index, value)| (value.name.as_str(), ValueId(index as u32))).collect(),
            programs,
        })
    }

    /// Returns the module that is run.
    pub fn module(&self) -> &'a Module {
        self.module
    }

    /// Returns the backend that runs it.
    pub fn backend(&self) -> &'a dyn Backend {
        self.backend
    }

    /// Returns when the first program began to run.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Returns the bytes that are held for values of a role.
    pub fn held_bytes(&self, role: Role) -> u64 {
        self.arenas.held_bytes(role)
    }

    /// Returns whether there is a value of that name.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Returns whether there is a program of that name.
    pub fn has_program(&self, name: &str) -> bool {
        self.programs.iter().any(|program| program.name == name)
    }

    /// Returns the capacity of an extent; `None` when the module does not have it.
    pub fn capacity(&self, extent: &str) -> Option<u64> {
        self.module.extents.iter().find(|e| e.name == extent).map(|e| e.capacity)
    }

    /// Sets the size of an extent; one that the module does not have is left alone.
    ///
    /// # Errors
    /// Fails when the size exceeds the capacity that memory was planned for.
    pub fn set_extent(&mut self, name: &str, size: u64) -> Result<()> {
        let Some(index) = self.module.extents.iter().position(|extent| extent.name == name) else {
            return Ok(());
        };
        let capacity = self.module.extents[index].capacity;
        if size > capacity {
            return Err(EngineError::plan(format!("{size} {name} do not fit the planned {capacity}")));
        }
        self.extents[index] = size;
        Ok(())
    }

    /// Writes an integer batch value; one that the module does not have is left alone.
    pub fn write_i32(&mut self, name: &str, numbers: &[i32]) -> Result<()> {
        let Some(bytes) = self.batch_bytes(name, &[Dtype::I32], numbers.len())? else { return Ok(()) };
        bytes.copy_from_slice(bytemuck::cast_slice(numbers));
        Ok(())
    }

    /// Writes a float batch value; one that the module does not have is left alone.
    pub fn write_f32(&mut self, name: &str, numbers: &[f32]) -> Result<()> {
        self.write_each_f32(name, numbers.iter().copied())
    }

    /// Writes a float batch value number by number; one that the module does not have is left alone.
    pub fn write_each_f32(&mut self, name: &str, numbers: impl ExactSizeIterator<Item = f32>) -> Result<()> {
        let count = numbers.len();
        let Some(bytes) = self.batch_bytes(name, &[Dtype::F32, Dtype::F64], count)? else {
            return Ok(());
        };
        if bytes.len() == count * size_of::<f32>() {
            let narrow: &mut [f32] = bytemuck::cast_slice_mut(bytes);
            narrow.iter_mut().zip(numbers).for_each(|(narrow, number)| *narrow = number);
        } else {
            let wide: &mut [f64] = bytemuck::cast_slice_mut(bytes);
            wide.iter_mut().zip(numbers).for_each(|(wide, number)| *wide = f64::from(number));
        }
        Ok(())
    }

    /// Returns the elements of a float value at the present extents.
    pub fn read(&self, name: &str) -> Result<Vec<f64>> {
        let id = self.id(name)?;
        let value = &self.module.values[id.index()];
        let bytes = self.arenas.bytes(place(value)?, value.bytes(&self.extents) as usize);
        let mut numbers = Vec::new();
        tensors::decode(value.dtype, bytes, &mut numbers);
        Ok(numbers)
    }

    /// Returns the elements of a float value as f32, for those that are large.
    pub fn read_f32(&self, name: &str) -> Result<std::borrow::Cow<'_, [f32]>> {
        let id = self.id(name)?;
        let value = &self.module.values[id.index()];
        if value.dtype == Dtype::F32 {
            let bytes = self.arenas.bytes(place(value)?, value.bytes(&self.extents) as usize);
            return Ok(bytemuck::cast_slice(bytes).into());
        }
        Ok(self.read(name)?.into_iter().map(|number| number as f32).collect())
    }

    /// Returns the first elements of a float value, without memory of its own.
    pub fn first<const N: usize>(&self, name: &str) -> Result<[f64; N]> {
        let id = self.id(name)?;
        let value = &self.module.values[id.index()];
        let (element, length) = (value.dtype.bytes() as usize, value.bytes(&self.extents) as usize);
        if length < N * element {
            return Err(EngineError::plan(format!("`{name}` has fewer than {N} elements")));
        }
        let bytes = self.arenas.bytes(place(value)?, length);
        Ok(std::array::from_fn(|at| tensors::element(value.dtype, &bytes[at * element..][..element])))
    }

    /// Returns the first element of a float value.
    pub fn scalar(&self, name: &str) -> Result<f64> {
        self.first::<1>(name).map(|[first]| first)
    }

    /// Returns where a value lies, and its bytes at the capacities of its extents.
    pub fn located(&self, id: ValueId) -> Result<(Place, usize)> {
        let value = &self.module.values[id.index()];
        Ok((place(value)?, value.bytes(&self.capacities) as usize))
    }

    /// Returns all bytes of a value, at the capacities of its extents.
    pub fn bytes(&self, id: ValueId) -> Result<&[u8]> {
        let (place, length) = self.located(id)?;
        Ok(self.arenas.bytes(place, length))
    }

    /// Returns all bytes of a value, to be written.
    pub fn bytes_mut(&mut self, id: ValueId) -> Result<&mut [u8]> {
        let (place, length) = self.located(id)?;
        Ok(self.arenas.bytes_mut(place, length))
    }

    /// Returns parts of the bytes of values, to be written together; no two may overlap.
    pub fn parts_mut(&mut self, parts: &[(ValueId, Range<usize>)]) -> Result<Vec<&mut [u8]>> {
        let place = |(id, range): &(ValueId, Range<usize>)| {
            let (place, length) = self.located(*id)?;
            assert!(range.end <= length, "a part lies within its value");
            Ok((Place { start: place.start + range.start, ..place }, range.len()))
        };
        let places = parts.iter().map(place).collect::<Result<Vec<_>>>()?;
        Ok(self.arenas.split(&places))
    }

    /// Keeps weights, masters and state as they are for a reader on another thread.
    pub fn freeze(&self) -> Frozen {
        self.arenas.freeze()
    }

    /// Returns the value of that name.
    pub fn id(&self, name: &str) -> Result<ValueId> {
        let id = self.values.get(name).copied();
        id.ok_or_else(|| EngineError::plan(format!("there is no value `{name}`")))
    }

    /// Runs a program; `micro_index` is 0 in the first micro-step of a step.
    pub fn run(&mut self, program: &str, micro_index: u64, draw: Draw) -> Result<()> {
        let index = self.program(program)?;
        let all = 0..self.programs[index].ops.len();
        self.run_together(index, all, micro_index, draw)
    }

    /// Runs the ops of a program up to the one that writes `value`, returns how many those are.
    ///
    /// # Errors
    /// Fails when one of them changes what is kept from step to step: then the program cannot be stopped there.
    pub fn run_to(&mut self, program: &str, value: &str, draw: Draw) -> Result<usize> {
        let index = self.program(program)?;
        let id = self.id(value)?;
        let ops = &self.programs[index].ops;
        let writes = |op: &PreparedOp| op.op.outputs.iter().any(|output| output.value == id);
        let end = ops.iter().position(writes).map(|at| at + 1);
        let end = end.ok_or_else(|| EngineError::plan(format!("`{program}` does not write `{value}`")))?;
        let module = self.module;
        let is_kept = |output: &Output| KEPT.contains(&module.values[output.value.index()].role);
        if ops[..end].iter().any(|op| op.op.outputs.iter().any(is_kept)) {
            return Err(EngineError::plan(format!("`{program}` changes weights before it knows `{value}`")));
        }
        self.run_together(index, 0..end, 0, draw)?;
        Ok(end)
    }

    /// Runs the ops of a program from that index on.
    pub fn run_from(&mut self, program: &str, start: usize, draw: Draw) -> Result<()> {
        let index = self.program(program)?;
        let rest = start..self.programs[index].ops.len();
        self.run_together(index, rest, 0, draw)
    }

    /// Returns whether a program adds to a value over the micro-steps of a step instead of setting it.
    pub fn accumulates(&self, program: &str, value: &str) -> bool {
        self.outputs_of(program, value).any(|output| output.write != Write::Set)
    }

    /// Returns whether a program reads a value.
    pub fn reads(&self, program: &str, value: &str) -> bool {
        let id = self.values.get(value);
        let ops = self.module.program(program).into_iter().flat_map(|program| &program.ops);
        id.is_some_and(|&id| ops.into_iter().any(|op| op.inputs.contains(&id)))
    }

    /// Returns whether a program writes a value.
    pub fn writes(&self, program: &str, value: &str) -> bool {
        self.outputs_of(program, value).next().is_some()
    }

    /// Returns where a program writes a value; nowhere when there is no such program or value.
    fn outputs_of(&self, program: &str, value: &str) -> impl Iterator<Item = &'a Output> {
        let id = self.values.get(value).copied();
        let program = self.programs.iter().find(|prepared| prepared.name == program);
        let outputs = program.into_iter().flat_map(|program| &program.ops).flat_map(|op| &op.op.outputs);
        outputs.filter(move |output| Some(output.value) == id)
    }

    fn program(&self, name: &str) -> Result<usize> {
        let index = self.programs.iter().position(|program| program.name == name);
        index.ok_or_else(|| EngineError::plan(format!("there is no program `{name}`")))
    }

    fn run_range(&mut self, program: usize, range: Range<usize>, micro_index: u64, draw: Draw) -> Result<()> {
        let Executor { arenas, programs, extents, backend, collective, .. } = self;
        let program = &programs[program];
        let bases = arenas.bases();
        let mut inputs: Vec<View> = emptied(std::mem::take(&mut self.inputs));
        let mut outputs: Vec<ViewMut> = emptied(std::mem::take(&mut self.outputs));
        for op in &program.ops[range] {
            inputs.clear();
            outputs.clear();
            inputs.extend(op.inputs.iter().map(|operand| operand.view(&bases, extents)));
            let resolved = |write| resolve(write, micro_index);
            outputs.extend(op.outputs.iter().map(|(o, write)| o.view_mut(&bases, extents, resolved(*write))));
            if let Some(collective) = collective.as_deref().filter(|_| op.op.kind.is_collective()) {
                between::exchange(collective, &op.op.kind, &inputs, &mut outputs)?;
                continue;
            }
            let workspace = op.workspace.as_ref().map_or(&mut [][..], |operand| operand.whole(&bases));
            let call = Call { kind: &op.op.kind, inputs: &inputs, outputs: &mut outputs, workspace, draw };
            backend.run(call).map_err(|error| failed(program.name, op.op, &error.0))?;
        }
        (self.inputs, self.outputs) = (emptied(inputs), emptied(outputs));
        Ok(())
    }

    fn batch_bytes(&mut self, name: &str, dtypes: &[Dtype], count: usize) -> Result<Option<&mut [u8]>> {
        let Some(&id) = self.values.get(name) else { return Ok(None) };
        let value = &self.module.values[id.index()];
        if !dtypes.contains(&value.dtype) {
            return Err(EngineError::plan(format!("`{name}` is {}", value.dtype.name())));
        }
        let elements = value.elements(&self.extents);
        if elements != count as u64 {
            return Err(EngineError::plan(format!("`{name}` takes {elements} numbers, there are {count}")));
        }
        let length = value.bytes(&self.extents) as usize;
        Ok(Some(self.arenas.bytes_mut(place(value)?, length)))
    }
}

impl Operand {
    fn dims(&self, extents: &[u64]) -> Dims {
        let mut sizes = [1; MAX_RANK];
        for (size, dim) in sizes.iter_mut().zip(&self.shape[..self.rank]) {
            *size = dim.size(extents) as usize;
        }
        Dims::new(&sizes[..self.rank])
    }

    fn view<'b>(&self, bases: &Bases<'b>, extents: &[u64]) -> View<'b> {
        let dims = self.dims(extents);
        let length = dims.elements() * self.dtype.bytes() as usize;
        // SAFETY: `prepare` checked that no output or workspace of the op overlaps an input at the capacities of
        // the extents, which `set_extent` keeps them below, and the views of one op are dropped before those of
        // the next are made.
        #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
        let bytes = unsafe { bases.bytes(self.place, length) };
        View { dtype: self.dtype, dims, bytes }
    }

    fn view_mut<'b>(&self, bases: &Bases<'b>, extents: &[u64], write: Write) -> ViewMut<'b> {
        let dims = self.dims(extents);
        let length = dims.elements() * self.dtype.bytes() as usize;
        // SAFETY: `prepare` checked that no output overlaps any other operand of the op, and the views
        // of one op are dropped before those of the next are made.
        #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
        let bytes = unsafe { bases.bytes_mut(self.place, length) };
        ViewMut { dtype: self.dtype, dims, write, bytes }
    }

    fn whole<'b>(&self, bases: &Bases<'b>) -> &'b mut [u8] {
        // SAFETY: as in `view_mut`; the workspace is checked like an output.
        #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
        unsafe {
            bases.bytes_mut(self.place, self.capacity as usize)
        }
    }

    /// Returns whether two operands share a byte at capacity.
    fn overlaps(&self, other: &Operand) -> bool {
        let (a, b) = (self.place.start as u64, other.place.start as u64);
        self.place.block == other.place.block && a < b + other.capacity && b < a + self.capacity
    }
}

/// Empties a vector for elements of the same layout; collecting in place keeps its memory.
fn emptied<T, U>(mut elements: Vec<T>) -> Vec<U> {
    elements.clear();
    elements.into_iter().map(|_| unreachable!("it was emptied")).collect()
}

fn resolve(write: Write, micro_index: u64) -> Write {
    match write {
        Write::Accumulate if micro_index == 0 => Write::Set,
        Write::Accumulate => Write::Add,
        Write::Set | Write::Add | Write::Update => write,
    }
}

/// Returns where a value lies.
pub(crate) fn place(value: &Value) -> Result<Place> {
    let start = value.offset.ok_or_else(|| EngineError::plan(format!("`{}` has no offset", value.name)))?;
    let block = Role::ALL.iter().position(|role| *role == value.role);
    Ok(Place { block: block.expect("Role::ALL lists every role"), start: start as usize })
}

fn check_supported(module: &Module, program: &Program, backend: &dyn Backend, exchanges: bool) -> Result<()> {
    for op in program.ops.iter().filter(|op| !(exchanges && op.kind.is_collective())) {
        let mut dtypes = op.values().map(|id| module.values[id.index()].dtype);
        let float = dtypes.find(|dtype| dtype.is_float()).unwrap_or(Dtype::F32);
        backend.supports(&op.kind, float).map_err(|error| {
            let message =
                format!("backend `{}` cannot run `{}`: {}", backend.name(), op.kind.name(), error.0);
            EngineError::new("unsupported-op", message).help("choose another backend with --backend")
        })?;
    }
    Ok(())
}

fn prepare<'a>(module: &'a Module, program: &'a Program) -> Result<Prepared<'a>> {
    let ops = program.ops.iter().map(|op| prepare_op(module, program, op)).collect::<Result<Vec<_>>>()?;
    Ok(Prepared { name: &program.name, ops })
}

fn prepare_op<'a>(module: &'a Module, program: &Program, op: &'a Op) -> Result<PreparedOp<'a>> {
    let operand = |id: ValueId| operand(module, id);
    let inputs = op.inputs.iter().map(|&id| operand(id)).collect::<Result<Vec<_>>>()?;
    let outputs = op.outputs.iter().map(|output| Ok((operand(output.value)?, output.write)));
    let outputs = outputs.collect::<Result<Vec<_>>>()?;
    let workspace = op.workspace.map(operand).transpose()?;
    let written: Vec<&Operand> = outputs.iter().map(|(operand, _)| operand).chain(&workspace).collect();
    for (index, one) in written.iter().enumerate() {
        let clash = inputs.iter().any(|input| one.overlaps(input))
            || written[index + 1..].iter().any(|other| one.overlaps(other));
        if clash {
            return Err(failed(&program.name, op, "operands overlap in memory"));
        }
    }
    Ok(PreparedOp { op, inputs, outputs, workspace })
}

fn operand(module: &Module, id: ValueId) -> Result<Operand> {
    let value = module.values.get(id.index());
    let value = value.ok_or_else(|| EngineError::plan(format!("there is no value {}", id.0)))?;
    let rank = value.shape.len();
    if rank > MAX_RANK {
        return Err(EngineError::plan(format!("`{}` has {rank} dimensions", value.name)));
    }
    let mut shape = [Dim::from(1); MAX_RANK];
    shape[..rank].copy_from_slice(&value.shape);
    let place = place(value)?;
    let capacity = value.bytes(&module.capacities());
    let end = place.start as u64 + capacity;
    if end > module.arena_bytes(value.role) || !(place.start as u64).is_multiple_of(value.dtype.bytes()) {
        let message = format!("`{}` lies outside its arena or is not aligned", value.name);
        return Err(EngineError::plan(message));
    }
    Ok(Operand { dtype: value.dtype, shape, rank, place, capacity })
}

fn failed(program: &str, op: &Op, why: &str) -> EngineError {
    let region = if op.region.is_empty() { String::new() } else { format!(" in {}", op.region) };
    EngineError::plan(format!("`{}`{region} of program `{program}`: {why}", op.kind.name()))
}

/// Returns the values that ops of that program rewrite or set, of the given roles.
pub fn written(program: &Program, module: &Module, roles: &[Role]) -> Vec<ValueId> {
    let outputs = program.ops.iter().flat_map(|op| &op.outputs).map(|output| output.value);
    let mut ids: Vec<ValueId> =
        outputs.filter(|id| roles.contains(&module.values[id.index()].role)).collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Returns for each weight that an optimizer rounds from a master the master: (weight, master).
pub fn masters(module: &Module) -> Vec<(ValueId, ValueId)> {
    let ops = module.programs.iter().flat_map(|program| &program.ops);
    let updates = ops.filter(|op| matches!(op.kind, OpKind::AdamW { .. }));
    updates.filter_map(|op| Some((op.outputs.get(3)?.value, op.outputs.first()?.value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Loops, layout};

    /// y[n] (+)= x[n], over the extent `tokens`.
    fn copying(write: Write) -> Module {
        let mut module = Module::default();
        let tokens = module.extent("tokens", 4);
        let x = module.value("x", Dtype::F32, Role::Batch, vec![tokens.into()]);
        let y = module.value("y", Dtype::F32, Role::State, vec![tokens.into()]);
        let op = Op::new(OpKind::Copy, vec![x], vec![Output { value: y, write }], "here");
        module.programs.push(Program { name: "micro".into(), ops: vec![op] });
        layout(&mut module);
        module
    }

    #[test]
    fn the_first_micro_step_sets_and_the_others_add() {
        let module = copying(Write::Accumulate);
        let mut executor = Executor::new(&module, &Loops).expect("a sound module");
        executor.set_extent("tokens", 3).expect("fits");
        executor.write_f32("x", &[1.0, 2.0, 3.0]).expect("written");
        for (micro_index, expected) in [(0, [1.0, 2.0, 3.0]), (1, [2.0, 4.0, 6.0]), (0, [1.0, 2.0, 3.0])] {
            executor.run("micro", micro_index, Draw::default()).expect("runs");
            assert_eq!(executor.read("y").expect("there"), expected);
        }
        assert!(executor.accumulates("micro", "y"));
    }

    #[test]
    fn empty_extents_run() {
        let module = copying(Write::Set);
        let mut executor = Executor::new(&module, &Loops).expect("a sound module");
        executor.set_extent("tokens", 0).expect("fits");
        executor.write_f32("x", &[]).expect("written");
        executor.run("micro", 0, Draw::default()).expect("runs");
        assert_eq!(executor.read("y").expect("there"), Vec::<f64>::new());
    }

    #[test]
    fn more_than_the_capacity_is_refused() {
        let module = copying(Write::Set);
        let mut executor = Executor::new(&module, &Loops).expect("a sound module");
        let error = executor.set_extent("tokens", 5).expect_err("too many");
        assert_eq!(error.message, "5 tokens do not fit the planned 4");
        executor.set_extent("tokens", 2).expect("fits");
        assert_eq!(executor.write_f32("x", &[0.0; 3]).expect_err("too many").code, "broken-plan");
    }

    #[test]
    fn overlapping_operands_are_refused() {
        let mut module = copying(Write::Set);
        module.values[0].role = Role::State;
        for (offset, sound) in [(0, false), (12, false), (16, true)] {
            module.values[0].offset = Some(offset);
            module.arenas = vec![plan::program::Arena { role: Role::State, bytes: 64 }];
            assert_eq!(Executor::new(&module, &Loops).is_ok(), sound, "offset {offset}");
        }
    }

    #[test]
    fn a_value_outside_its_arena_is_refused() {
        let mut module = copying(Write::Set);
        module.arenas.iter_mut().for_each(|arena| arena.bytes = 8);
        assert_eq!(Executor::new(&module, &Loops).err().expect("refused").code, "broken-plan");
        module.values[0].offset = None;
        assert_eq!(Executor::new(&module, &Loops).err().expect("refused").code, "broken-plan");
    }

    #[test]
    fn an_op_that_the_backend_lacks_is_named() {
        let mut module = copying(Write::Set);
        module.programs[0].ops[0].kind = OpKind::AllReduce { axis: plan::op::MeshAxis::All };
        let error = Executor::new(&module, &Loops).err().expect("refused");
        assert_eq!(error.code, "unsupported-op");
        assert!(error.message.contains("all_reduce"), "{}", error.message);
    }
}
