//! What comes with adapt: the schema of the recipe language, the `std:` templates and hardware.
//!
//! All are written as data (`schema/*.kdl`, `templates/*.jinja`) and become static tables when
//! this crate is built, so that nothing of them is parsed when adapt starts. [`reference`] says in words
//! what the tables hold.

pub mod capabilities;
pub mod hardware;
pub mod pages;
pub mod reference;
pub mod schema;
pub mod templates;

pub use templates::find as template;
