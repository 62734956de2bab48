//! Requests: limits, time, redirects, further tries, and the token, which goes to the endpoint alone.

use crate::settings::{Settings, Token};
use crate::{Error, Result};
use std::io::Read;
use std::time::Duration;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

/// Redirects that are followed.
const HOPS: usize = 8;

/// Tries after the first.
const MORE_TRIES: u32 = 2;

/// The longest wait that a host may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Http {
    agent: Agent,
    endpoint: Uri,
    /// The endpoint is a server on this machine without TLS, as in tests.
    is_local: bool,
    token: Option<Token>,
    offline: bool,
    backoff: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub body: Vec<u8>,
    /// The commit that a server of rows talks about.
    pub revision: Option<String>,
}

/// Why a try failed, and whether another may help.
enum Fault {
    Final(Error),
    Passing(Error, Option<Duration>),
}

impl Http {
    pub fn new(settings: &Settings) -> Result<Self> {
        let endpoint = usable(&settings.endpoint, "HF_ENDPOINT")?;
        usable(&settings.rows_server, "HF_DATASETS_SERVER")?;
        let is_local = endpoint.scheme_str() == Some("http");
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("adapt/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_send_request(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_recv_body(Some(settings.body_timeout));
        if is_local {
            config = config.proxy(None);
        }
        Ok(Http {
            agent: config.build().new_agent(),
            endpoint,
            is_local,
            token: settings.token.clone(),
            offline: settings.offline,
            backoff: settings.backoff,
        })
    }

    /// Gets an address. `what` names it in errors: "the model `o/m`".
    ///
    /// # Errors
    /// Every [`Error`] but those of the cache.
    pub fn get(&self, url: &str, what: &str, limit: u64) -> Result<Answer> {
        if self.offline {
            return Err(Error::Offline { what: what.into() });
        }
        let mut tries = 0;
        loop {
            match self.follow(url, what, limit) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Passing(_, wait)) if tries < MORE_TRIES => {
                    std::thread::sleep(wait.unwrap_or(self.backoff * 2u32.pow(tries)).min(LONGEST_WAIT));
                    tries += 1;
                }
                Err(Fault::Final(error) | Fault::Passing(error, _)) => return Err(error),
            }
        }
    }

    /// One try. A redirect may leave the endpoint; from then on there is no token, also if it comes back.
    fn follow(&self, url: &str, what: &str, limit: u64) -> std::result::Result<Answer, Fault> {
        let bad = |why: &str| Fault::Final(Error::BadAnswer { what: what.into(), why: why.into() });
        let mut uri: Uri = url.parse().map_err(|_| bad("its address is not one"))?;
        let mut is_home = true;
        for _ in 0..=HOPS {
            if !self.may_ask(&uri) {
                return Err(bad(&format!("it redirects to {}, which is not https", host(&uri))));
            }
            is_home &= same_origin(&uri, &self.endpoint);
            let response = self.send(&uri, is_home).map_err(|error| fault(error, &uri, what))?;
            if !(300..400).contains(&response.status().as_u16()) {
                return self.read(response, &uri, what, limit, is_home);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            uri = location
                .and_then(|location| join(&uri, location))
                .ok_or_else(|| bad("it redirects to nowhere"))?;
        }
        Err(bad("it redirects too often"))
    }

    fn may_ask(&self, uri: &Uri) -> bool {
        uri.scheme_str() == Some("https") || self.is_local && is_loopback(uri)
    }

    fn send(&self, uri: &Uri, with_token: bool) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(uri.clone());
        if let Some(token) = self.token.as_ref().filter(|_| with_token) {
            request = request.header("authorization", token.bearer());
        }
        request.call()
    }

    fn read(
        &self,
        response: Response<Body>,
        uri: &Uri,
        what: &str,
        limit: u64,
        is_home: bool,
    ) -> std::result::Result<Answer, Fault> {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let what = what.to_owned();
        match response.status().as_u16() {
            200 => {}
            // Elsewhere no token was shown, so nothing is said of it.
            401 | 403 if is_home => {
                return Err(Fault::Final(Error::NeedsToken { what, had_token: self.token.is_some() }));
            }
            404 => return Err(Fault::Final(Error::NotFound { what })),
            status @ (408 | 429 | 500 | 502 | 503 | 504) => {
                let wait = header("retry-after").and_then(|text| text.trim().parse().ok());
                return Err(Fault::Passing(
                    Error::Busy { host: host(uri), status },
                    wait.map(Duration::from_secs),
                ));
            }
            status => {
                let why = format!("{} gave status {status}", host(uri));
                return Err(Fault::Final(Error::BadAnswer { what, why }));
            }
        }
        let revision = header("x-revision").map(str::to_owned);
        if response.body().content_length().is_some_and(|length| length > limit) {
            return Err(Fault::Final(Error::TooLarge { what, limit }));
        }
        let mut body = Vec::new();
        let read = response.into_body().into_reader().take(limit + 1).read_to_end(&mut body);
        read.map_err(|error| fault(error.into(), uri, &what))?;
        if body.len() as u64 > limit {
            return Err(Fault::Final(Error::TooLarge { what, limit }));
        }
        Ok(Answer { body, revision })
    }
}

/// Says what a failed exchange means. A host that did not answer in time is not asked again.
fn fault(error: ureq::Error, uri: &Uri, what: &str) -> Fault {
    let host = host(uri);
    match error {
        ureq::Error::Timeout(_) => Fault::Final(Error::Timeout { host }),
        ureq::Error::HostNotFound => {
            Fault::Final(Error::Unreachable { host, why: "its name is not known".into() })
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            let why = "the connection closed before its end".into();
            Fault::Passing(Error::BadAnswer { what: what.into(), why }, None)
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Fault::Final(Error::Timeout { host })
        }
        ureq::Error::Io(error) => Fault::Passing(Error::Unreachable { host, why: error.to_string() }, None),
        ureq::Error::ConnectionFailed => {
            Fault::Passing(Error::Unreachable { host, why: "the connection failed".into() }, None)
        }
        error => Fault::Final(Error::Unreachable { host, why: error.to_string() }),
    }
}

/// Reads the address of a server, which must be https or on this machine.
fn usable(url: &str, name: &'static str) -> Result<Uri> {
    let unusable = |why: &str| Error::Setting { name, why: why.into() };
    let uri: Uri = url.parse().map_err(|_| unusable("is not an address"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(unusable("holds a user or a password; use HF_TOKEN"));
    }
    match uri.scheme_str() {
        Some("https") if uri.host().is_some() => Ok(uri),
        Some("http") if is_loopback(&uri) => Ok(uri),
        Some("http") => Err(unusable("is not https, so that anyone on the way could read the token")),
        _ => Err(unusable("does not begin with https://")),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port =
        |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// Names a host in messages, without what may be secret in an address.
fn host(uri: &Uri) -> String {
    uri.host().unwrap_or("the host").to_owned()
}

/// Returns where a redirect leads.
fn join(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = from.scheme_str()?;
    let authority = from.authority()?;
    match location {
        "" => None,
        _ if location.starts_with("//") => format!("{scheme}:{location}").parse().ok(),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}").parse().ok(),
        _ if location.contains("://") => location.parse().ok(),
        _ => {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}").parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("an address")
    }

    #[test]
    fn redirects_are_joined_as_browsers_do() {
        let join = |location| super::join(&uri("https://h/a/b?x=1"), location).map(|uri| uri.to_string());
        assert_eq!(join("/c?y=2#z").as_deref(), Some("https://h/c?y=2"));
        assert_eq!(join("c").as_deref(), Some("https://h/a/c"));
        assert_eq!(join("//other/c").as_deref(), Some("https://other/c"));
        assert_eq!(join("http://other/c").as_deref(), Some("http://other/c"));
        assert_eq!(join(""), None);
    }

    #[test]
    fn only_the_same_scheme_host_and_port_is_home() {
        let home = |text| same_origin(&uri(text), &uri("https://huggingface.co"));
        assert!(home("https://huggingface.co:443/x") && home("https://HuggingFace.co/x"));
        for other in [
            "http://huggingface.co",
            "https://huggingface.co:444",
            "https://huggingface.co.evil.org",
            "https://cdn.huggingface.co",
        ] {
            assert!(!home(other), "{other}");
        }
    }

    #[test]
    fn an_endpoint_is_https_or_this_machine() {
        for good in
            ["https://hub.example.org/mirror", "http://localhost:80", "http://127.0.0.1:9", "http://[::1]:9"]
        {
            assert!(usable(good, "HF_ENDPOINT").is_ok(), "{good}");
        }
        for bad in [
            "http://hub.example.org",
            "http://127.0.0.1.example.org",
            "ftp://h",
            "huggingface.co",
            "https://a:b@h",
        ] {
            assert!(usable(bad, "HF_ENDPOINT").is_err(), "{bad}");
        }
    }
}
