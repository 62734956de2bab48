//! What a process holds beside the arenas of its stage, item by item.
//!
//! Each item follows from what is known of the stage; only [`PROCESS_BYTES`] is the same for every one.

use lang::facts::{PartFact, TokenizerBytes};
use plan::blocks;
use plan::program::Module;

/// Code and its tables, stacks, the recipe and its facts, the buffer of the file that is written, and what the
/// allocator rounds up. Measured: 4 to 9 MB of `RssAnon` remained when arenas and the items below were taken off,
/// the less where everything before the stage was done by an earlier run.
pub const PROCESS_BYTES: u64 = 8 << 20;

/// An op with its values, in the plan and as the engine runs it. Measured on Llamas of 2 to 80 layers.
const OP_BYTES: u64 = 1850;

/// The stack of a thread and its buffers for widened numbers, as far as they are touched.
const THREAD_BYTES: u64 = 256 << 10;

/// A token of a step, as it is laid out: id, position, and for trained ones index, label and row.
const TOKEN_BYTES: u64 = 20;

/// The present step and the next one are laid out at once.
const STEPS_AT_ONCE: u64 = 2;

/// A row in the order of an epoch, and the list of a sequence that holds it.
const ROW_BYTES: u64 = 16;
const SEQUENCE_BYTES: u64 = 40;

/// Of each sequence its length, and its place in the order while that is drawn.
const ORDER_BYTES: u64 = 4 + 8;

/// The reference log-probability of a row.
const REFERENCE_BYTES: u64 = 4;

/// The items beside the arenas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Threads that ops run on, of all devices of this machine.
    pub threads: u64,
    pub tokenizer: u64,
    pub rows: u64,
    /// What the driver takes where the memory is a GPU's, of which the process has nothing else; on cores 0.
    pub driver: u64,
}

/// The rows that a stage reads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rows {
    /// Of an epoch: rows, and the sequences or pairs that they make.
    pub rows: u64,
    pub sequences: u64,
    pub held_out: u64,
    /// Tokens of a step.
    pub tokens: f64,
    pub packed: bool,
    /// Whether a reference scores each row.
    pub scored: bool,
}

impl Process {
    /// Returns the items of a stage, by the names that `adapt plan` prints.
    pub fn items(&self, module: &Module) -> Vec<(&'static str, u64)> {
        if self.driver > 0 {
            return vec![("process", self.driver)];
        }
        let ops: usize = module.programs.iter().map(|program| program.ops.len()).sum();
        let threads = self.threads.max(1);
        // Ranks divide them.
        let together = threads.div_ceil(module.mesh.ranks()) as usize;
        vec![
            ("tokenizer", self.tokenizer),
            ("rows", self.rows),
            ("plan", ops as u64 * OP_BYTES),
            ("threads", threads * (blocks::bytes_per_thread(module, together) + THREAD_BYTES)),
            ("process", PROCESS_BYTES),
        ]
    }

    /// Returns the sum of the items.
    pub fn bytes(&self, module: &Module) -> u64 {
        self.items(module).iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Returns the bytes of a tokenizer; `plain` where it also reads special tokens as ordinary text.
pub fn tokenizer(known: Option<TokenizerBytes>, plain: bool) -> u64 {
    known.map_or(0, |bytes| bytes.text + bytes.tables * if plain { 2 } else { 1 })
}

impl Rows {
    /// Returns the bytes of the order of rows, and of steps that are laid out.
    pub fn bytes(&self) -> u64 {
        let laid_out = STEPS_AT_ONCE * self.tokens as u64 * TOKEN_BYTES;
        let epoch = ordered(self.rows, self.sequences) + self.sequences * ORDER_BYTES;
        // Packs are made of places in the order, then of rows.
        let packs = if self.packed { ordered(self.rows, self.sequences) } else { 0 };
        let scores = if self.scored { (self.rows + self.held_out) * REFERENCE_BYTES } else { 0 };
        laid_out + epoch + packs + ordered(self.held_out, self.held_out) + scores
    }
}

fn ordered(rows: u64, sequences: u64) -> u64 {
    rows * ROW_BYTES + sequences * SEQUENCE_BYTES
}

/// A token and its mask in the files of prepared data, and what is kept there of each row.
const STORED_TOKEN_BYTES: u64 = 4 + 1;
const RECORD_BYTES: u64 = 40;

/// Returns the bytes of prepared rows on disk, which are mapped and not counted: the system takes them back at will.
pub fn mapped(part: &PartFact) -> u64 {
    part.tokens * STORED_TOKEN_BYTES + part.rows * RECORD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_once_and_steps_twice() {
        let rows = Rows { rows: 10, sequences: 10, tokens: 100.0, ..Rows::default() };
        assert_eq!(rows.bytes(), 2 * 100 * 20 + 10 * (16 + 40 + 12));
        let scored = Rows { held_out: 5, scored: true, ..rows };
        assert_eq!(scored.bytes() - rows.bytes(), 5 * 56 + 15 * 4);
        let packed = Rows { sequences: 4, packed: true, ..rows };
        assert_eq!(packed.bytes(), 2 * 100 * 20 + 2 * (160 + 160) + 48);
    }

    #[test]
    fn a_tokenizer_that_also_reads_plain_text_has_its_tables_twice() {
        let known = Some(TokenizerBytes { text: 10, tables: 100 });
        assert_eq!([tokenizer(known, false), tokenizer(known, true), tokenizer(None, true)], [110, 210, 0]);
    }

    #[test]
    fn threads_and_ops_are_counted() {
        let process = Process { threads: 3, tokenizer: 7, rows: 11, driver: 0 };
        assert_eq!(process.bytes(&Module::default()), 7 + 11 + 3 * THREAD_BYTES + PROCESS_BYTES);
        // A GPU has only its driver of it.
        let process = Process { driver: 5, ..process };
        assert_eq!(process.items(&Module::default()), [("process", 5)]);
    }
}
