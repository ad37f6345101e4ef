//! The calls to what a task can ask of itself: its metadata, and those of the instance it is on.
//!
//! Never decides where players dial: that is `place`.

use std::ops::RangeInclusive;
use std::time::Duration;

use greenroom_agent::place::Place;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::keeper::Keeper;
use crate::metadata::{Container, Instance, Task};
use crate::place::{AddressFrom, PlaceError, place, wants_instance};

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(2);
/// How long is asked again for what is not there yet: a container may run before ECS knows its ports.
const FIND: Duration = Duration::from_secs(15);
/// Pause before that.
const FIND_AGAIN: Duration = Duration::from_millis(500);
/// Longest document.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long the instance's metadata may be asked with one token.
const TOKEN_SECONDS: &str = "60";
const TOKEN_SECONDS_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";

/// Where a task asks. All are plain HTTP, inside the task or one step from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `ECS_CONTAINER_METADATA_URI_V4`.
    pub metadata: String,
    /// The instance's metadata service: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or else `http://169.254.169.254`.
    pub instance: String,
}

/// What a task says of itself.
#[derive(Debug, Clone)]
pub struct Tasks {
    http: reqwest::Client,
    endpoints: Endpoints,
}

/// A task, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is called in its cluster: 32 hexadecimal digits.
    pub task: String,
    /// Where players reach it.
    pub place: Place,
}

/// Why an agent does not know where it is. Mend it; ECS starts the task again.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No client can be made.
    #[error("no HTTP client can be made")]
    Setup(#[source] reqwest::Error),
    /// A document did not come.
    #[error("{what} cannot be read at {url}: {why}")]
    Unread {
        /// Which.
        what: &'static str,
        /// Where.
        url: String,
        /// What happened, and what helps.
        why: String,
    },
    /// Players cannot reach the task.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl TaskError {
    /// Whether the same question may be answered a moment later.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Unread { .. } => true,
            Self::Place(why) => matches!(why, PlaceError::NotBound { .. } | PlaceError::NoPortsTold { .. }),
            Self::Setup(_) => false,
        }
    }
}

/// A client for endpoints inside the task: no proxy leads there, and none of them sends anybody elsewhere.
fn client() -> Result<reqwest::Client, TaskError> {
    // Another part of the process may have installed it before; either is the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    client.build().map_err(TaskError::Setup)
}

impl Tasks {
    /// The task whose endpoints these are. Calls nobody yet.
    ///
    /// # Errors
    /// [`TaskError::Setup`].
    pub fn at(endpoints: Endpoints) -> Result<Self, TaskError> {
        Ok(Self { http: client()?, endpoints })
    }

    /// Whoever keeps the task, over `agent_uri`, which is `ECS_AGENT_URI`.
    #[must_use]
    pub fn keeper(&self, agent_uri: &str, task: &str) -> Keeper {
        Keeper::new(self.http.clone(), agent_uri, task)
    }

    /// Where the task is. See [`place`]. What is not there yet is asked for again, for 15 s; the instance is asked only where it
    /// is needed.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub async fn find(&self, from: &AddressFrom, ports: &RangeInclusive<u16>) -> Result<Found, TaskError> {
        let until = Instant::now() + FIND;
        loop {
            match self.look(from, ports).await {
                Err(error) if error.may_pass() && Instant::now() < until => {
                    tracing::debug!(%error, "asked again where this task is");
                }
                outcome => return outcome,
            }
            tokio::time::sleep(FIND_AGAIN).await;
        }
    }

    async fn look(&self, from: &AddressFrom, ports: &RangeInclusive<u16>) -> Result<Found, TaskError> {
        let metadata = self.endpoints.metadata.trim_end_matches('/');
        let task: Task = self.document("the task's metadata", format!("{metadata}/task")).await?;
        let container: Container = self.document("the container's metadata", metadata.to_owned()).await?;
        let instance = match wants_instance(&container, from) {
            true => self.instance().await?,
            false => Instance::default(),
        };
        let place = place(&task, &container, &instance, from, ports)?;
        Ok(Found { task: task.id().to_owned(), place })
    }

    async fn document<T: DeserializeOwned>(&self, what: &'static str, url: String) -> Result<T, TaskError> {
        let unread = |why| TaskError::Unread { what, url: url.clone(), why };
        let (status, body) = call(self.http.get(&url), CALL).await.map_err(unread)?;
        if !status.is_success() {
            return Err(unread(format!("it answers {status}")));
        }
        serde_json::from_slice(&body).map_err(|error| unread(error.to_string()))
    }

    /// By version 2 of its protocol alone: version 1 is switched off on instances that are well kept.
    async fn instance(&self) -> Result<Instance, TaskError> {
        let base = self.endpoints.instance.trim_end_matches('/');
        let url = format!("{base}/latest/api/token");
        let unread = |url: &str, why: String| {
            let what = "the instance's metadata";
            let hint = "the instance must have its metadata service on, in bridge mode with a hop limit of 2; or set [host] public_host to a name without {ip}";
            TaskError::Unread { what, url: url.to_owned(), why: format!("{why}; {hint}") }
        };
        let ask = self.http.request(Method::PUT, &url).header(TOKEN_SECONDS_HEADER, TOKEN_SECONDS);
        let (status, token) = call(ask, CALL).await.map_err(|why| unread(&url, why))?;
        if !status.is_success() {
            return Err(unread(&url, format!("it answers {status}")));
        }
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        let mut said = [const { String::new() }; 3];
        for (said, item) in said.iter_mut().zip(["public-hostname", "public-ipv4", "local-ipv4"]) {
            let url = format!("{base}/latest/meta-data/{item}");
            let ask = self.http.get(&url).header(TOKEN_HEADER, &token);
            let (status, body) = call(ask, CALL).await.map_err(|why| unread(&url, why))?;
            *said = match status {
                // An instance without one has no such item.
                StatusCode::NOT_FOUND => String::new(),
                status if status.is_success() => String::from_utf8_lossy(&body).trim().to_owned(),
                status => return Err(unread(&url, format!("it answers {status}"))),
            };
        }
        let [public_name, public_address, own_address] = said;
        Ok(Instance { public_name, public_address, own_address })
    }
}

/// Status and body, or what went wrong.
pub(crate) async fn call(ask: RequestBuilder, within: Duration) -> Result<(StatusCode, Vec<u8>), String> {
    let call = async {
        let mut response = ask.send().await.map_err(|error| why(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(format!("it answers more than {BODY_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    };
    let late = |_elapsed| Err(format!("no answer within {} s", within.as_secs()));
    tokio::time::timeout(within, call).await.unwrap_or_else(late)
}

/// The error with its causes, without the address, which the caller tells.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("it cannot be reached: {cause}")
}
