//! What a loaded tokenizer takes, as the `tokenizers` crate keeps it: hash tables from tokens to ids, from ids
//! to tokens, and from pairs to what they merge into.

/// An entry of a vocabulary, a text and its id, and the text itself with what the allocator adds.
const ENTRY: u64 = 32;
const TEXT: u64 = 32;

/// A merge: two pairs of numbers.
const MERGE: u64 = 16;

/// Returns the bytes of the tables of a tokenizer of so many ids and merges.
pub fn table_bytes(vocab: u64, merges: u64) -> u64 {
    2 * (table(vocab, ENTRY) + vocab * TEXT) + table(merges, MERGE)
}

/// A table has a power of two of places, at most seven eighths of them full, and a byte beside each.
fn table(entries: u64, bytes: u64) -> u64 {
    if entries == 0 { 0 } else { (entries * 8).div_ceil(7).next_power_of_two() * (bytes + 1) }
}
