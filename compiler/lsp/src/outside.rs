//! What the editor asks of the world; the command line answers it.

use lang::facts::{Facts, Want};
use lang::lock::Kind;

/// The disk and the machine, as the caller reads them. Paths are relative to the folder that the editor was
/// given, or absolute. Nothing of the user's is written, nothing is run, and no network is used.
pub trait Outside {
    /// What looks at the world for one recipe.
    type Look: Look;

    /// Begins to look for a recipe.
    ///
    /// # Errors
    /// Says in words why the lock file beside the recipe cannot be used.
    fn look(&self, recipe: &str) -> Result<Self::Look, String>;

    /// Lists what lies in a folder, folders with a `/` at their end; nothing when it cannot be read.
    fn list(&self, folder: &str) -> Vec<String>;

    /// Puts a text that comes with adapt where an editor can open it, such as `templates/zephyr.jinja`, and returns
    /// the absolute path; nothing where there is no such place, so that no editor is led to it.
    fn show(&self, _name: &str, _text: &str) -> Option<String> {
        None
    }
}

/// A look at the world. It sees each thing once; what has changed since is seen by a new one.
pub trait Look {
    /// Fills facts; returns whether anything is new. What was asked before brings no news.
    fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool;

    /// Returns the remote sources that the lock file pins, under their keys there, and what they are.
    fn sources(&self) -> Vec<(String, Kind)>;
}
