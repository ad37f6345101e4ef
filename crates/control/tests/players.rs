//! The listener for players over a real socket: who is believed, what may be asked, how often, and by which pages.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_control::{
    ControlConfig, LoginAlgorithm, LoginConfig, LoginError, LoginKeys, PlayersConfig, Rate, RunError,
    SaidAttributes, run,
};
use greenroom_store::MemoryStore;
use greenroom_wire::api::{Allocation, AssignmentsAnswer, EndpointAnswer, PlayerTicket, TicketCancelled};
use greenroom_wire::error::{Code, ErrorBody};
use greenroom_wire::secret::Secret;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use support::*;

const SECRET: &str = "a secret of at least thirty-two bytes";

fn signing(algorithm: Algorithm) -> EncodingKey {
    if algorithm == Algorithm::RS256 {
        EncodingKey::from_rsa_der(include_bytes!("keys/rsa.der"))
    } else if algorithm == Algorithm::ES256 {
        EncodingKey::from_ec_der(include_bytes!("keys/p256.der"))
    } else if algorithm == Algorithm::HS256 {
        EncodingKey::from_secret(SECRET.as_bytes())
    } else {
        EncodingKey::from_ed_der(include_bytes!("keys/ed25519.der"))
    }
}

fn next_key() -> EncodingKey {
    EncodingKey::from_ed_der(include_bytes!("keys/ed25519-next.der"))
}

/// A public key as it is published.
fn published(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = json!(kid);
    jwk
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(player: &str) -> Value {
    json!({ "sub": player, "aud": "my-game", "iss": "https://id.test", "exp": now_s() + 600 })
}

fn signed(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn token(player: &str) -> String {
    signed(&signing(Algorithm::HS256), Algorithm::HS256, None, &claims(player))
}

fn login(keys: LoginKeys, algorithms: &[LoginAlgorithm]) -> LoginConfig {
    LoginConfig {
        keys,
        algorithms: algorithms.to_vec(),
        audience: "my-game".to_owned(),
        issuer: Some("https://id.test".to_owned()),
    }
}

fn shared() -> LoginConfig {
    login(LoginKeys::Shared(vec![Secret::new(SECRET)]), &[LoginAlgorithm::Hs256])
}

fn config(login: LoginConfig) -> PlayersConfig {
    PlayersConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        login,
        origins: vec!["https://game.test".to_owned()],
        endpoints: vec!["lobby".parse().unwrap()],
        rooms: vec!["hall".parse().unwrap()],
        tickets: vec!["arena".parse().unwrap()],
        rating_claim: None,
        said: SaidAttributes::default(),
        per_player: Rate { per_second: 1_000, burst: 1_000 },
        per_address: Rate { per_second: 1_000, burst: 1_000 },
        proxies: 0,
        connections_max: 100,
    }
}

/// A control process with a listener for players.
struct Open {
    control: Control,
    base: String,
    _agent: FakeAgent,
}

impl Open {
    async fn start(players: PlayersConfig) -> Self {
        let mut control = ControlConfig::new(fleets());
        let address = free_address().await;
        control.players = Some(PlayersConfig { listen: address, ..players });
        let control = Control::start(control, Arc::new(MemoryStore::default())).await;
        let agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
        control.ready().await;
        Self { control, base: format!("http://{address}"), _agent: agent }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.base))
    }

    fn as_player(&self, player: &str, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path).bearer_auth(token(player))
    }
}

/// A port that was free a moment ago.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn refusal(call: RequestBuilder) -> (StatusCode, Code, String) {
    let answer = call.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let ErrorBody { error } = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    assert_eq!(error.code.status(), status.as_u16(), "{text}");
    (status, error.code, error.message)
}

#[tokio::test]
async fn a_player_finds_a_lobby_a_room_and_a_match_and_only_for_itself() {
    let open = Open::start(config(shared())).await;
    let endpoint = open.as_player("ann", Method::GET, "/v1/fleets/lobby/endpoint").send().await.unwrap();
    let endpoint: EndpointAnswer = endpoint.json().await.unwrap();
    assert_eq!(endpoint.fleet.as_str(), "lobby");

    let rooms = "/v1/fleets/hall/rooms";
    let ask = |player: &str, body: Value| open.as_player(player, Method::POST, rooms).json(&body);
    let first = ask("ann", json!({ "key": "guild:1", "idempotency_key": "k" })).send().await.unwrap();
    let first: Allocation = first.json().await.unwrap();
    let again: Allocation = ask("ann", json!({ "key": "guild:1" }))
        .header("idempotency-key", "k")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(again, first, "the same key gives the same answer, whichever way it is told");
    let other: Allocation =
        ask("bob", json!({ "key": "guild:1", "idempotency_key": "k", "players": ["bob"] }))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
    assert_eq!((other.room.clone(), other.created), (first.room.clone(), false));
    assert_eq!(other.seats[0].player.as_str(), "bob", "another player's key is another key");
    let (_, code, message) =
        refusal(ask("bob", json!({ "key": "guild:1", "players": ["bob", "ann"] }))).await;
    assert_eq!((code, message.as_str()), (Code::Forbidden, "player bob may ask for a seat for bob alone"));

    let file =
        |player: &str| open.as_player(player, Method::POST, "/v1/fleets/arena/tickets").json(&json!({}));
    let mut tickets = Vec::new();
    for player in ["p1", "p2", "p3"] {
        let ticket: PlayerTicket = file(player).send().await.unwrap().json().await.unwrap();
        tickets.push(ticket.ticket.to_string());
    }
    let (_, code, _) = refusal(file("p1")).await;
    assert_eq!(code, Code::AlreadyAssigned, "one ticket at a time");
    let (_, code, _) =
        refusal(open.as_player("p2", Method::DELETE, &format!("/v1/tickets/{}", tickets[0]))).await;
    assert_eq!(code, Code::TicketNotFound, "another's ticket");
    let cancelled = open.as_player("p1", Method::DELETE, &format!("/v1/tickets/{}", tickets[0]));
    let cancelled: TicketCancelled = cancelled.send().await.unwrap().json().await.unwrap();
    assert_eq!(cancelled, TicketCancelled::Cancelled);
    for player in ["p4", "p5"] {
        file(player).send().await.unwrap().error_for_status().unwrap();
    }
    let poll = open.as_player("p4", Method::POST, "/v1/assignments").json(&json!({}));
    let told: AssignmentsAnswer = poll.send().await.unwrap().json().await.unwrap();
    let seats = &told.assignments[0].allocation.seats;
    assert_eq!((told.assignments.len(), seats.len(), seats[0].player.as_str()), (1, 1, "p4"));
}

#[tokio::test]
async fn what_is_not_opened_to_players_is_refused_and_nothing_is_changed() {
    let open = Open::start(config(shared())).await;
    let long = "k".repeat(5_000);
    let cases = [
        (Method::GET, "/v1/fleets/arena/endpoint", json!(null), Code::Forbidden),
        (Method::GET, "/v1/fleets/nope/endpoint", json!(null), Code::Forbidden),
        (Method::POST, "/v1/fleets/arena/rooms", json!({ "key": "k" }), Code::Forbidden),
        (Method::POST, "/v1/fleets/hall/tickets", json!({}), Code::Forbidden),
        (Method::POST, "/v1/fleets/hall/rooms", json!({}), Code::BadRequest),
        (Method::POST, "/v1/fleets/hall/rooms", json!([]), Code::BadRequest),
        (Method::POST, "/v1/fleets/hall/rooms", json!({ "key": 1 }), Code::BadRequest),
        (Method::POST, "/v1/fleets/hall/rooms", json!({ "key": "a b" }), Code::BadRequest),
        (Method::POST, "/v1/fleets/hall/rooms", json!({ "key": "k", "init": 1 }), Code::BadRequest),
        (
            Method::POST,
            "/v1/fleets/hall/rooms",
            json!({ "key": "k", "timeout_ms": 60_001 }),
            Code::BadRequest,
        ),
        (Method::POST, "/v1/fleets/hall/rooms", json!({ "key": long }), Code::TooLarge),
        (Method::POST, "/v1/fleets/UPPER/rooms", json!({ "key": "k" }), Code::BadRequest),
        (Method::POST, "/v1/fleets/arena/tickets", json!({ "players": ["x"] }), Code::BadRequest),
        (Method::POST, "/v1/assignments", json!({ "owner": "lobby-1" }), Code::BadRequest),
        (Method::POST, "/v1/assignments", json!({ "wait_ms": 20_001 }), Code::BadRequest),
        (Method::DELETE, "/v1/tickets/t1", json!(null), Code::TicketNotFound),
        (Method::DELETE, "/v1/tickets/a%20b", json!(null), Code::BadRequest),
        (Method::PUT, "/v1/assignments", json!({}), Code::MethodNotAllowed),
        (Method::GET, "/v1/overview", json!(null), Code::NotFound),
        (Method::POST, "/v1/fleets/hall/restart", json!(null), Code::NotFound),
        (Method::GET, "/v1/agents/stream", json!(null), Code::NotFound),
        (Method::GET, "/", json!(null), Code::NotFound),
    ];
    for (method, path, body, code) in cases {
        let what = format!("{method} {path} {body:.60}");
        let (_, told, message) = refusal(open.as_player("ann", method, path).json(&body)).await;
        assert_eq!(told, code, "{what}: {message}");
    }
    let totals = open.control.client.overview().await.unwrap().totals;
    assert_eq!((totals.rooms, totals.players, totals.tickets), (0, 0, 0));
}

#[tokio::test]
async fn only_a_token_that_is_meant_for_us_and_rightly_signed_is_believed() {
    let open = Open::start(config(shared())).await;
    let hs = |claims: Value| signed(&signing(Algorithm::HS256), Algorithm::HS256, None, &claims);
    let with = |key: &str, value: Value| {
        let mut claims = claims("ann");
        claims[key] = value;
        hs(claims)
    };
    let without = |key: &str| {
        let mut claims = claims("ann");
        claims.as_object_mut().unwrap().remove(key);
        hs(claims)
    };
    let mut tampered = token("ann");
    tampered.replace_range(tampered.rfind('.').unwrap() + 1.., "AAAA");
    let none = format!("eyJhbGciOiJub25lIn0.{}.", token("ann").split('.').nth(1).unwrap());
    let cases = [
        ("garbage", "abc".to_owned(), "is no JWT"),
        ("no algorithm", none, "is no JWT"),
        ("too long", "x".repeat(9_000), "more than 8 KiB"),
        ("over", with("exp", json!(now_s() - 60)), "is over"),
        ("too early", with("nbf", json!(now_s() + 600)), "not valid yet"),
        ("for others", with("aud", json!("other-game")), "another audience"),
        ("by others", with("iss", json!("https://evil.test")), "another issuer"),
        ("for nobody", without("aud"), "lacks one of"),
        ("of nobody", without("iss"), "lacks one of"),
        ("for ever", without("exp"), "lacks one of"),
        ("without a player", without("sub"), "claims"),
        ("a player with spaces", with("sub", json!("ann bob")), "sub of the player token"),
        ("tampered", tampered, "signature"),
        (
            "another secret",
            {
                let other = EncodingKey::from_secret(b"another secret of thirty-two bytes!!");
                signed(&other, Algorithm::HS256, None, &claims("ann"))
            },
            "signature",
        ),
        (
            "another algorithm",
            { signed(&signing(Algorithm::EdDSA), Algorithm::EdDSA, None, &claims("ann")) },
            "algorithm that is not allowed",
        ),
    ];
    for (name, token, says) in cases {
        let call = open.call(Method::GET, "/v1/fleets/lobby/endpoint").bearer_auth(&token);
        let (_, code, message) = refusal(call).await;
        assert_eq!(code, Code::Unauthorized, "{name}: {message}");
        assert!(message.contains(says), "{name}: {message}");
        assert!(token.len() < 10 || !message.contains(&token), "{name}");
    }
    let (_, code, _) = refusal(open.call(Method::GET, "/v1/fleets/lobby/endpoint")).await;
    assert_eq!(code, Code::Unauthorized);
    let call =
        open.call(Method::GET, "/v1/fleets/lobby/endpoint").bearer_auth(with("exp", json!(now_s() - 5)));
    assert_eq!(call.send().await.unwrap().status(), StatusCode::OK, "clocks differ by some seconds");
}

/// Answers every request with what it holds, and counts.
struct Publisher {
    url: String,
    keys: Arc<std::sync::Mutex<String>>,
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Publisher {
    async fn start(keys: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let keys = Arc::new(std::sync::Mutex::new(keys.to_string()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (held, count) = (keys.clone(), asked.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4_096];
                let _read = stream.read(&mut head).await;
                count.fetch_add(1, Ordering::Relaxed);
                let body = held.lock().unwrap().clone();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _written = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, keys, asked, _task: task }
    }

    fn publish(&self, keys: &Value) {
        *self.keys.lock().unwrap() = keys.to_string();
    }
}

const PUBLIC: [LoginAlgorithm; 3] = [LoginAlgorithm::EdDsa, LoginAlgorithm::Es256, LoginAlgorithm::Rs256];

#[tokio::test]
async fn published_keys_of_every_kind_are_found_by_their_name_and_a_new_one_when_it_comes() {
    let ed = published(&signing(Algorithm::EdDSA), Algorithm::EdDSA, "ed");
    let set = json!({ "keys": [
        { "kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct", "alg": "HS256" },
        { "kty": "FUTURE", "kid": "x" },
        ed,
        published(&signing(Algorithm::ES256), Algorithm::ES256, "ec"),
        published(&signing(Algorithm::RS256), Algorithm::RS256, "rsa"),
    ]});
    let publisher = Publisher::start(&set).await;
    let open = Open::start(config(login(LoginKeys::Url(publisher.url.clone()), &PUBLIC))).await;
    let ask = async |token: &str| {
        let call = open.call(Method::GET, "/v1/fleets/lobby/endpoint").bearer_auth(token);
        call.send().await.unwrap().status().as_u16()
    };
    for (algorithm, kid) in [(Algorithm::EdDSA, "ed"), (Algorithm::ES256, "ec"), (Algorithm::RS256, "rsa")] {
        let with = |kid| signed(&signing(algorithm), algorithm, kid, &claims("ann"));
        assert_eq!(ask(&with(Some(kid))).await, 200, "{kid}");
        assert_eq!(ask(&with(None)).await, 200, "{kid}: without a name all of the kind are tried");
    }
    let wrong_kind = signed(&signing(Algorithm::EdDSA), Algorithm::EdDSA, Some("rsa"), &claims("ann"));
    assert_eq!(ask(&wrong_kind).await, 401);
    let confused = EncodingKey::from_secret(b"secret-secret-secret-secret-secret");
    assert_eq!(ask(&signed(&confused, Algorithm::HS256, Some("oct"), &claims("ann"))).await, 401);

    let before = publisher.asked.load(Ordering::Relaxed);
    publisher.publish(&json!({ "keys": [published(&next_key(), Algorithm::EdDSA, "next")] }));
    let next = signed(&next_key(), Algorithm::EdDSA, Some("next"), &claims("ann"));
    let mut unknown = 0;
    until("the new key is known", async || match ask(&next).await {
        200 => Some(()),
        _ => {
            unknown += 1;
            None
        }
    })
    .await;
    let old = signed(&signing(Algorithm::EdDSA), Algorithm::EdDSA, Some("ed"), &claims("ann"));
    assert_eq!(ask(&old).await, 401, "what is no longer published is no longer taken");
    let fetches = publisher.asked.load(Ordering::Relaxed) - before;
    assert!(fetches <= 2, "{unknown} tokens with unknown keys caused {fetches} fetches");
}

#[tokio::test]
async fn while_the_keys_cannot_be_had_players_are_told_to_come_again() {
    let nobody = format!("http://{}/jwks.json", free_address().await);
    let open = Open::start(config(login(LoginKeys::Url(nobody), &PUBLIC))).await;
    let token = signed(&signing(Algorithm::EdDSA), Algorithm::EdDSA, Some("ed"), &claims("ann"));
    let call = open.call(Method::GET, "/v1/fleets/lobby/endpoint").bearer_auth(token);
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let ErrorBody { error } = answer.json().await.unwrap();
    assert_eq!((error.code, error.retryable), (Code::LoginUnavailable, true));
}

#[tokio::test]
async fn keys_in_a_file_are_read_and_unusable_ones_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let set = json!({ "keys": [published(&signing(Algorithm::ES256), Algorithm::ES256, "ec")] });
    std::fs::write(&file, set.to_string()).unwrap();
    let open = Open::start(config(login(LoginKeys::File(file.clone()), &PUBLIC))).await;
    let token = signed(&signing(Algorithm::ES256), Algorithm::ES256, Some("ec"), &claims("ann"));
    let call = open.call(Method::GET, "/v1/fleets/lobby/endpoint").bearer_auth(token);
    assert_eq!(call.send().await.unwrap().status(), StatusCode::OK);

    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    let weak = LoginKeys::Shared(vec![Secret::new("short")]);
    let absent = LoginKeys::File(folder.path().join("absent"));
    for keys in [LoginKeys::File(file), absent, weak] {
        let mut control = ControlConfig::new(fleets());
        control.listen = "127.0.0.1:0".parse().unwrap();
        control.players = Some(config(login(keys, &[LoginAlgorithm::EdDsa])));
        let refused =
            run(control, Arc::new(MemoryStore::default()), CancellationToken::new()).await.unwrap_err();
        assert!(matches!(refused, RunError::Login(_)), "{refused}");
        assert!(!format!("{refused:?}").contains("\"short\""));
    }
    let shown = LoginError::Weak.to_string();
    assert!(shown.contains("32 bytes"), "{shown}");
}

#[tokio::test]
async fn who_calls_too_often_waits_and_others_do_not() {
    let mut slow = config(shared());
    slow.per_player = Rate { per_second: 1, burst: 3 };
    let open = Open::start(slow).await;
    let call = |player: &str| open.as_player(player, Method::GET, "/v1/fleets/lobby/endpoint");
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(call("ann").send().await.unwrap().status().as_u16());
    }
    assert!(statuses.starts_with(&[200, 200, 200]) && statuses.contains(&429), "{statuses:?}");
    let answer = until("ann is refused", async || {
        let answer = call("ann").send().await.unwrap();
        (answer.status().as_u16() == 429).then_some(answer)
    })
    .await;
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(wait, 1);
    let ErrorBody { error } = answer.json().await.unwrap();
    assert_eq!((error.code, error.retryable), (Code::TooMany, true));
    assert_eq!(call("bob").send().await.unwrap().status().as_u16(), 200);
    until("ann may call again", async || {
        (call("ann").send().await.unwrap().status().as_u16() == 200).then_some(())
    })
    .await;

    let mut slow = config(shared());
    slow.per_address = Rate { per_second: 1, burst: 2 };
    slow.proxies = 1;
    let open = Open::start(slow).await;
    let call = |address: &str| {
        open.call(Method::GET, "/v1/fleets/lobby/endpoint")
            .header("x-forwarded-for", address)
            .bearer_auth("bad")
    };
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(call("203.0.113.9").send().await.unwrap().status().as_u16());
    }
    assert!(statuses.starts_with(&[401, 401]) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(call("203.0.113.10").send().await.unwrap().status().as_u16(), 401);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_others_may_not() {
    let open = Open::start(config(shared())).await;
    let preflight = async |origin: &str| {
        let call = open
            .call(Method::OPTIONS, "/v1/fleets/hall/rooms")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key");
        let answer = call.send().await.unwrap();
        let allowed = answer.headers().get("access-control-allow-origin").cloned();
        allowed.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight("https://game.test").await.as_deref(), Some("https://game.test"));
    assert_eq!(preflight("https://evil.test").await, None);
    let answer = open
        .as_player("ann", Method::GET, "/v1/fleets/lobby/endpoint")
        .header("origin", "https://game.test")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://game.test");
    assert_eq!(answer.status(), StatusCode::OK);
    let live = open.call(Method::GET, "/livez").send().await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    let table: Value = open.call(Method::GET, "/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    assert!(table["paths"]["/v1/assignments"]["post"].is_object(), "{table}");
}
