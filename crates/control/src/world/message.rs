//! What goes into the world and what comes out of it.
//!
//! Never a socket, a channel or a clock: requests and streams are numbers that the caller chose.

use greenroom_core::{FleetName, HostName, RoomId, ServerName, TicketId};
use greenroom_wire::agent::{FromAgent, Hello, ToAgent};
use greenroom_wire::api::{
    ActionResult, AllocateRequest, AssignmentsRequest, AuditList, DecisionBody, DecisionList, DrainKind,
    DrainRequest, DrainStatus, DryRunRequest, EndpointAnswer, FinishRequest, FleetList, FleetStatus,
    GameserverList, GameserverStatus, HostList, LogsAnswer, MetricAnswer, MetricRequest, Overview, Readiness,
    RestartAnswer, RoomList, RoomStatus, ScaleOrder, ScaleRequest, SelectorBody, SloList, TicketStatusBody,
    TicketsAnswer, TicketsRequest, TriggerFired, TriggerList,
};
use greenroom_wire::export::SigningKeys;
use greenroom_wire::record::{
    AnswerRecord, AuditRecord, DecisionRecord, DrainRecord, HostRecord, KeyRecord, NewsRecord, ResultRecord,
    RoomRecord, ScaleRecord, TriggerRecord,
};

use super::audit::Actor;
use super::grant::Grant;
use super::news::Posted;
use super::notice::Notice;
use super::refusal::Refusal;

/// One call that waits for its answer. Never used twice by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One stream of an agent. Never used twice by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Something that happened outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time has passed. Expected every 100 ms; deadlines and plans hang on it.
    Tick,
    /// An agent opened a stream and said who it is.
    StreamOpened {
        /// The stream, new.
        stream: StreamId,
        /// Who it is.
        hello: Hello,
    },
    /// An agent said something on an open stream.
    StreamSaid {
        /// The stream.
        stream: StreamId,
        /// What. Boxed because reports are large beside the other events.
        message: Box<FromAgent>,
    },
    /// A stream has ended, by either side.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// Somebody calls and waits for exactly one [`Effect::Reply`].
    Asked {
        /// The call's number, new.
        request: RequestId,
        /// What is asked.
        call: Box<Call>,
    },
    /// The caller went away; what waited for it is forgotten, what was promised to it stays.
    CallerGone {
        /// The call's number.
        request: RequestId,
    },
    /// The webhook took this result.
    ResultTaken {
        /// `<room>.<epoch>`.
        key: String,
    },
    /// An [`Effect::Post`] came to its end.
    NewsPosted {
        /// Whose message it was.
        reader: String,
        /// How it went.
        outcome: Posted,
    },
    /// An [`Effect::Act`] came to its end.
    Acted {
        /// Which fire of which trigger.
        fire: String,
        /// How it went, in a word.
        result: ActionResult,
        /// In more of them.
        detail: String,
    },
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A server of a mesh fleet.
    Endpoint {
        /// The fleet.
        fleet: FleetName,
        /// Which servers will do.
        select: Option<SelectorBody>,
    },
    /// A room with seats.
    Allocate {
        /// In which fleet.
        fleet: FleetName,
        /// For whom.
        body: AllocateRequest,
    },
    /// New tickets.
    FileTickets {
        /// The fleet whose rooms are played in.
        fleet: FleetName,
        /// The tickets.
        body: TicketsRequest,
    },
    /// Wait for assignments.
    Assignments(AssignmentsRequest),
    /// Take a ticket back.
    CancelTicket(TicketId),
    /// What became of a ticket.
    Ticket {
        /// Which.
        ticket: TicketId,
        /// Whether to tell what keeps it waiting, which costs a walk over all tickets of its fleet.
        why: bool,
    },
    /// A server without a link tells a room's end.
    Finish {
        /// The room.
        room: RoomId,
        /// Its result.
        body: FinishRequest,
        /// Who calls, for the audit trail.
        by: Actor,
    },
    /// A piece of a server's output.
    Logs {
        /// Whose.
        server: ServerName,
        /// From where; the end without.
        offset: Option<u64>,
        /// At most 262,144; 65,536 without.
        bytes_max: Option<u32>,
    },
    /// Restart all servers of a fleet in place.
    Restart {
        /// Which.
        fleet: FleetName,
        /// Who calls, for the audit trail.
        by: Actor,
    },
    /// What a user's own number is now.
    TellMetric {
        /// As it is called after `custom.`.
        name: String,
        /// The number.
        body: MetricRequest,
    },
    /// What triggers watch, and what was done about it.
    Triggers,
    /// What is promised, and how often it was kept.
    Slos,
    /// The audit trail, newest first.
    Audit {
        /// Below this number only.
        before: Option<u64>,
        /// At most this many.
        limit: usize,
    },
    /// A person's order on how many servers a fleet has.
    Scale {
        /// The fleet.
        fleet: FleetName,
        /// What is ordered.
        body: ScaleRequest,
        /// Who calls, for the audit trail.
        by: Actor,
    },
    /// Takes a host or a zone out of use, or gives it back.
    Drain {
        /// What it is.
        kind: DrainKind,
        /// Its name.
        name: String,
        /// What is ordered.
        body: DrainRequest,
        /// Who calls, for the audit trail.
        by: Actor,
    },
    /// Somebody is about to be given all that is stored: told in the audit trail first, which only who decides can do.
    Export {
        /// Whether the signing keys are given too.
        signing_keys: SigningKeys,
        /// Who calls, for the audit trail.
        by: Actor,
    },
    /// Why a fleet has as many servers as it has.
    Decisions {
        /// The fleet.
        fleet: FleetName,
        /// At most this many of the past.
        limit: usize,
    },
    /// What other rules would decide.
    DryRun {
        /// The fleet.
        fleet: FleetName,
        /// The rules.
        body: DryRunRequest,
    },
    /// All fleets.
    Fleets,
    /// One fleet.
    Fleet(FleetName),
    /// All servers, or those of one fleet.
    Gameservers(Option<FleetName>),
    /// One server.
    Gameserver(ServerName),
    /// Rooms, live ones first.
    Rooms {
        /// Of one fleet only.
        fleet: Option<FleetName>,
        /// How many are left out first.
        offset: usize,
        /// At most this many; bounded by 5,000.
        limit: usize,
    },
    /// One room.
    Room(RoomId),
    /// All hosts.
    Hosts,
    /// One screen's worth.
    Overview,
    /// Whether this process can serve.
    Readiness {
        /// Whether every fleet must have its minimum too.
        minimum: Minimum,
    },
}

/// What readiness waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minimum {
    /// Every fleet has as many servers that answer as its minimum asks for.
    Required,
    /// The process alone.
    Ignored,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the body documented at greenroom_wire::api")]
pub enum Answer {
    Endpoint(EndpointAnswer),
    Allocated(Box<Grant>),
    Tickets(TicketsAnswer),
    Ticket(Box<TicketStatusBody>),
    Assignments {
        term: u64,
        assignments: Vec<TicketGrant>,
    },
    /// With the assignment when it was too late.
    Cancelled(Option<Box<TicketGrant>>),
    Finished(RoomStatus),
    Logs(LogsAnswer),
    Restarted(RestartAnswer),
    Scaled(ScaleOrder),
    Drained(DrainStatus),
    /// It is in the trail; what is stored is read by whoever asked.
    MayExport,
    Decisions(Box<DecisionList>),
    DryRun(Box<DecisionBody>),
    Fleets(FleetList),
    Fleet(FleetStatus),
    Gameservers(GameserverList),
    Gameserver(GameserverStatus),
    Rooms(RoomList),
    Room(RoomStatus),
    Hosts(HostList),
    Overview(Box<Overview>),
    Audit(AuditList),
    Metric(MetricAnswer),
    Triggers(TriggerList),
    Slos(SloList),
    Readiness(Readiness),
}

/// A ticket that plays, not yet signed.
#[derive(Debug, Clone, PartialEq)]
pub struct TicketGrant {
    /// The ticket.
    pub ticket: TicketId,
    /// Its seats.
    pub grant: Grant,
}

/// What must be done outside, in this order: all writes of a batch first, then the rest.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Change the store.
    Write(Box<Write>),
    /// Tell an agent.
    Order {
        /// On which stream.
        stream: StreamId,
        /// What.
        message: Box<ToAgent>,
    },
    /// End a stream.
    CloseStream {
        /// Which.
        stream: StreamId,
        /// Told to the agent.
        reason: String,
    },
    /// Answer a call.
    Reply {
        /// Which.
        request: RequestId,
        /// With what.
        answer: Box<Result<Answer, Refusal>>,
    },
    /// Post a stored result until it is taken.
    Deliver(Box<ResultRecord>),
    /// Post a message once, and say how that went by [`Event::NewsPosted`]. Only while this process decides: whoever comes
    /// after it may have posted it meanwhile.
    Post {
        /// Who is told.
        reader: String,
        /// The same for the same message, whoever sends it.
        key: String,
        /// What is told, as a chat of Slack's manner reads it.
        text: String,
    },
    /// Do what a trigger is for, once, and say how that went by [`Event::Acted`]. Comes with the write of it: never again after a
    /// crash.
    Act(Box<TriggerFired>),
    /// For the log.
    Note(Notice),
}

/// One change of the store; each is safe to repeat.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "put or delete of the records documented at greenroom_wire::record")]
pub enum Write {
    PutRoom(RoomRecord),
    DeleteRoom(RoomId),
    PutKey { key: String, record: KeyRecord },
    DeleteKey { key: String },
    PutAnswer { key: String, record: AnswerRecord },
    DeleteAnswer { key: String },
    PutResult { key: String, record: ResultRecord },
    DeleteResult { key: String },
    PutHost(HostRecord),
    DeleteHost(HostName),
    PutAudit(AuditRecord),
    DeleteAudit(u64),
    PutDecision { key: String, record: DecisionRecord },
    PutScale(ScaleRecord),
    PutDrain(DrainRecord),
    DeleteDrain { kind: DrainKind, name: String },
    PutNews(NewsRecord),
    DeleteNews { key: String },
    PutTrigger(TriggerRecord),
    DeleteTrigger { name: String },
    PutTerm(u64),
}

/// What was stored, as a world starts from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// Promised rooms.
    pub rooms: Vec<RoomRecord>,
    /// Answers by their key.
    pub answers: Vec<(String, AnswerRecord)>,
    /// Results not yet taken.
    pub results: Vec<ResultRecord>,
    /// Hosts to wait for.
    pub hosts: Vec<HostRecord>,
    /// The audit trail, in no order.
    pub audit: Vec<AuditRecord>,
    /// The last decisions of all fleets, in no order.
    pub decisions: Vec<DecisionRecord>,
    /// What people have ordered.
    pub scale_orders: Vec<ScaleRecord>,
    /// What they have taken out of use.
    pub drains: Vec<DrainRecord>,
    /// What people outside are told, in no order.
    pub news: Vec<NewsRecord>,
    /// Triggers that have fired.
    pub triggers: Vec<TriggerRecord>,
}
