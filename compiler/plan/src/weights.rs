//! How weights come from and go to files: data for the runtime, which knows no weight's name.

use crate::value::ValueId;
use serde::{Deserialize, Serialize};

/// One tensor of a model's files and the values that it is made of.
///
/// On loading, the tensor is transposed when `transpose` is set, then its rows (first dimension)
/// are dealt to the pieces; on saving the pieces are gathered and transposed back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileTensor {
    /// Name in the files; saved under it.
    pub name: String,
    /// Other names that are accepted on loading.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Shape in the file.
    pub shape: Vec<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transpose: bool,
    pub pieces: Vec<Piece>,
}

/// Rows of a file tensor that are rows of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub value: ValueId,
    pub file_start: u64,
    pub value_start: u64,
    pub rows: u64,
}

/// Distribution that a new weight is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    Zeros,
    Ones,
    Normal { std: f64 },
}

/// A new weight in the files of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTensor {
    pub name: String,
    pub shape: Vec<u64>,
    pub init: Init,
}
