//! The memory of a stage: one block per role, zeroed, in which the plan's offsets are places.
//!
//! All blocks lie in one mapping, so that what pages round up is rounded up once: whole large pages are
//! asked for as far as they go, the rest has small ones, and the memory in use is that of the plan.

mod readers;

use crate::error::{EngineError, Result};
use memmap2::{MmapMut, MmapRaw};
use ops::backend::Backend;
use plan::program::Module;
use plan::value::Role;
use readers::Readers;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of every block: a cache line, and the widest vector.
pub const ALIGNMENT: u64 = 64;

/// A large page; the first block starts at one.
const LARGE_PAGE: usize = 2 << 20;

/// The smallest page of any machine; where pages are larger, some are touched twice.
const SMALL_PAGE: usize = 4 << 10;

/// Bytes that a thread touches at a time.
const TOUCHED_AT_ONCE: usize = 16 << 20;

/// Roles that are kept from step to step, and that a checkpoint is written from.
pub const KEPT: [Role; 3] = [Role::Weight, Role::Master, Role::State];

/// One block per role, in the order of [`Role::ALL`].
#[derive(Debug)]
pub struct Arenas {
    memory: Arc<Memory>,
    blocks: Blocks,
}

/// Where the blocks lie in the mapping.
type Blocks = [Range<usize>; Role::ALL.len()];

/// The mapping, and who reads the kept roles while they are frozen.
#[derive(Debug)]
struct Memory {
    map: MmapRaw,
    readers: Readers,
}

/// The kept roles, unchanged for as long as this lives; for a reader on another thread.
///
/// Whoever wants to write to them waits until the last reader is gone.
#[derive(Debug)]
pub struct Frozen {
    memory: Arc<Memory>,
    blocks: Blocks,
}

/// The blocks during one run of a program; see [`Bases::bytes`] and [`Bases::bytes_mut`].
#[derive(Debug)]
pub struct Bases<'a> {
    arenas: &'a mut Arenas,
}

/// A place in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Role::ALL`].
    pub block: usize,
    pub start: usize,
}

impl Arenas {
    /// Allocates the blocks of a module and touches them on the threads of the backend.
    ///
    /// What earlier work freed goes back to the system first, so that it is not in use beside the blocks.
    ///
    /// # Errors
    /// Fails when there is not enough memory.
    pub fn new(module: &Module, backend: &dyn Backend) -> Result<Self> {
        let bytes = Role::ALL.map(|role| reached(module, role));
        let short = |error: std::io::Error| {
            let total = bytes.iter().sum::<u64>();
            EngineError::new("out-of-memory", format!("cannot allocate {total} bytes: {error}"))
                .help("choose a smaller batch, sequence or model")
        };
        let total: u64 = bytes.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum();
        let length = usize::try_from(total).map_err(std::io::Error::other).map_err(short)?;
        backend.release();
        return_free_memory();
        let mut map = MmapMut::map_anon(length + LARGE_PAGE).map_err(short)?;
        let mut start = map.as_ptr().align_offset(LARGE_PAGE);
        advise_large_pages(&map, start, length);
        let blocks = bytes.map(|bytes| {
            let block = start..start + bytes as usize;
            start += bytes.next_multiple_of(ALIGNMENT) as usize;
            block
        });
        let end = blocks.last().map_or(0, |block| block.end);
        touch(&mut map, blocks[0].start..end, backend).map_err(short)?;
        let memory = Memory { map: map.into(), readers: Readers::new() };
        Ok(Arenas { memory: Arc::new(memory), blocks })
    }

    /// Returns the bytes that the block of a role takes of the mapping.
    pub fn held_bytes(&self, role: Role) -> u64 {
        let block = Role::ALL.iter().position(|other| *other == role).expect("all roles are listed");
        (self.blocks[block].len() as u64).next_multiple_of(ALIGNMENT)
    }

    /// Returns bytes of a block.
    pub fn bytes(&self, at: Place, length: usize) -> &[u8] {
        let start = self.memory.start(&self.blocks, at, length);
        // SAFETY: the range lies in the mapping (checked in `start`). Writers hold `&mut self`, and a
        // `Frozen` only reads.
        #[allow(unsafe_code, reason = "the mapping is shared with readers of the kept roles")]
        unsafe {
            std::slice::from_raw_parts(start, length)
        }
    }

    /// Returns bytes of a block, to be written.
    pub fn bytes_mut(&mut self, at: Place, length: usize) -> &mut [u8] {
        self.memory.wait_for_readers(at.block);
        let start = self.memory.start(&self.blocks, at, length);
        // SAFETY: the range lies in the mapping. All other access is through `self`, which is borrowed
        // mutably, or through a `Frozen`: none lives that can see this block, and a new one takes `&self`.
        #[allow(unsafe_code, reason = "the mapping is shared with readers of the kept roles")]
        unsafe {
            std::slice::from_raw_parts_mut(start, length)
        }
    }

    /// Returns several disjoint places, to be written together.
    ///
    /// # Panics
    /// Panics when two of them overlap.
    pub fn split(&mut self, places: &[(Place, usize)]) -> Vec<&mut [u8]> {
        let first = self.memory.map.as_mut_ptr();
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(places.len());
        for (index, &(at, length)) in places.iter().enumerate() {
            let start = self.memory.start(&self.blocks, at, length);
            order.push((start as usize - first as usize, index));
        }
        order.sort_by_key(|&(start, index)| (start, places[index].1));
        self.memory.readers.wait();
        // SAFETY: the mapping is as long as it says, and was zeroed. All other access is through `self`, which is borrowed
        // mutably, or through a `Frozen`: none lives any more.
        #[allow(unsafe_code, reason = "the mapping is shared with readers of the kept roles")]
        let mut rest = unsafe { std::slice::from_raw_parts_mut(first, self.memory.map.len()) };
        let mut end = 0;
        let mut parts: Vec<(usize, &mut [u8])> = Vec::with_capacity(places.len());
        for (start, index) in order {
            let skipped = start.checked_sub(end).expect("places do not overlap");
            let (part, after) = std::mem::take(&mut rest)[skipped..].split_at_mut(places[index].1);
            (rest, end) = (after, start + part.len());
            parts.push((index, part));
        }
        parts.sort_unstable_by_key(|(index, _)| *index);
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// Keeps the kept roles as they are for a reader on another thread.
    pub fn freeze(&self) -> Frozen {
        self.memory.readers.enter();
        Frozen { memory: self.memory.clone(), blocks: self.blocks.clone() }
    }

    /// Returns all blocks, for as long as nothing else touches the arenas.
    pub fn bases(&mut self) -> Bases<'_> {
        Bases { arenas: self }
    }
}

impl Memory {
    /// Returns where bytes of a block start.
    ///
    /// # Panics
    /// Panics when they do not lie within the block.
    fn start(&self, blocks: &Blocks, at: Place, length: usize) -> *mut u8 {
        let block = &blocks[at.block];
        let fits = at.start <= block.len() && length <= block.len() - at.start;
        assert!(fits, "an operand lies within its arena");
        self.map.as_mut_ptr().wrapping_add(block.start + at.start)
    }

    /// Waits until nobody reads a block that is about to be written; only kept roles have readers.
    fn wait_for_readers(&self, block: usize) {
        if KEPT.contains(&Role::ALL[block]) {
            self.readers.wait();
        }
    }
}

impl Frozen {
    /// Returns bytes of a kept role.
    ///
    /// # Panics
    /// Panics when the block is not one of [`KEPT`].
    pub fn bytes(&self, at: Place, length: usize) -> &[u8] {
        assert!(KEPT.contains(&Role::ALL[at.block]), "only kept roles are frozen");
        let start = self.memory.start(&self.blocks, at, length);
        // SAFETY: the range lies in the mapping, which lives as long as `memory`. Blocks of kept roles are
        // written by `Arenas::bytes_mut`, `Arenas::split` and `Bases::bytes_mut` alone, which wait until no
        // `Frozen` lives; this one was counted by `freeze` while no slice of theirs lived.
        #[allow(unsafe_code, reason = "the mapping is shared with readers of the kept roles")]
        unsafe {
            std::slice::from_raw_parts(start, length)
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.memory.readers.leave();
    }
}

impl<'a> Bases<'a> {
    /// Returns bytes that an op reads.
    ///
    /// # Safety
    /// While the slice lives, no slice of [`Bases::bytes_mut`] may overlap it.
    #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
    pub unsafe fn bytes(&self, at: Place, length: usize) -> &'a [u8] {
        let start = self.arenas.memory.start(&self.arenas.blocks, at, length);
        // SAFETY: the range lies in the mapping (checked in `start`), which lives and is borrowed for `'a`;
        // the caller keeps it apart from everything that is written, and a `Frozen` only reads.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Returns bytes that an op writes; waits for the readers of a kept role.
    ///
    /// # Safety
    /// While the slice lives, no other slice of these bases may overlap it.
    #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller keeps slices disjoint; the blocks are borrowed mutably"
    )]
    pub unsafe fn bytes_mut(&self, at: Place, length: usize) -> &'a mut [u8] {
        self.arenas.memory.wait_for_readers(at.block);
        let start = self.arenas.memory.start(&self.arenas.blocks, at, length);
        // SAFETY: as above, and the caller keeps it apart from every other slice. No `Frozen` sees the
        // block, and a new one would need `&Arenas`, which these bases borrow mutably.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }
}

/// Gives the pages that the allocator keeps for later back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
fn return_free_memory() {
    // SAFETY: it may be called at any time on any thread, and only pages go that hold nothing.
    #[allow(unsafe_code, reason = "malloc_trim has no safe form")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
fn return_free_memory() {}

/// Asks for large pages as far as whole ones go; a system that has none goes on without.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise_large_pages(map: &MmapMut, start: usize, length: usize) {
    let whole = length / LARGE_PAGE * LARGE_PAGE;
    if whole > 0 {
        let _ = map.advise_range(memmap2::Advice::HugePage, start, whole);
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_large_pages(_: &MmapMut, _: usize, _: usize) {}

/// Returns the bytes of a role's arena that are ever used: of transient roles, as far as programs reach.
fn reached(module: &Module, role: Role) -> u64 {
    let arena = module.arena_bytes(role);
    if role.is_persistent() {
        return arena;
    }
    let capacities = module.capacities();
    let ops = module.programs.iter().flat_map(|program| &program.ops);
    let values = ops.flat_map(|op| op.values()).filter_map(|id| module.values.get(id.index()));
    let ends = values
        .filter(|value| value.role == role)
        .filter_map(|value| Some(value.offset? + value.bytes(&capacities)));
    ends.max().unwrap_or(0).min(arena)
}

/// Gives a range its pages, so that no step waits for them.
fn touch(map: &mut MmapMut, range: Range<usize>, backend: &dyn Backend) -> std::io::Result<()> {
    if range.is_empty() || populate(map, &range, backend)? {
        return Ok(());
    }
    let parts: Vec<_> = map[range].chunks_mut(TOUCHED_AT_ONCE).map(Mutex::new).collect();
    backend.parallel(parts.len(), &|part| {
        let mut part = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        part.iter_mut().step_by(SMALL_PAGE).for_each(|byte| *byte = 0);
    });
    Ok(())
}

/// Lets the system give a range its pages, from several threads; returns whether the system can.
#[cfg(all(target_os = "linux", not(miri)))]
fn populate(map: &MmapMut, range: &Range<usize>, backend: &dyn Backend) -> std::io::Result<bool> {
    let failure = Mutex::new(None);
    backend.parallel(range.len().div_ceil(TOUCHED_AT_ONCE), &|part| {
        let start = range.start + part * TOUCHED_AT_ONCE;
        let length = TOUCHED_AT_ONCE.min(range.end - start);
        if let Err(error) = map.advise_range(memmap2::Advice::PopulateWrite, start, length) {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(true),
        // Linux before 5.14 does not know the advice.
        Some(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(false),
        Some(error) => Err(error),
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn populate(_: &MmapMut, _: &Range<usize>, _: &dyn Backend) -> std::io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Loops;
    use plan::program::Arena;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    fn arenas(sizes: &[(Role, u64)]) -> Arenas {
        let arenas = sizes.iter().map(|&(role, bytes)| Arena { role, bytes }).collect();
        Arenas::new(&Module { arenas, ..Module::default() }, &Loops).expect("allocated")
    }

    fn block(role: Role) -> usize {
        Role::ALL.iter().position(|other| *other == role).expect("listed")
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_apart() {
        let mut arenas = arenas(&[(Role::Weight, 100), (Role::State, 8), (Role::Batch, 0)]);
        let (weight, state) = (block(Role::Weight), block(Role::State));
        assert_eq!(arenas.bytes(Place { block: weight, start: 0 }, 100), [0; 100]);
        for (block, length) in [(weight, 100), (state, 8), (block(Role::Batch), 0)] {
            let start = arenas.bytes(Place { block, start: 0 }, length).as_ptr();
            assert!((start as usize).is_multiple_of(ALIGNMENT as usize));
        }
        let first = arenas.bytes(Place { block: weight, start: 0 }, 1).as_ptr();
        assert!((first as usize).is_multiple_of(LARGE_PAGE));
        arenas.bytes_mut(Place { block: weight, start: 0 }, 100).fill(7);
        assert_eq!(arenas.bytes(Place { block: state, start: 0 }, 8), [0; 8]);
    }

    #[test]
    #[should_panic(expected = "lies within its arena")]
    fn a_place_beyond_its_block_is_a_bug() {
        let arenas = arenas(&[(Role::Weight, 100), (Role::State, 100)]);
        arenas.bytes(Place { block: block(Role::Weight), start: 96 }, 5);
    }

    #[test]
    fn places_come_apart_in_any_order() {
        let mut arenas = arenas(&[(Role::Weight, 16), (Role::Master, 4)]);
        let (weight, master) = (block(Role::Weight), block(Role::Master));
        let place = |start: usize, length| (Place { block: weight, start }, length);
        let places = [place(8, 4), place(0, 3), place(12, 0), place(12, 4)];
        let places = [&places[..], &[(Place { block: master, start: 1 }, 2)]].concat();
        for (index, part) in arenas.split(&places).into_iter().enumerate() {
            part.fill(index as u8 + 1);
        }
        assert_eq!(arenas.bytes(Place { block: master, start: 0 }, 4), [0, 5, 5, 0]);
        let expected = [2, 2, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1, 4, 4, 4, 4];
        assert_eq!(arenas.bytes(Place { block: weight, start: 0 }, 16), expected);
    }

    #[test]
    #[should_panic(expected = "do not overlap")]
    fn places_that_overlap_are_a_bug() {
        let place = |start: usize| (Place { block: block(Role::Weight), start }, 8);
        arenas(&[(Role::Weight, 16)]).split(&[place(0), place(4)]);
    }

    /// A writer to a kept role waits for its reader; other roles are written meanwhile.
    #[test]
    fn writers_wait_for_readers_of_kept_roles() {
        for through_bases in [false, true] {
            let mut arenas = arenas(&[(Role::State, 8), (Role::Gradient, 8)]);
            let frozen = arenas.freeze();
            let gone = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(30));
                    assert_eq!(frozen.bytes(Place { block: block(Role::State), start: 0 }, 8), [0; 8]);
                    gone.store(true, Ordering::SeqCst);
                    drop(frozen);
                });
                arenas.bytes_mut(Place { block: block(Role::Gradient), start: 0 }, 8).fill(1);
                assert!(!gone.load(Ordering::SeqCst));
                let state = Place { block: block(Role::State), start: 0 };
                if through_bases {
                    // SAFETY: no other slice of these bases is asked for.
                    #[allow(unsafe_code, reason = "as the executor does")]
                    unsafe { arenas.bases().bytes_mut(state, 8) }.fill(2);
                } else {
                    arenas.bytes_mut(state, 8).fill(2);
                }
                assert!(gone.load(Ordering::SeqCst));
            });
        }
    }

    #[test]
    #[should_panic(expected = "only kept roles")]
    fn what_changes_within_a_step_is_not_frozen() {
        let arenas = arenas(&[(Role::Gradient, 8)]);
        arenas.freeze().bytes(Place { block: block(Role::Gradient), start: 0 }, 8);
    }
}
