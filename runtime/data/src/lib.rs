//! Data: rows of datasets become token rows with loss masks in one mapped store, and the store becomes batches.
//!
//! In suggested reading order: a row is read ([`read`]) and understood ([`row`]), rendered ([`template`]) and
//! turned into tokens ([`encode`]); [`select`] decides which rows count and [`mix`] how often; [`prepare()`]
//! drives all of that into a [`store`]; [`batches`] orders and packs its rows and [`micro`] lays them out
//! for a program. Everything after the store works on its index alone.

pub mod batches;
mod draw;
pub mod encode;
mod error;
pub mod micro;
mod mix;
mod pack;
mod prepare;
pub mod read;
mod report;
pub mod row;
mod select;
pub mod store;
pub mod template;

pub use batches::{BatchSpec, Batches, Epoch, Sequence, SequenceRow};
pub use error::DataError;
pub use micro::MicroBatch;
pub use pack::packed_sequences;
pub use prepare::{Phase, Progress, prepare, texts};
pub use report::{BadRow, Lengths, PartReport, PrepareReport};
pub use store::{Row, Side, Store, StoreWriter};

#[cfg(test)]
mod tests;
