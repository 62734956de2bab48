//! A micro batch: rows laid end to end, as the batch values of a program.

use crate::batches::Sequence;
use crate::store::Store;

/// Batch values of one micro-step, under the names of `plan::work::batch`. Rows are flat: there is no padding.
///
/// # Shapes
/// - `ids`, `positions`: `[tokens]`
/// - `cu_seqlens`: `[rows + 1]`; `row_numbers`, `row_ids`: `[rows]`
/// - `trained_index`, `trained_labels`, `trained_row`: `[trained]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MicroBatch {
    pub ids: Vec<i32>,
    pub positions: Vec<i32>,
    pub cu_seqlens: Vec<i32>,
    pub row_numbers: Vec<i32>,
    /// Flat index of the token whose output predicts the label: the one before it.
    pub trained_index: Vec<i32>,
    pub trained_labels: Vec<i32>,
    pub trained_row: Vec<i32>,
    /// Row of the store, to look up what is kept per row.
    pub row_ids: Vec<u64>,
}

impl MicroBatch {
    /// Makes an empty one that fits so many tokens, rows and trained tokens without growing.
    pub fn with_capacity(tokens: usize, rows: usize, trained: usize) -> Self {
        let [ids, positions] = [(); 2].map(|()| Vec::with_capacity(tokens));
        let [trained_index, trained_labels, trained_row] = [(); 3].map(|()| Vec::with_capacity(trained));
        let (cu_seqlens, row_numbers) = (Vec::with_capacity(rows + 1), Vec::with_capacity(rows));
        let row_ids = Vec::with_capacity(rows);
        Self { ids, positions, cu_seqlens, row_numbers, trained_index, trained_labels, trained_row, row_ids }
    }

    /// Replaces the content by the rows of `sequences`; buffers keep their capacity.
    pub fn fill(&mut self, store: &Store, sequences: &[Sequence]) {
        self.clear();
        self.cu_seqlens.push(0);
        for row in sequences.iter().flat_map(|sequence| &sequence.rows) {
            self.push(store, row.row, row.number);
        }
    }

    fn push(&mut self, store: &Store, row: usize, number: u64) {
        let start = self.ids.len() as i32;
        let in_batch = self.row_ids.len() as i32;
        let data = store.row(row);
        self.ids.extend(data.ids.iter().map(|&id| id as i32));
        self.positions.extend(0..data.ids.len() as i32);
        for (at, _) in data.mask.iter().enumerate().skip(1).filter(|(_, mask)| **mask != 0) {
            self.trained_index.push(start + at as i32 - 1);
            self.trained_labels.push(data.ids[at] as i32);
            self.trained_row.push(in_batch);
        }
        self.cu_seqlens.push(self.ids.len() as i32);
        self.row_numbers.push(number as i32);
        self.row_ids.push(row as u64);
    }

    fn clear(&mut self) {
        let Self {
            ids,
            positions,
            cu_seqlens,
            row_numbers,
            trained_index,
            trained_labels,
            trained_row,
            row_ids,
        } = self;
        for buffer in [ids, positions, cu_seqlens, row_numbers, trained_index, trained_labels, trained_row] {
            buffer.clear();
        }
        row_ids.clear();
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
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
