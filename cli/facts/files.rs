//! Files and folders: whether they are there, and what changes when they do.

use lang::facts::{Fingerprint, PathFact};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) fn fingerprint(path: &Path) -> std::io::Result<Fingerprint> {
    let meta = fs::metadata(path)?;
    let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(Fingerprint { bytes: meta.len(), modified, inode: meta.ino() })
}

pub(super) fn look_at(path: &str) -> PathFact {
    if path.contains(['*', '?', '[']) {
        return look_at_glob(path);
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => PathFact::Missing,
        Err(error) => PathFact::Unreadable(error.to_string()),
        Ok(meta) if meta.is_dir() => look_at_folder(path),
        Ok(_) => match fingerprint(Path::new(path)) {
            Ok(print) => PathFact::File(print),
            Err(error) => PathFact::Unreadable(error.to_string()),
        },
    }
}

/// Data files lie directly in a folder; hidden files, other kinds of files and inner folders are not data.
fn look_at_folder(path: &str) -> PathFact {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return PathFact::Unreadable(error.to_string()),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<(String, Fingerprint)> = names
        .filter(|name| {
            !name.starts_with('.') && [".jsonl", ".json", ".txt"].iter().any(|end| name.ends_with(end))
        })
        .map(|name| format!("{}/{name}", path.trim_end_matches('/')))
        .filter_map(|file| fingerprint(Path::new(&file)).ok().map(|print| (file, print)))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    PathFact::Many(files)
}

fn look_at_glob(pattern: &str) -> PathFact {
    let found = match glob::glob(pattern) {
        Ok(found) => found,
        Err(error) => return PathFact::Unreadable(error.to_string()),
    };
    let mut files: Vec<(String, Fingerprint)> = found
        .flatten()
        .filter(|path| path.is_file())
        .filter_map(|path| Some((path.to_str()?.to_owned(), fingerprint(&path).ok()?)))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    if files.is_empty() { PathFact::Missing } else { PathFact::Many(files) }
}

pub(super) fn json(path: &Path) -> Result<Option<Value>, String> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("{} is not JSON: {error}", path.display())),
        },
    }
}
