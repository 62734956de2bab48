//! What tasks do: one struct per kind of work, everything that shapes its result and nothing else.

use crate::op::PreferenceLoss;
use crate::program::Module;
use crate::value::Dtype;
use crate::weights::{FileTensor, NewTensor};
use serde::{Deserialize, Serialize};

/// Names of the batch values that the host writes before a program runs.
///
/// A module has those that its programs read. All are i32 but for the last three.
pub mod batch {
    /// Token ids, `[tokens]`.
    pub const IDS: &str = "ids";
    /// Position of each token in its row, what it goes on from included, `[tokens]`.
    pub const POSITIONS: &str = "positions";
    /// Row boundaries, `[bounds]` = rows + 1 entries from 0 to tokens.
    pub const CU_SEQLENS: &str = "cu_seqlens";
    /// Each row's number in the epoch's order, `[rows]`; the `row` of random draws.
    pub const ROW_NUMBERS: &str = "row_numbers";
    /// The tokens at the front of the trunk that a row goes on from, 0 when it begins anew, `[rows]`; see `Attention`.
    pub const PREFIXES: &str = "prefixes";
    /// Indices of the tokens whose output has a loss, in the order of rows and labels, `[trained]`.
    pub const TRAINED_INDEX: &str = "trained_index";
    /// Their labels: the id of the following token, `[trained]`.
    pub const TRAINED_LABELS: &str = "trained_labels";
    /// The row of each of them, `[trained]`.
    pub const TRAINED_ROW: &str = "trained_row";
    /// Index of the last token of each slot's prompt, `[slots]`.
    pub const LAST_INDEX: &str = "last_index";
    /// Slot of each token, `[tokens]`.
    pub const SLOTS: &str = "token_slots";
    /// Positions in the cache that each slot may see, `[slots]`.
    pub const LENGTHS: &str = "lengths";
    /// Float: reference log-probabilities, `[rows]`.
    pub const REFERENCE: &str = "reference_logprobs";
    /// Float: trained tokens (or pairs) of the whole step, `[1]`; input of `begin`.
    pub const STEP_COUNT: &str = "step_count";
    /// Float: (lr, 1−β1ᵗ, 1−β2ᵗ), `[3]`; input of `update`.
    pub const UPDATE_SCALARS: &str = "update_scalars";
}

/// Names of results that the host reads after a program ran.
pub mod result {
    /// `[1]`: of `micro`, the mean loss so far; of `evaluate`, the sum.
    pub const LOSS: &str = "loss";
    /// `[4]`: sums over pairs, see `PreferenceLoss`.
    pub const METRICS: &str = "preference_metrics";
    /// `[1]`: gradient norm before clipping; of `update`.
    pub const GRAD_NORM: &str = "grad_norm";
    /// `[rows]`: of `reference`, the response logprob of each row.
    pub const ROW_LOGPROBS: &str = "row_logprobs";
    /// `[slots, vocab]` of `prefill` and `decode`, `[tokens, vocab]` of `logits`.
    pub const LOGITS: &str = "logits";
}

/// Names of extents.
pub mod extent {
    pub const TOKENS: &str = "tokens";
    pub const ROWS: &str = "rows";
    /// rows + 1.
    pub const BOUNDS: &str = "bounds";
    pub const TRAINED: &str = "trained";
    pub const SLOTS: &str = "slots";
    pub const CACHED: &str = "cached";
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    TrainTokenizer(TrainTokenizer),
    /// A new model from initial distributions.
    Initialize(Initialize),
    Prepare(Prepare),
    Train(Box<Train>),
    Evaluate(Box<Evaluate>),
    Generate(Box<Generate>),
    Declared(Box<Declared>),
}

/// Something on disk: given from outside, or made by a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artifact {
    /// A file or folder outside the run.
    Path(String),
    /// The result of the task of that name.
    Task(String),
}

/// Work that is planned and cannot be carried out yet: a word of the language, what it reads, and its options.
///
/// A plan with such work is complete as a graph; a run refuses it before anything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// The word of the language, or what a declaration implies: `fetch`, `prepare`.
    pub kind: String,
    /// What it reads, by the path of the option that names it.
    pub reads: Vec<(String, Artifact)>,
    /// Every option that shapes the result.
    pub settings: serde_json::Value,
    /// Options that only say how it is carried out and reported.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub conduct: serde_json::Value,
    /// What keeps it from running, in words; empty when that is something it reads.
    pub missing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTokenizer {
    pub vocab: u64,
    pub min_frequency: u64,
    pub special: Vec<String>,
    pub byte_level: bool,
    /// Where the text comes from: the training side of a dataset or mix of text rows.
    pub data: Vec<DataPart>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Initialize {
    pub tokenizer: Artifact,
    /// The whole config.json.
    pub config: serde_json::Value,
    pub generation_config: serde_json::Value,
    pub tensors: Vec<NewTensor>,
    pub dtype: String,
    pub seed: u64,
}

/// Turns rows of datasets into token rows with loss masks, in one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// One part for a dataset; several for a mix.
    pub parts: Vec<DataPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<MixRule>,
    pub tokenizer: Artifact,
    pub encode: Encode,
    /// Longest row in tokens.
    pub sequence: u64,
    /// Limit of a preference row's prompt, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<u64>,
    pub overflow: Overflow,
    /// Which sides are wanted.
    pub sides: Sides,
}

/// What preparing data yielded, as the store's report has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    pub train: PreparedSide,
    pub eval: PreparedSide,
}

/// Counts of one side of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedSide {
    /// Token rows; a pair counts as two.
    pub rows: u64,
    pub tokens: u64,
    pub trained_tokens: u64,
    /// Tokens of the longest row.
    pub longest: u64,
    /// Sequences per epoch when packed to the `sequence` of the task.
    pub packed_sequences: u64,
    /// Tokens of the longest pair, where what both rows begin with counts once; 0 without pairs.
    #[serde(default)]
    pub longest_pair: u64,
    /// Of `tokens`, those of second rows of pairs with which the first begins too.
    #[serde(default)]
    pub shared_tokens: u64,
}

/// How a row becomes tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
pub enum Encode {
    /// Text rows: bos (when the tokenizer has one), the text, eos (when it has one); all trained.
    Text,
    /// Chat or instruction rows through a chat template; the mask from the template's own structure.
    Chat { template: String, loss_on: LossOn },
    /// Preference rows: prompt and answer through a chat template, two token rows a pair.
    Preference { template: String },
    /// Chat, instruction or preference rows up to their answer, which the template opens; nothing is trained.
    Prompt { template: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    Assistant,
    Last,
    Completion,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    Split,
    Drop,
    TruncatePrompt,
    TruncateEnd,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sides {
    /// Training rows and, where there are any, held-out rows.
    Both,
    /// Everything is evaluation data: the held-out rows if there are any, else all rows.
    EvalOnly,
}

/// One dataset as a source of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataPart {
    /// The dataset's name in the recipe, for reports.
    pub name: String,
    pub rows: RowType,
    /// Renamed columns: canonical name, name in the source.
    pub columns: Vec<(String, String)>,
    /// Files of the training side, sorted; of everything when there is no split.
    pub train_files: Vec<String>,
    /// Files of the evaluation side, when splits name one.
    pub eval_files: Vec<String>,
    /// Applied in order to the training side.
    pub transforms: Vec<Transform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdout: Option<Amount>,
    /// Seed of the holdout and of random limits.
    pub seed: u64,
    /// Bad rows that may be skipped; 0 means that the first is an error.
    pub max_bad_rows: u64,
    /// Share in the mix; 1 for a dataset alone.
    pub amount: MixAmount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowType {
    Text,
    Instruction,
    Chat,
    Preference,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    DedupExact,
    Shuffle { seed: u64 },
    Limit { rows: u64, head: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    Share(f64),
    Rows(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixAmount {
    Weight(f64),
    Fraction(f64),
    Rows(u64),
    Tokens(u64),
    Epochs(f64),
}

/// How weighted parts are joined into one epoch of rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MixRule {
    pub measure: Measure,
    pub stop: MixStop,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    Tokens,
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixStop {
    AllSeen,
    FirstExhausted,
    Tokens(u64),
}

/// What a row of the store is for the objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// The loss is a mean over trained tokens.
    Tokens,
    /// The loss is a mean over pairs; rows come two by two.
    Pairs,
}

/// What a preference stage minimises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    pub loss: PreferenceLoss,
    pub beta: f64,
}

/// A training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// `cpt`, `sft`, `dpo`: for people.
    pub objective: String,
    pub unit: Unit,
    /// The loss on pairs, of preference stages; as the module has it, for the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<Preference>,
    pub model: Artifact,
    /// The Prepare task.
    pub data: String,
    /// The Prepare task of another evaluation dataset, when `evaluate on=` names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_data: Option<String>,
    /// The model whose logprobs are the reference, for objectives that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Artifact>,
    pub batch: Batch,
    pub order: Order,
    pub sequence: u64,
    pub pack: bool,
    pub budget: Budget,
    /// Optimizer steps; unknown until the data is prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Number format of weights and activations; masters, gradients and moments are f32.
    pub precision: Dtype,
    pub optimizer: AdamW,
    pub schedule: Schedule,
    pub seed: u64,
    /// The file tensors that are trained, sorted; absent when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Vec<String>>,
    /// The result's config.json (the start's with what the stage changes).
    pub config: Option<serde_json::Value>,
    pub generation_config: Option<serde_json::Value>,
    /// Chat template to save with the tokenizer, when the stage has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    pub tensors: Vec<FileTensor>,
    pub dtype: String,
    /// Absent while facts are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Module>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batch {
    /// Sequences (or pairs) per optimizer step.
    Sequences(u64),
    /// At least this many tokens per optimizer step.
    Tokens(u64),
}

/// Order of the rows of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    Shuffled,
    Sequential,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    Epochs(f64),
    Steps(u64),
    Tokens(u64),
}

/// AdamW; the numbers per weight stand in the ops.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    pub lr: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub clip: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub shape: ScheduleShape,
    pub warmup: Warmup,
    pub floor: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleShape {
    Cosine,
    Linear,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warmup {
    Share(f64),
    Steps(u64),
}

impl Schedule {
    /// Returns the learning rate of the step with that index (from 0) of `steps`.
    ///
    /// Warmup rises linearly from 0 at the first step; then cosine or linear decay to floor · lr,
    /// as in the schedulers of Hugging Face transformers, but for a stage of one step, which has lr.
    pub fn lr(&self, lr: f64, step: u64, steps: u64) -> f64 {
        lr * self.share(step, steps)
    }

    /// The order of operations is that of the reference schedulers, so that rates agree to the last bit.
    fn share(&self, step: u64, steps: u64) -> f64 {
        let warmup = self.warmup_steps(steps);
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let decay = steps.saturating_sub(warmup).max(1) as f64;
        let share = match self.shape {
            ScheduleShape::Constant => return 1.0,
            ScheduleShape::Linear => steps.saturating_sub(step) as f64 / decay,
            ScheduleShape::Cosine => {
                0.5 * (1.0 + (std::f64::consts::PI * ((step - warmup) as f64 / decay)).cos())
            }
        };
        share.max(0.0) * (1.0 - self.floor) + self.floor
    }

    /// Returns the number of warmup steps of `steps`; a share is rounded up.
    ///
    /// The first step of a warmup has a rate of 0: a stage of one step has none, else it would train nothing.
    pub fn warmup_steps(&self, steps: u64) -> u64 {
        match self.warmup {
            _ if steps <= 1 => 0,
            Warmup::Steps(steps) => steps,
            Warmup::Share(share) => (share * steps as f64).ceil() as u64,
        }
    }
}

/// The stage `evaluate NAME`: loss and what follows from it, without training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluate {
    pub model: Artifact,
    pub data: String,
    pub unit: Unit,
    pub sequence: u64,
    pub tensors: Vec<FileTensor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Module>,
}

/// The stage `generate NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    pub model: Artifact,
    pub tokenizer: Artifact,
    pub prompts: Vec<String>,
    /// The Prepare task whose rows are answered in place of `prompts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Chat template that prompts are rendered with; absent: plain text goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub sampling: Sampling,
    /// Number format of weights and activations; logits are f32.
    pub precision: Dtype,
    pub tensors: Vec<FileTensor>,
    /// End-of-generation ids.
    pub stop_ids: Vec<u32>,
    /// Longest prompt plus answer, in tokens.
    pub context: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Module>,
}

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    pub max_tokens: u64,
    /// 0 takes the most likely token.
    pub temperature: f64,
    pub top_p: f64,
    /// 0 keeps all.
    pub top_k: u64,
    pub repetition_penalty: f64,
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts the rates of steps of a stage of ten, as shares of the peak.
    fn check(shape: ScheduleShape, warmup: Warmup, floor: f64, expected: &[(u64, f64)]) {
        let schedule = Schedule { shape, warmup, floor };
        for &(step, share) in expected {
            let found = schedule.lr(2.0, step, 10);
            assert!((found - 2.0 * share).abs() < 1e-12, "{shape:?}, step {step}: {found}");
        }
    }

    #[test]
    fn rates_rise_and_fall() {
        let none = Warmup::Steps(0);
        check(ScheduleShape::Constant, none, 0.0, &[(0, 1.0), (9, 1.0)]);
        check(ScheduleShape::Constant, Warmup::Steps(4), 0.0, &[(0, 0.0), (2, 0.5), (4, 1.0), (9, 1.0)]);
        check(ScheduleShape::Linear, none, 0.0, &[(0, 1.0), (5, 0.5), (10, 0.0), (12, 0.0)]);
        check(ScheduleShape::Linear, Warmup::Steps(2), 0.1, &[(1, 0.5), (2, 1.0), (6, 0.55), (10, 0.1)]);
        check(ScheduleShape::Cosine, none, 0.0, &[(0, 1.0), (5, 0.5), (10, 0.0)]);
        check(ScheduleShape::Cosine, Warmup::Share(0.2), 0.5, &[(1, 0.5), (2, 1.0), (6, 0.75), (10, 0.5)]);
        // A warmup as long as the stage only rises.
        check(ScheduleShape::Cosine, Warmup::Steps(10), 0.0, &[(5, 0.5), (9, 0.9)]);
    }

    #[test]
    fn a_share_of_warmup_is_rounded_up() {
        let of =
            |warmup, steps| Schedule { shape: ScheduleShape::Linear, warmup, floor: 0.0 }.warmup_steps(steps);
        assert_eq!((of(Warmup::Share(0.03), 100), of(Warmup::Share(0.03), 101)), (3, 4));
        assert_eq!((of(Warmup::Share(0.0), 100), of(Warmup::Steps(7), 3)), (0, 7));
    }

    #[test]
    fn some_step_of_every_stage_has_a_rate() {
        use ScheduleShape::{Constant, Cosine, Linear};
        for shape in [Cosine, Linear, Constant] {
            for warmup in [Warmup::Share(0.03), Warmup::Share(1.0), Warmup::Steps(1), Warmup::Steps(100)] {
                let schedule = Schedule { shape, warmup, floor: 0.0 };
                assert_eq!(schedule.lr(2.0, 0, 1), 2.0, "{shape:?}, {warmup:?}: a stage of one step");
                for steps in 2..5 {
                    let rates: Vec<f64> = (0..steps).map(|step| schedule.lr(2.0, step, steps)).collect();
                    assert_eq!(rates[0], 0.0, "{shape:?}, {warmup:?}: a warmup begins at 0");
                    assert!(rates.iter().any(|rate| *rate > 0.0), "{shape:?}, {warmup:?}: {rates:?}");
                }
            }
        }
    }
}
