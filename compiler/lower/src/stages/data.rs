//! `dataset` and `mix`: sources of rows, and the work that turns them into token rows.

use super::{Lowering, TokenizerInfo};
use lang::facts::{Fingerprint, PathFact, PreparedFact, Want};
use lang::recipe::{self, Amount, Dataset, MixAmount, MixStop, Ref, RowType, Transform};
use plan::work::{self, DataPart, Encode, MixRule, Overflow, Prepare, Sides};

impl Lowering<'_> {
    /// Returns the parts of a dataset or mix, nested mixes flattened; nothing when a reference is broken.
    pub(super) fn parts(&mut self, reference: &Ref) -> Option<Vec<DataPart>> {
        let recipe = self.recipe;
        if let Some(dataset) = recipe.datasets.iter().find(|dataset| dataset.name == reference.name) {
            return Some(vec![self.part(dataset, work::MixAmount::Weight(1.0))]);
        }
        let mix = recipe.mixes.iter().find(|mix| mix.name == reference.name)?;
        let mut parts = Vec::new();
        for part in &mix.parts {
            let inner = self.parts(&part.data)?;
            let total: f64 = inner.iter().map(|part| weight(part.amount)).sum();
            let alone = inner.len() == 1;
            for mut data in inner {
                data.amount = match (part.amount.value, alone) {
                    (MixAmount::Weight(outer), _) => {
                        work::MixAmount::Weight(outer * weight(data.amount) / total.max(f64::MIN_POSITIVE))
                    }
                    (amount, true) => lower_amount(amount),
                    // A share of a mix is that share of each of its parts.
                    (MixAmount::Fraction(share), false) => work::MixAmount::Fraction(share),
                    (MixAmount::Epochs(epochs), false) => work::MixAmount::Epochs(epochs),
                    (MixAmount::Rows(rows), false) => {
                        work::MixAmount::Rows((rows as f64 * weight(data.amount) / total).round() as u64)
                    }
                    (MixAmount::Tokens(tokens), false) => {
                        work::MixAmount::Tokens((tokens as f64 * weight(data.amount) / total).round() as u64)
                    }
                };
                parts.push(data);
            }
        }
        Some(parts)
    }

    fn part(&mut self, dataset: &Dataset, amount: work::MixAmount) -> DataPart {
        let (train_files, eval_files) = self.data_files(dataset);
        let seed = dataset.transforms.iter().find_map(|transform| match transform {
            Transform::Shuffle { seed } => Some(seed.value),
            _ => None,
        });
        let holdout = dataset.transforms.iter().find_map(|transform| match transform {
            Transform::Holdout { amount } => Some(match amount.value {
                Amount::Share(share) => work::Amount::Share(share),
                Amount::Rows(rows) => work::Amount::Rows(rows),
            }),
            _ => None,
        });
        let transforms = dataset.transforms.iter().filter_map(|transform| match transform {
            Transform::Split { .. } | Transform::Holdout { .. } => None,
            Transform::DedupExact { .. } => Some(work::Transform::DedupExact),
            Transform::Shuffle { seed } => Some(work::Transform::Shuffle { seed: seed.value }),
            Transform::Limit { rows, head } => Some(work::Transform::Limit { rows: rows.value, head: *head }),
        });
        DataPart {
            name: dataset.name.clone(),
            rows: lower_rows(dataset.rows.value),
            columns: dataset
                .columns
                .iter()
                .map(|(name, column)| (name.clone(), column.value.clone()))
                .collect(),
            train_files,
            eval_files,
            transforms: transforms.collect(),
            holdout,
            seed: seed.unwrap_or(42),
            max_bad_rows: match dataset.on_bad_row.value {
                recipe::OnBadRow::Error => 0,
                recipe::OnBadRow::Skip { max } => max,
            },
            amount,
        }
    }

    /// Returns the files of the training and of the evaluation side, as the splits say.
    fn data_files(&mut self, dataset: &Dataset) -> (Vec<String>, Vec<String>) {
        let path = &dataset.source.value;
        let files: Vec<String> = match self.facts.paths.get(path) {
            None => {
                self.wants.insert(Want::Path(path.clone()));
                return Default::default();
            }
            Some(PathFact::Missing | PathFact::Unreadable(_)) => return Default::default(),
            Some(PathFact::File(_)) => vec![path.clone()],
            Some(PathFact::Many(files)) => files.iter().map(|(path, _)| path.clone()).collect(),
        };
        let split = dataset.transforms.iter().find_map(|transform| match transform {
            Transform::Split { train, eval } => Some((train.as_ref(), eval.as_ref())),
            _ => None,
        });
        let of = |name: &str| files.iter().filter(|path| stem(path) == name).cloned().collect::<Vec<_>>();
        match split {
            None => (files, Vec::new()),
            Some((train, eval)) => {
                let eval = eval.map(|name| of(&name.value)).unwrap_or_default();
                let train = match train {
                    Some(name) => of(&name.value),
                    None => files.iter().filter(|path| !eval.contains(path)).cloned().collect(),
                };
                (train, eval)
            }
        }
    }

    /// Returns the bytes of a part's training files, as far as they are known.
    pub(super) fn data_bytes(&self, parts: &[DataPart]) -> u64 {
        let size = |path: &String| {
            self.facts.paths.values().find_map(|fact| match fact {
                PathFact::Many(files) => {
                    files.iter().find(|(name, _)| name == path).map(|(_, print)| print.bytes)
                }
                _ => None,
            })
        };
        let one = |path: &String| match self.facts.paths.get(path) {
            Some(PathFact::File(Fingerprint { bytes, .. })) => Some(*bytes),
            _ => size(path),
        };
        parts.iter().flat_map(|part| &part.train_files).filter_map(one).sum()
    }

    /// Returns an estimate of a dataset's or mix's training rows, where first rows were looked at.
    pub(super) fn data_rows(&self, parts: &[DataPart]) -> Option<f64> {
        let of = |part: &DataPart| {
            let dataset = self.recipe.datasets.iter().find(|dataset| dataset.name == part.name)?;
            let mean = self.facts.rows.get(&dataset.source.value)?.row_bytes?;
            Some(self.data_bytes(std::slice::from_ref(part)) as f64 / mean)
        };
        parts.iter().map(of).sum()
    }

    /// Returns the preparing of a dataset or mix.
    pub(super) fn prepare(
        &mut self,
        data: &Ref,
        tokenizer: &TokenizerInfo,
        encode: Encode,
        (sequence, prompt): (u64, Option<u64>),
        overflow: recipe::Overflow,
        sides: Sides,
    ) -> Option<Prepare> {
        let mix = self.recipe.mixes.iter().find(|mix| mix.name == data.name).map(|mix| MixRule {
            measure: match mix.measure.value {
                recipe::Measure::Tokens => work::Measure::Tokens,
                recipe::Measure::Rows => work::Measure::Rows,
            },
            stop: match mix.stop.value {
                MixStop::AllSeen => work::MixStop::AllSeen,
                MixStop::FirstExhausted => work::MixStop::FirstExhausted,
                MixStop::Tokens(tokens) => work::MixStop::Tokens(tokens),
            },
            seed: 42,
        });
        Some(Prepare {
            parts: self.parts(data)?,
            mix,
            tokenizer: tokenizer.artifact.clone(),
            encode,
            sequence,
            prompt,
            overflow: lower_overflow(overflow),
            sides,
        })
    }

    /// Returns what a data task turned out to hold.
    pub(super) fn prepared(&self, task: &str) -> Option<&PreparedFact> {
        self.facts.prepared.get(task)
    }
}

fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

fn weight(amount: work::MixAmount) -> f64 {
    match amount {
        work::MixAmount::Weight(weight)
        | work::MixAmount::Fraction(weight)
        | work::MixAmount::Epochs(weight) => weight,
        work::MixAmount::Rows(count) | work::MixAmount::Tokens(count) => count as f64,
    }
}

fn lower_amount(amount: MixAmount) -> work::MixAmount {
    match amount {
        MixAmount::Weight(weight) => work::MixAmount::Weight(weight),
        MixAmount::Fraction(share) => work::MixAmount::Fraction(share),
        MixAmount::Rows(rows) => work::MixAmount::Rows(rows),
        MixAmount::Tokens(tokens) => work::MixAmount::Tokens(tokens),
        MixAmount::Epochs(epochs) => work::MixAmount::Epochs(epochs),
    }
}

fn lower_rows(rows: RowType) -> work::RowType {
    match rows {
        RowType::Text => work::RowType::Text,
        RowType::Instruction => work::RowType::Instruction,
        RowType::Chat => work::RowType::Chat,
        RowType::Preference => work::RowType::Preference,
    }
}

fn lower_overflow(overflow: recipe::Overflow) -> Overflow {
    match overflow {
        recipe::Overflow::Split => Overflow::Split,
        recipe::Overflow::Drop => Overflow::Drop,
        recipe::Overflow::TruncatePrompt => Overflow::TruncatePrompt,
        recipe::Overflow::TruncateEnd => Overflow::TruncateEnd,
        recipe::Overflow::Error => Overflow::Error,
    }
}
