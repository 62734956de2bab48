//! Mixing: which rows of each part make up an epoch. Works on the index alone.

use crate::draw::{Draws, Use};
use crate::error::DataError;
use crate::store::Record;
use plan::work::{DataPart, Measure, MixAmount, MixRule, MixStop};

/// Rows that belong together: one, or the two of a pair.
type Unit<'a> = &'a [Record];

/// How much of a part is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Target {
    measure: Measure,
    /// In that measure.
    amount: f64,
}

/// Joins the rows of parts into an epoch; `size` rows are a unit.
///
/// Rows of a part keep their order; parts are interleaved evenly. What a part is short of is taken from
/// it again, what it has too much of is left out by a draw.
///
/// # Errors
/// Fails when an absolute amount is larger than the part.
pub fn mix(
    parts: &[DataPart],
    rule: Option<MixRule>,
    records: &[Vec<Record>],
    size: usize,
) -> Result<Vec<Record>, DataError> {
    let targets = targets(parts, rule, records, size)?;
    let seed = rule.map_or(0, |rule| rule.seed);
    let mut placed = Vec::new();
    for (index, (records, target)) in records.iter().zip(targets).enumerate() {
        let units: Vec<Unit> = records.chunks(size).collect();
        let taken = match target {
            Some(target) => take(&units, target, Draws::new(seed, index as u64, Use::Mix)),
            None => units,
        };
        let count = taken.len() as f64;
        let place = |at: usize| if rule.is_some() { (at as f64 + 0.5) / count } else { index as f64 };
        placed.extend(taken.into_iter().enumerate().map(|(at, unit)| (place(at), unit)));
    }
    placed.sort_by(|one, other| one.0.total_cmp(&other.0)); // Stable: ties stay in the order of parts.
    Ok(placed.into_iter().flat_map(|(_, unit)| unit.iter().copied()).collect())
}

fn targets(
    parts: &[DataPart],
    rule: Option<MixRule>,
    records: &[Vec<Record>],
    size: usize,
) -> Result<Vec<Option<Target>>, DataError> {
    let weights: Vec<Option<f64>> = parts.iter().map(|part| weight(part.amount)).collect();
    let (Some(rule), true) = (rule, weights.iter().all(Option::is_some)) else {
        let each = parts.iter().zip(records);
        return each.map(|(part, records)| absolute(part, records, size)).collect();
    };
    let sum: f64 = weights.iter().flatten().sum();
    let shares: Vec<f64> = weights.iter().flatten().map(|weight| weight / sum).collect();
    let sizes = records.iter().map(|records| measure(records, rule.measure, size));
    let whole = sizes.zip(&shares).filter(|(_, share)| **share > 0.0).map(|(size, share)| size / share);
    let (measure, total) = match rule.stop {
        MixStop::AllSeen => (rule.measure, whole.fold(0.0, f64::max)),
        MixStop::FirstExhausted => (rule.measure, whole.fold(f64::INFINITY, f64::min)),
        MixStop::Tokens(tokens) => (Measure::Tokens, tokens as f64),
    };
    Ok(shares.into_iter().map(|share| Some(Target { measure, amount: total * share })).collect())
}

fn weight(amount: MixAmount) -> Option<f64> {
    match amount {
        MixAmount::Weight(weight) => Some(weight),
        MixAmount::Fraction(_) | MixAmount::Rows(_) | MixAmount::Tokens(_) | MixAmount::Epochs(_) => None,
    }
}

/// Returns the target of an amount that does not depend on other parts.
fn absolute(part: &DataPart, records: &[Record], size: usize) -> Result<Option<Target>, DataError> {
    let has = |measured| measure(records, measured, size);
    let target = match part.amount {
        MixAmount::Weight(_) => return Ok(None),
        MixAmount::Fraction(share) | MixAmount::Epochs(share) => {
            return Ok(Some(Target { measure: Measure::Rows, amount: has(Measure::Rows) * share }));
        }
        MixAmount::Rows(rows) => Target { measure: Measure::Rows, amount: rows as f64 },
        MixAmount::Tokens(tokens) => Target { measure: Measure::Tokens, amount: tokens as f64 },
    };
    if target.amount > has(target.measure) {
        let noun = match target.measure {
            Measure::Tokens => "tokens",
            Measure::Rows => "rows",
        };
        let (wanted, there) = (target.amount, has(target.measure));
        let message = format!("the mix takes {wanted} {noun} of `{}`, which has {there}", part.name);
        return Err(DataError::new("mix-exceeds-part", message)
            .help("take less, or say how often it is repeated: `epochs=2`"));
    }
    Ok(Some(target))
}

fn measure(records: &[Record], measure: Measure, size: usize) -> f64 {
    match measure {
        Measure::Rows => (records.len() / size) as f64,
        Measure::Tokens => records.iter().map(|record| f64::from(record.length)).sum(),
    }
}

/// Takes units until the target is met as closely as whole units allow.
fn take<'a>(units: &[Unit<'a>], target: Target, mut draws: Draws) -> Vec<Unit<'a>> {
    let length = |unit: Unit| measure(unit, target.measure, unit.len());
    let all: f64 = units.iter().map(|unit| length(unit)).sum();
    if all == 0.0 {
        return Vec::new();
    }
    let passes = (target.amount / all).floor();
    let mut rest = target.amount - passes * all;
    let mut places: Vec<usize> = (0..units.len()).collect();
    draws.shuffle(&mut places);
    let mut extra = vec![0; units.len()];
    for place in places {
        let next = length(units[place]);
        if next / 2.0 > rest {
            break;
        }
        extra[place] = 1;
        rest -= next;
    }
    let mut taken = units.repeat(passes as usize);
    taken.extend(units.iter().zip(extra).filter(|(_, extra)| *extra == 1).map(|(unit, _)| *unit));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::work::RowType;

    fn part(amount: MixAmount) -> DataPart {
        DataPart {
            name: "d".into(),
            rows: RowType::Text,
            columns: Vec::new(),
            train_files: Vec::new(),
            eval_files: Vec::new(),
            transforms: Vec::new(),
            holdout: None,
            seed: 3,
            max_bad_rows: 0,
            amount,
        }
    }

    fn records(part: u32, lengths: &[u32]) -> Vec<Record> {
        let record = |(at, &length): (usize, &u32)| Record {
            offset: at as u64,
            identity: at as u64,
            length,
            trained: length,
            part,
            bytes: length,
            shared: 0,
            unused: 0,
        };
        lengths.iter().enumerate().map(record).collect()
    }

    fn tokens(mixed: &[Record], part: u32) -> u32 {
        mixed.iter().filter(|record| record.part == part).map(|record| record.length).sum()
    }

    fn weighted(stop: MixStop, measure: Measure) -> Vec<Record> {
        let parts = [part(MixAmount::Weight(0.75)), part(MixAmount::Weight(0.25))];
        let rule = MixRule { measure, stop, seed: 5 };
        let lengths: Vec<u32> = (0..300).map(|at| 10 + at % 7).collect();
        let short: Vec<u32> = (0..300).map(|at| 4 + at % 3).collect();
        mix(&parts, Some(rule), &[records(0, &lengths), records(1, &short)], 1).expect("a mix")
    }

    #[test]
    fn weights_are_shares_of_the_epoch() {
        for stop in [MixStop::AllSeen, MixStop::FirstExhausted, MixStop::Tokens(2000)] {
            let mixed = weighted(stop, Measure::Tokens);
            let share = f64::from(tokens(&mixed, 0)) / f64::from(tokens(&mixed, 0) + tokens(&mixed, 1));
            assert!((share - 0.75).abs() < 0.01, "{stop:?}: {share}");
        }
        let mixed = weighted(MixStop::AllSeen, Measure::Rows);
        assert_eq!(mixed.iter().filter(|record| record.part == 0).count(), 900);
        assert_eq!(mixed.iter().filter(|record| record.part == 1).count(), 300);
    }

    #[test]
    fn stops_are_where_they_say() {
        let seen = |mixed: &[Record], part| {
            let of = mixed.iter().filter(|record| record.part == part);
            of.map(|record| record.identity).collect::<std::collections::HashSet<_>>().len()
        };
        let all = weighted(MixStop::AllSeen, Measure::Tokens);
        assert_eq!((seen(&all, 0), seen(&all, 1)), (300, 300));
        let first = weighted(MixStop::FirstExhausted, Measure::Tokens);
        assert_eq!(first.len(), seen(&first, 0) + seen(&first, 1));
        assert!((1990..=2010).contains(&{
            let mixed = weighted(MixStop::Tokens(2000), Measure::Tokens);
            tokens(&mixed, 0) + tokens(&mixed, 1)
        }));
    }

    #[test]
    fn absolute_amounts_are_taken_as_written() {
        let rows = records(0, &[5; 100]);
        let rule = Some(MixRule { measure: Measure::Tokens, stop: MixStop::AllSeen, seed: 1 });
        let count =
            |amount| mix(&[part(amount)], rule, std::slice::from_ref(&rows), 1).map(|mixed| mixed.len());
        assert_eq!(count(MixAmount::Fraction(0.3)), Ok(30));
        assert_eq!(count(MixAmount::Rows(7)), Ok(7));
        assert_eq!(count(MixAmount::Tokens(50)), Ok(10));
        assert_eq!(count(MixAmount::Epochs(2.5)), Ok(250));
        assert_eq!(count(MixAmount::Rows(101)).expect_err("too many").code, "mix-exceeds-part");
    }

    #[test]
    fn pairs_stay_together() {
        let rule = Some(MixRule { measure: Measure::Rows, stop: MixStop::AllSeen, seed: 1 });
        let parts = [part(MixAmount::Weight(1.0)), part(MixAmount::Weight(1.0))];
        let mixed = mix(&parts, rule, &[records(0, &[1; 20]), records(1, &[1; 8])], 2).expect("a mix");
        assert_eq!(mixed.len(), 40);
        for pair in mixed.chunks(2) {
            assert_eq!((pair[0].part, pair[0].identity + 1), (pair[1].part, pair[1].identity));
        }
    }
}
