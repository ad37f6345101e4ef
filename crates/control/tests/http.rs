//! The API over a real loopback listener, with an agent on the other side.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_client::{ClientError, RoomsPage};
use greenroom_control::{Action, ControlConfig, ReadyWhen, RunError, StaticPage, TriggerConfig, run};
use greenroom_core::Timestamp;
use greenroom_core::trigger::{Reading, Threshold, Trigger};
use greenroom_store::{Batch, BoxFuture, CommitError, Kind, MemoryStore, ReadError, Store, Stored, Version};
use greenroom_wire::api::{AssignmentsRequest, TicketBody, TicketCancelled, TicketsRequest};
use greenroom_wire::error::{Code, ErrorBody};
use greenroom_wire::token::Verifier;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use support::schema::misfit;
use support::*;

async fn started() -> (Control, FakeAgent) {
    let mut config = ControlConfig::new(fleets());
    config.pages = vec![StaticPage {
        path: "/".to_owned(),
        content_type: "text/html; charset=utf-8".to_owned(),
        bytes: Bytes::from_static(b"<p>hello"),
    }];
    config.triggers = vec![TriggerConfig {
        name: "grow".to_owned(),
        gauge: "custom.queue".parse().expect("a number to watch"),
        trigger: Trigger::new(Threshold::Above(Reading::whole(1_000))),
        action: Action::Exec(vec!["true".to_owned()]),
        timeout: Duration::from_secs(30),
    }];
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    (control, agent)
}

#[tokio::test]
async fn a_party_gets_a_room_by_key_with_tokens_that_verify() {
    let (control, agent) = started().await;
    let client = &control.client;
    let given =
        client.allocate(&"arena".parse().unwrap(), &request(Some("guild:42"), &["a", "b"])).await.unwrap();
    assert_eq!((given.created, given.seats.len()), (true, 2));
    let verifier = Verifier::new("arena".parse().unwrap(), &client.keys().await.unwrap());
    let claims = verifier.claims(&given.seats[1].token).unwrap();
    assert_eq!((claims.sub.as_str(), claims.seat, claims.seats), ("b", 1, 4));
    assert_eq!((&claims.room, &claims.key), (&given.room, &given.key));
    assert!(!claims.is_expired(Timestamp::from_unix_ms(given.seats[1].expires_at_ms - 1)));
    agent.seat(&given, &[(0, "a")]).await;
    let room = until("a is seen", async || {
        let room = client.room(&given.room).await.unwrap();
        (room.phase == greenroom_wire::api::RoomPhase::Live).then_some(room)
    })
    .await;
    assert_eq!(room.seats[0].player, Some(text("a")));
}

#[tokio::test]
async fn every_view_answers() {
    let (control, _agent) = started().await;
    let client = &control.client;
    client.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await.unwrap();
    let fleet = client.fleet(&"arena".parse().unwrap()).await.unwrap();
    assert_eq!((fleet.rooms, fleet.players, fleet.ready), (1, 1, 2));
    let servers = client.gameservers(Some(&"lobby".parse().unwrap())).await.unwrap().gameservers;
    assert_eq!(servers.len(), 2);
    assert_eq!(client.gameserver(&servers[0].name).await.unwrap().name, servers[0].name);
    assert_eq!(client.logs(&servers[0].name, Some(0), Some(100)).await.unwrap().text, "a line\n");
    assert_eq!(client.hosts().await.unwrap().hosts[0].servers, 5);
    let page = RoomsPage { fleet: Some("arena".parse().unwrap()), offset: 0, limit: Some(1) };
    assert_eq!(client.rooms(&page).await.unwrap().total, 1);
    let overview = client.overview().await.unwrap();
    assert_eq!((overview.totals.gameservers, overview.totals.rooms), (5, 1));
    assert!(!overview.events.is_empty());
    assert!(client.readiness().await.unwrap().ready);
    let spread: BTreeSet<String> = [
        client.endpoint(&"lobby".parse().unwrap()).await.unwrap().server.to_string(),
        client.endpoint(&"lobby".parse().unwrap()).await.unwrap().server.to_string(),
    ]
    .into();
    assert_eq!(spread.len(), 2);
    let page = reqwest::get(format!("{}/", client.base())).await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.text().await.unwrap(), "<p>hello");
}

#[tokio::test]
async fn readiness_waits_for_the_minimum_where_it_is_asked_to() {
    let mut config = ControlConfig::new(fleets());
    config.ready_when = ReadyWhen::MinimumReady;
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let before = until("it answers", async || control.client.readiness().await.ok()).await;
    assert_eq!((before.ready, before.waiting_on.len()), (false, 3), "{before:?}");
    let _agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    until("it is ready", async || control.client.readiness().await.unwrap().ready.then_some(())).await;
}

#[tokio::test]
async fn five_hundred_concurrent_calls_for_one_key_give_one_room_and_no_seat_twice() {
    let (control, _agent) = started().await;
    let mut calls = JoinSet::new();
    for n in 0..500 {
        let client = control.client.clone();
        calls.spawn(async move {
            client.allocate(&"hall".parse().unwrap(), &request(Some("k"), &[&format!("p{n}")])).await
        });
    }
    let given: Vec<_> = calls.join_all().await.into_iter().map(Result::unwrap).collect();
    let rooms: BTreeSet<String> = given.iter().map(|one| one.room.to_string()).collect();
    let seats: BTreeSet<u16> = given.iter().map(|one| one.seats[0].seat).collect();
    assert_eq!((rooms.len(), seats.len()), (1, 500));
}

#[tokio::test]
async fn tickets_are_matched_told_acknowledged_and_cancelled() {
    let (control, _agent) = started().await;
    let client = &control.client;
    let ticket = |n: u32| TicketBody::new(text(&format!("t{n}")).0, [text(&format!("p{n}")).0]);
    let body = TicketsRequest { owner: "lobby-1".to_owned(), tickets: (0..5).map(ticket).collect() };
    let filed = client.file_tickets(&"arena".parse().unwrap(), &body).await.unwrap();
    assert!(filed.refused.is_empty());
    let poll = AssignmentsRequest { owner: "lobby-1".to_owned(), ack: Vec::new(), wait_ms: None };
    let told = client.assignments(&poll).await.unwrap().assignments;
    assert_eq!(told.len(), 4);
    let acked = AssignmentsRequest {
        ack: told.iter().map(|one| one.ticket.clone()).collect(),
        wait_ms: Some(0),
        ..poll
    };
    assert!(client.assignments(&acked).await.unwrap().assignments.is_empty());
    let left = client.cancel_ticket(&"t4".parse().unwrap()).await.unwrap();
    assert_eq!(left, TicketCancelled::Cancelled);
    let late = client.cancel_ticket(&"t0".parse().unwrap()).await.unwrap();
    assert!(matches!(late, TicketCancelled::AlreadyAssigned { .. }));
}

/// Method, path, body, headers, and the code that must come back.
type Bad = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], Code);

#[rustfmt::skip]
const BAD: &[Bad] = &[
    ("GET", "/nope", "", &[], Code::NotFound),
    ("GET", "/v1", "", &[], Code::NotFound),
    ("POST", "/", "", &[], Code::MethodNotAllowed),
    ("POST", "/v1/fleets", "", &[], Code::MethodNotAllowed),
    ("DELETE", "/v1/fleets/arena/rooms", "", &[], Code::MethodNotAllowed),
    ("PUT", "/v1/assignments", "{}", &[], Code::MethodNotAllowed),
    ("GET", "/v1/fleets/nope", "", &[], Code::FleetNotFound),
    ("GET", "/v1/fleets/UPPER", "", &[], Code::BadRequest),
    ("GET", "/v1/fleets/%ff", "", &[], Code::BadRequest),
    ("GET", "/v1/fleets/nope/endpoint", "", &[], Code::FleetNotFound),
    ("GET", "/v1/tickets/nope", "", &[], Code::TicketNotFound),
    ("GET", "/v1/tickets/nope?why=maybe", "", &[], Code::BadRequest),
    ("GET", "/v1/fleets/nope/decisions", "", &[], Code::FleetNotFound),
    ("GET", "/v1/fleets/arena/decisions?limit=x", "", &[], Code::BadRequest),
    ("POST", "/v1/fleets/nope/scale", r#"{"replicas":1}"#, &[], Code::FleetNotFound),
    ("POST", "/v1/fleets/arena/scale", "{", &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/scale", r#"{"replica":1}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/decisions/dry-run", "{", &[], Code::BadRequest),
    ("GET", "/v1/fleets/arena/endpoint", "", &[], Code::WrongKind),
    ("POST", "/v1/fleets/lobby/rooms", r#"{"players":["a"]}"#, &[], Code::WrongKind),
    ("POST", "/v1/fleets/nope/rooms", r#"{"players":["a"]}"#, &[], Code::FleetNotFound),
    ("POST", "/v1/fleets/arena/rooms", "", &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", "{", &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", "[]", &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", "\u{0}", &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":[]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a","a"]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a b"]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"kye":"k"}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"timeout_ms":60001}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"timeout_ms":-1}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"idempotency_key":"x"}"#, &[("idempotency-key", "y")], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, &[("idempotency-key", "a b")], Code::BadRequest),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, &[("origin", "http://evil.test")], Code::Forbidden),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, &[("host", "evil.test")], Code::Forbidden),
    ("GET", "/v1/overview", "", &[("host", "evil.test:8700")], Code::Forbidden),
    ("POST", "/v1/fleets/arena/tickets", r#"{"owner":"","tickets":[]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/tickets", r#"{"tickets":[]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/lobby/tickets", r#"{"owner":"o","tickets":[]}"#, &[], Code::WrongKind),
    ("POST", "/v1/fleets/hall/tickets", r#"{"owner":"o","tickets":[]}"#, &[], Code::BadRequest),
    ("POST", "/v1/assignments", r#"{"owner":"o","wait_ms":20001}"#, &[], Code::BadRequest),
    ("POST", "/v1/assignments", r#"{"owner":"o","ack":["/"]}"#, &[], Code::BadRequest),
    ("DELETE", "/v1/tickets/nope", "", &[], Code::TicketNotFound),
    ("DELETE", "/v1/tickets/a%20b", "", &[], Code::BadRequest),
    ("PUT", "/v1/metrics/queue", r#"{"value":"many"}"#, &[], Code::BadRequest),
    ("PUT", "/v1/metrics/queue", r#"{"value":1,"unit":"s"}"#, &[], Code::BadRequest),
    ("PUT", "/v1/metrics/queues", r#"{"value":1}"#, &[], Code::NotFound),
    ("POST", "/v1/metrics/queue", r#"{"value":1}"#, &[], Code::MethodNotAllowed),
    ("POST", "/v1/triggers", "", &[], Code::MethodNotAllowed),
    ("GET", "/v1/rooms?limit=0", "", &[], Code::BadRequest),
    ("GET", "/v1/rooms?limit=5001", "", &[], Code::BadRequest),
    ("GET", "/v1/rooms?offset=x", "", &[], Code::BadRequest),
    ("GET", "/v1/rooms?fleet=nope", "", &[], Code::FleetNotFound),
    ("GET", "/v1/rooms?page=1", "", &[], Code::BadRequest),
    ("GET", "/v1/rooms/r-nope", "", &[], Code::RoomNotFound),
    ("POST", "/v1/rooms/r-nope/finish", r#"{"epoch":1}"#, &[], Code::RoomNotFound),
    ("POST", "/v1/rooms/r-nope/finish", r#"{"epoch":"1"}"#, &[], Code::BadRequest),
    ("GET", "/v1/gameservers?fleet=UPPER", "", &[], Code::BadRequest),
    ("GET", "/v1/gameservers?fleet=nope", "", &[], Code::FleetNotFound),
    ("GET", "/v1/gameservers/nope", "", &[], Code::GameserverNotFound),
    ("GET", "/v1/gameservers/nope/logs", "", &[], Code::GameserverNotFound),
    ("GET", "/v1/gameservers/nope/logs?bytes_max=0", "", &[], Code::BadRequest),
    ("GET", "/v1/audit?limit=0", "", &[], Code::BadRequest),
    ("GET", "/v1/audit?before=-1", "", &[], Code::BadRequest),
    ("GET", "/v1/audit?after=1", "", &[], Code::BadRequest),
    ("POST", "/v1/fleets/nope/restart", "", &[], Code::FleetNotFound),
    ("POST", "/v1/fleets/UPPER/restart", "", &[], Code::BadRequest),
    ("POST", "/v1/fleets/nope/tickets", r#"{"owner":"o","tickets":[]}"#, &[], Code::FleetNotFound),
    ("POST", "/v1/fleets/arena/tickets", r#"{"owner":"o","tickets":[{"id":"t","players":[1]}]}"#, &[], Code::BadRequest),
    ("POST", "/v1/fleets/arena/tickets", "{", &[], Code::BadRequest),
    ("POST", "/v1/assignments", "[1]", &[], Code::BadRequest),
    ("POST", "/v1/rooms/r-nope/finish", r#"{"epoch":1,"more":1}"#, &[], Code::BadRequest),
    ("POST", "/v1/hosts/nope/drain", "{}", &[], Code::NotFound),
    ("POST", "/v1/hosts/a%20b/drain", "{}", &[], Code::BadRequest),
    ("POST", "/v1/hosts/h1/drain", r#"{"unod":true}"#, &[], Code::BadRequest),
    ("POST", "/v1/zones/nope/drain", r#"{"undo":true}"#, &[], Code::NotFound),
    ("POST", "/v1/zones/a/drain", "{", &[], Code::BadRequest),
    ("GET", "/v1/export", "", &[], Code::Forbidden),
    ("GET", "/v1/export?signing_keys=some", "", &[], Code::BadRequest),
    ("GET", "/v1/export?keys=left_out", "", &[], Code::BadRequest),
    ("GET", "/v1/agents/stream", "", &[], Code::BadRequest),
];

#[tokio::test]
async fn bad_input_on_every_endpoint_is_answered_with_its_code_and_disturbs_nothing() {
    let (control, _agent) = started().await;
    let base = control.client.base();
    let http = reqwest::Client::new();
    let large = format!(r#"{{"players":["a"],"init":"{}"}}"#, "x".repeat(70_000));
    let large: &'static str = Box::leak(large.into_boxed_str());
    let too_large: Bad = ("POST", "/v1/fleets/arena/rooms", large, &[], Code::TooLarge);
    let document = control.get_json("/v1/openapi.json").await;
    let refused = json!({ "$ref": "#/components/schemas/ErrorBody" });
    for (method, path, body, headers, code) in BAD.iter().chain([&too_large]) {
        let mut call = http.request(Method::from_bytes(method.as_bytes()).unwrap(), format!("{base}{path}"));
        for (name, value) in *headers {
            call = call.header(*name, *value);
        }
        let answer = call.body(*body).send().await.unwrap();
        let status = answer.status().as_u16();
        let raw = answer.text().await.unwrap();
        let what = format!("{method} {path} {}", &body[..body.len().min(60)]);
        let error: ErrorBody =
            serde_json::from_str(&raw).unwrap_or_else(|_| panic!("{what}: {status} {raw}"));
        assert_eq!((error.error.code, status), (*code, code.status()), "{what}: {raw}");
        assert!(!error.error.message.is_empty(), "{what}");
        assert_eq!(misfit(&document, &refused, &serde_json::from_str(&raw).unwrap()), None, "{what}");
    }
    // Whatever takes a name, a query or a body was given a bad one.
    for (path, _) in document["paths"].as_object().unwrap() {
        let takes_nothing = [
            "/v1/fleets",
            "/v1/hosts",
            "/v1/triggers",
            "/v1/slos",
            "/v1/overview",
            "/v1/keys",
            "/v1/openapi.json",
            "/livez",
            "/readyz",
        ];
        let begin = path.split('{').next().unwrap();
        let end = path.rsplit('}').next().unwrap();
        let met = BAD.iter().any(|(_, bad, ..)| {
            let bad = bad.split('?').next().unwrap();
            bad.starts_with(begin) && bad.ends_with(end)
        });
        assert!(met || takes_nothing.contains(&path.as_str()), "{path} was not asked badly");
    }
    let fleet = control.client.fleet(&"arena".parse().unwrap()).await.unwrap();
    assert_eq!((fleet.rooms, fleet.players, fleet.ready), (0, 0, 2));
}

#[tokio::test]
async fn every_answer_is_as_the_openapi_document_says() {
    let (control, agent) = started().await;
    let document = control.get_json("/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let check = |method: &str, path: &str, value: &Value| {
        let answer = &document["paths"][path][method]["responses"]["200"];
        let schema = &answer["content"]["application/json"]["schema"];
        assert!(schema.is_object() || schema.is_boolean(), "{path} has no schema");
        assert_eq!(misfit(&document, schema, value), None, "{method} {path}");
    };
    let ask = async |path: &str, body: Value| control.post_json(path, &body).await;
    let room = ask("/v1/fleets/arena/rooms", json!({ "players": ["a", "b"], "key": "guild:1" })).await;
    check("post", "/v1/fleets/{fleet}/rooms", &room);
    let given: greenroom_wire::api::Allocation = serde_json::from_value(room).unwrap();
    agent.seat(&given, &[(0, "a")]).await;
    let tickets: Vec<Value> =
        (0..5).map(|n| json!({ "id": format!("t{n}"), "players": [format!("p{n}")] })).collect();
    let filed = ask("/v1/fleets/arena/tickets", json!({ "owner": "o", "tickets": tickets })).await;
    check("post", "/v1/fleets/{fleet}/tickets", &filed);
    check("post", "/v1/assignments", &ask("/v1/assignments", json!({ "owner": "o" })).await);
    let drained = ask("/v1/hosts/h1/drain", json!({ "reason": "disk" })).await;
    check("post", "/v1/hosts/{host}/drain", &drained);
    check("post", "/v1/hosts/{host}/drain", &ask("/v1/hosts/h1/drain", json!({ "undo": true })).await);
    check("post", "/v1/fleets/{fleet}/restart", &ask("/v1/fleets/lobby/restart", json!(null)).await);
    let server = given.server.to_string();
    let gets = [
        ("/v1/fleets", "/v1/fleets".to_owned()),
        ("/v1/fleets/{fleet}", "/v1/fleets/arena".to_owned()),
        ("/v1/fleets/{fleet}/endpoint", "/v1/fleets/lobby/endpoint".to_owned()),
        ("/v1/rooms", "/v1/rooms".to_owned()),
        ("/v1/rooms/{room}", format!("/v1/rooms/{}", given.room)),
        ("/v1/gameservers", "/v1/gameservers".to_owned()),
        ("/v1/gameservers/{server}", format!("/v1/gameservers/{server}")),
        ("/v1/gameservers/{server}/logs", format!("/v1/gameservers/{server}/logs")),
        ("/v1/hosts", "/v1/hosts".to_owned()),
        ("/v1/overview", "/v1/overview".to_owned()),
        ("/v1/audit", "/v1/audit".to_owned()),
        ("/v1/triggers", "/v1/triggers".to_owned()),
        ("/v1/slos", "/v1/slos".to_owned()),
        ("/v1/keys", "/v1/keys".to_owned()),
        ("/readyz", "/readyz".to_owned()),
    ];
    for (path, url) in &gets {
        check("get", path, &control.get_json(url).await);
    }
    let http = reqwest::Client::new();
    let put = http.put(format!("{}/v1/metrics/queue", control.client.base())).json(&json!({ "value": 12.5 }));
    check("put", "/v1/metrics/{name}", &put.send().await.unwrap().json().await.unwrap());
    for ticket in ["t0", "t4"] {
        let url = format!("{}/v1/tickets/{ticket}", control.client.base());
        let told = http.delete(url).send().await.unwrap().json().await.unwrap();
        check("delete", "/v1/tickets/{ticket}", &told);
    }
    let finish = format!("/v1/rooms/{}/finish", given.room);
    check(
        "post",
        "/v1/rooms/{room}/finish",
        &ask(&finish, json!({ "epoch": 1, "result": { "won": "a" } })).await,
    );
    let audit = control.get_json("/v1/audit?limit=1").await;
    assert_eq!(audit["entries"][0]["action"], "room_finished");
    assert_eq!(
        (&audit["entries"][0]["who"], &audit["entries"][0]["busy"]),
        (&json!("anonymous"), &json!(true))
    );
}

#[tokio::test]
async fn a_caller_that_hangs_up_frees_its_place_in_the_queue() {
    let mut config = ControlConfig::new(fleets());
    config.bounds.waiting_max = 1;
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let arena = "arena".parse().unwrap();
    let mut body = request(None, &["a"]);
    body.timeout_ms = Some(60_000);
    let wait = async || {
        tokio::time::timeout(Duration::from_millis(300), control.client.allocate(&arena, &body)).await
    };
    assert!(wait().await.is_err(), "no agent: it waits, then the caller hangs up");
    until("the place is free", async || match wait().await {
        Err(_) => Some(()),
        Ok(Err(ClientError::Refused { code: Code::TooMany, .. })) => None,
        Ok(other) => panic!("{other:?}"),
    })
    .await;
}

#[tokio::test]
async fn agents_are_refused_with_the_reason() {
    let (control, agent) = started().await;
    let second = FakeAgent::connect(control.address, "b2", BTreeMap::new()).await;
    assert_eq!(second.closed().await, "an agent of host h1 is connected already");
    let again = FakeAgent::connect(control.address, "b1", agent.edit(|_| ()).await).await;
    assert_eq!(agent.closed().await, "the agent opened another stream");
    let given = control.client.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await.unwrap();
    again.seat(&given, &[(0, "a")]).await;
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_told() {
    let stop = CancellationToken::new();
    let mut config = ControlConfig::new(fleets());
    config.listen = "0.0.0.0:0".parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let refused = run(config.clone(), store.clone(), stop.clone()).await.unwrap_err();
    assert!(matches!(refused, RunError::NoTokens(_)), "{refused}");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.listen = taken.local_addr().unwrap();
    let refused = run(config, store, stop).await.unwrap_err();
    assert!(matches!(refused, RunError::AddressInUse(_)), "{refused}");
}

/// A store that fails once a room is promised.
#[derive(Debug, Default)]
struct FailingStore(MemoryStore);

impl Store for FailingStore {
    fn load_all<'a>(&'a self, kinds: &'a [Kind]) -> BoxFuture<'a, Result<Vec<Vec<Stored>>, ReadError>> {
        self.0.load_all(kinds)
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Version, CommitError>> {
        if batch.writes().iter().any(|write| write.condition().0 == Kind::Room) {
            return Box::pin(async { Err(CommitError::Unavailable("disk full".into())) });
        }
        self.0.commit(batch)
    }
}

#[tokio::test]
async fn a_promise_that_cannot_be_stored_is_not_told_and_the_process_ends() {
    let mut control = Control::start(ControlConfig::new(fleets()), Arc::new(FailingStore::default())).await;
    let _agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let told = control.client.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await;
    assert!(told.is_err(), "{told:?}");
    let ended = tokio::time::timeout(DEADLINE, control.task.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(ended, Err(RunError::Store(_))), "{ended:?}");
}

#[tokio::test]
async fn garbage_on_the_agents_stream_ends_that_stream_with_the_reason_and_nothing_else() {
    let (control, _agent) = started().await;
    let hello = r#"{"type":"hello","version":99,"host":"h9","boot":"b","servers_max":1,"term_seen":0}"#;
    let cases = [
        (vec!["garbage"], "hello is not as expected"),
        (vec!["{}"], "hello is not as expected"),
        (vec![r#"{"type":"report","servers":[]}"#], "the first message must be hello"),
        (vec![hello], "this control plane speaks agent protocol 1, the agent speaks 99"),
    ];
    for (messages, reason) in cases {
        let url = format!("ws://{}/v1/agents/stream", control.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        for message in messages {
            socket.send(Message::text(message)).await.unwrap();
        }
        let closed = tokio::time::timeout(DEADLINE, async {
            loop {
                match socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return "gone".to_owned(),
                }
            }
        })
        .await
        .unwrap();
        assert!(closed.starts_with(reason), "{closed}");
    }
    let hosts = control.client.hosts().await.unwrap().hosts;
    assert_eq!((hosts.len(), hosts[0].connected), (1, true));
}
