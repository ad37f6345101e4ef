//! One client's TCP connection, plain or under TLS: what is read and written here is plaintext either way.
//! Never waits: what cannot be had now is `WouldBlock`.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::tls::Tls;

/// Plaintext of several pieces that is put together for one record.
const JOINED_BYTES: usize = 16 * 1024;

pub(crate) struct Channel {
    stream: TcpStream,
    tls: Option<Box<RefCell<Tls>>>,
}

impl Channel {
    /// A nonblocking stream, fresh from being accepted.
    pub(crate) fn new(stream: TcpStream, tls: Option<Tls>) -> Self {
        Self { stream, tls: tls.map(|tls| Box::new(RefCell::new(tls))) }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.stream).read(into),
            Some(tls) => tls.borrow_mut().read(&self.stream, into),
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.stream).write(bytes),
            Some(tls) => tls.borrow_mut().write(&self.stream, bytes),
        }
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&self.stream).write_vectored(slices) };
        let mut joined = Vec::new();
        for slice in slices {
            let room = JOINED_BYTES - joined.len();
            joined.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        tls.borrow_mut().write(&self.stream, &joined)
    }

    /// Hands the kernel what TLS made of earlier writes. Does nothing without TLS.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.borrow_mut().flush(&self.stream))
    }

    /// Whether [`Self::flush`] has anything to do.
    pub(crate) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().has_unsent())
    }

    /// Whether there is plaintext that the kernel no longer tells of.
    pub(crate) fn has_unread(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().has_unread())
    }

    /// Whether the last read may have left something with the kernel although it did not fill its space.
    pub(crate) fn is_full(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().is_full())
    }

    /// No byte follows.
    pub(crate) fn finish(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            // A handshake that was never completed has no such word; the end of the stream tells as much.
            let _said = tls.borrow_mut().finish(&self.stream);
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Shuts it down in both directions; reading tells so at once.
    pub(crate) fn hang_up(&self) {
        // It fails when the other end was faster, which is as good.
        let _closed_before = self.stream.shutdown(Shutdown::Both);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}
