//! The SDK: who is believed, readiness by a server's own word, labels, watches, status.

use greenroom_wire::api::GameserverStatus;
use greenroom_wire::link::Status;
use greenroom_wire::rooms::{EndReason, RoomEnded};
use greenroom_wire::sdk::{GameServer, PeerChange};

use super::*;
use crate::supervisor::{SdkCall, SdkRefusal, SdkTold, SdkWho, SdkWord};

const SILENCE_MS: u64 = 15_000;

impl Bench {
    /// Orders a server that speaks for itself; its process is not started yet.
    fn ordered_sdk(server: &str) -> Self {
        let mut bench = Self::welcomed();
        let mut order = order(server, "arena");
        order.probe = ProbeWord::Sdk { silence_ms: SILENCE_MS };
        bench.control(ToAgent::Start { term: 5, order: Box::new(order) });
        bench
    }

    fn sdk_ready() -> Self {
        let mut bench = Self::ordered_sdk("arena-1");
        bench.started("arena-1", "arena-1.0");
        bench.say("arena-1.0", SdkWord::Ready).unwrap();
        bench
    }

    fn call(
        &mut self,
        call: u64,
        of: &str,
        secret: &str,
        word: SdkWord,
    ) -> Option<Result<SdkTold, SdkRefusal>> {
        self.take();
        let who = SdkWho::Process { instance: of.to_owned(), secret: secret.to_owned() };
        self.event(Event::Sdk { call: SdkCall(call), who, word });
        self.done.iter().find_map(|(_, effect)| match effect {
            Effect::TellSdk { call: of, told } if of.0 == call => Some(told.clone()),
            _ => None,
        })
    }

    fn say(&mut self, of: &str, word: SdkWord) -> Result<SdkTold, SdkRefusal> {
        self.call(1, of, "secret-1", word).expect("it is answered at once")
    }

    fn record(&mut self) -> GameServer {
        match self.say("arena-1.0", SdkWord::GameServer) {
            Ok(SdkTold::GameServer(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        self.record().status.state
    }

    /// What each watch was shown since the last call: the number of the call and a state, or `over`.
    fn shown(&mut self) -> Vec<(u64, String)> {
        let shown = self.take().into_iter().filter_map(|(_, effect)| match effect {
            Effect::TellSdk { call, told: Ok(SdkTold::GameServer(record)) } => {
                Some((call.0, record.status.state))
            }
            Effect::EndSdk { call } => Some((call.0, "over".to_owned())),
            _ => None,
        });
        shown.collect()
    }
}

fn label(name: &str, value: &str) -> SdkWord {
    SdkWord::Label { name: name.to_owned(), value: value.to_owned() }
}

#[test]
fn nobody_is_believed_without_instance_and_secret_of_a_present_process() {
    let mut bench = Bench::sdk_ready();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-2", "arena")) });
    bench.started("arena-2", "arena-2.0");
    let stranger = |bench: &mut Bench, of: &str, secret: &str| bench.call(9, of, secret, SdkWord::Shutdown);
    for (of, secret) in [
        ("arena-1.0", "secret-2"),
        ("arena-2.0", "secret-1"),
        ("arena-1.0", ""),
        ("arena-3.0", "secret-1"),
        ("arena-1", "secret-1"),
        ("", ""),
        ("A b.0", "secret-1"),
    ] {
        assert_eq!(stranger(&mut bench, of, secret), Some(Err(SdkRefusal::Stranger)), "{of} {secret}");
    }
    for over in ["arena-1.1", "arena-1.x"] {
        let refusal = SdkRefusal::Over { instance: over.to_owned() };
        assert_eq!(stranger(&mut bench, over, "secret-1"), Some(Err(refusal)));
    }
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready, "nobody was stopped by another");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    let refusal = SdkRefusal::Over { instance: "arena-1.0".to_owned() };
    assert_eq!(bench.say("arena-1.0", SdkWord::Ready), Err(refusal), "a child of it may still run");
    assert!(
        !format!("{:?}", SdkWho::Process { instance: "a".to_owned(), secret: "s3cret".to_owned() })
            .contains("s3cret")
    );
}

#[test]
fn a_server_is_ready_by_its_own_word_and_unhealthy_when_it_says_no_more() {
    let mut bench = Bench::ordered_sdk("arena-1");
    bench.started("arena-1", "arena-1.0");
    let why = "its probe has not passed yet: it has not called POST /ready of its SDK";
    assert_eq!(bench.phase("arena-1"), (ProcessPhase::Starting, "arena-1.0".to_owned(), why.to_owned()));
    bench.say("arena-1.0", SdkWord::Health).unwrap();
    bench.pass(10 * SILENCE_MS);
    assert_eq!(bench.state(), "Scheduled", "it may take its time to be ready");
    assert!(
        !bench.take().iter().any(|(_, effect)| matches!(effect, Effect::Probe { .. })),
        "nobody asks its port"
    );
    bench.say("arena-1.0", SdkWord::Ready).unwrap();
    assert_eq!(bench.phase("arena-1"), (ProcessPhase::Ready, "arena-1.0".to_owned(), String::new()));
    for _ in 0..5 {
        bench.pass(SILENCE_MS - 1_000);
        bench.say("arena-1.0", SdkWord::Health).unwrap();
    }
    bench.pass(SILENCE_MS - 22);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    let (phase, _, message) = bench.phase("arena-1");
    let why = "its probe fails: it has not called POST /health of its SDK for 15s";
    assert_eq!((phase, message.as_str()), (ProcessPhase::Unhealthy, why));
    bench.say("arena-1.0", SdkWord::Health).unwrap();
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    let health = bench.record().spec.health;
    assert_eq!((health.disabled, health.period_seconds, health.failure_threshold), (false, 5, 3));
}

#[test]
fn a_server_that_is_ready_before_its_start_is_known_is_ready_and_its_next_process_is_not() {
    let mut bench = Bench::ordered_sdk("arena-1");
    bench.say("arena-1.0", SdkWord::Ready).unwrap();
    bench.say("arena-1.0", label("map", "desert")).unwrap();
    bench.started("arena-1", "arena-1.0");
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(200);
    bench.started("arena-1", "arena-1.1");
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
    let Ok(SdkTold::GameServer(record)) = bench.say("arena-1.1", SdkWord::GameServer) else { panic!() };
    assert_eq!(record.object_meta.labels.len(), 1, "labels are the process's: {record:?}");
    assert_eq!((record.object_meta.uid.as_str(), record.object_meta.generation.0), ("arena-1.1", 2));
}

#[test]
fn under_another_probe_the_own_word_is_taken_and_changes_nothing() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    bench.started("arena-1", "arena-1.0");
    bench.say("arena-1.0", SdkWord::Ready).unwrap();
    bench.say("arena-1.0", SdkWord::Health).unwrap();
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
    bench.probed("arena-1", "arena-1.0", Ok(()));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    assert!(bench.record().spec.health.disabled);
}

#[test]
fn a_record_is_what_agones_would_say() {
    let mut bench = Bench::sdk_ready();
    bench.say("arena-1.0", label("map", "desert")).unwrap();
    let record = serde_json::to_value(bench.record()).unwrap();
    let wanted = serde_json::json!({
        "object_meta": {
            "name": "arena-1", "namespace": "host-1", "uid": "arena-1.0", "resource_version": "", "generation": "1",
            "creation_timestamp": "1700000000", "deletion_timestamp": "0",
            "annotations": {"greenroom/revision": "r1"},
            "labels": {"agones.dev/fleet": "arena", "agones.dev/sdk-map": "desert"},
        },
        "spec": {
            "health": {"disabled": false, "period_seconds": 5, "failure_threshold": 3, "initial_delay_seconds": 0},
        },
        "status": {"state": "Ready", "address": "play.example.com", "ports": [{"name": "default", "port": 7000}]},
    });
    assert_eq!(record, wanted);
}

#[test]
fn a_watch_is_shown_each_change_until_its_process_is_over() {
    let mut bench = Bench::sdk_ready();
    let first = bench.call(5, "arena-1.0", "secret-1", SdkWord::Watch);
    assert!(matches!(first, Some(Ok(SdkTold::GameServer(_)))), "{first:?}");
    bench.take();
    bench.say("arena-1.0", SdkWord::Health).unwrap();
    bench.pass(1_000);
    assert_eq!(bench.shown(), [], "nothing has changed");
    bench.say("arena-1.0", SdkWord::Status(Status { connections: 2, ..Status::default() })).unwrap();
    bench.call(6, "arena-1.0", "secret-1", SdkWord::Watch);
    assert_eq!(bench.shown(), [(6, "Allocated".to_owned())]);
    bench.event(Event::SdkLost { call: SdkCall(5) });
    bench.say("arena-1.0", SdkWord::Shutdown).unwrap();
    assert_eq!(bench.shown(), [(6, "Shutdown".to_owned())], "nobody waits for the other");
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    assert_eq!(bench.shown(), [(6, "over".to_owned())]);
}

#[test]
fn watches_and_labels_are_bounded_and_bad_labels_are_refused() {
    let mut bench = Bench::sdk_ready();
    for call in 0..8 {
        assert!(matches!(bench.call(10 + call, "arena-1.0", "secret-1", SdkWord::Watch), Some(Ok(_))));
    }
    let refused = Err(SdkRefusal::Watches { max: 8 });
    assert_eq!(bench.call(20, "arena-1.0", "secret-1", SdkWord::Watch), Some(refused));
    for number in 0..16 {
        bench.say("arena-1.0", label(&format!("l{number}"), "1")).unwrap();
    }
    assert_eq!(bench.say("arena-1.0", label("more", "1")), Err(SdkRefusal::Labels { max: 16 }));
    bench.say("arena-1.0", label("l3", "2")).unwrap();
    bench.say("arena-1.0", label("l4", "")).unwrap();
    bench.say("arena-1.0", label("more", "1")).unwrap();
    for name in ["", "-a", "a-", "a b", "a:b", "a,b", "é", &"x".repeat(64)] {
        let refused = SdkRefusal::LabelName { name: name.to_owned() };
        assert_eq!(bench.say("arena-1.0", label(name, "1")), Err(refused), "{name}");
    }
    for value in [".", "a b", "a=b", &"x".repeat(64)] {
        let refused = SdkRefusal::LabelValue { name: "map".to_owned(), value: value.to_owned() };
        assert_eq!(bench.say("arena-1.0", label("map", value)), Err(refused), "{value}");
    }
}

#[test]
fn a_status_over_the_sdk_means_what_one_on_a_link_means() {
    let mut bench = Bench::sdk_ready();
    let status = || SdkWord::Status(Status { connections: 2, ..Status::default() });
    bench.say("arena-1.0", status()).unwrap();
    bench.pass(21);
    let told = bench.told("arena-1").unwrap();
    assert_eq!((told.connections, told.linked, told.phase), (2, true, ProcessPhase::Ready));
    bench.pass(3_000);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Unhealthy, "who tells once tells every second");
    bench.say("arena-1.0", status()).unwrap();
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    bench.linked(4, "arena-1.0", "secret-1");
    let refused = SdkRefusal::Linked { instance: "arena-1.0".to_owned() };
    assert_eq!(bench.say("arena-1.0", status()), Err(refused), "it would be told two things");
}

#[test]
fn a_frozen_server_that_told_its_status_is_killed() {
    let mut bench = Bench::sdk_ready();
    bench.say("arena-1.0", SdkWord::Status(Status::default())).unwrap();
    bench.pass(29_000);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Unhealthy);
    bench.take();
    bench.pass(2_000);
    let killed = bench.take().into_iter().any(|(_, effect)| matches!(effect, Effect::Signal { .. }));
    assert!(killed, "it neither speaks nor tells");
}

#[test]
fn a_result_is_kept_until_control_has_it() {
    let mut bench = Bench::sdk_ready();
    let ended = || {
        let room = "room-1".parse::<greenroom_core::RoomId>().unwrap().into();
        SdkWord::RoomEnded(RoomEnded {
            room,
            epoch: 1,
            reason: EndReason::Finished,
            result: serde_json::json!(7),
        })
    };
    assert_eq!(bench.say("arena-1.0", ended()), Ok(SdkTold::Done));
    assert_eq!(bench.say("arena-1.0", ended()), Ok(SdkTold::Done), "telling it again changes nothing");
    assert_eq!(bench.supervisor.take_journal().unwrap().room_ended.len(), 1);
}

#[test]
fn the_next_agent_goes_on_with_what_was_said() {
    let mut bench = Bench::sdk_ready();
    bench.say("arena-1.0", label("map", "desert")).unwrap();
    let journal = bench.supervisor.take_journal().expect("labels are journalled");
    assert_eq!((journal.sdk_port, journal.servers[0].ready), (9998, true));
    let mut bench = Bench::from_journal(journal, bench.now + Duration::from_secs(60));
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    // It may call before the engine has found its process.
    bench.say("arena-1.0", SdkWord::Health).unwrap();
    let process = Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1) };
    let (server, instance) = (name("arena-1"), instance("arena-1.0"));
    bench.event(Event::Adopted { server, instance, found: Some(process) });
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    assert_eq!(bench.record().object_meta.labels["agones.dev/sdk-map"], "desert");
    bench.pass(SILENCE_MS);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Unhealthy, "the time is counted anew");
}

fn peer(name: &str, connections: u32) -> GameserverStatus {
    let told = serde_json::json!({
        "name": name, "fleet": "arena", "host": "host-2", "instance": format!("{name}.0"), "revision": "r1",
        "state": "ready", "endpoint": "10.0.0.2:7000", "pid": 1, "rooms": 0, "players": 0,
        "connections": connections, "restarts": 0, "started_at_ms": 0, "message": "",
    });
    serde_json::from_value(told).unwrap()
}

impl Bench {
    /// Control answers that the fleet has these.
    fn peers(&mut self, peers: &[GameserverStatus]) {
        let fleet = "arena".parse::<greenroom_core::FleetName>().unwrap().into();
        self.control(ToAgent::Peers { fleet, outcome: Ok(peers.to_vec()) });
    }

    /// What calls were told since the last time, in short, and how often control was asked.
    fn heard(&mut self) -> (Vec<String>, usize) {
        let (mut heard, mut asked) = (Vec::new(), 0);
        for (_, effect) in self.take() {
            match effect {
                Effect::TellSdk { call, told: Ok(SdkTold::Peers(peers)) } => {
                    heard.push(format!("{} lists {}", call.0, peers.len()));
                }
                Effect::TellSdk { call, told: Ok(SdkTold::PeerChanges(changes)) } => {
                    heard.extend(changes.iter().map(|change| match change {
                        PeerChange::Joined { peer } => format!("{} +{}", call.0, peer.name),
                        PeerChange::Changed { peer } => {
                            format!("{} ~{} {}", call.0, peer.name, peer.connections)
                        }
                        PeerChange::Left { name } => format!("{} -{name}", call.0),
                        PeerChange::Known => format!("{} known", call.0),
                    }));
                }
                Effect::TellSdk { call, told: Err(refusal) } => heard.push(format!("{} {refusal}", call.0)),
                Effect::EndSdk { call } => heard.push(format!("{} over", call.0)),
                Effect::Tell(told) if matches!(*told, FromAgent::ReadPeers { .. }) => asked += 1,
                _ => {}
            }
        }
        (heard, asked)
    }

    fn ask(&mut self, call: u64, word: SdkWord) {
        let who = SdkWho::Process { instance: "arena-1.0".to_owned(), secret: "secret-1".to_owned() };
        self.event(Event::Sdk { call: SdkCall(call), who, word });
    }
}

const LIST: SdkWord = SdkWord::Peers { fleet: None };
const CHANGES: SdkWord = SdkWord::WatchPeers { fleet: None };

#[test]
fn a_server_sees_its_peers_come_change_and_go() {
    let mut bench = Bench::sdk_ready();
    bench.take();
    bench.ask(1, CHANGES);
    assert_eq!(bench.heard(), (vec![], 1), "control is asked");
    bench.peers(&[peer("arena-1", 0), peer("arena-2", 0)]);
    assert_eq!(bench.heard().0, ["1 +arena-1", "1 +arena-2", "1 known"]);
    bench.pass(999);
    assert_eq!(bench.heard(), (vec![], 0));
    bench.pass(1);
    assert_eq!(bench.heard(), (vec![], 1), "asked again after a second");
    bench.peers(&[peer("arena-1", 0), peer("arena-2", 0)]);
    assert_eq!(bench.heard().0, [""; 0], "nothing has changed");
    bench.pass(1_000);
    bench.peers(&[peer("arena-1", 3), peer("arena-3", 0)]);
    assert_eq!(bench.heard().0, ["1 -arena-2", "1 ~arena-1 3", "1 +arena-3"]);
    bench.event(Event::ControlLost);
    bench.pass(60_000);
    assert_eq!(bench.heard(), (vec![], 0), "a control plane that is away makes nobody leave");
    bench.event(Event::SdkLost { call: SdkCall(1) });
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    bench.pass(3_000);
    assert_eq!(bench.heard(), (vec![], 0), "nobody wants to know any more");
}

#[test]
fn one_question_a_second_serves_all_who_ask() {
    let mut bench = Bench::sdk_ready();
    bench.take();
    for call in 0..5 {
        bench.ask(call, if call == 4 { CHANGES } else { LIST });
    }
    assert_eq!(bench.heard(), (vec![], 1));
    bench.peers(&[peer("arena-1", 0)]);
    let told = ["0 lists 1", "1 lists 1", "2 lists 1", "3 lists 1", "4 +arena-1", "4 known"];
    assert_eq!(bench.heard().0, told);
    bench.pass(500);
    bench.ask(5, LIST);
    bench.ask(6, CHANGES);
    assert_eq!(
        bench.heard(),
        (vec!["5 lists 1".into(), "6 +arena-1".into(), "6 known".into()], 0),
        "it is fresh"
    );
}

#[test]
fn what_control_does_not_answer_is_given_up_and_calls_are_bounded() {
    let mut bench = Bench::sdk_ready();
    bench.event(Event::ControlLost);
    bench.take();
    bench.ask(1, LIST);
    bench.ask(2, CHANGES);
    bench.pass(2_999);
    assert_eq!(bench.heard(), (vec![], 0));
    bench.pass(1);
    let away = "the control plane does not answer; ask again in a while";
    assert_eq!(bench.heard().0, [format!("1 {away}"), format!("2 {away}")]);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    let other = SdkWord::Peers { fleet: Some("other".parse().unwrap()) };
    bench.ask(3, other);
    let fleet = "other".parse::<greenroom_core::FleetName>().unwrap().into();
    bench.control(ToAgent::Peers { fleet, outcome: Err("there is no fleet other".to_owned()) });
    assert_eq!(bench.heard(), (vec!["3 there is no fleet other".into()], 1));
    for call in 10..19 {
        bench.ask(call, CHANGES);
    }
    assert_eq!(bench.heard().0, ["18 a gameserver has at most 8 such calls open"]);
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    assert_eq!(bench.heard().0.len(), 8, "its process is over, and so are its watches");
}
