//! The servers behind the edge: what the control plane told of them last, and which one the next session gets.
//!
//! Never asks anybody and reads no clock: lists and moments are passed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_core::{FleetName, ServerName};
use greenroom_wire::api::{GameserverStatus, StateWord};

use crate::sid;

/// How long a server may be missing before it counts as gone: a control plane that has just started tells of nobody until its
/// agents have reported.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// How long a server that is told of no more can still be found after it was last asked for, and beyond that while anything
/// passes.
const KEEP: Duration = Duration::from_secs(60);
/// How long a server that could not be reached gets nothing new while there are others.
const AVOID: Duration = Duration::from_secs(3);
/// Lists over which what was sent to a server counts as load until its own reports show it: by then they hold it, or it did not
/// come about.
const RECENT_LISTS: usize = 3;

/// Where a server is. Whatever passes to it holds one, so that their number is the load of this edge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// Its name.
    pub(crate) name: ServerName,
    /// `host:port`.
    pub(crate) endpoint: String,
    /// Whether it speaks TLS there.
    pub(crate) tls: bool,
    /// The word for it in session ids.
    pub(crate) tag: String,
}

/// Whether a server may get something new, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It is handed out.
    Open,
    /// It should get nothing new; better than one in doubt.
    Full,
    /// Its health is in doubt; better than nobody, because the doubt may be about its host's link to the control plane.
    Doubtful,
    /// It starts, or is to end.
    Closed,
}

#[derive(Debug)]
struct Member {
    backend: Arc<Backend>,
    fleet: FleetName,
    standing: Standing,
    /// Connections that it told of itself.
    reported: usize,
    /// Whether it ever told of any.
    is_reporting: bool,
    /// Sent to it since each of the last lists, without what its reports have shown since.
    recent: [usize; RECENT_LISTS],
    missing: Option<Missing>,
    avoided_until: Option<Instant>,
}

/// A server that the last list did not hold.
#[derive(Debug)]
struct Missing {
    since: Instant,
    asked_for_at: Instant,
    is_gone: bool,
}

impl Member {
    /// What passes here.
    fn passing(&self) -> usize {
        Arc::strong_count(&self.backend) - 1
    }

    fn asked_for(&mut self, now: Instant) -> Arc<Backend> {
        if let Some(missing) = &mut self.missing {
            missing.asked_for_at = now;
        }
        Arc::clone(&self.backend)
    }

    /// Takes up what it reports. What came to it since its report before counts for what was sent there first: it is in the
    /// report now, and counted twice it would send newcomers to whoever reports late.
    fn take_report(&mut self, reported: usize) {
        let mut shown = reported.saturating_sub(self.reported);
        for sent in self.recent.iter_mut().rev() {
            let known = shown.min(*sent);
            (*sent, shown) = (*sent - known, shown - known);
        }
        self.reported = reported;
        self.is_reporting |= reported > 0;
    }

    /// Other edges send to it too, which shows in its reports. One that reports nothing has at least what passes here, which is
    /// only about right: a polling session passes once, twice or not at all at a given moment.
    fn load(&self) -> usize {
        let told = self.reported + self.recent.iter().sum::<usize>();
        if self.is_reporting { told } else { told.max(self.passing()) }
    }
}

/// A change of the membership, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A server is there, or there again.
    Joined(ServerName),
    /// A server is told of no more. What passes to it goes on.
    Left(ServerName),
}

/// The servers of some fleets.
#[derive(Debug)]
pub(crate) struct Members {
    /// Whose servers get what names none.
    open_fleet: FleetName,
    members: BTreeMap<ServerName, Member>,
    tags: BTreeMap<String, ServerName>,
}

impl Members {
    /// Nobody yet. New sessions that name no server go to `open_fleet`.
    pub(crate) fn new(open_fleet: FleetName) -> Self {
        Self { open_fleet, members: BTreeMap::new(), tags: BTreeMap::new() }
    }

    /// Takes up what the control plane tells: all servers of all fleets of this edge.
    pub(crate) fn observe(&mut self, list: &[GameserverStatus], now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let told: BTreeMap<&ServerName, &GameserverStatus> =
            list.iter().filter(|status| is_there(status)).map(|status| (&status.name.0, status)).collect();
        for (name, member) in &mut self.members {
            member.recent.rotate_right(1);
            member.recent[0] = 0;
            if told.contains_key(name) {
                continue;
            }
            let missing =
                member.missing.get_or_insert(Missing { since: now, asked_for_at: now, is_gone: false });
            if !missing.is_gone && now.saturating_duration_since(missing.since) >= GONE_AFTER {
                missing.is_gone = true;
                changes.push(Change::Left(name.clone()));
            }
        }
        for (name, status) in told {
            if self.take_up(name, status) {
                changes.push(Change::Joined(name.clone()));
            }
        }
        let is_over = |member: &Member| {
            member.missing.as_ref().is_some_and(|missing| {
                missing.is_gone && now.saturating_duration_since(missing.asked_for_at) >= KEEP
            }) && member.passing() == 0
        };
        for (_, member) in self.members.extract_if(.., |_, member| is_over(member)) {
            self.tags.remove(&member.backend.tag);
        }
        changes
    }

    /// Whether it is new, or here again.
    fn take_up(&mut self, name: &ServerName, status: &GameserverStatus) -> bool {
        let standing = match status.state {
            StateWord::Ready | StateWord::Reserved | StateWord::Allocated if status.full => Standing::Full,
            StateWord::Ready | StateWord::Reserved | StateWord::Allocated => Standing::Open,
            StateWord::Unhealthy => Standing::Doubtful,
            StateWord::Starting | StateWord::Draining | StateWord::Stopped => Standing::Closed,
        };
        let reported = usize::try_from(status.connections).unwrap_or(usize::MAX);
        let backend = || {
            let tag = sid::tag(name);
            Arc::new(Backend { name: name.clone(), endpoint: status.endpoint.clone(), tls: status.tls, tag })
        };
        let mut is_new = false;
        let member = self.members.entry(name.clone()).or_insert_with(|| {
            is_new = true;
            let fleet = status.fleet.0.clone();
            let recent = [0; RECENT_LISTS];
            Member {
                backend: backend(),
                fleet,
                standing,
                reported: 0,
                is_reporting: false,
                recent,
                missing: None,
                avoided_until: None,
            }
        });
        if member.backend.endpoint != status.endpoint || member.backend.tls != status.tls {
            member.backend = backend();
        }
        member.standing = standing;
        member.take_report(reported);
        self.tags.entry(member.backend.tag.clone()).or_insert_with(|| name.clone());
        member.missing.take().is_some_and(|missing| missing.is_gone) || is_new
    }

    /// Whether any server is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.members.is_empty()
    }

    /// The server for something new: the least loaded one that is handed out. Those that are told of no more, are in doubt or
    /// could not be reached lately come after all others; `without` are not given at all.
    pub(crate) fn choose(&mut self, without: &[ServerName], now: Instant) -> Option<Arc<Backend>> {
        let open = self.members.iter_mut().filter(|(name, member)| {
            member.standing != Standing::Closed && member.fleet == self.open_fleet && !without.contains(name)
        });
        let (_, member) = open.min_by_key(|(_, member)| {
            let is_avoided = member.avoided_until.is_some_and(|until| now < until);
            (is_avoided, member.missing.is_some(), member.standing, member.load())
        })?;
        member.recent[0] += 1;
        Some(Arc::clone(&member.backend))
    }

    /// The server of a session, whatever its state.
    pub(crate) fn tagged(&mut self, tag: &str, now: Instant) -> Option<Arc<Backend>> {
        let name = self.tags.get(tag)?;
        self.members.get_mut(name).map(|member| member.asked_for(now))
    }

    /// The server of this name, whatever its state.
    pub(crate) fn named(&mut self, name: &str, now: Instant) -> Option<Arc<Backend>> {
        let name: ServerName = name.parse().ok()?;
        self.members.get_mut(&name).map(|member| member.asked_for(now))
    }

    /// It could not be reached.
    pub(crate) fn avoid(&mut self, name: &ServerName, now: Instant) {
        if let Some(member) = self.members.get_mut(name) {
            member.avoided_until = Some(now + AVOID);
        }
    }
}

/// Whether there is something to dial.
fn is_there(status: &GameserverStatus) -> bool {
    !status.endpoint.is_empty() && status.state != StateWord::Stopped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [&str; 7] =
        ["starting", "ready", "reserved", "allocated", "draining", "unhealthy", "stopped"];

    fn status(name: &str, state: &str, connections: u32) -> GameserverStatus {
        let told = serde_json::json!({
            "name": name, "fleet": "board", "host": "h", "instance": format!("{name}.0"), "revision": "r1",
            "state": state, "endpoint": format!("127.0.0.1:{}", 7000 + name.len()), "pid": null, "rooms": 0,
            "players": 0, "connections": connections, "restarts": 0, "started_at_ms": 0, "message": "",
        });
        serde_json::from_value(told).unwrap()
    }

    fn members() -> Members {
        Members::new("board".parse().unwrap())
    }

    fn chosen(members: &mut Members, now: Instant) -> Option<String> {
        members.choose(&[], now).map(|backend| backend.name.to_string())
    }

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_full_server_gets_something_new_only_before_those_in_doubt() {
        let now = Instant::now();
        let full =
            |name, connections| GameserverStatus { full: true, ..status(name, "allocated", connections) };
        let mut members = members();
        members.observe(&[full("a", 0), status("bb", "ready", 9), status("ccc", "unhealthy", 0)], now);
        assert_eq!(chosen(&mut members, now).as_deref(), Some("bb"));
        members.observe(&[full("a", 5), full("bb", 9), status("ccc", "unhealthy", 0)], now);
        assert_eq!(chosen(&mut members, now).as_deref(), Some("a"), "better than nobody");
    }

    #[test]
    fn only_servers_that_are_handed_out_get_something_new_and_all_are_found() {
        let now = Instant::now();
        let cases = [
            ("starting", false, true),
            ("ready", true, true),
            ("reserved", true, true),
            ("allocated", true, true),
            ("draining", false, true),
            ("unhealthy", true, true),
            ("stopped", false, false),
        ];
        for (state, gets_new, is_found) in cases {
            let mut members = members();
            members.observe(&[status("a", state, 0)], now);
            assert_eq!(members.named("a", now).is_some(), is_found, "{state}");
            assert_eq!(members.tagged(&sid::tag(&name("a")), now).is_some(), is_found, "{state}");
            assert_eq!(chosen(&mut members, now).is_some(), gets_new, "{state}");
        }
    }

    #[test]
    fn the_least_loaded_server_is_next_and_what_was_just_sent_there_counts() {
        let (mut members, now) = (members(), Instant::now());
        let list = [status("a", "allocated", 2), status("b", "ready", 0), status("c", "unhealthy", 0)];
        members.observe(&list, now);
        let names: Vec<_> = (0..4).map(|_| chosen(&mut members, now).unwrap()).collect();
        assert_eq!(names, ["b", "b", "a", "b"], "in doubt comes last");
        let load = |members: &Members, of: &str| members.members[&name(of)].load();
        assert_eq!(load(&members, "b"), 3);
        for _ in 0..RECENT_LISTS {
            members.observe(&list, now);
        }
        assert_eq!(load(&members, "b"), 0, "by now it would have told of them");
        let held: Vec<_> = (0..3).map(|_| members.named("b", now).unwrap()).collect();
        assert_eq!(load(&members, "b"), 3, "one that reports nothing has what passes here");
        drop(held);
        assert_eq!(load(&members, "b"), 0);
        let _held: Vec<_> = (0..3).map(|_| members.named("a", now).unwrap()).collect();
        assert_eq!(load(&members, "a"), 2, "one that reports knows better");
    }

    #[test]
    fn a_server_that_could_not_be_reached_waits_for_its_turn_while_there_are_others() {
        let (mut members, now) = (members(), Instant::now());
        members.observe(&[status("a", "ready", 0), status("b", "ready", 5)], now);
        members.avoid(&name("a"), now);
        assert_eq!(chosen(&mut members, now).as_deref(), Some("b"));
        assert_eq!(members.choose(&[name("b")], now).unwrap().name, name("a"), "better than nobody");
        assert_eq!(chosen(&mut members, now + AVOID).as_deref(), Some("a"));
        assert_eq!(members.choose(&[name("a"), name("b")], now), None);
    }

    #[test]
    fn a_server_told_of_no_more_is_kept_for_a_while_and_as_long_as_anything_passes() {
        let (mut members, now) = (members(), Instant::now());
        let list = [status("a", "ready", 9), status("b", "ready", 0)];
        assert_eq!(members.observe(&list, now).len(), 2);
        assert_eq!(members.observe(&list[..1], now), []);
        assert_eq!(members.observe(&list, now), [], "a list with a gap is no departure");
        members.observe(&list[..1], now);
        assert_eq!(chosen(&mut members, now).as_deref(), Some("a"), "who is told of comes first");
        let now = now + GONE_AFTER;
        assert_eq!(members.observe(&list[..1], now), [Change::Left(name("b"))]);
        assert_eq!(members.observe(&list[..1], now), [], "it is told once");
        assert_eq!(members.observe(&list, now), [Change::Joined(name("b"))]);
        members.observe(&[], now);
        let now = now + GONE_AFTER;
        assert_eq!(members.observe(&[], now).len(), 2);
        assert_eq!(chosen(&mut members, now).as_deref(), Some("b"), "better than nobody");
        let held = members.named("b", now);
        let now = now + KEEP;
        assert_eq!(members.observe(&[], now), []);
        assert_eq!(members.named("a", now), None);
        drop(held);
        members.tagged(&sid::tag(&name("b")), now).unwrap();
        members.observe(&[], now + KEEP / 2);
        assert_eq!(members.members.len(), 1, "it was asked for");
        members.observe(&[], now + KEEP);
        assert!(members.members.is_empty() && members.tags.is_empty());
    }

    #[test]
    fn another_fleet_is_found_by_name_alone_and_a_new_address_is_taken_up() {
        let (mut members, now) = (members(), Instant::now());
        let mut other = status("x", "ready", 0);
        other.fleet = greenroom_wire::Text("chat".parse().unwrap());
        members.observe(std::slice::from_ref(&other), now);
        assert_eq!(chosen(&mut members, now), None);
        assert_eq!(members.named("x", now).unwrap().endpoint, other.endpoint);
        other.endpoint = "10.0.0.9:7000".to_owned();
        assert_eq!(members.observe(std::slice::from_ref(&other), now), []);
        assert_eq!(members.tagged(&sid::tag(&name("x")), now).unwrap().endpoint, "10.0.0.9:7000");
        assert_eq!(members.named("not a name", now), None);
    }

    proptest! {
        #[test]
        fn newcomers_are_spread_evenly_though_some_servers_report_late(
            // Between two lists: how many come, and by how many of them the report of each server is late.
            rounds in prop::collection::vec((0..40usize, [0..9u32, 0..9u32, 0..9u32]), 1..12)
        ) {
            const NAMES: [&str; 3] = ["a", "b", "c"];
            let (mut members, now) = (members(), Instant::now());
            let (mut there, mut told) = ([0u32; 3], [0u32; 3]);
            for (come, late) in rounds {
                let before = there;
                for i in 0..3 {
                    // No report is late by more than the time between two lists.
                    told[i] = told[i].max(there[i].saturating_sub(late[i]));
                }
                members.observe(&[0, 1, 2].map(|i| status(NAMES[i], "ready", told[i])), now);
                for _ in 0..come {
                    let chosen = chosen(&mut members, now).unwrap();
                    there[NAMES.iter().position(|name| *name == chosen).unwrap()] += 1;
                }
                let (least, most) = (there.iter().min().unwrap(), there.iter().max().unwrap());
                prop_assert!(most - least <= 1, "{:?}", there);
                told = before;
            }
        }

        #[test]
        fn whatever_was_told_who_is_told_of_last_is_found_and_chosen_rightly(
            lists in prop::collection::vec(prop::collection::btree_map("[a-d]{1,2}", (0..7usize, 0..9u32), 0..6), 1..8)
        ) {
            let (mut members, mut now) = (members(), Instant::now());
            for list in &lists {
                let told: Vec<_> =
                    list.iter().map(|(name, (state, load))| status(name, STATES[*state], *load)).collect();
                members.observe(&told, now);
                now += Duration::from_secs(1);
                for one in &told {
                    let is_found = members.tagged(&sid::tag(&one.name.0), now).is_some_and(|found| found.name == one.name.0);
                    prop_assert!(is_found || !is_there(one), "{}", one.name.0);
                }
                let takes = |one: &&GameserverStatus| matches!(one.state, StateWord::Ready | StateWord::Reserved | StateWord::Allocated);
                if let Some(next) = members.choose(&[], now) {
                    let is_handed_out = told.iter().filter(takes).any(|one| one.name.0 == next.name);
                    prop_assert!(is_handed_out || !told.iter().any(|one| takes(&one)), "{}", next.name);
                } else {
                    prop_assert!(!told.iter().any(|one| takes(&one)));
                }
            }
        }
    }
}
