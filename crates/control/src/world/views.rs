//! What people and programs see: the bodies of the read calls.
//!
//! Never changes anything.

use greenroom_core::fleet::Reason;
use greenroom_core::gameserver::State;
use greenroom_core::{FleetName, HostName, RoomId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::api::{
    FleetList, FleetStatus, GameserverList, GameserverStatus, HostList, HostStatus, KindWord, Overview,
    Readiness, RoomList, RoomPhase, RoomStatus, SeatStatus, SeatWord, ServerFailure, StateWord, Totals,
};
use greenroom_wire::revision::sizes;

use super::fleets::words;
use super::state::{FleetState, HostState, RoomState, SeatState, ServerState};
use super::{Answer, Call, Minimum, Refusal, World};

/// Most rooms in one answer.
const ROOMS_MAX: usize = 5_000;
/// Most servers whose trouble a fleet tells.
const TROUBLES_MAX: usize = 3;
/// Most servers and rooms in an overview.
const OVERVIEW_MAX: usize = 500;

impl World {
    pub(super) fn view(&self, call: Call) -> Result<Answer, Refusal> {
        match call {
            Call::Fleets => Ok(Answer::Fleets(FleetList { fleets: self.fleet_statuses() })),
            Call::Fleet(name) => Ok(Answer::Fleet(self.fleet_status(&name, self.fleet(&name)?))),
            Call::Gameservers(fleet) => {
                if let Some(fleet) = &fleet {
                    self.fleet(fleet)?;
                }
                let gameservers = self.gameservers(fleet.as_ref(), usize::MAX);
                Ok(Answer::Gameservers(GameserverList { gameservers }))
            }
            Call::Gameserver(name) => {
                let server = self.servers.get(&name).ok_or_else(|| Refusal::ServerNotFound(name.clone()))?;
                Ok(Answer::Gameserver(self.gameserver_status(&name, server)))
            }
            Call::Rooms { fleet, offset, limit } => {
                if let Some(fleet) = &fleet {
                    self.fleet(fleet)?;
                }
                Ok(Answer::Rooms(self.room_list(fleet.as_ref(), offset, limit.min(ROOMS_MAX))))
            }
            Call::Room(id) => match (self.rooms.get(&id), self.ended.get(&id)) {
                (Some(room), _) => Ok(Answer::Room(room_status(&id, room))),
                (None, Some(ended)) => Ok(Answer::Room(ended.status.clone())),
                (None, None) => Err(Refusal::RoomNotFound(id)),
            },
            Call::Ticket { ticket, why } => {
                self.ticket_status(&ticket, why).map(|status| Answer::Ticket(Box::new(status)))
            }
            Call::Hosts => Ok(Answer::Hosts(HostList { hosts: self.host_statuses() })),
            Call::Overview => Ok(Answer::Overview(Box::new(self.overview()))),
            Call::Triggers => Ok(Answer::Triggers(self.trigger_list())),
            Call::Slos => Ok(Answer::Slos(self.slos.list(self.started_at))),
            Call::Audit { before, limit } => Ok(Answer::Audit(self.audit_list(before, limit))),
            Call::Decisions { fleet, limit } => {
                self.decisions(&fleet, limit).map(|list| Answer::Decisions(Box::new(list)))
            }
            Call::DryRun { fleet, body } => {
                self.dry_run(&fleet, &body).map(|body| Answer::DryRun(Box::new(body)))
            }
            Call::Readiness { minimum } => Ok(Answer::Readiness(self.readiness(minimum))),
            Call::Endpoint { .. }
            | Call::Allocate { .. }
            | Call::FileTickets { .. }
            | Call::Assignments(_)
            | Call::CancelTicket(_)
            | Call::Finish { .. }
            | Call::Restart { .. }
            | Call::Scale { .. }
            | Call::Drain { .. }
            | Call::Export { .. }
            | Call::TellMetric { .. }
            | Call::Logs { .. } => unreachable!("the world answers calls that change it elsewhere"),
        }
    }

    fn fleet_statuses(&self) -> Vec<FleetStatus> {
        self.fleets.iter().map(|(name, fleet)| self.fleet_status(name, fleet)).collect()
    }

    fn fleet_status(&self, name: &FleetName, fleet: &FleetState) -> FleetStatus {
        let (rooms_per_server, seats_per_room) = sizes(fleet.spec.kind);
        let live = || fleet.view.iter().filter(|server| server.state != State::Stopped);
        let players = if fleet.is_mesh() {
            live().map(|server| server.connections).sum()
        } else {
            u32::try_from(fleet.players).unwrap_or(u32::MAX)
        };
        FleetStatus {
            name: Text(name.clone()),
            kind: if fleet.is_mesh() { KindWord::Mesh } else { KindWord::Room },
            revision: Text(fleet.spec.revision.clone()),
            replicas_min: fleet.spec.replicas_min,
            replicas_max: fleet.spec.replicas_max,
            replicas_wanted: fleet.replicas_wanted,
            replicas: count(live()),
            ready: ready(fleet),
            busy: count(live().filter(|server| server.is_busy())),
            rooms: u32::try_from(fleet.rooms).unwrap_or(u32::MAX),
            rooms_per_server,
            seats_per_room,
            players,
            tickets: count(&fleet.queue),
            because: fleet.scaling.last.as_ref().map(ToString::to_string).unwrap_or_default(),
            waiting_on: self.waiting_on(fleet),
            last_failure: fleet.last_failure.as_ref().map(|failure| ServerFailure {
                server: Text(failure.server.clone()),
                message: failure.message.clone(),
                at_ms: failure.at.unix_ms(),
            }),
        }
    }

    /// Why a fleet is short: the plan's reasons, then what is in the way of its servers.
    pub(super) fn waiting_on(&self, fleet: &FleetState) -> Vec<String> {
        // What the plan would start does not start while the fleet waits after failures.
        let starts =
            !fleet.backoff.waits(self.now) || fleet.view.iter().any(|server| server.state == State::Starting);
        let told = |reason: &&Reason| starts || !matches!(reason, Reason::Starting(_));
        let mut reasons: Vec<String> = fleet.waiting_on.iter().filter(told).map(words).collect();
        if let Some(decision) = fleet.scaling.last.as_ref().filter(|last| last.target > last.replicas_wanted)
        {
            let held: Vec<String> = decision.blocked_by.iter().map(ToString::to_string).collect();
            reasons.push(format!("{} asked for, held back by {}", decision.target, held.join(", ")));
        }
        if let Some((servers, no_place)) = &fleet.unplaced {
            reasons.push(format!("{servers} {no_place}"));
        }
        let hosts = self.awaited_hosts();
        if !hosts.is_empty() {
            reasons.push(format!("waiting for the agents of: {}", hosts.join(", ")));
        }
        if ready(fleet) < fleet.replicas_wanted {
            let wait = fleet.backoff.until().since(self.now).as_millis().div_ceil(1_000);
            let failure = fleet.last_failure.as_ref().filter(|_| fleet.backoff.waits(self.now));
            if let Some(failure) = failure {
                reasons.push(format!("next start in {wait} s: {} {}", failure.server, failure.message));
            }
            reasons.extend(self.troubles(fleet).take(TROUBLES_MAX));
        }
        reasons
    }

    /// How many servers of a fleet are to be replaced because they have done enough.
    pub(super) fn worn_out(fleet: &FleetState) -> Option<String> {
        let worn = fleet.view.iter().filter(|seen| seen.worn.is_some() && seen.state != State::Stopped);
        let (worn, leaving): (Vec<_>, Vec<_>) = worn.partition(|seen| seen.state.takes_players());
        if worn.is_empty() && leaving.is_empty() {
            return None;
        }
        let (worn, leaving) = (worn.len(), leaving.len());
        Some(format!("{worn} worn out, replaced one after the other; {leaving} more on their way out"))
    }

    /// What keeps each server of a fleet from being ready, where that is known.
    fn troubles<'a>(&'a self, fleet: &'a FleetState) -> impl Iterator<Item = String> + 'a {
        let not_ready = |state: State| matches!(state, State::Starting | State::Unhealthy);
        fleet.view.iter().filter(move |seen| not_ready(seen.state)).filter_map(|seen| {
            let server = self.servers.get(&seen.name)?;
            let told = server.ordered_at.is_none() && !server.message.is_empty();
            told.then(|| format!("{}: {}", seen.name, server.message))
        })
    }

    /// By fleet, then name.
    pub(super) fn gameservers(&self, only: Option<&FleetName>, max: usize) -> Vec<GameserverStatus> {
        let mut servers: Vec<(&ServerName, &ServerState)> =
            self.servers.iter().filter(|(_, server)| only.is_none_or(|only| server.fleet == *only)).collect();
        servers.sort_by_key(|(name, server)| (&server.fleet, *name));
        servers.into_iter().take(max).map(|(name, server)| self.gameserver_status(name, server)).collect()
    }

    fn gameserver_status(&self, name: &ServerName, server: &ServerState) -> GameserverStatus {
        let ids = self.rooms_of.get(name).map(|on| &on.ids);
        let rooms = ids.into_iter().flatten().filter_map(|id| self.rooms.get(id));
        let silent = !self.hosts.get(&server.host).is_some_and(|host| host.connected);
        let fleet = self.fleets.get(&server.fleet);
        let recycle = fleet.map(|fleet| fleet.spec.recycle).unwrap_or_default();
        let seen = fleet.and_then(|fleet| fleet.seen(name)).filter(|seen| seen.state.takes_players());
        let full = seen.and_then(|seen| seen.full);
        let message =
            match (server.stop.or_else(|| self.cordon_of(server)), recycle.worn(&server.wear(self.now))) {
                _ if silent => "its host is silent".to_owned(),
                (Some(reason), _) => format!("gets nothing new: {reason}"),
                (None, _) if let Some(full) = full => format!("gets nothing new: {full}"),
                (None, Some(worn)) if server.message.is_empty() => {
                    format!("{worn}; to be replaced in its turn")
                }
                (None, _) => server.message.clone(),
            };
        GameserverStatus {
            name: Text(name.clone()),
            fleet: Text(server.fleet.clone()),
            host: Text(server.host.clone()),
            instance: Text(server.instance.clone()),
            revision: Text(server.revision.clone()),
            state: state_word(self.state_of(name, server)),
            endpoint: server.endpoint.to_string(),
            tls: server.tls,
            pid: server.pid,
            rooms: ids.map_or(0, count),
            players: count(rooms.flat_map(|room| room.taken())),
            connections: server.connections,
            full: seen.is_some_and(|seen| !seen.takes_players()),
            restarts: server.restarts,
            started_at_ms: server.started_at.unix_ms(),
            labels: server.labels.clone(),
            message,
        }
    }

    /// Live rooms by fleet, then id; ended ones after them.
    fn room_list(&self, only: Option<&FleetName>, offset: usize, limit: usize) -> RoomList {
        let live = self.rooms.iter().map(|(id, room)| (id, &**room));
        let live = live.filter(|(_, room)| only.is_none_or(|only| room.fleet == *only));
        let mut live: Vec<(&RoomId, &RoomState)> = live.collect();
        live.sort_by_key(|(id, room)| (&room.fleet, *id));
        let ended = self.ended.values().map(|ended| &ended.status);
        let mut ended: Vec<&RoomStatus> =
            ended.filter(|room| only.is_none_or(|only| room.fleet.0 == *only)).collect();
        ended.sort_by_key(|room| (&room.fleet, &room.room));
        let total = live.len() + ended.len();
        let statuses = live.into_iter().map(|(id, room)| Shown::Live(id, room));
        let statuses = statuses.chain(ended.into_iter().map(Shown::Ended));
        let rooms = statuses.skip(offset).take(limit).map(Shown::status).collect();
        RoomList { rooms, total: u32::try_from(total).unwrap_or(u32::MAX) }
    }

    fn host_statuses(&self) -> Vec<HostStatus> {
        let status = |(name, host): (&HostName, &HostState)| HostStatus {
            name: Text(name.clone()),
            connected: host.connected,
            heard_at_ms: host.heard_at.unix_ms(),
            servers: count(&host.servers),
            servers_max: host.servers_max,
            zone: super::drain::zone(host).unwrap_or_default().to_owned(),
            drained: self.drain_of(name, host).map(super::drain::words).unwrap_or_default(),
            trouble: host.trouble.clone(),
        };
        self.hosts.iter().map(status).collect()
    }

    fn overview(&self) -> Overview {
        let live = self.servers.iter().filter(|(name, server)| self.state_of(name, server) != State::Stopped);
        Overview {
            term: self.config.term,
            leader: None,
            now_ms: self.now.unix_ms(),
            totals: Totals {
                gameservers: count(live),
                rooms: count(&self.rooms),
                players: count(self.rooms.values().flat_map(|room| room.taken())),
                connections: self.servers.values().map(|server| server.connections).sum(),
                tickets: count(&self.tickets),
                results_pending: count(&self.results),
            },
            fleets: self.fleet_statuses(),
            hosts: self.host_statuses(),
            gameservers: self.gameservers(None, OVERVIEW_MAX),
            rooms: self.room_list(None, 0, OVERVIEW_MAX).rooms,
            events: self.events.iter().cloned().collect(),
        }
    }

    fn readiness(&self, minimum: Minimum) -> Readiness {
        let mut waiting_on: Vec<String> =
            self.awaited_hosts().into_iter().map(|host| format!("the agent of host {host}")).collect();
        if minimum == Minimum::Required {
            for (name, fleet) in &self.fleets {
                let (ready, min) = (ready(fleet), fleet.spec.replicas_min);
                if ready < min {
                    waiting_on.push(format!("fleet {name}: {ready} of {min} gameservers answer"));
                    let failure = fleet.last_failure.as_ref();
                    waiting_on.extend(
                        failure.map(|failed| format!("fleet {name}: {} {}", failed.server, failed.message)),
                    );
                }
            }
        }
        Readiness { ready: waiting_on.is_empty(), waiting_on, replica: None }
    }
}

/// A room to be listed, not yet written out.
enum Shown<'a> {
    Live(&'a RoomId, &'a RoomState),
    Ended(&'a RoomStatus),
}

impl Shown<'_> {
    fn status(self) -> RoomStatus {
        match self {
            Self::Live(id, room) => room_status(id, room),
            Self::Ended(status) => status.clone(),
        }
    }
}

/// A live or promised room as it is shown.
pub(super) fn room_status(id: &RoomId, room: &RoomState) -> RoomStatus {
    let seat = |(index, seat): (u16, &Option<SeatState>)| SeatStatus {
        seat: index,
        state: match seat {
            None => SeatWord::Free,
            Some(seat) => seat.phase.map_or(SeatWord::Reserved, SeatWord::from),
        },
        player: seat.as_ref().map(|seat| Text(seat.player.clone())),
    };
    RoomStatus {
        room: Text(id.clone()),
        fleet: Text(room.fleet.clone()),
        key: room.key.clone().map(Text),
        epoch: room.epoch,
        server: Text(room.server.clone()),
        endpoint: room.endpoint.to_string(),
        phase: if room.is_live() { RoomPhase::Live } else { RoomPhase::Reserved },
        ended: None,
        seats: (0u16..).zip(&room.seats).map(seat).collect(),
        created_at_ms: room.created_at.unix_ms(),
    }
}

/// Servers of a fleet that take players.
pub(super) fn ready(fleet: &FleetState) -> u32 {
    count(fleet.view.iter().filter(|server| server.state.takes_players()))
}

const fn state_word(state: State) -> StateWord {
    match state {
        State::Starting => StateWord::Starting,
        State::Ready => StateWord::Ready,
        State::Reserved => StateWord::Reserved,
        State::Allocated => StateWord::Allocated,
        State::Draining => StateWord::Draining,
        State::Unhealthy => StateWord::Unhealthy,
        State::Stopped => StateWord::Stopped,
    }
}

/// Things are far fewer than 4 billion; the count saturates rather than wraps.
fn count<T>(items: impl IntoIterator<Item = T>) -> u32 {
    u32::try_from(items.into_iter().count()).unwrap_or(u32::MAX)
}
