//! `--sweep`: one run for every combination of the values that parameters list, sharing what they can share.

use crate::rounds::Request;
use lang::Sweep;
use plan::task::{Plan, Task};
use plan::work::Work;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Most combinations that are taken for meant.
const MOST: usize = 4096;

/// One combination of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combination {
    /// `NAME=VALUE`, in the order of the parameters.
    pub values: Vec<String>,
}

impl Combination {
    /// Returns the part of the run folder's name that tells this run from the others.
    pub fn name(&self) -> String {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+');
        let plain = |text: &String| text.replace(|c: char| !is_plain(c), "_");
        self.values.iter().map(plain).collect::<Vec<_>>().join("+")
    }

    /// Returns the recipe with these values.
    pub fn request(&self, request: &Request) -> Request {
        let mut request = request.clone();
        request.sets.extend(self.values.iter().cloned());
        request
    }
}

/// Returns every combination, the first parameter changing slowest.
///
/// # Errors
/// Says in words why there is nothing to sweep, or far too much.
pub fn combinations(sweeps: &[Sweep]) -> Result<Vec<Combination>, String> {
    if sweeps.is_empty() {
        return Err("the recipe has nothing to sweep; write `param NAME DEFAULT { sweep … }`".into());
    }
    let count = sweeps.iter().try_fold(1usize, |count, sweep| count.checked_mul(sweep.values.len()));
    if count.is_none_or(|count| count > MOST) {
        return Err(format!("the sweep has more than {MOST} combinations; fix a parameter with `--set`"));
    }
    let mut all = vec![Combination { values: Vec::new() }];
    for sweep in sweeps {
        let with = |before: &Combination, value: &String| {
            let values = before.values.iter().cloned().chain([format!("{}={value}", sweep.name)]);
            Combination { values: values.collect() }
        };
        all =
            all.iter().flat_map(|before| sweep.values.iter().map(move |value| with(before, value))).collect();
    }
    Ok(all)
}

/// Returns what names a task over several plans: its work and that of all that it reads.
fn identities(plan: &Plan) -> BTreeMap<&str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    for task in &plan.tasks {
        let inputs: Vec<Option<&String>> =
            task.inputs.iter().map(|input| found.get(input.as_str())).collect();
        let text = match &task.key {
            Some(key) => key.0.clone(),
            None => json!([without_modules(&task.work), inputs]).to_string(),
        };
        found.insert(&task.name, blake3::hash(text.as_bytes()).to_hex().to_string());
    }
    found
}

/// Programs follow from the rest of a work, and are large.
fn without_modules(work: &Work) -> serde_json::Value {
    let mut value = serde_json::to_value(work).expect("plans are plain data");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("module");
        fields.remove("tensors");
        fields.remove("conduct");
    }
    value
}

/// A task over all combinations.
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    pub task: String,
    pub does: String,
    /// How often it runs.
    pub runs: usize,
}

/// Returns how often each task runs, in the order of the first plan.
pub fn shares(plans: &[Plan]) -> Vec<Share> {
    let mut order: Vec<&Task> = Vec::new();
    let mut variants: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for plan in plans {
        let identities = identities(plan);
        for task in &plan.tasks {
            if !order.iter().any(|known| known.name == task.name) {
                order.push(task);
            }
            variants.entry(&task.name).or_default().insert(identities[task.name.as_str()].clone());
        }
    }
    let share = |task: &&Task| Share {
        task: task.name.clone(),
        does: crate::plan::does(&task.work),
        runs: variants[task.name.as_str()].len(),
    };
    order.iter().map(share).collect()
}

/// Prints what is shared and what runs how often.
pub fn text(combinations: &[Combination], plans: &[Plan]) -> String {
    let mut out = format!("{} runs:\n", combinations.len());
    for combination in combinations {
        out.push_str(&format!("  {}\n", combination.values.join(", ")));
    }
    let mut rows = vec![["task", "does", "runs"].map(str::to_owned).to_vec()];
    rows.extend(shares(plans).into_iter().map(|share| {
        let often = match share.runs {
            1 => "once, shared by all".to_owned(),
            runs if runs == combinations.len() => format!("{runs} times"),
            runs => format!("{runs} times, shared by some"),
        };
        vec![share.task, share.does, often]
    }));
    out.push('\n');
    out + &crate::text::table(&rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(name: &str, values: &[&str]) -> Sweep {
        Sweep { name: name.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    #[test]
    fn every_combination_is_named_apart() {
        let all = combinations(&[sweep("beta", &["0.1", "0.3"]), sweep("loss", &["ipo", "hinge"])]);
        let names: Vec<String> = all.expect("few").iter().map(Combination::name).collect();
        assert_eq!(
            names,
            ["beta=0.1+loss=ipo", "beta=0.1+loss=hinge", "beta=0.3+loss=ipo", "beta=0.3+loss=hinge"]
        );
    }

    #[test]
    fn nothing_to_sweep_and_far_too_much_are_refused() {
        assert!(combinations(&[]).is_err());
        let values: Vec<String> = (0..70).map(|value| value.to_string()).collect();
        let wide = Sweep { name: "a".into(), values };
        assert!(combinations(&[wide.clone(), wide]).is_err());
    }
}
