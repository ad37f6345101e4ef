//! Keeps a pod while somebody is on it: writes the marks that say so, again and again where the API server is away.
//!
//! Never holds the agent up: while nothing can be written, the game goes on.

use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_agent::Occupancy;
use greenroom_core::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{CALL, why};
use crate::protection::{Mark, Pacing, Protection};

/// Who has written, as the cluster shows it.
const FIELD_MANAGER: &str = "greenroom-agent";

/// Writes the marks of one pod.
#[derive(Debug)]
pub struct Keeper {
    pods: Api<Pod>,
    pod: String,
    uid: String,
}

impl Keeper {
    pub(crate) const fn new(pods: Api<Pod>, pod: String, uid: String) -> Self {
        Self { pods, pod, uid }
    }

    /// Writes what `occupancy` says on the pod whenever it should stand there, until `stop` or until nobody says anything any
    /// more. What stands there then stays.
    pub async fn keep(
        self,
        pacing: Pacing,
        mut occupancy: watch::Receiver<Occupancy>,
        stop: CancellationToken,
    ) {
        let started = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = Timestamp::from_unix_ms(u64::try_from(epoch.as_millis()).unwrap_or_default());
        let mut protection = Protection::new(pacing);
        loop {
            let seen = *occupancy.borrow_and_update();
            protection.observe(epoch + started.elapsed(), seen);
            let (mark, at) = protection.next();
            let due = started + at.since(epoch);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = occupancy.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let outcome = tokio::select! {
                outcome = self.write(mark) => outcome,
                () = stop.cancelled() => return,
            };
            self.written(&mut protection, epoch + started.elapsed(), mark, outcome);
        }
    }

    async fn write(&self, mark: Mark) -> Result<(), String> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(mark.patch(&self.uid));
        match tokio::time::timeout(CALL, self.pods.patch(&self.pod, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(why(&error)),
            Err(_elapsed) => Err(format!("no answer within {} s", CALL.as_secs())),
        }
    }

    fn written(&self, protection: &mut Protection, now: Timestamp, mark: Mark, outcome: Result<(), String>) {
        let pod = &self.pod;
        match outcome {
            Ok(()) => match protection.wrote(now, mark) {
                0 => tracing::debug!(pod, ?mark, "pod marked"),
                failures => tracing::info!(pod, ?mark, failures, "pod marked again"),
            },
            Err(error) => {
                // Without randomness all agents of a cluster come back in step, which is no reason to stop.
                let random = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
                match protection.failed(now, random) {
                    1 => tracing::warn!(
                        pod,
                        ?mark,
                        error,
                        "pod not marked; Kubernetes may stop it while somebody plays; tried again"
                    ),
                    failures => tracing::debug!(pod, ?mark, error, failures, "pod not marked"),
                }
            }
        }
    }
}
