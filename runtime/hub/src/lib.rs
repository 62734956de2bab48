//! What the Hugging Face hub says about models, tokenizers and datasets, without fetching weights or rows.
//!
//! A name and a revision become a [`Snapshot`], which is one commit; everything else is read at that commit.
//! Files that lie in the cache of the Python libraries are read there, so that a machine without network
//! can say as much as its cache holds. Nothing is ever written, and the token goes to the endpoint alone.

mod cache;
mod dataset;
mod error;
mod http;
mod model;
mod repo;
mod settings;
mod snapshot;
mod tokenizer;

pub use dataset::Dataset;
pub use error::Error;
pub use model::{Model, bytes_of};
pub use repo::{Kind, Repo, Revision};
pub use settings::{Settings, Token};
pub use snapshot::{Origin, RepoFile, Snapshot};
pub use tokenizer::Tokenizer;

use cache::Cache;
use http::Http;

/// What reading from the hub gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Largest config.json, and every other small file.
pub const SMALL_FILE: u64 = 16 << 20;

/// Largest tokenizer.json.
pub const TOKENIZER_FILE: u64 = 256 << 20;

/// Largest answer of an API: a list of a hundred thousand files fits.
const ANSWER: u64 = 64 << 20;

/// The hub, as one user of one machine reaches it.
#[derive(Debug)]
pub struct Hub {
    http: Http,
    cache: Cache,
    endpoint: String,
    rows_server: String,
}

impl Hub {
    /// Prepares to ask; nothing is sent yet.
    ///
    /// # Errors
    /// Fails when a setting is not usable, such as an endpoint without TLS that is not this machine.
    pub fn new(settings: Settings) -> Result<Self> {
        let http = Http::new(&settings)?;
        let cache = Cache::new(settings.cache);
        let trim = |url: &str| url.trim_end_matches('/').to_owned();
        let (endpoint, rows_server) = (trim(&settings.endpoint), trim(&settings.rows_server));
        Ok(Hub { http, cache, endpoint, rows_server })
    }
}
