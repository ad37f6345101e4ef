//! Keeps a task while somebody is on it: asks the ECS container agent to protect it from scale-in and deployments.
//!
//! Never says when: that is the agent's `keeping`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenroom_agent::keeping::{self, BoxFuture, Engine, Mark, Marks, Pacing};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::answer::{Outcome, outcome};
use crate::task::call;

/// For how long the task is protected each time. ECS takes 1 minute to 48 hours; should the agent die, the task may go this much
/// later.
pub const PROTECTED_FOR: Duration = Duration::from_secs(60 * PROTECTED_MINUTES);
const PROTECTED_MINUTES: u64 = 60;
/// Longest time for one call. The container agent asks the ECS API, again where that fails, and answers within a few seconds.
const CALL: Duration = Duration::from_secs(10);

/// When ECS is written to: each write is a call of its API, which all tasks of an account share. A protection is renewed when a
/// third of it is over, so that two more tries are left, and never for its cost, which ECS does not know. One that somebody else has
/// set on an idle task stays.
#[must_use]
pub fn pacing() -> Pacing {
    let every = PROTECTED_FOR / 3;
    Pacing {
        cost_every: every,
        busy_every: every,
        idle_every: None,
        lasts: Some(PROTECTED_FOR),
        // What takes longer has failed by itself.
        write_max: CALL + Duration::from_secs(1),
        retry_first: Duration::from_millis(500),
        ..Pacing::default()
    }
}

/// Protects one task.
#[derive(Debug)]
pub struct Keeper {
    http: reqwest::Client,
    url: String,
    task: String,
    told: AtomicBool,
}

impl Keeper {
    pub(crate) fn new(http: reqwest::Client, agent_uri: &str, task: &str) -> Self {
        let url = format!("{}/task-protection/v1/state", agent_uri.trim_end_matches('/'));
        Self { http, url, task: task.to_owned(), told: AtomicBool::new(false) }
    }

    /// Protects the task whenever it should be, until `stop` or until the agent is gone. What ECS was told then holds until it runs
    /// out.
    pub async fn keep(self, pacing: Pacing, engine: Engine, stop: CancellationToken) {
        keeping::keep(&self, pacing, engine, stop).await;
    }

    async fn protect(&self, mark: Mark) -> Result<(), String> {
        let (protect, body) = match mark {
            Mark::Idle => (false, json!({ "ProtectionEnabled": false })),
            Mark::Busy { cost: _ } => {
                (true, json!({ "ProtectionEnabled": true, "ExpiresInMinutes": PROTECTED_MINUTES }))
            }
        };
        let answered = call(self.http.put(&self.url).json(&body), CALL).await.and_then(|(status, body)| {
            outcome(status.as_u16(), &body, protect).map_err(|refusal| refusal.to_string())
        });
        match answered {
            Ok(Outcome::Set) => Ok(()),
            Ok(Outcome::NotOfAService) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::info!(
                        task = self.task,
                        "this task is no service's: ECS has no reason to stop it"
                    );
                }
                Ok(())
            }
            Err(error) => Err(format!("the task's protection cannot be set: {error}")),
        }
    }
}

impl Marks for Keeper {
    fn of(&self) -> &str {
        &self.task
    }

    fn write(&self, mark: Mark) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.protect(mark))
    }
}
