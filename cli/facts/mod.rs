//! Gathers facts: looks at the disk and the machine for what the compiler would like to know.
//!
//! `check` reads small files only: it never hashes data and never parses a large tokenizer.json.

mod files;
mod hardware;
mod hashes;
mod model;
mod rows;
mod tokenizer;

pub use hardware::hardware;
pub use tokenizer::tokenizer_of;

use crate::machine;
use crate::resolve::Resolver;
use files::look_at;
use hashes::HashMemory;
use lang::facts::{Facts, HardwareFact, PathFact, Rates, Want};
use lang::lock::Lock;
use model::model;
use rows::rows;
use std::fs;
use std::path::{Path, PathBuf};
use tokenizer::tokenizer;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// For `check`: small files, no hashing.
    Quick,
    /// For `plan` and `run`: everything, contents hashed.
    Full,
}

/// Fills wants into facts; what cannot be had is recorded as such, so that nothing is asked twice.
pub struct Gatherer {
    depth: Depth,
    hashes: HashMemory,
    asked: std::collections::BTreeSet<Want>,
    lock: Lock,
    resolver: Option<Resolver>,
    /// Where what this machine reaches is remembered.
    cache: Option<PathBuf>,
    /// Threads that a run has.
    threads: usize,
}

impl Gatherer {
    /// Makes a gatherer for a quick look.
    pub fn quick() -> Self {
        Gatherer {
            depth: Depth::Quick,
            hashes: HashMemory::default(),
            asked: Default::default(),
            lock: Lock::default(),
            resolver: None,
            cache: None,
            threads: machine::threads(),
        }
    }

    /// Lets a quick look use what is remembered of this machine.
    pub fn remembering(self, cache: &Path) -> Self {
        Gatherer { cache: Some(cache.to_owned()), ..self }
    }

    /// Makes a gatherer that gets everything; content hashes are remembered in the cache by fingerprint.
    pub fn full(cache: &Path) -> Self {
        Gatherer {
            depth: Depth::Full,
            hashes: HashMemory::open(cache),
            asked: Default::default(),
            lock: Lock::default(),
            resolver: None,
            cache: Some(cache.to_owned()),
            threads: machine::threads(),
        }
    }

    /// Takes this machine to have so many threads, where a run is told how many.
    pub fn with_threads(self, told: Option<usize>) -> Self {
        Gatherer { threads: machine::threads_of(told), ..self }
    }

    /// Asks the hub for what the lock file lacks.
    pub fn resolving(mut self, resolver: Option<Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Gives the resolver back, to save what it pinned.
    pub fn into_resolver(self) -> Option<Resolver> {
        self.resolver
    }

    /// Reads the lock file beside a recipe, if there is one.
    ///
    /// # Errors
    /// Says in words why a lock file that is there cannot be used.
    pub fn open_lock(&mut self, recipe: &str) -> Result<(), String> {
        let path = lang::paths::resolve(lang::paths::folder(recipe), lang::lock::FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                self.lock = Lock::read(&text).map_err(|why| format!("{path} cannot be used: {why}"))?;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(format!("{path} cannot be read: {error}")),
        }
    }

    /// Fills what can be had; returns whether anything is new.
    pub fn fill(&mut self, wants: &[Want], facts: &mut Facts) -> bool {
        let mut news = false;
        if self.depth == Depth::Full {
            self.hashes.learn(wants.iter().filter_map(|want| match want {
                Want::Hash(path) => Some(path.as_str()),
                _ => None,
            }));
        }
        if let Some(resolver) = &mut self.resolver {
            resolver.pin(wants, &mut self.lock);
        }
        for want in wants {
            if self.asked.insert(want.clone()) {
                news |= self.fill_one(want, facts);
            }
        }
        self.hashes.save();
        news
    }

    fn fill_one(&mut self, want: &Want, facts: &mut Facts) -> bool {
        crate::terminal::detail(|| said(want));
        if remote(want) {
            return self.lock.fill(want, facts);
        }
        match want {
            Want::Path(path) => {
                facts.paths.insert(path.clone(), look_at(path));
                true
            }
            Want::Model(path) => {
                facts.models.insert(path.clone(), model(path));
                true
            }
            Want::Tokenizer(path) => match tokenizer(path, self.depth) {
                Some(fact) => {
                    facts.tokenizers.insert(path.clone(), fact);
                    true
                }
                None => false,
            },
            Want::Rows(path) => {
                facts.rows.insert(path.clone(), rows(path));
                true
            }
            Want::Text(path) => match fs::read_to_string(path) {
                Ok(text) => {
                    facts.texts.insert(path.clone(), text);
                    true
                }
                Err(error) => {
                    // A file that is there and gives no text is not UTF-8, or closed to this user.
                    let fact = match look_at(path) {
                        PathFact::File(_) => PathFact::Unreadable(error.to_string()),
                        fact => fact,
                    };
                    facts.paths.insert(path.clone(), fact);
                    true
                }
            },
            Want::Hash(path) => match self.depth {
                Depth::Quick => false,
                Depth::Full => match self.hashes.of(path) {
                    Some(hash) => {
                        facts.hashes.insert(path.clone(), hash);
                        true
                    }
                    None => false,
                },
            },
            Want::Hardware => {
                let threads = self.threads as u32;
                facts.hardware = Some(HardwareFact { rates: self.rates(), threads, ..hardware() });
                true
            }
        }
    }

    /// Returns what this machine reaches: as remembered, else, where there is time for it, as measured now.
    fn rates(&self) -> Option<Rates> {
        let cache = self.cache.as_deref()?;
        match self.depth {
            Depth::Quick => machine::remembered(cache, self.threads),
            Depth::Full => Some(machine::rates(cache, self.threads)),
        }
    }
}

/// Says what is looked at.
fn said(want: &Want) -> String {
    match want {
        Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) | Want::Path(key) | Want::Hash(key)
            if remote(want) =>
        {
            format!("looks into adapt.lock for {key}")
        }
        Want::Path(path) => format!("looks for {path}"),
        Want::Model(path) => format!("reads the config and headers of {path}"),
        Want::Tokenizer(path) => format!("reads the tokenizer of {path}"),
        Want::Rows(path) => format!("reads the first rows of {path}"),
        Want::Text(path) => format!("reads {path}"),
        Want::Hash(path) => format!("needs the hash of {path}"),
        Want::Hardware => "looks at this machine".into(),
    }
}

/// Whether a want is about something that lies elsewhere, of which only a lock file can tell.
pub fn remote(want: &Want) -> bool {
    match want {
        Want::Model(key) | Want::Tokenizer(key) | Want::Rows(key) | Want::Path(key) | Want::Hash(key) => {
            lang::paths::is_remote(key)
        }
        Want::Text(_) | Want::Hardware => false,
    }
}
