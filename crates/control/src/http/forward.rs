//! Calls at a replica that does not lead: passed on to the one that does; answered from what is stored or seen here when that
//! one is not reached; else held while nobody leads.
//!
//! Never does a call twice that may not be done twice: what reads, and what has a key of its own, is asked again when its
//! answer was lost with the leader; a new room without any key gets one here for that; the rest is refused and says so.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use greenroom_tls::Tls;
use greenroom_wire::error::Code;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::error::{ApiError, Lost};
use super::pulse::Pulse;
use super::seldom::Seldom;
use super::standing::{Reader, Search};
use super::{CALL_TIMEOUT, Face};
use crate::config::ReplicaConfig;
use crate::office::{Leader, Leading, Office};
use crate::run::RunError;
use crate::world::Call;

/// Names the replica that passed a call on. One that does not lead refuses such a call, so that none goes in circles.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-greenroom-forwarded-by");
/// On the refusal of a replica that does not lead.
const NOT_LEADER: HeaderName = HeaderName::from_static("x-greenroom-not-leader");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Largest body that is passed on, in bytes; no call takes a larger one.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Largest answer that is passed on, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest time between two looks while nobody leads.
const LOOK: Duration = Duration::from_millis(100);
/// After so long without an answer of the leader the store is looked at too: it may be frozen, or cut off.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long it may take to reach the leader.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Paths that each replica answers itself.
const OWN: [&str; 4] = ["/livez", "/readyz", "/v1/openapi.json", "/v1/agents/stream"];

/// The way to the other replicas.
pub(crate) struct Peers {
    pub(super) config: ReplicaConfig,
    http: reqwest::Client,
    reader: Reader,
    pulse: Pulse,
    faults_told: Seldom,
}

impl Peers {
    /// With `tls` it shows the certificate of this replica and checks the leader's.
    pub(super) fn new(
        config: ReplicaConfig,
        tls: Option<&Arc<Tls>>,
        reader: Reader,
    ) -> Result<Self, RunError> {
        // Another part of the process may have installed it before; either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let http = match tls.map(Tls::dialling).transpose()?.flatten() {
            Some(dialling) => http.tls_backend_preconfigured(dialling),
            None => http,
        };
        Ok(Self {
            config,
            http: http.build().map_err(RunError::Peers)?,
            reader,
            pulse: Pulse::default(),
            faults_told: Seldom::default(),
        })
    }

    /// TLS with the leader fails: a person must look at the certificates.
    fn tell(&self, leader: &Leader, why: &str) {
        if self.faults_told.is_due() {
            warn!(leader = %leader.name, url = %leader.url, error = why, "the leader cannot be asked over TLS");
        }
    }
}

/// A call as it is passed on.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Asked {
    /// Whether it may be asked again when its answer was lost.
    fn is_repeatable(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        // The next leader knows a room no more that the former one had ended.
        self.method != Method::POST
            || !["/restart", "/scale", "/finish"].iter().any(|end| path.ends_with(end))
    }
}

/// What became of a call that was passed on.
enum Sent {
    Answer(Response),
    /// Nothing was done.
    Untouched,
    /// The leader was lost on the way.
    Unknown,
}

/// Lets calls through where this replica leads, and passes them on where another does.
pub(crate) async fn forward(State(face): State<Arc<Face>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(peers) = face.peers.as_ref().filter(|_| path.is_some_and(|path| !OWN.contains(&path))) else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        let message = format!("the body is larger than {BODY_BYTES_MAX} bytes, or broke off");
        return ApiError::new(Code::TooLarge, message).into_response();
    };
    if let Err(error) = give_key(&mut parts, &body) {
        return error.into_response();
    }
    let was_forwarded = parts.headers.contains_key(FORWARDED);
    let asked = Asked {
        method: parts.method.clone(),
        path: path_of(&parts.uri),
        headers: passed_on(&parts.headers),
        body: body.clone(),
    };
    let here = || next.clone().run(again(&parts, &body));
    if was_forwarded {
        let response = here().await;
        return if response.extensions().get::<Lost>().is_some() { not_leader() } else { response };
    }
    hold(&face.office, peers, &asked, here).await
}

/// The same for a call that came over the listener for players.
pub(super) async fn ask(face: &Face, peers: &Peers, call: &Call) -> Response {
    let Some((method, path, body)) = in_words(call) else {
        return ApiError::internal("a call of a player cannot be passed on").into_response();
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = &peers.config.token
        && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.expose()))
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let asked = Asked { method, path, headers, body: body.into() };
    let here = async || match face.ask(call.clone()).await {
        Ok((answer, desk)) => desk.body(answer).await.into_response(),
        Err(error) => error.into_response(),
    };
    hold(&face.office, peers, &asked, here).await
}

/// What players can ask for, in the words of the control listener.
fn in_words(call: &Call) -> Option<(Method, String, Vec<u8>)> {
    let json = |body: Result<Vec<u8>, serde_json::Error>| body.expect("bodies have text keys only");
    #[expect(clippy::wildcard_enum_match_arm, reason = "players have no other calls")]
    match call {
        Call::Endpoint { fleet, select: None } => {
            Some((Method::GET, format!("/v1/fleets/{fleet}/endpoint"), Vec::new()))
        }
        Call::Allocate { fleet, body } => {
            Some((Method::POST, format!("/v1/fleets/{fleet}/rooms"), json(serde_json::to_vec(body))))
        }
        Call::FileTickets { fleet, body } => {
            Some((Method::POST, format!("/v1/fleets/{fleet}/tickets"), json(serde_json::to_vec(body))))
        }
        Call::Assignments(body) => {
            Some((Method::POST, "/v1/assignments".to_owned(), json(serde_json::to_vec(body))))
        }
        Call::Ticket { ticket, why: false } => {
            Some((Method::GET, format!("/v1/tickets/{ticket}?why=left_out"), Vec::new()))
        }
        Call::CancelTicket(ticket) => Some((Method::DELETE, format!("/v1/tickets/{ticket}"), Vec::new())),
        _ => None,
    }
}

/// Until there is an answer, from whoever leads or from the store, or nobody has led for as long as a call is held.
async fn hold<F: Future<Output = Response>>(
    office: &Office,
    peers: &Peers,
    asked: &Asked,
    here: impl Fn() -> F,
) -> Response {
    let mut leading = office.leading();
    let mut until = Instant::now() + peers.config.hold;
    let mut search = peers.reader.search(asked);
    loop {
        let now = leading.borrow_and_update().clone();
        let is_lost = match now {
            Leading::Nobody(_) => false,
            Leading::Ourselves(_) => {
                let response = here().await;
                if response.extensions().get::<Lost>().is_none() {
                    return response;
                }
                true
            }
            Leading::Another(leader) => match pass_on(peers, &mut leading, &leader, asked, &mut search).await
            {
                Sent::Answer(response) => return response,
                Sent::Untouched => false,
                Sent::Unknown => true,
            },
        };
        tokio::select! {
            stored = search.answer() => if let Some(response) = stored { return response },
            _anew = leading.changed() => {}
        }
        if is_lost {
            if !asked.is_repeatable() {
                let message =
                    "the leader was lost while it did this; look what became of it before you call again";
                return ApiError::new(Code::Rebuilding, message).into_response();
            }
            until = Instant::now() + peers.config.hold;
        }
        if Instant::now() >= until {
            return super::no_leader().into_response();
        }
        // A leader that is not reached may be told of by the lease for a while yet.
        let _awaited = office.awaits_leader();
        let _looked = tokio::time::timeout(LOOK, leading.changed()).await;
    }
}

async fn pass_on(
    peers: &Peers,
    leading: &mut watch::Receiver<Leading>,
    leader: &Leader,
    asked: &Asked,
    search: &mut Search<'_>,
) -> Sent {
    let url = format!("{}{}", leader.url.trim_end_matches('/'), asked.path);
    let mut headers = asked.headers.clone();
    if let Ok(name) = HeaderValue::from_str(&peers.config.name) {
        headers.insert(FORWARDED, name);
    }
    let asking = peers.http.request(asked.method.clone(), url).headers(headers).body(asked.body.clone());
    let answering = async {
        let answer = asking.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
    };
    let stored = async {
        loop {
            tokio::time::sleep(PATIENCE).await;
            let is_of_sight = search.is_of_sight();
            // A leader that is there and lets the call wait knows more than can be seen.
            if is_of_sight && peers.pulse.beats(&peers.http, leader).await {
                continue;
            }
            let answer = search.answer().await;
            if answer.is_some() || !is_of_sight {
                return answer;
            }
        }
    };
    let outcome = tokio::select! {
        outcome = answering => outcome,
        Some(response) = stored => return Sent::Answer(response),
        // Frozen or cut off it will not answer, but another one will.
        () = replaced(leading, leader), if asked.is_repeatable() => return Sent::Unknown,
    };
    match outcome {
        Ok((_, headers, _)) if headers.contains_key(NOT_LEADER) => Sent::Untouched,
        Ok((status, headers, body)) if body.len() <= ANSWER_BYTES_MAX => {
            let mut response = (status, Body::from(body)).into_response();
            for name in [header::CONTENT_TYPE, header::CACHE_CONTROL, header::RETRY_AFTER] {
                if let Some(value) = headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            Sent::Answer(response)
        }
        Ok(_) => Sent::Answer(ApiError::internal("the leader's answer is too large").into_response()),
        Err(error) if error.is_connect() || greenroom_tls::refusal(&error).is_some() => {
            if let Some(why) = greenroom_tls::cause(&error) {
                peers.tell(leader, &why);
            }
            Sent::Untouched
        }
        Err(error) => {
            debug!(error = %error.without_url(), leader = %leader.name, "the leader was lost during a call");
            Sent::Unknown
        }
    }
}

/// Until somebody else leads.
async fn replaced(leading: &mut watch::Receiver<Leading>, leader: &Leader) {
    loop {
        match &*leading.borrow_and_update() {
            Leading::Another(other) if other == leader => {}
            // Nobody for now: it may yet renew its lease.
            Leading::Nobody(_) => {}
            Leading::Another(_) | Leading::Ourselves(_) => return,
        }
        if leading.changed().await.is_err() {
            return;
        }
    }
}

/// The refusal of a replica to which a call was passed on by mistake.
fn not_leader() -> Response {
    let mut response = super::no_leader().into_response();
    response.headers_mut().insert(NOT_LEADER, HeaderValue::from_static("1"));
    response
}

fn again(parts: &Parts, body: &Bytes) -> Request {
    let mut request = Request::new(Body::from(body.clone()));
    request.method_mut().clone_from(&parts.method);
    request.uri_mut().clone_from(&parts.uri);
    request.headers_mut().clone_from(&parts.headers);
    request.extensions_mut().clone_from(&parts.extensions);
    request
}

fn path_of(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string)
}

/// What the leader must know of the caller.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let names = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, IDEMPOTENCY_KEY];
    names.into_iter().filter_map(|name| Some((name.clone(), headers.get(&name)?.clone()))).collect()
}

/// A new room without a key would be a second one when it is asked for again.
fn give_key(parts: &mut Parts, body: &[u8]) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Keys {
        key: Option<IgnoredAny>,
        idempotency_key: Option<IgnoredAny>,
    }
    let is_room = parts.method == Method::POST && parts.uri.path().ends_with("/rooms");
    if !is_room || parts.headers.contains_key(IDEMPOTENCY_KEY) {
        return Ok(());
    }
    // What is no JSON is refused where it is read.
    let Ok(Keys { key: None, idempotency_key: None }) = serde_json::from_slice(body) else { return Ok(()) };
    let random = || getrandom::u64().map_err(|_| ApiError::internal("the system gave no random bytes"));
    let key = format!("replica-{:016x}{:016x}", random()?, random()?);
    parts.headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(key).expect("hex digits are ASCII"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_room_without_any_key_gets_one_so_that_it_can_be_asked_for_again() {
        let cases = [
            ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, None, true),
            ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"key":null}"#, None, true),
            ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"key":"k"}"#, None, false),
            ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"],"idempotency_key":"k"}"#, None, false),
            ("POST", "/v1/fleets/arena/rooms", r#"{"players":["a"]}"#, Some("mine"), false),
            ("POST", "/v1/fleets/arena/rooms", "no JSON", None, false),
            ("POST", "/v1/fleets/arena/tickets", r#"{"tickets":[]}"#, None, false),
            ("GET", "/v1/rooms", "", None, false),
        ];
        for (method, path, body, own, is_given) in cases {
            let mut request = axum::http::Request::builder().method(method).uri(path);
            if let Some(own) = own {
                request = request.header(IDEMPOTENCY_KEY, own);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            give_key(&mut parts, body.as_bytes()).unwrap();
            let key = parts.headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().unwrap());
            assert_eq!(
                key.is_some_and(|key| key.starts_with("replica-")),
                is_given,
                "{method} {path} {body}"
            );
            assert!(own.is_none() || key == own);
        }
    }

    #[test]
    fn only_orders_that_would_have_a_second_effect_are_not_repeated() {
        let cases = [
            ("GET", "/v1/rooms?limit=5", true),
            ("POST", "/v1/fleets/arena/rooms", true),
            ("POST", "/v1/rooms/r1/finish", false),
            ("DELETE", "/v1/tickets/t1", true),
            ("POST", "/v1/fleets/arena/restart", false),
            ("POST", "/v1/fleets/arena/scale?x=1", false),
        ];
        for (method, path, is_repeatable) in cases {
            let asked = Asked {
                method: method.parse().unwrap(),
                path: path.to_owned(),
                headers: HeaderMap::new(),
                body: Bytes::new(),
            };
            assert_eq!(asked.is_repeatable(), is_repeatable, "{method} {path}");
        }
    }
}
