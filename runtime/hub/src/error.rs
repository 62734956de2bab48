//! Why something could not be had from the hub, and what to do about it.

use std::fmt;

/// A failed read. Its text says what happened, [`Error::help`] what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A text is not the name of a repository, a revision or a configuration.
    Name { text: String, why: String },
    /// An environment variable holds what cannot be used.
    Setting { name: &'static str, why: String },
    /// The hub is there, what was asked for is not.
    NotFound { what: String },
    /// The hub shows it to some users only.
    NeedsToken { what: String, had_token: bool },
    /// The network may not be used, and the cache does not hold it.
    Offline { what: String },
    /// No answer began in time, or it did not end in time.
    Timeout { host: String },
    /// There is no connection to the host.
    Unreachable { host: String, why: String },
    /// The host asks to be left alone, also after two more tries.
    Busy { host: String, status: u16 },
    /// The answer is not what the API promises.
    BadAnswer { what: String, why: String },
    /// A file is larger than it may be.
    TooLarge { what: String, limit: u64 },
    /// A file of the cache, or the token's, is there and cannot be read.
    Unreadable { path: String, why: String },
    /// A dataset has several configurations, and none is named.
    NeedsConfig { what: String, configs: Vec<String> },
}

impl Error {
    /// Says what to do, as a sentence that starts with a verb.
    pub fn help(&self) -> String {
        match self {
            Error::Name { .. } => "write the source as `hf:owner/name`, as the hub's page of it has them".into(),
            Error::Setting { name, .. } => format!("set {name} to a usable value, or unset it"),
            Error::NotFound { .. } => "compare the name, the revision and the configuration with the hub's page".into(),
            Error::NeedsToken { had_token: false, .. } => {
                "compare the name, accept the terms on the hub's page of it, and set HF_TOKEN to a token that may read it".into()
            }
            Error::NeedsToken { had_token: true, .. } => {
                "accept the terms on the hub's page of it with the account of the token, or use a token that may read it".into()
            }
            Error::Offline { .. } => "unset HF_HUB_OFFLINE, or fill the cache of HF_HOME on a machine with network".into(),
            Error::Timeout { .. } | Error::Busy { .. } => "try again later; what was pinned stays pinned".into(),
            Error::Unreachable { .. } => {
                "connect this machine, set HF_ENDPOINT to a mirror, or fill the cache of HF_HOME elsewhere".into()
            }
            Error::BadAnswer { .. } => "try again; if it stays so, check that HF_ENDPOINT is a hub".into(),
            Error::TooLarge { .. } => "use a local copy of it that was checked by hand".into(),
            Error::Unreadable { .. } => "restore or remove that file".into(),
            Error::NeedsConfig { configs, .. } => match configs.first() {
                Some(first) => format!("choose one, such as `config={first}`"),
                None => "choose one with `config=`".into(),
            },
        }
    }

    /// Whether the hub could not be asked at all, so that the cache may stand in for it.
    pub(crate) fn is_no_network(&self) -> bool {
        matches!(self, Error::Offline { .. } | Error::Timeout { .. } | Error::Unreachable { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name { text, why } => write!(out, "`{text}` {why}"),
            Error::Setting { name, why } => write!(out, "{name} {why}"),
            Error::NotFound { what } => write!(out, "the hub does not have {what}"),
            Error::NeedsToken { what, had_token: false } => {
                write!(out, "{what} does not exist, or is not open to everyone, and there is no token")
            }
            Error::NeedsToken { what, had_token: true } => write!(out, "the token gives no access to {what}"),
            Error::Offline { what } => write!(out, "{what} is not in the cache, and the hub was not asked"),
            Error::Timeout { host } => write!(out, "{host} did not answer in time"),
            Error::Unreachable { host, why } => write!(out, "{host} cannot be reached: {why}"),
            Error::Busy { host, status: 429 } => write!(out, "{host} refuses so many requests (status 429)"),
            Error::Busy { host, status } => write!(out, "{host} is not working (status {status})"),
            Error::BadAnswer { what, why } => write!(out, "the answer about {what} cannot be used: {why}"),
            Error::TooLarge { what, limit } => {
                write!(out, "{what} is larger than {} MiB", limit >> 20)
            }
            Error::Unreadable { path, why } => write!(out, "{path} cannot be read: {why}"),
            Error::NeedsConfig { what, configs } => {
                write!(out, "{what} has the configurations {}, and none is chosen", configs.join(", "))
            }
        }
    }
}

impl std::error::Error for Error {}
