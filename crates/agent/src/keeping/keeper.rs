//! The loop that writes marks, again and again where the engine is away.
//!
//! Never holds the agent up: while nothing can be written, the game goes on.

use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_core::Timestamp;
use greenroom_provider::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Engine, Mark, Pacing, Protection};

/// What an engine has answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Whether it surely holds the host now.
    pub held: bool,
    /// Why the last write failed; empty when it did not, and before the first.
    pub trouble: String,
}

/// Where the marks of a host stand.
pub trait Marks: Send + Sync {
    /// What the engine calls the host.
    fn of(&self) -> &str;

    /// Writes a mark. Writing it again changes nothing but how long it holds. The error says what failed and what helps.
    fn write(&self, mark: Mark) -> BoxFuture<'_, Result<(), String>>;
}

/// Writes what is on the host to its engine whenever it should stand there, until `stop` or until nobody says anything any more.
/// What stands there then stays.
pub async fn keep(marks: &dyn Marks, pacing: Pacing, mut engine: Engine, stop: CancellationToken) {
    let started = Instant::now();
    let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = Timestamp::from_unix_ms(u64::try_from(epoch.as_millis()).unwrap_or_default());
    let mut protection = Protection::new(pacing);
    loop {
        let seen = *engine.occupancy.borrow_and_update();
        let now = epoch + started.elapsed();
        if let Some(seen) = seen {
            protection.observe(now, seen);
        }
        engine.tell(&protection, now, None);
        let (mark, at) = protection.next();
        // An agent that has just begun does not know yet what it will find.
        let due = at.filter(|_| seen.is_some()).map(|at| started + at.since(epoch));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = engine.occupancy.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep_until(due.unwrap_or(started)), if due.is_some() => {}
        }
        let now = epoch + started.elapsed();
        protection.writes(now, mark);
        engine.tell(&protection, now, None);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(pacing.write_max, marks.write(mark)) => outcome,
            () = stop.cancelled() => return,
        };
        let late = |_elapsed| Err(format!("no answer within {} s", pacing.write_max.as_secs_f32()));
        let outcome = outcome.unwrap_or_else(late);
        let now = epoch + started.elapsed();
        log(&mut protection, marks.of(), now, mark, &outcome);
        engine.tell(&protection, now, Some(outcome.err().unwrap_or_default()));
    }
}

impl Engine {
    fn tell(&self, protection: &Protection, now: Timestamp, trouble: Option<String>) {
        self.kept.send_if_modified(|kept| {
            let trouble = trouble.unwrap_or_else(|| kept.trouble.clone());
            let told = Kept { held: protection.is_held(now), trouble };
            let changed = *kept != told;
            *kept = told;
            changed
        });
    }
}

fn log(protection: &mut Protection, of: &str, now: Timestamp, mark: Mark, outcome: &Result<(), String>) {
    match outcome {
        Ok(()) => match protection.wrote(now, mark) {
            0 => tracing::debug!(of, ?mark, "engine told what is on this host"),
            failures => {
                tracing::info!(of, ?mark, failures, "engine told what is on this host, after failures");
            }
        },
        Err(error) => {
            // Without randomness all agents of an engine come back in step, which is no reason to stop.
            let random = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
            match protection.failed(now, random) {
                1 => tracing::warn!(
                    of,
                    ?mark,
                    error,
                    "engine not told what is on this host; it may stop it while somebody plays; tried again"
                ),
                failures => {
                    tracing::debug!(of, ?mark, error, failures, "engine not told what is on this host");
                }
            }
        }
    }
}
