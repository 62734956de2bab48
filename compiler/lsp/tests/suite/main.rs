//! The editor's answers, and a whole session; one binary.

mod answers;
mod damage;
mod desk;
mod files;
mod session;
