//! Predicted figures of a stage on any published architecture, from config.json alone.
//!
//! The idea: what a stage costs follows from the shapes of a model's tensors and from what is trained of
//! them, so that recipes on models that the runtime cannot run yet still get parameters, memory and time.
//! Where programs are built (`models`, `programs`), their arenas are the truth; a test compares the two.

mod config;

pub mod architecture;
mod families;
mod names;
pub mod trained;

pub mod activations;
pub mod formats;
pub mod memory;
pub mod process;

pub mod cost;
pub mod rates;
pub mod time;

pub use architecture::{Shapes, Unknown, shapes};
pub use cost::flops;
pub use memory::{devices, memory};
pub use names::{adapter_names, module_names};
pub use trained::trained;
