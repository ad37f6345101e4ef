//! Players of the load tester against small servers of this test, over loopback: each fault is caught, and a good run
//! passes. The servers speak with the server role of the protocol crate.

#![expect(clippy::unwrap_used, reason = "the helpers of this test belong to it")]

mod channel;
mod servers;
mod sessions;

use std::{rc::Rc, time::Duration};

use futures_util::FutureExt as _;
use greenroom_load::{
    Find, Outcome, Part, Question, Report, RunError, Scenario, Share, SwarmConfig,
    flow::{
        Comeback, CutShape, Cuts, Flow, Measure, Protocol, RoomsWanted, SOCKET_IO_PATH, SessionWanted,
        SocketName, Step,
    },
    player::Found,
    run, run_part,
    scenario::{AgreedCheck, Checks, Peers, Scope, SequenceCheck},
    template::Template,
};
use servers::{Fault, Servers};
use sessions::{SessionServer, Slip};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

fn config() -> SwarmConfig {
    let seed = 20_260;
    println!("seed {seed}");
    SwarmConfig {
        players: 16,
        ramp: Duration::from_millis(200),
        play: Duration::from_millis(500),
        handover: Duration::from_millis(200),
        match_within: Duration::from_secs(2),
        hz: 20.0,
        seed,
        ..SwarmConfig::default()
    }
}

/// One run against servers with this fault, on a runtime of its own.
fn play(fault: Fault, config: &SwarmConfig) -> Report {
    play_scenario(fault, &config.scenario())
}

/// The same players with numbered and acknowledged inputs, a barrier before and a pause after them, and all checks.
fn checked() -> Scenario {
    let mut scenario = config().scenario();
    scenario.checks = Checks {
        sequence: Some(SequenceCheck {
            socket: SocketName::Game,
            event: "state".into(),
            sender: Some("from".into()),
            number: Some("n".into()),
            scope: Scope::Group,
            whole: false,
        }),
        agreed: Some(AgreedCheck {
            socket: SocketName::Game,
            event: "tick".into(),
            key: "t".into(),
            every: 1,
            skip: 0,
        }),
    };
    let at = scenario.flow.steps.iter().position(|step| matches!(step, Step::Play { .. })).unwrap();
    let Step::Play { argument, ack_within, .. } = &mut scenario.flow.steps[at] else { unreachable!() };
    *argument = Template::parse(r#"{"from":"{player}","n":"{stamp}"}"#).unwrap();
    *ack_within = Some(Duration::from_millis(500));
    let pause = Duration::from_millis(100);
    scenario.flow.steps.insert(at + 1, Step::Think { least: pause, most: pause });
    scenario.flow.steps.insert(at, Step::Barrier { within: Duration::from_secs(5) });
    scenario
}

fn play_scenario(fault: Fault, scenario: &Scenario) -> Report {
    block_on(async {
        let servers = Servers::start(fault).await;
        let lobby = servers.lobby_url();
        let find: Find = Rc::new(move |question| {
            assert_eq!(question, Question::Endpoint("lobby".parse().unwrap()));
            std::future::ready(Ok(Found { url: lobby.clone(), seat: None })).boxed_local()
        });
        let mut told = 0;
        let report = run(scenario, &find, &CancellationToken::new(), &mut |_| told += 1).await.unwrap();
        assert!(told > 0, "progress was told");
        servers.assert_all_left().await;
        report
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(DEADLINE, future).await.expect("the run ended in time") };
    runtime.block_on(tokio::task::LocalSet::new().run_until(bounded))
}

#[test]
fn a_good_run_passes_and_counts_what_it_did() {
    let report = play(Fault::None, &config());
    assert_eq!(report.violations, [], "{report}");
    assert_eq!((report.outcome, report.exit_code(), report.rooms), (Outcome::Passed, 0, 4));
    let counts = report.counts;
    assert_eq!((counts.arrived, counts.assigned, counts.playing, counts.finished), (16, 16, 16, 16));
    // The servers answer each input, so events came back; the last answers may be cut by the goodbye.
    assert!(counts.inputs_sent >= 16 * 5, "{counts:?}");
    assert!(counts.events_received >= 16 * 4, "{counts:?}");
    assert!(report.measures.iter().all(|measure| measure.summary.count == 16), "{report}");
}

#[test]
fn players_leave_with_their_room() {
    let config = SwarmConfig { play: Duration::from_secs(3_600), ..config() };
    let report = play(Fault::RoomsFinish, &config);
    assert_eq!((report.outcome, report.counts.rooms_ended), (Outcome::Passed, 16), "{report}");
}

#[test]
fn every_fault_of_the_servers_fails_the_run_by_name() {
    let cases = [
        (Fault::Misplace, "is on several servers"),
        (Fault::ShortRoom, "players instead of 4"),
        (Fault::SeatTwice, "gave seat 0 to"),
        (Fault::AssignTwice, "was assigned again"),
        (Fault::ForgetOne, "not done within 2s"),
        (Fault::RefuseToken, "was refused by the game server: token_expired"),
        (Fault::DropGame, "lost the game connection while playing"),
        (Fault::RefuseUpgrade, "answered 503 Service Unavailable instead of opening a websocket"),
    ];
    for (fault, expected) in cases {
        let report = play(fault, &config());
        assert_eq!((report.outcome, report.exit_code()), (Outcome::Failed, 1), "{fault:?}");
        assert!(report.to_string().contains(expected), "{fault:?}:\n{report}");
    }
}

#[test]
fn numbered_events_and_states_of_a_good_server_pass_every_check() {
    let report = play_scenario(Fault::None, &checked());
    assert_eq!((report.outcome, report.violations_total), (Outcome::Passed, 0), "{report}");
    for measure in [Measure::Ack, Measure::Deliver] {
        let one = report.measures.iter().find(|one| one.measure == measure).unwrap();
        assert_eq!(one.summary.count, report.counts.inputs_sent, "{measure:?}: every input came back");
        assert!(
            one.service.max_ms <= one.summary.max_ms,
            "{measure:?}: a late start counts in one of the two only"
        );
    }
}

#[test]
fn lost_doubled_reordered_leaked_and_parted_events_fail_the_run_by_name() {
    let cases = [
        (Fault::LoseEvents, "did not hear event 3 of swarm-"),
        (Fault::DoubleEvents, "heard event 3 of swarm-"),
        (Fault::ReorderEvents, "after event 4"),
        (Fault::Leak, "who is in another room"),
        (Fault::StatesPart, "saw different states"),
        (Fault::NoAcks, "were not acknowledged"),
    ];
    for (fault, expected) in cases {
        let report = play_scenario(fault, &checked());
        assert_eq!(report.outcome, Outcome::Failed, "{fault:?}");
        let told = serde_json::to_value(&report.violations).unwrap().to_string();
        let words: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert!(words.iter().any(|word| word.contains(expected)), "{fault:?}: {told}");
    }
}

#[test]
fn peers_that_read_slowly_or_fall_silent_are_no_fault_of_the_server() {
    let mut scenario = config().scenario();
    scenario.peers = Peers { slow: 0.5, half_open: 0.5 };
    let report = play_scenario(Fault::RoomsFinish, &scenario);
    assert_eq!(report.outcome, Outcome::Passed, "{report}");
    assert_eq!(report.counts.playing, 16);
}

#[test]
fn a_run_that_is_stopped_leaves_all_servers() {
    block_on(async {
        let servers = Servers::start(Fault::None).await;
        let lobby = servers.lobby_url();
        let find: Find =
            Rc::new(move |_| std::future::ready(Ok(Found { url: lobby.clone(), seat: None })).boxed_local());
        let config = SwarmConfig { play: Duration::from_secs(3_600), ..config() };
        let stop = CancellationToken::new();
        let report = run(&config.scenario(), &find, &stop, &mut |progress| {
            if progress.counts.playing == 16 {
                stop.cancel();
            }
        })
        .await
        .unwrap();
        assert_eq!((report.outcome, report.exit_code()), (Outcome::Stopped, 1), "{report}");
        servers.assert_all_left().await;
    });
}

#[test]
fn nothing_is_sent_with_settings_that_cannot_work() {
    block_on(async {
        let find: Find = Rc::new(|_| panic!("nobody may be asked"));
        let config = SwarmConfig { players: 5, ..config() };
        let refused =
            run(&config.scenario(), &find, &CancellationToken::new(), &mut |_| ()).await.unwrap_err();
        assert!(matches!(refused, RunError::Config { .. }), "{refused}");
    });
}

/// Players who only listen, and who cut their connections again and again, or all at one moment.
fn listeners(url: &str, shape: CutShape, session: SessionWanted) -> Scenario {
    let ms = Duration::from_millis;
    let (socket, event) = (SocketName::Game, "state".to_owned());
    let plain = |text| Template::parse(text).unwrap();
    let connect = Step::Connect {
        socket,
        protocol: Protocol::SocketIo,
        path: SOCKET_IO_PATH.into(),
        within: ms(5_000),
        measure: Measure::Enter,
    };
    let watch = Step::Play {
        socket,
        event: "watch".into(),
        argument: plain("null"),
        every: None,
        lasting: ms(600),
        ack_within: None,
        end: "end".into(),
    };
    let flow = Flow {
        steps: vec![Step::Address { url: url.to_owned() }, connect, watch, Step::Leave { socket }],
        comeback: Some(Comeback { within: ms(5_000), delay: ms(20), session, rooms: RoomsWanted::Stay }),
        cuts: Some(Cuts { shape, share: 1.0, away: ms(20) }),
    };
    let sequence =
        SequenceCheck { socket, event, sender: None, number: None, scope: Scope::Everybody, whole: false };
    let checks = Checks { sequence: Some(sequence), agreed: None };
    Scenario { players: 8, group_players: 1, flow, checks, ..config().scenario() }
}

fn listen(slip: Slip, shape: CutShape, session: SessionWanted) -> Report {
    block_on(async {
        let server = SessionServer::start(slip).await;
        let find: Find = Rc::new(|_| panic!("nobody asks control here"));
        let scenario = listeners(&server.url, shape, session);
        run(&scenario, &find, &CancellationToken::new(), &mut |_| ()).await.unwrap()
    })
}

const CHURN: CutShape = CutShape::Churn { every: Duration::from_millis(100) };

#[test]
fn sessions_that_resume_at_the_right_position_pass() {
    for (shape, at_least) in [(CHURN, 16), (CutShape::Storm { at: Duration::from_millis(400) }, 8)] {
        let report = listen(Slip::None, shape, SessionWanted::Must);
        assert_eq!((report.outcome, report.violations_total), (Outcome::Passed, 0), "{shape:?}: {report}");
        let counts = report.counts;
        assert!(counts.reconnects >= at_least, "{shape:?}: {counts:?}");
        assert_eq!(counts.recovered, counts.reconnects, "{shape:?}");
        let resume = report.measures.iter().find(|one| one.measure == Measure::Resume).unwrap();
        assert_eq!(resume.summary.count, u64::from(counts.reconnects), "{shape:?}");
    }
}

#[test]
fn sessions_that_resume_elsewhere_fail_the_run_by_name() {
    let cases = [
        (Slip::Forget, "came back and was not known any more"),
        (Slip::SkipOne, "did not hear event"),
        (Slip::OneTwice, "twice"),
        (Slip::Swap, "after event"),
        (Slip::Mix, "came back and got a session that is half another one"),
    ];
    for (slip, expected) in cases {
        let report = listen(slip, CHURN, SessionWanted::Must);
        assert_eq!(report.outcome, Outcome::Failed, "{slip:?}");
        let words: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert!(words.iter().any(|word| word.contains(expected)), "{slip:?}: {words:?}");
    }
}

#[test]
fn a_new_session_where_that_is_allowed_is_counted_only() {
    let report = listen(Slip::Forget, CHURN, SessionWanted::May);
    assert_eq!((report.outcome, report.violations_total), (Outcome::Passed, 0), "{report}");
    assert!(report.counts.reconnects > 0 && report.counts.recovered == 0, "{:?}", report.counts);
}

#[test]
fn parts_of_a_run_merge_into_the_report_of_the_whole_in_any_order() {
    let parts = block_on(async {
        let servers = Servers::start(Fault::None).await;
        let lobby = servers.lobby_url();
        let find: Find =
            Rc::new(move |_| std::future::ready(Ok(Found { url: lobby.clone(), seat: None })).boxed_local());
        let (scenario, stop) = (config().scenario(), CancellationToken::new());
        let started = std::time::Instant::now();
        let part = async |players| {
            let share = Share { players, started, keeps_actions: true };
            run_part(&scenario, share, &find, &stop, &mut |_| ()).await.unwrap()
        };
        let parts = futures_util::join!(part(0..6), part(6..12), part(12..16));
        <[Part; 3]>::from(parts)
    });
    // As they come from other processes: told as JSON.
    let sent = parts.each_ref().map(|part| serde_json::to_string(part).unwrap());
    let merge = |order: [usize; 3]| {
        let [mut whole, second, third] = order.map(|nth| serde_json::from_str::<Part>(&sent[nth]).unwrap());
        whole.merge(second);
        whole.merge(third);
        (whole.actions(), whole.report(&config().scenario(), None))
    };
    let (actions, report) = merge([0, 1, 2]);
    assert_eq!((report.outcome, report.rooms, report.counts.finished), (Outcome::Passed, 4, 16), "{report}");
    assert!(report.measures.iter().all(|one| one.summary.count == 16), "{report}");
    for (nth, one) in report.measures.iter().enumerate() {
        let of = |part: &Part| part.report(&config().scenario(), None).measures[nth].summary;
        let most = parts.iter().map(|part| of(part).max_ms).fold(0.0, f64::max);
        assert!((one.summary.max_ms - most).abs() < f64::EPSILON, "the slowest of all is the slowest of one");
    }
    let (same_actions, same) = merge([2, 0, 1]);
    assert_eq!(
        (same.measures, same.violations, same.counts),
        (report.measures, report.violations, report.counts)
    );
    assert_eq!(same_actions, actions, "and what each player did is in its own order");
}
