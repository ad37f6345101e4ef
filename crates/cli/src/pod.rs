//! `greenroom agent --kubernetes`: an agent that finds out from its pod where it is, and keeps the pod while somebody is on it.
//!
//! Never reads the configuration: what a pod says goes before the file.

use greenroom_agent::{AgentConfig, Occupancy, OnExit};
use greenroom_core::fleet::Fleet;
use greenroom_kubernetes::{Cluster, Pacing, Place};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::PodArgs;
use crate::failure::{Failure, chain};
use crate::public_host::bind_for;
use crate::serve::run_agent;

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
    let mut settings = placed(settings, pod, place, fleets)?;
    info!(pod, public_host = settings.public_host, ports = ?settings.ports, labels = ?settings.labels, "pod found");
    let (occupancy, told) = watch::channel(Occupancy::default());
    settings.occupancy = Some(occupancy);
    // It ends with the agent, which says nothing any more then; until its last server is gone, the pod stays marked.
    let keeping = keeper.keep(Pacing::default(), told, CancellationToken::new());
    let (outcome, ()) = tokio::join!(run_agent(settings, stop), keeping);
    outcome
}

/// The agent of a pod: what the pod says, and the file's labels over the node's.
fn placed(
    mut settings: AgentConfig,
    pod: &str,
    place: Place,
    fleets: &[Fleet],
) -> Result<AgentConfig, Failure> {
    settings.host = pod.parse().map_err(|error| {
        let how = "Give its workload a shorter name: it becomes the host's.";
        Failure::usage(format!("pod {pod:?} cannot be a host: {error}"), how)
    })?;
    if !place.on_host_network {
        if let Some(fleet) = fleets.iter().find(|fleet| fleet.ports.is_some()) {
            let what = format!("fleet {} has ports of its own, and no hostPort leads to them", fleet.name);
            return Err(Failure::usage(what, "Leave its `ports` out, or give the pod hostNetwork: true."));
        }
        settings.servers_max = u32::try_from(place.ports.len()).unwrap_or(u32::MAX);
    }
    settings.ports = place.ports;
    settings.bind = bind_for(&place.public_host);
    settings.public_host = place.public_host;
    let of_file = std::mem::replace(&mut settings.labels, place.labels);
    settings.labels.extend(of_file);
    // A container ends with its first process: whoever is left then is killed without a word.
    settings.on_exit = OnExit::StopServers;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings() -> AgentConfig {
        let mut settings =
            AgentConfig::new("local".parse().unwrap(), "http://127.0.0.1:8700".to_owned(), "/data".into());
        settings.labels = [("zone".to_owned(), "mine".to_owned())].into();
        settings
    }

    fn place(on_host_network: bool) -> Place {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Place {
            public_host: "203.0.113.7".to_owned(),
            ports: 7000..=7003,
            on_host_network,
            labels: [label("zone", "eu-1a"), label("node", "node-a")].into(),
        }
    }

    fn fleets(more: &str) -> Vec<Fleet> {
        let text = format!("[fleets.arena]\nkind = \"mesh\"\ncommand = [\"game\"]\nreplicas_max = 1\n{more}");
        config::parse("a test", &text).unwrap().fleets
    }

    #[test]
    fn the_pod_says_where_the_host_is_and_the_file_has_the_last_word_on_labels() {
        let settings = placed(settings(), "arena-7d9-x2", place(false), &fleets("")).unwrap();
        assert_eq!(settings.host.as_str(), "arena-7d9-x2");
        assert_eq!(
            (settings.public_host.as_str(), settings.bind.to_string().as_str()),
            ("203.0.113.7", "0.0.0.0")
        );
        assert_eq!((settings.ports, settings.servers_max), (7000..=7003, 4));
        assert_eq!((&*settings.labels["zone"], &*settings.labels["node"]), ("mine", "node-a"));
        assert_eq!(settings.on_exit, OnExit::StopServers);
    }

    #[test]
    fn a_fleet_with_ports_of_its_own_needs_the_network_of_the_host() {
        let own = fleets("ports = \"9000-9000\"\n");
        let refused = placed(settings(), "arena-0", place(false), &own).unwrap_err();
        assert_eq!(refused.what, "fleet arena has ports of its own, and no hostPort leads to them");
        placed(settings(), "arena-0", place(true), &own).unwrap();
        let long = "a".repeat(64);
        assert!(placed(settings(), &long, place(true), &[]).unwrap_err().what.starts_with("pod \"aaa"));
    }
}
