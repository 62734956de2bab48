//! Paths as the facts are keyed by them: joined to the folder of the file, normalised lexically.

/// Returns the folder of a recipe; empty for standard input and for files without a folder.
pub fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        _ if path == "-" => "",
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

/// Joins a path to the folder of the file that holds it and removes `.` and `..` where it can.
pub fn resolve(folder: &str, path: &str) -> String {
    let joined =
        if path.starts_with('/') || folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
    let absolute = joined.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Whether a source lies on the hub or the web, so that only a lock file can tell of it.
pub fn is_remote(source: &str) -> bool {
    source.starts_with("hf:") || source.starts_with("https://") || source.starts_with("http://")
}

/// Returns the key of a remote source in the facts: its text with what pins and narrows it.
pub fn remote_key(source: &str, revision: Option<&str>, config: Option<&str>) -> String {
    let part = |mark: char, text: Option<&str>| text.map(|text| format!("{mark}{text}")).unwrap_or_default();
    format!("{source}{}{}", part('@', revision), part('#', config))
}

/// Whether a source names many files.
pub fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Endings of files, which no name on the hub has.
const FILES: [&str; 14] = [
    "jsonl", "json", "txt", "csv", "tsv", "parquet", "arrow", "gz", "zst", "zip", "xz", "jinja", "kdl", "md",
];

/// Whether a text without a scheme has the form `owner/name` of the hub.
pub fn may_be_on_hub(text: &str) -> bool {
    let Some((owner, name)) = text.split_once('/') else { return false };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part =
        |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(is_legal);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    is_part(owner) && is_part(name) && !FILES.contains(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_normalised() {
        assert_eq!(resolve(folder("recipes/a.kdl"), "../data/x.jsonl"), "data/x.jsonl");
        assert_eq!(resolve(folder("a.kdl"), "./x"), "x");
        assert_eq!(resolve(folder("-"), "../x"), "../x");
        assert_eq!(resolve(folder("a/b.kdl"), ".."), ".");
        assert_eq!(resolve(folder("/r/b.kdl"), "../../x"), "/x");
        assert_eq!(resolve("a", "/x/./y"), "/x/y");
    }
}
