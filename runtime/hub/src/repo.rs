//! Names of repositories and revisions, checked before they become parts of addresses and paths.

use crate::{Error, Result};
use std::fmt;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Models, and tokenizers of their own.
    Model,
    Dataset,
}

impl Kind {
    /// The plural that addresses and cache folders have.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }
}

/// A repository by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repo {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

impl Repo {
    /// Makes one of `owner/name`, or of a name alone, which a few old models have.
    ///
    /// # Errors
    /// Fails on what the hub would not accept as a name.
    pub fn new(kind: Kind, id: &str) -> Result<Self> {
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() <= 2 && parts.iter().all(|part| is_name(part)) {
            return Ok(Repo { kind, id: id.to_owned() });
        }
        Err(Error::Name { text: id.to_owned(), why: "is not the name of a repository".into() })
    }

    /// Returns the folder of the repository in a cache.
    pub(crate) fn folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// Returns where the API tells about it, from the endpoint on.
    pub(crate) fn api(&self) -> String {
        format!("/api/{}/{}", self.kind.plural(), self.id)
    }

    /// Returns where a file of a commit lies, from the endpoint on.
    pub(crate) fn file(&self, commit: &str, path: &str) -> String {
        let folder = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "/datasets",
        };
        format!("{folder}/{}/resolve/{commit}/{}", self.id, encode(path, b"/"))
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "model",
            Kind::Dataset => "dataset",
        };
        write!(out, "{kind} `{}`", self.id)
    }
}

/// The hub's rule: letters, digits, `-`, `_`, `.`, but no `--` and no `..`, which its folders use.
fn is_name(part: &str) -> bool {
    let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let doubled = part.contains("--") || part.contains("..");
    plain && !doubled && (1..=96).contains(&part.len()) && !part.starts_with(['.', '-'])
}

/// A branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// Makes one of a text.
    ///
    /// # Errors
    /// Fails on what git does not accept either.
    pub fn new(text: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+/=".contains(&byte);
        let parts_are_names = text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if text.bytes().all(plain) && parts_are_names && !text.contains("..") && text.len() <= 256 {
            return Ok(Revision(text.to_owned()));
        }
        Err(Error::Name { text: text.to_owned(), why: "is not a branch, a tag or a commit".into() })
    }

    /// The branch that is meant when nothing is said.
    pub fn main() -> Self {
        Revision("main".into())
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it is a whole commit, which nothing can move.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

/// Whether a text is a whole commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Writes a text as a part of an address; `also` are further bytes that stay as they are.
pub(crate) fn encode(text: &str, also: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_place_are_refused() {
        for good in ["gpt2", "openai-community/gpt2", "BramVanroy/ultra_feedback_dutch", "o/m.1"] {
            assert!(Repo::new(Kind::Model, good).is_ok(), "{good}");
        }
        for bad in
            ["", "o/", "/m", "o/m/x", "../m", "o/..", "o/a--b", "o/a b", "o/a?b", "o/a#b", "o/é", "o/.git"]
        {
            assert!(Repo::new(Kind::Model, bad).is_err(), "{bad}");
        }
        for good in ["main", "v1.0", "refs/pr/3", "refs/convert/parquet"] {
            assert!(Revision::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a/../b", "..", "/a", "a/", "a b", "a\nb", "a?b", "a%2e"] {
            assert!(Revision::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_whole_hash_is_a_commit() {
        assert!(Revision::new(&"0a".repeat(20)).expect("sound").is_commit());
        assert!(!Revision::new(&"0a".repeat(19)).expect("sound").is_commit());
        assert!(!Revision::new(&"0g".repeat(20)).expect("sound").is_commit());
    }

    #[test]
    fn addresses_are_encoded() {
        let repo = Repo::new(Kind::Dataset, "o/d").expect("sound");
        assert_eq!(repo.file("c", "a b/ü.json"), "/datasets/o/d/resolve/c/a%20b/%C3%BC.json");
        assert_eq!(encode("refs/pr/1", b""), "refs%2Fpr%2F1");
    }
}
