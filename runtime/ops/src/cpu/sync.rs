//! What the pool is made of: threads and locks of std, or those of loom, which runs a test in every order that
//! the memory model allows (`pool/models.rs`).

#[cfg(not(all(loom, test)))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};

#[cfg(all(loom, test))]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};
