//! The memory of a stage: one block per role, zeroed, in which the plan's offsets are places.

use crate::error::{EngineError, Result};
use memmap2::MmapMut;
use plan::program::Module;
use plan::value::Role;

/// Alignment of every block; pages are aligned to more.
pub const ALIGNMENT: u64 = 64;

/// One block per role, in the order of [`Role::ALL`].
#[derive(Debug)]
pub struct Arenas {
    blocks: Vec<MmapMut>,
}

/// Where the blocks start, for one run of a program; see [`Bases::bytes`] and [`Bases::bytes_mut`].
#[derive(Debug)]
pub struct Bases<'a> {
    starts: [(*mut u8, usize); Role::ALL.len()],
    arenas: std::marker::PhantomData<&'a mut Arenas>,
}

/// A place in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Role::ALL`].
    pub block: usize,
    pub start: usize,
}

impl Arenas {
    /// Allocates the blocks of a module; pages cost memory once they are touched.
    pub fn new(module: &Module) -> Result<Self> {
        let block = |role: &Role| {
            let bytes = module.arena_bytes(*role);
            allocate(bytes).map_err(|error| {
                let message = format!("cannot allocate {bytes} bytes for {}: {error}", role.name());
                EngineError::new("out-of-memory", message).help("choose a smaller batch, sequence or model")
            })
        };
        Ok(Arenas { blocks: Role::ALL.iter().map(block).collect::<Result<_>>()? })
    }

    /// Returns bytes of a block.
    pub fn bytes(&self, at: Place, length: usize) -> &[u8] {
        &self.blocks[at.block][at.start..at.start + length]
    }

    /// Returns bytes of a block, to be written.
    pub fn bytes_mut(&mut self, at: Place, length: usize) -> &mut [u8] {
        &mut self.blocks[at.block][at.start..at.start + length]
    }

    /// Returns the starts of all blocks, for as long as nothing else touches the arenas.
    pub fn bases(&mut self) -> Bases<'_> {
        let mut starts = [(std::ptr::null_mut(), 0); Role::ALL.len()];
        for (start, block) in starts.iter_mut().zip(&mut self.blocks) {
            *start = (block.as_mut_ptr(), block.len());
        }
        Bases { starts, arenas: std::marker::PhantomData }
    }
}

impl<'a> Bases<'a> {
    /// Returns bytes that an op reads.
    ///
    /// # Safety
    /// While the slice lives, no slice of [`Bases::bytes_mut`] may overlap it.
    #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
    pub unsafe fn bytes(&self, at: Place, length: usize) -> &'a [u8] {
        let start = self.start(at, length);
        // SAFETY: the range lies in the block (checked in `start`), which lives and is borrowed for `'a`;
        // the caller keeps it apart from everything that is written.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Returns bytes that an op writes.
    ///
    /// # Safety
    /// While the slice lives, no other slice of these bases may overlap it.
    #[allow(unsafe_code, reason = "operands of one op are disjoint slices of the same blocks")]
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller keeps slices disjoint; the blocks are borrowed mutably"
    )]
    pub unsafe fn bytes_mut(&self, at: Place, length: usize) -> &'a mut [u8] {
        let start = self.start(at, length);
        // SAFETY: as above, and the caller keeps it apart from every other slice.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    #[allow(unsafe_code, reason = "pointer arithmetic within a block")]
    fn start(&self, at: Place, length: usize) -> *mut u8 {
        let (base, size) = self.starts[at.block];
        assert!(at.start <= size && length <= size - at.start, "an operand lies within its arena");
        // SAFETY: the offset is within the block, or one past its end for an empty operand.
        unsafe { base.add(at.start) }
    }
}

fn allocate(bytes: u64) -> std::io::Result<MmapMut> {
    let length = usize::try_from(bytes.max(1)).map_err(std::io::Error::other)?;
    let block = MmapMut::map_anon(length)?;
    // Large pages spare address translation; a system that has none goes on without.
    #[cfg(target_os = "linux")]
    let _ = block.advise(memmap2::Advice::HugePage);
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::program::Arena;

    #[test]
    fn blocks_are_aligned_and_zeroed() {
        let arenas = vec![Arena { role: Role::Weight, bytes: 100 }, Arena { role: Role::Batch, bytes: 0 }];
        let mut arenas = Arenas::new(&Module { arenas, ..Module::default() }).expect("allocated");
        assert_eq!(arenas.bytes(Place { block: 0, start: 0 }, 100), [0; 100]);
        let bases = arenas.bases();
        assert!(bases.starts.iter().all(|(start, _)| (*start as usize).is_multiple_of(ALIGNMENT as usize)));
    }
}
