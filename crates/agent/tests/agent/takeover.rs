//! Agents that die, and those that come after them.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use greenroom_agent::{OnExit, RunError};
use greenroom_wire::agent::ProcessPhase;

use crate::child::IS_AGENT;
use crate::control::{World, kill, runs};

#[tokio::test]
async fn the_next_agent_adopts_what_a_crashed_one_left() {
    let mut world = World::with_agent().await;
    world.start("arena-1", &[]);
    world.start("arena-2", &[]);
    let first = world.phase("arena-1", ProcessPhase::Ready).await;
    let second = world.phase("arena-2", ProcessPhase::Ready).await;
    world.abort_agent().await;
    assert!(runs(first.pid.unwrap()));
    // One dies while nobody looks.
    kill(second.pid.unwrap());
    let reports = world.wait("reports", |heard| Some(heard.reports.len())).await;
    world.start_agent();
    world.wait("a report", |heard| (heard.reports.len() > reports).then_some(())).await;
    let adopted = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!((adopted.pid, &adopted.instance), (first.pid, &first.instance));
    assert_eq!(adopted.connections, 3, "it was told only after the server had linked again");
    let again = world.phase("arena-2", ProcessPhase::Ready).await;
    assert_eq!((again.instance.as_str(), &again.endpoint), ("arena-2.1", &second.endpoint));
    assert_eq!(again.message, "the process before this one: ended while its agent was away");
    // The end of an adopted process is noticed, and it is started again.
    kill(first.pid.unwrap());
    let restarted = world.phase("arena-1", ProcessPhase::Restarting).await;
    assert_eq!(restarted.instance.as_str(), "arena-1.1");
    world.phase("arena-1", ProcessPhase::Ready).await;
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_killed_agent_leaves_its_servers_running_for_the_next_one() {
    let mut world = World::new().await;
    let config =
        format!("{} {} {}", world.config.control, world.folder.path().display(), world.config.ports.start());
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["the_agent_program", "--exact"])
        .env(IS_AGENT, config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    world.start("arena-1", &[]);
    let ready = world.phase("arena-1", ProcessPhase::Ready).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(runs(ready.pid.unwrap()), "killing the agent disturbs nobody");
    let reports = world.wait("reports", |heard| Some(heard.reports.len())).await;
    world.start_agent();
    world.wait("a report", |heard| (heard.reports.len() > reports).then_some(())).await;
    let adopted = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!((adopted.pid, &adopted.instance), (ready.pid, &ready.instance));
    world.stop_agent().await.unwrap();
    assert!(!runs(ready.pid.unwrap()));
}

#[tokio::test]
async fn an_agent_told_to_leave_its_servers_leaves_them() {
    let mut world = World::new().await;
    world.config.on_exit = OnExit::LeaveServers;
    world.start_agent();
    world.start("arena-1", &[]);
    let ready = world.phase("arena-1", ProcessPhase::Ready).await;
    world.stop_agent().await.unwrap();
    assert!(runs(ready.pid.unwrap()));
    world.config.on_exit = OnExit::StopServers;
    world.start_agent();
    world.wait("the next session", |heard| (heard.hellos.len() > 1).then_some(())).await;
    world.stop_agent().await.unwrap();
    assert!(!runs(ready.pid.unwrap()));
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused_and_told_of_the_first() {
    let mut world = World::with_agent().await;
    world.wait("hello", |heard| heard.hellos.first().cloned()).await;
    let second = greenroom_agent::run(world.config.clone(), tokio_util::sync::CancellationToken::new()).await;
    let message = second.unwrap_err().to_string();
    let first = format!("process {} on host host-1", std::process::id());
    assert!(message.contains("is used by another agent") && message.contains(&first), "{message}");
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_link_port_that_is_taken_is_an_error_only_while_servers_need_it() {
    let mut world = World::with_agent().await;
    world.start("arena-1", &[]);
    let ready = world.phase("arena-1", ProcessPhase::Ready).await;
    world.abort_agent().await;
    let journal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
    let port = u16::try_from(journal["link_port"].as_u64().unwrap()).unwrap();
    let thief = loop {
        // The agent's own listener closes when its task is gone.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    };
    world.start_agent();
    let refused = world.stop_agent().await.unwrap_err();
    assert!(matches!(refused, RunError::LinkPort { servers: 1, .. }), "{refused}");
    assert!(runs(ready.pid.unwrap()), "a refusal ends nothing");
    drop(thief);
    world.config.host = "host-2".parse().unwrap();
    world.start_agent();
    let refused = world.stop_agent().await.unwrap_err().to_string();
    assert_eq!(
        refused,
        "the data folder belongs to host host-1, which has 1 gameservers; this is host host-2"
    );
    world.config.host = "host-1".parse().unwrap();
    world.start_agent();
    world.wait("the next session", |heard| (heard.hellos.len() > 1).then_some(())).await;
    world.stop_agent().await.unwrap();
    assert!(!runs(ready.pid.unwrap()));
}
