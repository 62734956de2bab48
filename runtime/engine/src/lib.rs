//! The engine: carries out the tasks of a plan.
//!
//! It knows tasks, programs, values and files. It does not know recipes, models or losses: which
//! weight is what, which op computes a gradient and how large everything is stands in the plan.

pub mod arena;
pub mod disk;
pub mod error;
pub mod executor;
pub mod tensors;
pub mod weights;

#[cfg(test)]
mod testing;
