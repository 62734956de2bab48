//! Checked recipe to plan.
//!
//! Lowering is pure: `(recipe, facts) → (plan, diagnostics, wants)`. Stages become tasks, models and
//! objectives become ops, passes add gradients, the optimizer and places in memory.

pub mod builder;
pub mod figures;
pub mod gradients;
pub mod keys;
pub mod models;
pub mod objectives;
pub mod passes;
pub mod programs;
pub mod stages;

pub use stages::{Lowered, Options, lower};
