//! Connections to servers, in plain speech or under TLS.
//!
//! Never decides which server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_tls::{Tls, TlsError};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::members::Backend;
use crate::splice::{Stream, bounded};

/// How long a server may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The same for a TLS handshake.
const SHAKE_MAX: Duration = Duration::from_secs(3);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a connection may rest between two requests. Servers close theirs after 5 s, most of them; a request that met
/// that close would be lost.
const REST_MAX: Duration = Duration::from_secs(3);

/// Why a server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// It does not accept.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// It does not accept in time, or does not finish its handshake.
    #[error("no connection in time")]
    Late,
    /// It speaks TLS and nothing says whom to trust. Name its authorities.
    #[error("it speaks tls: name the authorities of its certificate with --backend-ca")]
    NoAuthorities,
    /// Its address is no name that a certificate could hold.
    #[error("its address {0:?} cannot be in a certificate")]
    Name(String),
    /// HTTP did not begin.
    #[error("no http")]
    Http(#[source] hyper::Error),
}

/// How servers are dialled.
pub(crate) struct Dialler {
    tls: Option<TlsConnector>,
    tasks: TaskTracker,
}

/// A connection to a server, for one request after the other.
pub(crate) struct Upstream {
    pub(crate) backend: Arc<Backend>,
    pub(crate) sender: SendRequest<Incoming>,
    rests_since: Instant,
}

impl Upstream {
    /// Whether it can carry one more request to `backend`.
    pub(crate) fn fits(&self, backend: &Arc<Backend>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
            && !self.sender.is_closed()
            && self.rests_since.elapsed() < REST_MAX
    }

    /// The same, from now on at rest.
    pub(crate) fn rested(self) -> Self {
        Self { rests_since: Instant::now(), ..self }
    }
}

impl Dialler {
    /// Servers under TLS are known by the authorities in `ca`.
    ///
    /// # Errors
    /// When that file cannot be used.
    pub(crate) fn new(ca: Option<PathBuf>, tasks: TaskTracker) -> Result<Self, TlsError> {
        let tls = match ca {
            Some(ca) => Tls::open(None, Some(ca))?.dialling()?,
            None => None,
        };
        Ok(Self { tls: tls.map(|config| TlsConnector::from(Arc::new(config))), tasks })
    }

    /// A new connection.
    pub(crate) async fn dial(&self, backend: Arc<Backend>) -> Result<Upstream, DialError> {
        let connecting = timeout(CONNECT_MAX, TcpStream::connect(&backend.endpoint));
        let stream = connecting.await.map_err(|_| DialError::Late)?.map_err(DialError::Connect)?;
        // Frames are small. A failure means that the server is gone already.
        let _gone = stream.set_nodelay(true);
        let stream = bounded(stream);
        let stream: Box<dyn Stream> = match (backend.tls, &self.tls) {
            (false, _) => Box::new(stream),
            (true, None) => return Err(DialError::NoAuthorities),
            (true, Some(tls)) => {
                let shaking = timeout(SHAKE_MAX, tls.connect(tls_name(&backend.endpoint)?, stream));
                Box::new(shaking.await.map_err(|_| DialError::Late)?.map_err(DialError::Connect)?)
            }
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(DialError::Http)?;
        // It ends when nobody asks any more and nothing is being read, or hands the connection over. Whoever asked is told
        // of its failures.
        self.tasks.spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Upstream { backend, sender, rests_since: Instant::now() })
    }
}

fn tls_name(endpoint: &str) -> Result<ServerName<'static>, DialError> {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    let host = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host.clone()).map_err(|_| DialError::Name(host))
}
