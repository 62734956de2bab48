//! Recipe text to checked recipe.
//!
//! This crate is a pure function of sources and facts: it never opens a file, a socket or a
//! terminal. Phases, in reading order: text is parsed to [`syntax`] with spans, names are
//! resolved, values are typed against the schema of `stdlib`, rules across nodes are applied,
//! and what comes out is a [`recipe::Recipe`] plus all [`diagnostic::Diagnostic`]s of the run.

pub mod diagnostic;
pub mod facts;
pub mod recipe;
pub mod source;
