//! The fused cpu backend against the plain one, and the plain one against finite differences.

mod agreement;
mod cases;
mod differences;
mod harness;
mod refusals;
mod threads;
