//! One method per endpoint.
//!
//! Never interprets an answer: the bodies are those of `greenroom_wire::api`.

use std::path::Path;
use std::time::Duration;

use greenroom_core::{FleetName, RoomId, ServerName, TicketId};
use greenroom_tls::Tls;
use greenroom_wire::api::{
    AllocateRequest, Allocation, AssignmentsAnswer, AssignmentsRequest, AuditList, DecisionBody,
    DecisionList, DrainKind, DrainRequest, DrainStatus, DryRunRequest, EndpointAnswer, FinishRequest,
    FleetList, FleetStatus, GameserverList, GameserverStatus, HostList, LogsAnswer, Overview, Readiness,
    RestartAnswer, RoomList, RoomStatus, ScaleOrder, ScaleRequest, SloList, TicketCancelled,
    TicketStatusBody, TicketsAnswer, TicketsRequest, TriggerList,
};
use greenroom_wire::error::ErrorBody;
use greenroom_wire::export::SigningKeys;
use greenroom_wire::secret::Secret;
use greenroom_wire::token::PublicKeys;
use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, auth};

/// How long an unused connection is kept: less than the control plane keeps it.
const POOL_IDLE: Duration = Duration::from_secs(10);
/// How long an export may take beyond what any call may.
const EXPORT_WAIT: Duration = Duration::from_secs(55);
/// Most bytes of a strange answer that are told.
const TEXT_BYTES_MAX: usize = 200;

/// How long calls may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimes {
    /// To connect. Default 2 s.
    pub connect: Duration,
    /// For an answer, beyond what the call itself asks the control plane to wait. Default 5 s.
    pub answer: Duration,
}

impl Default for CallTimes {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), answer: Duration::from_secs(5) }
    }
}

/// Which rooms to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomsPage {
    /// Of one fleet only.
    pub fleet: Option<FleetName>,
    /// How many to leave out first.
    pub offset: usize,
    /// At most this many, 1 to 5,000; 500 without.
    pub limit: Option<usize>,
}

/// The control plane as its callers see it. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct ControlClient {
    http: reqwest::Client,
    base: String,
    times: CallTimes,
}

impl ControlClient {
    /// Calls the control plane at `base`, `http://127.0.0.1:8700` for one. Connects at the first call.
    ///
    /// # Errors
    /// When `base` is not an `http` or `https` URL.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Self::with_token(base, None, CallTimes::default())
    }

    /// The same with a token, sent with every call, and with other times.
    ///
    /// # Errors
    /// When `base` is not an `http` or `https` URL, or no header can carry the token.
    pub fn with_token(base: &str, token: Option<&Secret>, times: CallTimes) -> Result<Self, ClientError> {
        Self::with_ca(base, token, times, None)
    }

    /// The same with authorities, in a PEM file, by which an `https` control plane is known; with `None` those of the system.
    /// The file is read again when it has changed.
    ///
    /// # Errors
    /// As above, and when the file cannot be used.
    pub fn with_ca(
        base: &str,
        token: Option<&Secret>,
        times: CallTimes,
        ca: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let base = base.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&base).map_err(|_| ClientError::BadAddress(base.clone()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(ClientError::BadAddress(base));
        }
        // Another part of the process may have installed it before; either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .connect_timeout(times.connect)
            .pool_idle_timeout(POOL_IDLE)
            .default_headers(auth::headers(token)?)
            .redirect(reqwest::redirect::Policy::none());
        let tls = ca.map(|ca| Tls::open(None, Some(ca.to_owned()))).transpose();
        let dialling = tls.and_then(|tls| tls.as_ref().map(Tls::dialling).transpose());
        let http = match dialling.map_err(ClientError::Authorities)?.flatten() {
            Some(dialling) => http.tls_backend_preconfigured(dialling),
            None => http,
        };
        Ok(Self { http: http.build().map_err(ClientError::Setup)?, base, times })
    }

    /// The address called, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET /v1/fleets/{fleet}/endpoint`: where a player of a mesh fleet connects. Waits up to 10 s for a server.
    ///
    /// # Errors
    /// See [`ClientError`]; `no_capacity` when nothing answers.
    pub async fn endpoint(&self, fleet: &FleetName) -> Result<EndpointAnswer, ClientError> {
        let wait = Duration::from_secs(10);
        self.get_waiting(&format!("/v1/fleets/{fleet}/endpoint"), wait).await
    }

    /// `POST /v1/fleets/{fleet}/rooms`: a room with a seat for each player. Safe to repeat with an idempotency key.
    ///
    /// # Errors
    /// See [`ClientError`]; `room_full`, `no_capacity`, `idempotency_mismatch` among them.
    pub async fn allocate(
        &self,
        fleet: &FleetName,
        body: &AllocateRequest,
    ) -> Result<Allocation, ClientError> {
        let wait = Duration::from_millis(body.timeout_ms.unwrap_or(10_000));
        self.post(&format!("/v1/fleets/{fleet}/rooms"), body, wait).await
    }

    /// `POST /v1/fleets/{fleet}/scale`: a person's order on how many servers there are. Safe to repeat.
    ///
    /// # Errors
    /// See [`ClientError`]; `bad_request` for a number above the fleet's maximum or a time that is over.
    pub async fn scale(&self, fleet: &FleetName, body: &ScaleRequest) -> Result<ScaleOrder, ClientError> {
        self.post(&format!("/v1/fleets/{fleet}/scale"), body, Duration::ZERO).await
    }

    /// `POST /v1/hosts/{host}/drain` or `/v1/zones/{zone}/drain`: takes it out of use, or gives it back. Safe to repeat.
    ///
    /// # Errors
    /// See [`ClientError`]; `not_found` where there is no such host, `bad_request` for a name that is none.
    pub async fn drain(
        &self,
        kind: DrainKind,
        name: &str,
        body: &DrainRequest,
    ) -> Result<DrainStatus, ClientError> {
        let name: String = name.bytes().map(escaped).collect();
        self.post(&format!("/v1/{kind}s/{name}/drain"), body, Duration::ZERO).await
    }

    /// `GET /v1/fleets/{fleet}/decisions`: why the fleet has as many servers as it has, and its last `limit` changes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn decisions(&self, fleet: &FleetName, limit: usize) -> Result<DecisionList, ClientError> {
        self.get(&format!("/v1/fleets/{fleet}/decisions?limit={limit}")).await
    }

    /// `POST /v1/fleets/{fleet}/decisions/dry-run`: what these rules would decide now. Changes nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; `bad_request` for rules that mean nothing.
    pub async fn dry_run(
        &self,
        fleet: &FleetName,
        body: &DryRunRequest,
    ) -> Result<DecisionBody, ClientError> {
        self.post(&format!("/v1/fleets/{fleet}/decisions/dry-run"), body, Duration::ZERO).await
    }

    /// `POST /v1/fleets/{fleet}/tickets`. Safe to repeat.
    ///
    /// # Errors
    /// See [`ClientError`]; tickets refused one by one are in the answer.
    pub async fn file_tickets(
        &self,
        fleet: &FleetName,
        body: &TicketsRequest,
    ) -> Result<TicketsAnswer, ClientError> {
        self.post(&format!("/v1/fleets/{fleet}/tickets"), body, Duration::ZERO).await
    }

    /// `POST /v1/assignments`: waits for what there is to tell. Safe to repeat: what is not acknowledged comes again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assignments(&self, body: &AssignmentsRequest) -> Result<AssignmentsAnswer, ClientError> {
        let wait = Duration::from_millis(body.wait_ms.unwrap_or(20_000));
        self.post("/v1/assignments", body, wait).await
    }

    /// `GET /v1/tickets/{ticket}`, with what keeps it waiting.
    ///
    /// # Errors
    /// See [`ClientError`]; `ticket_not_found` when it was never filed, or plays for longer than its assignment is kept.
    pub async fn ticket(&self, ticket: &TicketId) -> Result<TicketStatusBody, ClientError> {
        let request = self.request(Method::GET, &format!("/v1/tickets/{ticket}"), Duration::ZERO);
        self.send(request).await
    }

    /// `DELETE /v1/tickets/{ticket}`.
    ///
    /// # Errors
    /// See [`ClientError`]; `ticket_not_found` when it was cancelled before.
    pub async fn cancel_ticket(&self, ticket: &TicketId) -> Result<TicketCancelled, ClientError> {
        let request = self.request(Method::DELETE, &format!("/v1/tickets/{ticket}"), Duration::ZERO);
        self.send(request).await
    }

    /// `POST /v1/rooms/{room}/finish`. Safe to repeat.
    ///
    /// # Errors
    /// See [`ClientError`]; `room_not_found` when it ended long ago or under another epoch.
    pub async fn finish(&self, room: &RoomId, body: &FinishRequest) -> Result<RoomStatus, ClientError> {
        self.post(&format!("/v1/rooms/{room}/finish"), body, Duration::ZERO).await
    }

    /// `GET /v1/fleets`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fleets(&self) -> Result<FleetList, ClientError> {
        self.get("/v1/fleets").await
    }

    /// `GET /v1/fleets/{fleet}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn fleet(&self, fleet: &FleetName) -> Result<FleetStatus, ClientError> {
        self.get(&format!("/v1/fleets/{fleet}")).await
    }

    /// `POST /v1/fleets/{fleet}/restart`: each server of the fleet gets a new process, on its port; rooms that are not kept end.
    ///
    /// # Errors
    /// See [`ClientError`]; `fleet_not_found` among them.
    pub async fn restart(&self, fleet: &FleetName) -> Result<RestartAnswer, ClientError> {
        self.send(self.request(Method::POST, &format!("/v1/fleets/{fleet}/restart"), Duration::ZERO)).await
    }

    /// `GET /v1/gameservers`, of one fleet or all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn gameservers(&self, fleet: Option<&FleetName>) -> Result<GameserverList, ClientError> {
        match fleet {
            Some(fleet) => self.get(&format!("/v1/gameservers?fleet={fleet}")).await,
            None => self.get("/v1/gameservers").await,
        }
    }

    /// `GET /v1/gameservers/{server}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn gameserver(&self, server: &ServerName) -> Result<GameserverStatus, ClientError> {
        self.get(&format!("/v1/gameservers/{server}")).await
    }

    /// `GET /v1/gameservers/{server}/logs`: from `offset`, or the end without; at most `bytes_max` (262,144; 65,536
    /// without).
    ///
    /// # Errors
    /// See [`ClientError`]; `host_suspect` when the agent does not answer.
    pub async fn logs(
        &self,
        server: &ServerName,
        offset: Option<u64>,
        bytes_max: Option<u32>,
    ) -> Result<LogsAnswer, ClientError> {
        let mut path = format!("/v1/gameservers/{server}/logs");
        let offset = offset.map(|offset| format!("offset={offset}"));
        let bytes_max = bytes_max.map(|bytes| format!("bytes_max={bytes}"));
        for (mark, part) in ["?", "&"].into_iter().zip(offset.into_iter().chain(bytes_max)) {
            path.push_str(mark);
            path.push_str(&part);
        }
        self.get_waiting(&path, Duration::from_secs(5)).await
    }

    /// `GET /v1/rooms`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rooms(&self, page: &RoomsPage) -> Result<RoomList, ClientError> {
        let mut path = format!("/v1/rooms?offset={}&limit={}", page.offset, page.limit.unwrap_or(500));
        if let Some(fleet) = &page.fleet {
            path.push_str(&format!("&fleet={fleet}"));
        }
        self.get(&path).await
    }

    /// `GET /v1/rooms/{room}`; an ended room is answered for 10 min.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn room(&self, room: &RoomId) -> Result<RoomStatus, ClientError> {
        self.get(&format!("/v1/rooms/{room}")).await
    }

    /// `GET /v1/hosts`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hosts(&self) -> Result<HostList, ClientError> {
        self.get("/v1/hosts").await
    }

    /// `GET /v1/overview`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.get("/v1/overview").await
    }

    /// `GET /v1/audit`: the newest `limit` (1 to 1,000) entries, below `before` if it is given.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<AuditList, ClientError> {
        let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
        self.get(&format!("/v1/audit?limit={limit}{before}")).await
    }

    /// `GET /v1/slos`: service level objectives, and how often they were kept.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn slos(&self) -> Result<SloList, ClientError> {
        self.get("/v1/slos").await
    }

    /// `GET /v1/triggers`: what is watched, and what was done about it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn triggers(&self) -> Result<TriggerList, ClientError> {
        self.get("/v1/triggers").await
    }

    /// `GET /v1/export`: all that is stored, as a file for `greenroom import`. May take a minute.
    ///
    /// # Errors
    /// See [`ClientError`]; the signing keys are refused to a caller without a token.
    pub async fn export(&self, signing_keys: SigningKeys) -> Result<Vec<u8>, ClientError> {
        let keys = match signing_keys {
            SigningKeys::Included => "included",
            SigningKeys::LeftOut => "left_out",
        };
        let path = format!("/v1/export?signing_keys={keys}");
        let (status, file) = self.raw(self.request(Method::GET, &path, EXPORT_WAIT)).await?;
        if (200..300).contains(&status) { Ok(file) } else { Err(self.refusal(status, &file)) }
    }

    /// `GET /v1/keys`: what join tokens are checked with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn keys(&self) -> Result<PublicKeys, ClientError> {
        self.get("/v1/keys").await
    }

    /// `GET /readyz`. Not being ready is an answer, not an error.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        let (status, bytes) = self.raw(self.request(Method::GET, "/readyz", Duration::ZERO)).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.refusal(status, &bytes))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_waiting(path, Duration::ZERO).await
    }

    async fn get_waiting<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, ClientError> {
        self.send(self.request(Method::GET, path, wait)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, ClientError> {
        self.send(self.request(Method::POST, path, wait).json(body)).await
    }

    fn request(&self, method: Method, path: &str, wait: Duration) -> RequestBuilder {
        // Names need no escaping: their letters are all allowed in a path and in a query.
        self.http.request(method, format!("{}{path}", self.base)).timeout(wait + self.times.answer)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let (status, bytes) = self.raw(request).await?;
        if !(200..300).contains(&status) {
            return Err(self.refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Unexpected {
            base: self.base.clone(),
            status,
            text: error.to_string(),
        })
    }

    async fn raw(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), ClientError> {
        let failed = |error: reqwest::Error| {
            let base = self.base.clone();
            if error.is_timeout() && !error.is_connect() {
                ClientError::TimedOut { base }
            } else if let Some(why) = greenroom_tls::cause(&error) {
                ClientError::Tls { base, why }
            } else {
                ClientError::Unreachable { base, source: error.without_url() }
            }
        };
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(failed)?;
        Ok((status, bytes.to_vec()))
    }

    fn refusal(&self, status: u16, bytes: &[u8]) -> ClientError {
        match serde_json::from_slice::<ErrorBody>(bytes) {
            Ok(ErrorBody { error }) => ClientError::Refused {
                status,
                code: error.code,
                message: error.message,
                retryable: error.retryable,
            },
            Err(_) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into_owned();
                ClientError::Unexpected { base: self.base.clone(), status, text }
            }
        }
    }
}

/// A byte of a name as it stands in a path.
fn escaped(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use greenroom_wire::error::Code;

    use super::*;

    #[test]
    fn an_address_that_cannot_be_called_is_refused_before_any_call() {
        for bad in ["", "localhost:8700", "ftp://localhost", "http://"] {
            assert!(matches!(ControlClient::new(bad), Err(ClientError::BadAddress(_))), "{bad:?}");
        }
        let base = ControlClient::new("http://127.0.0.1:8700/").unwrap();
        assert_eq!(base.base(), "http://127.0.0.1:8700");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_a_stranger_is_told_apart() {
        let client = ControlClient::new("http://127.0.0.1:1").unwrap();
        let body = serde_json::to_vec(&ErrorBody::new(Code::NoCapacity, "full")).unwrap();
        let refused = client.refusal(503, &body);
        assert_eq!((refused.code(), refused.is_retryable()), (Some(Code::NoCapacity), true));
        let stranger = client.refusal(502, b"<html>bad gateway");
        assert_eq!((stranger.code(), stranger.is_retryable()), (None, false));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_of_its_own_and_may_be_tried_again() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let client = ControlClient::new(&format!("http://{address}")).unwrap();
        let error = client.fleets().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
    }
}
