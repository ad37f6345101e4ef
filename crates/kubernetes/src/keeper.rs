//! Keeps a pod while somebody is on it: writes the marks that say so.
//!
//! Never says when: that is the agent's `keeping`.

use greenroom_agent::keeping::{self, BoxFuture, Engine, Mark, Marks, Pacing};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio_util::sync::CancellationToken;

use crate::cluster::why;
use crate::mark::patch;

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

    /// Writes on the pod what should stand there, until `stop` or until the agent is gone. What stands there then stays.
    pub async fn keep(self, pacing: Pacing, engine: Engine, stop: CancellationToken) {
        keeping::keep(&self, pacing, engine, stop).await;
    }
}

impl Marks for Keeper {
    fn of(&self) -> &str {
        &self.pod
    }

    fn write(&self, mark: Mark) -> BoxFuture<'_, Result<(), String>> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch(mark, &self.uid));
        Box::pin(async move {
            match self.pods.patch(&self.pod, &params, &patch).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("the pod cannot be marked: {}", why(&error))),
            }
        })
    }
}
