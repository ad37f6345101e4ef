//! What a restart must not lose: reservations, results, tickets; and each result's one effect.
#![expect(clippy::unwrap_used, reason = "the back end here is part of the test: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use greenroom_client::tickets;
use greenroom_control::{ControlConfig, WebhookConfig};
use greenroom_store::{FileStore, MemoryStore, Store};
use greenroom_wire::agent::FromAgent;
use greenroom_wire::api::RoomPhase;
use greenroom_wire::rooms::{EndReason, RoomEnded};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use support::*;

/// A back end: refuses the first calls, then does each thing once per idempotency key.
#[derive(Default)]
struct BackEnd {
    refuse: usize,
    calls: Vec<String>,
    effects: BTreeMap<String, serde_json::Value>,
}

async fn back_end(refuse: usize) -> (WebhookConfig, Arc<Mutex<BackEnd>>, JoinSet<()>) {
    let state = Arc::new(Mutex::new(BackEnd { refuse, ..BackEnd::default() }));
    let shared = state.clone();
    let hook = move |headers: HeaderMap, body: axum::Json<serde_json::Value>| {
        let shared = shared.clone();
        async move {
            let mut state = shared.lock().unwrap();
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            state.calls.push(key.clone());
            if state.calls.len() <= state.refuse {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            state.effects.insert(key, body.0);
            StatusCode::NO_CONTENT
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let mut task = JoinSet::new();
    task.spawn(async move { axum::serve(listener, Router::new().route("/hook", post(hook))).await.unwrap() });
    (WebhookConfig { url, timeout: Duration::from_secs(2) }, state, task)
}

fn ended(of: &greenroom_wire::api::Allocation, result: serde_json::Value) -> FromAgent {
    FromAgent::RoomEnded {
        server: of.server.clone(),
        instance: text(&format!("{}.1", of.server)),
        ended: RoomEnded { room: of.room.clone(), epoch: of.epoch, reason: EndReason::Finished, result },
    }
}

#[tokio::test]
async fn a_webhook_that_fails_three_times_has_exactly_one_effect() {
    let (hook, state, _task) = back_end(3).await;
    let mut config = ControlConfig::new(fleets());
    config.webhook = Some(hook);
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let room = control.client.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await.unwrap();
    agent.seat(&room, &[(0, "a")]).await;
    agent.say(ended(&room, json!({"won": "a"}))).await;
    agent.say(ended(&room, json!({"won": "a"}))).await;
    until("the result is taken", async || {
        let pending = control.client.overview().await.unwrap().totals.results_pending;
        (pending == 0 && !state.lock().unwrap().effects.is_empty()).then_some(())
    })
    .await;
    let state = state.lock().unwrap();
    let key = format!("{}.1", room.room);
    assert_eq!(state.calls, vec![key.clone(); 4]);
    let body = &state.effects[&key];
    assert_eq!((&body["event"], &body["result"]["won"]), (&json!("room.ended"), &json!("a")));
    assert_eq!((&body["players"], &body["reason"]), (&json!(["a"]), &json!("finished")));
}

async fn open(folder: &Path) -> Arc<dyn Store> {
    // The last holder lets go of the file when its last task has ended.
    let folder = folder.to_owned();
    until("the file is free", async || match FileStore::open(&folder) {
        Ok(store) => Some(Arc::new(store) as Arc<dyn Store>),
        Err(_) => None,
    })
    .await
}

#[tokio::test]
async fn reservations_results_and_keys_survive_the_death_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (hook, state, _task) = back_end(usize::MAX).await;
    let mut config = ControlConfig::new(fleets());
    config.webhook = Some(hook);
    let control = Control::start(config.clone(), open(folder.path()).await).await;
    let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let arena = "arena".parse().unwrap();
    let played = control.client.allocate(&arena, &request(Some("played"), &["p"])).await.unwrap();
    agent.seat(&played, &[(0, "p")]).await;
    agent.say(ended(&played, json!(5))).await;
    until("the webhook is tried", async || (!state.lock().unwrap().calls.is_empty()).then_some(())).await;
    let mut once = request(Some("guild"), &["a", "b"]);
    once.idempotency_key = Some(text("once"));
    let given = control.client.allocate(&arena, &once).await.unwrap();
    let keys = control.client.keys().await.unwrap();
    let running = agent.edit(|_| ()).await;
    drop((control, agent));

    state.lock().unwrap().refuse = 0;
    let control = Control::start(config, open(folder.path()).await).await;
    let client = &control.client;
    let again = until("it answers", async || client.allocate(&arena, &once).await.ok()).await;
    assert_eq!(again, given, "the same room and the same tokens, before any agent is back");
    assert_eq!(client.keys().await.unwrap(), keys);
    let agent = FakeAgent::connect(control.address, "b1", running).await;
    agent.seat(&given, &[(1, "b")]).await;
    until("the claim is recognised", async || {
        let room = client.room(&given.room).await.unwrap();
        (room.phase == RoomPhase::Live && room.seats[1].player == Some(text("b"))).then_some(())
    })
    .await;
    until("the result is taken", async || {
        let key = format!("{}.1", played.room);
        state.lock().unwrap().effects.contains_key(&key).then_some(())
    })
    .await;
    assert_eq!(client.overview().await.unwrap().term, 2);
    assert_eq!(client.fleet(&arena).await.unwrap().replicas, 2, "nothing was started twice");
}

#[tokio::test]
async fn a_desk_keeps_its_tickets_filed_over_a_restart_and_cancels_what_is_dropped() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let control = Control::start(ControlConfig::new(fleets()), store.clone()).await;
    let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let address = control.address;
    let (desk, running) =
        tickets::open(control.client.clone(), "arena".parse().unwrap(), "lobby-1.0".to_owned());
    let mut driver = JoinSet::new();
    driver.spawn(running.run());
    let file = |n: u32| {
        let (id, player) = (format!("t{n}").parse().unwrap(), format!("p{n}").parse().unwrap());
        desk.file(id, vec![player]).unwrap()
    };
    let tickets_waiting = async |control: &Control| {
        control.client.fleet(&"arena".parse().unwrap()).await.ok().map(|fleet| fleet.tickets)
    };
    let mut waiting: Vec<_> = (0..2).map(file).collect();
    let dropped = file(9);
    let mut twice = desk.file("t10".parse().unwrap(), vec!["p0".parse().unwrap()]).unwrap();
    assert!(twice.assigned().await.is_err(), "p0 waits already");
    drop(dropped);
    until("the dropped ticket is cancelled", async || {
        (tickets_waiting(&control).await == Some(2)).then_some(())
    })
    .await;
    let servers = agent.edit(|_| ()).await;
    control.end().await.unwrap();
    drop(agent);

    let control = until("the port is free", async || {
        TcpListener::bind(address).await.ok()?;
        Some(Control::start_at(address, ControlConfig::new(fleets()), store.clone()).await)
    })
    .await;
    let _agent = FakeAgent::connect(address, "b1", servers).await;
    until("the tickets are filed again", async || (tickets_waiting(&control).await == Some(2)).then_some(()))
        .await;
    waiting.extend([file(2), file(3)]);
    let mut rooms = std::collections::BTreeSet::new();
    for ticket in &mut waiting {
        let assigned = tokio::time::timeout(DEADLINE, ticket.assigned()).await.unwrap().unwrap();
        rooms.insert(assigned.allocation.room.to_string());
    }
    assert_eq!(rooms.len(), 1);
    drop((waiting, desk, twice));
    let over = tokio::time::timeout(DEADLINE, driver.join_next()).await;
    assert!(over.is_ok(), "the desk ends when nobody needs it");
}
