//! What gameservers say over the SDK.
//!
//! Never believes a caller that has not named a running process and its secret, and so never lets one act for another.

use std::fmt;

use greenroom_core::{FleetName, ServerName, Timestamp};
use greenroom_wire::api::GameserverStatus;
use greenroom_wire::link::Status;
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::sdk::{GameServer, PeerChange, Players};
use greenroom_wire::token::PublicKeys;

use super::managed::{Hold, Stage};
use super::{Effect, Supervisor};

/// One call, numbered by whoever accepts it; never used again within one agent process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SdkCall(pub u64);

/// Who a caller is.
#[derive(Clone, PartialEq, Eq)]
pub enum SdkWho {
    /// As its base URL says; not believed without the secret.
    Process {
        /// Its process.
        instance: String,
        /// The secret of its server.
        secret: String,
    },
    /// Whoever calls on the port of this server, where shipped Agones SDKs call without a credential. Believed.
    Port(ServerName),
}

impl fmt::Debug for SdkWho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { instance, .. } => {
                f.debug_struct("Process").field("instance", instance).finish_non_exhaustive()
            }
            Self::Port(server) => f.debug_tuple("Port").field(server).finish(),
        }
    }
}

/// What a gameserver says or asks.
#[derive(Debug, Clone, PartialEq)]
pub enum SdkWord {
    /// It can take players.
    Ready,
    /// It is in use until it is ready again.
    Allocate,
    /// The same for a while, and then it is ready.
    Reserve {
        /// How long; 0: until it says otherwise.
        seconds: u64,
    },
    /// It lives.
    Health,
    /// It wants to be stopped.
    Shutdown,
    /// What is known of it?
    GameServer,
    /// The same, and again at each change.
    Watch,
    /// A label of its own.
    Label {
        /// Its name.
        name: String,
        /// Its value; empty takes it away.
        value: String,
    },
    /// An annotation of its own.
    Annotation {
        /// Its name.
        name: String,
        /// Its value; empty takes it away.
        value: String,
    },
    /// A player came.
    PlayerConnect(String),
    /// A player went.
    PlayerDisconnect(String),
    /// At most so many players.
    PlayersMax(u64),
    /// Which players are on it, and how many may be?
    Players,
    /// Its connections and rooms.
    Status(Status),
    /// A room is over.
    RoomEnded(RoomEnded),
    /// What are join tokens checked with?
    Keys,
    /// Which gameservers has this fleet?
    Peers {
        /// Default the caller's own.
        fleet: Option<FleetName>,
    },
    /// The same, and who comes, changes and goes.
    WatchPeers {
        /// Default the caller's own.
        fleet: Option<FleetName>,
    },
}

impl SdkWord {
    /// Whether it is answered again and again.
    #[must_use]
    pub const fn is_watch(&self) -> bool {
        match self {
            Self::Watch | Self::WatchPeers { .. } => true,
            Self::Ready
            | Self::Health
            | Self::Shutdown
            | Self::GameServer
            | Self::Allocate
            | Self::Reserve { .. }
            | Self::Annotation { .. }
            | Self::PlayerConnect(_)
            | Self::PlayerDisconnect(_)
            | Self::PlayersMax(_)
            | Self::Players
            | Self::Label { .. }
            | Self::Status(_)
            | Self::RoomEnded(_)
            | Self::Keys
            | Self::Peers { .. } => false,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum SdkTold {
    /// It is done, and journalled where it must be.
    Done,
    /// What is known of the caller.
    GameServer(Box<GameServer>),
    /// It is done; whether that changed anything.
    Changed(bool),
    /// Who is on it.
    Players(Players),
    /// The keys; none until control was reached once.
    Keys(PublicKeys),
    /// The gameservers of a fleet.
    Peers(Vec<GameserverStatus>),
    /// Who came, changed and went. All at once, so that a large fleet is one answer.
    PeerChanges(Vec<PeerChange>),
}

/// Why a call of the SDK was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdkRefusal {
    /// Not a process of this host, or not its secret.
    #[error("nobody here has this instance and secret; call the GREENROOM_SDK_URL of your own process")]
    Stranger,
    /// The process is over; another one has its own URL.
    #[error("process {instance} is over")]
    Over {
        /// Which.
        instance: String,
    },
    /// Mend the name.
    #[error(
        "label {name:?} is no name: write 1 to 63 letters, digits, -, _ and . with a letter or digit at each end"
    )]
    LabelName {
        /// As told.
        name: String,
    },
    /// Mend the value.
    #[error(
        "label {name} cannot be {value:?}: write up to 63 letters, digits, -, _ and . with a letter or digit at each end"
    )]
    LabelValue {
        /// Whose.
        name: String,
        /// As told.
        value: String,
    },
    /// Shorten it.
    #[error("annotation {name} is longer than {bytes_max} bytes")]
    AnnotationValue {
        /// Whose.
        name: String,
        /// The bound.
        bytes_max: usize,
    },
    /// Choose a shorter time, or none: 0.
    #[error("a reservation of {seconds} s is too long: at most {max} s, or 0 for one without an end")]
    Reserve {
        /// As told.
        seconds: u64,
        /// The bound.
        max: u64,
    },
    /// Mend the id.
    #[error("a player id has 1 to {bytes_max} bytes")]
    PlayerId {
        /// The bound.
        bytes_max: usize,
    },
    /// Let one go first, or raise the capacity.
    #[error("{capacity} players are on it, which is its capacity")]
    PlayersFull {
        /// How many it may have.
        capacity: u32,
    },
    /// Choose a lower one.
    #[error(
        "a capacity of {capacity} players is too many: at most {max} are kept; tell connections with PUT /greenroom/v1/status"
    )]
    PlayersMax {
        /// As told.
        capacity: u64,
        /// The bound.
        max: u32,
    },
    /// Take one away first, by an empty value.
    #[error("a gameserver has at most {max} labels and as many annotations; an empty value takes one away")]
    Labels {
        /// The bound.
        max: usize,
    },
    /// End one of them first.
    #[error("a gameserver has at most {max} such calls open")]
    Watches {
        /// The bound.
        max: usize,
    },
    /// It tells its status on the link.
    #[error("process {instance} tells its status on its link already; tell it in one place")]
    Linked {
        /// Which.
        instance: String,
    },
    /// The control plane is away, or has just started. Ask again.
    #[error("the control plane does not answer; ask again in a while")]
    NoControl,
    /// The control plane has none to tell.
    #[error("{message}")]
    Peers {
        /// Why.
        message: String,
    },
    /// Worth repeating once control is back.
    #[error("too many results wait for the control plane; tell this one again in a while")]
    Results,
}

impl Supervisor {
    pub(super) fn handle_sdk(&mut self, now: Timestamp, call: SdkCall, who: &SdkWho, word: SdkWord) {
        let told = self.own(who).and_then(|server| self.say(now, call, &server, word));
        let told = match told {
            Ok(None) => return,
            Ok(Some(told)) => Ok(told),
            Err(refusal) => Err(refusal),
        };
        self.out.effects.push(Effect::TellSdk { call, told });
    }

    pub(super) fn handle_sdk_lost(&mut self, call: SdkCall) {
        for managed in self.servers.values_mut() {
            managed.unwatch(call);
        }
        self.forget_peers_call(call);
    }

    /// A port for a shipped Agones SDK is open, or cannot be.
    pub(super) fn handle_sdk_opened(
        &mut self,
        now: Timestamp,
        server: ServerName,
        outcome: Result<u16, String>,
    ) {
        let Some(managed) = self.servers.get_mut(&server).filter(|managed| !managed.is_ended()) else {
            return self.out.effects.push(Effect::CloseSdk { server });
        };
        // One that was found again has its port already.
        if !managed.is_launching() || managed.sdk_port.is_some() {
            return;
        }
        match outcome {
            Ok(port) => {
                managed.sdk_port = Some(port);
                managed.launch(&self.settings, &mut self.out);
            }
            Err(why) => {
                // What could not be opened is forgotten, so that the next attempt is one.
                self.out.effects.push(Effect::CloseSdk { server });
                managed.died(&format!("not started: {why}"), now, &mut self.out);
            }
        }
    }

    /// The server whose present process calls.
    fn own(&self, who: &SdkWho) -> Result<ServerName, SdkRefusal> {
        let (name, said) = match who {
            SdkWho::Process { instance, secret } => {
                let name = instance.rsplit_once('.').map_or("", |(name, _)| name);
                (name.parse().map_err(|_| SdkRefusal::Stranger)?, Some((instance, secret)))
            }
            SdkWho::Port(name) => (name.clone(), None),
        };
        let managed = self.servers.get(&name).ok_or(SdkRefusal::Stranger)?;
        if said.is_some_and(|(_, secret)| managed.secret != *secret) {
            return Err(SdkRefusal::Stranger);
        }
        let instance = said.map_or_else(|| managed.instance().to_string(), |(instance, _)| instance.clone());
        let is_over = matches!(managed.stage, Stage::Waiting { .. } | Stage::Ended { .. });
        if is_over || managed.instance().as_str() != instance {
            return Err(SdkRefusal::Over { instance });
        }
        Ok(name)
    }

    /// `None`: answered already.
    fn say(
        &mut self,
        now: Timestamp,
        call: SdkCall,
        server: &ServerName,
        word: SdkWord,
    ) -> Result<Option<SdkTold>, SdkRefusal> {
        let managed = self.servers.get_mut(server).expect("whoever is believed is here");
        let (settings, out) = (&self.settings, &mut self.out);
        match word {
            SdkWord::Ready => managed.says_ready(now, out),
            SdkWord::Allocate => managed.hold(Hold::Allocated, now, out),
            SdkWord::Reserve { seconds } => managed.reserve(seconds, now, out)?,
            SdkWord::Annotation { name, value } => managed.set_annotation(name, value, out)?,
            SdkWord::PlayerConnect(player) => {
                return managed.player_came(player, out).map(|new| Some(SdkTold::Changed(new)));
            }
            SdkWord::PlayerDisconnect(player) => {
                return Ok(Some(SdkTold::Changed(managed.player_went(&player, out))));
            }
            SdkWord::PlayersMax(capacity) => managed.set_players_max(capacity, out)?,
            SdkWord::Players => return Ok(Some(SdkTold::Players(managed.players_now()))),
            SdkWord::Health => managed.beats(now, out),
            SdkWord::Shutdown => managed.stop("it asked for it over its SDK", now, out),
            SdkWord::GameServer => {
                return Ok(Some(SdkTold::GameServer(Box::new(managed.record(settings)))));
            }
            SdkWord::Watch => return managed.watch(call, settings, out).map(|()| None),
            SdkWord::Label { name, value } => managed.set_label(name, value, out)?,
            SdkWord::Status(status) => {
                if managed.link.id.is_some() {
                    return Err(SdkRefusal::Linked { instance: managed.instance().to_string() });
                }
                if !status.awaits_rooms {
                    self.settling.remove(server);
                }
                managed.told_by_sdk(status, now, out);
            }
            SdkWord::RoomEnded(ended) => {
                let instance = managed.instance();
                if !self.take_result(now, server.clone(), instance, ended) {
                    return Err(SdkRefusal::Results);
                }
            }
            SdkWord::Peers { fleet } => return self.ask_peers(now, call, server, fleet, false),
            SdkWord::WatchPeers { fleet } => return self.ask_peers(now, call, server, fleet, true),
            SdkWord::Keys => return Ok(Some(SdkTold::Keys(self.keys.clone()))),
        }
        Ok(Some(SdkTold::Done))
    }
}
