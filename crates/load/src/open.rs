//! Owns the opening of a connection: TCP, then the HTTP upgrade to WebSocket.
//! Never reads a frame: the stream and what came with the answer are handed on.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use greenroom_socketio::ws::{accept_key, client_key};
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

/// How to open a connection.
pub(crate) struct Dial {
    pub(crate) url: String,
    pub(crate) path: String,
    pub(crate) nonce: [u8; 16],
    pub(crate) source: Ipv4Addr,
    pub(crate) within: Duration,
}

/// Why a connection could not be opened. The player counts as failed; another one may fare better.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{url} is not an http address")]
    Url { url: String },
    #[error("cannot connect to {url}: {source}")]
    Connect { url: String, source: io::Error },
    #[error("no http answer from {url}: {source}")]
    Http { url: String, source: hyper::Error },
    #[error("{url} answered {status} instead of opening a websocket")]
    Status { url: String, status: StatusCode },
    #[error("{url} opened no valid websocket")]
    NotWebSocket { url: String },
    #[error("{url} took longer than {within:?}")]
    Late { url: String, within: Duration },
}

/// A WebSocket whose HTTP part is over.
pub(crate) struct Opened {
    /// No longer known to the runtime; it does not block.
    pub(crate) stream: std::net::TcpStream,
    /// The first bytes of the stream, when they came together with the answer.
    pub(crate) first: Bytes,
}

/// Where connection number `connection` to this very machine comes from: one address has ports for a few thousand
/// connections only, and the loopback network has 65,000 addresses to come from.
pub(crate) fn source(connection: u32) -> Ipv4Addr {
    const CONNECTIONS_PER_SOURCE: u32 = 2_000;
    let nth = connection / CONNECTIONS_PER_SOURCE;
    let byte = |number: u32| u8::try_from(number % 250).expect("below 250");
    Ipv4Addr::new(127, 0, byte(nth / 250) + 1, byte(nth) + 1)
}

async fn connect(host: &str, port: u16, source: Ipv4Addr) -> io::Result<TcpStream> {
    let stream = match host.parse::<Ipv4Addr>() {
        Ok(address) if address.is_loopback() => {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
            socket.connect((address, port).into()).await?
        }
        Ok(_) | Err(_) => TcpStream::connect((host, port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a WebSocket.
pub(crate) async fn open(dial: &Dial) -> Result<Opened, OpenError> {
    let Dial { url, path, nonce, source, .. } = dial;
    let not_http = || OpenError::Url { url: format!("{url}{path}") };
    let uri: Uri = url.parse().map_err(|_| not_http())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(not_http)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = connect(host, authority.port_u16().unwrap_or(80), *source)
        .await
        .map_err(|source| OpenError::Connect { url: url.to_owned(), source })?;

    let key = client_key(*nonce);
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new())
        .map_err(|_| not_http())?;
    let upgraded = upgrade(url, stream, request, &accept_key(&key)).await?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| OpenError::NotWebSocket { url: url.to_owned() })?;
    let stream = parts.io.into_inner().into_std();
    let stream = stream.map_err(|source| OpenError::Connect { url: url.to_owned(), source })?;
    Ok(Opened { stream, first: parts.read_buf })
}

async fn upgrade(
    url: &str,
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
    accept: &str,
) -> Result<Upgraded, OpenError> {
    let broken = |source| OpenError::Http { url: url.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(OpenError::Status { url: url.to_owned(), status: response.status() });
        }
        let told = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if told.is_none_or(|told| told.as_bytes() != accept.as_bytes()) {
            return Err(OpenError::NotWebSocket { url: url.to_owned() });
        }
        hyper::upgrade::on(response).await.map_err(broken)
    };
    let (mut connection, mut answer) = (pin!(connection.with_upgrades()), pin!(answer));
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => {
            ended.map_err(broken)?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_from_many_addresses_none_of_which_is_crowded() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 1, 1));
        assert_eq!(source(1_999), source(0));
        assert_eq!(source(2_000), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(source(2_000 * 250), Ipv4Addr::new(127, 0, 2, 1));
        assert!(source(u32::MAX).is_loopback());
    }
}
