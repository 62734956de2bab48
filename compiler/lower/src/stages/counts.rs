//! Rows, sequences and steps of stages whose data is not prepared: from counts that are known, or unknown.
//!
//! Nothing is guessed: a filter that drops an unknown number of rows makes the count unknown.

use lang::facts::{Facts, RowsFact};
use lang::recipe::{Planned, Recipe};
use plan::task::{Figure, Figures};
use serde_json::Value;

/// Transforms that drop a number of rows that only the rows tell.
const DROPPING: [&str; 5] = ["keep", "drop", "dedup", "decontaminate", "filter"];

/// Returns steps, tokens and the unit of the loss of a training stage.
pub fn training(recipe: &Recipe, facts: &Facts, planned: &Planned) -> Figures {
    let plan = Training::of(planned);
    let rows = planned
        .refs
        .iter()
        .find(|(path, _)| path == "data")
        .and_then(|(_, data)| Counting { recipe, facts, sequence: plan.sequence }.rows(&data.name));
    let steps = plan.steps(rows);
    Figures {
        steps,
        tokens: plan.tokens(steps),
        loss: plan
            .batch
            .map(|batch| format!("mean over the {} of {}", plan.unit(), counted(batch, plan.noun()))),
        ..Figures::default()
    }
}

/// Returns the sequences (or pairs) of a step, at least 1.
pub fn batch(settings: &Value, sequence: u64) -> u64 {
    let get = |key: &str| settings.get("batch").and_then(|batch| batch.get(key)?.as_f64());
    let of_tokens = || get("tokens").map(|tokens| tokens / sequence.max(1) as f64);
    get("sequences").or_else(of_tokens).map_or(1, |batch| (batch.round() as u64).max(1))
}

/// Says how many of something there are.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Whether a stage of this kind trains on pairs.
pub fn is_pairs(kind: &str) -> bool {
    matches!(kind, "dpo" | "orpo" | "simpo")
}

/// What a training stage says of its amount of work.
struct Training<'a> {
    kind: &'a str,
    batch: Option<u64>,
    batch_tokens: Option<f64>,
    sequence: Option<u64>,
    pack: bool,
    epochs: Option<f64>,
    steps: Option<u64>,
    tokens: Option<f64>,
}

impl<'a> Training<'a> {
    fn of(planned: &'a Planned) -> Self {
        let get = |path: &[&str]| path.iter().try_fold(&planned.settings, |value, key| value.get(key));
        Training {
            kind: &planned.kind,
            batch: get(&["batch", "sequences"]).and_then(Value::as_u64),
            batch_tokens: get(&["batch", "tokens"]).and_then(Value::as_f64),
            sequence: get(&["sequence", "tokens"]).and_then(Value::as_u64),
            pack: get(&["sequence", "pack"]).and_then(Value::as_bool).unwrap_or(false),
            epochs: get(&["epochs", "epochs"]).and_then(Value::as_f64),
            steps: get(&["steps", "steps"]).and_then(Value::as_u64),
            tokens: get(&["tokens", "tokens"]).and_then(Value::as_f64),
        }
    }

    fn unit(&self) -> &'static str {
        match self.kind {
            "dpo" | "orpo" | "simpo" => "pairs",
            "kto" => "answers",
            _ => "trained tokens",
        }
    }

    fn noun(&self) -> &'static str {
        if is_pairs(self.kind) { "pair" } else { "sequence" }
    }

    /// Tokens of a step whose sequences are full.
    fn full_step(&self) -> Option<f64> {
        self.batch_tokens.or_else(|| Some(self.batch? as f64 * self.sequence? as f64))
    }

    /// Returns the optimizer steps; with packing they follow from tokens, which only preparing tells.
    fn steps(&self, rows: Option<u64>) -> Option<Figure> {
        if let Some(steps) = self.steps {
            return Some(Figure { value: steps as f64, estimate: false });
        }
        if let Some(tokens) = self.tokens {
            let steps = (tokens / self.full_step()?).ceil();
            return Some(Figure { value: steps, estimate: self.batch_tokens.is_none() });
        }
        let is_cut = self.kind == "cpt";
        let rows = rows.filter(|_| !self.pack && !is_cut)?;
        let per_epoch = rows.div_ceil(self.batch?.max(1));
        Some(Figure { value: (self.epochs? * per_epoch as f64).ceil(), estimate: false })
    }

    /// Returns the tokens of the stage where its sequences are full.
    fn tokens(&self, steps: Option<Figure>) -> Option<Figure> {
        if let Some(tokens) = self.tokens {
            return Some(Figure { value: tokens, estimate: false });
        }
        let full = self.full_step().filter(|_| self.pack || self.batch_tokens.is_some())?;
        Some(Figure { value: steps?.value * full, estimate: true })
    }
}

/// Counts rows on the training side of data.
struct Counting<'a> {
    recipe: &'a Recipe,
    facts: &'a Facts,
    /// Of the stage that reads them.
    sequence: Option<u64>,
}

impl Counting<'_> {
    fn rows(&self, name: &str) -> Option<u64> {
        let data = self.recipe.planned.iter().find(|planned| planned.name == name)?;
        match data.kind.as_str() {
            "dataset" => self.dataset(data),
            "mix" => self.mix(data),
            "translate" => self.rows(&data.refs.iter().find(|(path, _)| path == "data")?.1.name),
            _ => None,
        }
    }

    fn dataset(&self, data: &Planned) -> Option<u64> {
        let fact = self.facts.rows.get(data.source.as_ref()?)?;
        if let Some(measured) = &fact.measured
            && self.sequence == Some(measured.sequence)
        {
            return Some(measured.kept);
        }
        let fields = data.settings.as_object()?;
        let mut rows = split_rows(fact, data.settings.get("split"))?;
        if DROPPING.iter().any(|name| fields.contains_key(*name)) {
            return None;
        }
        if let Some(limit) = data.settings.get("limit").and_then(|limit| limit.get("rows")?.as_u64()) {
            rows = rows.min(limit);
        }
        Some(match data.settings.get("holdout").and_then(|holdout| holdout.get("amount")) {
            None => rows,
            Some(amount) => rows.saturating_sub(held_out(amount, rows)?),
        })
    }

    /// A mix of absolute amounts, or one weighted by rows.
    fn mix(&self, mix: &Planned) -> Option<u64> {
        let takes = mix.settings.get("take")?.as_array()?;
        let parts: Option<Vec<(f64, &Value)>> =
            takes.iter().map(|take| Some((self.rows(take.get("data")?.as_str()?)? as f64, take))).collect();
        let parts = parts?;
        if takes.iter().any(|take| take.get("weight").is_some()) {
            return weighted(mix, &parts);
        }
        let taken = parts.iter().map(|(rows, take)| amount(*rows, take));
        taken.sum::<Option<f64>>().map(|rows| rows as u64)
    }
}

/// Rows that a part of a mix of absolute amounts gives.
fn amount(rows: f64, take: &Value) -> Option<f64> {
    let number = |key: &str| take.get(key).and_then(Value::as_f64);
    let share = number("fraction").or_else(|| take.get("fraction")?.get("share")?.as_f64());
    match (share, number("rows"), number("epochs")) {
        (Some(share), ..) => Some((rows * share).floor()),
        (_, Some(wanted), _) => Some(wanted),
        (.., Some(epochs)) => Some((rows * epochs).round()),
        // A number of tokens is a number of rows only once they are tokens.
        (None, None, None) => None,
    }
}

/// Rows of an epoch of a mix that is weighted by rows; weights by tokens need the tokens.
fn weighted(mix: &Planned, parts: &[(f64, &Value)]) -> Option<u64> {
    if mix.settings.get("measure").and_then(|measure| measure.get("unit")?.as_str()) != Some("rows") {
        return None;
    }
    let weights: Option<Vec<f64>> = parts.iter().map(|(_, take)| take.get("weight")?.as_f64()).collect();
    let weights = weights?;
    let total: f64 = weights.iter().sum();
    let sizes = parts.iter().zip(&weights).map(|((rows, _), weight)| rows * total / weight);
    let stop = mix.settings.get("stop");
    match stop.and_then(|stop| stop.get("when")?.as_str()) {
        Some("first-exhausted") => sizes.reduce(f64::min).map(|rows| rows as u64),
        _ if stop.is_none_or(|stop| stop.get("tokens").is_none()) => {
            sizes.reduce(f64::max).map(|rows| rows.ceil() as u64)
        }
        _ => None,
    }
}

/// Rows of the training split; of all splits but the held-out one when none is named.
fn split_rows(fact: &RowsFact, split: Option<&Value>) -> Option<u64> {
    let named = |key: &str| split.and_then(|split| split.get(key)?.as_str());
    if let Some(train) = named("train") {
        return fact.split_rows.get(train).copied();
    }
    let eval = named("eval");
    let others: Vec<&String> = fact.splits.iter().filter(|name| Some(name.as_str()) != eval).collect();
    (!others.is_empty()).then_some(())?;
    others.into_iter().try_fold(0_u64, |all, name| all.checked_add(*fact.split_rows.get(name)?))
}

fn held_out(amount: &Value, rows: u64) -> Option<u64> {
    match amount.get("share").and_then(Value::as_f64) {
        Some(share) => Some((share * rows as f64).round() as u64),
        None => amount.as_u64(),
    }
}
