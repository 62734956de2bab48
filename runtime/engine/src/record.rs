//! Result records: what a finished task made, and how to see whether it is still there untouched.

use crate::disk;
use crate::error::{EngineError, Result};
use crate::report::Summary;
use plan::task::Key;
use plan::work::Prepared;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Name of the file in a task's folder.
pub const NAME: &str = "result.json";

/// What `result.json` holds. It is written last: where it is, the task is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub task: String,
    pub key: Key,
    pub numerics: u32,
    /// Where the result lies: relative to the run folder when it is inside.
    pub path: PathBuf,
    /// Facts that lowering wants from this task.
    pub yields: Yields,
    pub files: Vec<FileStamp>,
    pub summary: Summary,
}

/// Facts that a task yields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Prepared>,
    /// Rows that an embedding needs for a tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<u64>,
}

/// A file as it was when the task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Relative to the result; empty when the result is the file itself.
    pub name: String,
    pub bytes: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
}

impl Record {
    /// Reads the record of a task's folder; `None` when there is none or it is not one of this version.
    pub fn read(folder: &Path) -> Option<Record> {
        let text = std::fs::read_to_string(folder.join(NAME)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes the record into a task's folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| EngineError::io("create folder", folder, &e))?;
        let text =
            serde_json::to_string_pretty(self).map_err(|e| EngineError::plan(format!("record: {e}")))?;
        disk::write_file(&folder.join(NAME), format!("{text}\n").as_bytes())
    }

    /// Returns the first file that is gone or was changed since, with what happened to it.
    pub fn changed(&self, result: &Path) -> Option<String> {
        self.files.iter().find_map(|stamp| {
            let path = if stamp.name.is_empty() { result.to_owned() } else { result.join(&stamp.name) };
            match stamp_of(&path, &stamp.name) {
                Err(_) => Some(format!("{} is gone", path.display())),
                Ok(now) if now != *stamp => Some(format!("{} was changed", path.display())),
                Ok(_) => None,
            }
        })
    }
}

/// Returns the stamps of a file, or of all files of a folder.
pub fn stamps(result: &Path) -> Result<Vec<FileStamp>> {
    let mut found = Vec::new();
    collect(result, "", &mut found)?;
    Ok(found)
}

fn collect(path: &Path, name: &str, found: &mut Vec<FileStamp>) -> Result<()> {
    if !path.is_dir() {
        found.push(stamp_of(path, name).map_err(|e| EngineError::io("read", path, &e))?);
        return Ok(());
    }
    for entry in disk::list(path)? {
        let own = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if name.is_empty() { own } else { format!("{name}/{own}") };
        collect(&entry, &name, found)?;
    }
    Ok(())
}

fn stamp_of(path: &Path, name: &str) -> std::io::Result<FileStamp> {
    let metadata = std::fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    Ok(FileStamp { name: name.to_owned(), bytes: metadata.len(), modified })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edited_and_missing_files_are_noticed() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let result = place.path().join("model");
        std::fs::create_dir_all(result.join("more")).expect("created");
        std::fs::write(result.join("config.json"), "{}").expect("written");
        std::fs::write(result.join("more/a"), "a").expect("written");
        let record = Record {
            task: "chat".into(),
            key: Key("k".into()),
            numerics: 1,
            path: "chat/model".into(),
            yields: Yields::default(),
            files: stamps(&result).expect("read"),
            summary: Summary::default(),
        };
        record.write(place.path()).expect("written");
        assert_eq!(Record::read(place.path()), Some(record.clone()));
        assert_eq!(record.changed(&result), None);
        std::fs::write(result.join("unknown"), "new files do not matter").expect("written");
        assert_eq!(record.changed(&result), None);
        std::fs::write(result.join("config.json"), "{ }").expect("written");
        assert!(record.changed(&result).expect("changed").ends_with("config.json was changed"));
        std::fs::remove_file(result.join("config.json")).expect("removed");
        assert!(record.changed(&result).expect("changed").ends_with("config.json is gone"));
    }
}
