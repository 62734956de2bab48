//! The texts that mutation begins with.

use std::path::{Path, PathBuf};

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder whose names end so, sorted; nothing when there is no such folder.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Reads all files below a folder whose names end so.
pub fn texts(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    files(folder, ending).iter().map(|path| std::fs::read(path).expect("a seed is readable")).collect()
}

/// The gallery.
pub fn gallery() -> Vec<Vec<u8>> {
    texts(&root().join("recipes"), ".kdl")
}

/// The cases of `tests/ui`.
pub fn cases() -> Vec<Vec<u8>> {
    texts(&root().join("tests/ui"), ".kdl")
}
