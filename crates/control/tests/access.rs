//! Tokens and roles over a real listener: who is let in, who is told why not, and that no token is ever told.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use greenroom_client::{CallTimes, ClientError, ControlClient};
use greenroom_control::{AccessToken, ControlConfig, Role, RunError, TokenSource, run};
use greenroom_store::MemoryStore;
use greenroom_wire::error::{Code, ErrorBody};
use greenroom_wire::secret::Secret;
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use support::*;

const ROLES: [Role; 4] = [Role::Read, Role::Operate, Role::Admin, Role::Agent];

fn token(role: Role) -> String {
    format!("{role}-0123456789abcdef")
}

fn guarded() -> ControlConfig {
    let mut config = ControlConfig::new(fleets());
    config.tokens = ROLES
        .map(|role| AccessToken {
            name: format!("the-{role}"),
            role,
            source: TokenSource::Value(Secret::new(token(role))),
        })
        .to_vec();
    config
}

fn client(control: &Control, token: &str) -> ControlClient {
    let secret = Secret::new(token);
    ControlClient::with_token(control.client.base(), Some(&secret), CallTimes::default()).unwrap()
}

/// Method, path, body, and which of [`ROLES`] may.
#[rustfmt::skip]
const CALLS: &[(&str, &str, &str, [bool; 4])] = &[
    ("GET", "/v1/fleets", "", [true, true, true, false]),
    ("GET", "/v1/fleets/arena", "", [true, true, true, false]),
    ("GET", "/v1/gameservers", "", [true, true, true, false]),
    ("GET", "/v1/rooms", "", [true, true, true, false]),
    ("GET", "/v1/hosts", "", [true, true, true, false]),
    ("GET", "/v1/overview", "", [true, true, true, false]),
    ("HEAD", "/v1/overview", "", [true, true, true, false]),
    ("GET", "/v1/gameservers/nope/logs", "", [true, true, true, false]),
    ("GET", "/v1/fleets/lobby/endpoint", "", [false, true, true, false]),
    ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, [false, true, true, false]),
    ("POST", "/v1/fleets/arena/tickets", r#"{"owner":"o","tickets":[]}"#, [false, true, true, false]),
    ("POST", "/v1/assignments", r#"{"owner":"o","wait_ms":0}"#, [false, true, true, false]),
    ("DELETE", "/v1/tickets/nope", "", [false, true, true, false]),
    ("POST", "/v1/rooms/r-nope/finish", r#"{"epoch":1}"#, [false, true, true, false]),
    ("POST", "/v1/fleets/arena/restart", "", [false, false, true, false]),
    ("GET", "/v1/export?signing_keys=left_out", "", [false, false, true, false]),
    ("GET", "/v1/agents/stream", "", [false, false, true, true]),
    ("GET", "/v1/keys", "", [true, true, true, true]),
    ("GET", "/livez", "", [true, true, true, true]),
    ("GET", "/readyz", "", [true, true, true, true]),
];

#[tokio::test]
async fn each_role_may_do_what_it_is_for_and_is_told_what_the_rest_needs() {
    let control = Control::start(guarded(), Arc::new(MemoryStore::default())).await;
    let agent = FakeAgent::connect_as(control.address, "b1", BTreeMap::new(), &token(Role::Agent)).await;
    client(&control, &token(Role::Read)).fleets().await.unwrap();
    let http = reqwest::Client::new();
    for (method, path, body, may) in CALLS {
        for (role, may) in ROLES.into_iter().zip(may) {
            let url = format!("{}{path}", control.client.base());
            let call = http.request(method.parse().unwrap(), url).bearer_auth(token(role)).body(*body);
            let answer = call.send().await.unwrap();
            let status = answer.status().as_u16();
            assert_eq!(status != 403, *may, "{role} {method} {path}: {status}");
            assert_ne!(status, 401, "{role} {method} {path}");
            if status == 403 && *method != "HEAD" {
                let ErrorBody { error } = answer.json().await.unwrap();
                assert_eq!(error.code, Code::Forbidden);
                let message = error.message;
                assert!(
                    message.contains(&format!("the token \"the-{role}\" has the role {role}")),
                    "{message}"
                );
            }
        }
    }
    drop(agent);
}

#[tokio::test]
async fn without_a_known_token_only_what_is_open_answers() {
    let control = Control::start(guarded(), Arc::new(MemoryStore::default())).await;
    let http = reqwest::Client::new();
    let close = format!("{}x", token(Role::Admin));
    let cases = [
        (None, "needs a token"),
        (Some("Bearer wrong-wrong-wrong-wrong".to_owned()), "not known"),
        (Some(format!("Bearer {close}")), "not known"),
        (Some(format!("Bearer {}", &close[..5])), "not known"),
        (Some("Bearer ".to_owned()), "not `Bearer <token>`"),
        (Some(format!("Basic {}", token(Role::Admin))), "not `Bearer <token>`"),
        (Some(token(Role::Admin)), "not `Bearer <token>`"),
    ];
    for (header, says) in cases {
        for (method, path, _, may) in CALLS {
            let open = may.iter().all(|may| *may);
            let mut call = http.request(method.parse().unwrap(), format!("{}{path}", control.client.base()));
            if let Some(header) = &header {
                call = call.header("authorization", header);
            }
            let answer = call.send().await.unwrap();
            let status = answer.status().as_u16();
            assert_eq!(status != 401, open, "{header:?} {method} {path}: {status}");
            if status == 401 && *method != "HEAD" {
                assert_eq!(answer.headers()["www-authenticate"], "Bearer");
                let body = answer.text().await.unwrap();
                let ErrorBody { error } = serde_json::from_str(&body).unwrap();
                assert_eq!((error.code, error.retryable), (Code::Unauthorized, false));
                assert!(error.message.contains(says), "{header:?}: {body}");
                assert!(!body.contains("0123456789abcdef"), "{body}");
            }
        }
    }
    let nowhere = http.get(format!("{}/nowhere", control.client.base())).send().await.unwrap();
    assert_eq!(nowhere.status().as_u16(), 404);
}

#[tokio::test]
async fn any_host_name_is_answered_once_tokens_are_asked_for() {
    let control = Control::start(guarded(), Arc::new(MemoryStore::default())).await;
    let call = reqwest::Client::new()
        .get(format!("{}/v1/fleets", control.client.base()))
        .header("host", "control.internal.example")
        .bearer_auth(token(Role::Read));
    assert_eq!(call.send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn an_agent_without_its_token_is_refused_before_the_stream_opens() {
    let control = Control::start(guarded(), Arc::new(MemoryStore::default())).await;
    let url = format!("ws://{}/v1/agents/stream", control.address);
    let refused = tokio_tungstenite::connect_async(&url).await.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(answer) if answer.status() == 401), "{refused}");
    let agent = FakeAgent::connect_as(control.address, "b1", BTreeMap::new(), &token(Role::Admin)).await;
    let reader = client(&control, &token(Role::Read));
    until("the fleets are there", async || {
        let fleets = reader.fleets().await.unwrap().fleets;
        fleets.iter().all(|fleet| fleet.ready >= fleet.replicas_min).then_some(())
    })
    .await;
    let refused = reader.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { code: Code::Forbidden, .. }), "{refused}");
    let operator = client(&control, &token(Role::Operate));
    operator.allocate(&"arena".parse().unwrap(), &request(None, &["a"])).await.unwrap();
    drop(agent);
}

#[tokio::test]
async fn beyond_loopback_it_listens_with_tokens_only() {
    let store = Arc::new(MemoryStore::default());
    let stop = CancellationToken::new();
    let mut config = ControlConfig::new(fleets());
    config.listen = "0.0.0.0:0".parse().unwrap();
    let refused = run(config, store.clone(), stop.clone()).await.unwrap_err();
    let message = refused.to_string();
    assert!(message.contains("0.0.0.0:0") && message.contains("[[control.tokens]]"), "{message}");
    let mut config = guarded();
    config.listen = "0.0.0.0:0".parse().unwrap();
    stop.cancel();
    run(config, store.clone(), CancellationToken::clone(&stop)).await.unwrap();
    let mut config = guarded();
    config.listen = "127.0.0.1:0".parse().unwrap(); // somebody may run a Greenroom at the usual port
    config.tokens[0].source = TokenSource::Value(Secret::new("short"));
    let refused = run(config, store, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(refused, RunError::Token(_)), "{refused}");
    let told = format!("{:?} {:?}", refused, guarded());
    assert!(!told.contains("0123456789abcdef") && !told.contains("\"short\""), "{told}");
}
