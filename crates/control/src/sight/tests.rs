//! Cases and laws of what is seen: who is told, when, and how the answers count.

use std::collections::BTreeMap;

use greenroom_wire::agent::Report;
use greenroom_wire::link::Measured;
use proptest::prelude::*;

use super::*;

const SILENT_AFTER: Duration = Duration::from_secs(3);
const LIFE: Duration = Duration::from_secs(5);

fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn server(name: &str, phase: ProcessPhase, connections: u32) -> ServerReport {
    ServerReport {
        server: Text(text(name)),
        instance: Text(text(&format!("{name}.0"))),
        fleet: Text(text("lobby")),
        revision: Text(text("rev1")),
        phase,
        endpoint: format!("{name}:7000"),
        tls: false,
        pid: Some(1),
        restarts: 0,
        started_at_ms: 1,
        connections,
        rooms: Vec::new(),
        keeps_rooms: false,
        linked: true,
        measured: Measured::default(),
        labels: BTreeMap::from([("map".to_owned(), "own".to_owned())]),
        held: false,
        message: String::new(),
    }
}

fn ready(name: &str, connections: u32) -> ServerReport {
    server(name, ProcessPhase::Ready, connections)
}

/// What host `host` of zone `z-host` said at `at`.
fn word(host: &str, at: Instant, servers: Vec<ServerReport>) -> Arc<Word> {
    let hello = Hello {
        version: 1,
        host: Text(text(host)),
        boot: "boot".to_owned(),
        labels: BTreeMap::from([
            (placement::ZONE.to_owned(), format!("z-{host}")),
            ("map".to_owned(), "host".to_owned()),
        ]),
        servers_max: 9,
        term_seen: 1,
        wants_occupied: false,
        agones: true,
    };
    let report = FromAgent::Report(Report { at_ms: None, term: Some(0), trouble: String::new(), servers });
    Arc::new(Word::of(&hello, &serde_json::to_string(&report).unwrap(), at).unwrap())
}

fn lobby() -> Fleet {
    crate::world::mesh_fleet("lobby", (1, 9))
}

fn drain(kind: DrainKind, name: &str) -> DrainRecord {
    DrainRecord {
        version: 1,
        kind,
        name: name.to_owned(),
        at_ms: 1,
        by: "ops".to_owned(),
        reason: String::new(),
    }
}

/// Who is chosen of what two hosts told.
fn chosen(sight: &Sight, selector: &Selector, drains: &[DrainRecord]) -> Option<String> {
    let pick = sight.choose(&lobby(), selector, drains, &mut Given::default(), LIFE);
    pick.map(|pick| pick.server.to_string())
}

#[test]
fn a_player_is_sent_to_the_least_connected_server_that_is_seen_to_live() {
    let begun = Instant::now();
    let now = begun + Duration::from_secs(10);
    let ago = |ms| now - Duration::from_millis(ms);
    let zone = |zone: &str| Selector {
        labels: BTreeMap::from([(placement::ZONE.to_owned(), zone.to_owned())]),
        revision: None,
    };
    let any = Selector::default;
    let of =
        |map: &str| Selector { labels: BTreeMap::from([("map".to_owned(), map.to_owned())]), revision: None };
    let revision = |revision: &str| Selector { labels: BTreeMap::new(), revision: Some(text(revision)) };
    let other_fleet = ServerReport { fleet: Text(text("arena")), ..ready("x", 0) };
    let newer = ServerReport { revision: Text(text("rev2")), ..ready("a", 2) };
    let phases = [
        ProcessPhase::Starting,
        ProcessPhase::Unhealthy,
        ProcessPhase::Restarting,
        ProcessPhase::Stopping,
        ProcessPhase::Ended,
    ];
    let not_ready: Vec<ServerReport> = phases.into_iter().map(|phase| server("no", phase, 0)).collect();
    let fresh = ago(2_999);
    let drains = |kind, name| vec![drain(kind, name)];
    type Case<'a> =
        (&'a str, (Instant, Vec<ServerReport>), (Instant, Vec<ServerReport>), Selector, Vec<DrainRecord>);
    let cases: Vec<(Case<'_>, Option<&str>)> = vec![
        (("least", (fresh, vec![ready("a", 3)]), (fresh, vec![ready("b", 2)]), any(), vec![]), Some("b")),
        (("by name", (fresh, vec![ready("b", 2)]), (fresh, vec![ready("a", 2)]), any(), vec![]), Some("a")),
        (("revision", (fresh, vec![newer.clone()]), (fresh, vec![ready("b", 2)]), any(), vec![]), Some("b")),
        (
            ("its own", (fresh, vec![newer]), (fresh, vec![ready("b", 2)]), revision("rev2"), vec![]),
            Some("a"),
        ),
        (
            ("silent", (fresh, vec![ready("a", 3)]), (ago(3_001), vec![ready("b", 2)]), any(), vec![]),
            Some("a"),
        ),
        (("both silent", (ago(3_001), vec![ready("a", 3)]), (ago(9_000), vec![]), any(), vec![]), None),
        (("not ready", (fresh, not_ready), (fresh, vec![other_fleet]), any(), vec![]), None),
        (
            ("zone", (fresh, vec![ready("a", 3)]), (fresh, vec![ready("b", 2)]), zone("z-h1"), vec![]),
            Some("a"),
        ),
        (("the host's label", (fresh, vec![ready("a", 3)]), (fresh, vec![]), of("host"), vec![]), Some("a")),
        (("hidden by it", (fresh, vec![ready("a", 3)]), (fresh, vec![]), of("own"), vec![]), None),
        (
            (
                "drained",
                (fresh, vec![ready("a", 3)]),
                (fresh, vec![ready("b", 2)]),
                any(),
                drains(DrainKind::Host, "h2"),
            ),
            Some("a"),
        ),
        (
            (
                "its zone",
                (fresh, vec![ready("a", 3)]),
                (fresh, vec![ready("b", 2)]),
                any(),
                drains(DrainKind::Zone, "z-h2"),
            ),
            Some("a"),
        ),
    ];
    for ((name, (at1, on1), (at2, on2), selector, drains), expected) in cases {
        let sight = Sight::of(vec![word("h1", at1, on1), word("h2", at2, on2)], now, SILENT_AFTER);
        assert_eq!(chosen(&sight, &selector, &drains).as_deref(), expected, "{name}");
    }
}

#[test]
fn answers_count_as_load_until_they_expire() {
    let now = Instant::now();
    let at = |ms: u64| {
        let now = now + Duration::from_millis(ms);
        Sight::of(vec![word("h1", now, vec![ready("a", 1), ready("b", 0), ready("c", 3)])], now, SILENT_AFTER)
    };
    let mut given = Given::default();
    let mut pick = |ms| at(ms).choose(&lobby(), &Selector::default(), &[], &mut given, LIFE).unwrap();
    let picked: Vec<String> = (0..5).map(|ms| pick(ms).server.to_string()).collect();
    assert_eq!(picked, ["b", "a", "b", "a", "b"]);
    let last = pick(5);
    assert_eq!(
        (last.server.as_str(), last.because.as_str()),
        ("a", "least connected of 3 that this replica sees: 3 connections before; no leader was reached")
    );
    assert_eq!(pick(5_010).server.as_str(), "b", "all of it is forgotten");
}

#[test]
fn of_two_agents_of_a_host_the_one_heard_last_is_believed() {
    let now = Instant::now();
    let later = now + Duration::from_millis(1);
    let words = [word("h1", later, vec![ready("new", 5)]), word("h1", now, vec![ready("old", 0)])];
    for words in [words.to_vec(), words.iter().rev().cloned().collect()] {
        let sight = Sight::of(words, later, SILENT_AFTER);
        assert_eq!(chosen(&sight, &Selector::default(), &[]).as_deref(), Some("new"));
    }
}

#[test]
fn lists_tell_what_was_reported_and_who_is_silent() {
    let begun = Instant::now();
    let now = begun + Duration::from_secs(10);
    let ended = server("gone", ProcessPhase::Ended, 0);
    let heard = word("h1", now - Duration::from_millis(500), vec![ready("b", 2), ready("a", 0), ended]);
    let silent = word("h2", begun, vec![ready("c", 0)]);
    let sight = Sight::of(vec![heard, silent], now, SILENT_AFTER);
    let told = sight.gameservers(None, &[]);
    let told: Vec<_> = told.iter().map(|told| (told.name.as_str(), told.host.as_str(), told.state)).collect();
    let expected =
        [("a", "h1", StateWord::Ready), ("b", "h1", StateWord::Allocated), ("c", "h2", StateWord::Unhealthy)];
    assert_eq!(told, expected);
    let mut capped = lobby();
    capped.full_at.connections = Some(2);
    let full = |fleets: &[Fleet]| -> Vec<bool> {
        sight.gameservers(None, fleets).iter().map(|told| told.full).collect()
    };
    assert_eq!((full(&[]), full(&[capped])), (vec![false; 3], vec![false, true, false]));
    assert!(sight.gameservers(Some(&text("arena")), &[]).is_empty());
    let hosts = sight.hosts(&[drain(DrainKind::Zone, "z-h2")], Timestamp::from_unix_ms(100_000));
    let told: Vec<_> =
        hosts.iter().map(|host| (host.name.as_str(), host.connected, host.heard_at_ms)).collect();
    assert_eq!(told, [("h1", true, 99_500), ("h2", false, 90_000)]);
    assert_eq!((hosts[1].zone.as_str(), hosts[1].drained.as_str()), ("z-h2", "zone z-h2, by ops"));
}

#[test]
fn only_reports_are_kept_and_what_cannot_be_read_shows_nothing() {
    let now = Instant::now();
    let hello = word("h1", now, vec![]).hello.clone();
    assert!(Word::of(&hello, r#"{"type":"read_peers","fleet":"lobby"}"#, now).is_none());
    let broken = Arc::new(Word::of(&hello, r#"{"type":"report","servers":[{"later":1}]}"#, now).unwrap());
    let sight = Sight::of(vec![broken], now, SILENT_AFTER);
    assert_eq!(chosen(&sight, &Selector::default(), &[]), None);
}

proptest! {
    /// However many ask, and whenever, nobody is sent to a server that was not reported ready within the time, and the load
    /// that is remembered is that of the answers that have not expired.
    #[test]
    fn who_is_told_was_heard_and_the_load_is_that_of_the_living_answers(
        steps in prop::collection::vec((0_u64..2_000, 0_usize..3, 0_u32..4, any::<bool>()), 1..60)
    ) {
        let begun = Instant::now();
        let mut now = begun;
        let mut words: BTreeMap<usize, (Instant, u32, bool)> = BTreeMap::new();
        let mut given = Given::default();
        let mut told: Vec<(Instant, String)> = Vec::new();
        for (pass_ms, host, connections, is_ready) in steps {
            now += Duration::from_millis(pass_ms);
            words.insert(host, (now, connections, is_ready));
            let all = words.iter().map(|(host, (at, connections, is_ready))| {
                let phase = if *is_ready { ProcessPhase::Ready } else { ProcessPhase::Restarting };
                word(&format!("h{host}"), *at, vec![server(&format!("s{host}"), phase, *connections)])
            });
            now += Duration::from_millis(pass_ms);
            let sight = Sight::of(all.collect(), now, SILENT_AFTER);
            told.retain(|(until, _)| *until > now);
            let load = |name: &str, connections: u32| {
                connections + u32::try_from(told.iter().filter(|(_, to)| to == name).count()).unwrap()
            };
            let living = words.iter().filter(|(_, (at, _, is_ready))| *is_ready && now - *at <= SILENT_AFTER);
            let expected = living
                .map(|(host, (_, connections, _))| (load(&format!("s{host}"), *connections), format!("s{host}")))
                .min();
            let pick = sight.choose(&lobby(), &Selector::default(), &[], &mut given, LIFE);
            prop_assert_eq!(pick.map(|pick| pick.server.to_string()), expected.clone().map(|(_, name)| name));
            if let Some((_, name)) = expected {
                told.push((now + LIFE, name));
            }
            prop_assert_eq!(given.answers.len(), told.len());
            prop_assert_eq!(given.load.values().sum::<u32>() as usize, told.len());
        }
    }
}
