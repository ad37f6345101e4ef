//! The TCP connection of one WebSocket, with what its reading needs between two reads.
//! Never a queue: what waits to be written lies in the session's line.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use greenroom_socketio::ws::{Decoder, Role};

use crate::channel::Channel;
use crate::session::Session;
use crate::state::Permit;
use crate::websocket::Purpose;

pub(crate) struct Wire {
    channel: Channel,
    /// Where the reactor keeps it.
    pub(crate) place: Cell<Option<usize>>,
    pub(crate) purpose: Cell<Purpose>,
    /// Gone once the connection was read to its end.
    pub(crate) session: RefCell<Option<Rc<Session>>>,
    pub(crate) frames: RefCell<Decoder>,
    _permit: Permit,
}

impl Wire {
    /// A connection whose opening handshake is over.
    pub(crate) fn new(
        channel: Channel,
        purpose: Purpose,
        payload_bytes_max: usize,
        permit: Permit,
    ) -> Rc<Self> {
        Rc::new(Self {
            channel,
            place: Cell::new(None),
            purpose: Cell::new(purpose),
            session: RefCell::default(),
            frames: RefCell::new(Decoder::new(Role::Server, payload_bytes_max)),
            _permit: permit,
        })
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.channel.read(into)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.write(bytes)
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.channel.write_vectored(slices)
    }

    /// Hands the kernel what was written before and not taken.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.channel.flush()
    }

    /// Whether the last read may have left something although it did not fill its space.
    pub(crate) fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.channel.has_unsent()
    }

    /// No byte follows.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.channel.finish()
    }

    /// Shuts it down in both directions; reading tells so at once.
    pub(crate) fn hang_up(&self) {
        self.channel.hang_up();
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
