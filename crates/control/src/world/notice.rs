//! What is worth a line: for the log, and for the last lines that people see.
//!
//! Never a secret or a token.

use std::fmt;

use greenroom_core::fleet::StopReason;
use greenroom_core::{FleetName, HostName, RoomId, ServerName, Timestamp};
use greenroom_wire::api::{DrainKind, EventLine, FreezeWord, ScaleOrder};
use greenroom_wire::rooms::EndReason;

use super::{Effect, World};

/// One change of the world.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants and fields are what Display says of them")]
pub enum Notice {
    HostConnected { host: HostName, servers: usize, known: bool },
    HostSilent { host: HostName },
    HostLost { host: HostName },
    HostRefused { host: HostName, reason: String },
    TermRaised { term: u64 },
    Rebuilt { rooms: usize, servers: usize },
    HostsGivenUp { hosts: Vec<HostName> },
    ServerOrdered { server: ServerName, host: HostName, why: String },
    ServerAdopted { server: ServerName, host: HostName },
    ServerReady { server: ServerName, endpoint: String },
    ServerUnhealthy { server: ServerName, message: String },
    ServerRestarting { server: ServerName, restarts: u32, message: String },
    ServerStopping { server: ServerName, reason: StopReason },
    ServerWrittenOff { server: ServerName },
    ServerGone { server: ServerName, message: String },
    StartRefused { server: ServerName, message: String },
    OrderRefused { server: ServerName, message: String },
    ServerElsewhere { server: ServerName, host: HostName },
    RoomMade { room: RoomId, fleet: FleetName, server: ServerName },
    RoomAdopted { room: RoomId, server: ServerName },
    RoomWaits { room: RoomId, server: ServerName },
    RoomTakenUp { room: RoomId, server: ServerName },
    RoomSuperseded { room: RoomId, server: ServerName },
    RoomEnded { room: RoomId, fleet: FleetName, server: ServerName, reason: EndReason },
    SeatOverruled { room: RoomId, server: ServerName },
    FleetShort { fleet: FleetName, reason: String },
    FleetScaled { fleet: FleetName, from: u32, to: u32, reason: String },
    FleetOrdered { fleet: FleetName, order: ScaleOrder },
    Drained { kind: DrainKind, name: String },
    Undrained { kind: DrainKind, name: String },
    ServerCordoned { server: ServerName, reason: StopReason },
    ServerUncordoned { server: ServerName },
    FleetRestarted { fleet: FleetName, servers: usize },
    NewsRefused { reader: String, status: u16 },
    Trigger { text: String },
}

impl Notice {
    /// Whether people want to see it on the dashboard; rooms that begin and end as planned would push out the rest.
    const fn is_for_people(&self) -> bool {
        match self {
            Self::RoomMade { .. } => false,
            Self::RoomEnded { reason, .. } => !matches!(reason, EndReason::Finished | EndReason::Empty),
            Self::HostConnected { .. }
            | Self::HostSilent { .. }
            | Self::HostLost { .. }
            | Self::HostRefused { .. }
            | Self::TermRaised { .. }
            | Self::Rebuilt { .. }
            | Self::HostsGivenUp { .. }
            | Self::ServerOrdered { .. }
            | Self::ServerAdopted { .. }
            | Self::ServerReady { .. }
            | Self::ServerUnhealthy { .. }
            | Self::ServerRestarting { .. }
            | Self::ServerStopping { .. }
            | Self::ServerWrittenOff { .. }
            | Self::ServerGone { .. }
            | Self::StartRefused { .. }
            | Self::OrderRefused { .. }
            | Self::ServerElsewhere { .. }
            | Self::RoomAdopted { .. }
            | Self::RoomWaits { .. }
            | Self::RoomTakenUp { .. }
            | Self::RoomSuperseded { .. }
            | Self::SeatOverruled { .. }
            | Self::FleetRestarted { .. }
            | Self::Drained { .. }
            | Self::Undrained { .. }
            | Self::ServerCordoned { .. }
            | Self::ServerUncordoned { .. }
            | Self::FleetScaled { .. }
            | Self::FleetOrdered { .. }
            | Self::FleetShort { .. }
            | Self::NewsRefused { .. }
            | Self::Trigger { .. } => true,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostConnected { host, servers, known: _ } => {
                write!(f, "host {host} connected with {servers} gameservers")
            }
            Self::HostSilent { host } => write!(f, "host {host} is silent"),
            Self::HostLost { host } => write!(f, "host {host} lost: silent for too long"),
            Self::HostRefused { host, reason } => write!(f, "agent of host {host} refused: {reason}"),
            Self::TermRaised { term } => {
                write!(f, "term raised to {term}: an agent has seen a higher one than the store")
            }
            Self::Rebuilt { rooms, servers } => {
                write!(f, "every known host has reported: {servers} gameservers, {rooms} rooms")
            }
            Self::HostsGivenUp { hosts } => write_given_up(f, hosts),
            Self::ServerOrdered { server, host, why } => {
                write!(f, "gameserver {server} ordered on host {host}: {why}")
            }
            Self::ServerAdopted { server, host } => write!(f, "gameserver {server} found on host {host}"),
            Self::ServerReady { server, endpoint } => write!(f, "gameserver {server} ready at {endpoint}"),
            Self::ServerUnhealthy { server, message } => {
                write!(f, "gameserver {server} unhealthy: {message}")
            }
            Self::ServerRestarting { server, restarts, message } => {
                write_again(f, server, *restarts, message)
            }
            Self::ServerStopping { server, reason } => {
                write!(f, "gameserver {server} told to stop: {reason}")
            }
            Self::ServerWrittenOff { server } => write_written_off(f, server),
            Self::ServerGone { server, message } => write!(f, "gameserver {server} ended: {message}"),
            Self::StartRefused { server, message } | Self::OrderRefused { server, message } => {
                write!(f, "order for gameserver {server} refused: {message}")
            }
            Self::ServerElsewhere { server, host } => {
                write!(f, "host {host} reports gameserver {server}, which another host runs: ignored")
            }
            Self::RoomMade { room, fleet, server } => {
                write!(f, "room {room} of fleet {fleet} made on {server}")
            }
            Self::RoomAdopted { room, server } => write!(f, "room {room} found on {server}"),
            Self::RoomWaits { room, server } => {
                write!(f, "room {room} waits: the process of {server} is gone, the next one goes on with it")
            }
            Self::RoomTakenUp { room, server } => {
                write!(f, "room {room} goes on in the next process of {server}")
            }
            Self::RoomSuperseded { room, server } => {
                write!(f, "room {room} on {server} closed: it has ended or another owns its key")
            }
            Self::RoomEnded { room, server, reason, .. } => write_end(f, room, server, *reason),
            Self::SeatOverruled { room, server } => {
                write!(f, "room {room} on {server} seats somebody else than promised: its word counts")
            }
            Self::Drained { kind, name } => write!(f, "{kind} {name} is drained: nothing new there"),
            Self::Undrained { kind, name } => write!(f, "{kind} {name} is in use again"),
            Self::ServerCordoned { server, reason } => {
                write!(f, "gameserver {server} gets nothing new: {reason}")
            }
            Self::ServerUncordoned { server } => write!(f, "gameserver {server} is handed out again"),
            Self::FleetRestarted { fleet, servers } => {
                write!(f, "fleet {fleet}: {servers} gameservers told to restart")
            }
            Self::FleetScaled { fleet, from, to, reason } => {
                write!(f, "fleet {fleet} scaled from {from} to {to}: {reason}")
            }
            Self::FleetOrdered { fleet, order } => write!(f, "fleet {fleet}: {}", ordered(order)),
            Self::FleetShort { fleet, reason } => write!(f, "fleet {fleet} is short: {reason}"),
            Self::NewsRefused { reader, status } => write!(f, "notification for {reader} refused: {status}"),
            Self::Trigger { text } => f.write_str(text),
        }
    }
}

fn write_written_off(f: &mut fmt::Formatter<'_>, server: &ServerName) -> fmt::Result {
    write!(
        f,
        "gameserver {server}, idle on a host that is silent, is replaced; it is taken up again when its host is heard"
    )
}

fn write_given_up(f: &mut fmt::Formatter<'_>, hosts: &[HostName]) -> fmt::Result {
    let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
    write!(f, "no longer waiting for the agents of: {}", names.join(", "))
}

fn write_again(f: &mut fmt::Formatter<'_>, server: &ServerName, restarts: u32, how: &str) -> fmt::Result {
    if how.is_empty() {
        write!(f, "gameserver {server} is started again ({restarts} so far)")
    } else {
        write!(f, "gameserver {server} died and is started again ({restarts} so far): {how}")
    }
}

fn write_end(
    f: &mut fmt::Formatter<'_>,
    room: &RoomId,
    server: &ServerName,
    reason: EndReason,
) -> fmt::Result {
    match reason {
        EndReason::ServerLost => write!(f, "room {room} lost: gameserver {server} died"),
        EndReason::HostLost => write!(f, "room {room} lost: the host of {server} is gone"),
        EndReason::NoShow => write!(f, "room {room} on {server} ended: nobody came"),
        EndReason::Finished => write!(f, "room {room} on {server} finished"),
        EndReason::Empty => write!(f, "room {room} on {server} ended: everybody left"),
        EndReason::Crashed => write!(f, "room {room} on {server} ended: its code panicked"),
        EndReason::Superseded => write!(f, "room {room} on {server} ended: superseded"),
        EndReason::Stopped => write!(f, "room {room} on {server} ended: stopped"),
    }
}

/// An order in words.
pub(super) fn ordered(order: &ScaleOrder) -> String {
    let replicas = order.prewarm.map_or(0, |prewarm| prewarm.replicas);
    let frozen = match order.freeze {
        FreezeWord::Nothing => "nothing is frozen",
        FreezeWord::ScaleIn => "scale-in is frozen",
        FreezeWord::Everything => "it is frozen",
    };
    format!("at least {replicas} gameservers ordered, {frozen}")
}

impl World {
    /// Tells it to the log, and to people if they want it.
    pub(super) fn note(&mut self, notice: Notice) {
        if notice.is_for_people() {
            if self.events.len() == self.config.bounds.events_max {
                self.events.pop_back();
            }
            self.events.push_front(line(self.now, &notice));
        }
        self.publish_notice(&notice);
        self.out.push(Effect::Note(notice));
    }
}

fn line(at: Timestamp, notice: &Notice) -> EventLine {
    EventLine { at_ms: at.unix_ms(), text: notice.to_string() }
}
