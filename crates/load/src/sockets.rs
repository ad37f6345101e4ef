//! Owns the open connections of all players: their streams, who they belong to, what they wait for.
//! Never knows what a player wants.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventFlags},
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{flow::SocketName, link::Link, player::PlayerIndex};

/// Bytes that one look at a connection takes in at most; the rest waits for the other connections.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes a second that a slow peer reads.
const SLOW_BYTES: usize = 256;
/// Connections that are told as ready at once; the rest waits for timers and what control answers.
const READY_MAX: usize = 256;

/// Names a connection for the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// What a connection can do now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) id: LinkId,
    pub(crate) to_read: bool,
    pub(crate) to_write: bool,
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
    stream: TcpStream,
    pub(crate) link: Link,
    /// Set when the player left: the connection only drains from here on.
    pub(crate) close_by: Option<Duration>,
    /// What the kernel is asked to tell.
    watched: EventFlags,
    pub(crate) pace: Pace,
}

/// All open connections, in one epoll of their own: one at rest has no task, no waker and no buffer.
pub(crate) struct Sockets {
    epoll: Rc<AsyncFd<OwnedFd>>,
    /// Boxed, because a table holds up to twice as many places as connections.
    by_id: HashMap<LinkId, Box<Socket>>,
    by_player: HashMap<(PlayerIndex, SocketName), LinkId>,
    next: u64,
    events: Vec<epoll::Event>,
}

impl Sockets {
    /// No connections. Needs a runtime of tokio.
    ///
    /// # Errors
    /// The system gives no epoll.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: Rc::new(watch(epoll)?),
            by_id: HashMap::new(),
            by_player: HashMap::new(),
            next: 0,
            events: Vec::with_capacity(READY_MAX),
        })
    }

    /// What can be read from while [`Self::ready`] has something to tell.
    pub(crate) fn epoll(&self) -> Rc<AsyncFd<OwnedFd>> {
        Rc::clone(&self.epoll)
    }

    /// The connections that can be read or written now, without waiting; some of them at least. Those that are not
    /// read or written then are told again.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn ready(&mut self) -> io::Result<Vec<Ready>> {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.events.clear();
        match epoll::wait(&*self.epoll, spare_capacity(&mut self.events), Some(&AT_ONCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // A failed connection is told by the read that follows.
        let read = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        let ready = |event: &epoll::Event| {
            let (id, flags) = (LinkId(event.data.u64()), event.flags);
            Ready { id, to_read: flags.intersects(read), to_write: flags.contains(EventFlags::OUT) }
        };
        Ok(self.events.iter().map(ready).collect())
    }

    pub(crate) fn next_id(&self) -> LinkId {
        LinkId(self.next)
    }

    /// Takes an open connection in, which does not block, and gives its name, which is [`Self::next_id`].
    ///
    /// # Errors
    /// The system does not watch it; it is closed.
    pub(crate) fn add(
        &mut self,
        player: PlayerIndex,
        name: SocketName,
        stream: TcpStream,
        link: Link,
    ) -> io::Result<LinkId> {
        let (id, watched) = (self.next_id(), EventFlags::IN);
        epoll::add(&*self.epoll, &stream, data(id), watched)?;
        self.next += 1;
        let socket = Socket { player, name, stream, link, close_by: None, watched, pace: Pace::Swift };
        self.by_id.insert(id, Box::new(socket));
        self.by_player.insert((player, name), id);
        Ok(id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn ids(&self) -> Vec<LinkId> {
        self.by_id.keys().copied().collect()
    }

    pub(crate) fn get(&mut self, id: LinkId) -> Option<&mut Socket> {
        self.by_id.get_mut(&id).map(|socket| &mut **socket)
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

    /// Forgets a connection and closes it.
    pub(crate) fn forget(&mut self, id: LinkId) {
        if let Some(socket) = self.by_id.remove(&id) {
            let key = (socket.player, socket.name);
            if self.by_player.get(&key) == Some(&id) {
                self.by_player.remove(&key);
            }
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
        match (&socket.stream).read(&mut buffer[..most]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            read => Some(read),
        }
    }

    /// Waits for more to read; a slow one only when its second has come, a silent one never.
    pub(crate) fn await_read(&mut self, id: LinkId, second_came: bool) {
        if let Some(socket) = self.by_id.get_mut(&id) {
            let reads = match socket.pace {
                Pace::Swift => true,
                Pace::Slow => second_came,
                Pace::Silent => false,
            };
            let mut wanted = socket.watched;
            wanted.set(EventFlags::IN, reads);
            wanted.remove(if socket.pace == Pace::Silent { EventFlags::OUT } else { EventFlags::empty() });
            rewatch(&self.epoll, id, socket, wanted);
        }
    }

    /// Writes what the connection takes now. What is left is written when it can be; a fault is told by the next read.
    pub(crate) fn flush(&mut self, id: LinkId) {
        let Some(socket) = self.by_id.get_mut(&id).filter(|socket| socket.pace != Pace::Silent) else {
            return;
        };
        let mut wanted = socket.watched;
        wanted.remove(EventFlags::OUT);
        while !socket.link.out().is_empty() {
            match (&socket.stream).write(socket.link.out()) {
                Ok(bytes) => socket.link.wrote(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wanted.insert(EventFlags::OUT);
                    break;
                }
                Err(_) => break,
            }
        }
        if socket.close_by.is_some() && socket.link.out().is_empty() {
            // The server reads to the end, answers and closes; only then our side goes, so that nothing is cut off.
            // A stream that is gone already needs nothing.
            let _gone_already = socket.stream.shutdown(Shutdown::Write);
        }
        rewatch(&self.epoll, id, socket, wanted);
    }
}

/// Asks the kernel to tell something else of a connection; what fails is told by the next read or write. One of which
/// nothing is wanted is not watched at all, because an end would be told again and again.
fn rewatch(epoll: &AsyncFd<OwnedFd>, id: LinkId, socket: &mut Socket, wanted: EventFlags) {
    let watched = std::mem::replace(&mut socket.watched, wanted);
    let _told_by_the_next_look = match (watched.is_empty(), wanted.is_empty()) {
        _ if watched == wanted => Ok(()),
        (true, _) => epoll::add(epoll, &socket.stream, data(id), wanted),
        (false, true) => epoll::delete(epoll, &socket.stream),
        (false, false) => epoll::modify(epoll, &socket.stream, data(id), wanted),
    };
}

fn data(id: LinkId) -> epoll::EventData {
    epoll::EventData::new_u64(id.0)
}

/// Lets the runtime tell when something in an epoll is ready.
#[expect(
    deprecated,
    reason = "the newer form is unsafe for types that may change their descriptor; this one owns its own for life"
)]
fn watch(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(epoll, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::Player;

    #[test]
    fn a_player_with_both_connections_stays_small() {
        let bytes = size_of::<Player>() + 2 * size_of::<Socket>();
        assert!(bytes <= 800, "{bytes} bytes");
    }
}
