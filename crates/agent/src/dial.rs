//! A connection to a replica of control: plain, or under TLS with the certificate of this host.
//!
//! Never speaks on it.

use std::io;
use std::sync::Arc;

use greenroom_tls::Tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{AgentConfig, RunError};

/// The ways to all replicas.
pub(crate) struct Ways {
    pub(crate) all: Vec<Way>,
    /// Kept fresh by whoever keeps the sessions.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// The way to one.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) place: Place,
    connector: Option<TlsConnector>,
}

impl Ways {
    pub(crate) fn open(config: &AgentConfig) -> Result<Self, RunError> {
        let tls = config.tls.clone().map(|tls| Tls::open(tls.pair, Some(tls.ca)));
        let tls = tls.transpose().map_err(RunError::Tls)?;
        let dialling = tls.as_ref().map(Tls::dialling).transpose().map_err(RunError::Tls)?.flatten();
        let connector = dialling.map(|dialling| TlsConnector::from(Arc::new(dialling)));
        let all = std::iter::once(&config.control).chain(&config.other_controls);
        let all = all.map(|control| {
            Ok(Way { place: Place::of(control, tls.is_some())?, connector: connector.clone() })
        });
        Ok(Self { all: all.collect::<Result<_, RunError>>()?, tls })
    }
}

impl Way {
    /// Dials; under TLS the other end has proven by then that it is control.
    pub(crate) async fn dial(&self) -> io::Result<Box<dyn Pipe>> {
        let stream = TcpStream::connect((self.place.host.as_str(), self.place.port)).await?;
        stream.set_nodelay(true)?;
        let Some(connector) = &self.connector else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.place.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

/// Where a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `wss://host:port/v1/agents/stream`, or `ws://`.
    pub(crate) url: String,
    /// As it is dialled, without brackets.
    host: String,
    port: u16,
}

impl Place {
    /// From the base URL of its API.
    fn of(control: &str, has_tls: bool) -> Result<Self, RunError> {
        let unfit = |reason| RunError::Config { key: "control", value: control.to_owned(), reason };
        let form = "it must be http://host:port or https://host:port";
        let (is_secure, rest) = match (control.strip_prefix("https://"), control.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(unfit(form)),
        };
        match (is_secure, has_tls) {
            (true, false) => {
                return Err(unfit("https:// needs [agent.tls] with ca, by which its certificate is checked"));
            }
            (false, true) => return Err(unfit("it must be https://host:port, for there is [agent.tls]")),
            (true, true) | (false, false) => {}
        }
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '@', '?', '#']) {
            return Err(unfit(form));
        }
        let default = if is_secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| unfit(form))?),
            Some(_) | None => (authority, default),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if is_secure && ServerName::try_from(host).is_err() {
            return Err(unfit("its host is no name that a certificate could have"));
        }
        let scheme = if is_secure { "wss" } else { "ws" };
        let url = format!("{scheme}://{authority}/v1/agents/stream");
        Ok(Self { url, host: host.to_owned(), port })
    }
}

/// Bytes both ways.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_comes_from_the_base_url_and_what_does_not_fit_is_told_with_the_way_out() {
        let cases = [
            (
                "http://127.0.0.1:8700/",
                false,
                Ok(("ws://127.0.0.1:8700/v1/agents/stream", "127.0.0.1", 8700)),
            ),
            ("http://control", false, Ok(("ws://control/v1/agents/stream", "control", 80))),
            ("https://control:8700", true, Ok(("wss://control:8700/v1/agents/stream", "control", 8700))),
            ("https://[::1]:8700", true, Ok(("wss://[::1]:8700/v1/agents/stream", "::1", 8700))),
            ("https://[::1]", true, Ok(("wss://[::1]/v1/agents/stream", "::1", 443))),
            (
                "https://a:1",
                false,
                Err("https:// needs [agent.tls] with ca, by which its certificate is checked"),
            ),
            ("http://a:1", true, Err("it must be https://host:port, for there is [agent.tls]")),
            ("ftp://a:1", false, Err("it must be http://host:port or https://host:port")),
            ("http://a:1/path", false, Err("it must be http://host:port or https://host:port")),
            ("http://a:x", false, Err("it must be http://host:port or https://host:port")),
            ("https://a b:1", true, Err("its host is no name that a certificate could have")),
        ];
        for (control, is_secure, wanted) in cases {
            let found = Place::of(control, is_secure);
            let found = found.map_err(|error| error.to_string());
            let wanted = wanted.map_err(|reason| format!("control cannot be {control}: {reason}"));
            let found = found.as_ref().map(|place| (place.url.as_str(), place.host.as_str(), place.port));
            assert_eq!(found.map_err(Clone::clone), wanted, "{control}");
        }
    }
}
