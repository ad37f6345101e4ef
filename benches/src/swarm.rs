//! Many lean clients on one thread: one epoll, one read buffer, the client role of our own protocol crate.
//! Never judges a server: it counts what arrives and when.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use greenroom_socketio::ws::{Decoder, Event, Opcode, Role, write_frame};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use crate::peer::Peer;

/// Connections of one source address; a port range has about 28,000.
const PORTS_PER_ADDRESS: usize = 10_000;

/// Swarms of this process so far: each dials from addresses of its own, because ports of the one before rest a while.
static SWARMS: AtomicU8 = AtomicU8::new(0);

fn fresh_number() -> u8 {
    SWARMS.fetch_add(1, Ordering::Relaxed) % 250 + 1
}

/// The mask key of all frames: a benchmark's client has nothing to hide from proxies.
const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Bytes of JSON in each payload.
const PAYLOAD_BYTES: usize = 100;

/// What a client is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Connecting,
    Upgrading,
    Opening,
    Joining,
    Ready,
}

struct Client {
    socket: Option<Socket>,
    tls: Option<Box<ClientConnection>>,
    phase: Phase,
    frames: Decoder,
    session: Option<Box<Remembered>>,
}

/// What a client keeps of its session, to go on with it.
#[derive(Debug, Default)]
struct Remembered {
    sid: String,
    pid: String,
    offset: String,
}

/// What a client received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The namespace is connected.
    Ready,
    /// An ack of ours, with the moment that was sent.
    Ack(u64),
    /// An event, with the moment that was sent.
    Event(u64),
    /// The connection ended.
    Gone,
}

/// All clients of one measurement.
pub(crate) struct Swarm {
    epoll: OwnedFd,
    server: SocketAddr,
    /// The last byte of its addresses.
    number: u8,
    /// What the server's port wants, if anything.
    tls: Option<Arc<ClientConfig>>,
    clients: Vec<Client>,
    scratch: Vec<u8>,
    ready_events: Vec<epoll::Event>,
    out: Vec<u8>,
    started_at: Instant,
    /// Clients whose namespace is connected.
    pub(crate) ready: usize,
    /// Connections that ended, also before they were in.
    pub(crate) lost: usize,
    /// Connects that went on with the session of before.
    pub(crate) recovered: usize,
    /// Frames the kernel did not take whole.
    pub(crate) unsent: usize,
}

impl Swarm {
    pub(crate) fn new(peer: &Peer, clients: usize) -> anyhow::Result<Self> {
        let fresh = || Client {
            socket: None,
            tls: None,
            phase: Phase::Closed,
            frames: Decoder::new(Role::Client, 1 << 20),
            session: None,
        };
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            server: peer.address,
            number: fresh_number(),
            tls: peer.tls.clone(),
            clients: (0..clients).map(|_| fresh()).collect(),
            scratch: vec![0; 256 * 1024],
            ready_events: Vec::with_capacity(512),
            out: Vec::new(),
            started_at: Instant::now(),
            ready: 0,
            lost: 0,
            recovered: 0,
            unsent: 0,
        })
    }

    /// The same, of clients that go on with their sessions.
    pub(crate) fn remembering(peer: &Peer, clients: usize) -> anyhow::Result<Self> {
        let mut swarm = Self::new(peer, clients)?;
        swarm.clients.iter_mut().for_each(|client| client.session = Some(Box::default()));
        Ok(swarm)
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Microseconds since the swarm was made.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Connects everybody, `in_flight_max` at a time, and waits until all are in.
    pub(crate) fn connect_all(&mut self, in_flight_max: usize, within: Duration) -> anyhow::Result<()> {
        self.connect_these(0..self.clients.len(), in_flight_max, within)
    }

    /// Ends these connections without a word and connects them anew, as many at a time, until all are in.
    pub(crate) fn renew(
        &mut self,
        these: impl Iterator<Item = usize> + Clone,
        in_flight_max: usize,
        within: Duration,
    ) -> anyhow::Result<()> {
        self.number = fresh_number();
        for who in these.clone() {
            self.lose(who, &mut |_, _, _| {});
        }
        self.connect_these(these, in_flight_max, within)
    }

    fn connect_these(
        &mut self,
        mut these: impl Iterator<Item = usize>,
        in_flight_max: usize,
        within: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let mut in_flight = 0usize;
        while self.ready < self.clients.len() {
            while in_flight < in_flight_max
                && let Some(next) = these.next()
            {
                self.connect(next)?;
                in_flight += 1;
            }
            let (before, mut lost) = (self.ready, Vec::new());
            self.turn(Duration::from_millis(20), |_, who, arrival| {
                if arrival == Arrival::Gone {
                    lost.push(who);
                }
            })?;
            in_flight -= self.ready - before;
            for who in lost {
                self.connect(who)?;
            }
            anyhow::ensure!(Instant::now() < deadline, "only {} of {} connected", self.ready, self.len());
        }
        Ok(())
    }

    /// Begins to connect everybody.
    pub(crate) fn begin_all(&mut self) -> anyhow::Result<()> {
        self.begin(0..self.clients.len())
    }

    /// Begins to connect these.
    pub(crate) fn begin(&mut self, these: impl IntoIterator<Item = usize>) -> anyhow::Result<()> {
        these.into_iter().try_for_each(|who| self.connect(who))
    }

    /// Begins to connect one client.
    fn connect(&mut self, who: usize) -> anyhow::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let third = u8::try_from(1 + who / PORTS_PER_ADDRESS).context("too many clients")?;
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, third, self.number), 0));
        socket.bind(&source.into())?;
        let connecting = socket.connect(&self.server.into());
        if let Err(error) = connecting
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error.into());
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(who as u64), flags)?;
        let client = &mut self.clients[who];
        client.phase = Phase::Connecting;
        client.frames = Decoder::new(Role::Client, 1 << 20);
        client.socket = Some(socket);
        if let Some(config) = &self.tls {
            let name = ServerName::from(self.server.ip());
            client.tls = Some(Box::new(ClientConnection::new(Arc::clone(config), name)?));
        }
        Ok(())
    }

    /// Waits up to `patience` and takes in all that came. `handle` may send.
    pub(crate) fn turn(
        &mut self,
        patience: Duration,
        mut handle: impl FnMut(&mut Self, usize, Arrival),
    ) -> anyhow::Result<()> {
        let mut events = std::mem::take(&mut self.ready_events);
        events.clear();
        let timeout = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let who = usize::try_from(event.data.u64()).context("tokens are places")?;
            if self.clients[who].phase == Phase::Connecting {
                self.begin_upgrade(who, &mut handle)?;
            } else {
                self.read(who, &mut handle);
            }
        }
        self.ready_events = events;
        Ok(())
    }

    fn begin_upgrade(
        &mut self,
        who: usize,
        handle: &mut impl FnMut(&mut Self, usize, Arrival),
    ) -> anyhow::Result<()> {
        let Some(socket) = &self.clients[who].socket else { return Ok(()) };
        if socket.take_error()?.is_some() {
            self.lose(who, handle);
            return Ok(());
        }
        let data = epoll::EventData::new_u64(who as u64);
        epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN)?;
        self.clients[who].phase = Phase::Upgrading;
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {}\r\nUser-Agent: greenroom-bench\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.server
        );
        self.out.clear();
        self.out.extend_from_slice(request.as_bytes());
        self.write_out(who);
        Ok(())
    }

    fn lose(&mut self, who: usize, handle: &mut impl FnMut(&mut Self, usize, Arrival)) {
        let client = &mut self.clients[who];
        if client.phase == Phase::Ready {
            self.ready -= 1;
        }
        client.phase = Phase::Closed;
        client.socket = None;
        client.tls = None;
        self.lost += 1;
        handle(self, who, Arrival::Gone);
    }

    fn read(&mut self, who: usize, handle: &mut impl FnMut(&mut Self, usize, Arrival)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let got = match &mut self.clients[who] {
            Client { socket: Some(socket), tls: None, .. } => (&*socket).read(&mut scratch),
            Client { socket: Some(socket), tls: Some(tls), .. } => read_secure(tls, socket, &mut scratch),
            Client { socket: None, .. } => return self.scratch = scratch,
        };
        match got {
            Ok(0) => self.lose(who, handle),
            Ok(bytes) => self.take_in(who, &mut scratch[..bytes], handle),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.lose(who, handle),
        }
        self.scratch = scratch;
    }

    fn take_in(
        &mut self,
        who: usize,
        mut bytes: &mut [u8],
        handle: &mut impl FnMut(&mut Self, usize, Arrival),
    ) {
        if self.clients[who].phase == Phase::Upgrading {
            // Servers write the head of their answer in one piece.
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.lose(who, handle);
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return self.lose(who, handle);
            }
            bytes = &mut bytes[end + 4..];
            self.clients[who].phase = Phase::Opening;
        }
        let mut frames = std::mem::replace(&mut self.clients[who].frames, Decoder::new(Role::Client, 0));
        let mut feed = frames.feed(bytes);
        loop {
            match feed.next() {
                Ok(Some(Event::Text(text))) => self.take_text(who, text, handle),
                Ok(Some(Event::Binary(bytes))) => {
                    let sent_us = bytes.first_chunk().map_or(0, |stamp| u64::from_be_bytes(*stamp));
                    handle(self, who, Arrival::Event(sent_us));
                }
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                Ok(None) => break,
                Ok(Some(Event::Close(_))) | Err(_) => return self.lose(who, handle),
            }
        }
        self.clients[who].frames = frames;
    }

    fn take_text(&mut self, who: usize, text: &str, handle: &mut impl FnMut(&mut Self, usize, Arrival)) {
        match (self.clients[who].phase, text.as_bytes()) {
            (_, b"2") => self.send_text(who, "3"),
            (Phase::Opening, [b'0', ..]) => {
                self.clients[who].phase = Phase::Joining;
                let connect = match self.clients[who].session.as_deref() {
                    Some(Remembered { pid, offset, .. }) if !pid.is_empty() => {
                        format!("40{{\"pid\":\"{pid}\",\"offset\":\"{offset}\"}}")
                    }
                    Some(_) | None => "40".to_owned(),
                };
                self.send_text(who, &connect);
            }
            (Phase::Joining, [b'4', b'0', ..]) => {
                self.clients[who].phase = Phase::Ready;
                self.ready += 1;
                if let Some(session) = &mut self.clients[who].session {
                    let sid = member(text, "sid").to_owned();
                    self.recovered += usize::from(session.sid == sid);
                    **session = Remembered { sid, pid: member(text, "pid").to_owned(), ..Default::default() };
                }
                handle(self, who, Arrival::Ready);
            }
            (Phase::Ready, [b'4', b'3', ..]) => handle(self, who, Arrival::Ack(stamp(text))),
            (Phase::Ready, [b'4', b'2', ..]) => {
                if let Some(session) = &mut self.clients[who].session
                    && let Some((_, offset)) = text.strip_suffix("\"]").and_then(|text| text.rsplit_once('"'))
                {
                    offset.clone_into(&mut session.offset);
                }
                handle(self, who, Arrival::Event(stamp(text)));
            }
            (
                Phase::Closed
                | Phase::Connecting
                | Phase::Upgrading
                | Phase::Opening
                | Phase::Joining
                | Phase::Ready,
                _,
            ) => {}
        }
    }

    fn send_text(&mut self, who: usize, text: &str) {
        self.out.clear();
        write_frame(Opcode::Text, text.as_bytes(), Some(KEY), &mut self.out);
        self.write_out(who);
    }

    /// Sends an event, the present moment in its payload, `times` over in one write.
    pub(crate) fn send_event(&mut self, who: usize, event: &str, wants_ack: bool, times: usize) {
        let id = if wants_ack { "0" } else { "" };
        let mut text = format!("42{id}[\"{event}\",{{\"t\":{:016},\"p\":\"", self.now_us() + STAMP_BASE);
        text.extend(std::iter::repeat_n('x', PAYLOAD_BYTES - 29));
        text.push_str("\"}]");
        self.out.clear();
        for _ in 0..times {
            write_frame(Opcode::Text, text.as_bytes(), Some(KEY), &mut self.out);
        }
        self.write_out(who);
    }

    /// Asks for a room; the answer arrives as an ack.
    pub(crate) fn send_join(&mut self, who: usize, room: usize) {
        self.send_text(who, &format!("420[\"join\",\"room {room}\"]"));
    }

    /// Sends an event with a binary payload, the present moment in it.
    pub(crate) fn send_binary(&mut self, who: usize, event: &str) {
        let mut payload = [b'x'; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.now_us().to_be_bytes());
        let text = format!("451-[\"{event}\",{{\"_placeholder\":true,\"num\":0}}]");
        self.out.clear();
        write_frame(Opcode::Text, text.as_bytes(), Some(KEY), &mut self.out);
        write_frame(Opcode::Binary, &payload, Some(KEY), &mut self.out);
        self.write_out(who);
    }

    fn write_out(&mut self, who: usize) {
        let written = match &mut self.clients[who] {
            Client { socket: Some(socket), tls: None, .. } => {
                (&*socket).write(&self.out).is_ok_and(|written| written == self.out.len())
            }
            Client { socket: Some(socket), tls: Some(tls), .. } => {
                tls.writer().write_all(&self.out).and_then(|()| flush_secure(tls, socket)).is_ok()
            }
            Client { socket: None, .. } => return,
        };
        self.unsent += usize::from(!written);
    }
}

/// Reads once, and gives what plaintext there is by then; what the handshake wants to say is said.
fn read_secure(tls: &mut ClientConnection, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    if tls.read_tls(&mut &*socket)? == 0 {
        return Ok(0);
    }
    tls.process_new_packets().map_err(io::Error::other)?;
    flush_secure(tls, socket)?;
    let mut got = 0;
    while got < into.len() {
        match tls.reader().read(&mut into[got..]) {
            Ok(0) => break,
            Ok(bytes) => got += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    if got == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(got) }
}

fn flush_secure(tls: &mut ClientConnection, socket: &Socket) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut &*socket)?;
    }
    Ok(())
}

/// A text of a flat JSON object; empty where it is not there.
fn member<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.split_once(&format!("\"{name}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.map_or("", |(value, _)| value)
}

/// Makes every stamp sixteen digits, without leading zeros: JSON has none.
const STAMP_BASE: u64 = 1_000_000_000_000_000;

/// The moment in a payload; 0 where there is none.
fn stamp(text: &str) -> u64 {
    let Some(at) = text.find("\"t\":") else { return 0 };
    let digits = text.get(at + 4..at + 20).and_then(|digits| digits.parse::<u64>().ok());
    digits.map_or(0, |digits| digits - STAMP_BASE)
}
