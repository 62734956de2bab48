//! What a run tells while it runs. Who shows it, and where, is not the engine's business.

use std::collections::BTreeMap;

/// One optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    pub steps: u64,
    /// Epochs done.
    pub epoch: f64,
    pub loss: f32,
    pub lr: f64,
    pub grad_norm: f32,
    pub tokens: u64,
    pub trained_tokens: u64,
    /// Seconds that this step took.
    pub seconds: f64,
    /// Seconds left for the remaining steps, from those done since the start or resume.
    pub eta: f64,
}

/// Figures of one evaluation.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Mean over trained tokens (or pairs).
    pub loss: f64,
    /// Trained tokens or pairs.
    pub count: u64,
    /// nats / ln 2 / bytes of text; for data that is plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Of pairs: share with a positive margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Of pairs: mean β(chosen − reference) of the chosen answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards_chosen: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards_rejected: Option<f64>,
    /// Of pairs: mean difference of the rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The same by dataset, when there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Evaluation>,
}

impl Evaluation {
    /// Returns e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// An answered prompt.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    pub prompt: String,
    pub answer: String,
    /// Tokens of the answer.
    pub tokens: u64,
    /// Whether it ended by itself and not at a limit.
    pub ended: bool,
}

/// Follows a run. Every method does nothing unless it is written.
pub trait Observer: Send {
    /// A task begins; `resumed` is the step that it continues from.
    fn task_started(&mut self, _task: &str, _resumed: Option<u64>) {}
    /// A task ended well; `already` tells that its result was there before.
    fn task_done(&mut self, _task: &str, _already: bool) {}
    /// A part of a task has come this far: `verb` is what is going on, `total` is absent when unknown.
    fn progress(&mut self, _task: &str, _verb: &str, _done: u64, _total: Option<u64>) {}
    /// A step is done.
    fn step(&mut self, _task: &str, _report: &StepReport) {}
    /// An evaluation after so many steps.
    fn evaluated(&mut self, _task: &str, _step: u64, _evaluation: &Evaluation) {}
    /// Prompts were answered after so many steps.
    fn sampled(&mut self, _task: &str, _step: u64, _answers: &[Answer]) {}
    /// Text of an answer as it comes, from the stage `generate`.
    fn text(&mut self, _task: &str, _prompt: usize, _piece: &str) {}
    /// A checkpoint is complete.
    fn checkpoint(&mut self, _task: &str, _step: u64) {}
    /// Something worth knowing that is no error.
    fn note(&mut self, _task: &str, _note: &str) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
