//! What the control plane knows of one GameServer, as the decisions see it.
//!
//! Never how it was learnt: `control` builds these from the agents' reports and its own promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::{Full, StopReason, Worn};
use crate::{FleetName, HostName, InstanceId, Revision, ServerName, Timestamp};

/// Where a GameServer stands (design section 5). Only `Ready` and `Allocated` servers are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Ordered or running, but its public port has not yet answered a real handshake.
    Starting,
    /// Answers; nobody is promised anything on it.
    Ready,
    /// Seats are promised on it, nobody has arrived yet.
    Reserved,
    /// At least one live room or connection.
    Allocated,
    /// No new rooms; the ones it has run on.
    Draining,
    /// Runs, but its heartbeat or handshake fails, or its host is silent. Not handed out.
    Unhealthy,
    /// Told to stop, or ended.
    Stopped,
}

impl State {
    /// Whether a server in this state answers and may be handed to new players.
    #[must_use]
    pub const fn takes_players(self) -> bool {
        match self {
            Self::Ready | Self::Reserved | Self::Allocated => true,
            Self::Starting | Self::Draining | Self::Unhealthy | Self::Stopped => false,
        }
    }
}

/// One GameServer at the moment of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GameServer {
    /// Its name.
    pub name: ServerName,
    /// Its fleet.
    pub fleet: FleetName,
    /// The host that runs it.
    pub host: HostName,
    /// Labels of that host.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The process that now answers for it.
    pub instance: InstanceId,
    /// What it runs.
    pub revision: Revision,
    /// Where it stands.
    pub state: State,
    /// Rooms on it: promised, live, and told of by itself.
    pub rooms: u16,
    /// Transport connections it reported last.
    pub connections: u32,
    /// Endpoint answers given out that have not yet expired. They count as load, and as busy.
    pub in_flight: u32,
    /// It says of itself that it is in use: nobody new is sent to it, and it is not stopped. It says no less while it has neither
    /// rooms nor connections.
    pub held: bool,
    /// Which cap of its fleet's [`FullAt`](crate::fleet::FullAt) it has reached: nobody new is sent to it, whatever places it has.
    pub full: Option<Full>,
    /// When it was ordered.
    pub started_at: Timestamp,
    /// Why nothing new is given to it; `None` while it is handed out. Its state is then [`State::Draining`] as long as
    /// it answers.
    pub cordoned: Option<StopReason>,
    /// Which limit of its fleet's [`Recycle`](crate::fleet::Recycle) its process has reached.
    pub worn: Option<Worn>,
    /// Since when nothing is on it; `None` while busy. Counted anew from the moment the server turns
    /// [`State::Unhealthy`] or [`State::Draining`], so that a short silence never stops a server that was idle for
    /// long, and who was sent to it in the last moment is seen.
    pub idle_since: Option<Timestamp>,
    /// Since when it has been [`State::Starting`] without a break, restarts included; `None` in every other state.
    pub starting_since: Option<Timestamp>,
}

impl GameServer {
    /// Whether it may be handed to new players: its state allows it, it does not hold itself, and it is not full.
    #[must_use]
    pub const fn takes_players(&self) -> bool {
        self.state.takes_players() && !self.held && self.full.is_none()
    }

    /// Whether stopping it would hurt somebody: a room, a connection, an answer on its way, or its own word that it is in use.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.held || self.rooms > 0 || self.connections > 0 || self.in_flight > 0
    }

    /// Whether it may be stopped without hurting anybody: nothing is on it, its state agrees, and it is known
    /// since when. Doubt counts as busy.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        !self.is_busy()
            && !matches!(self.state, State::Reserved | State::Allocated)
            && self.idle_since.is_some()
    }

    /// Rooms it could take besides those it has; 0 when its state, its own word or what it measures forbids.
    #[must_use]
    pub const fn rooms_free(&self, rooms_per_server: u16) -> u16 {
        if self.takes_players() { rooms_per_server.saturating_sub(self.rooms) } else { 0 }
    }
}
