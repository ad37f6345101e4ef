//! The stream to this host's agent: status out, results until they are acknowledged, mesh broadcasts both ways.
//! Never needed to serve: a node whose agent is away goes on, and dials again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use greenroom_core::RoomId;
use greenroom_socketio::packet::{DecodeError, Decoder, Draft, EncodeError, Packet, Prepared};
use greenroom_wire::backplane::Command;
use greenroom_wire::link::{
    FromServer, LINE_BYTES_MAX, MeshSend, Relay, Status, Successor, ToServer, VERSION,
};
use greenroom_wire::rooms::RoomEnded;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::config::{LinkConfig, Membership};
use crate::measure::Meter;
use crate::mesh;
use crate::session::Urgency;
use crate::state::{NodeState, random_u64};

/// Status is sent at least this often: it is the heartbeat.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Time between two entries of what is measured.
const SECOND: Duration = Duration::from_secs(1);
/// Time between two looks at how late the loop is.
const LAG_EVERY: Duration = Duration::from_millis(250);
/// Changes within this time are one status.
const STATUS_AFTER: Duration = Duration::from_millis(20);
/// Bytes of statuses a second, about: a status is whole, so one about a thousand rooms waits for more changes. Else each
/// newcomer would cost a telling of all rooms, here and at each place that reads it.
const STATUS_BYTES_PER_SECOND: f64 = 1_000_000.0;
/// A result that was not acknowledged is sent again on the same stream.
const RESULT_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for the word what comes after this process.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait for a connection or a write.
const PATIENCE: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What waits for the agent.
pub(crate) struct Link {
    config: LinkConfig,
    hello: String,
    outbox: RefCell<VecDeque<String>>,
    outbox_bytes: Cell<usize>,
    is_connected: Cell<bool>,
    status_due: Cell<Option<Instant>>,
    /// No status about a change before this moment.
    status_not_before: Cell<Option<Instant>>,
    unacked: RefCell<BTreeMap<(RoomId, u32), RoomEnded>>,
    meter: RefCell<Meter>,
    work: Notify,
    acked: Notify,
    /// This process ends and wants to know what comes after it.
    is_ending: Cell<bool>,
    successor: Cell<Option<Successor>>,
    answered: Notify,
}

impl Link {
    pub(crate) fn of(membership: &Membership) -> Option<Self> {
        let config = membership.link.clone()?;
        let hello = line(&FromServer::Hello {
            version: VERSION,
            instance: membership.instance.clone().into(),
            secret: config.secret.reveal().to_owned(),
        });
        Some(Self {
            config,
            hello,
            outbox: RefCell::default(),
            outbox_bytes: Cell::new(0),
            is_connected: Cell::new(false),
            status_due: Cell::new(None),
            status_not_before: Cell::new(None),
            unacked: RefCell::default(),
            meter: RefCell::default(),
            work: Notify::new(),
            acked: Notify::new(),
            is_ending: Cell::new(false),
            successor: Cell::new(None),
            answered: Notify::new(),
        })
    }

    /// Sends a status soon.
    pub(crate) fn status_changed(&self) {
        if self.status_due.get().is_none() {
            let soon = Instant::now() + STATUS_AFTER;
            self.status_due.set(Some(self.status_not_before.get().map_or(soon, |at| at.max(soon))));
            self.work.notify_one();
        }
    }

    /// Keeps a result and sends it until it is acknowledged.
    pub(crate) fn room_ended(&self, ended: RoomEnded) {
        self.push(line(&FromServer::RoomEnded(ended.clone())));
        self.unacked.borrow_mut().insert((ended.room.0.clone(), ended.epoch), ended);
    }

    /// Waits until every result is acknowledged.
    pub(crate) async fn wait_delivered(&self) {
        while !self.unacked.borrow().is_empty() {
            self.acked.notified().await;
        }
    }

    /// Asks the agent what comes after this process. `None`: it did not say in time.
    pub(crate) async fn successor(&self) -> Option<Successor> {
        self.is_ending.set(true);
        self.push(line(&FromServer::Ending));
        let answered = async {
            loop {
                match self.successor.get() {
                    Some(successor) => return successor,
                    None => self.answered.notified().await,
                }
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, answered).await.ok()
    }

    /// Hands a mesh broadcast to the agent, for the other nodes.
    pub(crate) fn publish(
        &self,
        state: &NodeState,
        namespace: &str,
        groups: &[String],
        except: &[String],
        packet: &Prepared,
    ) {
        if !self.is_connected.get() || self.outbox_bytes.get() >= state.config.publish_bytes_max {
            state.counting.publish_dropped_total.one();
            return;
        }
        state.counting.published_total.one();
        self.push(line(&FromServer::Publish(relay(namespace, groups, except, packet))));
    }

    /// Hands a word to the agent for other nodes. The answer says whether it is on its way.
    pub(crate) fn tell(&self, state: &NodeState, send: MeshSend) -> bool {
        let line = line(&FromServer::Mesh(send));
        let is_sent = self.is_connected.get()
            && line.len() < LINE_BYTES_MAX
            && self.outbox_bytes.get() < state.config.publish_bytes_max;
        if is_sent {
            state.counting.published_total.one();
            self.push(line);
        } else {
            state.counting.publish_dropped_total.one();
        }
        is_sent
    }

    /// Hands a command to the board in the agent. What the way loses is given again once it is up.
    pub(crate) fn command(&self, command: Command) {
        self.push(line(&FromServer::Backplane(command)));
    }

    /// Queues a line for a stream that is up; what must survive a new stream is kept elsewhere.
    fn push(&self, line: String) {
        if self.is_connected.get() {
            self.outbox_bytes.set(self.outbox_bytes.get() + line.len());
            self.outbox.borrow_mut().push_back(line);
            self.work.notify_one();
        }
    }

    fn take_outbox(&self) -> String {
        self.outbox_bytes.set(0);
        self.outbox.take().into_iter().collect()
    }

    fn results(&self) -> String {
        self.unacked.borrow().values().map(|ended| line(&FromServer::RoomEnded(ended.clone()))).collect()
    }
}

/// A packet on its way to the sockets of other nodes.
pub(crate) fn relay(namespace: &str, groups: &[String], except: &[String], packet: &Prepared) -> Relay {
    Relay {
        namespace: namespace.to_owned(),
        groups: groups.to_vec(),
        except: except.to_vec(),
        packet: packet.text().to_owned(),
        attachments: packet.attachments().map(|bytes| STANDARD.encode(bytes)).collect(),
    }
}

fn line(message: &FromServer) -> String {
    let mut text = serde_json::to_string(message).expect("messages of ours always become json");
    text.push('\n');
    text
}

/// Why a stream to the agent ended. It is dialled again.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("the agent did not answer in time")]
    TimedOut,
    #[error("the stream to the agent failed")]
    Io(#[from] std::io::Error),
    #[error("the agent closed the stream")]
    Closed,
    #[error("the agent sent a line that cannot be read: {0}")]
    Line(String),
}

/// Dials the agent, for ever.
pub(crate) async fn run(state: Rc<NodeState>) {
    let Some(link) = &state.link else { return };
    let mut backoff = BACKOFF_FIRST;
    loop {
        let began_at = Instant::now();
        let Err(error) = hold(&state, link).await;
        link.is_connected.set(false);
        if let Some(recovery) = state.recovery.as_ref().filter(|_| !state.peers.are_by_store()) {
            recovery.handle_down();
        }
        link.take_outbox();
        tracing::warn!(%error, "the link to the agent is down");
        if began_at.elapsed() > PATIENCE {
            backoff = BACKOFF_FIRST;
        }
        // Up to a quarter more, so that the nodes of a host do not come back in step.
        let jitter_ms = random_u64() % (u64::try_from(backoff.as_millis()).unwrap_or(0) / 4 + 1);
        tokio::time::sleep(backoff + Duration::from_millis(jitter_ms)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One stream, from the dial to its end.
async fn hold(state: &Rc<NodeState>, link: &Link) -> Result<std::convert::Infallible, StreamError> {
    let dial = TcpStream::connect(&link.config.address);
    let stream = tokio::time::timeout(PATIENCE, dial).await.map_err(|_| StreamError::TimedOut)??;
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    send(&mut write, link.hello.clone() + &status(state, link)).await?;
    let mut status_at = Instant::now() + STATUS_EVERY;
    let mut results_at = Instant::now() + RESULT_EVERY;
    let mut lag_at = Instant::now() + LAG_EVERY;
    let mut second_at = Instant::now() + SECOND;
    loop {
        let wake_at = link.status_due.get().unwrap_or(status_at).min(status_at).min(lag_at);
        tokio::select! {
            line = lines.next() => {
                let line = line.ok_or(StreamError::Closed)?.map_err(|error| StreamError::Line(error.to_string()))?;
                let message = serde_json::from_str(&line).map_err(|error| StreamError::Line(error.to_string()))?;
                // What the program does in its handlers must not end the link, and with it the node.
                if catch_unwind(AssertUnwindSafe(|| handle(state, link, message))).is_err() {
                    state.counting.handler_panics_total.one();
                    tracing::error!("a handler panicked over a word from another node");
                }
            }
            () = link.work.notified() => {}
            () = tokio::time::sleep_until(wake_at) => {}
        }
        let now = Instant::now();
        if lag_at <= now {
            link.meter.borrow_mut().woke_late(now - lag_at);
            lag_at = now + LAG_EVERY;
        }
        if second_at <= now {
            second_at = now + SECOND;
            link.meter.borrow_mut().second(state.counting.read(), state.rooms.is_some());
        }
        let mut text = link.take_outbox();
        if link.status_due.get().is_some_and(|due| due <= now) || status_at <= now {
            link.status_due.set(None);
            status_at = now + STATUS_EVERY;
            let status = status(state, link);
            link.status_not_before.set(Some(now + status_pause(status.len())));
            text += &status;
        }
        if results_at <= now {
            results_at = now + RESULT_EVERY;
            text += &link.results();
        }
        if !text.is_empty() {
            send(&mut write, text).await?;
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, text: String) -> Result<(), StreamError> {
    let sent = tokio::time::timeout(PATIENCE, write.write_all(text.as_bytes())).await;
    Ok(sent.map_err(|_| StreamError::TimedOut)??)
}

/// The time from a status of so many bytes to the next one that tells a change.
fn status_pause(bytes: usize) -> Duration {
    let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    Duration::from_secs_f64(bytes / STATUS_BYTES_PER_SECOND).min(STATUS_EVERY)
}

fn status(state: &NodeState, link: &Link) -> String {
    let connections = u32::try_from(state.open_sessions.get()).unwrap_or(u32::MAX);
    let rooms = state.rooms.as_ref().map_or_else(Vec::new, |rooms| rooms.report());
    let awaits_rooms = state.rooms.as_ref().is_some_and(|rooms| rooms.awaits());
    line(&FromServer::Status(Status {
        connections,
        rooms,
        awaits_rooms,
        keeps_rooms: state.rooms.as_ref().is_some_and(|rooms| rooms.keeps()),
        measured: link.meter.borrow().measured(),
    }))
}

fn handle(state: &Rc<NodeState>, link: &Link, message: ToServer) {
    match message {
        ToServer::Welcome { version, keys } => {
            tracing::info!(version, "the link to the agent is up");
            link.is_connected.set(true);
            link.push(link.results());
            if link.is_ending.get() {
                link.push(line(&FromServer::Ending));
            }
            if let Some(rooms) = &state.rooms {
                rooms.set_keys(&keys);
            }
            if let Some(recovery) = state.recovery.as_ref().filter(|_| !state.peers.are_by_store()) {
                recovery.handle_up(state);
            }
        }
        ToServer::Keys { keys } => {
            if let Some(rooms) = &state.rooms {
                rooms.set_keys(&keys);
            }
        }
        ToServer::RoomEndedAck { room, epoch } => {
            if let Some(rooms) = &state.rooms {
                rooms.delivered(state, &room.0, epoch);
            }
            link.unacked.borrow_mut().remove(&(room.0, epoch));
            link.acked.notify_one();
        }
        ToServer::Ending { successor } => {
            link.successor.set(Some(successor));
            link.answered.notify_one();
        }
        ToServer::CloseRoom { room, epoch, reason } => {
            if let Some(rooms) = &state.rooms {
                rooms.close(state, &room, epoch, reason);
            }
        }
        ToServer::Backplane(told) => {
            if let Some(recovery) = &state.recovery {
                recovery.handle(state, told);
            }
        }
        ToServer::Deliver(relay) => deliver(state, &relay),
        ToServer::Mesh(told) => {
            state.counting.delivered_total.one();
            mesh::handle(state, told);
        }
        ToServer::MeshAsked { ask, peers } => {
            state.peers.mesh.handle_asked(ask, peers.iter().map(ToString::to_string));
        }
    }
}

/// Hands a broadcast of another node to the sockets of this one.
pub(crate) fn deliver(state: &NodeState, relay: &Relay) {
    let Some(namespace) = state.namespaces.get(&relay.namespace) else { return };
    match read_relay(state, relay) {
        Ok(packet) => {
            state.counting.delivered_total.one();
            namespace.deliver(&packet, &relay.groups, &relay.except, Urgency::Reliable);
        }
        Err(error) => tracing::warn!(%error, "a mesh broadcast cannot be read"),
    }
}

/// Reads a relay as strictly as a client's packet, and prepares it anew for this node's sockets.
fn read_relay(state: &NodeState, relay: &Relay) -> Result<Prepared, RelayError> {
    Ok(read_draft(state, &relay.packet, &relay.attachments)?.prepare(&relay.namespace, None)?)
}

/// Why an event of another node cannot be read. It is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("an attachment is no base64")]
    Base64(#[from] base64::DecodeError),
    #[error("attachments are missing")]
    Incomplete,
    #[error("it is no event")]
    NoEvent,
}

/// The same without its receivers.
pub(crate) fn read_draft(
    state: &NodeState,
    packet: &str,
    attachments: &[String],
) -> Result<Draft, RelayError> {
    let packet = read_packet(state, packet, attachments)?;
    let name = packet.event().ok_or(RelayError::NoEvent)?;
    Ok(Draft::event(name)?.args_of(&packet)?)
}

/// The packet as it was sent.
pub(crate) fn read_packet(
    state: &NodeState,
    packet: &str,
    attachments: &[String],
) -> Result<Packet, RelayError> {
    let limits = &state.config.limits;
    let mut decoder = Decoder::new();
    let mut packet: Option<Packet> = decoder.handle_text(packet, limits)?;
    for attachment in attachments {
        packet = decoder.handle_binary(&STANDARD.decode(attachment)?, limits)?;
    }
    packet.ok_or(RelayError::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_status_waits_for_more_changes_but_never_beyond_the_heartbeat() {
        for (bytes, pause_ms) in [(0, 0), (500, 0), (100_000, 100), (400_000, 400), (9_000_000, 1_000)] {
            assert_eq!(status_pause(bytes).as_millis(), pause_ms, "{bytes} bytes");
        }
    }
}
