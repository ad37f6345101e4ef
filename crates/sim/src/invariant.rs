//! What must be true of every run.
//!
//! Never mends anything: a run ends at its first violation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_control::world::{Answer, Effect, Grant, Refusal, TicketGrant};
use greenroom_core::autoscale::{Autoscale, ScaleIn};
use greenroom_core::fleet::FullAt;
use greenroom_core::{FleetName, HostName, InstanceId, PlayerId, RoomId, RoomKey, ServerName};
use greenroom_wire::agent::{ServerReport, ToAgent};
use greenroom_wire::api::{ChangeWord, FleetStatus};
use greenroom_wire::record::DecisionRecord;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {at_ms} ms: {broken}")]
pub struct Violation {
    /// Simulated milliseconds since the run began.
    pub at_ms: u64,
    /// Which promise.
    pub broken: Broken,
}

/// Which promise was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A start was ordered beyond the fleet's bound.
    #[error("fleet {fleet} was started to {replicas} gameservers, replicas_max is {replicas_max}")]
    AboveMaximum {
        /// The fleet.
        fleet: FleetName,
        /// Live servers after the start.
        replicas: u32,
        /// The bound.
        replicas_max: u32,
    },
    /// A server with players on it was told to stop.
    #[error("gameserver {server} was told to stop with {players} players on it")]
    BusyStopped {
        /// The server.
        server: ServerName,
        /// Players on it.
        players: usize,
    },
    /// Two rooms of one key lived at the same time.
    #[error("key {key} has two live rooms, {one} and {other}")]
    KeyTwice {
        /// The key.
        key: RoomKey,
        /// One room.
        one: RoomId,
        /// The other.
        other: RoomId,
    },
    /// Two players were promised the same seat.
    #[error("seat {seat} of room {room} was promised to {newcomer} while {holder} sits there")]
    SeatTwice {
        /// The room.
        room: RoomId,
        /// The seat.
        seat: u16,
        /// Who sits there.
        holder: PlayerId,
        /// Who came with a valid token.
        newcomer: PlayerId,
    },
    /// More rooms were promised on a process than it may hold.
    #[error("instance {instance} holds {rooms} rooms, {rooms_max} are allowed")]
    Crowded {
        /// The process.
        instance: InstanceId,
        /// Its rooms.
        rooms: usize,
        /// The bound.
        rooms_max: u16,
    },
    /// A call was not answered in time.
    #[error("request {request} was not answered {late_ms} ms after its deadline")]
    Unanswered {
        /// Its number.
        request: u64,
        /// How late it is.
        late_ms: u64,
    },
    /// A call was answered twice, or never asked.
    #[error("request {request} was answered although nobody waits for it")]
    AnsweredTwice {
        /// Its number.
        request: u64,
    },
    /// The same idempotency key got another answer.
    #[error("idempotency key {key} was answered with room {first} and then with {second}")]
    AnswerChanged {
        /// The key.
        key: String,
        /// The first answer's room and tokens.
        first: String,
        /// The second's.
        second: String,
    },
    /// A fleet is short of what it wants and does not say why.
    #[error("fleet {fleet} has {ready} ready of {wanted} wanted and waits on nothing")]
    ShortWithoutReason {
        /// The fleet.
        fleet: FleetName,
        /// Ready servers.
        ready: u32,
        /// Wanted ones.
        wanted: u32,
    },
    /// A server that control had told to stop was given out.
    #[error("gameserver {server} was given out after it had been told to stop")]
    StoppedGivenOut {
        /// The server.
        server: ServerName,
    },
    /// A server got somebody new although it had told that it is worse off than its fleet allows.
    #[error("gameserver {server} was given out although it had told that it is full")]
    FullGivenOut {
        /// The server.
        server: ServerName,
    },
    /// A room was made on a host after somebody was told that it is drained.
    #[error("gameserver {server} was given a new room after its host {host} had been drained")]
    DrainedGivenOut {
        /// The server.
        server: ServerName,
        /// Its host.
        host: HostName,
    },
    /// A decision came too soon after another one.
    #[error("fleet {fleet} was scaled {change:?} after {gap:?}, the cool-down is {cooldown:?}")]
    CoolDown {
        /// The fleet.
        fleet: FleetName,
        /// Out or in.
        change: ChangeWord,
        /// Time since the decision that it had to wait for.
        gap: Duration,
        /// What was set.
        cooldown: Duration,
    },
    /// A decision went further than it may.
    #[error("fleet {fleet} was scaled {change:?} from {from} to {to}: {why}")]
    StepTooLarge {
        /// The fleet.
        fleet: FleetName,
        /// Out or in.
        change: ChangeWord,
        /// Before.
        from: u32,
        /// After.
        to: u32,
        /// Which bound.
        why: &'static str,
    },
    /// A decision did not begin where the last one ended.
    #[error("fleet {fleet} was scaled from {from}, but {wanted} were wanted before")]
    NumberForgotten {
        /// The fleet.
        fleet: FleetName,
        /// What the decision began with.
        from: u32,
        /// What the decision before had ended with.
        wanted: u32,
    },
    /// A room's result never reached the webhook.
    #[error("the result of room {room} (epoch {epoch}) was never delivered")]
    ResultLost {
        /// The room.
        room: RoomId,
        /// Its epoch.
        epoch: u32,
    },
    /// A leader stored something although another had raised the term.
    #[error("a leader of term {term} stored a batch although the stored term is {stored}")]
    DeposedStored {
        /// The leader's.
        term: u64,
        /// The stored one.
        stored: u64,
    },
    /// An agent carried out an order of an older term than one that it had obeyed before.
    #[error("host {host} obeyed an order of term {term} after one of term {after}")]
    OldTermObeyed {
        /// The agent's host.
        host: HostName,
        /// The order's.
        term: u64,
        /// The highest before.
        after: u64,
    },
    /// An agent carried out orders of one control process while it obeyed another.
    #[error("host {host} obeyed control process {control} while it was obeying {obeyed}")]
    TwoObeyed {
        /// The agent's host.
        host: HostName,
        /// Who gave the order.
        control: usize,
        /// Whose welcome came last.
        obeyed: usize,
    },
    /// One server was started on two hosts.
    #[error("gameserver {server} was started on host {host} and on host {other}")]
    StartedTwice {
        /// The server.
        server: ServerName,
        /// Where it was started first.
        host: HostName,
        /// Where it was started then.
        other: HostName,
    },
    /// A room was told of that was never stored.
    #[error("room {room} was given out and never stored")]
    ToldUnstored {
        /// The room.
        room: RoomId,
    },
    /// The cluster did not come to rest after the last fault.
    #[error("not at rest {waited_ms} ms after the last fault and the last player: {why}")]
    NoRest {
        /// How long it was waited for.
        waited_ms: u64,
        /// What is still moving.
        why: String,
    },
}

/// Watches a control plane from outside: told all that it says and stores, it names the first promise that was broken.
/// Knows nothing of how the plane decides.
#[derive(Debug, Default)]
pub struct Laws {
    /// When each server was told to stop by this leader.
    stopped: BTreeMap<ServerName, u64>,
    /// Rooms that were promised on each server before it was told to stop.
    promised: BTreeMap<ServerName, BTreeSet<RoomId>>,
    decided: BTreeMap<FleetName, Decided>,
    /// Hosts that are drained, and since when that was told.
    drained: BTreeMap<HostName, u64>,
    /// Servers that told last that they are worse off than their fleet allows.
    full: BTreeSet<ServerName>,
    /// Rooms that this leader has made.
    made: BTreeSet<RoomId>,
}

/// The rooms that an answer tells.
pub(crate) fn grants(answer: &Result<Answer, Refusal>) -> impl Iterator<Item = &Grant> {
    let (one, many) = match answer {
        Ok(Answer::Allocated(grant)) => (Some(&**grant), &[][..]),
        Ok(Answer::Assignments { assignments, .. }) => (None, &assignments[..]),
        Ok(_) | Err(_) => (None, &[][..]),
    };
    one.into_iter().chain(many.iter().map(|assigned: &TicketGrant| &assigned.grant))
}

/// What is known of a fleet's decisions.
#[derive(Debug, Clone, Copy)]
struct Decided {
    wanted: u32,
    out_at_ms: Option<u64>,
    changed_at_ms: u64,
}

impl Laws {
    /// An effect of the control plane, in order.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn told(&mut self, now_ms: u64, effect: &Effect) -> Result<(), Broken> {
        match effect {
            Effect::Order { message, .. } => {
                if let ToAgent::Stop { server, .. } = &**message {
                    self.stopped.entry(server.0.clone()).or_insert(now_ms);
                }
            }
            Effect::Reply { answer, .. } => match &**answer {
                Ok(Answer::Allocated(grant)) => self.granted(grant)?,
                Ok(Answer::Assignments { assignments, .. }) => {
                    assignments.iter().try_for_each(|assigned| self.granted(&assigned.grant))?;
                }
                Ok(Answer::Endpoint(answer)) => self.given_out(&answer.server.0, now_ms)?,
                Ok(_) | Err(_) => {}
            },
            Effect::Write(_)
            | Effect::CloseStream { .. }
            | Effect::Deliver(_)
            | Effect::Post { .. }
            | Effect::Act(_)
            | Effect::Note(_) => {}
        }
        Ok(())
    }

    /// An answer may be told again after its server was stopped; it may not be made then.
    fn granted(&mut self, grant: &Grant) -> Result<(), Broken> {
        let record = &grant.record;
        let (server, room) = (&record.server.0, &record.room.0);
        // Made and stopped within one millisecond: the answer was first told before the order, or it was not.
        let in_time = self.promised.get(server).is_some_and(|rooms| rooms.contains(room));
        if !self.stopped.contains_key(server) {
            self.promised.entry(server.clone()).or_default().insert(room.clone());
        }
        self.given_out(server, record.answered_at_ms.saturating_sub(u64::from(in_time)))
    }

    fn given_out(&self, server: &ServerName, at_ms: u64) -> Result<(), Broken> {
        match self.stopped.get(server) {
            Some(stopped_ms) if at_ms >= *stopped_ms => {
                Err(Broken::StoppedGivenOut { server: server.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A leader has taken this up of a server of a fleet with these caps.
    pub fn heard(&mut self, caps: &FullAt, report: &ServerReport) {
        if caps.full(&report.measured.strain(report.connections), None).is_some() {
            self.full.insert(report.server.0.clone());
        } else {
            self.full.remove(&report.server.0);
        }
    }

    /// The same leader has decided this, right after what it has heard.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn answered(&mut self, now_ms: u64, effect: &Effect) -> Result<(), Broken> {
        let Effect::Reply { answer, .. } = effect else { return Ok(()) };
        if let Ok(Answer::Endpoint(answer)) = &**answer {
            return self.is_well(&answer.server.0);
        }
        for record in grants(answer).map(|grant| &grant.record).filter(|record| record.created) {
            // An answer may be told again, by this leader or by the next.
            if record.answered_at_ms == now_ms && self.made.insert(record.room.0.clone()) {
                self.is_well(&record.server.0)?;
            }
        }
        Ok(())
    }

    fn is_well(&self, server: &ServerName) -> Result<(), Broken> {
        if self.full.contains(server) {
            return Err(Broken::FullGivenOut { server: server.clone() });
        }
        Ok(())
    }

    /// Somebody was told that a host is drained.
    pub fn drained(&mut self, host: HostName, at_ms: u64) {
        self.drained.entry(host).or_insert(at_ms);
    }

    /// A host may be in use again.
    pub fn undrained(&mut self, host: &HostName) {
        self.drained.remove(host);
    }

    /// A new room was made there at this moment.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn placed(&self, host: &HostName, server: &ServerName, at_ms: u64) -> Result<(), Broken> {
        match self.drained.get(host) {
            Some(since_ms) if at_ms > *since_ms => {
                Err(Broken::DrainedGivenOut { server: server.clone(), host: host.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A decision was stored, made by these rules.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn decided(&mut self, rules: &Autoscale, record: &DecisionRecord) -> Result<(), Broken> {
        let (fleet, one) = (record.fleet.0.clone(), &record.decision);
        let (from, to, change) = (one.replicas_before, one.replicas_wanted, one.change);
        let last = self.decided.get(&fleet).copied();
        if let Some(last) = last.filter(|last| last.wanted != from) {
            return Err(Broken::NumberForgotten { fleet, from, wanted: last.wanted });
        }
        let waited = |since: Option<u64>, cooldown: Duration| {
            let gap =
                since.map_or(Duration::MAX, |since| Duration::from_millis(one.at_ms.saturating_sub(since)));
            if gap < cooldown {
                return Err(Broken::CoolDown { fleet: fleet.clone(), change, gap, cooldown });
            }
            Ok(())
        };
        let step = |why, is_within: bool| {
            if is_within {
                Ok(())
            } else {
                Err(Broken::StepTooLarge { fleet: fleet.clone(), change, from, to, why })
            }
        };
        match change {
            ChangeWord::None => {}
            ChangeWord::AtOnce => step("it changes nothing", from != to)?,
            ChangeWord::Out => {
                waited(last.and_then(|last| last.out_at_ms), rules.cooldown_out)?;
                step("it is no growth", to > from)?;
            }
            ChangeWord::In => {
                waited(last.map(|last| last.changed_at_ms), rules.cooldown_in)?;
                step("it is no shrinking", to < from)?;
                step("the step is bounded", from - to <= rules.step_in_max)?;
                let busy = rules.scale_in == ScaleIn::Idle;
                step("servers are busy", !busy || to >= one.inputs.busy)?;
            }
        }
        let out = (change == ChangeWord::Out).then_some(one.at_ms);
        let decided = Decided {
            wanted: to,
            out_at_ms: out.or(last.and_then(|last| last.out_at_ms)),
            changed_at_ms: one.at_ms,
        };
        self.decided.insert(fleet, decided);
        Ok(())
    }

    /// The store has lost some of what it held: what comes next begins from what is left.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Watches what one agent carries out.
#[derive(Debug, Default)]
pub struct AgentLaws {
    term_max: u64,
    obeyed: Option<usize>,
}

impl AgentLaws {
    /// The agent obeys this control process from now on.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn welcomed(&mut self, host: &HostName, control: usize, term: u64) -> Result<(), Broken> {
        self.obeyed = Some(control);
        self.ordered(host, control, term)
    }

    /// The agent carries out an order.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn ordered(&mut self, host: &HostName, control: usize, term: u64) -> Result<(), Broken> {
        if let Some(obeyed) = self.obeyed.filter(|obeyed| *obeyed != control) {
            return Err(Broken::TwoObeyed { host: host.clone(), control, obeyed });
        }
        if term < self.term_max {
            return Err(Broken::OldTermObeyed { host: host.clone(), term, after: self.term_max });
        }
        self.term_max = term;
        Ok(())
    }
}

/// A fleet that is short says why. To be asked right after a step of planning.
///
/// # Errors
/// [`Broken::ShortWithoutReason`].
pub fn short_fleet_says_why(fleet: &FleetStatus) -> Result<(), Broken> {
    if fleet.ready < fleet.replicas_wanted && fleet.waiting_on.is_empty() {
        let (ready, wanted) = (fleet.ready, fleet.replicas_wanted);
        return Err(Broken::ShortWithoutReason { fleet: fleet.name.0.clone(), ready, wanted });
    }
    Ok(())
}

/// A start that was just ordered leaves the fleet within its bound.
///
/// # Errors
/// [`Broken::AboveMaximum`].
pub fn start_within_maximum(fleet: &FleetStatus) -> Result<(), Broken> {
    if fleet.replicas > fleet.replicas_max {
        let (replicas, replicas_max) = (fleet.replicas, fleet.replicas_max);
        return Err(Broken::AboveMaximum { fleet: fleet.name.0.clone(), replicas, replicas_max });
    }
    Ok(())
}
