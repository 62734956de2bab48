//! What preparing data did, in numbers: nothing is dropped uncounted.

use plan::work::Prepared;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The report of a store, `report.json` in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    pub prepared: Prepared,
    pub parts: Vec<PartReport>,
    /// Of the token rows before overflow: how long they are.
    pub lengths: Lengths,
}

/// The report of one dataset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    pub name: String,
    /// Rows in its files, bad ones included.
    pub read: u64,
    /// Source rows that became training rows; before a mix takes its share.
    pub train: u64,
    /// Source rows that became held-out rows.
    pub eval: u64,
    /// Reason and number of source rows that were left out.
    pub dropped: BTreeMap<String, u64>,
    /// Rows that were shortened to fit.
    pub truncated: u64,
    /// Bad rows that were skipped, the first few of them.
    pub bad: Vec<BadRow>,
    /// Token rows and tokens that an epoch of the store takes from here; a pair counts as two rows.
    pub taken_rows: u64,
    pub taken_tokens: u64,
    /// Times that an epoch of the store passes over this dataset.
    pub epochs: f64,
    /// Answers that are trained, and those of them whose end of turn is trained too.
    pub answers: u64,
    pub ended_answers: u64,
}

impl PartReport {
    pub(crate) fn drop(&mut self, reason: &str) {
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
    }
}

/// A row that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    pub file: String,
    pub row: u64,
    pub message: String,
}

/// Tokens per row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    pub p50: u64,
    pub p95: u64,
    pub max: u64,
}

impl Lengths {
    pub(crate) fn of(mut lengths: Vec<u32>) -> Self {
        lengths.sort_unstable();
        let at = |share: usize| {
            let index = lengths.len().saturating_sub(1) * share / 100;
            lengths.get(index).map_or(0, |&length| u64::from(length))
        };
        Self { p50: at(50), p95: at(95), max: at(100) }
    }
}
