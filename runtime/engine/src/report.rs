//! The figures of a finished stage, for the table at the end of a run.

use crate::observer::{Answer, Evaluation};
use serde::{Deserialize, Serialize};

/// What a stage did, as its result record and its checkpoints keep it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Optimizer steps.
    pub steps: u64,
    pub tokens: u64,
    pub trained_tokens: u64,
    /// Seconds from the start of the stage to its first forward pass, in the process that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_seconds: Option<f64>,
    /// Seconds of the steps alone.
    pub step_seconds: f64,
    /// Seconds of everything: loading, steps, evaluations, saving.
    pub seconds: f64,
    /// Loss of the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    /// Held-out figures before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Evaluation>,
    /// Held-out figures of the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Evaluation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers_before: Vec<Answer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers_after: Vec<Answer>,
}

/// A line of the table of results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub stage: String,
    pub steps: u64,
    pub tokens: u64,
    /// What the held-out figure is: `bits per byte`, `accuracy` or `loss`; empty without held-out rows.
    pub metric: &'static str,
    pub before: Option<f64>,
    pub after: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub seconds: f64,
}

impl Summary {
    /// Returns the stage's line in the table of results.
    pub fn row(&self, stage: &str) -> Row {
        let metric = self.after.as_ref().map_or("", metric);
        let figure = |evaluation: &Option<Evaluation>| evaluation.as_ref().and_then(|e| figure(e, metric));
        Row {
            stage: stage.to_owned(),
            steps: self.steps,
            tokens: self.tokens,
            metric,
            before: figure(&self.before),
            after: figure(&self.after),
            tokens_per_second: (self.step_seconds > 0.0).then(|| self.tokens as f64 / self.step_seconds),
            seconds: self.seconds,
        }
    }
}

/// Returns the figure that says most about an evaluation.
fn metric(evaluation: &Evaluation) -> &'static str {
    match (evaluation.accuracy, evaluation.bits_per_byte) {
        (Some(_), _) => "accuracy",
        (None, Some(_)) => "bits per byte",
        (None, None) => "loss",
    }
}

fn figure(evaluation: &Evaluation, metric: &str) -> Option<f64> {
    match metric {
        "accuracy" => evaluation.accuracy,
        "bits per byte" => evaluation.bits_per_byte,
        _ => Some(evaluation.loss),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_shows_the_figure_that_says_most() {
        let check = |evaluation: Evaluation, metric: &str, after: f64| {
            let row = Summary { after: Some(evaluation), ..Summary::default() }.row("chat");
            assert_eq!((row.metric, row.after, row.before), (metric, Some(after), None));
        };
        let loss = Evaluation { loss: 2.0, ..Evaluation::default() };
        check(loss.clone(), "loss", 2.0);
        check(Evaluation { bits_per_byte: Some(1.5), ..loss.clone() }, "bits per byte", 1.5);
        check(Evaluation { accuracy: Some(0.75), ..loss }, "accuracy", 0.75);
    }
}
