//! Ops on slices of the arenas: the backend trait and the fused CPU backend.
//!
//! What each op means stands in `plan::op`. A backend gets raw operands and runs; it never
//! allocates per op, keeps no state between calls but its threads, and knows no model.

pub mod backend;
pub mod check;
pub mod cpu;
pub mod probe;
pub mod random;
pub mod view;
