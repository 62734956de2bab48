//! Passes over modules, each small and testable on its own.

pub mod memory;
pub mod recompute;
pub mod search;
pub mod trained;
pub mod update;
