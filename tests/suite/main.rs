//! All integration tests, in one binary.

mod golden;
mod invariance;
mod replay;
mod runs;
mod support;
mod workshop;
