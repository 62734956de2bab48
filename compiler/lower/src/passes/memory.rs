//! Lifetimes and offsets: every value gets its place in the arena of its role.
//!
//! Persistent values lie one after another. Activations and scratch live from their first to their
//! last op of a program and share what is free in between; each arena is as large as its largest program.

use plan::program::{Arena, Module, Program};
use plan::value::{Role, ValueId};
use std::collections::BTreeMap;

/// Every place starts at a multiple of this many bytes: a cache line, and the widest vector.
const ALIGNMENT: u64 = 64;

/// Gives every value an offset and every role its arena.
///
/// # Panics
/// Panics when an activation is read before any op of its program has written it: a bug in lowering.
pub fn assign(module: &mut Module) {
    let capacities = module.capacities();
    let sizes: Vec<u64> = module.values.iter().map(|value| round_up(value.bytes(&capacities))).collect();
    let mut arenas: BTreeMap<Role, u64> = BTreeMap::new();
    for (value, size) in module.values.iter_mut().zip(&sizes) {
        if value.role.is_persistent() {
            let end = arenas.entry(value.role).or_default();
            value.offset = Some(*end);
            *end += size;
        }
    }
    let programs = std::mem::take(&mut module.programs);
    for program in &programs {
        for role in [Role::Activation, Role::Workspace] {
            let end = place(module, program, role, &sizes);
            let arena = arenas.entry(role).or_default();
            *arena = (*arena).max(end);
        }
    }
    module.programs = programs;
    module.arenas = arenas
        .into_iter()
        .filter(|&(_, bytes)| bytes > 0)
        .map(|(role, bytes)| Arena { role, bytes })
        .collect();
}

fn round_up(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

/// First and last op that touch each value of a role, in order of first use.
pub fn lifetimes(module: &Module, program: &Program, role: Role) -> Vec<(ValueId, usize, usize)> {
    let mut places: Vec<Option<usize>> = vec![None; module.values.len()];
    let mut list: Vec<(ValueId, usize, usize)> = Vec::new();
    for (index, op) in program.ops.iter().enumerate() {
        for id in op.values().filter(|id| module.values[id.index()].role == role) {
            let place = *places[id.index()].get_or_insert_with(|| {
                assert!(
                    !op.inputs.contains(&id),
                    "`{}` is read before it is written in `{}`",
                    module.values[id.index()].name,
                    program.name
                );
                list.push((id, index, index));
                list.len() - 1
            });
            list[place].2 = index;
        }
    }
    list.sort_by_key(|&(id, first, _)| (first, id));
    list
}

/// Places the transient values of one program; returns the end of the highest.
fn place(module: &mut Module, program: &Program, role: Role, sizes: &[u64]) -> u64 {
    let lifetimes = lifetimes(module, program, role);
    let mut free = FreeList::default();
    // Places that become free after each op, and the op up to which that was done.
    let mut ending: Vec<Vec<(u64, u64)>> = vec![Vec::new(); program.ops.len()];
    let mut passed = 0;
    for (id, first, last) in lifetimes {
        // What died before this op is free; what the op itself still reads is not.
        for (offset, size) in ending[passed..first].iter().flatten() {
            free.release(*offset, *size);
        }
        passed = first;
        let size = sizes[id.index()];
        let offset = free.take(size);
        module.values[id.index()].offset = Some(offset);
        ending[last].push((offset, size));
    }
    free.end
}

/// Free ranges below `end`, by offset.
#[derive(Debug, Default)]
struct FreeList {
    ranges: BTreeMap<u64, u64>,
    end: u64,
}

impl FreeList {
    /// Takes the smallest range that fits, or grows the arena.
    fn take(&mut self, size: u64) -> u64 {
        let best =
            self.ranges.iter().filter(|&(_, &length)| length >= size).min_by_key(|&(_, &length)| length);
        if let Some((&offset, &length)) = best {
            self.ranges.remove(&offset);
            if length > size {
                self.ranges.insert(offset + size, length - size);
            }
            return offset;
        }
        // A free range that touches the end is extended instead of left behind.
        if let Some((&offset, &length)) = self.ranges.last_key_value()
            && offset + length == self.end
        {
            self.ranges.remove(&offset);
            self.end = offset + size;
            return offset;
        }
        self.end += size;
        self.end - size
    }

    fn release(&mut self, offset: u64, size: u64) {
        let (mut start, mut length) = (offset, size);
        if let Some((&before, &before_length)) = self.ranges.range(..offset).next_back()
            && before + before_length == offset
        {
            self.ranges.remove(&before);
            (start, length) = (before, before_length + size);
        }
        if let Some(after_length) = self.ranges.remove(&(offset + size)) {
            length += after_length;
        }
        self.ranges.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::op::{Op, OpKind, Output, Write};
    use plan::value::Dtype;

    /// A chain of adds x0 → x1 → … of equal sizes needs two places only.
    #[test]
    fn a_chain_needs_two_places() {
        let mut module = Module::default();
        let batch = module.value("x", Dtype::F32, Role::Batch, vec![16.into()]);
        let mut ops = Vec::new();
        let mut from = batch;
        for step in 0..6 {
            let to = module.value(format!("a{step}"), Dtype::F32, Role::Activation, vec![16.into()]);
            ops.push(Op::new(OpKind::Copy, vec![from], vec![Output { value: to, write: Write::Set }], "r"));
            from = to;
        }
        module.programs.push(Program { name: "p".into(), ops });
        assign(&mut module);
        assert_eq!(module.arena_bytes(Role::Activation), 128);
        assert_eq!(module.arena_bytes(Role::Batch), 64);
    }

    #[test]
    fn freed_neighbours_become_one_range() {
        let mut free = FreeList::default();
        let places: Vec<u64> = (0..3).map(|_| free.take(64)).collect();
        for &place in &[places[0], places[2], places[1]] {
            free.release(place, 64);
        }
        assert_eq!(free.take(192), 0);
        assert_eq!(free.end, 192);
    }

    #[test]
    #[should_panic(expected = "read before it is written")]
    fn reading_before_writing_is_a_bug() {
        let mut module = Module::default();
        let a = module.value("a", Dtype::F32, Role::Activation, vec![4.into()]);
        let y = module.value("y", Dtype::F32, Role::Batch, vec![4.into()]);
        let ops = vec![Op::new(OpKind::Copy, vec![a], vec![Output { value: y, write: Write::Set }], "r")];
        module.programs.push(Program { name: "p".into(), ops });
        assign(&mut module);
    }
}
