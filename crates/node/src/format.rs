//! What lies between a session's bytes and its packets where the node does not speak the standard format.
//! Never trusts a parser of the program: what it says is judged below, and a panic costs a session or an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenroom_socketio::engine::DisconnectReason;
use greenroom_socketio::packet::{DecodeError, Decoder, Msgpack, Packet, PacketParser, Prepared};

use crate::config::Parser;
use crate::session::Session;

impl Parser {
    /// The parser that is not the standard one.
    fn other(&self) -> Option<&dyn PacketParser> {
        match self {
            Self::Json => None,
            Self::Msgpack => Some(&Msgpack),
            Self::Custom(parser) => Some(&**parser),
        }
    }

    /// The reader of a fresh connection.
    pub(crate) fn decoder(&self) -> Decoder {
        self.other().map_or_else(Decoder::new, Decoder::of)
    }
}

impl Session {
    /// The packet as this node's parser writes it. `None` where it cannot: that is counted and logged.
    pub(crate) fn written<'a>(&self, packet: &'a Prepared) -> Option<&'a Prepared> {
        let Some(parser) = self.state.config.parser.other() else { return Some(packet) };
        let written = catch_unwind(AssertUnwindSafe(|| packet.written_by(parser)));
        let why = match &written {
            Ok(Ok(written)) => return Some(written),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the parser panicked".to_owned(),
        };
        self.state.counting.emit_faults_total.one();
        tracing::error!(why, "a packet cannot be written in this node's format");
        None
    }

    /// Takes in one message of Engine.IO.
    pub(crate) fn handle_message(
        self: &Rc<Self>,
        read: impl FnOnce(&mut Decoder) -> Result<Option<Packet>, DecodeError>,
    ) {
        let mut decoded = Ok(None);
        match &self.state.config.parser {
            Parser::Json | Parser::Msgpack => decoded = read(&mut self.decoder.borrow_mut()),
            Parser::Custom(_) => self.guard(|| decoded = read(&mut self.decoder.borrow_mut())),
        }
        match decoded {
            Ok(Some(packet)) => self.dispatch(packet),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(sid_tail = self.sid_tail(), %error, "packet refused");
                self.explain(&error);
                self.close_faulty(DisconnectReason::ParseError, None);
            }
        }
    }
}
