//! The link listener: loopback TCP, one JSON message per line, one task per gameserver's connection.
//!
//! Never judges what is said: lines become events, and the supervisor accepts or closes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use greenroom_wire::link::{FromServer, LINE_BYTES_MAX};
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::outbox::{Outbox, OutboxReader, outbox};
use crate::shell::Input;
use crate::supervisor::{Event, LinkId};

/// Most bytes waiting for one gameserver; more ends its connection, and it comes back.
const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest time for the first line, and for one write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that a port is waited for which the agent before this one has just left.
const BIND_WITHIN: Duration = Duration::from_secs(2);

/// Binds the link's port on loopback: this one, or any when it is 0.
pub(crate) async fn bind(port: u16) -> io::Result<TcpListener> {
    let deadline = tokio::time::Instant::now() + BIND_WITHIN;
    loop {
        match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Accepts at most `links_max` connections at a time, for ever.
pub(crate) async fn listen(listener: TcpListener, links_max: usize, inbox: mpsc::Sender<Input>) {
    let mut connections = JoinSet::new();
    let mut next_id = 0;
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < links_max => match accepted {
                Ok((stream, _)) => {
                    let link = LinkId(next_id);
                    next_id += 1;
                    connections.spawn(serve(stream, link, inbox.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most likely; the connection waits in the backlog.
                    tracing::warn!(%error, "a link connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn serve(stream: TcpStream, link: LinkId, inbox: mpsc::Sender<Input>) {
    // Broadcasts between servers are small and latency counts.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a link connection keeps Nagle's delay");
    }
    let (read, write) = stream.into_split();
    let (outbox, reader) = outbox(OUTBOX_BYTES_MAX);
    let ended = tokio::select! {
        ended = read_lines(read, link, outbox, &inbox) => ended,
        ended = write_lines(write, reader) => ended,
    };
    match ended {
        Ok(()) => tracing::debug!(link = link.0, "link closed"),
        Err(reason) => tracing::warn!(link = link.0, reason, "link ended"),
    }
    // The receiver is gone only when the agent ends.
    let _ = inbox.send(Input::Event(Event::LinkLost { link })).await;
}

async fn read_lines(
    read: OwnedReadHalf,
    link: LinkId,
    outbox: Outbox,
    inbox: &mpsc::Sender<Input>,
) -> Result<(), String> {
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    let first = tokio::time::timeout(TIMEOUT, lines.next()).await;
    let mut line = first.map_err(|_| format!("no hello within {} s", TIMEOUT.as_secs()))?;
    let mut outbox = Some(outbox);
    while let Some(text) = line {
        let text = text.map_err(|error| format!("a line cannot be read: {error}"))?;
        let message: FromServer =
            serde_json::from_str(&text).map_err(|error| format!("a line is not a link message: {error}"))?;
        match (outbox.take(), matches!(message, FromServer::Hello { .. })) {
            (Some(outbox), true) => send(inbox, Input::Linking(link, outbox)).await?,
            (None, false) => {}
            (Some(_), false) => return Err("its first line is not hello".to_owned()),
            (None, true) => return Err("it said hello twice".to_owned()),
        }
        send(inbox, Input::Event(Event::Link { link, message })).await?;
        line = lines.next().await;
    }
    Ok(())
}

async fn send(inbox: &mpsc::Sender<Input>, input: Input) -> Result<(), String> {
    inbox.send(input).await.map_err(|_| "the agent ends".to_owned())
}

async fn write_lines(write: OwnedWriteHalf, mut outbox: OutboxReader) -> Result<(), String> {
    let mut write = BufWriter::new(write);
    while let Some(line) = outbox.next().await {
        let batch = async {
            let mut next = Some(line);
            while let Some(line) = next {
                write.write_all(line.as_bytes()).await?;
                write.write_all(b"\n").await?;
                outbox.written(&line);
                next = outbox.try_next();
            }
            write.flush().await
        };
        match tokio::time::timeout(TIMEOUT, batch).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("a line cannot be written: {error}")),
            Err(_) => return Err(format!("it has read nothing for {} s", TIMEOUT.as_secs())),
        }
    }
    Ok(())
}
