//! What gameservers are told of others: who is in a fleet, and who comes and goes. The control plane knows; its answers
//! are good for a second, for all who ask.
//!
//! Never asks more than once a second for one fleet, whoever wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::{FleetName, ServerName, Timestamp};
use greenroom_wire::agent::FromAgent;
use greenroom_wire::api::GameserverStatus;
use greenroom_wire::sdk::PeerChange;

use super::sdk::{SdkCall, SdkRefusal, SdkTold};
use super::{Effect, Supervisor};

/// How long an answer is good, and the time between two questions.
const FRESH: Duration = Duration::from_secs(1);
/// How long a call waits for the first answer.
const WAIT: Duration = Duration::from_secs(3);
/// Most calls of one gameserver that wait or watch.
const CALLS_MAX: usize = 8;

type Members = BTreeMap<ServerName, GameserverStatus>;

/// Who asked for which fleet, and what is known.
#[derive(Debug, Default)]
pub(super) struct Peers {
    calls: BTreeMap<SdkCall, Asking>,
    fleets: BTreeMap<FleetName, Known>,
}

#[derive(Debug)]
struct Asking {
    by: ServerName,
    fleet: FleetName,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    /// All of them, once, by then.
    List { until: Timestamp },
    /// All of them by then, and each change after it; `shown` is none before.
    Changes { until: Timestamp, shown: Option<Members> },
}

#[derive(Debug, Default)]
struct Known {
    asked_at: Option<Timestamp>,
    answer: Option<(Timestamp, Members)>,
}

impl Asking {
    /// By when it must have heard something; `None` once it has.
    const fn until(&self) -> Option<Timestamp> {
        match &self.wants {
            Wants::List { until } | Wants::Changes { until, shown: None } => Some(*until),
            Wants::Changes { shown: Some(_), .. } => None,
        }
    }

    /// What it is told of these members, and whether that is all it wanted.
    fn hear(&mut self, members: &Members) -> (SdkTold, bool) {
        match &mut self.wants {
            Wants::List { .. } => (SdkTold::Peers(members.values().cloned().collect()), true),
            Wants::Changes { shown, .. } => {
                let is_first = shown.is_none();
                let mut changes = changes(&shown.take().unwrap_or_default(), members);
                changes.extend(is_first.then_some(PeerChange::Known));
                *shown = Some(members.clone());
                (SdkTold::PeerChanges(changes), false)
            }
        }
    }
}

/// The steps from one to the other: who has left, who has joined, who is no longer as told.
fn changes(before: &Members, after: &Members) -> Vec<PeerChange> {
    let left = before.keys().filter(|name| !after.contains_key(*name));
    let left = left.map(|name| PeerChange::Left { name: name.clone().into() });
    let here = after.iter().filter_map(|(name, peer)| match before.get(name) {
        None => Some(PeerChange::Joined { peer: peer.clone() }),
        Some(told) if told != peer => Some(PeerChange::Changed { peer: peer.clone() }),
        Some(_) => None,
    });
    left.chain(here).collect()
}

impl Peers {
    /// When something is due; questions only when control is there.
    pub(super) fn wake_at(&self, welcomed: bool) -> Option<Timestamp> {
        let until = self.calls.values().filter_map(Asking::until);
        let asked = self.calls.values().filter_map(|asking| self.fleets.get(&asking.fleet)?.asked_at);
        until.chain(asked.filter(|_| welcomed).map(|at| at + FRESH)).min()
    }

    /// The server's process is over, or nobody waits for the call: what was open and is no longer.
    fn forget(&mut self, is_over: impl Fn(&SdkCall, &ServerName) -> bool) -> Vec<SdkCall> {
        let over = self.calls.extract_if(.., |call, asking| is_over(call, &asking.by));
        over.map(|(call, _)| call).collect()
    }
}

impl Supervisor {
    /// `None`: answered later, or already.
    pub(super) fn ask_peers(
        &mut self,
        now: Timestamp,
        call: SdkCall,
        by: &ServerName,
        fleet: Option<FleetName>,
        is_watch: bool,
    ) -> Result<Option<SdkTold>, SdkRefusal> {
        if self.peers.calls.values().filter(|asking| asking.by == *by).count() >= CALLS_MAX {
            return Err(SdkRefusal::Watches { max: CALLS_MAX });
        }
        let own = || self.fleet_of(by).cloned().expect("whoever is believed has a fleet");
        let fleet = fleet.unwrap_or_else(own);
        let until = now + WAIT;
        let wants = if is_watch { Wants::Changes { until, shown: None } } else { Wants::List { until } };
        let mut asking = Asking { by: by.clone(), fleet, wants };
        let known = self.peers.fleets.entry(asking.fleet.clone()).or_default();
        let fresh = known.answer.as_ref().filter(|(at, _)| now.since(*at) < FRESH);
        let told = fresh.map(|(_, members)| asking.hear(members));
        match told {
            Some((told, true)) => return Ok(Some(told)),
            Some((told, false)) => self.out.effects.push(Effect::TellSdk { call, told: Ok(told) }),
            None => {}
        }
        self.peers.calls.insert(call, asking);
        Ok(None)
    }

    /// Control has answered.
    pub(super) fn handle_peers(
        &mut self,
        now: Timestamp,
        fleet: &FleetName,
        outcome: Result<Vec<GameserverStatus>, String>,
    ) {
        let Some(known) = self.peers.fleets.get_mut(fleet) else { return };
        let waiting = self.peers.calls.iter_mut().filter(|(_, asking)| asking.fleet == *fleet);
        let mut over = BTreeSet::new();
        match outcome {
            Ok(peers) => {
                let members: Members = peers.into_iter().map(|peer| (peer.name.0.clone(), peer)).collect();
                for (call, asking) in waiting {
                    let (told, is_all) = asking.hear(&members);
                    if is_all {
                        over.insert(*call);
                    }
                    if told != SdkTold::PeerChanges(Vec::new()) {
                        self.out.effects.push(Effect::TellSdk { call: *call, told: Ok(told) });
                    }
                }
                known.answer = Some((now, members));
            }
            Err(message) => {
                for (call, _) in waiting {
                    let told = Err(SdkRefusal::Peers { message: message.clone() });
                    self.out.effects.push(Effect::TellSdk { call: *call, told });
                    over.insert(*call);
                }
            }
        }
        self.peers.calls.retain(|call, _| !over.contains(call));
    }

    pub(super) fn forget_peers_call(&mut self, call: SdkCall) {
        self.peers.forget(|other, _| *other == call);
    }

    /// Asks what is due, and gives up what has waited for too long.
    pub(super) fn tick_peers(&mut self, now: Timestamp) {
        if self.peers.calls.is_empty() && self.peers.fleets.is_empty() {
            return;
        }
        let servers = &self.servers;
        let is_over = |_: &SdkCall, by: &ServerName| {
            servers.get(by).is_none_or(|managed| {
                !(managed.has_process() || managed.is_launching() || managed.is_adopting())
            })
        };
        let over = self.peers.forget(is_over);
        self.out.effects.extend(over.into_iter().map(|call| Effect::EndSdk { call }));
        let late = |asking: &Asking| asking.until().is_some_and(|until| until <= now);
        let late: Vec<SdkCall> =
            self.peers.calls.iter().filter(|(_, asking)| late(asking)).map(|(call, _)| *call).collect();
        for call in late {
            self.peers.calls.remove(&call);
            self.out.effects.push(Effect::TellSdk { call, told: Err(SdkRefusal::NoControl) });
        }
        let wanted: BTreeSet<FleetName> =
            self.peers.calls.values().map(|asking| asking.fleet.clone()).collect();
        self.peers.fleets.retain(|fleet, known| {
            let is_fresh = known.answer.as_ref().is_some_and(|(at, _)| now.since(*at) < FRESH);
            wanted.contains(fleet) || is_fresh
        });
        for fleet in wanted.into_iter().filter(|_| self.welcomed) {
            let known = self.peers.fleets.entry(fleet.clone()).or_default();
            if known.asked_at.is_none_or(|at| now.since(at) >= FRESH) {
                known.asked_at = Some(now);
                let question = FromAgent::ReadPeers { fleet: fleet.into() };
                self.out.effects.push(Effect::Tell(Box::new(question)));
            }
        }
    }
}
