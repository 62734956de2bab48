//! Two ranks come to what one device comes to: losses, norms, weights, evaluations, and from each other's
//! checkpoints. Replicas and shards, with micro-steps and rows that do not divide evenly.

#[path = "../world/mod.rs"]
mod world;

mod equal;
mod failures;
mod memory;
mod resume;
mod support;
