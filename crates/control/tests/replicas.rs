//! Several control processes on one store: one leads, the others pass calls on, and any of them may end at any time.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use greenroom_control::lease::LeaseTimes;
use greenroom_control::{ControlConfig, ReplicaConfig};
use greenroom_store::export::Export;
use greenroom_store::{
    Batch, BoxFuture, CommitError, Expect, Kind, MemoryStore, ReadError, Store, Stored, Version, Write,
};
use greenroom_wire::agent::{ProcessPhase, ServerReport};
use greenroom_wire::api::{AllocateRequest, Allocation};
use greenroom_wire::export::SigningKeys;
use greenroom_wire::token::Verifier;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use support::*;

const TIMES: LeaseTimes = LeaseTimes {
    lease: Duration::from_millis(600),
    renew: Duration::from_millis(150),
    poll: Duration::from_millis(40),
};

/// A replica on a port of its own.
async fn replica(name: &str, store: &MemoryStore) -> Control {
    replica_with(store, ReplicaConfig { times: TIMES, ..ReplicaConfig::new(name, "") }).await
}

async fn replica_with(store: &MemoryStore, replica: ReplicaConfig) -> Control {
    replica_on(Arc::new(store.clone()), replica).await
}

async fn replica_on(store: Arc<dyn Store>, replica: ReplicaConfig) -> Control {
    // The port is known before the replica is: it says where the others reach it.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = ControlConfig::new(fleets());
    config.replica = Some(ReplicaConfig { advertise: format!("http://{address}"), ..replica });
    Control::start_at(address, config, store).await
}

/// A store with so many rooms that reading them takes longer than a lease lasts.
#[derive(Debug)]
struct Full(MemoryStore);

impl Store for Full {
    fn get<'a>(&'a self, kind: Kind, key: &'a str) -> BoxFuture<'a, Result<Option<Stored>, ReadError>> {
        self.0.get(kind, key)
    }

    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        Box::pin(async move {
            if kinds.contains(&Kind::Room) {
                tokio::time::sleep(TIMES.lease * 2).await;
            }
            self.0.load_all(kinds).await
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        self.0.commit(batch)
    }
}

async fn readiness(control: &Control) -> (u16, Value) {
    let answer = reqwest::get(format!("{}/readyz", control.client.base())).await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn until_role(control: &Control, role: &str) -> u64 {
    until(role, async || {
        let (status, body) = readiness(control).await;
        let told = &body["replica"];
        (status == 200 && told["role"] == role).then(|| told["term"].as_u64())?
    })
    .await
}

async fn allocate(control: &Control, key: &str) -> Allocation {
    control.client.allocate(&"arena".parse().unwrap(), &request(Some(key), &["ann"])).await.unwrap()
}

/// Two replicas, of which the first leads, and the agent's streams to both.
async fn pair(store: &MemoryStore) -> (Control, Control, [FakeAgent; 2], BTreeMap<String, ServerReport>) {
    pair_with(store, TIMES, ReplicaConfig::new("", "").hold).await
}

async fn pair_with(
    store: &MemoryStore,
    times: LeaseTimes,
    hold: Duration,
) -> (Control, Control, [FakeAgent; 2], BTreeMap<String, ServerReport>) {
    let replica = |name| replica_with(store, ReplicaConfig { times, hold, ..ReplicaConfig::new(name, "") });
    let first = replica("a").await;
    until_role(&first, "leader").await;
    let agent = FakeAgent::connect(first.address, "boot", BTreeMap::new()).await;
    first.ready().await;
    let running = agent.edit(|_| {}).await;
    let second = replica("b").await;
    until_role(&second, "follower").await;
    let other = FakeAgent::connect(second.address, "boot", running.clone()).await;
    (first, second, [agent, other], running)
}

#[tokio::test]
async fn a_follower_passes_calls_on_and_takes_over_when_the_leader_dies() {
    let store = MemoryStore::default();
    let (first, second, mut agents, running) = pair(&store).await;
    let here = allocate(&first, "guild").await;
    let there = allocate(&second, "guild").await;
    assert_eq!((&there.room, there.created), (&here.room, false), "the leader answers for the follower");
    assert_eq!(second.get_json("/v1/overview").await["leader"], "a");
    let keys = first.get_json("/v1/keys").await;
    assert_eq!(second.get_json("/v1/keys").await, keys);
    let file = second.client.export(SigningKeys::LeftOut).await.unwrap();
    assert!(!Export::read(&file).unwrap().is_empty(), "and what is stored is told as one file");
    let term = readiness(&second).await.1["replica"]["term"].as_u64().unwrap();

    // As by kill -9: without a word.
    drop(first);
    let after = allocate(&second, "guild").await;
    assert_eq!(after.room, here.room, "held until somebody led, then answered");
    assert!(until_role(&second, "leader").await > term);
    assert_eq!(second.get_json("/v1/keys").await, keys, "tokens given before stay good");
    let made = allocate(&second, "another").await;
    assert_ne!(made.room, here.room);
    assert_eq!(agents[1].edit(|_| {}).await, running, "nothing was started again");
    let mut orders = Vec::new();
    while let Ok(order) = agents[1].orders.try_recv() {
        orders.push(order);
    }
    assert_eq!(orders.len(), 1, "the welcome alone: {orders:?}");
}

/// Nobody takes over as long as a test may last.
const FOR_EVER: LeaseTimes = LeaseTimes { lease: Duration::from_secs(3600), ..TIMES };

#[tokio::test]
async fn what_is_stored_is_told_though_nobody_leads_and_nothing_else() {
    let store = MemoryStore::default();
    let (first, second, _agents, _) = pair_with(&store, FOR_EVER, Duration::from_millis(300)).await;
    let arena = &"arena".parse().unwrap();
    let order = AllocateRequest { idempotency_key: Some(text("o1")), ..request(None, &["cid", "dan"]) };
    let room = first.client.allocate(arena, &request(Some("guild"), &["ann", "bob"])).await.unwrap();
    let made = first.client.allocate(arena, &order).await.unwrap();
    let over = first.client.allocate(arena, &request(Some("over"), &["ann"])).await.unwrap();
    let finish = json!({ "epoch": over.epoch, "result": null });
    first.post_json(&format!("/v1/rooms/{}/finish", over.room), &finish).await;
    let keys = first.get_json("/v1/keys").await;

    drop(first);
    assert_eq!(
        second.client.allocate(arena, &order).await.unwrap(),
        made,
        "the same answer to the same order"
    );
    assert_eq!(second.get_json("/v1/keys").await, keys);
    let told = second.client.allocate(arena, &request(Some("guild"), &["bob", "ann"])).await.unwrap();
    assert_eq!((&told.room, &told.url, told.created), (&room.room, &room.url, false));
    assert!(told.because.contains("no leader was reached"), "{}", told.because);
    let claims = |allocation: &Allocation, at: usize| {
        let token = &allocation.seats[at].token;
        let keys = serde_json::from_value(keys.clone()).unwrap();
        Verifier::new("arena".parse().unwrap(), &keys).claims(token).unwrap()
    };
    for (then, now) in [(0, 1), (1, 0)] {
        let (then, now) = (claims(&room, then), claims(&told, now));
        assert_eq!((&now.jti, now.exp, now.seat, &now.sub), (&then.jti, then.exp, then.seat, &then.sub));
    }
    let waits = [
        ("a new player", request(Some("guild"), &["ann", "eve"])),
        ("a new key", request(Some("other"), &["ann"])),
        ("a room that is over", request(Some("over"), &["ann"])),
        ("a new room", request(None, &["ann"])),
        (
            "an answer that must be kept",
            AllocateRequest { idempotency_key: Some(text("o2")), ..request(Some("guild"), &["ann"]) },
        ),
        ("another order under the same name", AllocateRequest { players: vec![text("eve")], ..order }),
    ];
    for (name, body) in waits {
        let refused = second.client.allocate(arena, &body).await.unwrap_err().to_string();
        assert!(refused.contains("nobody leads"), "{name}: {refused}");
    }
}

#[tokio::test]
async fn what_agents_report_is_told_though_nobody_leads() {
    let store = MemoryStore::default();
    let (first, second, [_agent, seen], _) = pair_with(&store, FOR_EVER, Duration::from_millis(300)).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", second.client.base())).await.unwrap();
        let mark = answer.headers().get("greenroom-seen").map(|mark| mark.to_str().unwrap().to_owned());
        (answer.status().as_u16(), mark, answer.json::<Value>().await.unwrap())
    };
    let (status, mark, by_leader) = get("/v1/fleets/lobby/endpoint").await;
    assert_eq!((status, mark), (200, None), "while the leader is reached it answers");
    assert!(!by_leader["because"].as_str().unwrap().contains("leader"), "{by_leader}");

    drop(first);
    let mut told = Vec::new();
    for _ in 0..2 {
        let (status, mark, body) = get("/v1/fleets/lobby/endpoint").await;
        assert_eq!((status, mark.as_deref()), (200, Some("no leader was reached")), "{body}");
        assert_eq!(body["url"], format!("http://{}", body["endpoint"].as_str().unwrap()));
        told.push(body["server"].as_str().unwrap().to_owned());
    }
    assert_ne!(told[0], told[1], "the first answer counts as load");
    let (_, mark, servers) = get("/v1/gameservers?fleet=lobby").await;
    assert_eq!((servers["gameservers"].as_array().unwrap().len(), mark.is_some()), (2, true));
    let (_, mark, hosts) = get("/v1/hosts").await;
    assert_eq!((&hosts["hosts"][0]["connected"], mark.is_some()), (&Value::Bool(true), true));

    // One dies: from the next report on nobody is sent there.
    let dead = told[0].clone();
    let dies = dead.clone();
    seen.edit(move |servers| servers.get_mut(&dies).unwrap().phase = ProcessPhase::Restarting).await;
    until("it is seen", async || {
        let (_, _, servers) = get("/v1/gameservers?fleet=lobby").await;
        let servers = servers["gameservers"].as_array().unwrap().clone();
        servers.iter().any(|server| server["name"] == *dead && server["state"] == "starting").then_some(())
    })
    .await;
    for _ in 0..3 {
        assert_ne!(get("/v1/fleets/lobby/endpoint").await.2["server"], *dead);
    }
    // What nobody can see waits for the leader.
    for path in [
        "/v1/fleets/arena/endpoint",
        "/v1/fleets/nowhere/endpoint",
        "/v1/fleets/lobby/endpoint?labels=zone:nowhere",
        "/v1/gameservers?fleet=nowhere",
        "/v1/fleets/lobby/endpoint?unknown=1",
        "/v1/rooms",
    ] {
        let (status, mark, body) = get(path).await;
        assert_eq!((status, mark), (503, None), "{path}: {body}");
    }
    // An order of a person that is stored holds here too.
    let drain = greenroom_wire::record::DrainRecord {
        version: 1,
        kind: greenroom_wire::api::DrainKind::Host,
        name: "h1".to_owned(),
        at_ms: 1,
        by: "ops".to_owned(),
        reason: String::new(),
    };
    let mut batch = greenroom_store::Batch::new();
    batch.put("host/h1", &drain);
    store.commit(batch).await.unwrap();
    until("the drain is read", async || {
        let (status, _, _) = get("/v1/fleets/lobby/endpoint").await;
        (status == 503).then_some(())
    })
    .await;
    drop(seen);
    until("its agent is gone", async || (get("/v1/hosts").await.0 == 503).then_some(())).await;
}

#[tokio::test]
async fn a_leader_that_says_nothing_is_not_waited_for_when_the_store_has_the_answer() {
    let store = MemoryStore::default();
    let (first, second, _agents, _) = pair_with(&store, FOR_EVER, Duration::from_millis(300)).await;
    let here = allocate(&first, "guild").await;
    drop(first);
    // As a frozen process does: the system takes the connection, nobody answers.
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut lease = greenroom_store::lease::read(&store).await.unwrap().unwrap().record;
    lease.url = format!("http://{}", frozen.local_addr().unwrap());
    lease.beat += 1;
    let mut batch = greenroom_store::Batch::new();
    batch.put("lease", &lease);
    store.commit(batch).await.unwrap();
    let there = allocate(&second, "guild").await;
    assert_eq!((there.room, there.url), (here.room, here.url));
    let endpoint = second.get_json("/v1/fleets/lobby/endpoint").await;
    assert!(endpoint["because"].as_str().unwrap().contains("no leader was reached"), "{endpoint}");
}

#[tokio::test]
async fn a_leader_that_lets_a_call_wait_is_waited_for_whatever_is_seen() {
    let store = MemoryStore::default();
    let (first, second, [agent, _seen], _) = pair(&store).await;
    // The leader hears of no server that is ready, the other replica goes on seeing two.
    agent
        .edit(|servers| {
            servers.values_mut().filter(|server| server.fleet.as_str() == "lobby").for_each(|server| {
                server.phase = ProcessPhase::Unhealthy;
            });
        })
        .await;
    until("the leader knows", async || {
        let fleet = first.get_json("/v1/fleets/lobby").await;
        (fleet["ready"] == 0).then_some(())
    })
    .await;
    // One that is not there would be given up several times in it.
    let asking = second.get_json("/v1/fleets/lobby/endpoint");
    assert!(tokio::time::timeout(Duration::from_millis(600), asking).await.is_err(), "it waits");
    agent.edit(|servers| servers.values_mut().for_each(|server| server.phase = ProcessPhase::Ready)).await;
    let endpoint = second.get_json("/v1/fleets/lobby/endpoint").await;
    assert!(!endpoint["because"].as_str().unwrap().contains("leader"), "{endpoint}");
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once_and_its_callers_notice_nothing() {
    let store = MemoryStore::default();
    let (first, second, _agents, _) = pair(&store).await;
    let room = allocate(&first, "guild").await.room;
    let answers = async {
        let mut answers = Vec::new();
        while readiness(&second).await.1["replica"]["role"] != "leader" {
            answers.push(allocate(&second, "guild").await.room);
        }
        answers.push(allocate(&second, "guild").await.room);
        answers
    };
    let (ended, answers) = tokio::join!(first.end(), answers);
    ended.unwrap();
    assert!(answers.iter().all(|answer| *answer == room), "{answers:?}");
}

#[tokio::test]
async fn a_leader_whose_term_is_over_finds_its_writes_refused_and_follows() {
    let store = MemoryStore::default();
    let (first, second, _agents, _) = pair(&store).await;
    let before = allocate(&second, "guild").await.room;
    // What a replica does that takes over while this one is frozen.
    let lease = greenroom_store::lease::read(&store).await.unwrap().unwrap();
    let holder =
        greenroom_store::lease::Holder { name: "c".to_owned(), url: "http://127.0.0.1:1".to_owned() };
    let mut seen = lease.version;
    let usurped = loop {
        let above = greenroom_core::Term(100);
        match greenroom_store::lease::take(&store, Some(seen), above, &holder).await {
            Ok(held) => break held,
            Err(_renewed_meanwhile) => {
                seen = greenroom_store::lease::read(&store).await.unwrap().unwrap().version;
            }
        }
    };
    assert_eq!(usurped.term.0, 101);
    // It never renews: one of the two leads again, above it, and both agree on who.
    let after = allocate(&first, "guild").await.room;
    assert_eq!(after, before);
    until("somebody leads", async || {
        let roles = [readiness(&first).await.1, readiness(&second).await.1];
        let leads = |body: &&Value| body["replica"]["role"] == "leader";
        let leader = roles.iter().find(leads)?["replica"].clone();
        let agree = roles.iter().all(|body| body["replica"]["leader"] == leader["name"]);
        (agree && leader["term"].as_u64()? > 101).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lease_of_nobody_runs_out_and_one_of_a_newer_program_is_respected() {
    let store = MemoryStore::default();
    let held = greenroom_store::lease::Holder { name: "z".to_owned(), url: "http://127.0.0.1:1".to_owned() };
    greenroom_store::lease::take(&store, None, greenroom_core::Term(0), &held).await.unwrap();
    let lone = replica("a", &store).await;
    // The holder is told of, and is not there: calls wait for the lease to be over.
    assert!(until_role(&lone, "follower").await == 1);
    assert!(until_role(&lone, "leader").await == 2);
    // A record that no program of this version wrote ends the process instead of being stepped over.
    let write = Write::Put {
        kind: Kind::Lease,
        key: "lease".to_owned(),
        bytes: json!({ "version": 9 }).to_string().into_bytes(),
        expect: Expect::Any,
    };
    let follower = replica("b", &store).await;
    until_role(&follower, "follower").await;
    let mut ended = follower.task;
    let ended = async {
        loop {
            // The leader renews over it meanwhile.
            store.commit([write.clone()].into_iter().collect()).await.unwrap();
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(5), ended.join_next()).await {
                return ended.unwrap().unwrap();
            }
        }
    };
    let error = tokio::time::timeout(DEADLINE, ended).await.expect("in time").unwrap_err();
    assert_eq!(error.to_string(), "the control plane could not start");
}

#[tokio::test]
async fn whoever_reads_for_longer_than_a_lease_lasts_keeps_its_own_and_leads() {
    let store: Arc<dyn Store> = Arc::new(Full(MemoryStore::default()));
    let config = |name| ReplicaConfig { times: TIMES, ..ReplicaConfig::new(name, "") };
    let first = replica_on(Arc::clone(&store), config("a")).await;
    let second = replica_on(store, config("b")).await;
    let leads = async |control: &Control| {
        let (_, body) = readiness(control).await;
        (body["replica"]["role"] == "leader").then(|| body["replica"]["term"].as_u64())?
    };
    let term = until("somebody leads", async || match leads(&first).await {
        None => leads(&second).await,
        term => term,
    })
    .await;
    assert_eq!(term, 1, "nobody took it from whoever was reading");
}
