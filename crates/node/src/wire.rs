//! The TCP connection of one WebSocket, with what its reading needs between two reads.
//! Never a queue: what waits to be written lies in the session's line.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use greenroom_socketio::ws::{Decoder, Role};

use crate::session::Session;
use crate::state::Permit;
use crate::websocket::Purpose;

pub(crate) struct Wire {
    stream: TcpStream,
    /// Where the reactor keeps it.
    pub(crate) place: Cell<Option<usize>>,
    pub(crate) purpose: Cell<Purpose>,
    /// Gone once the connection was read to its end.
    pub(crate) session: RefCell<Option<Rc<Session>>>,
    pub(crate) frames: RefCell<Decoder>,
    _permit: Permit,
}

impl Wire {
    /// A nonblocking stream whose opening handshake is over.
    pub(crate) fn new(
        stream: TcpStream,
        purpose: Purpose,
        payload_bytes_max: usize,
        permit: Permit,
    ) -> Rc<Self> {
        Rc::new(Self {
            stream,
            place: Cell::new(None),
            purpose: Cell::new(purpose),
            session: RefCell::default(),
            frames: RefCell::new(Decoder::new(Role::Server, payload_bytes_max)),
            _permit: permit,
        })
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(into)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.stream).write(bytes)
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.stream).write_vectored(slices)
    }

    /// No byte follows.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Shuts it down in both directions; reading tells so at once.
    pub(crate) fn hang_up(&self) {
        // It fails when the other end was faster, which is as good.
        let _closed_before = self.stream.shutdown(Shutdown::Both);
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
