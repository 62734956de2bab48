//! Ranks that run one plan together: what they exchange, and who tells them what to do.
//!
//! The executor of rank 0 leads. It has the loop, the files and the clock; the others do what it asks for, one
//! job after the other, so that all ranks run the same collectives in the same order whatever the loop decides.

mod ranks;
mod threads;

use crate::error::Result;
pub use ranks::{Answers, Job, Ranks};
pub use threads::Threads;

/// What the ranks of a mesh exchange. Every rank calls the same functions in the same order.
///
/// Sums are taken in the order of the ranks, so that they have the same bits on each and in every run.
///
/// # Errors
/// All functions fail on every rank as soon as one has failed, with its error.
pub trait Collective: Send + Sync {
    /// Returns the number of this rank.
    fn rank(&self) -> usize;

    /// Returns how many ranks there are.
    fn ranks(&self) -> usize;

    /// Puts the parts of all ranks together; what goes beyond the whole is left out.
    fn all_gather(&self, part: &[u8], whole: &mut [u8]) -> Result<()>;

    /// Sums over all ranks and keeps this rank's part; adds it to what is there if asked to.
    fn reduce_scatter(&self, whole: &[f32], part: &mut [f32], add: bool) -> Result<()>;

    /// Sums over all ranks.
    fn all_reduce(&self, numbers: &mut [f32]) -> Result<()>;
}
