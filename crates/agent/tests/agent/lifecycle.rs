//! Processes: start, crash, stop, refusals.

use std::time::Instant;

use greenroom_agent::RunError;
use greenroom_wire::agent::{ProbeWord, ProcessPhase};

use crate::child::CONNECTIONS;
use crate::control::{Manner, World, gameserver, kill, order, runs, start_order};

#[tokio::test]
async fn a_crashed_server_comes_back_on_its_port_as_a_new_instance() {
    let mut world = World::with_agent().await;
    let hello = world.wait("hello", |heard| heard.hellos.first().cloned()).await;
    assert_eq!((hello.version, hello.host.as_str(), hello.servers_max), (1, "host-1", 8));
    world.start("arena-1", &[]);
    let first = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!((first.instance.as_str(), first.restarts), ("arena-1.0", 0));
    assert_eq!(first.endpoint, format!("127.0.0.1:{}", world.config.ports.start()));
    world.output("arena-1", "gameserver arena-1.0 listens").await;
    kill(first.pid.unwrap());
    let told = world.phase("arena-1", ProcessPhase::Restarting).await;
    assert_eq!(
        (told.instance.as_str(), told.message.as_str()),
        ("arena-1.1", "killed by signal 9 (SIGKILL)")
    );
    let second = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!((second.instance.as_str(), second.restarts), ("arena-1.1", 1));
    assert_eq!(second.endpoint, first.endpoint);
    assert_ne!(second.pid, first.pid);
    world.output("arena-1", "gameserver arena-1.1 listens").await;
    world.stop_agent().await.unwrap();
    assert!(!runs(second.pid.unwrap()), "told to stop its servers, the agent leaves none");
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_after_its_grace_time() {
    let mut world = World::with_agent().await;
    let mut stubborn = gameserver("arena-1", &[(CONNECTIONS, "0")]);
    stubborn.stop_grace_ms = 300;
    // An ignored signal stays ignored over exec.
    let ignore = ["sh", "-c", "trap '' TERM; exec \"$0\" \"$@\""].map(str::to_owned);
    stubborn.command.splice(0..0, ignore);
    world.order(start_order(1, stubborn));
    let pid = world.phase("arena-1", ProcessPhase::Ready).await.pid.unwrap();
    let asked_at = Instant::now();
    world.stop("arena-1");
    let ended = world.phase("arena-1", ProcessPhase::Ended).await;
    assert!(asked_at.elapsed().as_millis() >= 300);
    assert_eq!(ended.message, "stopped (the test says so): killed by signal 9 (SIGKILL)");
    assert!(!runs(pid));
    // Its port rests; the next server gets another one.
    world.start("arena-2", &[]);
    let next = world.phase("arena-2", ProcessPhase::Ready).await;
    assert_ne!(next.endpoint, ended.endpoint);
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn orders_that_cannot_be_carried_out_are_told() {
    let mut world = World::with_agent().await;
    world.order(start_order(5, order("arena-1", &["no-such-program"])));
    world.order(start_order(4, gameserver("arena-2", &[])));
    let refused = world.wait("a refusal", |heard| heard.refused.first().cloned()).await;
    assert_eq!(refused, "term 4 is below 5, the highest seen here");
    let told = world.phase("arena-1", ProcessPhase::Restarting).await;
    assert!(told.message.starts_with("program \"no-such-program\" does not exist"), "{}", told.message);
    let ended = world.phase("arena-1", ProcessPhase::Ended).await;
    assert!(ended.message.starts_with("died 6 times within 60 s"), "{}", ended.message);
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_stays_starting_and_says_why() {
    let mut world = World::with_agent().await;
    let mut silent = order("arena-1", &["sleep", "60"]);
    world.order(start_order(1, silent.clone()));
    silent.server = crate::control::name("arena-2").into();
    silent.probe = ProbeWord::Tcp;
    world.order(start_order(1, silent));
    let mut http = gameserver("arena-3", &[]);
    http.probe = ProbeWord::Http("/health".to_owned());
    world.order(start_order(1, http));
    world.phase("arena-3", ProcessPhase::Ready).await;
    for server in ["arena-1", "arena-2"] {
        let why = "its probe has not passed yet: nothing accepts on port";
        let told = world
            .wait(why, |heard| heard.server(server).filter(|told| told.message.starts_with(why)).cloned());
        assert_eq!(told.await.phase, ProcessPhase::Starting);
    }
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn all_servers_are_stopped_at_once_and_the_journal_is_emptied() {
    let mut world = World::with_agent().await;
    let mut pids = Vec::new();
    for server in ["arena-1", "arena-2", "arena-3"] {
        world.order(start_order(1, {
            let mut slow =
                order(server, &["sh", "-c", "trap 'sleep 0.5; exit 7' TERM; while :; do sleep 0.05; done"]);
            slow.probe = ProbeWord::Tcp;
            slow
        }));
    }
    for server in ["arena-1", "arena-2", "arena-3"] {
        pids.push(world.wait(server, |heard| heard.server(server).and_then(|told| told.pid)).await);
    }
    world.stop_agent().await.unwrap();
    let is_told = |message: &String| message.starts_with("stopped (its agent stops): ");
    world
        .wait("the end", |heard| heard.server("arena-3").map(|told| told.message.clone()).filter(is_told))
        .await;
    assert!(pids.iter().all(|pid| !runs(*pid)));
    let journal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
    assert_eq!(journal["servers"], serde_json::json!([]));
}

#[tokio::test]
async fn a_stream_that_is_half_open_is_given_up_and_dialled_again() {
    let mut world = World::new().await;
    world.manner(Manner::Frozen);
    world.start_agent();
    let held = world.wait("the agent hangs up", |heard| heard.hung_up.first().copied()).await;
    assert!(held.as_secs_f64() > 4.5 && held.as_secs_f64() < 15.0, "{held:?}");
    world.manner(Manner::Whole);
    world.wait("hello", |heard| heard.hellos.first().cloned()).await;
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_config_that_cannot_work_is_refused() {
    let mut world = World::new().await;
    world.config.control = "ftp://nowhere".to_owned();
    world.start_agent();
    let refused = world.stop_agent().await.unwrap_err();
    assert!(matches!(refused, RunError::Config { key: "control", .. }), "{refused}");
    world.config.control = "http://127.0.0.1:1".to_owned();
    world.config.ports = std::ops::RangeInclusive::new(8, 7);
    world.start_agent();
    let refused = world.stop_agent().await.unwrap_err().to_string();
    assert_eq!(refused, "ports cannot be 8-7: it must hold at least one port, from 1 on");
}
