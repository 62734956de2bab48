//! Recipe text to checked recipe.
//!
//! This crate is a pure function of sources and facts: it never opens a file, a socket or a
//! terminal. Phases, in reading order: text is parsed to [`syntax`] with spans, `--set`, parameters
//! and `defaults` are applied, nodes are typed against the schema of `stdlib`, names are resolved,
//! rules across nodes are applied, and what comes out is a [`recipe::Recipe`] plus all
//! [`diagnostic::Diagnostic`]s of the run.

pub mod capability;
mod check;
pub mod conditions;
pub mod diagnostic;
pub mod facts;
pub mod format;
pub mod lock;
pub mod recipe;
pub mod resolved;
pub mod source;
pub mod syntax;

mod files;
mod params;
pub mod set;
mod sweeps;

mod config;
mod defaults;
mod like;
mod moves;
pub mod origin;
mod suggest;
mod tree;
mod typing;
mod units;
mod uses;
pub mod values;

mod assemble;
mod languages;
mod names;
pub mod paths;
mod planned;
mod rules;
mod turns;

pub use check::{Checked, Input, check, not_utf8};
pub use params::Sweep;
pub use suggest::nearest;
