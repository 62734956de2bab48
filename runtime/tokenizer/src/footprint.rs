//! What a loaded tokenizer takes, as the `tokenizers` crate keeps it: hash tables from tokens to ids, from ids
//! to tokens, and from pairs to what they merge into; of unigrams a tree of their bytes, with a hash table at
//! each inner node, which is ten times all else.

/// An entry of a vocabulary, a text and its id, and the text itself with what the allocator adds.
const ENTRY: u64 = 32;
const TEXT: u64 = 32;

/// A merge: two pairs of numbers.
const MERGE: u64 = 16;

/// Returns the bytes of the tables of a tokenizer of so many ids and merges.
pub fn table_bytes(vocab: u64, merges: u64) -> u64 {
    2 * (table(vocab, ENTRY) + vocab * TEXT) + table(merges, MERGE)
}

/// A byte and its node: a flag, and a table with four numbers that seed its hashes.
const NODE: u64 = 80;

/// What a table has beside its places: as many bytes again as are looked at together.
const GROUP: u64 = 16;

/// Returns the bytes of the tables of a tokenizer of unigrams.
pub fn unigram_bytes<'p>(pieces: impl IntoIterator<Item = &'p str>) -> u64 {
    let mut pieces: Vec<&[u8]> = pieces.into_iter().map(str::as_bytes).collect();
    pieces.sort_unstable();
    let count = pieces.len() as u64;
    let texts: u64 = pieces.iter().map(|piece| chunk(piece.len() as u64)).sum();
    table(count, ENTRY) + count * ENTRY + 2 * texts + tree(&pieces)
}

/// Returns the bytes of the tree of sorted pieces. Along the piece that was added last, it knows how many
/// children each node has; those that the next piece does not share are complete.
fn tree(pieces: &[&[u8]]) -> u64 {
    let (mut bytes, mut children, mut last) = (0, vec![0], &[][..]);
    for &piece in pieces {
        let shared = piece.iter().zip(last).take_while(|(a, b)| a == b).count();
        bytes += children.drain(shared + 1..).map(node).sum::<u64>();
        for _ in shared..piece.len() {
            *children.last_mut().expect("the root is never taken") += 1;
            children.push(0);
        }
        last = piece;
    }
    bytes + children.into_iter().map(node).sum::<u64>()
}

/// Returns the bytes of the table of a node's children, which has four places at least.
fn node(children: u64) -> u64 {
    if children == 0 { 0 } else { chunk(table(children.max(3), NODE) + GROUP) }
}

/// Returns what the allocator takes for so many bytes.
fn chunk(bytes: u64) -> u64 {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) }
}

/// A table has a power of two of places, at most seven eighths of them full, and a byte beside each.
fn table(entries: u64, bytes: u64) -> u64 {
    if entries == 0 { 0 } else { (entries * 8).div_ceil(7).next_power_of_two() * (bytes + 1) }
}
