//! The order of rows: which sequences each step of each epoch holds.
//!
//! A pure function of seed, epoch and position, so that going on after a stop is a matter of counting.

use crate::draw::{Draws, Use};
use crate::pack::pack;
use crate::store::Store;
use plan::work::{Batch, Order, Unit};
use std::sync::{Arc, Mutex, PoisonError};

/// What shapes the order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchSpec {
    pub unit: Unit,
    pub batch: Batch,
    pub order: Order,
    /// Room of a packed sequence, in tokens.
    pub sequence: u64,
    /// Several rows per sequence; pairs are never packed.
    pub pack: bool,
    pub seed: u64,
}

/// A row at its place in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SequenceRow {
    /// Row of the store.
    pub row: usize,
    /// Its number in the epoch's order, whatever is packed with it.
    pub number: u64,
}

/// What counts as one in `batch`: a row, a pack of rows, or a pair (chosen, then rejected).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    pub rows: Vec<SequenceRow>,
}

/// The steps of every epoch.
#[derive(Debug)]
pub struct Batches {
    spec: BatchSpec,
    /// Tokens of each item: a row, or both rows of a pair.
    lengths: Vec<u32>,
    steps: u64,
    sequences: u64,
    /// The epoch asked for last; it costs a shuffle to make.
    last: Mutex<Option<(u64, Arc<Epoch>)>>,
}

/// One epoch's sequences and where its steps begin; one more bound than steps.
#[derive(Debug)]
pub struct Epoch {
    sequences: Vec<Sequence>,
    bounds: Vec<usize>,
}

impl Batches {
    /// Orders the rows of a store.
    ///
    /// # Panics
    /// Panics when `unit` is pairs and the number of rows is odd.
    pub fn new(store: &Store, spec: &BatchSpec) -> Self {
        let rows: Vec<u32> = store.records().iter().map(|record| record.length).collect();
        Self::of_lengths(&rows, *spec)
    }

    fn of_lengths(rows: &[u32], spec: BatchSpec) -> Self {
        let lengths: Vec<u32> = match spec.unit {
            Unit::Tokens => rows.to_vec(),
            Unit::Pairs => {
                assert!(
                    rows.len().is_multiple_of(2),
                    "pairs come two by two, but there are {} rows",
                    rows.len()
                );
                rows.chunks(2).map(|pair| pair.iter().sum()).collect()
            }
        };
        let packed = spec.pack && spec.unit == Unit::Tokens;
        let (sequences, longest) = if packed {
            (pack(&lengths, spec.sequence).len(), spec.sequence)
        } else {
            (lengths.len(), lengths.iter().max().map_or(0, |&length| u64::from(length)))
        };
        let tokens: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        let steps = step_count(spec.batch, sequences as u64, tokens, longest);
        Self { spec, lengths, steps, sequences: sequences as u64, last: Mutex::new(None) }
    }

    /// Returns the steps of an epoch, the same for all of them.
    ///
    /// With a batch of sequences the last step holds what is left over.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps
    }

    /// Returns the sequences of an epoch, the same for all of them.
    pub fn sequences_per_epoch(&self) -> u64 {
        self.sequences
    }

    /// Returns the sequences of one step.
    ///
    /// # Panics
    /// Panics when `index` is not below [`Self::steps_per_epoch`].
    pub fn step(&self, epoch: u64, index: u64) -> Vec<Sequence> {
        self.epoch(epoch).step(index).to_vec()
    }

    /// Cuts a step into micro-steps of at most `micro` sequences.
    pub fn micro_steps<'a>(&self, step: &'a [Sequence], micro: u64) -> std::slice::Chunks<'a, Sequence> {
        step.chunks(usize::try_from(micro).unwrap_or(usize::MAX).max(1))
    }

    /// Returns an epoch; the one asked for last is kept, another one costs a shuffle.
    pub fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, epoch)) = last.as_ref().filter(|(of, _)| *of == number) {
            return epoch.clone();
        }
        // The last one goes first, so that there are not two of them.
        *last = None;
        let epoch = Arc::new(self.make_epoch(number));
        *last = Some((number, epoch.clone()));
        epoch
    }

    fn make_epoch(&self, number: u64) -> Epoch {
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        if self.spec.order == Order::Shuffled {
            Draws::new(self.spec.seed, number, Use::Order).shuffle(&mut order);
        }
        let sequences = match self.spec.unit {
            Unit::Pairs => order.iter().enumerate().map(|(at, &pair)| pair_at(at, pair)).collect(),
            Unit::Tokens if self.spec.pack => self.packs(number, &order),
            Unit::Tokens => order.iter().enumerate().map(|(at, &row)| Sequence::one(at, row)).collect(),
        };
        let bounds = self.bounds(&sequences);
        Epoch { sequences, bounds }
    }

    fn packs(&self, epoch: u64, order: &[usize]) -> Vec<Sequence> {
        let lengths: Vec<u32> = order.iter().map(|&row| self.lengths[row]).collect();
        let mut packs = pack(&lengths, self.spec.sequence);
        for pack in &mut packs {
            pack.sort_unstable();
        }
        packs.sort_unstable();
        if self.spec.order == Order::Shuffled {
            Draws::new(self.spec.seed, epoch, Use::Packs).shuffle(&mut packs);
        }
        let row = |at: usize| SequenceRow { row: order[at], number: at as u64 };
        packs.into_iter().map(|pack| Sequence { rows: pack.into_iter().map(row).collect() }).collect()
    }

    fn bounds(&self, sequences: &[Sequence]) -> Vec<usize> {
        match self.spec.batch {
            Batch::Sequences(batch) => {
                let batch = usize::try_from(batch).unwrap_or(usize::MAX).max(1);
                let bound = |step: u64| (step as usize).saturating_mul(batch).min(sequences.len());
                (0..=self.steps).map(bound).collect()
            }
            Batch::Tokens(_) => self.token_bounds(sequences),
        }
    }

    /// Step k ends where k + 1 of `steps` equal shares of the tokens are reached.
    fn token_bounds(&self, sequences: &[Sequence]) -> Vec<usize> {
        let total: u64 = self.lengths.iter().map(|&length| u64::from(length)).sum();
        let mut bounds = vec![0];
        let mut seen = 0;
        for (at, sequence) in sequences.iter().enumerate() {
            seen += sequence.rows.iter().map(|row| self.row_length(row.row)).sum::<u64>();
            let step = bounds.len() as u64;
            if step < self.steps
                && u128::from(seen) * u128::from(self.steps) >= u128::from(total) * u128::from(step)
            {
                bounds.push(at + 1);
            }
        }
        if self.steps > 0 {
            bounds.push(sequences.len());
        }
        bounds
    }

    fn row_length(&self, row: usize) -> u64 {
        match self.spec.unit {
            Unit::Tokens => u64::from(self.lengths[row]),
            // A pair's tokens count once, with its first row.
            Unit::Pairs if row.is_multiple_of(2) => u64::from(self.lengths[row / 2]),
            Unit::Pairs => 0,
        }
    }
}

impl Epoch {
    /// Returns the sequences of one step.
    ///
    /// # Panics
    /// Panics when the epoch has no such step.
    pub fn step(&self, index: u64) -> &[Sequence] {
        let index = index as usize;
        &self.sequences[self.bounds[index]..self.bounds[index + 1]]
    }
}

impl Sequence {
    fn one(at: usize, row: usize) -> Self {
        Self { rows: vec![SequenceRow { row, number: at as u64 }] }
    }
}

fn pair_at(at: usize, pair: usize) -> Sequence {
    let row = |side: usize| SequenceRow { row: 2 * pair + side, number: (2 * at + side) as u64 };
    Sequence { rows: vec![row(0), row(1)] }
}

/// Returns the steps of an epoch, which must not depend on its order.
///
/// With a batch in tokens, steps are equal shares of the epoch. A share may miss up to one sequence, so
/// shares are made that much larger than the batch: then every step has at least its tokens.
fn step_count(batch: Batch, sequences: u64, tokens: u64, longest: u64) -> u64 {
    match batch {
        Batch::Sequences(batch) => sequences.div_ceil(batch.max(1)),
        Batch::Tokens(_) if sequences == 0 => 0,
        Batch::Tokens(least) => (tokens / (least.max(1) + longest.saturating_sub(1))).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(batch: Batch, pack: bool) -> BatchSpec {
        let order = Order::Shuffled;
        BatchSpec { unit: Unit::Tokens, batch, order, sequence: 64, pack, seed: 7 }
    }

    fn rows_of(batches: &Batches, epoch: u64) -> Vec<SequenceRow> {
        let steps = (0..batches.steps_per_epoch()).flat_map(|step| batches.step(epoch, step));
        steps.flat_map(|sequence| sequence.rows).collect()
    }

    proptest! {
        #[test]
        fn every_epoch_holds_every_row_once(
            lengths in prop::collection::vec(1u32..=64, 1..100),
            packed: bool,
            in_tokens: bool,
            size in 1u64..200,
        ) {
            let batch = if in_tokens { Batch::Tokens(size) } else { Batch::Sequences(size) };
            let batches = Batches::of_lengths(&lengths, spec(batch, packed));
            for epoch in [0, 1, 5] {
                let mut rows = rows_of(&batches, epoch);
                rows.sort_by_key(|row| row.row);
                let found: Vec<usize> = rows.iter().map(|row| row.row).collect();
                prop_assert_eq!(found, (0..lengths.len()).collect::<Vec<_>>());
                rows.sort_by_key(|row| row.number);
                let numbers: Vec<u64> = rows.iter().map(|row| row.number).collect();
                prop_assert_eq!(numbers, (0..lengths.len() as u64).collect::<Vec<_>>());
                for step in 0..batches.steps_per_epoch() {
                    let step = batches.step(epoch, step);
                    prop_assert!(!step.is_empty());
                    let rows = step.iter().flat_map(|sequence| &sequence.rows);
                    let tokens: u64 = rows.map(|row| u64::from(lengths[row.row])).sum();
                    if in_tokens && batches.steps_per_epoch() > 1 {
                        prop_assert!(tokens >= size);
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_is_a_pure_function_and_new_in_each_epoch() {
        let lengths: Vec<u32> = (1..60).collect();
        for packed in [false, true] {
            let make = || Batches::of_lengths(&lengths, spec(Batch::Sequences(4), packed));
            let (one, other) = (make(), make());
            let late = one.step(9, 3);
            let _ = (one.step(0, 0), other.step(2, 1));
            assert_eq!(late, other.step(9, 3));
            assert_ne!(one.step(0, 0), one.step(1, 0));
            assert_eq!(one.steps_per_epoch(), one.sequences_per_epoch().div_ceil(4));
        }
    }

    #[test]
    fn rows_keep_their_number_when_packed() {
        let lengths: Vec<u32> = (1..60).collect();
        let numbers = |packed| {
            let batches = Batches::of_lengths(&lengths, spec(Batch::Sequences(4), packed));
            let mut rows = rows_of(&batches, 3);
            rows.sort_by_key(|row| row.number);
            rows
        };
        assert_eq!(numbers(false), numbers(true));
    }

    #[test]
    fn a_pair_is_one_sequence() {
        let pairs = BatchSpec { unit: Unit::Pairs, ..spec(Batch::Sequences(2), true) };
        let batches = Batches::of_lengths(&[3, 4, 5, 6, 7, 8], pairs);
        assert_eq!(batches.steps_per_epoch(), 2);
        for sequence in batches.step(0, 0) {
            let [chosen, rejected] = sequence.rows[..] else { panic!("a pair has two rows") };
            assert!(chosen.row % 2 == 0 && rejected.row == chosen.row + 1);
            assert!(chosen.number % 2 == 0 && rejected.number == chosen.number + 1);
        }
    }

    #[test]
    fn an_empty_store_has_no_steps() {
        for batch in [Batch::Sequences(4), Batch::Tokens(4)] {
            assert_eq!(Batches::of_lengths(&[], spec(batch, true)).steps_per_epoch(), 0);
        }
    }
}
