//! Embeds the gallery: the recipes of `recipes/` with their lock files and the data that lies beside them.

use std::path::{Path, PathBuf};

/// Endings of what belongs to a recipe; how the data was made does not.
const ENDINGS: [&str; 4] = ["kdl", "lock", "jsonl", "tsv"];

fn main() {
    println!("cargo::rerun-if-changed=recipes");
    println!("cargo::rerun-if-changed=cli/build.rs");
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("recipes");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let entries: String = files.iter().map(|path| entry(&root, path)).collect();
    let text = format!(
        "/// Every file of the gallery: its path in `recipes/`, with `/`, and its bytes; sorted.\nstatic FILES: &[(&str, &[u8])] = &[{entries}];\n"
    );
    let out = Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("gallery.rs");
    std::fs::write(out, text).expect("the build folder can be written");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() {
            collect(&path, files);
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(path);
        }
    }
}

fn entry(root: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(root).expect("it was found below");
    let parts: Vec<&str> =
        inner.components().map(|part| part.as_os_str().to_str().expect("names are UTF-8")).collect();
    format!("({:?}, include_bytes!({:?})), ", parts.join("/"), path.display().to_string())
}
