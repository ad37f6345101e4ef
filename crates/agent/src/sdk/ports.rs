//! Ports on loopback where shipped Agones SDKs find this agent: one for each server whose fleet asks for it.
//!
//! Never shared: an SDK sends no credential, so the port says who calls.

use std::collections::BTreeMap;

use greenroom_core::ServerName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shell::Input;

/// The open ones, and those that are being opened.
#[derive(Debug, Default)]
pub(crate) struct SdkPorts {
    open: BTreeMap<ServerName, CancellationToken>,
}

impl SdkPorts {
    /// Opens one and tells the supervisor. With a `port` it is tried until it succeeds: a running process looks there.
    pub(crate) fn open(
        &mut self,
        server: ServerName,
        port: Option<u16>,
        tasks: &mut JoinSet<()>,
        inbox: &mpsc::Sender<Input>,
    ) {
        if self.open.contains_key(&server) {
            return;
        }
        let close = CancellationToken::new();
        self.open.insert(server.clone(), close.clone());
        let inbox = inbox.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = close.cancelled() => {}
                () = serve(server, port, inbox) => {}
            }
        });
    }

    /// Closes it, with every connection to it.
    pub(crate) fn close(&mut self, server: &ServerName) {
        if let Some(close) = self.open.remove(server) {
            close.cancel();
        }
    }
}

#[cfg(not(feature = "agones"))]
async fn serve(server: ServerName, _port: Option<u16>, inbox: mpsc::Sender<Input>) {
    use crate::supervisor::Event;
    let why = "this agent is built without the Agones SDK: build it with the feature agones".to_owned();
    tracing::warn!(%server, why, "a port for an agones sdk was not opened");
    // The receiver is gone only when the agent ends.
    let _ = inbox.send(Input::Event(Event::SdkOpened { server, outcome: Err(why) })).await;
}

#[cfg(feature = "agones")]
use with_grpc::serve;

#[cfg(feature = "agones")]
mod with_grpc {
    use std::io;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use axum::Router;
    use greenroom_core::ServerName;
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::super::{ACCEPT_PAUSE, HEAD_BYTES_MAX, HEAD_TIMEOUT, HEADERS_MAX, Way, grpc, routes};
    use crate::shell::Input;
    use crate::supervisor::Event;

    /// Time between two attempts to open a port that a running process looks at.
    const OPEN_AGAIN: Duration = Duration::from_secs(1);
    /// Ports tried where any will do, until one is free for both families of addresses.
    const TRIES: usize = 16;
    /// Most connections to one port: a server has one or two, and one for each watch over HTTP/1.1.
    const CONNECTIONS_MAX: usize = 32;
    /// Most calls at once on one connection.
    const STREAMS_MAX: u32 = 32;
    /// Most bytes on their way to us in one call, and on one connection.
    const WINDOW_BYTES: u32 = 256 * 1024;
    /// Time between two questions whether a connection of HTTP/2 lives, and the longest wait for the answer.
    const KEEP_ALIVE: Duration = Duration::from_secs(30);

    pub(super) async fn serve(server: ServerName, port: Option<u16>, inbox: mpsc::Sender<Input>) {
        let (listeners, port) = match (bind(&server, port).await, port) {
            (Ok(opened), _) => opened,
            (Err(error), _) => {
                let why = format!("no port on loopback can be opened for its Agones SDK: {error}");
                // The receiver is gone only when the agent ends.
                let _ = inbox.send(Input::Event(Event::SdkOpened { server, outcome: Err(why) })).await;
                return;
            }
        };
        tracing::debug!(%server, port, "a port for an agones sdk is open");
        let way = Way { inbox: inbox.clone(), of: Some(server.clone()) };
        let _ =
            inbox.send(Input::Event(Event::SdkOpened { server: server.clone(), outcome: Ok(port) })).await;
        let service = TowerToHyperService::new(routes::router(way.clone()).merge(grpc::router(way, server)));
        accept(listeners, service).await;
    }

    /// The same port of both families, for `localhost` may mean either; of one, where the machine has no other.
    async fn bind(server: &ServerName, port: Option<u16>) -> io::Result<(Vec<TcpListener>, u16)> {
        let mut tries = 0;
        loop {
            let error = match bind_both(port.unwrap_or(0)).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            tries += 1;
            match port {
                Some(port) => {
                    tracing::warn!(%server, port, %error, "the port of its agones sdk cannot be opened; tried again");
                    tokio::time::sleep(OPEN_AGAIN).await;
                }
                None if tries < TRIES => {}
                None => return Err(error),
            }
        }
    }

    async fn bind_both(port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
        let four = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let port = four.local_addr()?.port();
        match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
            Ok(six) => Ok((vec![four, six], port)),
            // Somebody else there would be taken for this agent.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_no_such_family) => Ok((vec![four], port)),
        }
    }

    async fn accept(listeners: Vec<TcpListener>, service: TowerToHyperService<Router>) {
        let mut listening = JoinSet::new();
        for listener in listeners {
            let service = service.clone();
            listening.spawn(async move {
                let mut open = JoinSet::new();
                loop {
                    tokio::select! {
                        Some(_) = open.join_next() => {}
                        accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                            Ok((stream, _)) => {
                                open.spawn(converse(stream, service.clone()));
                            }
                            Err(error) => {
                                tracing::warn!(%error, "a connection of an agones sdk was not accepted");
                                tokio::time::sleep(ACCEPT_PAUSE).await;
                            }
                        },
                    }
                }
            });
        }
        while listening.join_next().await.is_some() {}
    }

    async fn converse(stream: TcpStream, service: TowerToHyperService<Router>) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection of an agones sdk keeps Nagle's delay");
        }
        // Which protocol it is, is seen by its first bytes; who says nothing does not hold a place for ever.
        if tokio::time::timeout(HEAD_TIMEOUT, stream.readable()).await.is_err() {
            return;
        }
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(16 * 1024)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        if let Err(error) = protocol.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(error, "a connection of an agones sdk ended with an error");
        }
    }
}
