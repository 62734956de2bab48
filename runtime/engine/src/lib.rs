//! The engine: carries out the tasks of a plan.
//!
//! It knows tasks, programs, values and files. It does not know recipes, models or losses: which
//! weight is what, which op computes a gradient and how large everything is stands in the plan.

pub mod arena;
pub mod batch;
pub mod checkpoint;
pub mod disk;
pub mod error;
pub mod evaluate;
pub mod events;
pub mod executor;
pub mod folder;
pub mod frozen;
pub mod generate;
pub mod initialize;
pub mod lock;
pub mod mesh;
pub mod metrics;
pub mod model;
pub mod observer;
pub mod origin;
pub mod prepare;
pub mod record;
pub mod reference;
pub mod report;
pub mod run;
pub mod sampling;
pub mod tensors;
pub mod train;
pub mod weights;

mod mailbox;
mod sync;
#[cfg(test)]
mod testing;
