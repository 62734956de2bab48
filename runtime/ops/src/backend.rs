//! The backend trait: run this op on these slices.

use crate::view::{View, ViewMut};
use plan::op::OpKind;
use plan::value::Dtype;

/// One op with its operands.
#[derive(Debug)]
pub struct Call<'a, 'b> {
    pub kind: &'a OpKind,
    pub inputs: &'a [View<'b>],
    pub outputs: &'a mut [ViewMut<'b>],
    /// Scratch, at least `plan::op::workspace_bytes` for these dims; aligned like an arena.
    pub workspace: &'a mut [u8],
    pub draw: Draw,
}

/// What random draws depend on besides site, row, position and channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw {
    pub seed: u64,
    /// Optimizer step.
    pub step: u64,
}

/// Why an op did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpError(pub String);

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpError {}

/// Runs ops.
pub trait Backend: Send + Sync {
    /// Returns the name that `--backend` takes.
    fn name(&self) -> &'static str;

    /// Returns whether the backend can run the op with floats of that dtype; if not, why.
    ///
    /// # Errors
    /// Fails with what is missing, in words for the user. Asked for every op before a run starts.
    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError>;

    /// Runs one op.
    ///
    /// # Errors
    /// Fails on operands that the op does not take; the message states op, shapes and dtypes.
    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError>;

    /// Runs tasks `0..count` on the threads of the backend, in any order; returns when all are done.
    ///
    /// For what the engine does with large arenas besides ops: touching, loading, drawing.
    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }

    /// Lets go of memory that earlier ops needed beside their operands; the next ones take what they need.
    fn release(&self) {}
}
