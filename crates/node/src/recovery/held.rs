//! What a socket holds of its session: enough to tell the backplane of it anew at any time.
//! Never written by an older generation: the backplane refuses that.

use std::collections::VecDeque;

use greenroom_socketio::packet::Prepared;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Own, Pid, Position};

use super::attachments;

/// An event for this socket alone, which the backplane has.
pub(crate) struct HeldOwn {
    position: Position,
    seq: u64,
    /// Without an offset.
    packet: Prepared,
}

/// The recoverable session of one socket.
pub(crate) struct Held {
    pub(crate) pid: Pid,
    pub(crate) generation: u64,
    /// Everything up to here has surely arrived.
    pub(crate) safe: Position,
    /// What was on the line when the ping left that has not been answered yet.
    pub(crate) marked: Option<Position>,
    /// Events for this socket alone after that, in order.
    own: VecDeque<HeldOwn>,
    /// The backplane shall hear of its groups and data at the end of the turn.
    pub(crate) is_changed: bool,
}

impl Held {
    pub(crate) fn new(pid: Pid, generation: u64, safe: Position) -> Box<Self> {
        Box::new(Self { pid, generation, safe, marked: None, own: VecDeque::new(), is_changed: false })
    }

    pub(crate) fn delivered(&mut self, position: Position, seq: u64, packet: Prepared) {
        self.own.push_back(HeldOwn { position, seq, packet });
    }

    /// The client has answered the ping.
    pub(crate) fn answered(&mut self) -> Option<(Pid, u64, Text<Position>)> {
        let safe = self.marked.take()?;
        self.safe = safe;
        while self.own.front().is_some_and(|own| !own.position.is_after(&safe)) {
            self.own.pop_front();
        }
        Some((self.pid.clone(), self.generation, Text(safe)))
    }

    pub(crate) fn own_record(&self) -> Vec<Own> {
        let own = self.own.iter().map(|own| Own {
            position: Text(own.position),
            seq: own.seq,
            packet: own.packet.text().to_owned(),
            attachments: attachments(&own.packet),
        });
        own.collect()
    }
}
