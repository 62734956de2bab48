//! Which rows of the datasets count, and on which side: transforms, holdout, and nothing on both sides.
//!
//! A first pass over the files keeps a hash of every row; everything here works on those.

use crate::draw::{Draws, Use};
use crate::error::DataError;
use plan::work::{Amount, DataPart, Sides, Transform};
use std::collections::HashSet;

/// What happens to a source row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Train,
    Eval,
    Dropped(&'static str),
}

const DUPLICATE: &str = "exact duplicate";
const LIMITED: &str = "beyond the limit";
const HELD_OUT: &str = "also held out";
/// Not wanted by the task, so not counted.
pub const UNWANTED: &str = "";

/// Hashes of a dataset's good rows, in the order of its files.
#[derive(Debug, Default)]
pub struct Scanned {
    pub train: Vec<u128>,
    pub eval: Vec<u128>,
}

/// The fates of a dataset's good rows.
#[derive(Debug, Default)]
pub struct Selection {
    pub train: Vec<Fate>,
    pub eval: Vec<Fate>,
    /// Place of each training-side row in the order that transforms gave it.
    pub rank: Vec<u32>,
}

/// Decides about the rows of all parts at once, since what is held out in one is so in all.
///
/// # Errors
/// Fails when a holdout leaves nothing to train on.
pub fn select(parts: &[DataPart], scanned: &[Scanned], sides: Sides) -> Result<Vec<Selection>, DataError> {
    let mut selections = Vec::new();
    for (part, scanned) in parts.iter().zip(scanned) {
        selections.push(select_part(part, scanned)?);
    }
    drop_held_out(&mut selections, scanned);
    if sides == Sides::EvalOnly {
        let held_out = parts.iter().any(|part| part.holdout.is_some() || !part.eval_files.is_empty());
        // Without held-out rows all are evaluated; the others are not wanted then.
        let instead = if held_out { Fate::Dropped(UNWANTED) } else { Fate::Eval };
        let fates = selections.iter_mut().flat_map(|selection| &mut selection.train);
        fates.filter(|fate| **fate == Fate::Train).for_each(|fate| *fate = instead);
    }
    Ok(selections)
}

fn select_part(part: &DataPart, scanned: &Scanned) -> Result<Selection, DataError> {
    let mut fates = vec![Fate::Train; scanned.train.len()];
    let mut rows: Vec<u32> = (0..scanned.train.len() as u32).collect();
    for (step, transform) in part.transforms.iter().enumerate() {
        match *transform {
            Transform::DedupExact => dedup(&mut rows, &mut fates, &scanned.train),
            Transform::Shuffle { seed } => Draws::new(seed, step as u64, Use::Shuffle).shuffle(&mut rows),
            Transform::Limit { rows: limit, head } => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let seed = (!head).then_some((part.seed, step as u64));
                keep_some(&mut rows, &mut fates, limit, seed);
            }
        }
    }
    for row in hold_out(part, &rows)? {
        fates[row as usize] = Fate::Eval;
    }
    let mut rank = vec![0; fates.len()];
    for (place, &row) in rows.iter().enumerate() {
        rank[row as usize] = place as u32;
    }
    Ok(Selection { train: fates, eval: vec![Fate::Eval; scanned.eval.len()], rank })
}

fn dedup(rows: &mut Vec<u32>, fates: &mut [Fate], hashes: &[u128]) {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.retain(|&row| {
        let new = seen.insert(hashes[row as usize]);
        if !new {
            fates[row as usize] = Fate::Dropped(DUPLICATE);
        }
        new
    });
}

/// Keeps the first rows, or random ones in the order that they have.
fn keep_some(rows: &mut Vec<u32>, fates: &mut [Fate], limit: usize, seed: Option<(u64, u64)>) {
    if rows.len() <= limit {
        return;
    }
    let mut places: Vec<usize> = (0..rows.len()).collect();
    if let Some((seed, step)) = seed {
        Draws::new(seed, step, Use::Limit).shuffle_front(&mut places, limit);
    }
    for &place in &places[limit..] {
        fates[rows[place] as usize] = Fate::Dropped(LIMITED);
    }
    rows.retain(|&row| fates[row as usize] == Fate::Train);
}

/// Draws the rows that are held out.
fn hold_out(part: &DataPart, rows: &[u32]) -> Result<Vec<u32>, DataError> {
    let Some(amount) = part.holdout else { return Ok(Vec::new()) };
    let count = match amount {
        Amount::Rows(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
        // At least one, or there would be nothing to evaluate on.
        Amount::Share(share) => ((share * rows.len() as f64).round() as usize).max(1),
    };
    if count >= rows.len() {
        let message = format!(
            "holdout of {count} rows leaves none of the {} rows of `{}` to train on",
            rows.len(),
            part.name
        );
        return Err(DataError::new("holdout-too-large", message).help("make `holdout` smaller"));
    }
    let mut rows = rows.to_vec();
    Draws::new(part.seed, 0, Use::Holdout).shuffle_front(&mut rows, count);
    rows.truncate(count);
    Ok(rows)
}

fn drop_held_out(selections: &mut [Selection], scanned: &[Scanned]) {
    let mut held_out: HashSet<u128> = scanned.iter().flat_map(|part| &part.eval).copied().collect();
    for (selection, scanned) in selections.iter().zip(scanned) {
        let rows = selection.train.iter().zip(&scanned.train);
        held_out.extend(rows.filter(|(fate, _)| **fate == Fate::Eval).map(|(_, hash)| hash));
    }
    for (selection, scanned) in selections.iter_mut().zip(scanned) {
        for (fate, hash) in selection.train.iter_mut().zip(&scanned.train) {
            if *fate == Fate::Train && held_out.contains(hash) {
                *fate = Fate::Dropped(HELD_OUT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::work::{MixAmount, RowType};
    use proptest::prelude::*;

    fn part(transforms: Vec<Transform>, holdout: Option<Amount>) -> DataPart {
        DataPart {
            name: "d".into(),
            rows: RowType::Text,
            columns: Vec::new(),
            train_files: Vec::new(),
            eval_files: Vec::new(),
            transforms,
            holdout,
            seed: 3,
            max_bad_rows: 0,
            amount: MixAmount::Weight(1.0),
        }
    }

    fn select_one(part: DataPart, train: Vec<u128>, eval: Vec<u128>) -> Result<Selection, DataError> {
        let selected = select(&[part], &[Scanned { train, eval }], Sides::Both)?;
        Ok(selected.into_iter().next().expect("one part"))
    }

    proptest! {
        #[test]
        fn nothing_is_on_both_sides(
            train in prop::collection::vec(0u128..40, 4..100),
            eval in prop::collection::vec(0u128..40, 0..5),
            dedup: bool,
        ) {
            let transforms = if dedup { vec![Transform::DedupExact] } else { Vec::new() };
            let part = part(transforms, Some(Amount::Share(0.1)));
            let Ok(selection) = select_one(part, train.clone(), eval.clone()) else { return Ok(()) };
            let side = |side| {
                let rows = selection.train.iter().zip(&train).filter(move |(fate, _)| **fate == side);
                rows.map(|(_, hash)| *hash).collect::<HashSet<_>>()
            };
            let mut held_out = side(Fate::Eval);
            prop_assert!(!held_out.is_empty());
            held_out.extend(eval);
            prop_assert!(side(Fate::Train).is_disjoint(&held_out));
        }
    }

    #[test]
    fn transforms_apply_in_order_and_count() {
        let hashes: Vec<u128> = (0..10).chain(0..10).collect();
        let limit = Transform::Limit { rows: 12, head: true };
        let count = |selection: &Selection, fate| selection.train.iter().filter(|f| **f == fate).count();
        let first = select_one(part(vec![limit, Transform::DedupExact], None), hashes.clone(), Vec::new());
        let first = first.expect("no holdout");
        assert_eq!((count(&first, Fate::Train), count(&first, Fate::Dropped(LIMITED))), (10, 8));
        let last = select_one(part(vec![Transform::DedupExact, limit], None), hashes.clone(), Vec::new());
        let last = last.expect("no holdout");
        assert_eq!((count(&last, Fate::Train), count(&last, Fate::Dropped(DUPLICATE))), (10, 10));
        let random = Transform::Limit { rows: 5, head: false };
        let random = select_one(part(vec![random], None), hashes, Vec::new()).expect("no holdout");
        assert_eq!(count(&random, Fate::Train), 5);
        assert_ne!(random.train[..5], [Fate::Train; 5]);
    }

    #[test]
    fn a_holdout_must_leave_something() {
        let error = select_one(part(Vec::new(), Some(Amount::Rows(3))), vec![1, 2, 3], Vec::new());
        assert_eq!(error.expect_err("three of three").code, "holdout-too-large");
    }

    #[test]
    fn evaluation_alone_reads_held_out_rows_or_all() {
        let scanned = || [Scanned { train: (0..10).collect(), eval: Vec::new() }];
        let count = |part| {
            let selected = select(&[part], &scanned(), Sides::EvalOnly).expect("a selection");
            selected[0].train.iter().filter(|fate| **fate == Fate::Eval).count()
        };
        assert_eq!(count(part(Vec::new(), None)), 10);
        assert_eq!(count(part(Vec::new(), Some(Amount::Rows(3)))), 3);
    }
}
