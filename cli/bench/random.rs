//! Random weights and rows: speed does not depend on what they are.

use super::{Bench, Scratch, said};
use data::store::TokenRow;
use data::{Sequence, SequenceRow, Side, Store, StoreWriter};
use engine::executor::Executor;
use lower::models::Model;
use std::path::Path;

/// Weights as a new model has them, in files, as a run finds them.
pub struct Weights<'m> {
    model: &'m Model,
    folder: Scratch,
}

impl<'m> Weights<'m> {
    pub fn new(bench: &Bench, model: &'m Model) -> Result<Weights<'m>, String> {
        let folder = bench.scratch("weights")?;
        write_weights(bench, model, &folder.0)?;
        Ok(Weights { model, folder })
    }

    pub fn load(&self, executor: &mut Executor) -> Result<(), String> {
        let map = lower::programs::file_tensors(self.model, executor.module());
        engine::weights::load(executor, &map, &self.folder.0).map_err(said)
    }
}

/// Writes the weights of a new model into a folder.
pub fn write_weights(bench: &Bench, model: &Model, folder: &Path) -> Result<(), String> {
    engine::initialize::write(&model.new_tensors(), "f32", 0, folder, &bench.cpu).map_err(said)
}

/// What a sequence is: a row, or the two rows of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Tokens of a row.
    pub seq: u64,
    pub pair: Option<Pair>,
}

/// Two rows that begin with the same prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub prompt: u64,
    /// Whether the prompt is computed once.
    pub shared: bool,
}

impl Rows {
    /// Rows of a sequence.
    pub fn rows(self) -> u64 {
        1 + u64::from(self.pair.is_some())
    }

    /// Tokens of a sequence.
    pub fn tokens(self) -> u64 {
        self.rows() * self.seq
    }

    /// Of those the ones that are computed.
    pub fn computed(self) -> u64 {
        self.tokens() - self.shared()
    }

    /// Tokens that are predicted: all but the first of a row, or the answers.
    pub fn trained(self) -> u64 {
        self.rows() * (self.seq - self.begin())
    }

    /// Length of the row in which a token sees as many before it as here in the mean.
    ///
    /// What is shared is computed once, and the answers behind it see it.
    pub fn row_tokens(self) -> f64 {
        let triangle = |tokens: u64| (tokens * tokens) as f64 / 2.0;
        let seen = self.rows() as f64 * triangle(self.seq) - triangle(self.shared());
        2.0 * seen / self.computed() as f64
    }

    /// First token that is predicted.
    fn begin(self) -> u64 {
        self.pair.map_or(1, |pair| pair.prompt)
    }

    fn shared(self) -> u64 {
        self.pair.filter(|pair| pair.shared).map_or(0, |pair| pair.prompt)
    }

    /// Returns a sequence of a store that [`Rows::store`] made.
    pub fn sequence(self, index: u64) -> Sequence {
        let numbers = index * self.rows()..(index + 1) * self.rows();
        Sequence { rows: numbers.map(|number| SequenceRow { row: number as usize, number }).collect() }
    }

    /// Prepares so many sequences, as data is prepared for a run.
    pub fn store(self, bench: &Bench, vocab: u64, sequences: u64) -> Result<Store, String> {
        let failed = |error: data::DataError| error.message;
        let scratch = bench.scratch("rows")?;
        let folder = scratch.0.join("store");
        let mut writer = StoreWriter::create(&folder, &["random".to_owned()]).map_err(failed)?;
        for number in 0..sequences * self.rows() {
            writer.push(Side::Train, &self.row(vocab, number)).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        Store::open(&folder, Side::Train).map_err(failed)
    }

    fn row(self, vocab: u64, number: u64) -> TokenRow {
        const PROMPTS: u64 = 1;
        const ROWS: u64 = 2;
        let mut ids = ids(vocab, ROWS, number, self.seq);
        if let Some(Pair { prompt, .. }) = self.pair {
            ids.splice(..prompt as usize, self::ids(vocab, PROMPTS, number / 2, prompt));
        }
        let mask = (0..self.seq).map(|at| u8::from(at >= self.begin())).collect();
        let shared = if number % self.rows() == 1 { self.shared() as u32 } else { 0 };
        TokenRow { ids, mask, part: 0, bytes: 0, identity: number, shared }
    }
}

/// Returns ids: even over the vocabulary, of which the first three are usually special.
pub fn ids(vocab: u64, seed: u64, number: u64, tokens: u64) -> Vec<u32> {
    const SPECIAL: u64 = 3;
    let key = ops::random::stream(seed, number, 0);
    let first = SPECIAL.min(vocab - 1);
    let id = |at: u64| {
        let [word, ..] = ops::random::philox(key, [at as u32, 0, 0, 0]);
        (first + u64::from(word) % (vocab - first)) as u32
    };
    (0..tokens).map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_drawn_from_the_vocabulary() {
        let drawn = ids(100, 1, 0, 5000);
        assert!(drawn.iter().all(|id| (3..100).contains(id)));
        assert_eq!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len(), 97);
        assert_eq!(ids(100, 1, 0, 10), drawn[..10]);
        assert_ne!(ids(100, 1, 1, 10), drawn[..10]);
    }

    #[test]
    fn both_rows_of_a_pair_begin_with_its_prompt() {
        let pair = |shared| Rows { seq: 8, pair: Some(Pair { prompt: 5, shared }) };
        let [chosen, rejected, next] = [0, 1, 2].map(|number| pair(true).row(1000, number));
        assert_eq!(chosen.ids[..5], rejected.ids[..5]);
        assert_ne!(chosen.ids[5..], rejected.ids[5..]);
        assert_ne!(rejected.ids[..5], next.ids[..5]);
        assert_eq!(chosen.mask, [0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!((chosen.shared, rejected.shared, next.shared), (0, 5, 0));
        assert_eq!(pair(false).row(1000, 1).shared, 0);
    }

    /// Counted token by token.
    #[test]
    fn what_is_shared_is_computed_once_and_seen_twice() {
        let seen = |tokens: std::ops::Range<u64>| tokens.map(|at| at as f64 + 0.5).sum::<f64>();
        let pair = |shared| Rows { seq: 8, pair: Some(Pair { prompt: 5, shared }) };
        for (rows, computed, trained, expected) in [
            (Rows { seq: 8, pair: None }, 8, 7, seen(0..8)),
            (pair(false), 16, 6, 2.0 * seen(0..8)),
            (pair(true), 11, 6, seen(0..8) + seen(5..8)),
        ] {
            assert_eq!((rows.computed(), rows.trained()), (computed, trained));
            assert!((rows.row_tokens() * rows.computed() as f64 / 2.0 - expected).abs() < 1e-9);
        }
    }
}
