//! One control process: alone, or one replica of several. The real world, fence, watch and lease, and the real way of
//! loading and storing; only time, streams and callers are made up.
//!
//! Never tells anything that is not stored, and never asks the store while it is frozen: then it does nothing at all, and
//! goes on where it was when it thaws.

mod lead;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use greenroom_control::fence::Fence;
use greenroom_control::lease::{LeaseTimes, Look, Tenure, Watch};
use greenroom_control::promises;
use greenroom_control::world::{Event, IdSource, Records, StreamId, World};
use greenroom_core::{Term, Timestamp};
use greenroom_store::lease::{self, Holder, TakeError};
use greenroom_store::records::{LoadError, Loaded};
use greenroom_store::term::{self, HeldTerm, RaiseError};
use greenroom_wire::agent::Hello;
use greenroom_wire::record::LeaseRecord;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::invariant::Broken;
use crate::scenario::Scenario;
use crate::store::{Line, SimStore};
pub(crate) use lead::{Lead, Told};

/// What one process waits for.
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What came out of one step of a process.
#[derive(Debug)]
pub(crate) enum Said {
    /// It leads now.
    Leads,
    /// Its world has handled so many events.
    Handled {
        /// How many.
        events: u64,
    },
    /// An effect of its world, stored and let out.
    Told(Box<Told>),
    /// It does not lead any more: its agents are hung up on and its callers get no answer.
    Over,
    /// Its process stands still from here on.
    Freezes {
        /// For so long.
        for_ms: u64,
    },
    /// The process has ended.
    Ended,
}

/// One machine of the control plane.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) number: usize,
    is_alone: bool,
    store: SimStore,
    process: Option<Process>,
    up_at_ms: u64,
    frozen_until_ms: u64,
}

struct Process {
    line: Line,
    /// Agents' streams, which outlive the leadership of others.
    attending: BTreeMap<StreamId, Hello>,
    term_known: u64,
    sees: Option<String>,
    watch: Watch,
    phase: Phase,
    is_stopping: bool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("sees", &self.sees).finish_non_exhaustive()
    }
}

enum Phase {
    Idle { until_ms: u64 },
    Looking(Waiting<Result<Option<Loaded<LeaseRecord>>, LoadError>>),
    Taking { asked_at: Duration, taking: Waiting<Result<HeldTerm, TakeError>> },
    Raising(Waiting<Result<HeldTerm, RaiseError>>),
    Loading { asked_at: Option<Duration>, held: HeldTerm, loading: Waiting<Result<Records, LoadError>> },
    Leading(Box<Lead>),
}

/// The answer, if it has come.
fn poll<T>(waiting: &mut Waiting<T>) -> Option<T> {
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// A process's own clock, which no other is compared with.
fn clock(now: Timestamp) -> Duration {
    Duration::from_millis(now.unix_ms())
}

impl Replica {
    pub(crate) const fn new(number: usize, is_alone: bool, store: SimStore) -> Self {
        Self { number, is_alone, store, process: None, up_at_ms: 0, frozen_until_ms: 0 }
    }

    fn holder(&self) -> Holder {
        let name = format!("replica-{}", self.number);
        Holder { url: format!("http://{name}"), name }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it is stopped in the middle of whatever it was doing.
    pub(crate) const fn is_frozen(&self, now_ms: u64) -> bool {
        now_ms < self.frozen_until_ms
    }

    pub(crate) const fn freeze(&mut self, until_ms: u64) {
        self.frozen_until_ms = until_ms;
    }

    /// Dies at once, and comes back as another process.
    pub(crate) fn kill(&mut self, up_at_ms: u64) {
        self.process = None;
        self.up_at_ms = up_at_ms;
        self.frozen_until_ms = 0;
    }

    /// Is told to stop: answers, gives its lease back, ends.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.is_stopping = true;
        }
    }

    /// Comes back now.
    pub(crate) fn hurry(&mut self, now_ms: u64) {
        self.up_at_ms = self.up_at_ms.min(now_ms);
        self.frozen_until_ms = 0;
    }

    /// The leadership that it believes to have.
    pub(crate) fn lead(&mut self) -> Option<&mut Lead> {
        match &mut self.process.as_mut()?.phase {
            Phase::Leading(lead) => Some(lead),
            Phase::Idle { .. }
            | Phase::Looking(_)
            | Phase::Taking { .. }
            | Phase::Raising(_)
            | Phase::Loading { .. } => None,
        }
    }

    /// Whether it knows that replica as the leader.
    pub(crate) fn sees(&self, other: &Self) -> bool {
        let sees = self.process.as_ref().and_then(|process| process.sees.as_deref());
        sees == Some(other.holder().name.as_str())
    }

    /// An agent has dialled.
    pub(crate) fn attend(&mut self, stream: StreamId, hello: Hello) {
        let Some(process) = &mut self.process else { return };
        process.term_known = process.term_known.max(hello.term_seen);
        process.attending.insert(stream, hello.clone());
        if let Phase::Leading(lead) = &mut process.phase {
            lead.take(Event::StreamOpened { stream, hello });
        }
    }

    /// A stream is over.
    pub(crate) fn gone(&mut self, stream: StreamId) {
        let Some(process) = &mut self.process else { return };
        process.attending.remove(&stream);
        if let Phase::Leading(lead) = &mut process.phase {
            lead.take(Event::StreamClosed { stream });
        }
    }

    /// Begins anew when it is time to.
    pub(crate) fn begin(&mut self, now_ms: u64, process: u64) -> bool {
        if self.process.is_some() || now_ms < self.up_at_ms {
            return false;
        }
        let line = self.store.line(self.number, process);
        let phase = if self.is_alone {
            let line = line.clone();
            Phase::Raising(Box::pin(async move { term::raise(&line, Term(0)).await }))
        } else {
            Phase::Idle { until_ms: now_ms }
        };
        self.process = Some(Process {
            line,
            attending: BTreeMap::new(),
            term_known: 0,
            sees: None,
            watch: Watch::new(LeaseTimes::default()),
            phase,
            is_stopping: false,
        });
        true
    }

    /// Does what it can at this moment.
    pub(crate) fn step(
        &mut self,
        scenario: &Scenario,
        now: Timestamp,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Said>, Broken> {
        let (holder, is_alone) = (self.holder(), self.is_alone);
        let mut said = Vec::new();
        if self.is_frozen(now.unix_ms()) {
            return Ok(said);
        }
        while let Some(process) = &mut self.process
            && process.go_on(&holder, scenario, now, rng, &mut said)?
        {
            if is_alone && matches!(process.phase, Phase::Idle { .. }) {
                // Whoever has no rivals ends with its store, and begins again from what is there.
                process.is_stopping = true;
            }
        }
        if self.process.as_ref().is_some_and(|process| process.is_over()) {
            self.process = None;
            said.push(Said::Ended);
        }
        Ok(said)
    }

    /// When it is back after it has ended.
    pub(crate) const fn back_at(&mut self, up_at_ms: u64) {
        self.up_at_ms = up_at_ms;
    }
}

impl Process {
    const fn is_over(&self) -> bool {
        self.is_stopping && matches!(self.phase, Phase::Idle { .. })
    }

    /// One step; false when it waits for something.
    fn go_on(
        &mut self,
        holder: &Holder,
        scenario: &Scenario,
        now: Timestamp,
        rng: &mut ChaCha8Rng,
        said: &mut Vec<Said>,
    ) -> Result<bool, Broken> {
        let idle = Phase::Idle { until_ms: now.unix_ms() + 100 };
        let next = match &mut self.phase {
            Phase::Idle { until_ms } => {
                if now.unix_ms() < *until_ms || self.is_stopping {
                    return Ok(false);
                }
                let line = self.line.clone();
                Phase::Looking(Box::pin(async move { lease::read(&line).await }))
            }
            Phase::Looking(looking) => match poll(looking) {
                None => return Ok(false),
                Some(Err(_)) => {
                    self.sees = None;
                    idle
                }
                Some(Ok(lease)) => self.looked(holder, lease, now).unwrap_or(idle),
            },
            Phase::Taking { asked_at, taking } => match poll(taking) {
                None => return Ok(false),
                Some(Ok(held)) => {
                    let asked_at = Some(*asked_at);
                    self.load(asked_at, held)
                }
                Some(Err(_)) => idle,
            },
            Phase::Raising(raising) => match poll(raising) {
                None => return Ok(false),
                Some(Ok(held)) => self.load(None, held),
                Some(Err(_)) => idle,
            },
            Phase::Loading { asked_at, held, loading } => match poll(loading) {
                None => return Ok(false),
                Some(Err(_)) => idle,
                Some(Ok(records)) => {
                    let (asked_at, held) = (*asked_at, *held);
                    said.push(Said::Leads);
                    Phase::Leading(Box::new(self.lead(holder, scenario, now, (asked_at, held, records), rng)))
                }
            },
            Phase::Leading(lead) => {
                if self.is_stopping {
                    lead.stop();
                }
                if lead.step(now, said)? {
                    return Ok(false);
                }
                said.push(Said::Over);
                self.attending.clear();
                self.sees = None;
                self.watch = Watch::new(LeaseTimes::default());
                idle
            }
        };
        self.phase = next;
        Ok(true)
    }

    /// What a look at the lease leads to, if to anything.
    fn looked(
        &mut self,
        holder: &Holder,
        lease: Option<Loaded<LeaseRecord>>,
        now: Timestamp,
    ) -> Option<Phase> {
        if let Some(lease) = &lease {
            self.term_known = self.term_known.max(lease.record.term);
        }
        let look = self.watch.look(clock(now), lease, holder);
        self.sees = match &look {
            Look::Held(record) => Some(record.holder.clone()),
            Look::Former | Look::Vacant(_) => None,
        };
        let Look::Vacant(seen) = look else { return None };
        let (line, holder, above) = (self.line.clone(), holder.clone(), Term(self.term_known));
        let taking = Box::pin(async move { lease::take(&line, seen, above, &holder).await });
        Some(Phase::Taking { asked_at: clock(now), taking })
    }

    fn load(&mut self, asked_at: Option<Duration>, held: HeldTerm) -> Phase {
        self.term_known = self.term_known.max(held.term.0);
        let line = self.line.clone();
        Phase::Loading { asked_at, held, loading: Box::pin(async move { promises(&line).await }) }
    }

    /// Begins to lead with the agents that are here already.
    fn lead(
        &mut self,
        holder: &Holder,
        scenario: &Scenario,
        now: Timestamp,
        (asked_at, held, records): (Option<Duration>, HeldTerm, Records),
        rng: &mut ChaCha8Rng,
    ) -> Lead {
        let config = scenario.world_config(held.term.0);
        let (world, first) = World::restore(records, config, IdSource::new(rng.random()), now);
        let fence = match asked_at {
            None => Fence::alone(held),
            Some(asked_at) => {
                let tenure = Tenure::new(LeaseTimes::default(), asked_at);
                Fence::leased(held, tenure, holder.clone())
            }
        };
        self.sees = Some(holder.name.clone());
        let mut lead = Lead::new((world, first), fence, Arc::new(self.line.clone()), &scenario.fleets);
        for (stream, hello) in &self.attending {
            lead.take(Event::StreamOpened { stream: *stream, hello: hello.clone() });
        }
        lead
    }
}
