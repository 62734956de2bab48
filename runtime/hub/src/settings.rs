//! Where the hub is, who asks, and whether the network may be used: the environment, read once.

use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the environment says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub: `HF_ENDPOINT`.
    pub endpoint: String,
    /// The server that tells rows and columns of datasets: `HF_DATASETS_SERVER`.
    pub rows_server: String,
    /// `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<Token>,
    /// The hub's cache: `HF_HUB_CACHE`, or `hub` in `HF_HOME`; none when there is no home folder either.
    pub cache: Option<PathBuf>,
    /// Send nothing: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// For a connection, and for an answer to begin.
    pub timeout: Duration,
    /// For the rest of an answer.
    pub body_timeout: Duration,
    /// Before the first of two more tries; the second waits twice as long.
    pub backoff: Duration,
}

/// A secret: it has no text form.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Makes a token of a text.
    ///
    /// # Errors
    /// Fails when it has characters that no token has, without repeating it.
    pub fn new(text: &str) -> Result<Self> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let why = "holds characters that no token has".into();
        if is_plain { Ok(Token(text.into())) } else { Err(Error::Setting { name: "HF_TOKEN", why }) }
    }

    /// Returns the header's value; only the client may ask for it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

impl Settings {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// Fails when the token is not one, or its file cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(&|name| std::env::var(name).ok())
    }

    /// Reads variables as `var` gives them; an empty one counts as unset.
    ///
    /// # Errors
    /// See [`Settings::from_env`].
    pub fn from_vars(var: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| var(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let folder = |name: &str| set(name).map(|text| expand(&text, set("HOME")));
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(Path::new(&set("HOME")?).join(".cache")));
        let home = folder("HF_HOME").or_else(|| Some(caches?.join("huggingface")));
        let token_file = folder("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
        let token = match set("HF_TOKEN") {
            Some(text) => Some(Token::new(&text)?),
            None => token_file.map_or(Ok(None), |path| token_in(&path))?,
        };
        Ok(Settings {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            rows_server: set("HF_DATASETS_SERVER")
                .unwrap_or_else(|| "https://datasets-server.huggingface.co".into()),
            token,
            cache: folder("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))),
            offline: set("HF_HUB_OFFLINE").is_some_and(|text| is_true(&text)),
            timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(300),
            backoff: Duration::from_millis(500),
        })
    }
}

/// What the Python libraries take as yes.
fn is_true(text: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&text.to_ascii_uppercase().as_str())
}

fn expand(text: &str, home: Option<String>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

fn token_in(path: &Path) -> Result<Option<Token>> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Token::new(text.trim()).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Unreadable { path: path.display().to_string(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_vars(&|name| vars.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).into()))
    }

    #[test]
    fn nothing_set_means_the_public_hub_and_the_home_folder() {
        let settings =
            read(&[("HOME", "/home/ana"), ("HF_ENDPOINT", ""), ("HF_HUB_OFFLINE", "0")]).expect("sound");
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache, Some("/home/ana/.cache/huggingface/hub".into()));
        assert!(!settings.offline && settings.token.is_none());
    }

    #[test]
    fn the_nearest_variable_says_where_the_cache_is() {
        let cache = |vars: &[_]| read(vars).expect("sound").cache.expect("a place").display().to_string();
        let home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), home]), "/h/hf/hub");
        assert_eq!(cache(&[("HOME", "/h"), home, ("HF_HUB_CACHE", "/c")]), "/c");
    }

    #[test]
    fn tokens_come_from_the_variable_or_the_file_and_are_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("plain").to_owned();
        std::fs::write(folder.path().join("token"), "hf_file\n").expect("written");
        let of_file = read(&[("HF_HOME", &home)]).expect("sound");
        assert_eq!(of_file.token, Some(Token("hf_file".into())));
        let of_variable = read(&[("HF_HOME", &home), ("HF_TOKEN", " hf_var ")]).expect("sound");
        assert_eq!(of_variable.token, Some(Token("hf_var".into())));
        assert!(!format!("{of_variable:?}").contains("hf_var"));
        let error = read(&[("HF_TOKEN", "hf_a\nb")]).expect_err("two lines");
        assert!(!error.to_string().contains("hf_a") && !format!("{error:?}").contains("hf_a"));
    }

    #[test]
    fn offline_takes_the_words_of_the_python_libraries() {
        for (text, offline) in
            [("1", true), ("true", true), ("Yes", true), ("on", true), ("0", false), ("no", false)]
        {
            assert_eq!(read(&[("HF_HUB_OFFLINE", text)]).expect("sound").offline, offline, "{text}");
        }
    }
}
