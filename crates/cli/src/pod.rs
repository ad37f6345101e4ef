//! `greenroom agent --kubernetes`: an agent that finds out from its pod where it is, and keeps the pod while somebody is on it.
//!
//! Never reads the configuration: what a pod says goes before the file.

use greenroom_agent::AgentConfig;
use greenroom_agent::keeping::{Holds, Pacing};
use greenroom_core::fleet::Fleet;
use greenroom_kubernetes::Cluster;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::PodArgs;
use crate::around::{self, Words, placed};
use crate::failure::{Failure, chain};

const WORDS: Words =
    Words { host: "pod", no_way: "no hostPort leads to them", instead: "give the pod hostNetwork: true" };

/// Runs the agent in its pod until `stop`.
pub(crate) async fn run(
    args: &PodArgs,
    settings: AgentConfig,
    fleets: &[Fleet],
    stop: CancellationToken,
) -> Result<(), Failure> {
    let Some(pod) = args.pod_name.as_deref() else {
        let how = "Set it from metadata.name by the downward API, as deploy/kubernetes/fleet.yaml does.";
        return Err(Failure::usage("--kubernetes needs POD_NAME", how));
    };
    let failed = |error| Failure::new(chain(&error), "See docs/kubernetes.md.");
    let cluster = Cluster::around(pod, args.pod_namespace.as_deref()).await.map_err(failed)?;
    let (place, keeper) = cluster.find(&args.kubernetes_address, &settings.ports).await.map_err(failed)?;
    let settings = placed(settings, pod, place, fleets, &WORDS)?;
    info!(pod, public_host = settings.public_host, ports = ?settings.ports, labels = ?settings.labels, "pod found");
    let keep = |engine| keeper.keep(Pacing::default(), engine, CancellationToken::new());
    around::run(settings, Holds::Busy, keep, stop).await
}
