//! What a program may choose of HTTP: transports, the cookie, CORS, kept headers, IPv6.
//! Never a default that differs between two nodes of one binary.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use greenroom_socketio::Sid;
use greenroom_socketio::engine::Transport;
use http::{HeaderName, HeaderValue};

/// The transports that a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transports {
    /// Polling and WebSocket.
    #[default]
    Both,
    /// Polling alone; nobody moves to WebSocket.
    PollingOnly,
    /// WebSocket alone.
    WebSocketOnly,
}

impl Transports {
    pub(crate) fn has(self, transport: Transport) -> bool {
        match (self, transport) {
            (Self::Both, _)
            | (Self::PollingOnly, Transport::Polling)
            | (Self::WebSocketOnly, Transport::WebSocket) => true,
            (Self::PollingOnly, Transport::WebSocket) | (Self::WebSocketOnly, Transport::Polling) => false,
        }
    }
}

/// How an IPv6 address is listened on. Says nothing about IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipv6 {
    /// `[::]` takes IPv4 clients too.
    #[default]
    DualStack,
    /// IPv6 clients alone.
    Only,
}

/// Which request headers a session keeps for [`crate::Handshake::header`]. Each kept header costs memory for as long as
/// the session lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeptHeaders {
    /// None.
    #[default]
    None,
    /// These, as far as the client sends them.
    Listed(Vec<HeaderName>),
    /// All.
    All,
}

/// When a browser sends the cookie along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// `SameSite=Lax`.
    Lax,
    /// `SameSite=Strict`.
    Strict,
    /// `SameSite=None`; browsers want [`Cookie::is_secure`] with it.
    None,
}

/// A cookie with the session's id, set by the answer that opens a polling session: for a proxy that sends the requests
/// of one session to one server. The node itself never reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Default `io`.
    pub name: String,
    /// Default `/`.
    pub path: String,
    /// Default none: the very host.
    pub domain: Option<String>,
    /// Hidden from the page's scripts. Default true.
    pub is_http_only: bool,
    /// Sent by TLS alone. Default false.
    pub is_secure: bool,
    /// Default [`SameSite::Lax`].
    pub same_site: SameSite,
    /// Default none: until the browser closes.
    pub max_age: Option<Duration>,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "io".to_owned(),
            path: "/".to_owned(),
            domain: None,
            is_http_only: true,
            is_secure: false,
            same_site: SameSite::Lax,
            max_age: None,
        }
    }
}

impl Cookie {
    /// The header's value; `None` where a field holds what no header may.
    pub(crate) fn header(&self, sid: &Sid) -> Option<HeaderValue> {
        let mut text = format!("{}={sid}", self.name);
        if let Some(max_age) = self.max_age {
            text += &format!("; Max-Age={}", max_age.as_secs());
        }
        if let Some(domain) = &self.domain {
            text += &format!("; Domain={domain}");
        }
        text += &format!("; Path={}", self.path);
        if self.is_http_only {
            text += "; HttpOnly";
        }
        if self.is_secure {
            text += "; Secure";
        }
        text += match self.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
        };
        HeaderValue::from_str(&text).ok()
    }
}

/// What browsers are told about pages of other origins that may connect; which those are is
/// [`crate::config::Origins`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whether listed origins may send cookies. With any origin allowed they never may. Default true.
    pub has_credentials: bool,
    /// Methods, for the preflight. Default `GET, POST`.
    pub methods: HeaderValue,
    /// Request headers that a page may send, for the preflight. Default `content-type`.
    pub headers: HeaderValue,
    /// Answer headers that a page may read. Default none.
    pub exposed_headers: Option<HeaderValue>,
    /// How long a browser may remember a preflight. Default 10 min.
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            has_credentials: true,
            methods: HeaderValue::from_static("GET, POST"),
            headers: HeaderValue::from_static("content-type"),
            exposed_headers: None,
            max_age: Duration::from_secs(600),
        }
    }
}

/// The first four characters of every session id of a node, so that a proxy in front of several knows by the id alone
/// whose session a request is for. The other sixteen stay random.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SidPrefix([u8; 3]);

impl SidPrefix {
    pub(crate) fn bytes(self) -> [u8; 3] {
        self.0
    }
}

/// Why a text is no [`SidPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prefix is 4 characters of A-Z a-z 0-9 - _")]
pub struct SidPrefixError;

impl FromStr for SidPrefix {
    type Err = SidPrefixError;

    fn from_str(text: &str) -> Result<Self, SidPrefixError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SidPrefixError)?;
        bytes.try_into().map(Self).map_err(|_| SidPrefixError)
    }
}

impl fmt::Display for SidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SidPrefix({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_reads_as_the_official_server_writes_it() {
        let sid = Sid::from_random([0; 15]);
        let told = |cookie: &Cookie| cookie.header(&sid).map(|value| value.to_str().unwrap().to_owned());
        let id = "AAAAAAAAAAAAAAAAAAAA";
        let plain = format!("io={id}; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(told(&Cookie::default()), Some(plain));
        let full = Cookie {
            name: "route".into(),
            path: "/game".into(),
            domain: Some("play.example".into()),
            is_http_only: false,
            is_secure: true,
            same_site: SameSite::None,
            max_age: Some(Duration::from_secs(60)),
        };
        let text = format!("route={id}; Max-Age=60; Domain=play.example; Path=/game; Secure; SameSite=None");
        assert_eq!(told(&full), Some(text));
        assert_eq!(told(&Cookie { path: "/\n".into(), ..Cookie::default() }), None);
    }

    #[test]
    fn a_prefix_is_four_characters() {
        assert_eq!("n-_1".parse::<SidPrefix>().unwrap().to_string(), "n-_1");
        for text in ["", "abc", "abcde", "ab=c", "ab c", "abcdefgh"] {
            assert_eq!(text.parse::<SidPrefix>(), Err(SidPrefixError), "{text}");
        }
    }
}
