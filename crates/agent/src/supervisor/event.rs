//! What the supervisor hears and what it wants done.

use greenroom_core::{InstanceId, ServerName};
use greenroom_provider::{Exit, Handle, StartSpec, StopSignal};
use greenroom_wire::agent::{FromAgent, ProbeWord, ToAgent};
use greenroom_wire::link::{FromServer, Relay, ToServer};

use crate::keeping::Kept;

use super::sdk::{SdkCall, SdkRefusal, SdkTold, SdkWho, SdkWord};

/// One link connection, numbered by whoever accepts it; never used again within one agent process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A process as the engine names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Finds it again.
    pub handle: Handle,
    /// For people; absent where the engine has none.
    pub pid: Option<u32>,
}

/// What a failed probe heard of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// Its port is open no more: that is the machine's word.
    Refusal,
    /// Another answer than the right one.
    Answer,
}

/// How a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFailure {
    /// In words.
    pub message: String,
    /// And yet this was heard.
    pub heard: Heard,
}

/// Something that happened. Those about a process name the instance; one that is no longer the server's is ignored.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time passed: the moment of [`super::Supervisor::wake_at`] has come.
    Tick,
    /// Control said this. `Welcome` opens the session.
    Control(ToAgent),
    /// A replica listens that heard nothing so far.
    ControlUp,
    /// The session with control is over.
    ControlLost,
    /// [`Effect::Start`] succeeded.
    Started {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// What runs now.
        process: Process,
    },
    /// [`Effect::Start`] failed.
    NotStarted {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// Why.
        message: String,
    },
    /// [`Effect::Start`] was not tried: somebody listens on the port.
    PortTaken {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
    },
    /// Answer to [`Effect::Adopt`].
    Adopted {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// What runs; `None`: gone.
        found: Option<Process>,
    },
    /// A process ended.
    Exited {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// How.
        exit: Exit,
        /// The line of its output that most likely tells why; empty without one.
        last_words: String,
    },
    /// Answer to [`Effect::Probe`].
    Probed {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// How the port is spoken to, or why it failed.
        outcome: Result<Speech, ProbeFailure>,
    },
    /// A gameserver said this.
    Link {
        /// On which connection.
        link: LinkId,
        /// What.
        message: FromServer,
    },
    /// A link connection is over.
    LinkLost {
        /// Which.
        link: LinkId,
    },
    /// Somebody calls the SDK. Answered by [`Effect::TellSdk`], at once or later.
    Sdk {
        /// Which call.
        call: SdkCall,
        /// Who says so, not believed yet.
        who: SdkWho,
        /// What.
        word: SdkWord,
    },
    /// What the engine around the agent has answered.
    Kept(Kept),
    /// Nobody waits for this call any more.
    SdkLost {
        /// Which.
        call: SdkCall,
    },
    /// Answer to [`Effect::OpenSdk`].
    SdkOpened {
        /// Whose.
        server: ServerName,
        /// On this port, or why not.
        outcome: Result<u16, String>,
    },
    /// Stop every server, then be done.
    StopAll,
}

/// Something to be done, in this order, after the journal is written where it changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// See that the port can be bound, then start a process.
    Start {
        /// The port it will listen on.
        port: u16,
        /// The process.
        spec: Box<StartSpec>,
    },
    /// Find a process again.
    Adopt {
        /// Which server's.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// The engine's name of it, if it was journalled.
        handle: Option<Handle>,
    },
    /// Signal a process.
    Signal {
        /// Whose, for the log.
        server: ServerName,
        /// Which.
        handle: Handle,
        /// How.
        signal: StopSignal,
    },
    /// Ask whether the public port answers.
    Probe {
        /// Which.
        server: ServerName,
        /// Which process of it.
        instance: InstanceId,
        /// Where.
        port: u16,
        /// How.
        probe: ProbeWord,
    },
    /// Tell control.
    Tell(Box<FromAgent>),
    /// Read output and tell control.
    ReadLogs {
        /// As asked.
        request: u64,
        /// Whose.
        server: ServerName,
        /// From where.
        offset: Option<u64>,
        /// At most.
        bytes_max: usize,
    },
    /// Tell a gameserver.
    TellServer {
        /// On which connection.
        link: LinkId,
        /// What.
        message: ToServer,
    },
    /// Tell several gameservers the same.
    Deliver {
        /// On which connections.
        links: Vec<LinkId>,
        /// What.
        relay: Relay,
    },
    /// Answer a call of the SDK. One that watches is answered again and again.
    TellSdk {
        /// Which.
        call: SdkCall,
        /// With what.
        told: Result<SdkTold, SdkRefusal>,
    },
    /// End the answer of a call that watches.
    EndSdk {
        /// Which.
        call: SdkCall,
    },
    /// Open a port on loopback where a server's shipped Agones SDK finds this agent. Open already: nothing.
    OpenSdk {
        /// Whose.
        server: ServerName,
        /// This one, however long it takes; `None`: any.
        port: Option<u16>,
    },
    /// Close it, and all that is said there.
    CloseSdk {
        /// Whose.
        server: ServerName,
    },
    /// End a link connection.
    CloseLink {
        /// Which.
        link: LinkId,
        /// Why, for the log.
        why: String,
    },
}

/// How a port is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// Plaintext, or not known.
    Plain,
    /// TLS.
    Tls,
}
