//! The plan as data: what the compiler hands to the runtime.
//!
//! Two levels. [`task`] holds the graph of tasks: what after what, what is already done.
//! [`program`] holds the ops of one optimizer step over typed [`value`]s. Everything here is
//! serialisable and knows neither KDL nor kernels.

pub mod blocks;
pub mod cost;
pub mod op;
pub mod program;
pub mod task;
pub mod text;
pub mod value;
pub mod weights;
pub mod work;

/// Version of the numerics: part of every key. Raised when a change alters the bits of results.
pub const NUMERICS_VERSION: u32 = 6;

/// Version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 1;
