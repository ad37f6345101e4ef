//! Owns one Socket.IO connection in the client role, from the first byte after the WebSocket upgrade: the opening, the
//! heartbeat, reading packets, and the bytes that wait to be written.
//! Never does IO or reads a clock.

#[cfg(test)]
mod tests;

use std::time::Duration;

use greenroom_socketio::{
    Limits,
    engine::{EnginePacket, Heartbeat, HeartbeatStep, Moment, Open},
    packet::{
        AckId, ConnectRefused, Connected, Decoder, Draft, EncodeError, MAIN_NAMESPACE, Packet, PacketKind,
        Prepared,
    },
    ws::{self, MaskKey, Opcode},
};

use crate::{draws::Draws, fact::SessionBack, flow::Protocol, player::ClosedBy};

/// Bytes that may wait to be written. A server that does not read a few inputs per second is a fault to be shown.
pub const OUT_BYTES_MAX: usize = 64 * 1024;

/// What a connection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The namespace is connected, and this became of the session before.
    Connected(SessionBack),
    /// The namespace was refused, with the server's code, or its message where it has none.
    Refused(String),
    /// An event, with its first argument as JSON text.
    Event(&'a str, Option<&'a str>),
    /// The event of this number was acknowledged.
    Acked(u32),
    /// It is over; nothing more is told.
    Closed(ClosedBy),
}

impl Heard<'_> {
    /// How the connection ended, if this tells it.
    pub(crate) fn closing(self) -> Option<ClosedBy> {
        match self {
            Self::Closed(by) => Some(by),
            Self::Connected(_) | Self::Refused(_) | Self::Event(..) | Self::Acked(_) => None,
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    protocol: Protocol,
    frames: ws::Decoder,
    packets: Decoder,
    /// JSON object for the CONNECT packet, until it is sent.
    auth: Option<Box<str>>,
    beat: Option<Beat>,
    out: Vec<u8>,
    masks: Draws,
    session: Session,
    ended: bool,
}

/// What a connection must remember to come back as the same session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Session {
    /// Nothing: this connection does not come back.
    #[default]
    Unkept,
    /// The server has told none.
    Untold,
    /// Where it stands.
    At(Box<Place>),
}

/// A session and the position up to which its events came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    sid: String,
    pid: String,
    /// The last event's offset, as it came: a JSON string. Empty before the first.
    offset: String,
}

impl Session {
    /// What to send beside `auth` so that the server knows the session again, as the stock client does.
    #[must_use]
    pub fn beside(&self, auth: Option<&str>) -> Option<String> {
        let Self::At(place) = self else { return auth.map(str::to_owned) };
        let pid = serde_json::Value::from(place.pid.as_str());
        let offset = match place.offset.as_str() {
            "" => String::new(),
            offset => format!(",\"offset\":{offset}"),
        };
        let rest = auth.and_then(|auth| auth.strip_prefix('{')).filter(|rest| *rest != "}");
        Some(match rest {
            Some(rest) => format!("{{\"pid\":{pid}{offset},{rest}"),
            None => format!("{{\"pid\":{pid}{offset}}}"),
        })
    }

    /// Takes the server's word on who this is.
    fn told(&mut self, json: &str) -> SessionBack {
        if *self == Self::Unkept {
            return SessionBack::None;
        }
        let Ok(Connected { sid, pid: Some(pid) }) = serde_json::from_str(json) else {
            return match std::mem::replace(self, Self::Untold) {
                Self::At(_) => SessionBack::New,
                Self::Unkept | Self::Untold => SessionBack::None,
            };
        };
        let back = match self {
            Self::Unkept | Self::Untold => SessionBack::None,
            Self::At(old) => match (old.pid == pid, old.sid == sid) {
                (true, true) => return SessionBack::Recovered,
                (false, false) => SessionBack::New,
                (true, false) | (false, true) => SessionBack::Mixed,
            },
        };
        *self = Self::At(Box::new(Place { sid, pid, offset: String::new() }));
        back
    }

    /// The last argument of an event is its offset if it is a string, as for the stock client.
    fn heard(&mut self, packet: &Packet) {
        if let Self::At(place) = self
            && let Some(offset) = packet.args().last().filter(|last| last.starts_with('"'))
        {
            place.offset.clear();
            place.offset.push_str(offset);
        }
    }
}

#[derive(Debug)]
struct Beat {
    heartbeat: Heartbeat,
    patience: Duration,
}

impl Link {
    /// A connection whose WebSocket has just opened. `auth` is a JSON object. `masks` are the mask keys; they need not
    /// be hard to guess here, because no untrusted page chooses what a load generator sends.
    #[must_use]
    pub fn new(protocol: Protocol, auth: Option<String>, masks: Draws) -> Self {
        Self {
            protocol,
            frames: ws::Decoder::new(ws::Role::Client, Limits::DEFAULT.payload_bytes_max),
            packets: Decoder::new(),
            auth: auth.map(Into::into),
            beat: None,
            out: Vec::new(),
            masks,
            session: Session::Unkept,
            ended: false,
        }
    }

    /// The same, for a connection that may come back: it continues `session`.
    #[must_use]
    pub fn continuing(self, session: Session) -> Self {
        Self { session, ..self }
    }

    /// Where the session stands, for the connection after this one.
    pub fn take_session(&mut self) -> Session {
        std::mem::take(&mut self.session)
    }

    /// What waits to be written.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// The first `bytes` of [`Self::out`] were written.
    pub fn wrote(&mut self, bytes: usize) {
        if bytes == self.out.len() {
            self.out = Vec::new();
        } else {
            self.out.drain(..bytes);
        }
    }

    /// Takes in what was read; it is unmasked in place.
    pub fn handle_bytes(&mut self, input: &mut [u8], now: Duration, hear: &mut dyn FnMut(Heard<'_>)) {
        let mut talk = Talk {
            protocol: self.protocol,
            packets: &mut self.packets,
            auth: &mut self.auth,
            beat: &mut self.beat,
            out: &mut self.out,
            masks: &mut self.masks,
            session: &mut self.session,
            now: moment(now),
        };
        let mut feed = self.frames.feed(input);
        while !self.ended {
            let closed = match feed.next() {
                Ok(Some(event)) => talk.handle(&event, hear),
                Ok(None) => return,
                Err(error) => Some(ClosedBy::Transport(error.to_string())),
            };
            if let Some(by) = closed {
                self.ended = true;
                hear(Heard::Closed(by));
            }
        }
    }

    /// The transport ended.
    pub fn handle_end(&mut self, reason: &str, hear: &mut dyn FnMut(Heard<'_>)) {
        if !std::mem::replace(&mut self.ended, true) {
            hear(Heard::Closed(ClosedBy::Transport(reason.to_owned())));
        }
    }

    /// Tells when the server's ping is overdue. To be called about once a second.
    pub fn handle_time(&mut self, now: Duration, hear: &mut dyn FnMut(Heard<'_>)) {
        let Some(beat) = &mut self.beat else { return };
        match beat.heartbeat.poll(beat.patience, moment(now)) {
            HeartbeatStep::TimedOut => self.handle_end("ping timeout", hear),
            HeartbeatStep::Wait(_) | HeartbeatStep::Ping => {}
        }
    }

    /// Sends an event with one argument, raw JSON; `ack` is the number by which it is to be acknowledged. On a bare
    /// WebSocket the argument is the message, and nothing is acknowledged. More than [`OUT_BYTES_MAX`] waiting bytes end the connection.
    ///
    /// # Errors
    /// A name or an argument that no packet can carry.
    pub fn emit(
        &mut self,
        event: &str,
        argument: &str,
        ack: Option<u32>,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), EncodeError> {
        let ack = ack.and_then(|number| AckId::new(u64::from(number)));
        let packet = match self.protocol {
            Protocol::SocketIo => Some(Draft::event(event)?.raw_arg(argument)?.prepare(MAIN_NAMESPACE, ack)?),
            Protocol::WebSocket => None,
        };
        let bytes = packet.as_ref().map_or(argument.len(), Prepared::frames_bytes);
        if self.out.len() + bytes > OUT_BYTES_MAX {
            self.handle_end("the server does not read", hear);
            return Ok(());
        }
        match packet {
            Some(packet) => write(&packet, &mut self.masks, &mut self.out),
            None => {
                let key = mask_key(&mut self.masks);
                ws::write_frame(Opcode::Text, argument.as_bytes(), Some(key), &mut self.out);
            }
        }
        Ok(())
    }

    /// Leaves: queues the namespace's and the WebSocket's goodbye. Nothing is told any more.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            if self.protocol == Protocol::SocketIo {
                let packet =
                    Prepared::disconnect(MAIN_NAMESPACE).expect("the main namespace has a valid name");
                write(&packet, &mut self.masks, &mut self.out);
            }
            let key = mask_key(&mut self.masks);
            ws::write_frame(Opcode::Close, &ws::close_payload(1000, ""), Some(key), &mut self.out);
        }
    }

    /// Ends without a goodbye, as a network that fails. Nothing is told any more.
    pub fn cut(&mut self) {
        self.ended = true;
    }

    /// Whether nothing more is told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

fn moment(now: Duration) -> Moment {
    Moment::from_millis(0).after(now)
}

fn mask_key(masks: &mut Draws) -> MaskKey {
    let [a, b, c, d, ..] = masks.bits().to_le_bytes();
    [a, b, c, d]
}

fn write(packet: &Prepared, masks: &mut Draws, out: &mut Vec<u8>) {
    packet.write_masked(|| mask_key(masks), out);
}

/// The parts of a link that an incoming frame touches.
struct Talk<'a> {
    protocol: Protocol,
    packets: &'a mut Decoder,
    auth: &'a mut Option<Box<str>>,
    beat: &'a mut Option<Beat>,
    out: &'a mut Vec<u8>,
    masks: &'a mut Draws,
    session: &'a mut Session,
    now: Moment,
}

impl Talk<'_> {
    /// Handles one frame; gives how the connection ended if it did.
    fn handle(&mut self, event: &ws::Event<'_>, hear: &mut dyn FnMut(Heard<'_>)) -> Option<ClosedBy> {
        match event {
            ws::Event::Text(text) if self.protocol == Protocol::WebSocket => {
                hear(Heard::Event("message", Some(text)));
                None
            }
            ws::Event::Binary(_) if self.protocol == Protocol::WebSocket => {
                hear(Heard::Event("message", None));
                None
            }
            ws::Event::Text(text) => match EnginePacket::decode_text(text) {
                Ok(packet) => self.engine_packet(&packet, hear),
                Err(error) => transport(error),
            },
            ws::Event::Binary(bytes) => self.engine_packet(&EnginePacket::decode_binary(bytes), hear),
            ws::Event::Ping(payload) => {
                let key = mask_key(self.masks);
                ws::write_frame(Opcode::Pong, payload, Some(key), self.out);
                None
            }
            ws::Event::Pong(_) => None,
            ws::Event::Close(frame) => {
                let key = mask_key(self.masks);
                frame.write_reply(Some(key), self.out);
                let code = frame.code.map_or("without a code".to_owned(), |code| format!("with code {code}"));
                transport(format_args!("closed by the server {code}"))
            }
        }
    }

    fn engine_packet(
        &mut self,
        packet: &EnginePacket<'_>,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Option<ClosedBy> {
        let read = match packet {
            EnginePacket::Open(payload) => return self.open(payload),
            EnginePacket::Ping(payload) => return self.ping(payload),
            EnginePacket::Close => return transport("closed by the server"),
            EnginePacket::Noop | EnginePacket::Pong(_) | EnginePacket::Upgrade => return None,
            EnginePacket::Text(text) => self.packets.handle_text(text, &Limits::DEFAULT),
            EnginePacket::Binary(bytes) => self.packets.handle_binary(bytes, &Limits::DEFAULT),
        };
        match read {
            Ok(Some(packet)) => socketio_packet(&packet, self.session, hear),
            Ok(None) => None,
            Err(error) => transport(error),
        }
    }

    fn open(&mut self, payload: &str) -> Option<ClosedBy> {
        let open = match Open::from_json(payload) {
            Ok(open) if self.beat.is_none() => open,
            Ok(_) => return transport("a second open packet came"),
            Err(error) => return transport(error),
        };
        let patience = open.patience();
        *self.beat = Some(Beat { heartbeat: Heartbeat::client(patience, self.now), patience });
        match Prepared::connect(MAIN_NAMESPACE, self.auth.take().as_deref()) {
            Ok(connect) => {
                write(&connect, self.masks, self.out);
                None
            }
            Err(error) => transport(error),
        }
    }

    fn ping(&mut self, payload: &str) -> Option<ClosedBy> {
        let Some(beat) = self.beat else { return transport("a ping came before the open packet") };
        if let Err(error) = beat.heartbeat.handle_ping(beat.patience, self.now) {
            return transport(error);
        }
        let key = mask_key(self.masks);
        EnginePacket::Pong(payload).write_frame(Some(key), self.out);
        None
    }
}

fn socketio_packet(
    packet: &Packet,
    session: &mut Session,
    hear: &mut dyn FnMut(Heard<'_>),
) -> Option<ClosedBy> {
    if packet.namespace() != MAIN_NAMESPACE {
        return None;
    }
    match packet.kind() {
        PacketKind::Connect => hear(Heard::Connected(session.told(packet.data()))),
        PacketKind::ConnectError => hear(Heard::Refused(refusal_code(packet.data()))),
        PacketKind::Disconnect => return Some(ClosedBy::Server),
        PacketKind::Event => {
            session.heard(packet);
            hear(Heard::Event(packet.event().unwrap_or_default(), packet.args().next()));
        }
        PacketKind::Ack => {
            if let Some(number) = packet.ack_id().and_then(|id| u32::try_from(id.get()).ok()) {
                hear(Heard::Acked(number));
            }
        }
    }
    None
}

/// `data.code` of a refusal, else its message.
fn refusal_code(json: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Coded {
        code: String,
    }
    let Ok(refused) = serde_json::from_str::<ConnectRefused>(json) else {
        return format!("unreadable refusal {json}");
    };
    let coded = refused.data.as_ref().and_then(|data| serde_json::from_str::<Coded>(data.get()).ok());
    coded.map_or(refused.message, |coded| coded.code)
}

#[expect(clippy::unnecessary_wraps, reason = "every caller ends the connection with it")]
fn transport(reason: impl std::fmt::Display) -> Option<ClosedBy> {
    Some(ClosedBy::Transport(reason.to_string()))
}
