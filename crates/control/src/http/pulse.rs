//! Whether a leader that has not answered a call yet is there at all: one that lets the caller wait knows why.
//!
//! Never asks more than ten times a second, for all calls that wait together.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::office::Leader;

/// How long an answer may take, and how long it is good.
const BEAT: Duration = Duration::from_millis(100);

/// What was heard last.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<Beat>>);

#[derive(Debug)]
struct Beat {
    leader: Leader,
    at: Instant,
    is_there: bool,
}

impl Pulse {
    /// Whether this leader's process answers.
    pub(super) async fn beats(&self, http: &reqwest::Client, leader: &Leader) -> bool {
        let mut last = self.0.lock().await;
        if let Some(beat) = last.as_ref().filter(|beat| beat.leader == *leader && beat.at.elapsed() < BEAT) {
            return beat.is_there;
        }
        let url = format!("{}/livez", leader.url.trim_end_matches('/'));
        let answer = http.get(url).timeout(BEAT).send().await;
        let is_there = answer.is_ok_and(|answer| answer.status().is_success());
        *last = Some(Beat { leader: leader.clone(), at: Instant::now(), is_there });
        is_there
    }
}
