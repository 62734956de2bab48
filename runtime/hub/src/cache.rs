//! The cache of the Python libraries, read only: `models--owner--name/{refs,snapshots/<commit>}`.

use crate::repo::{Repo, Revision, is_commit};
use crate::{Error, RepoFile, Result};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A cache, if this machine has a place for one.
#[derive(Debug)]
pub(crate) struct Cache(Option<PathBuf>);

impl Cache {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Cache(folder)
    }

    /// Returns the commit that a revision had when the cache was filled, when files of it are there.
    pub fn commit(&self, repo: &Repo, revision: &Revision) -> Option<String> {
        let folder = self.0.as_ref()?.join(repo.folder());
        let commit = match revision.is_commit() {
            true => revision.text().to_owned(),
            false => fs::read_to_string(folder.join("refs").join(revision.text())).ok()?.trim().to_owned(),
        };
        (is_commit(&commit) && folder.join("snapshots").join(&commit).is_dir()).then_some(commit)
    }

    /// Returns the files of a commit that are there, sorted by path.
    pub fn files(&self, repo: &Repo, commit: &str) -> Vec<RepoFile> {
        let mut files = Vec::new();
        if let Some(folder) = self.snapshot(repo, commit) {
            collect(&folder, "", &mut files);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Reads a file of a commit; nothing when it is not there.
    ///
    /// # Errors
    /// Fails when it is there and cannot be read, or is larger than `limit`.
    pub fn read(&self, repo: &Repo, commit: &str, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.snapshot(repo, commit).map(|folder| folder.join(path)) else { return Ok(None) };
        let unreadable = |error: std::io::Error| Error::Unreadable {
            path: file.display().to_string(),
            why: error.to_string(),
        };
        let reader = match fs::File::open(&file) {
            Ok(reader) => reader,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mut bytes = Vec::new();
        reader.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: file.display().to_string(), limit });
        }
        Ok(Some(bytes))
    }

    fn snapshot(&self, repo: &Repo, commit: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(repo.folder()).join("snapshots").join(commit))
    }
}

/// Lists a folder and those in it. Snapshots are links to blobs, so links are followed for sizes, but
/// folders only when they are real ones: a link to a folder above would never end.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<RepoFile>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        match (entry.file_type(), fs::metadata(entry.path())) {
            (Ok(kind), _) if kind.is_dir() => collect(&entry.path(), &format!("{path}/"), files),
            (Ok(_), Ok(meta)) if meta.is_file() => files.push(RepoFile { path, bytes: Some(meta.len()) }),
            _ => {}
        }
    }
}
