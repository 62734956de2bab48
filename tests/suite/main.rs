//! All integration tests, in one binary.

mod attention;
mod bench;
mod check;
mod commands;
mod editor;
mod exactness;
mod golden;
mod invariance;
mod memory;
mod mesh;
mod replay;
mod runs;
mod support;
mod workshop;
