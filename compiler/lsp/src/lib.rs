//! The language server: what an editor asks about a recipe while it is being written.
//!
//! [`Editor`] is the core: it holds the open texts and answers. It compiles a text as `adapt check` does, with
//! the same check and the same lowering, so that both find the same. What is on the disk it learns from an
//! [`Outside`] that the caller supplies; it runs nothing and speaks to no network. [`serve`] connects it to an
//! editor that speaks the Language Server Protocol.
//!
//! A text that is being typed is broken most of the time. What must work then (completion, symbols, folding)
//! rests on the [`outline`], which never fails; what says that something is wrong comes from `lang` alone.

pub mod outline;
pub mod tokens;

mod positions;
mod text;

mod names;
mod place;

mod compile;
mod outside;
mod report;

mod completion;
mod describe;
mod highlight;
mod hints;
mod hover;
mod structure;

mod editor;
mod serve;

pub use editor::{Abilities, Editor, Report};
pub use outside::{Look, Outside};
pub use positions::Encoding;
pub use serve::{serve, stdio};
