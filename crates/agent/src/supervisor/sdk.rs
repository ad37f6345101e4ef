//! What gameservers say over the SDK.
//!
//! Never believes a caller that has not named a running process and its secret, and so never lets one act for another.

use std::fmt;

use greenroom_core::{FleetName, ServerName, Timestamp};
use greenroom_wire::api::GameserverStatus;
use greenroom_wire::link::Status;
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::sdk::{GameServer, PeerChange};
use greenroom_wire::token::PublicKeys;

use super::managed::Stage;
use super::{Effect, Supervisor};

/// One call, numbered by whoever accepts it; never used again within one agent process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SdkCall(pub u64);

/// Who a caller says it is, as its base URL has it.
#[derive(Clone, PartialEq, Eq)]
pub struct SdkWho {
    /// Its process.
    pub instance: String,
    /// The secret of its server.
    pub secret: String,
}

impl fmt::Debug for SdkWho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkWho").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// What a gameserver says or asks.
#[derive(Debug, Clone, PartialEq)]
pub enum SdkWord {
    /// It can take players.
    Ready,
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
    /// Take one away first, by an empty value.
    #[error("a gameserver has at most {max} labels; an empty value takes one away")]
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

    /// The server whose present process calls.
    fn own(&self, who: &SdkWho) -> Result<ServerName, SdkRefusal> {
        let name = who.instance.rsplit_once('.').map_or("", |(name, _)| name);
        let name: ServerName = name.parse().map_err(|_| SdkRefusal::Stranger)?;
        let managed = self.servers.get(&name).filter(|managed| managed.secret == who.secret);
        let managed = managed.ok_or(SdkRefusal::Stranger)?;
        let instance = managed.instance();
        let is_over = matches!(managed.stage, Stage::Waiting { .. } | Stage::Ended { .. });
        if is_over || instance.as_str() != who.instance {
            return Err(SdkRefusal::Over { instance: who.instance.clone() });
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
            SdkWord::Health => managed.says_alive(now, out),
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
