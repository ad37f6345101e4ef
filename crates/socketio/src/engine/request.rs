//! Owns the reading of a request's query and the answer to what it may do: open, poll, post or upgrade.
//! Never looks up a session: the caller tells what it knows of the `sid`.

/// The transport that a query names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// The methods that matter. OPTIONS belongs to CORS and never comes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// Any other.
    Other,
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Open a session on this transport.
    Open(Transport),
    /// Wait for packets of the session.
    Poll,
    /// Hand packets to the session.
    Post,
    /// Move the session to this WebSocket.
    Upgrade,
}

/// Why a request is refused. Clients see the code and the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Code 0: the transport is missing or unknown.
    #[error("Transport unknown")]
    UnknownTransport,
    /// Code 1: no such session. The client opens a new one.
    #[error("Session ID unknown")]
    UnknownSession,
    /// Code 2: a session opens by GET only.
    #[error("Bad handshake method")]
    BadHandshakeMethod,
    /// Code 3: the request does not fit the session or the transport.
    #[error("Bad request")]
    BadRequest,
    /// Code 4: the server does not want this client.
    #[error("Forbidden")]
    Forbidden,
    /// Code 5: the protocol version is not 4.
    #[error("Unsupported protocol version")]
    UnsupportedProtocol,
}

impl RequestError {
    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::UnknownTransport
            | Self::UnknownSession
            | Self::BadHandshakeMethod
            | Self::BadRequest
            | Self::UnsupportedProtocol => 400,
        }
    }

    /// The code in the answer's body.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocol => 5,
        }
    }

    /// The JSON body of the answer.
    #[must_use]
    pub fn body(self) -> &'static str {
        match self {
            Self::UnknownTransport => r#"{"code":0,"message":"Transport unknown"}"#,
            Self::UnknownSession => r#"{"code":1,"message":"Session ID unknown"}"#,
            Self::BadHandshakeMethod => r#"{"code":2,"message":"Bad handshake method"}"#,
            Self::BadRequest => r#"{"code":3,"message":"Bad request"}"#,
            Self::Forbidden => r#"{"code":4,"message":"Forbidden"}"#,
            Self::UnsupportedProtocol => r#"{"code":5,"message":"Unsupported protocol version"}"#,
        }
    }
}

/// The query of a request, borrowed and not percent-decoded. Where a key comes twice the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query<'a> {
    /// `EIO`, the protocol version.
    pub version: Option<&'a str>,
    /// `transport`.
    pub transport: Option<&'a str>,
    /// `sid`, the session.
    pub sid: Option<&'a str>,
    /// `t`, a cache breaker without meaning.
    pub cache_breaker: Option<&'a str>,
    /// `b64`: the client cannot take binary. Only older protocols act on it.
    pub base64: Option<&'a str>,
    raw: &'a str,
}

impl<'a> Query<'a> {
    /// Reads the part of a URL after `?`. Never fails: what is missing shows in [`Self::admit`].
    #[must_use]
    pub fn parse(raw: &'a str) -> Self {
        let mut query = Self { raw, ..Self::default() };
        for (key, value) in query.pairs() {
            let place = match key {
                "EIO" => &mut query.version,
                "transport" => &mut query.transport,
                "sid" => &mut query.sid,
                "t" => &mut query.cache_breaker,
                "b64" => &mut query.base64,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        query
    }

    /// All pairs as they were sent, the application's own among them, not percent-decoded.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Whether the request may proceed and as what. `websocket`: it asks for an upgrade to WebSocket by its headers.
    /// `session`: the transport of the session named by `sid`, `None` when there is no such session.
    /// The checks come in the official server's order, so that the codes are the same.
    ///
    /// # Errors
    /// See [`RequestError`]; [`RequestError::Forbidden`] is the caller's own to give, after this.
    pub fn admit(
        &self,
        method: HttpMethod,
        websocket: bool,
        session: Option<Transport>,
    ) -> Result<Admitted, RequestError> {
        let transport = match self.transport {
            Some("polling") => Transport::Polling,
            Some("websocket") => Transport::WebSocket,
            _ => return Err(RequestError::UnknownTransport),
        };
        if self.sid.is_some() {
            let now_on = session.ok_or(RequestError::UnknownSession)?;
            return match (now_on, transport, method, websocket) {
                (Transport::Polling, Transport::Polling, HttpMethod::Get, false) => Ok(Admitted::Poll),
                (Transport::Polling, Transport::Polling, HttpMethod::Post, false) => Ok(Admitted::Post),
                // A session that has moved already is refused by its `Upgrade`, which closes the WebSocket.
                (_, Transport::WebSocket, HttpMethod::Get, true) => Ok(Admitted::Upgrade),
                (Transport::Polling | Transport::WebSocket, _, _, _) => Err(RequestError::BadRequest),
            };
        }
        if method != HttpMethod::Get {
            return Err(RequestError::BadHandshakeMethod);
        }
        if websocket != (transport == Transport::WebSocket) {
            return Err(RequestError::BadRequest);
        }
        if self.version != Some("4") {
            return Err(RequestError::UnsupportedProtocol);
        }
        Ok(Admitted::Open(transport))
    }
}

#[cfg(test)]
mod tests {
    use HttpMethod::{Get, Other, Post};
    use Transport::{Polling, WebSocket};

    use super::*;

    #[test]
    fn a_query_is_read_once_and_the_first_of_a_key_counts() {
        let query = Query::parse("EIO=4&transport=polling&&t=abc&sid=S&sid=T&token=a=b&flag");
        assert_eq!(query.version, Some("4"));
        assert_eq!(query.transport, Some("polling"));
        assert_eq!(query.sid, Some("S"));
        assert_eq!(query.cache_breaker, Some("abc"));
        assert_eq!(query.base64, None);
        assert_eq!(query.pairs().skip(5).collect::<Vec<_>>(), [("token", "a=b"), ("flag", "")]);
        assert_eq!(Query::parse(""), Query::default());
    }

    #[test]
    fn requests_are_admitted_or_refused_as_the_official_server_does() {
        let cases = [
            ("EIO=4&transport=polling", Get, false, None, Ok(Admitted::Open(Polling))),
            ("EIO=4&transport=websocket", Get, true, None, Ok(Admitted::Open(WebSocket))),
            ("EIO=4&transport=polling&sid=a", Get, false, Some(Polling), Ok(Admitted::Poll)),
            ("EIO=4&transport=polling&sid=a", Post, false, Some(Polling), Ok(Admitted::Post)),
            ("EIO=4&transport=websocket&sid=a", Get, true, Some(Polling), Ok(Admitted::Upgrade)),
            ("EIO=4&transport=websocket&sid=a", Get, true, Some(WebSocket), Ok(Admitted::Upgrade)),
            ("EIO=4", Get, false, None, Err(RequestError::UnknownTransport)),
            ("EIO=4&transport=abc", Get, false, None, Err(RequestError::UnknownTransport)),
            ("EIO=4&transport=polling&sid=a", Get, false, None, Err(RequestError::UnknownSession)),
            ("EIO=4&transport=polling", Post, false, None, Err(RequestError::BadHandshakeMethod)),
            ("EIO=4&transport=polling", Other, false, None, Err(RequestError::BadHandshakeMethod)),
            ("EIO=4&transport=polling&sid=a", Get, false, Some(WebSocket), Err(RequestError::BadRequest)),
            ("EIO=4&transport=polling&sid=a", Other, false, Some(Polling), Err(RequestError::BadRequest)),
            ("EIO=4&transport=websocket&sid=a", Get, false, Some(Polling), Err(RequestError::BadRequest)),
            ("EIO=4&transport=websocket", Get, false, None, Err(RequestError::BadRequest)),
            ("EIO=4&transport=polling", Get, true, None, Err(RequestError::BadRequest)),
            ("transport=polling", Get, false, None, Err(RequestError::UnsupportedProtocol)),
            ("EIO=abc&transport=polling", Get, false, None, Err(RequestError::UnsupportedProtocol)),
            ("EIO=3&transport=websocket", Get, true, None, Err(RequestError::UnsupportedProtocol)),
        ];
        for (raw, method, websocket, session, expected) in cases {
            assert_eq!(Query::parse(raw).admit(method, websocket, session), expected, "{raw} {method:?}");
        }
    }

    #[test]
    fn the_six_refusals_have_the_bodies_that_clients_know() {
        let errors = [
            RequestError::UnknownTransport,
            RequestError::UnknownSession,
            RequestError::BadHandshakeMethod,
            RequestError::BadRequest,
            RequestError::Forbidden,
            RequestError::UnsupportedProtocol,
        ];
        for (code, error) in errors.into_iter().enumerate() {
            assert_eq!(usize::from(error.code()), code);
            assert_eq!(error.body(), format!(r#"{{"code":{code},"message":"{error}"}}"#));
            assert_eq!(error.status(), if code == 4 { 403 } else { 400 });
        }
    }
}
