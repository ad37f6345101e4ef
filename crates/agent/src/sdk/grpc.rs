//! The Agones SDK over gRPC, on a server's own port: which call is which word, and which answer is which message.
//!
//! Never a word of its own: whatever is said here can be said over HTTP as well.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, post};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use greenroom_core::ServerName;
use greenroom_wire::sdk::{self as wire, Long, Players};
use prost::Message;
use tokio::sync::mpsc;
use tonic::server::{ClientStreamingService, Grpc, ServerStreamingService, UnaryService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::proto::{
    Bool, Count, Duration as Seconds, Empty, GameServer, Health, KeyValue, ObjectMeta, PlayerId,
    PlayerIdList, PlayerStatus, Port, Spec, Status as StatusNow,
};
use super::{AGENT_ENDS, NO_COUNTERS, Told, Way, code, send};
use crate::shell::Input;
use crate::supervisor::{SdkTold, SdkWho, SdkWord};

/// Longest message that is read.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Longest time for a call that is answered once. The stream of `Health` and a watch last as long as their process.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whose port it is, and the way to the supervisor.
#[derive(Debug, Clone)]
struct Face {
    inbox: mpsc::Sender<Input>,
    server: ServerName,
}

/// All calls of `agones.dev.sdk`, and those of `alpha`. Every call of `beta` is refused with what to use instead.
pub(super) fn router(way: Way, server: ServerName) -> Router {
    let sdk = |method: &str| format!("/agones.dev.sdk.SDK/{method}");
    let alpha = |method: &str| format!("/agones.dev.sdk.alpha.SDK/{method}");
    Router::new()
        .route(&sdk("Ready"), post(ready))
        .route(&sdk("Allocate"), post(allocate))
        .route(&sdk("Reserve"), post(reserve))
        .route(&sdk("Shutdown"), post(shutdown))
        .route(&sdk("Health"), post(health))
        .route(&sdk("GetGameServer"), post(gameserver))
        .route(&sdk("WatchGameServer"), post(watch))
        .route(&sdk("SetLabel"), post(label))
        .route(&sdk("SetAnnotation"), post(annotation))
        .route(&alpha("PlayerConnect"), post(player_connect))
        .route(&alpha("PlayerDisconnect"), post(player_disconnect))
        .route(&alpha("SetPlayerCapacity"), post(set_player_capacity))
        .route(&alpha("GetPlayerCapacity"), post(player_capacity))
        .route(&alpha("GetPlayerCount"), post(player_count))
        .route(&alpha("IsPlayerConnected"), post(is_player_connected))
        .route(&alpha("GetConnectedPlayers"), post(connected_players))
        .route("/agones.dev.sdk.beta.SDK/{method}", any(counts_and_lists))
        .with_state(Face { inbox: way.inbox, server })
}

impl Face {
    async fn send(&self, word: SdkWord) -> mpsc::Receiver<Told> {
        send(&self.inbox, SdkWho::Port(self.server.clone()), word).await
    }

    async fn ask(&self, word: SdkWord) -> Result<SdkTold, Status> {
        told(self.send(word).await.recv().await)
    }

    async fn done(&self, word: SdkWord) -> Result<Empty, Status> {
        self.ask(word).await.map(|_done| Empty {})
    }

    async fn changed(&self, word: SdkWord) -> Result<Bool, Status> {
        let told = self.ask(word).await?;
        Ok(Bool { bool: matches!(told, SdkTold::Changed(true)) })
    }

    /// The record now and at each change. What refuses it is told before the first one.
    async fn records(self) -> Result<Records, Status> {
        let mut answers = self.send(SdkWord::Watch).await;
        let first = told(answers.recv().await).map(record)?;
        let more = stream::unfold(answers, |mut answers| async move {
            let next = answers.recv().await?;
            Some((told(Some(next)).map(record), answers))
        });
        Ok(stream::iter([Ok(first)]).chain(more).boxed())
    }

    async fn players(&self) -> Result<Players, Status> {
        let SdkTold::Players(players) = self.ask(SdkWord::Players).await? else {
            unreachable!("whoever asks for players is told of players");
        };
        Ok(players)
    }
}

fn told(told: Option<Told>) -> Result<SdkTold, Status> {
    let told = told.ok_or_else(|| Status::unavailable(AGENT_ENDS))?;
    told.map_err(|refusal| {
        let code = i32::try_from(code(&refusal)).expect("codes of gRPC are small");
        Status::new(Code::from_i32(code), refusal.to_string())
    })
}

/// A function as a call, whatever its kind.
struct Call<F>(F);

impl<F, Fut, Q, A> UnaryService<Q> for Call<F>
where
    F: FnMut(Q) -> Fut,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        self.0(request.into_inner()).map(|answer| answer.map(tonic::Response::new)).boxed()
    }
}

/// The one call that is answered again and again.
struct Watching(Face);

type Records = BoxStream<'static, Result<GameServer, Status>>;

impl ServerStreamingService<Empty> for Watching {
    type Response = GameServer;
    type ResponseStream = Records;
    type Future = BoxFuture<'static, Result<tonic::Response<Records>, Status>>;

    fn call(&mut self, _: tonic::Request<Empty>) -> Self::Future {
        self.0.clone().records().map(|records| records.map(tonic::Response::new)).boxed()
    }
}

impl<F, Fut, Q, A> ClientStreamingService<Q> for Call<F>
where
    F: FnMut(Streaming<Q>) -> Fut,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Q>>) -> Self::Future {
        self.0(request.into_inner()).map(|answer| answer.map(tonic::Response::new)).boxed()
    }
}

fn speaks<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// One message in, one out, in time.
async fn unary<Q, A, Fut>(request: Request, serve: impl FnMut(Q) -> Fut) -> Response
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    match tokio::time::timeout(TIMEOUT, speaks::<Q, A>().unary(Call(serve), request)).await {
        Ok(answer) => answer.map(Body::new),
        Err(_late) => {
            let message = format!("the call was not there whole within {} s", TIMEOUT.as_secs());
            Status::deadline_exceeded(message).into_http()
        }
    }
}

/// A call that takes nothing and only tells.
async fn tell(face: Face, request: Request, word: SdkWord) -> Response {
    unary(request, move |Empty {}| {
        let (face, word) = (face.clone(), word.clone());
        async move { face.done(word).await }
    })
    .await
}

async fn ready(State(face): State<Face>, request: Request) -> Response {
    tell(face, request, SdkWord::Ready).await
}

async fn allocate(State(face): State<Face>, request: Request) -> Response {
    tell(face, request, SdkWord::Allocate).await
}

async fn shutdown(State(face): State<Face>, request: Request) -> Response {
    tell(face, request, SdkWord::Shutdown).await
}

async fn reserve(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |Seconds { seconds }| {
        let face = face.clone();
        async move {
            let below = |_| {
                Status::invalid_argument(format!("a reservation of {seconds} s is none; 0 is without an end"))
            };
            face.done(SdkWord::Reserve { seconds: u64::try_from(seconds).map_err(below)? }).await
        }
    })
    .await
}

async fn label(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |KeyValue { key: name, value }| {
        let face = face.clone();
        async move { face.done(SdkWord::Label { name, value }).await }
    })
    .await
}

async fn annotation(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |KeyValue { key: name, value }| {
        let face = face.clone();
        async move { face.done(SdkWord::Annotation { name, value }).await }
    })
    .await
}

/// Each message says that it lives. Answered when the caller ends the stream.
async fn health(State(face): State<Face>, request: Request) -> Response {
    let listen = move |mut words: Streaming<Empty>| {
        let face = face.clone();
        async move {
            while let Some(Empty {}) = words.message().await? {
                face.done(SdkWord::Health).await?;
            }
            Ok(Empty {})
        }
    };
    speaks::<Empty, Empty>().client_streaming(Call(listen), request).await.map(Body::new)
}

async fn gameserver(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |Empty {}| {
        let face = face.clone();
        async move { face.ask(SdkWord::GameServer).await.map(record) }
    })
    .await
}

async fn watch(State(face): State<Face>, request: Request) -> Response {
    speaks::<Empty, GameServer>().server_streaming(Watching(face), request).await.map(Body::new)
}

async fn player_connect(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |PlayerId { player_id }| {
        let face = face.clone();
        async move { face.changed(SdkWord::PlayerConnect(player_id)).await }
    })
    .await
}

async fn player_disconnect(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |PlayerId { player_id }| {
        let face = face.clone();
        async move { face.changed(SdkWord::PlayerDisconnect(player_id)).await }
    })
    .await
}

async fn set_player_capacity(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |Count { count }| {
        let face = face.clone();
        async move {
            let below = |_| Status::invalid_argument(format!("a capacity of {count} players is none"));
            face.done(SdkWord::PlayersMax(u64::try_from(count).map_err(below)?)).await
        }
    })
    .await
}

async fn player_capacity(State(face): State<Face>, request: Request) -> Response {
    players(face, request, |players| Count { count: number(players.capacity) }).await
}

async fn player_count(State(face): State<Face>, request: Request) -> Response {
    players(face, request, |players| Count { count: number(players.count) }).await
}

async fn connected_players(State(face): State<Face>, request: Request) -> Response {
    players(face, request, |players| PlayerIdList { list: players.ids }).await
}

async fn players<A>(face: Face, request: Request, show: fn(Players) -> A) -> Response
where
    A: Message + Send + 'static,
{
    unary(request, move |Empty {}| {
        let face = face.clone();
        async move { face.players().await.map(show) }
    })
    .await
}

async fn is_player_connected(State(face): State<Face>, request: Request) -> Response {
    unary(request, move |PlayerId { player_id }| {
        let face = face.clone();
        async move { Ok(Bool { bool: face.players().await?.ids.contains(&player_id) }) }
    })
    .await
}

async fn counts_and_lists() -> Response {
    Status::unimplemented(NO_COUNTERS).into_http()
}

fn number(Long(number): Long) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn record(told: SdkTold) -> GameServer {
    let SdkTold::GameServer(record) = told else {
        unreachable!("whoever asks for a record is told one, not {told:?}");
    };
    let wire::GameServer { object_meta: meta, spec: wire::Spec { health }, status } = *record;
    let small = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let port = |port: wire::Port| Port { name: port.name, port: port.port.into() };
    GameServer {
        object_meta: Some(ObjectMeta {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            generation: number(meta.generation),
            creation_timestamp: number(meta.creation_timestamp),
            deletion_timestamp: number(meta.deletion_timestamp),
            annotations: meta.annotations.into_iter().collect(),
            labels: meta.labels.into_iter().collect(),
        }),
        spec: Some(Spec {
            health: Some(Health {
                disabled: health.disabled,
                period_seconds: small(health.period_seconds),
                failure_threshold: small(health.failure_threshold),
                initial_delay_seconds: small(health.initial_delay_seconds),
            }),
        }),
        status: Some(StatusNow {
            state: status.state,
            address: status.address,
            ports: status.ports.into_iter().map(port).collect(),
            players: status.players.map(|players| PlayerStatus {
                count: number(players.count),
                capacity: number(players.capacity),
                ids: players.ids,
            }),
        }),
    }
}

#[cfg(test)]
mod tests;
