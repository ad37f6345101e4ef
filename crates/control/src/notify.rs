//! Posts to people outside what the world says, as Slack's incoming webhooks and their likes take it.
//!
//! Never decides what is told, when, or whether again: each message is posted once, and the world hears how that went. Never
//! prints an address: whoever has it may post there.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_wire::secret::Secret;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::{ControlConfig, NotifyConfig};
use crate::errands;
use crate::run::{Input, RunError};
use crate::webhook::poster;
use crate::world::{NewsConfig, Posted};

/// How long one post may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One message to one reader.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) reader: String,
    /// The same for the same message, whoever posts it.
    pub(crate) key: String,
    pub(crate) text: String,
}

/// The readers' addresses.
pub(crate) struct Notifier {
    posts: reqwest::Client,
    urls: BTreeMap<String, Secret>,
}

/// Whether it can be posted to.
pub(crate) fn is_url(url: &Secret) -> bool {
    let url = reqwest::Url::parse(url.expose());
    url.is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
}

/// Whether each can be posted to.
pub(crate) fn check(readers: &[NotifyConfig]) -> Result<(), RunError> {
    match readers.iter().find(|reader| !is_url(&reader.url)) {
        Some(faulty) => Err(RunError::NotifyAddress(faulty.wants.name.clone())),
        None => Ok(()),
    }
}

/// What the world is told of the readers.
pub(crate) fn news(config: &ControlConfig) -> NewsConfig {
    let begun = match &config.replica {
        Some(replica) => format!("replica {} leads the control plane", replica.name),
        None => "the control plane has started".to_owned(),
    };
    NewsConfig { begun, readers: config.notify.iter().map(|reader| reader.wants.clone()).collect() }
}

impl Notifier {
    /// `None` where nobody is told anything.
    pub(crate) fn new(readers: &[NotifyConfig]) -> Result<Option<Self>, RunError> {
        if readers.is_empty() {
            return Ok(None);
        }
        let posts = poster(TIMEOUT).map_err(RunError::Notify)?;
        let urls = readers.iter().map(|reader| (reader.wants.name.clone(), reader.url.clone())).collect();
        Ok(Some(Self { posts, urls }))
    }

    /// Posts until the stop; what is under way then gets a last moment.
    pub(crate) async fn run(
        self,
        messages: mpsc::UnboundedReceiver<Message>,
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let begin = |message: Message| {
            let posted = post(self.posts.clone(), self.urls.get(&message.reader)?.clone(), message);
            Some(async {
                let (reader, outcome) = posted.await;
                Input::NewsPosted { reader, outcome }
            })
        };
        errands::run(messages, inputs, stop, begin).await
    }
}

async fn post(posts: reqwest::Client, url: Secret, message: Message) -> (String, Posted) {
    let Message { reader, key, text } = message;
    // Names of things are no markup.
    let body = json!({ "text": text, "mrkdwn": false });
    let sent = posts.post(url.expose()).header("idempotency-key", key).json(&body).send().await;
    let (outcome, failure) = match sent {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let outcome =
                judge(status, answer.headers().get("retry-after").and_then(|value| value.to_str().ok()));
            (outcome, format!("it answered {status}"))
        }
        Err(error) => (Posted::Failed { again_after: None }, error.without_url().to_string()),
    };
    match outcome {
        Posted::Taken => debug!(%reader, "notification taken"),
        Posted::Refused { .. } | Posted::Failed { .. } => {
            warn!(%reader, error = %failure, "a notification was not taken");
        }
    }
    (reader, outcome)
}

/// What a status means; `retry_after` in seconds, as Slack says it.
pub(crate) fn judge(status: u16, retry_after: Option<&str>) -> Posted {
    match status {
        200..300 => Posted::Taken,
        408 | 425 | 429 | 500.. => {
            let seconds = retry_after.and_then(|text| text.trim().parse().ok());
            Posted::Failed { again_after: seconds.map(Duration::from_secs) }
        }
        _ => Posted::Refused { status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Subscription;

    #[test]
    fn what_may_work_later_is_tried_again_and_what_is_refused_is_said_to_be() {
        let later = |seconds: Option<u64>| Posted::Failed { again_after: seconds.map(Duration::from_secs) };
        for (status, retry_after, outcome) in [
            (200, None, Posted::Taken),
            (204, Some("9"), Posted::Taken),
            (429, Some("30"), later(Some(30))),
            (503, Some("soon"), later(None)),
            (500, None, later(None)),
            (302, None, Posted::Refused { status: 302 }),
            (404, Some("30"), Posted::Refused { status: 404 }),
        ] {
            assert_eq!(judge(status, retry_after), outcome, "{status}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_posted_to_is_told_by_its_name_and_never_itself() {
        let reader = |url: &str| NotifyConfig {
            url: Secret::new(url),
            wants: Subscription {
                name: "ops".to_owned(),
                events: std::collections::BTreeSet::new(),
                digest_every: None,
                per_minute_max: 1,
            },
        };
        assert!(check(&[reader("https://hooks.example.com/T0/B0/x")]).is_ok());
        for faulty in ["hooks.example.com/T0/B0/hunter2", "ftp://example.com/hunter2", "http://"] {
            let told = check(&[reader(faulty)]).unwrap_err().to_string();
            assert!(told.contains("\"ops\"") && !told.contains("hunter2"), "{told}");
        }
        assert!(!format!("{:?}", reader("https://hunter2")).contains("hunter2"));
    }
}
