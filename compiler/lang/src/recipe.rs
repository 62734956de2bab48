//! The checked recipe: every name resolved, every value typed and in range, defaults filled in.
//!
//! Values that a diagnostic or `adapt show` may want to point at carry their place
//! ([`Spanned`]). Paths are resolved against the folder of the file that holds them.

use crate::capability::Missing;
use crate::source::{Span, Spanned};
use serde::{Deserialize, Serialize};

/// A whole recipe. Vectors are in file order (used files first, in order of use).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub models: Vec<Model>,
    pub tokenizers: Vec<Tokenizer>,
    pub templates: Vec<Template>,
    pub datasets: Vec<Dataset>,
    pub mixes: Vec<Mix>,
    pub stages: Vec<Stage>,
    /// Declarations and stages that this version plans but cannot run, with the ingredients that they use.
    pub planned: Vec<Planned>,
}

/// A declaration or stage that this version cannot run: itself, or something that it is made of.
///
/// The language reaches further than the runtime; what is not built yet is carried as its settings,
/// so that it stands in the plan with its inputs and figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub name: String,
    /// The kind word.
    pub at: Span,
    pub kind: String,
    /// Whether it is a stage, and not an ingredient.
    pub is_stage: bool,
    /// Whether it can be run, and stands here only because something uses it that cannot.
    pub runnable: bool,
    /// The row type, of datasets, mixes and stages that give data.
    pub rows: Option<String>,
    /// The key of its source in the facts, of declarations that have one.
    pub source: Option<String>,
    /// What it refers to, by the path of the option.
    pub refs: Vec<(String, Ref)>,
    /// Every option that shapes the result, with its value.
    pub settings: serde_json::Value,
    /// Options that say how it is carried out and reported.
    pub conduct: serde_json::Value,
    /// What keeps it from running; empty when only what it is made of cannot be run.
    pub missing: Vec<Missing>,
}

/// Refers to a declaration by name; `span` is the reference itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ref {
    pub name: String,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    /// The kind word `model`.
    pub at: Span,
    pub source: Spanned<ModelSource>,
    pub dtype: Option<Spanned<Dtype>>,
    pub tokenizer: Option<Ref>,
    /// Overrides of config.json fields, in file order.
    pub config: Vec<(Spanned<String>, Spanned<serde_json::Value>)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ModelSource {
    /// A folder on disk.
    Folder(String),
    /// `new:llama`, `new:gpt2`: the architecture's name.
    New(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tokenizer {
    pub name: String,
    pub at: Span,
    pub source: TokenizerSource,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TokenizerSource {
    /// A folder with tokenizer.json, or such a file.
    Path(Spanned<String>),
    Train(TrainTokenizer),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainTokenizer {
    pub at: Span,
    pub vocab: Spanned<u64>,
    pub on: Ref,
    pub min_frequency: Spanned<u64>,
    /// Special tokens in the order of their ids, after the built-in ones.
    pub special: Vec<Spanned<String>>,
    pub byte_level: Spanned<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub name: String,
    pub at: Span,
    /// Jinja text; for `turns` and `std:` templates it is generated or read from stdlib.
    pub jinja: Spanned<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    pub name: String,
    pub at: Span,
    /// A file, folder or glob, resolved.
    pub source: Spanned<String>,
    pub rows: Spanned<RowType>,
    /// Renamed columns: canonical name → name in the source.
    pub columns: Vec<(String, Spanned<String>)>,
    /// In the order written; `holdout` is applied last whatever its place.
    pub transforms: Vec<Transform>,
    pub on_bad_row: Spanned<OnBadRow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowType {
    Text,
    Instruction,
    Chat,
    Preference,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Transform {
    Split { train: Option<Spanned<String>>, eval: Option<Spanned<String>> },
    DedupExact { at: Span },
    Shuffle { seed: Spanned<u64> },
    Limit { rows: Spanned<u64>, head: bool },
    Holdout { amount: Spanned<Amount> },
}

/// A share or a number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Amount {
    Share(f64),
    Rows(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBadRow {
    Error,
    Skip { max: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    pub name: String,
    pub at: Span,
    pub rows: RowType,
    pub parts: Vec<MixPart>,
    pub measure: Spanned<Measure>,
    pub stop: Spanned<MixStop>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixPart {
    /// A dataset or another mix.
    pub data: Ref,
    pub amount: Spanned<MixAmount>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum MixAmount {
    /// Relative; the weights of a mix are normalised over its parts.
    Weight(f64),
    Fraction(f64),
    Rows(u64),
    Tokens(u64),
    Epochs(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    Tokens,
    Rows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MixStop {
    AllSeen,
    FirstExhausted,
    Tokens(u64),
}

/// A step of the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    Train(Box<Train>),
    Evaluate(Evaluate),
    Generate(Generate),
}

/// `cpt`, `sft` and `dpo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    pub name: String,
    /// The kind word (`cpt` …).
    pub at: Span,
    pub objective: Objective,
    /// A `model` declaration or an earlier training stage.
    pub model: Ref,
    /// A dataset or a mix.
    pub data: Ref,
    pub batch: Spanned<Batch>,
    pub micro: Option<Spanned<u64>>,
    pub budget: Spanned<Budget>,
    pub optimizer: AdamW,
    pub schedule: Schedule,
    /// Absent: the model's positions, at most 8192.
    pub sequence: Option<Spanned<u64>>,
    pub pack: Spanned<bool>,
    /// Limit of the prompt of preference rows, in tokens.
    pub prompt: Option<Spanned<u64>>,
    pub overflow: Spanned<Overflow>,
    pub precision: Spanned<Precision>,
    /// Whether weights in less than f32 have masters in f32; they have unless it says otherwise.
    pub masters: Option<Spanned<bool>>,
    pub template: Option<TemplateRef>,
    /// The words of each `train` line; without lines everything is trained.
    pub train: Vec<Vec<Spanned<String>>>,
    pub recompute: Spanned<Recompute>,
    pub evaluate: Option<StageEvaluate>,
    pub checkpoint: Option<Checkpoint>,
    pub samples: Vec<Sample>,
    pub seed: Spanned<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    Cpt,
    Sft { loss_on: Spanned<LossOn> },
    Dpo { beta: Spanned<f64>, loss: Spanned<DpoLoss>, label_smoothing: Spanned<f64>, reference: Option<Ref> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossOn {
    Assistant,
    Last,
    Completion,
    All,
}

/// The DPO losses of this version; a stage with another one is [`Planned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DpoLoss {
    Sigmoid,
    Ipo,
    Hinge,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TemplateRef {
    Declared(Ref),
    /// `std:chatml` …: the name without `std:`.
    Std(Spanned<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batch {
    Sequences(u64),
    Tokens(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Budget {
    Epochs(f64),
    Steps(u64),
    Tokens(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    pub lr: Spanned<f64>,
    pub weight_decay: Spanned<f64>,
    pub beta1: Spanned<f64>,
    pub beta2: Spanned<f64>,
    pub eps: Spanned<f64>,
    /// Largest gradient norm; 0 switches clipping off.
    pub clip: Spanned<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub shape: Spanned<Shape>,
    pub warmup: Spanned<Warmup>,
    /// As a share of lr.
    pub floor: Spanned<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Cosine,
    Linear,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Warmup {
    Share(f64),
    Steps(u64),
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
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Bf16,
    F32,
    F16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    Auto,
    None,
    Block,
}

/// How often, in steps or epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Every {
    Steps(u64),
    Epochs(f64),
    Seconds(u64),
}

/// The `evaluate` child of a training stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageEvaluate {
    pub at: Span,
    /// Absent: the held-out rows of the stage's data.
    pub on: Option<Ref>,
    pub every: Spanned<Every>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub at: Span,
    pub every: Spanned<Every>,
    pub keep: Spanned<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at: Span,
    pub every: Spanned<Every>,
    pub prompts: Vec<Spanned<String>>,
    pub max_tokens: Spanned<u64>,
}

/// The stage `evaluate NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluate {
    pub name: String,
    pub at: Span,
    pub model: Ref,
    pub data: Ref,
    pub template: Option<TemplateRef>,
    pub sequence: Option<Spanned<u64>>,
}

/// The stage `generate NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    pub name: String,
    pub at: Span,
    pub model: Ref,
    pub prompts: Vec<Spanned<String>>,
    pub data: Option<Ref>,
    pub template: Option<TemplateRef>,
    pub max_tokens: Spanned<u64>,
    /// 0 is greedy.
    pub temperature: Spanned<f64>,
    pub top_p: Spanned<f64>,
    /// 0 keeps all.
    pub top_k: Spanned<u64>,
    pub repetition_penalty: Spanned<f64>,
    pub seed: Spanned<u64>,
}
