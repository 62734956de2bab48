//! Passes over modules, each small and testable on its own.

pub mod memory;
pub mod update;
