//! Hashes of data, remembered for as long as the files stay as they are.

use super::files::fingerprint;
use lang::facts::Fingerprint;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes whose hashing takes long enough to be mentioned.
const WORTH_A_WORD: u64 = 1 << 30;

/// Content hashes, remembered by path and fingerprint.
#[derive(Debug, Default)]
pub(super) struct HashMemory {
    file: Option<PathBuf>,
    known: BTreeMap<String, (Fingerprint, String)>,
    changed: bool,
}

impl HashMemory {
    pub(super) fn open(cache: &Path) -> Self {
        let file = cache.join("hashes.json");
        let known =
            fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        HashMemory { file: Some(file), known, changed: false }
    }

    /// Hashes the files whose content is not remembered, several at a time; says so when it takes a while.
    pub(super) fn learn<'a>(&mut self, paths: impl Iterator<Item = &'a str>) {
        let unknown: Vec<(&str, String, Fingerprint)> = paths
            .filter_map(|path| {
                let print = fingerprint(Path::new(path)).ok()?;
                let absolute = fs::canonicalize(path).ok()?.display().to_string();
                let known = self.known.get(&absolute).is_some_and(|(known, _)| *known == print);
                (!known).then_some((path, absolute, print))
            })
            .collect();
        let bytes: u64 = unknown.iter().map(|(_, _, print)| print.bytes).sum();
        if bytes > WORTH_A_WORD {
            crate::terminal::say(format_args!(
                "hashing {} files, {}",
                unknown.len(),
                crate::text::bytes(bytes)
            ));
        }
        let hashed: Vec<_> = unknown
            .into_par_iter()
            .filter_map(|(path, absolute, print)| {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(fs::File::open(path).ok()?).ok()?;
                Some((absolute, (print, hasher.finalize().to_hex().to_string())))
            })
            .collect();
        self.changed |= !hashed.is_empty();
        self.known.extend(hashed);
    }

    /// Returns the hash of a file that was learnt and has not changed since.
    pub(super) fn of(&self, path: &str) -> Option<String> {
        let print = fingerprint(Path::new(path)).ok()?;
        let absolute = fs::canonicalize(path).ok()?.display().to_string();
        self.known.get(&absolute).filter(|(known, _)| *known == print).map(|(_, hash)| hash.clone())
    }

    /// Writes the memory under a temporary name and renames it: two processes may do so at once.
    pub(super) fn save(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.changed) else { return };
        let Some(folder) = file.parent() else { return };
        let temporary = folder.join(format!(".hashes.{}", std::process::id()));
        // Losing the memory costs a second hashing, nothing else.
        let written = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&temporary, serde_json::to_vec(&self.known).unwrap_or_default()))
            .and_then(|()| fs::rename(&temporary, file));
        self.changed = written.is_err();
    }
}
