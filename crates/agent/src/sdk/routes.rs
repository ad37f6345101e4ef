//! Which request is which word, and which answer is which body.
//!
//! Never reads more of a body than its bound.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use futures_util::stream;
use greenroom_core::{FleetName, RoomId};
use greenroom_wire::Text;
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::sdk::{KeyValue, PeerList, Refused, RoomOver, Watched, path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::{ANSWERS_MAX, Asked, Told};
use crate::shell::Input;
use crate::supervisor::{SdkRefusal, SdkTold, SdkWho, SdkWord};

/// Longest body: a status with thousands of rooms fits.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest time for the whole of a request's body to arrive, and for its answer to be made.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the supervisor.
type Way = State<mpsc::Sender<Input>>;
type Who = Path<(String, String)>;

/// All paths, below `/{instance}/{secret}`.
pub(super) fn router(inbox: mpsc::Sender<Input>) -> Router {
    let below = |path: &str| format!("/{{instance}}/{{secret}}{path}");
    Router::new()
        .route(&below(path::READY), post(ready))
        .route(&below(path::HEALTH), post(health))
        .route(&below(path::SHUTDOWN), post(shutdown))
        .route(&below(path::GAMESERVER), get(gameserver))
        .route(&below(path::WATCH_GAMESERVER), get(watch))
        .route(&below(path::LABEL), put(label))
        .route(&below(path::STATUS), put(status))
        .route(&below(path::KEYS), get(keys))
        .route(&below(path::PEERS), get(peers))
        .route(&below(path::WATCH_PEERS), get(watch_peers))
        .route(&below(path::ROOM_ENDED), post(room_ended))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(in_time))
        .with_state(inbox)
}

/// A request whose body does not come must not hold its place. What is watched is answered in time, and goes on.
async fn in_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let answered = tokio::time::timeout(TIMEOUT, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = format!("the request was not there whole within {} s", TIMEOUT.as_secs());
        refused(StatusCode::REQUEST_TIMEOUT, 4, message)
    })
}

async fn ready(State(inbox): Way, Path(who): Who) -> Response {
    ask(&inbox, who, SdkWord::Ready).await
}

async fn health(State(inbox): Way, Path(who): Who) -> Response {
    ask(&inbox, who, SdkWord::Health).await
}

async fn shutdown(State(inbox): Way, Path(who): Who) -> Response {
    ask(&inbox, who, SdkWord::Shutdown).await
}

async fn gameserver(State(inbox): Way, Path(who): Who) -> Response {
    ask(&inbox, who, SdkWord::GameServer).await
}

async fn keys(State(inbox): Way, Path(who): Who) -> Response {
    ask(&inbox, who, SdkWord::Keys).await
}

async fn watch(State(inbox): Way, Path(who): Who) -> Response {
    follow(&inbox, who, SdkWord::Watch).await
}

/// `?fleet=`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFleet {
    #[serde(default)]
    fleet: Option<Text<FleetName>>,
}

type OfWhich = Result<Query<OfFleet>, QueryRejection>;

async fn peers(State(inbox): Way, Path(who): Who, of: OfWhich) -> Response {
    match of {
        Ok(Query(of)) => ask(&inbox, who, SdkWord::Peers { fleet: of.fleet.map(|fleet| fleet.0) }).await,
        Err(error) => malformed(&error),
    }
}

async fn watch_peers(State(inbox): Way, Path(who): Who, of: OfWhich) -> Response {
    match of {
        Ok(Query(of)) => {
            follow(&inbox, who, SdkWord::WatchPeers { fleet: of.fleet.map(|fleet| fleet.0) }).await
        }
        Err(error) => malformed(&error),
    }
}

async fn label(State(inbox): Way, Path(who): Who, body: Body) -> Response {
    match read::<KeyValue>(body, r#"{"key":"map","value":"desert"}"#).await {
        Ok(KeyValue { key: name, value }) => ask(&inbox, who, SdkWord::Label { name, value }).await,
        Err(refused) => refused,
    }
}

async fn status(State(inbox): Way, Path(who): Who, body: Body) -> Response {
    match read(body, r#"{"connections":2,"rooms":[]}"#).await {
        Ok(status) => ask(&inbox, who, SdkWord::Status(status)).await,
        Err(refused) => refused,
    }
}

async fn room_ended(
    State(inbox): Way,
    Path((instance, secret, room)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    let room: RoomId = match room.parse() {
        Ok(room) => room,
        Err(error) => return malformed(&error),
    };
    match read::<RoomOver>(body, r#"{"epoch":1,"result":{"winner":"ann"}}"#).await {
        Ok(RoomOver { epoch, reason, result }) => {
            let ended = RoomEnded { room: room.into(), epoch, reason, result };
            ask(&inbox, (instance, secret), SdkWord::RoomEnded(ended)).await
        }
        Err(refused) => refused,
    }
}

async fn nowhere(uri: axum::http::Uri) -> Response {
    // The path may have a secret.
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    refused(StatusCode::NOT_FOUND, 12, format!("there is no such call of the sdk: /{last}"))
}

async fn wrong_method() -> Response {
    refused(StatusCode::METHOD_NOT_ALLOWED, 12, "this call of the sdk has another method")
}

/// JSON, whatever the header says of it: so `curl -d` will do. The answer shows `example` where it is not understood.
async fn read<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Response> {
    let whole = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let message = format!("the body is longer than {BODY_BYTES_MAX} bytes, or it broke off");
        refused(StatusCode::PAYLOAD_TOO_LARGE, 8, message)
    })?;
    let told = |error| malformed(&format!("the body is not understood: {error}; send for example {example}"));
    serde_json::from_slice(&whole).map_err(told)
}

async fn ask(inbox: &mpsc::Sender<Input>, who: (String, String), word: SdkWord) -> Response {
    match send(inbox, who, word).await.recv().await {
        Some(told) => shown(told),
        None => refused(StatusCode::SERVICE_UNAVAILABLE, 14, "the agent ends; call again in a while"),
    }
}

async fn send(
    inbox: &mpsc::Sender<Input>,
    (instance, secret): (String, String),
    word: SdkWord,
) -> mpsc::Receiver<Told> {
    let (answer, answers) = mpsc::channel(ANSWERS_MAX);
    let asked = Asked { who: SdkWho { instance, secret }, word, answer };
    // Without a receiver the channel of answers is closed, which the caller is told.
    let _ = inbox.send(Input::Sdk(asked)).await;
    answers
}

/// An answer of many lines, until the process or the agent is over.
async fn follow(inbox: &mpsc::Sender<Input>, who: (String, String), word: SdkWord) -> Response {
    let mut answers = send(inbox, who, word).await;
    let first = match answers.recv().await {
        Some(Ok(told)) => told,
        Some(Err(refusal)) => return shown(Err(refusal)),
        None => return refused(StatusCode::SERVICE_UNAVAILABLE, 14, "the agent ends; call again in a while"),
    };
    let lines = stream::unfold((Some(first), answers), |(told, mut answers)| async move {
        let told = match told {
            Some(told) => told,
            None => answers.recv().await?.ok()?,
        };
        Some((Ok::<_, Infallible>(line(&told)), (None, answers)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response()
}

fn one_line(result: &impl Serialize) -> String {
    text(&Watched { result }) + "\n"
}

fn line(told: &SdkTold) -> Bytes {
    let text = match told {
        SdkTold::GameServer(record) => one_line(record),
        SdkTold::PeerChanges(changes) => changes.iter().map(one_line).collect(),
        SdkTold::Done | SdkTold::Keys(_) | SdkTold::Peers(_) => {
            unreachable!("nobody watches what is told once")
        }
    };
    Bytes::from(text)
}

fn shown(told: Told) -> Response {
    let body = match told {
        Ok(SdkTold::Done) => "{}".to_owned(),
        Ok(SdkTold::GameServer(record)) => text(&record),
        Ok(SdkTold::Keys(keys)) => text(&keys),
        Ok(SdkTold::Peers(peers)) => text(&PeerList { peers }),
        Ok(SdkTold::PeerChanges(_)) => unreachable!("changes are told to those who watch"),
        Err(refusal) => {
            let (status, code) = match refusal {
                SdkRefusal::Stranger => (StatusCode::UNAUTHORIZED, 16),
                SdkRefusal::Over { .. } | SdkRefusal::Linked { .. } => (StatusCode::CONFLICT, 9),
                SdkRefusal::LabelName { .. } | SdkRefusal::LabelValue { .. } => (StatusCode::BAD_REQUEST, 3),
                SdkRefusal::Labels { .. } | SdkRefusal::Watches { .. } => (StatusCode::TOO_MANY_REQUESTS, 8),
                SdkRefusal::Peers { .. } => (StatusCode::NOT_FOUND, 5),
                SdkRefusal::Results | SdkRefusal::NoControl => (StatusCode::SERVICE_UNAVAILABLE, 14),
            };
            return refused(status, code, refusal.to_string());
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn malformed(error: &impl ToString) -> Response {
    refused(StatusCode::BAD_REQUEST, 3, error.to_string())
}

fn refused(status: StatusCode, code: u32, message: impl Into<String>) -> Response {
    let body = text(&Refused { code, message: message.into(), details: Vec::new() });
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("a wire body has only string keys")
}
