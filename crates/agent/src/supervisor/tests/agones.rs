//! Ports for shipped Agones SDKs, and what is said there: in use, reserved, players, annotations.

use greenroom_wire::sdk::{GameServer, Long};

use super::*;
use crate::supervisor::{SdkCall, SdkRefusal, SdkTold, SdkWho, SdkWord};

pub(super) const PORT: u16 = 41_000;

pub(super) fn agones_order(server: &str) -> StartOrder {
    StartOrder { agones: true, probe: ProbeWord::Sdk { silence_ms: 15_000 }, ..order(server, "arena") }
}

impl Bench {
    /// A server whose process runs, with a port for its SDK; it has said nothing yet.
    pub(super) fn agones() -> Self {
        let mut bench = Self::welcomed();
        bench.control(ToAgent::Start { term: 5, order: Box::new(agones_order("arena-1")) });
        bench.opened("arena-1", Ok(PORT));
        bench.started("arena-1", "arena-1.0");
        bench
    }

    pub(super) fn opened(&mut self, server: &str, outcome: Result<u16, &str>) {
        self.event(Event::SdkOpened { server: name(server), outcome: outcome.map_err(str::to_owned) });
    }

    fn say_at(&mut self, server: &str, word: SdkWord) -> Result<SdkTold, SdkRefusal> {
        self.done.clear();
        self.event(Event::Sdk { call: SdkCall(7), who: SdkWho::Port(name(server)), word });
        let told = self.done.iter().find_map(|(_, effect)| match effect {
            Effect::TellSdk { call: SdkCall(7), told } => Some(told.clone()),
            _ => None,
        });
        told.expect("it is answered at once")
    }

    pub(super) fn says(&mut self, word: SdkWord) -> Result<SdkTold, SdkRefusal> {
        self.say_at("arena-1", word)
    }

    fn own_record(&mut self) -> GameServer {
        match self.says(SdkWord::GameServer) {
            Ok(SdkTold::GameServer(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    /// As its record has it, whether it is reported as held, with how many connections, and whether its host counts as busy.
    pub(super) fn stands(&mut self) -> (String, bool, u32, bool) {
        self.pass(1_021);
        let told = self.told("arena-1").expect("it is reported");
        let (held, connections) = (told.held, told.connections);
        (self.own_record().status.state, held, connections, self.supervisor.occupancy().busy)
    }

    /// The next agent process on the journal of this one, which died.
    fn next_agent(&mut self) -> Self {
        self.supervisor.out.dirty = true;
        let journal = self.supervisor.take_journal().unwrap();
        let text = serde_json::to_string(&journal).unwrap();
        Self::from_journal(serde_json::from_str(&text).unwrap(), self.now)
    }
}

fn reserve(seconds: u64) -> SdkWord {
    SdkWord::Reserve { seconds }
}

fn opens(port: Option<u16>) -> Effect {
    Effect::OpenSdk { server: name("arena-1"), port }
}

#[test]
fn a_process_is_started_once_its_port_is_open_and_told_of_it() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(agones_order("arena-1")) });
    assert_eq!(bench.take(), [(0, opens(None))]);
    bench.opened("arena-1", Ok(PORT));
    let started = |bench: &mut Bench| {
        let specs = bench.take().into_iter().filter_map(|(_, effect)| match effect {
            Effect::Start { spec, .. } => Some(spec.env),
            _ => None,
        });
        specs.collect::<Vec<_>>()
    };
    let envs = started(&mut bench);
    assert_eq!(envs.len(), 1);
    for key in ["AGONES_SDK_GRPC_PORT", "AGONES_SDK_HTTP_PORT"] {
        assert_eq!(envs[0].get(key).map(String::as_str), Some("41000"), "{key}");
    }
    // A process after it has the same port, which stays open meanwhile.
    bench.started("arena-1", "arena-1.0");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(200);
    let envs = started(&mut bench);
    assert_eq!(envs[0].get("AGONES_SDK_GRPC_PORT").map(String::as_str), Some("41000"));
    bench.started("arena-1", "arena-1.1");
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "over".to_owned() });
    bench.take();
    bench.exited("arena-1", "arena-1.1", Exit::Code(0));
    let closed = Effect::CloseSdk { server: name("arena-1") };
    assert!(bench.take().iter().any(|(_, effect)| *effect == closed));
    bench.opened("arena-1", Ok(PORT));
    assert!(bench.take().iter().any(|(_, effect)| *effect == closed), "one that opened too late is closed");
}

#[test]
fn without_a_port_the_start_is_tried_again_and_given_up_as_any_other() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(agones_order("arena-1")) });
    for death in 1..=6 {
        assert!(bench.take().iter().any(|(_, effect)| *effect == opens(None)), "{death}");
        bench.opened("arena-1", Err("no port on loopback"));
        let closed = Effect::CloseSdk { server: name("arena-1") };
        assert!(bench.done.iter().any(|(_, effect)| *effect == closed), "{death}: else the next is none");
        bench.pass(5_000);
    }
    let told = bench.done.iter().rev().find_map(|(_, effect)| match effect {
        Effect::Tell(told) => match &**told {
            FromAgent::Report(report) => report.servers.first().map(|server| server.message.clone()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(
        told.as_deref(),
        Some("died 6 times within 60 s; the last time: not started: no port on loopback")
    );
}

#[test]
fn an_agent_built_without_it_refuses_the_order() {
    let mut bench =
        Bench::with(Settings { agones: false, ..settings() }, Journal::empty("host-1".parse().unwrap()), T0);
    bench.control(ToAgent::Start { term: 5, order: Box::new(agones_order("arena-1")) });
    let refusals = bench.refusals();
    assert_eq!(refusals, ["this agent is built without the Agones SDK: build it with the feature agones"]);
}

#[test]
fn what_a_server_says_of_its_being_in_use_is_what_others_are_told() {
    type Step = (SdkWord, (&'static str, bool, u32, bool));
    let connect = |player: &str| SdkWord::PlayerConnect(player.to_owned());
    let gone = |player: &str| SdkWord::PlayerDisconnect(player.to_owned());
    let free = ("Ready", false, 0, false);
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("ready", vec![(SdkWord::Ready, free), (SdkWord::Ready, free)]),
        ("one that lives is not ready yet", vec![(SdkWord::Health, ("Scheduled", false, 0, false))]),
        (
            "allocated until ready again",
            vec![
                (SdkWord::Ready, free),
                (SdkWord::Allocate, ("Allocated", true, 0, true)),
                (SdkWord::Allocate, ("Allocated", true, 0, true)),
                (SdkWord::Health, ("Allocated", true, 0, true)),
                (SdkWord::Ready, free),
            ],
        ),
        ("whoever is in use serves", vec![(SdkWord::Allocate, ("Allocated", true, 0, true))]),
        (
            "a reservation without an end",
            vec![(reserve(0), ("Reserved", true, 0, true)), (SdkWord::Ready, free)],
        ),
        (
            "a reservation that is over by the next look",
            vec![(SdkWord::Ready, free), (reserve(1), ("Ready", false, 0, false))],
        ),
        (
            "a reservation, then allocated for good",
            vec![
                (reserve(2), ("Reserved", true, 0, true)),
                (SdkWord::Allocate, ("Allocated", true, 0, true)),
            ],
        ),
        (
            "players",
            vec![
                (SdkWord::Ready, free),
                (connect("ann"), ("Allocated", false, 1, true)),
                (connect("bob"), ("Allocated", false, 2, true)),
                (connect("ann"), ("Allocated", false, 2, true)),
                (gone("ann"), ("Allocated", false, 1, true)),
                (gone("cid"), ("Allocated", false, 1, true)),
                (gone("bob"), free),
            ],
        ),
    ];
    for (case, steps) in cases {
        let mut bench = Bench::agones();
        for (at, (word, (state, held, connections, busy))) in steps.into_iter().enumerate() {
            bench.says(word.clone()).unwrap();
            let expected = (state.to_owned(), held, connections, busy);
            assert_eq!(bench.stands(), expected, "{case}: step {at}, {word:?}");
        }
    }
}

/// What the absence of rooms in a report means.
#[test]
fn being_free_says_that_rooms_are_over_where_being_in_use_is_told() {
    let player = || "ann".to_owned();
    let cases: Vec<(&str, Vec<SdkWord>, bool)> = vec![
        ("it never says that it is in use", vec![SdkWord::Ready, SdkWord::Health, SdkWord::Ready], false),
        ("in use", vec![SdkWord::Ready, SdkWord::Allocate], false),
        ("in use no longer", vec![SdkWord::Ready, SdkWord::Allocate, SdkWord::Ready], true),
        ("in use again", vec![SdkWord::Allocate, SdkWord::Ready, reserve(60)], false),
        ("a player is there", vec![SdkWord::Ready, SdkWord::PlayerConnect(player())], false),
        (
            "the last player went",
            vec![SdkWord::Ready, SdkWord::PlayerConnect(player()), SdkWord::PlayerDisconnect(player())],
            true,
        ),
        (
            "it tells its rooms, and has one",
            vec![
                SdkWord::Allocate,
                SdkWord::Ready,
                SdkWord::Status(greenroom_wire::link::Status { awaits_rooms: true, ..Default::default() }),
            ],
            false,
        ),
    ];
    for (case, words, tells) in cases {
        let mut bench = Bench::agones();
        for word in words {
            bench.says(word).unwrap();
        }
        bench.pass(1_000);
        assert_eq!(bench.told("arena-1").unwrap().linked, tells, "{case}");
        // The next agent says the same.
        if case != "it tells its rooms, and has one" {
            let mut next = bench.next_agent();
            next.control(ToAgent::Welcome {
                version: 1,
                term: 5,
                keys: PublicKeys::default(),
                hears_held: true,
            });
            let process = Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1001) };
            let server = name("arena-1");
            next.event(Event::Adopted { server, instance: instance("arena-1.0"), found: Some(process) });
            next.pass(1_000);
            assert_eq!(next.told("arena-1").unwrap().linked, tells, "{case}, told by the next agent");
        }
    }
}

#[test]
fn a_reservation_begins_anew_and_ends_to_the_second() {
    let mut bench = Bench::agones();
    bench.says(reserve(10)).unwrap();
    bench.pass(6_000);
    bench.says(reserve(10)).unwrap();
    bench.pass(9_999);
    assert_eq!(bench.own_record().status.state, "Reserved");
    bench.pass(1);
    assert_eq!(bench.own_record().status.state, "Ready");
    let refusal = SdkRefusal::Reserve { seconds: 31_536_001, max: 31_536_000 };
    assert_eq!(bench.says(reserve(31_536_001)), Err(refusal));
    assert_eq!(bench.own_record().status.state, "Ready", "nothing was changed");
}

#[test]
fn a_control_plane_of_before_is_told_of_a_connection_in_place_of_the_word() {
    for (hears_held, connections) in [(false, 1), (true, 0)] {
        let mut bench = Bench::agones();
        bench.control(ToAgent::Welcome { version: 1, term: 6, keys: PublicKeys::default(), hears_held });
        bench.says(SdkWord::Allocate).unwrap();
        assert_eq!(bench.stands(), ("Allocated".to_owned(), true, connections, true), "{hears_held}");
        bench.says(SdkWord::Ready).unwrap();
        assert_eq!(bench.stands(), ("Ready".to_owned(), false, 0, false), "{hears_held}");
    }
}

#[test]
fn the_next_agent_knows_what_was_said_and_opens_the_same_port() {
    let mut first = Bench::agones();
    first.says(SdkWord::Ready).unwrap();
    first.says(SdkWord::PlayersMax(3)).unwrap();
    first.says(SdkWord::PlayerConnect("ann".to_owned())).unwrap();
    let annotation = SdkWord::Annotation { name: "map".to_owned(), value: "the desert".to_owned() };
    first.says(annotation).unwrap();
    first.says(reserve(60)).unwrap();
    let before = first.own_record();
    let mut bench = first.next_agent();
    let effects = bench.take();
    assert!(effects.iter().any(|(_, effect)| *effect == opens(Some(PORT))), "{effects:?}");
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    let process = Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1001) };
    bench.event(Event::Adopted {
        server: name("arena-1"),
        instance: instance("arena-1.0"),
        found: Some(process),
    });
    bench.opened("arena-1", Ok(PORT));
    let restarted = bench.take().into_iter().any(|(_, effect)| matches!(effect, Effect::Start { .. }));
    assert!(!restarted, "it runs already");
    assert_eq!(bench.own_record(), before);
    assert_eq!(before.object_meta.annotations["agones.dev/sdk-map"], "the desert");
    assert_eq!(before.status.players.as_ref().map(|players| players.capacity), Some(Long(3)));
    assert!(bench.stands().1, "it is in use as before");
    bench.pass(59_000);
    // Its player is still there, and its silence means nothing until its stream of health is heard again.
    assert_eq!(bench.stands(), ("Allocated".to_owned(), false, 1, true));
    bench.says(SdkWord::Ready).unwrap();
    bench.pass(60_000);
    assert_eq!(bench.stands().0, "Allocated", "other words come on calls of their own");
    bench.says(SdkWord::Health).unwrap();
    bench.pass(14_000);
    assert_eq!(bench.own_record().status.state, "Allocated");
    bench.pass(1_000);
    assert_eq!(bench.own_record().status.state, "Unhealthy");
}

#[test]
fn the_process_after_one_that_was_in_use_is_not() {
    let mut bench = Bench::agones();
    bench.says(SdkWord::Allocate).unwrap();
    bench.says(SdkWord::PlayerConnect("ann".to_owned())).unwrap();
    bench.exited("arena-1", "arena-1.0", Exit::Signal(9));
    let over = SdkRefusal::Over { instance: "arena-1.1".to_owned() };
    assert_eq!(bench.says(SdkWord::Allocate), Err(over), "nothing runs");
    bench.pass(200);
    bench.started("arena-1", "arena-1.1");
    assert_eq!(bench.stands(), ("Scheduled".to_owned(), false, 0, false));
    assert_eq!(bench.say_at("arena-9", SdkWord::Allocate), Err(SdkRefusal::Stranger));
}

#[test]
fn a_stop_that_crosses_its_word_is_refused_until_it_is_free() {
    let mut bench = Bench::agones();
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    bench.says(SdkWord::Allocate).unwrap();
    bench.take();
    bench.control(stop());
    assert_eq!(bench.refusals(), ["gameserver arena-1 is in use, by what this agent has heard since"]);
    assert_eq!(bench.stands(), ("Allocated".to_owned(), true, 0, true));
    bench.says(SdkWord::Ready).unwrap();
    bench.control(stop());
    assert_eq!(bench.own_record().status.state, "Shutdown");
}

#[test]
fn its_own_word_counts_once_its_process_has_lived_on_for_min_ready_also_under_the_next_agent() {
    let ordered = || {
        let mut bench = Bench::welcomed();
        let order = StartOrder { min_ready_ms: 5_000, ..agones_order("arena-1") };
        bench.control(ToAgent::Start { term: 5, order: Box::new(order) });
        bench.opened("arena-1", Ok(PORT));
        bench.started("arena-1", "arena-1.0");
        bench.pass(8_000);
        bench.says(SdkWord::Ready).unwrap();
        bench.pass(4_900);
        assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
        bench
    };
    let mut bench = ordered();
    bench.pass(100);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    // What it says only once is known to the next agent, which has seen it live for no time.
    let mut bench = ordered().next_agent();
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    let found = Some(Process { handle: Handle::from_text("h1".to_owned()), pid: Some(1001) });
    bench.event(Event::Adopted { server: name("arena-1"), instance: instance("arena-1.0"), found });
    bench.pass(4_900);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
    bench.pass(100);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
}

#[test]
fn what_is_said_again_is_not_journalled_again() {
    let mut bench = Bench::agones();
    bench.says(SdkWord::Ready).unwrap();
    bench.supervisor.take_journal();
    bench.says(SdkWord::Ready).unwrap();
    assert!(bench.supervisor.take_journal().is_none());
}

#[test]
fn players_and_annotations_have_bounds() {
    let mut bench = Bench::agones();
    // Two rooms of four seats.
    for player in 0..8 {
        assert_eq!(bench.says(SdkWord::PlayerConnect(format!("p{player}"))), Ok(SdkTold::Changed(true)));
    }
    assert_eq!(bench.says(SdkWord::PlayerConnect("p0".to_owned())), Ok(SdkTold::Changed(false)));
    let full = Err(SdkRefusal::PlayersFull { capacity: 8 });
    assert_eq!(bench.says(SdkWord::PlayerConnect("p8".to_owned())), full);
    bench.says(SdkWord::PlayersMax(9)).unwrap();
    assert_eq!(bench.says(SdkWord::PlayerConnect("p8".to_owned())), Ok(SdkTold::Changed(true)));
    let annotation =
        |name: &str, value: &str| SdkWord::Annotation { name: name.to_owned(), value: value.to_owned() };
    let long = "x".repeat(1025);
    let cases = [
        (SdkWord::PlayerConnect(String::new()), SdkRefusal::PlayerId { bytes_max: 256 }),
        (SdkWord::PlayerConnect("x".repeat(257)), SdkRefusal::PlayerId { bytes_max: 256 }),
        (SdkWord::PlayersMax(1001), SdkRefusal::PlayersMax { capacity: 1001, max: 1000 }),
        (annotation("a b", "c"), SdkRefusal::LabelName { name: "a b".to_owned() }),
        (annotation("a", &long), SdkRefusal::AnnotationValue { name: "a".to_owned(), bytes_max: 1024 }),
    ];
    for (word, refusal) in cases {
        assert_eq!(bench.says(word.clone()), Err(refusal), "{word:?}");
    }
    for at in 0..16 {
        bench.says(annotation(&format!("a{at}"), "some words, of any kind")).unwrap();
    }
    assert_eq!(bench.says(annotation("a16", "x")), Err(SdkRefusal::Labels { max: 16 }));
    bench.says(annotation("a0", "")).unwrap();
    bench.says(annotation("a16", "x")).unwrap();
}
