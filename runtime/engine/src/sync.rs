//! What ranks and readers of arenas wait with: locks of std, or those of loom, which runs a test in every order
//! that the memory model allows (`models.rs` beside who waits).

#[cfg(not(all(loom, test)))]
pub use std::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicUsize, Ordering},
};

#[cfg(all(loom, test))]
pub use loom::sync::{
    Condvar, Mutex, MutexGuard, RwLock,
    atomic::{AtomicUsize, Ordering},
};
