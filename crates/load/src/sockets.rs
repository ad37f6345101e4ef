//! Owns the open connections of all players: their streams, who they belong to, what they wait for.
//! Never knows what a player wants.

use std::{
    collections::HashMap,
    io,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::FuturesUnordered;
use tokio::{io::Interest, net::TcpStream};

use crate::{flow::SocketName, link::Link, player::PlayerIndex};

/// Bytes that one look at a connection takes in at most; the rest waits for the other connections.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes a second that a slow peer reads.
const SLOW_BYTES: usize = 256;

/// Names a connection for the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Completes when its connection can be read or written.
pub(crate) struct Wait {
    id: LinkId,
    side: Side,
    stream: Rc<TcpStream>,
}

impl Future for Wait {
    type Output = (LinkId, Side);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ready = match self.side {
            Side::Read => self.stream.poll_read_ready(cx),
            Side::Write => self.stream.poll_write_ready(cx),
        };
        // A failed connection is told by the read or write that follows.
        ready.map(|_| (self.id, self.side))
    }
}

/// How a connection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as bytes come.
    Swift,
    /// A little each second.
    Slow,
    /// Not at all, and nothing is written either.
    Silent,
}

pub(crate) struct Socket {
    pub(crate) player: PlayerIndex,
    pub(crate) name: SocketName,
    stream: Rc<TcpStream>,
    pub(crate) link: Link,
    /// Set when the player left: the connection only drains from here on.
    pub(crate) close_by: Option<Duration>,
    awaits_write: bool,
    pub(crate) pace: Pace,
}

/// All open connections.
#[derive(Default)]
pub(crate) struct Sockets {
    by_id: HashMap<LinkId, Socket>,
    by_player: HashMap<(PlayerIndex, SocketName), LinkId>,
    next: u64,
    pub(crate) waits: FuturesUnordered<Wait>,
}

impl Sockets {
    pub(crate) fn next_id(&self) -> LinkId {
        LinkId(self.next)
    }

    /// Takes an open connection in, and gives its name, which is [`Self::next_id`].
    pub(crate) fn add(
        &mut self,
        player: PlayerIndex,
        name: SocketName,
        stream: TcpStream,
        link: Link,
    ) -> LinkId {
        let (id, stream) = (self.next_id(), Rc::new(stream));
        self.next += 1;
        self.waits.push(Wait { id, side: Side::Read, stream: Rc::clone(&stream) });
        let socket =
            Socket { player, name, stream, link, close_by: None, awaits_write: false, pace: Pace::Swift };
        self.by_id.insert(id, socket);
        self.by_player.insert((player, name), id);
        id
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn get(&mut self, id: LinkId) -> Option<&mut Socket> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn of(&self, player: PlayerIndex, name: SocketName) -> Option<LinkId> {
        self.by_player.get(&(player, name)).copied()
    }

    /// The player left this connection: it is no longer theirs, and must be closed by this moment.
    pub(crate) fn disown(
        &mut self,
        player: PlayerIndex,
        name: SocketName,
        close_by: Duration,
    ) -> Option<LinkId> {
        let id = self.by_player.remove(&(player, name))?;
        let socket = self.by_id.get_mut(&id)?;
        if socket.pace == Pace::Silent {
            // A silent peer says no goodbye.
            self.forget(id);
            return None;
        }
        socket.pace = Pace::Swift;
        socket.link.leave();
        socket.close_by = Some(close_by);
        Some(id)
    }

    /// The player cut this connection: it is no longer theirs, says no goodbye, and must be closed by this moment.
    pub(crate) fn cut(
        &mut self,
        player: PlayerIndex,
        name: SocketName,
        close_by: Duration,
    ) -> Option<LinkId> {
        let id = self.by_player.remove(&(player, name))?;
        let socket = self.by_id.get_mut(&id)?;
        socket.link.cut();
        socket.close_by = Some(close_by);
        Some(id)
    }

    /// How many connections of this name are open and in use.
    pub(crate) fn count_of(&self, name: SocketName) -> usize {
        self.by_player.keys().filter(|(_, of)| *of == name).count()
    }

    /// Forgets a connection. Shutting it down ends the wait that still holds it.
    pub(crate) fn forget(&mut self, id: LinkId) {
        if let Some(socket) = self.by_id.remove(&id) {
            let key = (socket.player, socket.name);
            if self.by_player.get(&key) == Some(&id) {
                self.by_player.remove(&key);
            }
            shut(&socket.stream, Shutdown::Both);
        }
    }

    /// Reads once into `buffer`, as much as the connection's pace allows. `None` when there is nothing to handle.
    pub(crate) fn read(&self, id: LinkId, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let socket = self.by_id.get(&id)?;
        let most = match socket.pace {
            Pace::Swift => buffer.len(),
            Pace::Slow => SLOW_BYTES,
            Pace::Silent => return None,
        };
        match read_once(&socket.stream, &mut buffer[..most]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            read => Some(read),
        }
    }

    /// Waits for more to read; a slow one only when its second has come, a silent one never.
    pub(crate) fn await_read(&mut self, id: LinkId, second_came: bool) {
        if let Some(socket) = self.by_id.get(&id) {
            let now = match socket.pace {
                Pace::Swift => !second_came,
                Pace::Slow => second_came,
                Pace::Silent => false,
            };
            if now {
                self.waits.push(Wait { id, side: Side::Read, stream: Rc::clone(&socket.stream) });
            }
        }
    }

    /// The connection can be written again.
    pub(crate) fn may_write(&mut self, id: LinkId) {
        if let Some(socket) = self.by_id.get_mut(&id) {
            socket.awaits_write = false;
        }
        self.flush(id);
    }

    /// Writes what the connection takes now. What is left is written when it can be; a fault is told by the next read.
    pub(crate) fn flush(&mut self, id: LinkId) {
        let Some(socket) = self.by_id.get_mut(&id).filter(|socket| socket.pace != Pace::Silent) else {
            return;
        };
        while !socket.link.out().is_empty() {
            match socket.stream.try_write(socket.link.out()) {
                Ok(bytes) => socket.link.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut socket.awaits_write, true) {
                        self.waits.push(Wait { id, side: Side::Write, stream: Rc::clone(&socket.stream) });
                    }
                    return;
                }
                Err(_) => return,
            }
        }
        if socket.close_by.is_some() {
            // The server reads to the end, answers and closes; only then our side goes, so that nothing is cut off.
            shut(&socket.stream, Shutdown::Write);
        }
    }
}

/// Reads what is there. A short read has emptied the connection: saying so to the runtime at once saves a second,
/// empty look at it for each readiness.
fn read_once(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    let looked = stream.try_io(Interest::READABLE, || {
        read = rustix::io::read(stream, &mut *buffer)?;
        if read > 0 && read < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if read > 0 { Ok(read) } else { looked.map(|()| 0) }
}

/// Shuts one or both directions; a stream that is gone already needs nothing.
fn shut(stream: &TcpStream, how: Shutdown) {
    let _gone_already = socket2::SockRef::from(stream).shutdown(how);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::Player;

    #[test]
    fn a_player_with_both_connections_stays_small() {
        let bytes =
            size_of::<Player>() + 2 * (size_of::<Socket>() + 2 * size_of::<Wait>() + size_of::<TcpStream>());
        assert!(bytes <= 1_200, "{bytes} bytes, without what tokio keeps for each stream");
    }
}
