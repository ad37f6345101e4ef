//! Which request is which word, and which answer is which body.
//!
//! Never reads more of a body than its bound.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use futures_util::stream;
use greenroom_core::{FleetName, RoomId, ServerName};
use greenroom_wire::Text;
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::sdk::{
    Count, Flag, KeyValue, Long, PeerList, Player, PlayerIds, Players, Refused, RoomOver, Span, Watched, path,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::send;
use crate::shell::Input;
use crate::supervisor::{SdkRefusal, SdkTold, SdkWho, SdkWord};

/// Longest body: a status with thousands of rooms fits.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest time for the whole of a request's body to arrive, and for its answer to be made.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the supervisor, and whose it is.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) inbox: mpsc::Sender<Input>,
    /// The server that this port belongs to; `None`: the path says who calls.
    pub(super) of: Option<ServerName>,
}

/// Who calls.
pub(super) struct Caller(SdkWho);

impl FromRequestParts<Way> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, way: &Way) -> Result<Self, Response> {
        if let Some(server) = &way.of {
            return Ok(Self(SdkWho::Port(server.clone())));
        }
        let said = Path::<ProcessPath>::from_request_parts(parts, way).await;
        let Path(ProcessPath { instance, secret }) = said.map_err(IntoResponse::into_response)?;
        Ok(Self(SdkWho::Process { instance, secret }))
    }
}

#[derive(Debug, serde::Deserialize)]
struct ProcessPath {
    instance: String,
    secret: String,
}

#[derive(Debug, serde::Deserialize)]
struct RoomPath {
    room: String,
}

#[derive(Debug, serde::Deserialize)]
struct PlayerPath {
    player: String,
}

/// All paths: below `/{instance}/{secret}`, or at the root of a server's own port.
pub(super) fn router(way: Way) -> Router {
    let root = if way.of.is_some() { "" } else { "/{instance}/{secret}" };
    let below = |path: &str| format!("{root}{path}");
    Router::new()
        .route(&below(path::ALLOCATE), post(allocate))
        .route(&below(path::RESERVE), post(reserve))
        .route(&below(path::ANNOTATION), put(annotation))
        .route(&below(path::PLAYER_CONNECT), post(player_connect))
        .route(&below(path::PLAYER_DISCONNECT), post(player_disconnect))
        .route(&below(path::PLAYER_CAPACITY), get(player_capacity).put(set_player_capacity))
        .route(&below(path::PLAYER_COUNT), get(player_count))
        .route(&below(path::PLAYERS), get(players))
        .route(&below(path::PLAYER), get(is_player))
        .route(&below("/v1beta1/{*which}"), any(counts_and_lists))
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
        .with_state(way)
}

/// A request whose body does not come must not hold its place. What is watched is answered in time, and goes on.
async fn in_time(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let answered = tokio::time::timeout(TIMEOUT, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = format!("the request was not there whole within {} s", TIMEOUT.as_secs());
        refused(StatusCode::REQUEST_TIMEOUT, 4, message)
    })
}

async fn ready(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::Ready).await
}

async fn health(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::Health).await
}

async fn allocate(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::Allocate).await
}

async fn reserve(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<Span>(body, r#"{"seconds":"30"}"#).await {
        Ok(Span { seconds: Long(seconds) }) => ask(&way, who, SdkWord::Reserve { seconds }).await,
        Err(refused) => refused,
    }
}

async fn annotation(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<KeyValue>(body, r#"{"key":"session","value":"seven"}"#).await {
        Ok(KeyValue { key: name, value }) => ask(&way, who, SdkWord::Annotation { name, value }).await,
        Err(refused) => refused,
    }
}

/// An example of a player, for refusals.
const PLAYER: &str = r#"{"playerID":"ann"}"#;

async fn player_connect(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<Player>(body, PLAYER).await {
        Ok(Player { id }) => ask(&way, who, SdkWord::PlayerConnect(id)).await,
        Err(refused) => refused,
    }
}

async fn player_disconnect(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<Player>(body, PLAYER).await {
        Ok(Player { id }) => ask(&way, who, SdkWord::PlayerDisconnect(id)).await,
        Err(refused) => refused,
    }
}

async fn set_player_capacity(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<Count>(body, r#"{"count":"10"}"#).await {
        Ok(Count { count: Long(capacity) }) => ask(&way, who, SdkWord::PlayersMax(capacity)).await,
        Err(refused) => refused,
    }
}

async fn player_capacity(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask_players(&way, who, |players| text(&Count { count: players.capacity })).await
}

async fn player_count(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask_players(&way, who, |players| text(&Count { count: players.count })).await
}

async fn players(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask_players(&way, who, |players| text(&PlayerIds { list: players.ids })).await
}

async fn is_player(
    State(way): State<Way>,
    Caller(who): Caller,
    Path(PlayerPath { player }): Path<PlayerPath>,
) -> Response {
    ask_players(&way, who, |players| text(&Flag { bool: players.ids.contains(&player) })).await
}

async fn counts_and_lists() -> Response {
    refused(StatusCode::NOT_IMPLEMENTED, 12, super::NO_COUNTERS)
}

async fn shutdown(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::Shutdown).await
}

async fn gameserver(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::GameServer).await
}

async fn keys(State(way): State<Way>, Caller(who): Caller) -> Response {
    ask(&way, who, SdkWord::Keys).await
}

async fn watch(State(way): State<Way>, Caller(who): Caller) -> Response {
    follow(&way, who, SdkWord::Watch).await
}

/// `?fleet=`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFleet {
    #[serde(default)]
    fleet: Option<Text<FleetName>>,
}

type OfWhich = Result<Query<OfFleet>, QueryRejection>;

async fn peers(State(way): State<Way>, Caller(who): Caller, of: OfWhich) -> Response {
    match of {
        Ok(Query(of)) => ask(&way, who, SdkWord::Peers { fleet: of.fleet.map(|fleet| fleet.0) }).await,
        Err(error) => malformed(&error),
    }
}

async fn watch_peers(State(way): State<Way>, Caller(who): Caller, of: OfWhich) -> Response {
    match of {
        Ok(Query(of)) => {
            follow(&way, who, SdkWord::WatchPeers { fleet: of.fleet.map(|fleet| fleet.0) }).await
        }
        Err(error) => malformed(&error),
    }
}

async fn label(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read::<KeyValue>(body, r#"{"key":"map","value":"desert"}"#).await {
        Ok(KeyValue { key: name, value }) => ask(&way, who, SdkWord::Label { name, value }).await,
        Err(refused) => refused,
    }
}

async fn status(State(way): State<Way>, Caller(who): Caller, body: Body) -> Response {
    match read(body, r#"{"connections":2,"rooms":[]}"#).await {
        Ok(status) => ask(&way, who, SdkWord::Status(status)).await,
        Err(refused) => refused,
    }
}

async fn room_ended(
    State(way): State<Way>,
    Caller(who): Caller,
    Path(RoomPath { room }): Path<RoomPath>,
    body: Body,
) -> Response {
    let room: RoomId = match room.parse() {
        Ok(room) => room,
        Err(error) => return malformed(&error),
    };
    match read::<RoomOver>(body, r#"{"epoch":1,"result":{"winner":"ann"}}"#).await {
        Ok(RoomOver { epoch, reason, result }) => {
            let ended = RoomEnded { room: room.into(), epoch, reason, result };
            ask(&way, who, SdkWord::RoomEnded(ended)).await
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

async fn ask(way: &Way, who: SdkWho, word: SdkWord) -> Response {
    asked(way, who, word).await.map_or_else(|refused| refused, |told| shown(&told))
}

/// What is answered, or the answer that refuses it.
async fn asked(way: &Way, who: SdkWho, word: SdkWord) -> Result<SdkTold, Response> {
    match send(&way.inbox, who, word).await.recv().await {
        Some(Ok(told)) => Ok(told),
        Some(Err(refusal)) => Err(refusing(&refusal)),
        None => Err(agent_ends()),
    }
}

/// The same of players.
async fn ask_players(way: &Way, who: SdkWho, show: impl FnOnce(Players) -> String) -> Response {
    let told = match asked(way, who, SdkWord::Players).await {
        Ok(told) => told,
        Err(refused) => return refused,
    };
    let SdkTold::Players(players) = told else {
        unreachable!("whoever asks for players is told of players");
    };
    json(show(players))
}

/// An answer of many lines, until the process or the agent is over.
async fn follow(way: &Way, who: SdkWho, word: SdkWord) -> Response {
    let mut answers = send(&way.inbox, who, word).await;
    let first = match answers.recv().await {
        Some(Ok(told)) => told,
        Some(Err(refusal)) => return refusing(&refusal),
        None => return agent_ends(),
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
        SdkTold::Done | SdkTold::Changed(_) | SdkTold::Players(_) | SdkTold::Keys(_) | SdkTold::Peers(_) => {
            unreachable!("nobody watches what is told once")
        }
    };
    Bytes::from(text)
}

fn shown(told: &SdkTold) -> Response {
    json(match told {
        SdkTold::Done => "{}".to_owned(),
        SdkTold::Changed(changed) => text(&Flag { bool: *changed }),
        SdkTold::GameServer(record) => text(record),
        SdkTold::Keys(keys) => text(keys),
        SdkTold::Players(players) => text(players),
        SdkTold::Peers(peers) => text(&PeerList { peers: peers.clone() }),
        SdkTold::PeerChanges(_) => unreachable!("changes are told to those who watch"),
    })
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn refusing(refusal: &SdkRefusal) -> Response {
    let status = match refusal {
        SdkRefusal::Stranger => StatusCode::UNAUTHORIZED,
        SdkRefusal::Over { .. } | SdkRefusal::Linked { .. } => StatusCode::CONFLICT,
        SdkRefusal::LabelName { .. }
        | SdkRefusal::LabelValue { .. }
        | SdkRefusal::AnnotationValue { .. }
        | SdkRefusal::Reserve { .. }
        | SdkRefusal::PlayerId { .. }
        | SdkRefusal::PlayersMax { .. } => StatusCode::BAD_REQUEST,
        SdkRefusal::Labels { .. } | SdkRefusal::Watches { .. } | SdkRefusal::PlayersFull { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        SdkRefusal::Peers { .. } => StatusCode::NOT_FOUND,
        SdkRefusal::Results | SdkRefusal::NoControl => StatusCode::SERVICE_UNAVAILABLE,
    };
    refused(status, super::code(refusal), refusal.to_string())
}

fn agent_ends() -> Response {
    refused(StatusCode::SERVICE_UNAVAILABLE, 14, super::AGENT_ENDS)
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
