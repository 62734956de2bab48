//! Values of a module: typed, shaped tensors with a role and, once planned, a place in an arena.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Element type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    F64,
    F32,
    Bf16,
    F16,
    I32,
    U8,
}

impl Dtype {
    /// Returns the bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::Bf16 | Dtype::F16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// Returns whether elements are floating point numbers.
    pub fn is_float(self) -> bool {
        match self {
            Dtype::F64 | Dtype::F32 | Dtype::Bf16 | Dtype::F16 => true,
            Dtype::I32 | Dtype::U8 => false,
        }
    }

    /// Returns the name that `adapt plan` prints.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F64 => "f64",
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
            Dtype::I32 => "i32",
            Dtype::U8 => "u8",
        }
    }
}

/// Index of an extent within its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExtentId(pub u32);

/// A named size that varies from micro-step to micro-step.
///
/// The capacity is fixed in the plan and decides memory and offsets; the actual size comes with
/// the batch and decides the work. Results do not depend on the capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub name: String,
    pub capacity: u64,
}

/// One dimension: a constant, or a constant times an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dim {
    pub factor: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<ExtentId>,
}

impl From<u64> for Dim {
    fn from(factor: u64) -> Self {
        Dim { factor, extent: None }
    }
}

impl From<ExtentId> for Dim {
    fn from(extent: ExtentId) -> Self {
        Dim { factor: 1, extent: Some(extent) }
    }
}

impl Dim {
    /// Returns the size when extents have the given sizes.
    pub fn size(self, extents: &[u64]) -> u64 {
        self.factor * self.extent.map_or(1, |id| extents[id.0 as usize])
    }
}

/// Index of a value within its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Returns the index into `Module::values`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a value is for; decides its arena and its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read by forward and backward; lives as long as the stage.
    Weight,
    /// f32 copy of a low-precision weight; lives as long as the stage.
    Master,
    /// Gradient of a trained weight; lives from the first micro-step to the update.
    Gradient,
    /// Optimizer moments and other values that outlive a step.
    State,
    /// Keys and values of decoding; outlives a program run.
    Cache,
    /// Made and used within one program run.
    Activation,
    /// Scratch of a single op.
    Workspace,
    /// Written by the host before a program run.
    Batch,
}

impl Role {
    /// All roles, in the order in which tables list them.
    pub const ALL: [Role; 8] = [
        Role::Weight,
        Role::Master,
        Role::Gradient,
        Role::State,
        Role::Cache,
        Role::Activation,
        Role::Workspace,
        Role::Batch,
    ];

    /// Returns the name that `adapt plan` prints.
    pub fn name(self) -> &'static str {
        match self {
            Role::Weight => "weights",
            Role::Master => "masters",
            Role::Gradient => "gradients",
            Role::State => "optimizer",
            Role::Cache => "cache",
            Role::Activation => "activations",
            Role::Workspace => "workspace",
            Role::Batch => "batch",
        }
    }

    /// Returns whether the value keeps its place for the whole stage.
    pub fn is_persistent(self) -> bool {
        match self {
            Role::Weight | Role::Master | Role::Gradient | Role::State | Role::Cache | Role::Batch => true,
            Role::Activation | Role::Workspace => false,
        }
    }
}

/// One tensor of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// Unique within the module, for people and for batch values for the runtime: `layers.0.q_proj`.
    pub name: String,
    pub dtype: Dtype,
    pub role: Role,
    pub shape: Vec<Dim>,
    /// Rows of the tensor of which every shard holds an equal part, the last ones filled up with zeros;
    /// absent where each rank holds all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_rows: Option<u64>,
    /// Byte offset in the arena of the role; set by the memory pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Value {
    /// Returns the dimensions when extents have the given sizes.
    pub fn sizes(&self, extents: &[u64]) -> Vec<u64> {
        self.shape.iter().map(|dim| dim.size(extents)).collect()
    }

    /// Returns the dimensions of the tensor that all shards make up together.
    pub fn whole_sizes(&self, extents: &[u64]) -> Vec<u64> {
        let mut sizes = self.sizes(extents);
        if let (Some(rows), Some(first)) = (self.whole_rows, sizes.first_mut()) {
            *first = rows;
        }
        sizes
    }

    /// Returns the rows of that tensor which a shard holds.
    pub fn share(&self, shard: u64, extents: &[u64]) -> Range<u64> {
        let rows = self.shape.first().map_or(1, |dim| dim.size(extents));
        match self.whole_rows {
            None => 0..rows,
            Some(whole) => (shard * rows).min(whole)..((shard + 1) * rows).min(whole),
        }
    }

    /// Returns the number of elements when extents have the given sizes.
    pub fn elements(&self, extents: &[u64]) -> u64 {
        self.shape.iter().map(|dim| dim.size(extents)).product()
    }

    /// Returns the bytes when extents have the given sizes.
    pub fn bytes(&self, extents: &[u64]) -> u64 {
        self.elements(extents) * self.dtype.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_rows() {
        let shape = vec![3.into(), 2.into()];
        let (name, role) = (String::from("w"), Role::Weight);
        let all = Value { name, dtype: Dtype::F32, role, shape, whole_rows: None, offset: None };
        assert_eq!((all.share(1, &[]), all.whole_sizes(&[])), (0..3, vec![3, 2]));
        let part = Value { whole_rows: Some(7), ..all };
        let shares = [0, 1, 2, 3].map(|shard| part.share(shard, &[]));
        assert_eq!(shares, [0..3, 3..6, 6..7, 7..7]);
        assert_eq!((part.sizes(&[]), part.whole_sizes(&[])), (vec![3, 2], vec![7, 2]));
    }
}
