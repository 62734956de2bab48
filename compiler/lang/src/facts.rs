//! What the outside is like, as data.
//!
//! A fact that is absent is *unknown*, never assumed. Checks that need an absent fact are silent;
//! what they would have liked to know is collected as [`Want`]s, which the command line fills.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything known about the outside. Paths are keys as the recipe's folder resolves them:
/// relative sources are joined to the folder of the file that holds them, and normalised lexically.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// By path of a file, folder or glob pattern.
    pub paths: BTreeMap<String, PathFact>,
    /// By model folder.
    pub models: BTreeMap<String, ModelFact>,
    /// By tokenizer folder or file, or, for tokenizers trained in the recipe, by task name.
    pub tokenizers: BTreeMap<String, TokenizerFact>,
    /// By the source of a model: the languages that it translates, where that was stated.
    #[serde(default)]
    pub languages: BTreeMap<String, LanguagesFact>,
    /// By the source of a dataset (a path or a glob): first rows and their columns.
    pub rows: BTreeMap<String, RowsFact>,
    /// By task name: what prepared data turned out to hold.
    pub prepared: BTreeMap<String, PreparedFact>,
    /// Content hashes by path of a file, hex of blake3.
    pub hashes: BTreeMap<String, String>,
    /// Texts of small files a recipe refers to (`use`, `jinja` files), by path.
    pub texts: BTreeMap<String, String>,
    /// What the machine offers.
    pub hardware: Option<HardwareFact>,
}

impl Facts {
    /// Adds all that others say; what was known already gives way.
    pub fn extend(&mut self, others: &Self) {
        let Self { paths, models, tokenizers, rows, prepared, hashes, texts, hardware, languages } =
            others.clone();
        self.paths.extend(paths);
        self.models.extend(models);
        self.tokenizers.extend(tokenizers);
        self.rows.extend(rows);
        self.prepared.extend(prepared);
        self.hashes.extend(hashes);
        self.texts.extend(texts);
        self.languages.extend(languages);
        self.hardware = hardware.or(self.hardware.take());
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PathFact {
    Missing,
    File(Fingerprint),
    /// The files of a folder or glob, sorted by path. For a folder: the data files directly in it.
    Many(Vec<(String, Fingerprint)>),
    /// It is there but cannot be read; the reason in words.
    Unreadable(String),
}

/// Tells a changed file from an unchanged one without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub bytes: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified: i128,
    pub inode: u64,
}

/// A model folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFact {
    /// config.json as it is.
    pub config: serde_json::Value,
    /// Tensor names with dtype and shape from the safetensors headers, when they were read.
    pub tensors: Option<BTreeMap<String, TensorFact>>,
    /// Files that hold the weights, with their paths.
    pub weight_files: Vec<String>,
    /// generation_config.json, when there is one.
    pub generation_config: Option<serde_json::Value>,
    /// The chat template of the model's tokenizer, when it has one.
    pub chat_template: Option<String>,
    /// Whether only a part is known, so that what is absent is unknown.
    #[serde(default)]
    pub partial: bool,
    /// A file of pickled weights, when the folder has no others.
    #[serde(default)]
    pub pickled: Option<String>,
    /// Why the folder cannot be used, when it cannot (no config.json, broken header …).
    pub problem: Option<String>,
}

/// One tensor of a safetensors header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorFact {
    pub dtype: String,
    pub shape: Vec<u64>,
    /// The file, as an index into `weight_files`.
    pub file: u32,
}

/// A tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerFact {
    /// Number of ids, added tokens included.
    pub vocab_size: u64,
    pub bos: Option<(String, u32)>,
    pub eos: Option<(String, u32)>,
    pub pad: Option<(String, u32)>,
    /// Added tokens that are special, text and id.
    pub special: Vec<(String, u32)>,
    pub chat_template: Option<String>,
    /// Whether only a part is known, so that what is absent is unknown.
    #[serde(default)]
    pub partial: bool,
    /// Files that make up the tokenizer, for hashing.
    pub files: Vec<String>,
    /// What it takes once it is loaded, where its files were read.
    #[serde(default)]
    pub memory: Option<TokenizerBytes>,
    pub problem: Option<String>,
}

/// Bytes of a loaded tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerBytes {
    /// Its tokenizer.json, which is kept to be saved with models.
    pub text: u64,
    /// Its vocabulary and merges; twice where it also reads special tokens as ordinary text.
    pub tables: u64,
}

/// The languages that a model translates, each to each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguagesFact {
    pub from: Vec<String>,
    pub to: Vec<String>,
}

/// The first rows of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsFact {
    /// Column names in order of first appearance, over the first rows.
    pub columns: Vec<String>,
    /// Names of the splits that the source has (file stems of a folder or glob).
    pub splits: Vec<String>,
    /// File that was looked into.
    pub file: String,
    /// Rows of each split, as far as they are known.
    #[serde(default)]
    pub split_rows: BTreeMap<String, u64>,
    /// What a run of the same data was measured to keep.
    #[serde(default)]
    pub measured: Option<MeasuredFact>,
    /// The roles of the messages in the first rows, each with the place where it first stands (`talks.jsonl:3`).
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// Mean bytes of the first rows, for estimates.
    #[serde(default)]
    pub row_bytes: Option<f64>,
    pub problem: Option<String>,
}

/// Counts that were measured elsewhere and published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredFact {
    /// The sequence length that they hold for.
    pub sequence: u64,
    /// Rows that fit, of those that `limit` and `holdout` leave.
    pub kept: u64,
}

/// What preparing data yielded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedFact {
    pub train: PartFact,
    pub eval: PartFact,
}

/// Counts of one side of prepared data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartFact {
    /// Token rows; a preference pair counts as two.
    pub rows: u64,
    pub tokens: u64,
    pub trained_tokens: u64,
    pub longest: u64,
    /// Sequences per epoch after packing; equals `rows` (or pairs) without packing.
    pub sequences: u64,
    /// Tokens of the longest pair, where what both rows begin with counts once; 0 without pairs.
    #[serde(default)]
    pub longest_pair: u64,
    /// Of `tokens`, those with which both rows of a pair begin, once for each pair.
    #[serde(default)]
    pub shared_tokens: u64,
}

/// The machine that plans are made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HardwareFact {
    pub name: String,
    /// Bytes that a run may use.
    pub memory: u64,
    /// Threads of the run.
    pub threads: u32,
    /// Threads of a run that is not told how many: what fits is decided for these at least, so that results do not
    /// depend on the number.
    #[serde(default)]
    pub cores: u32,
    /// The profile under `std:` that its cores fit, and their clock, when they are known.
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    pub ghz: Option<f64>,
    /// What it reached in a short probe, when there was one; printed times follow it, decisions do not.
    #[serde(default)]
    pub rates: Option<Rates>,
}

/// What a machine reaches, measured with the kernels that will run, on all of its threads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Products of numbers in f32, and in bf16.
    pub f32: Products,
    pub bf16: Products,
    /// Operations per second of attention over whole rows.
    pub attention: f64,
    /// Bytes per second that a copy reads and writes together.
    pub bytes: f64,
    /// Seconds that an op takes however little it does.
    pub per_op: f64,
}

/// Operations per second of matrix products, by the smallest width of the matrix that tokens are multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Products {
    /// At a width of [`Products::NARROW`].
    pub narrow: f64,
    /// At a width of [`Products::WIDE`].
    pub wide: f64,
}

impl Products {
    pub const NARROW: u64 = 128;
    pub const WIDE: u64 = 768;
}

/// Something that a check or the lowering would have liked to know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Want {
    Path(String),
    Model(String),
    Tokenizer(String),
    Rows(String),
    Text(String),
    Hash(String),
    Hardware,
}
