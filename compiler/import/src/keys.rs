//! The keys that a tool really has, with the reason to give when one has no counterpart.

/// Keys that share a reason. A nested key is written with its parents, lists as `[]`.
pub(crate) struct Group {
    pub why: &'static str,
    /// Separated by white space.
    pub keys: &'static str,
}

/// A tool whose files are read.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub name: &'static str,
    pub groups: &'static [Group],
    /// Words of other tools and older versions, with the key that does it here.
    pub synonyms: &'static [(&'static str, &'static str)],
}

impl Tool {
    /// Returns why a key has no counterpart; nothing when the tool does not have the key.
    pub fn why(&self, path: &str) -> Option<&'static str> {
        let path = pattern(path);
        let has = |group: &&Group| group.keys.split_ascii_whitespace().any(|key| key == path);
        self.groups.iter().find(has).map(|group| group.why)
    }

    /// Whether the tool has a key.
    pub fn knows(&self, path: &str) -> bool {
        self.why(path).is_some() || self.opens(path)
    }

    /// Whether the table lists keys below a key.
    pub fn opens(&self, path: &str) -> bool {
        let path = pattern(path);
        self.keys().any(|key| {
            key.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
        })
    }

    /// Whether a word is one of the tool's keys at any level.
    pub fn has_word(&self, word: &str) -> bool {
        self.keys().any(|key| key.rsplit('.').next() == Some(word))
    }

    /// Says that the tool does not know a key, and which of its keys is nearest.
    pub fn unknown(&self, path: &str) -> String {
        let path = pattern(path);
        let (parent, word) = path.rsplit_once('.').unwrap_or(("", &path));
        let tool = self.name;
        match self.nearest(parent, word) {
            Some(near) => format!("{tool} has no such key, so it never acted; the nearest is `{near}`"),
            None => format!("{tool} has no such key, so it never acted"),
        }
    }

    /// Returns the nearest key: beside it, else anywhere.
    fn nearest(&self, parent: &str, word: &str) -> Option<&'static str> {
        if let Some((_, near)) = self.synonyms.iter().find(|(other, _)| *other == word) {
            return Some(near);
        }
        let siblings =
            self.keys().filter(|key| key.rsplit_once('.').map_or("", |(parent, _)| parent) == parent);
        let near = |keys: &mut dyn Iterator<Item = &'static str>, limit: f64| {
            keys.filter(|key| !key.ends_with("[]"))
                .map(|key| (distance(word, last(key)), key))
                .filter(|(distance, _)| *distance <= limit)
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, key)| key)
        };
        near(&mut siblings.into_iter(), 0.36).map(last).or_else(|| near(&mut self.keys(), 0.2))
    }

    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.groups.iter().flat_map(|group| group.keys.split_ascii_whitespace())
    }
}

fn last(key: &'static str) -> &'static str {
    key.rsplit('.').next().unwrap_or(key)
}

/// How far two words are apart, from 0 (equal) to 1; words that share a beginning count as nearer.
fn distance(word: &str, key: &str) -> f64 {
    if word.len() > 64 {
        return 1.0;
    }
    let shared = word.split('_').filter(|part| part.len() > 2 && key.split('_').any(|other| other == *part));
    let edits = 1.0 - strsim::normalized_damerau_levenshtein(word, key);
    edits - 0.08 * shared.count() as f64
}

/// Replaces list positions: `datasets[3].type` becomes `datasets[].type`.
pub(crate) fn pattern(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('[') {
        out += &rest[..at];
        match rest[at..].find(']') {
            Some(end) => {
                out += "[]";
                rest = &rest[at + end + 1..];
            }
            None => return out + &rest[at..],
        }
    }
    let out = out + rest;
    // The number of a document stands before its keys.
    out.strip_prefix("[].").map(str::to_owned).unwrap_or(out)
}
