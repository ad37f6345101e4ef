//! Asks a gameserver's public port whether it serves.
//!
//! Never repeats itself: when to ask again is the supervisor's.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use greenroom_wire::agent::ProbeWord;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest time for the whole probe.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Where Engine.IO answers a handshake over polling.
const ENGINE_PATH: &str = "/socket.io/?EIO=4&transport=polling";

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("nothing accepts on port {port}: {source}")]
    Connect { port: u16, source: io::Error },
    #[error("{method} {path} was not answered: {source}")]
    Http { method: Method, path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{method} {path} was answered {status}")]
    Status { method: Method, path: String, status: StatusCode },
    #[error("GET {path} was not answered with an Engine.IO open packet: {found:?}")]
    NoOpen { path: &'static str, found: String },
    #[error("no whole answer within {} ms", TIMEOUT.as_millis())]
    Timeout,
}

/// One whole probe, at most a second long.
pub(crate) async fn probe(address: SocketAddr, how: &ProbeWord) -> Result<(), ProbeError> {
    let probe = async {
        match how {
            ProbeWord::Tcp => connect(address).await.map(drop),
            ProbeWord::Http(path) => ask(address, Method::GET, path, Bytes::new()).await.map(drop),
            ProbeWord::EngineIo => engine_io(address).await,
        }
    };
    tokio::time::timeout(TIMEOUT, probe).await.unwrap_or(Err(ProbeError::Timeout))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    let connected = TcpStream::connect(address).await;
    connected.map_err(|source| ProbeError::Connect { port: address.port(), source })
}

/// A handshake as a player makes one, and an orderly close, so that no session is left to time out.
async fn engine_io(address: SocketAddr) -> Result<(), ProbeError> {
    let answer = ask(address, Method::GET, ENGINE_PATH, Bytes::new()).await?;
    let sid = session_id(&answer).ok_or_else(|| ProbeError::NoOpen {
        path: ENGINE_PATH,
        found: String::from_utf8_lossy(&answer).chars().take(80).collect(),
    })?;
    ask(address, Method::POST, &format!("{ENGINE_PATH}&sid={sid}"), Bytes::from_static(b"1")).await.map(drop)
}

/// The session id of an open packet: `0{"sid":"..",..}`. Packets may follow it.
fn session_id(answer: &[u8]) -> Option<String> {
    let packet = answer.split(|byte| *byte == 0x1e).next()?;
    let open: serde_json::Value = serde_json::from_slice(packet.strip_prefix(b"0")?).ok()?;
    let sid = open.get("sid")?.as_str()?;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!sid.is_empty() && sid.bytes().all(safe)).then(|| sid.to_owned())
}

async fn ask(address: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<Bytes, ProbeError> {
    let failed = |source| ProbeError::Http { method: method.clone(), path: path.to_owned(), source };
    let stream = connect(address).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.into()))?;
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_TYPE, "text/plain;charset=UTF-8")
        .body(Full::new(body))
        .map_err(|error| failed(error.into()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let whole = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, whole.to_bytes()))
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    let answered = tokio::select! {
        answered = &mut exchange => answered,
        // The connection may end in the same turn in which the answer came whole.
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    };
    let (status, bytes) = answered.map_err(failed)?;
    if !status.is_success() {
        return Err(ProbeError::Status { method, path: path.to_owned(), status });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_packet_is_told_from_anything_else() {
        let cases: [(&[u8], Option<&str>); 8] = [
            (br#"0{"sid":"abc-_9","upgrades":[]}"#, Some("abc-_9")),
            (b"0{\"sid\":\"a\"}\x1e40{}", Some("a")),
            (br#"0{"sid":""}"#, None),
            (br#"0{"sid":"a b"}"#, None),
            (br#"{"sid":"a"}"#, None),
            (b"0{}", None),
            (b"ok", None),
            (b"", None),
        ];
        for (answer, sid) in cases {
            assert_eq!(session_id(answer).as_deref(), sid, "{}", String::from_utf8_lossy(answer));
        }
    }
}
