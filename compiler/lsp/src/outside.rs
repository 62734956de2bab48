//! What the editor asks of the world; the command line answers it.

use lang::facts::{Facts, Want};

/// The disk and the machine, as the caller reads them. Paths are relative to the folder that the editor was
/// given, or absolute. Nothing is written and nothing is run.
pub trait Outside {
    /// Fills facts; returns whether anything is new. What was asked once since [`Outside::refresh`] brings no news.
    fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool;

    /// Lists what lies in a folder, folders with a `/` at their end; nothing when it cannot be read.
    fn list(&self, folder: &str) -> Vec<String>;

    /// Forgets what was asked, so that the next look sees what has changed.
    fn refresh(&mut self);
}
