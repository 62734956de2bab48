//! Passes over modules, each small and testable on its own.

pub mod in_place;
pub mod memory;
pub mod recompute;
pub mod search;
pub mod shard;
pub mod trained;
pub mod update;

use plan::program::Module;

/// Ends the planning of a module: what is written in place, and where everything lies.
pub fn finish(module: &mut Module) {
    in_place::apply(module);
    memory::assign(module);
}
