//! lang.
