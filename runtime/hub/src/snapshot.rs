//! A revision becomes a commit, and a commit a list of files.

use crate::repo::{Repo, Revision, encode, is_commit};
use crate::{ANSWER, Error, Hub, Result};
use serde_json::Value;

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub(crate) repo: Repo,
    /// The commit: 40 hexadecimal digits.
    pub commit: String,
    pub origin: Origin,
    /// Of the hub: all files; of the cache: those that are there.
    pub files: Vec<RepoFile>,
    /// As the card or the tags have it, such as `apache-2.0`.
    pub licence: Option<String>,
    /// The head of the card, as the API gives it.
    pub(crate) card: Value,
    /// It is what the main branch has now, which is all that the server of rows knows.
    pub(crate) is_head: bool,
}

/// Who said which commit a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The hub, just now.
    Hub,
    /// The cache, because the hub could not be asked.
    Cache,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoFile {
    pub path: String,
    pub bytes: Option<u64>,
}

impl Hub {
    /// Finds the commit that a revision has now, with its files. Without network the cache tells which
    /// commit it had when it was last fetched.
    ///
    /// # Errors
    /// Fails when the hub refuses, or cannot be asked and the cache does not hold it.
    pub fn find(&self, repo: &Repo, revision: &Revision) -> Result<Snapshot> {
        let what = format!("{repo} at `{}`", revision.text());
        let revision_part = encode(revision.text(), b"");
        let url = format!("{}{}/revision/{revision_part}?blobs=true", self.endpoint, repo.api());
        match self.http.get(&url, &what, ANSWER) {
            Ok(answer) => snapshot(repo, revision, &json(&answer.body, &what)?, &what),
            Err(error) if error.is_no_network() => self.find_in_cache(repo, revision).ok_or(error),
            Err(error) => Err(error),
        }
    }

    fn find_in_cache(&self, repo: &Repo, revision: &Revision) -> Option<Snapshot> {
        let commit = self.cache.commit(repo, revision)?;
        Some(Snapshot {
            repo: repo.clone(),
            files: self.cache.files(repo, &commit),
            commit,
            origin: Origin::Cache,
            licence: None,
            card: Value::Null,
            is_head: false,
        })
    }

    /// Reads a file, from the cache when it is there; nothing when the commit has no such file, or when
    /// neither the cache has it nor the hub can be asked.
    pub(crate) fn file(&self, snapshot: &Snapshot, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.cache.read(&snapshot.repo, &snapshot.commit, path, limit)? {
            return Ok(Some(bytes));
        }
        let listed = snapshot.files.iter().find(|file| file.path == path);
        let Some(listed) = listed.filter(|_| snapshot.origin == Origin::Hub) else { return Ok(None) };
        let what = format!("{path} of {}", snapshot.repo);
        if listed.bytes.is_some_and(|bytes| bytes > limit) {
            return Err(Error::TooLarge { what, limit });
        }
        let url = format!("{}{}", self.endpoint, snapshot.repo.file(&snapshot.commit, path));
        let body = self.http.get(&url, &what, limit)?.body;
        match listed.bytes {
            Some(bytes) if bytes != body.len() as u64 => {
                let why = format!("it has {} bytes, and the hub lists {bytes}", body.len());
                Err(Error::BadAnswer { what, why })
            }
            _ => Ok(Some(body)),
        }
    }

    /// Reads a file that must be there.
    pub(crate) fn needed(&self, snapshot: &Snapshot, path: &str, limit: u64) -> Result<Vec<u8>> {
        let what = format!("{path} of {}", snapshot.repo);
        self.file(snapshot, path, limit)?.ok_or(match snapshot.origin {
            Origin::Hub => Error::NotFound { what },
            Origin::Cache => Error::Offline { what },
        })
    }

    /// Reads a file of JSON, if it is there.
    pub(crate) fn json_file(&self, snapshot: &Snapshot, path: &str) -> Result<Option<Value>> {
        let bytes = self.file(snapshot, path, crate::SMALL_FILE)?;
        bytes.map(|bytes| json(&bytes, &format!("{path} of {}", snapshot.repo))).transpose()
    }
}

/// Parses JSON.
pub(crate) fn json(bytes: &[u8], what: &str) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::BadAnswer { what: what.into(), why: format!("it is not JSON: {error}") })
}

fn snapshot(repo: &Repo, revision: &Revision, answer: &Value, what: &str) -> Result<Snapshot> {
    let bad = |why: &str| Error::BadAnswer { what: what.into(), why: why.into() };
    let commit = answer.get("sha").and_then(Value::as_str).filter(|sha| is_commit(sha));
    let commit = commit.ok_or_else(|| bad("it names no commit"))?.to_owned();
    if revision.is_commit() && revision.text() != commit {
        return Err(bad("it is about another commit"));
    }
    let listed = answer.get("siblings").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| bad("it lists no files"))?;
    let mut files: Vec<RepoFile> = listed.iter().filter_map(file).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let card = answer.get("cardData").cloned().unwrap_or_default();
    let licence = licence(&card, answer.get("tags"));
    let is_head = *revision == Revision::main();
    Ok(Snapshot { repo: repo.clone(), commit, origin: Origin::Hub, files, licence, card, is_head })
}

fn file(listed: &Value) -> Option<RepoFile> {
    let path = listed.get("rfilename")?.as_str()?.to_owned();
    let bytes = listed.get("size").or_else(|| listed.pointer("/lfs/size")).and_then(Value::as_u64);
    Some(RepoFile { path, bytes })
}

/// Cards name one licence, several, or `other` with a name of its own.
fn licence(card: &Value, tags: Option<&Value>) -> Option<String> {
    let written = match card.get("license") {
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            Some(names.join(", "))
        }
        _ => {
            let tags = tags.and_then(Value::as_array).into_iter().flatten();
            tags.filter_map(Value::as_str).find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned)
        }
    };
    let named = || card.get("license_name").and_then(Value::as_str).map(str::to_owned);
    written.filter(|name| name != "other").or_else(named).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn licences_stand_in_the_card_or_the_tags() {
        let tags = json!(["pytorch", "license:mit"]);
        let of = |card: Value| licence(&card, Some(&tags));
        assert_eq!(of(json!({"license": "gemma"})).as_deref(), Some("gemma"));
        assert_eq!(of(json!({"license": ["mit", "cc0-1.0"]})).as_deref(), Some("mit, cc0-1.0"));
        assert_eq!(of(json!({"license": "other", "license_name": "falcon"})).as_deref(), Some("falcon"));
        assert_eq!(of(json!({"license": "other"})), None);
        assert_eq!(of(Value::Null).as_deref(), Some("mit"));
        assert_eq!(licence(&Value::Null, None), None);
    }
}
