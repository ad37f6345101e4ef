//! Delivery of results: each is posted until the back end takes it, under the same idempotency key.
//!
//! Never gives a result up and never changes one: what is stored is what is posted, before and after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_wire::record::ResultRecord;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::WebhookConfig;
use crate::run::{Input, RunError};
use crate::world::result_key;

/// Posts at the same time.
const POSTS_MAX: usize = 8;
/// Pause after the first failure; doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The back end's webhook and what it has not taken yet.
pub(crate) struct Webhook {
    posts: reqwest::Client,
    url: String,
    /// By when they are due, then by the order in which they came.
    due: BTreeMap<(Instant, u64), Pending>,
    next: u64,
}

struct Pending {
    record: ResultRecord,
    failures: u32,
}

impl Webhook {
    pub(crate) fn new(config: &WebhookConfig) -> Result<Self, reqwest::Error> {
        let posts = poster(config.timeout)?;
        Ok(Self { posts, url: config.url.clone(), due: BTreeMap::new(), next: 0 })
    }

    pub(crate) async fn run(
        mut self,
        mut results: mpsc::UnboundedReceiver<ResultRecord>,
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let mut posts = JoinSet::new();
        loop {
            let first_due = self.due.first_key_value().map(|((at, _), _)| *at);
            let may_post = posts.len() < POSTS_MAX;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                record = results.recv() => match record {
                    Some(record) => self.put(Instant::now(), Pending { record, failures: 0 }),
                    None => return Ok(()),
                },
                Some(posted) = posts.join_next() => {
                    let (pending, outcome) = posted.map_err(RunError::Panicked)?;
                    if let Some(key) = self.judge(pending, outcome)
                        && inputs.send(Input::ResultTaken { key }).await.is_err()
                    {
                        return Ok(());
                    }
                },
                () = sleep_until(first_due), if may_post && first_due.is_some() => {
                    if let Some((_, pending)) = self.due.pop_first() {
                        posts.spawn(post(self.posts.clone(), self.url.clone(), pending));
                    }
                }
            }
        }
    }

    fn put(&mut self, at: Instant, pending: Pending) {
        self.due.insert((at, self.next), pending);
        self.next += 1;
    }

    /// The key of a result that was taken; any other is due again after a pause.
    fn judge(&mut self, mut pending: Pending, outcome: Result<u16, reqwest::Error>) -> Option<String> {
        let key = result_key(&pending.record.body);
        let failure = match outcome {
            Ok(status) if (200..300).contains(&status) => {
                info!(result = %key, failures = pending.failures, "result delivered");
                return Some(key);
            }
            Ok(status) => format!("it answered {status}"),
            Err(error) => error.without_url().to_string(),
        };
        pending.failures = pending.failures.saturating_add(1);
        let pause = pause(pending.failures);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if pending.failures == 1 {
            warn!(result = %key, error = %failure, pause_ms, "the webhook did not take a result");
        } else {
            debug!(result = %key, error = %failure, pause_ms, failures = pending.failures, "webhook retry");
        }
        self.put(Instant::now() + pause, pending);
        None
    }
}

/// What posts to addresses of other people: each post takes no longer than this, and is never led elsewhere.
pub(crate) fn poster(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // Another part of the process may have installed it before; either is the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

async fn post(
    posts: reqwest::Client,
    url: String,
    pending: Pending,
) -> (Pending, Result<u16, reqwest::Error>) {
    let body = &pending.record.body;
    let sent = posts.post(url).header("idempotency-key", result_key(body)).json(body).send().await;
    let outcome = sent.map(|answer| answer.status().as_u16());
    (pending, outcome)
}

/// Doubled for each failure, with jitter: between half of it and the whole.
fn pause(failures: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX);
    let mut random = [0u8; 4];
    // Without randomness the pause is whole: less spread, no harm.
    let share = match getrandom::fill(&mut random) {
        Ok(()) => u32::from_le_bytes(random) % 512,
        Err(_) => 512,
    };
    whole / 2 + (whole / 2) * share / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_bound_and_is_never_less_than_half() {
        for (failures, whole_ms) in [(1, 200), (2, 400), (3, 800), (8, 25_600), (9, 30_000), (40, 30_000)] {
            let pause = pause(failures).as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&pause), "{failures} failures: {pause} ms");
        }
    }
}
