//! What a replica that does not lead sees of the servers: the last report of each agent, as it came.
//!
//! Never decides anything, and is not asked while the leader is reached: that one alone knows who is about to be stopped. Pure: moments
//! are passed in. A report is read only when somebody asks, since nearly all of them are followed by another one first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use greenroom_core::allocate::Selector;
use greenroom_core::fleet::Fleet;
use greenroom_core::{FleetName, HostName, ServerName, Timestamp, placement};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Hello, ProcessPhase, ServerReport};
use greenroom_wire::api::{DrainKind, GameserverStatus, HostStatus, StateWord};
use greenroom_wire::record::DrainRecord;

use crate::world::drain_words;

/// How a report begins; agents say nothing else of what runs.
const REPORT: &str = r#"{"type":"report""#;
/// Answers that count as load at once; beyond that the oldest is forgotten early.
const GIVEN_MAX: usize = 100_000;

/// The last report of one agent.
#[derive(Debug)]
pub(crate) struct Word {
    hello: Hello,
    heard_at: Instant,
    text: String,
    told: OnceLock<(Vec<ServerReport>, String)>,
}

impl Word {
    /// `None`: it is no report.
    pub(crate) fn of(hello: &Hello, text: &str, now: Instant) -> Option<Self> {
        let text = text.starts_with(REPORT).then(|| text.to_owned())?;
        Some(Self { hello: hello.clone(), heard_at: now, text, told: OnceLock::new() })
    }

    /// Its servers and its trouble. None where it cannot be read: its agent is of another version, and the leader says so.
    fn told(&self) -> &(Vec<ServerReport>, String) {
        self.told.get_or_init(|| match serde_json::from_str(&self.text) {
            Ok(FromAgent::Report(report)) => (report.servers, report.trouble),
            Ok(_) | Err(_) => (Vec::new(), String::new()),
        })
    }

    fn servers(&self) -> &[ServerReport] {
        &self.told().0
    }

    fn zone(&self) -> Option<&str> {
        self.hello.labels.get(placement::ZONE).map(String::as_str)
    }

    /// The order by which nothing new is put there.
    fn drain<'a>(&self, drains: &'a [DrainRecord]) -> Option<&'a DrainRecord> {
        drains.iter().find(|drain| match drain.kind {
            DrainKind::Host => drain.name == self.hello.host.as_str(),
            DrainKind::Zone => Some(drain.name.as_str()) == self.zone(),
        })
    }

    /// The host's labels come first, for they say what its keepers know.
    fn matches(&self, server: &ServerReport, selector: &Selector) -> bool {
        let label = |name| self.hello.labels.get(name).or_else(|| server.labels.get(name));
        selector.revision.as_ref().is_none_or(|revision| *revision == server.revision.0)
            && selector.labels.iter().all(|(name, value)| label(name) == Some(value))
    }
}

/// Endpoint answers of this replica that still count as load.
#[derive(Debug, Default)]
pub(crate) struct Given {
    answers: VecDeque<(Instant, ServerName)>,
    load: BTreeMap<ServerName, u32>,
}

impl Given {
    fn load(&self, server: &ServerName) -> u32 {
        self.load.get(server).copied().unwrap_or(0)
    }

    /// Somebody was sent to this server, and is on the way for `life` at most.
    fn note(&mut self, server: ServerName, now: Instant, life: Duration) {
        if self.answers.len() >= GIVEN_MAX {
            self.forget_oldest();
        }
        *self.load.entry(server.clone()).or_default() += 1;
        self.answers.push_back((now + life, server));
    }

    fn forget(&mut self, now: Instant) {
        while self.answers.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, server)) = self.answers.pop_front() else { return };
        let load = self.load.remove(&server).unwrap_or(0);
        if load > 1 {
            self.load.insert(server, load - 1);
        }
    }
}

/// A server that is seen to take players.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) server: ServerName,
    pub(crate) endpoint: String,
    pub(crate) tls: bool,
    pub(crate) because: String,
}

/// All that is seen at one moment.
#[derive(Debug)]
pub(crate) struct Sight {
    now: Instant,
    silent_after: Duration,
    words: BTreeMap<HostName, Arc<Word>>,
}

impl Sight {
    /// Of two agents of one host the one heard last counts. A host that was not heard for `silent_after` is silent: what runs there is not
    /// known to live.
    pub(crate) fn of(words: Vec<Arc<Word>>, now: Instant, silent_after: Duration) -> Self {
        let mut last: BTreeMap<HostName, Arc<Word>> = BTreeMap::new();
        for word in words {
            let known = last.get(&word.hello.host.0);
            if known.is_none_or(|known| known.heard_at <= word.heard_at) {
                last.insert(word.hello.host.0.clone(), word);
            }
        }
        Self { now, silent_after, words: last }
    }

    /// Whether nobody was heard at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn is_silent(&self, word: &Word) -> bool {
        self.now.saturating_duration_since(word.heard_at) > self.silent_after
    }

    /// The least connected server of a mesh fleet that is seen ready; the answer counts as a connection for `life`. Of equals
    /// one of the fleet's revision, then the first by name.
    pub(crate) fn choose(
        &self,
        fleet: &Fleet,
        selector: &Selector,
        drains: &[DrainRecord],
        given: &mut Given,
        life: Duration,
    ) -> Option<Pick> {
        given.forget(self.now);
        let heard = self.words.values().filter(|word| !self.is_silent(word) && word.drain(drains).is_none());
        let servers = heard.flat_map(|word| word.servers().iter().map(move |server| (word, server)));
        let load = |server: &ServerReport| server.connections.saturating_add(given.load(&server.server.0));
        let fit = servers.filter(|(word, server)| {
            server.fleet.0 == fleet.name
                && server.phase == ProcessPhase::Ready
                && !server.held
                && fleet.full_at.full(&server.measured.strain(load(server)), None).is_none()
                && word.matches(server, selector)
        });
        let mut of = 0_usize;
        let best = fit
            .map(|(_, server)| server)
            .inspect(|_| of += 1)
            .min_by_key(|server| (load(server), server.revision.0 != fleet.revision, &server.server.0))?;
        let because = format!(
            "least connected of {of} that this replica sees: {} connections before; no leader was reached",
            load(best)
        );
        given.note(best.server.0.clone(), self.now, life);
        Some(Pick { server: best.server.0.clone(), endpoint: best.endpoint.clone(), tls: best.tls, because })
    }

    /// By fleet, then name. `fleets` say when theirs are full.
    pub(crate) fn gameservers(&self, only: Option<&FleetName>, fleets: &[Fleet]) -> Vec<GameserverStatus> {
        let servers = self.words.values().flat_map(|word| {
            let seen = word.servers().iter().filter(|server| server.phase != ProcessPhase::Ended);
            seen.map(|server| {
                let fleet = fleets.iter().find(|fleet| fleet.name == server.fleet.0);
                status(word, server, self.is_silent(word), fleet)
            })
        });
        let mut servers: Vec<GameserverStatus> =
            servers.filter(|server| only.is_none_or(|only| server.fleet.0 == *only)).collect();
        servers.sort_by(|one, other| (&one.fleet, &one.name).cmp(&(&other.fleet, &other.name)));
        servers
    }

    /// By name. `clock` is what the wall clock says at the sight's moment.
    pub(crate) fn hosts(&self, drains: &[DrainRecord], clock: Timestamp) -> Vec<HostStatus> {
        let status = |(name, word): (&HostName, &Arc<Word>)| {
            let age = self.now.saturating_duration_since(word.heard_at);
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            HostStatus {
                name: Text(name.clone()),
                connected: !self.is_silent(word),
                heard_at_ms: clock.unix_ms().saturating_sub(age_ms),
                servers: count(word.servers().iter()),
                servers_max: word.hello.servers_max,
                zone: word.zone().unwrap_or_default().to_owned(),
                drained: word.drain(drains).map(drain_words).unwrap_or_default(),
                trouble: word.told().1.clone(),
            }
        };
        self.words.iter().map(status).collect()
    }
}

fn status(word: &Word, server: &ServerReport, silent: bool, fleet: Option<&Fleet>) -> GameserverStatus {
    let strain = server.measured.strain(server.connections);
    let is_full = server.held || fleet.is_some_and(|fleet| fleet.full_at.full(&strain, None).is_some());
    let is_used = server.held || server.connections > 0 || !server.rooms.is_empty();
    let state = match server.phase {
        ProcessPhase::Stopping | ProcessPhase::Ended => StateWord::Stopped,
        ProcessPhase::Unhealthy => StateWord::Unhealthy,
        ProcessPhase::Starting | ProcessPhase::Restarting | ProcessPhase::Ready if silent => {
            StateWord::Unhealthy
        }
        ProcessPhase::Starting | ProcessPhase::Restarting => StateWord::Starting,
        ProcessPhase::Ready if is_used => StateWord::Allocated,
        ProcessPhase::Ready => StateWord::Ready,
    };
    GameserverStatus {
        name: server.server.clone(),
        fleet: server.fleet.clone(),
        host: word.hello.host.clone(),
        instance: server.instance.clone(),
        revision: server.revision.clone(),
        state,
        endpoint: server.endpoint.clone(),
        tls: server.tls,
        pid: server.pid,
        rooms: count(server.rooms.iter()),
        players: count(server.rooms.iter().flat_map(|room| &room.seats)),
        connections: server.connections,
        full: is_full && !silent && server.phase == ProcessPhase::Ready,
        restarts: server.restarts,
        started_at_ms: server.started_at_ms,
        labels: server.labels.clone(),
        message: if silent { "its host is silent".to_owned() } else { server.message.clone() },
    }
}

/// Things are far fewer than 4 billion; the count saturates rather than wraps.
fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
