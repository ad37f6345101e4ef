//! Asks a gameserver's public port whether it serves, in plaintext or under TLS: it finds out which.
//!
//! Never repeats itself: when to ask again is the supervisor's. Never judges a certificate: those are for players, who
//! come by another name.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use greenroom_wire::agent::ProbeWord;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::supervisor::{Heard, ProbeFailure, Speech};

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
    #[error("port {port} speaks no tls either: {source}")]
    Tls { port: u16, source: io::Error },
    #[error("no whole answer within {} ms", TIMEOUT.as_millis())]
    Timeout,
}

impl ProbeError {
    /// The same as a value.
    pub(crate) fn failure(&self) -> ProbeFailure {
        let heard = match self {
            Self::Connect { .. } => Heard::Refusal,
            Self::Status { .. } | Self::NoOpen { .. } => Heard::Answer,
            Self::Http { .. } | Self::Tls { .. } | Self::Timeout => Heard::Nothing,
        };
        ProbeFailure { message: self.to_string(), heard }
    }
}

/// Asks ports of this host, and remembers which of them speak TLS.
#[derive(Clone)]
pub(crate) struct Prober {
    /// Where servers are asked, one after the other until one is connected to. Never empty.
    ips: Vec<IpAddr>,
    tls: TlsConnector,
    secure: Arc<Mutex<BTreeSet<u16>>>,
}

impl Prober {
    pub(crate) fn new(ips: Vec<IpAddr>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let anyone = Arc::new(Anyone(Arc::clone(&provider)));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .dangerous()
            .with_custom_certificate_verifier(anyone)
            .with_no_client_auth();
        Self { ips, tls: TlsConnector::from(Arc::new(config)), secure: Arc::default() }
    }

    /// One whole probe, at most a second long. Tells how the port is spoken to.
    pub(crate) async fn probe(&self, port: u16, how: &ProbeWord) -> Result<Speech, ProbeError> {
        let probe = async {
            match how {
                ProbeWord::Tcp => self.connect(port).await.map(|_| Speech::Plain),
                // It speaks for itself; nobody asks its port.
                ProbeWord::Sdk { .. } => Ok(Speech::Plain),
                ProbeWord::Http(_) | ProbeWord::EngineIo => self.talk(port, how).await,
            }
        };
        tokio::time::timeout(TIMEOUT, probe).await.unwrap_or_else(|_| {
            // Perhaps another program, one that waits for more of what it does not understand.
            self.secure().remove(&port);
            Err(ProbeError::Timeout)
        })
    }

    /// Speaks as the port was spoken to last, and the other way where that is not understood.
    async fn talk(&self, port: u16, how: &ProbeWord) -> Result<Speech, ProbeError> {
        let is_secure = self.secure().contains(&port);
        let (first, second) =
            if is_secure { (Speech::Tls, Speech::Plain) } else { (Speech::Plain, Speech::Tls) };
        let refused = match self.talk_in(first, port, how).await {
            Err(refused @ (ProbeError::Http { .. } | ProbeError::Tls { .. })) => refused,
            done => return done.map(|()| first),
        };
        let done = self.talk_in(second, port, how).await;
        // What it said in its first language tells more than that it has no second one.
        let is_second = match &done {
            Err(ProbeError::Tls { .. }) => false,
            Err(ProbeError::Http { .. }) => second == Speech::Tls,
            Ok(())
            | Err(
                ProbeError::Connect { .. }
                | ProbeError::Status { .. }
                | ProbeError::NoOpen { .. }
                | ProbeError::Timeout,
            ) => true,
        };
        if !is_second {
            return Err(refused);
        }
        // One that went meanwhile taught nothing.
        if !matches!(done, Err(ProbeError::Connect { .. })) {
            self.learn(port, second);
        }
        done.map(|()| second)
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, ProbeError> {
        let addresses: Vec<SocketAddr> = self.ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        TcpStream::connect(&*addresses).await.map_err(|source| ProbeError::Connect { port, source })
    }

    fn learn(&self, port: u16, speech: Speech) {
        match speech {
            Speech::Tls => self.secure().insert(port),
            Speech::Plain => self.secure().remove(&port),
        };
    }

    fn secure(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.secure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn talk_in(&self, speech: Speech, port: u16, how: &ProbeWord) -> Result<(), ProbeError> {
        match how {
            ProbeWord::Tcp | ProbeWord::Sdk { .. } => Ok(()),
            ProbeWord::Http(path) => self.ask(speech, port, Method::GET, path, Bytes::new()).await.map(drop),
            ProbeWord::EngineIo => self.engine_io(speech, port).await,
        }
    }

    /// A handshake as a player makes one, and an orderly close, so that no session is left to time out.
    async fn engine_io(&self, speech: Speech, port: u16) -> Result<(), ProbeError> {
        let answer = self.ask(speech, port, Method::GET, ENGINE_PATH, Bytes::new()).await?;
        let sid = session_id(&answer).ok_or_else(|| ProbeError::NoOpen {
            path: ENGINE_PATH,
            found: String::from_utf8_lossy(&answer).chars().take(80).collect(),
        })?;
        let close = Bytes::from_static(b"1");
        self.ask(speech, port, Method::POST, &format!("{ENGINE_PATH}&sid={sid}"), close).await.map(drop)
    }

    async fn ask(
        &self,
        speech: Speech,
        port: u16,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ProbeError> {
        let failed = |source| ProbeError::Http { method: method.clone(), path: path.to_owned(), source };
        let stream = self.connect(port).await?;
        let stream: Box<dyn Stream> = match speech {
            Speech::Plain => Box::new(stream),
            Speech::Tls => {
                let secure = self.tls.connect(ServerName::from(self.ips[0]), stream).await;
                Box::new(secure.map_err(|source| ProbeError::Tls { port, source })?)
            }
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(error.into()))?;
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::HOST, SocketAddr::new(self.ips[0], port).to_string())
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
}

/// What a connection is, in either speech.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Takes any certificate whose key its owner has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The session id of an open packet: `0{"sid":"..",..}`. Packets may follow it.
fn session_id(answer: &[u8]) -> Option<String> {
    let packet = answer.split(|byte| *byte == 0x1e).next()?;
    let open: serde_json::Value = serde_json::from_slice(packet.strip_prefix(b"0")?).ok()?;
    let sid = open.get("sid")?.as_str()?;
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!sid.is_empty() && sid.bytes().all(safe)).then(|| sid.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::generate_simple_self_signed;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn acceptor() -> TlsAcceptor {
        let made = generate_simple_self_signed(["elsewhere.example".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("key and certificate fit");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Answers each request on a connection of its own; counts who spoke the wrong language.
    async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, refused: Arc<AtomicUsize>) {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream: Box<dyn Stream> = match &tls {
                None => Box::new(stream),
                Some(tls) => match tls.accept(stream).await {
                    Ok(secure) => Box::new(secure),
                    Err(_) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                },
            };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            if !request[..read].is_ascii() {
                refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let body = if request.starts_with(b"GET") { r#"0{"sid":"abc"}"# } else { "ok" };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            // Whoever asked may be gone.
            let _told = stream.write_all(head.as_bytes()).await;
            let _ended = stream.shutdown().await;
        }
    }

    #[tokio::test]
    async fn a_port_is_asked_in_the_language_it_speaks_also_when_that_changes() {
        let (refused, prober) =
            (Arc::new(AtomicUsize::new(0)), Prober::new(vec![Ipv4Addr::LOCALHOST.into()]));
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        for (tls, refused_before_it_was_known) in [(None, 0), (Some(acceptor()), 1), (None, 1)] {
            refused.store(0, Ordering::Relaxed);
            let mut serving = JoinSet::new();
            serving.spawn(serve(listener, tls.clone(), Arc::clone(&refused)));
            for how in [ProbeWord::EngineIo, ProbeWord::Http("/livez".to_owned()), ProbeWord::Tcp] {
                let probed = prober.probe(address.port(), &how).await;
                // A connect alone tells nothing of it.
                let is_told = tls.is_some() && how != ProbeWord::Tcp;
                let speech = if is_told { Speech::Tls } else { Speech::Plain };
                assert_eq!(probed.ok(), Some(speech), "{how:?} under tls {}", tls.is_some());
            }
            let met = refused.load(Ordering::Relaxed);
            assert_eq!(met, refused_before_it_was_known, "it is remembered (tls {})", tls.is_some());
            serving.shutdown().await;
            listener = TcpListener::bind(address).await.expect("the same port");
        }
        drop(listener);
        let gone = prober.probe(address.port(), &ProbeWord::EngineIo).await;
        assert!(matches!(gone, Err(ProbeError::Connect { .. })), "{gone:?}");
    }

    #[tokio::test]
    async fn who_speaks_neither_language_is_told_in_the_words_of_the_first() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let _told = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            }
        });
        let probed = Prober::new(vec![Ipv4Addr::LOCALHOST.into()]).probe(port, &ProbeWord::EngineIo).await;
        assert!(matches!(probed, Err(ProbeError::Http { .. })), "{probed:?}");
    }

    /// Answers requests in plain, and waits for the end of one that is none, as a simple server does.
    async fn serve_patiently(listener: TcpListener) {
        let mut open = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            open.spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if !stream.read_buf(&mut request).await.is_ok_and(|count| count > 0) {
                        return;
                    }
                }
                let _told = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            });
        }
    }

    #[tokio::test]
    async fn a_server_that_goes_while_it_is_asked_teaches_nothing_of_the_one_after_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (how, prober) =
            (ProbeWord::Http("/livez".to_owned()), Prober::new(vec![Ipv4Addr::LOCALHOST.into()]));
        let dies = async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            drop(listener);
            drop(stream);
        };
        let (probed, ()) = tokio::join!(prober.probe(address.port(), &how), dies);
        assert!(matches!(probed, Err(ProbeError::Connect { .. })), "{probed:?}");
        let mut serving = JoinSet::new();
        serving.spawn(serve_patiently(TcpListener::bind(address).await.expect("the same port")));
        assert_eq!(prober.probe(address.port(), &how).await.ok(), Some(Speech::Plain));
    }

    #[tokio::test]
    async fn a_port_that_no_longer_answers_in_tls_is_asked_in_plain_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (how, prober) =
            (ProbeWord::Http("/livez".to_owned()), Prober::new(vec![Ipv4Addr::LOCALHOST.into()]));
        prober.secure().insert(port);
        let mut serving = JoinSet::new();
        serving.spawn(serve_patiently(listener));
        let first = prober.probe(port, &how).await;
        assert!(matches!(first, Err(ProbeError::Timeout)), "{first:?}");
        assert_eq!(prober.probe(port, &how).await.ok(), Some(Speech::Plain));
    }

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
