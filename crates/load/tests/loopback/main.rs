//! Players of the load tester against small servers of this test, over loopback: each fault is caught, and a good run
//! passes. The servers speak with the server role of the protocol crate.

#![expect(clippy::unwrap_used, reason = "the helpers of this test belong to it")]

mod servers;

use std::{rc::Rc, time::Duration};

use futures_util::FutureExt as _;
use greenroom_load::{Find, Outcome, Report, RunError, SwarmConfig, run};
use servers::{Fault, Servers};
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
    block_on(async {
        let servers = Servers::start(fault).await;
        let lobby = servers.lobby_url();
        let find: Find = Rc::new(move |fleet| {
            assert_eq!(fleet.as_str(), "lobby");
            std::future::ready(Ok(lobby.clone())).boxed_local()
        });
        let mut told = 0;
        let report = run(config, &find, &CancellationToken::new(), &mut |_| told += 1).await.unwrap();
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
fn a_run_that_is_stopped_leaves_all_servers() {
    block_on(async {
        let servers = Servers::start(Fault::None).await;
        let lobby = servers.lobby_url();
        let find: Find = Rc::new(move |_| std::future::ready(Ok(lobby.clone())).boxed_local());
        let config = SwarmConfig { play: Duration::from_secs(3_600), ..config() };
        let stop = CancellationToken::new();
        let report = run(&config, &find, &stop, &mut |progress| {
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
        let refused = run(&config, &find, &CancellationToken::new(), &mut |_| ()).await.unwrap_err();
        assert!(matches!(refused, RunError::Config { .. }), "{refused}");
    });
}
