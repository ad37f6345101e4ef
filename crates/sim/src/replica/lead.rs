//! A leadership: from the records to the first refusal of the store, or to the end of its process.
//!
//! Never lets out what is not stored: the fence says what must be, before anything is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use greenroom_control::fence::{Draft, Fence, Pledge};
use greenroom_control::world::{Answer, Call, Effect, Event, RequestId, World};
use greenroom_core::fleet::{Fleet, FullAt};
use greenroom_core::{FleetName, Timestamp};
use greenroom_store::{Batch, CommitError, Store as _, Version};
use greenroom_wire::agent::{FromAgent, ServerReport, ToAgent};
use greenroom_wire::api::FleetStatus;

use super::{Said, Waiting, clock, poll};
use crate::invariant::{Broken, Laws, short_fleet_says_why};
use crate::store::Line;

/// Time between two ticks.
const TICK_MS: u64 = 100;
/// A number that no caller has.
const OURSELVES: RequestId = RequestId(u64::MAX);

/// An effect that is let out.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) effect: Effect,
    /// Where a start is ordered: its fleet, as it was right after the decision.
    pub(crate) fleet: Option<FleetStatus>,
}

/// Whoever decides.
pub(crate) struct Lead {
    world: World,
    fence: Fence,
    line: Arc<Line>,
    first: Option<Vec<Effect>>,
    /// What the start asks for is on its way to the store: nothing is decided yet.
    starts: bool,
    inbox: VecDeque<Event>,
    storing: Option<Storing>,
    decided: Decided,
    tick_ms: u64,
    stop: Stop,
    laws: Laws,
    /// When servers of each fleet are full.
    caps: BTreeMap<FleetName, FullAt>,
    /// For how long its process freezes when the store has confirmed the next batch, before any of it is told.
    freezes_ms: Option<u64>,
    untold: Vec<Told>,
}

#[derive(PartialEq, Eq)]
enum Stop {
    No,
    /// What was asked is answered first.
    Asked,
    HandedBack,
}

/// What was decided while a batch was on its way to the store.
#[derive(Default)]
struct Decided {
    effects: Vec<Effect>,
    /// To each effect the fleet of the start that it orders, as it was right after the decision.
    fleets: Vec<Option<FleetStatus>>,
    ticked: bool,
    any: bool,
}

struct Storing {
    since_ms: u64,
    storing: Waiting<Result<Version, CommitError>>,
    pledge: Option<Pledge>,
    told: Vec<Told>,
}

impl Lead {
    pub(super) fn new(
        (world, first): (World, Vec<Effect>),
        fence: Fence,
        line: Arc<Line>,
        fleets: &[Fleet],
    ) -> Self {
        Self {
            world,
            fence,
            line,
            first: Some(first),
            starts: false,
            inbox: VecDeque::new(),
            storing: None,
            decided: Decided::default(),
            tick_ms: 0,
            stop: Stop::No,
            laws: Laws::default(),
            caps: fleets.iter().map(|fleet| (fleet.name.clone(), fleet.full_at)).collect(),
            freezes_ms: None,
            untold: Vec::new(),
        }
    }

    /// Something has happened that it will hear of.
    pub(crate) fn take(&mut self, event: Event) {
        self.inbox.push_back(event);
    }

    pub(super) fn stop(&mut self) {
        if self.stop == Stop::No {
            self.stop = Stop::Asked;
        }
    }

    /// Lets its process freeze between the next commit and what it was for.
    pub(crate) const fn freeze_untold(&mut self, for_ms: u64) {
        self.freezes_ms = Some(for_ms);
    }

    pub(crate) const fn term(&self) -> u64 {
        self.fence.term().0
    }

    /// For how long the store has not answered it.
    pub(crate) fn waits_ms(&self, now_ms: u64) -> u64 {
        self.storing.as_ref().map_or(0, |storing| now_ms - storing.since_ms)
    }

    /// The fleets as an operator sees them.
    pub(crate) fn fleets(&mut self, now: Timestamp) -> Vec<FleetStatus> {
        let call = Box::new(Call::Fleets);
        let effects = self.world.handle(now, Event::Asked { request: OURSELVES, call });
        let lists = effects.into_iter().filter_map(|effect| {
            if let Effect::Reply { answer, .. } = effect
                && let Ok(Answer::Fleets(list)) = *answer
            {
                Some(list.fleets)
            } else {
                None
            }
        });
        lists.flatten().collect()
    }

    /// Does what it can at this moment. False when it is over.
    pub(super) fn step(&mut self, now: Timestamp, said: &mut Vec<Said>) -> Result<bool, Broken> {
        let untold = std::mem::take(&mut self.untold);
        self.tell(untold, now, said)?;
        loop {
            if let Some(storing) = &mut self.storing {
                match poll(&mut storing.storing) {
                    None => {
                        let decides = self.stop != Stop::HandedBack && !self.starts;
                        if decides && !self.fence.is_doubtful(clock(now)) && self.has_work(now) {
                            self.decide(now, said)?;
                        }
                        return Ok(true);
                    }
                    Some(Err(_)) => return Ok(false),
                    Some(Ok(version)) => {
                        self.starts = false;
                        self.stored(version, now, said)?;
                        if self.stop == Stop::HandedBack {
                            return Ok(false);
                        }
                        if !self.untold.is_empty() {
                            return Ok(true);
                        }
                    }
                }
                continue;
            }
            if let Some(first) = self.first.take() {
                let fleets = self.in_detail(&first, now);
                self.decided = Decided { effects: first, fleets, ticked: false, any: true };
                self.starts = true;
            }
            if self.decided.any {
                self.carry_out(now, said)?;
                continue;
            }
            if self.fence.is_doubtful(clock(now)) {
                self.decided.any = true;
                continue;
            }
            if !self.has_work(now) {
                if self.stop != Stop::Asked {
                    return Ok(true);
                }
                self.stop = Stop::HandedBack;
                let Some(batch) = self.fence.release() else { return Ok(false) };
                self.store(batch, None, Vec::new(), now);
                continue;
            }
            self.decide(now, said)?;
        }
    }

    const fn ticks(&self, now: Timestamp) -> bool {
        now.unix_ms() >= self.tick_ms && matches!(self.stop, Stop::No) && !self.decided.ticked
    }

    fn has_work(&self, now: Timestamp) -> bool {
        self.ticks(now) || !self.inbox.is_empty()
    }

    /// As the real loop: also while a batch is on its way to the store.
    fn decide(&mut self, now: Timestamp, said: &mut Vec<Said>) -> Result<(), Broken> {
        let ticks = self.ticks(now);
        let inbox = std::mem::take(&mut self.inbox);
        said.push(Said::Handled { events: inbox.len() as u64 + u64::from(ticks) });
        for event in inbox {
            let heard = self.reports(&event);
            let effects = self.world.handle(now, event);
            for (caps, report) in &heard {
                self.laws.heard(caps, report);
            }
            self.add(effects, now)?;
        }
        if ticks {
            self.tick_ms = now.unix_ms() + TICK_MS;
            let effects = self.world.handle(now, Event::Tick);
            self.add(effects, now)?;
            for fleet in self.fleets(now) {
                short_fleet_says_why(&fleet)?;
            }
            self.decided.ticked = true;
        }
        self.decided.any = true;
        Ok(())
    }

    /// Adds what one event has led to, before the next one changes how fleets stand.
    fn add(&mut self, effects: Vec<Effect>, now: Timestamp) -> Result<(), Broken> {
        effects.iter().try_for_each(|effect| self.laws.answered(now.unix_ms(), effect))?;
        let fleets = self.in_detail(&effects, now);
        self.decided.effects.extend(effects);
        self.decided.fleets.extend(fleets);
        Ok(())
    }

    /// What it will take up of servers, each beside the caps of its fleet.
    fn reports(&self, event: &Event) -> Vec<(FullAt, ServerReport)> {
        let Event::StreamSaid { message, .. } = event else { return Vec::new() };
        let FromAgent::Report(report) = &**message else { return Vec::new() };
        // Who obeys another knows why it reports.
        let is_told = report.term == Some(self.term());
        let servers = report.servers.iter().filter(|_| is_told);
        let caps = |server: &ServerReport| self.caps.get(&server.fleet.0).copied().unwrap_or_default();
        servers.map(|server| (caps(server), server.clone())).collect()
    }

    /// Stores what was decided, or tells it where nothing need be stored. Nothing is on its way to the store.
    fn carry_out(&mut self, now: Timestamp, said: &mut Vec<Said>) -> Result<(), Broken> {
        let Decided { effects, fleets, .. } = std::mem::take(&mut self.decided);
        let draft = self.fence.draft(clock(now), &effects);
        let told = effects.into_iter().zip(fleets).map(|(effect, fleet)| Told { effect, fleet });
        let told = told.filter(|told| !matches!(told.effect, Effect::Write(_))).collect();
        match draft {
            Some(Draft { batch, pledge }) => self.store(batch, Some(pledge), told, now),
            None => self.tell(told, now, said)?,
        }
        Ok(())
    }

    fn store(&mut self, batch: Batch, pledge: Option<Pledge>, told: Vec<Told>, now: Timestamp) {
        let line = self.line.under(self.term());
        // Asked at once: it is on its way even if nobody waits for the answer.
        let storing: Waiting<_> = Box::pin(async move { line.commit(batch).await });
        self.storing = Some(Storing { since_ms: now.unix_ms(), storing, pledge, told });
    }

    fn stored(&mut self, version: Version, now: Timestamp, said: &mut Vec<Said>) -> Result<(), Broken> {
        let Some(Storing { pledge, told, .. }) = self.storing.take() else { return Ok(()) };
        if let Some(pledge) = pledge {
            self.fence.stored(pledge, version);
        }
        if !told.is_empty()
            && let Some(for_ms) = self.freezes_ms.take()
        {
            said.push(Said::Freezes { for_ms });
            self.untold = told;
            return Ok(());
        }
        self.tell(told, now, said)
    }

    /// How a fleet stood when a start was decided.
    fn in_detail(&mut self, effects: &[Effect], now: Timestamp) -> Vec<Option<FleetStatus>> {
        let mut known = None;
        let mut fleets = Vec::with_capacity(effects.len());
        for effect in effects {
            let mut fleet = None;
            if let Effect::Order { message, .. } = effect
                && let ToAgent::Start { order, .. } = &**message
            {
                let known = known.get_or_insert_with(|| self.fleets(now));
                fleet = known.iter().find(|fleet| fleet.name == order.fleet).cloned();
            }
            fleets.push(fleet);
        }
        fleets
    }

    fn tell(&mut self, told: Vec<Told>, now: Timestamp, said: &mut Vec<Said>) -> Result<(), Broken> {
        for one in told {
            self.laws.told(now.unix_ms(), &one.effect)?;
            said.push(Said::Told(Box::new(one)));
        }
        Ok(())
    }
}
