//! `adapt lsp`: the language server over standard input and output.
//!
//! The disk is read here, quickly and as `adapt check` does; nothing is run and no network is used.

use crate::facts::Gatherer;
use crate::terminal::{self, wrong_use};
use ::lsp::{Look, Outside};
use lang::facts::{Facts, Want};
use lang::lock::{Kind, Lock};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Serve an editor over standard input and output
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  adapt lsp                              what an editor starts; docs/editors.md says how to set it up")]
pub struct Args {}

/// Serves an editor until it leaves; `cache` is where it is shown what comes with adapt.
pub fn run(cache: &Path) -> ExitCode {
    let folder = match std::env::current_dir() {
        Ok(folder) => folder,
        Err(error) => return wrong_use(&format!("the current folder cannot be read: {error}")),
    };
    let Some(base) = folder.to_str() else {
        return wrong_use(&format!("the name of the folder {} is not UTF-8", folder.display()));
    };
    let shown = std::path::absolute(cache.join(SHOWN)).ok();
    match ::lsp::stdio(Disk { shown }, base) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            terminal::say(format_args!("error: standard input or output failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The folder in the cache for texts that come with adapt, for editors to open.
const SHOWN: &str = "shown";

/// The disk as the editor's outside.
struct Disk {
    /// Where texts that come with adapt are put; nothing when there is no such place.
    shown: Option<PathBuf>,
}

/// What gathers facts for one recipe.
struct Reader {
    gatherer: Gatherer,
    /// The remote sources of its lock file.
    sources: Vec<(String, Kind)>,
}

impl Outside for Disk {
    type Look = Reader;

    fn look(&self, recipe: &str) -> Result<Reader, String> {
        let mut gatherer = Gatherer::quick();
        gatherer.open_lock(recipe)?;
        let path = lang::paths::resolve(lang::paths::folder(recipe), lang::lock::FILE);
        // Whether the file can be used was found out above.
        let lock = fs::read_to_string(path).ok().and_then(|text| Lock::read(&text).ok()).unwrap_or_default();
        let sources = lock.sources.into_iter().map(|(key, entry)| (key, entry.kind)).collect();
        Ok(Reader { gatherer, sources })
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(if entry.path().is_dir() { format!("{name}/") } else { name })
        });
        named.collect()
    }

    fn show(&self, name: &str, text: &str) -> Option<String> {
        let path = self.shown.as_ref()?.join(name);
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::create_dir_all(path.parent()?).ok()?;
            // Another server may be writing it, too: what is opened is always whole.
            let part = path.with_extension(format!("{}.part", std::process::id()));
            fs::write(&part, text).ok()?;
            fs::rename(&part, &path).ok()?;
        }
        path.to_str().map(str::to_owned)
    }
}

impl Look for Reader {
    fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool {
        self.gatherer.fill(wants, facts)
    }

    fn sources(&self) -> Vec<(String, Kind)> {
        self.sources.clone()
    }
}
