//! A micro batch: rows laid end to end, as the batch values of a program.

use crate::batches::{Sequence, SequenceRow};
use crate::store::Store;

/// Batch values of one micro-step, under the names of `plan::work::batch`. Rows are flat: there is no padding.
///
/// Where prefixes are shared, the second row of a pair holds only the tokens that the first lacks. The last token
/// that both have predicts the first of each answer.
///
/// # Shapes
/// - `ids`, `positions`: `[tokens]`
/// - `cu_seqlens`: `[rows + 1]`; `row_numbers`, `prefixes`, `row_ids`: `[rows]`
/// - `trained_index`, `trained_labels`, `trained_row`: `[trained]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MicroBatch {
    pub ids: Vec<i32>,
    pub positions: Vec<i32>,
    pub cu_seqlens: Vec<i32>,
    pub row_numbers: Vec<i32>,
    /// Tokens of the row before that a row goes on from.
    pub prefixes: Vec<i32>,
    /// Flat index of the token whose output predicts the label: the one before it.
    pub trained_index: Vec<i32>,
    pub trained_labels: Vec<i32>,
    pub trained_row: Vec<i32>,
    /// Row of the store, to look up what is kept per row.
    pub row_ids: Vec<u64>,
}

/// Buffers of one length.
type Numbers<'m, const N: usize> = [&'m mut Vec<i32>; N];

impl MicroBatch {
    /// Makes an empty one that fits so many tokens, rows and trained tokens without growing.
    pub fn with_capacity(tokens: usize, rows: usize, trained: usize) -> Self {
        let mut made = Self::default();
        let (of_tokens, of_rows, of_trained) = made.buffers();
        of_tokens.into_iter().for_each(|buffer| buffer.reserve_exact(tokens));
        // There is one bound more than there are rows.
        of_rows.into_iter().for_each(|buffer| buffer.reserve_exact(rows + 1));
        of_trained.into_iter().for_each(|buffer| buffer.reserve_exact(trained));
        made.row_ids.reserve_exact(rows);
        made
    }

    /// Returns its batch values: of tokens, of rows, of trained tokens.
    fn buffers(&mut self) -> (Numbers<'_, 2>, Numbers<'_, 3>, Numbers<'_, 3>) {
        (
            [&mut self.ids, &mut self.positions],
            [&mut self.cu_seqlens, &mut self.row_numbers, &mut self.prefixes],
            [&mut self.trained_index, &mut self.trained_labels, &mut self.trained_row],
        )
    }

    /// Replaces the content by the rows of `sequences`; buffers keep their capacity.
    ///
    /// With `share` the second row of a pair goes on from what it shares with the first.
    pub fn fill(&mut self, store: &Store, sequences: &[Sequence], share: bool) {
        self.clear();
        self.cu_seqlens.push(0);
        for sequence in sequences {
            let trunk = self.ids.len();
            for (at, row) in sequence.rows.iter().enumerate() {
                let shared = if share && at > 0 { store.records()[row.row].shared as usize } else { 0 };
                self.push(store, row, trunk, shared);
            }
        }
    }

    /// Appends a row without its first `shared` tokens, which are those of the row that begins at `trunk`.
    fn push(&mut self, store: &Store, row: &SequenceRow, trunk: usize, shared: usize) {
        let &SequenceRow { row, number } = row;
        let start = self.ids.len();
        let in_batch = self.row_ids.len() as i32;
        let data = store.row(row);
        self.ids.extend(data.ids[shared..].iter().map(|&id| id as i32));
        self.positions.extend(shared as i32..data.ids.len() as i32);
        let place = |at: usize| if at < shared { trunk + at } else { start + at - shared };
        for (at, _) in data.mask.iter().enumerate().skip(1).filter(|(_, mask)| **mask != 0) {
            self.trained_index.push(place(at - 1) as i32);
            self.trained_labels.push(data.ids[at] as i32);
            self.trained_row.push(in_batch);
        }
        self.cu_seqlens.push(self.ids.len() as i32);
        self.row_numbers.push(number as i32);
        self.prefixes.push(shared as i32);
        self.row_ids.push(row as u64);
    }

    fn clear(&mut self) {
        let (of_tokens, of_rows, of_trained) = self.buffers();
        of_tokens.into_iter().chain(of_rows).chain(of_trained).for_each(Vec::clear);
        self.row_ids.clear();
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Returns the number of tokens of its rows, those that they share counted for each.
    pub fn tokens_of_rows(&self) -> usize {
        self.tokens() + self.prefixes.iter().map(|&prefix| prefix as usize).sum::<usize>()
    }

    /// Returns the number of rows; a pair counts as two.
    pub fn rows(&self) -> usize {
        self.row_ids.len()
    }

    /// Returns the number of tokens that are trained.
    pub fn trained(&self) -> usize {
        self.trained_index.len()
    }
}
