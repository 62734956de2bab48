//! Ranks of this machine that training stages are divided over, and what cannot be divided.

use super::train::Counts;
use super::{Lowering, counts, limit};
use lang::diagnostic::Diagnostic;
use lang::recipe::{Batch, Train};
use plan::program::Mesh;
use plan::work::Unit;

impl Lowering<'_> {
    /// Returns how many ranks a training stage is divided over: on this machine, or on the GPUs that are named.
    pub(super) fn ranks(&self) -> u64 {
        u64::from(self.options.devices.max(1)).max(limit::devices(self.options))
    }

    /// Returns the meshes of all ranks: each with everything, and each with a part.
    pub(super) fn meshes(&self) -> (Mesh, Mesh) {
        let ranks = u32::try_from(self.ranks()).unwrap_or(u32::MAX);
        (Mesh { replicas: ranks, shards: 1 }, Mesh { replicas: 1, shards: ranks })
    }

    /// Reports a stage of which some rank would never have a row.
    ///
    /// A batch that only does not divide evenly is dealt out as far as it goes.
    pub(super) fn too_many_devices(&self, stage: &Train, counts: &Counts) -> Option<Diagnostic> {
        let (ranks, batch) = (self.ranks(), counts.batch);
        let is_known = matches!(stage.batch.value, Batch::Sequences(_)) || !counts.estimate;
        if !is_known || batch >= ranks {
            return None;
        }
        let noun = match counts.unit {
            Unit::Tokens => "sequence",
            Unit::Pairs => "pair",
        };
        let taken = counts::counted(batch, noun);
        let help = match (limit::gpus(self.options).map(|on| on.hardware.name), batch) {
            (None, 0 | 1) => format!("write `batch {ranks}` or more, or leave `--devices` out"),
            (None, _) => format!("take `--devices {batch}`, or write `batch {ranks}` or more"),
            (Some(name), 0 | 1) => format!("take `--on {name}`, or write `batch {ranks}` or more"),
            (Some(name), _) => format!("take `--on {batch}x{name}`, or write `batch {ranks}` or more"),
        };
        let (name, at) = (&stage.name, stage.batch.span);
        let message = format!("stage `{name}` takes {taken} per step, {ranks} devices need one each");
        Some(Diagnostic::error("too-many-devices", message, at, format!("{taken} per step")).with_help(help))
    }
}
