//! An agent inside an engine that has placed it and may stop it: what a place means for its settings, and the two run together.
//!
//! Never asks an engine: `pod` and `ecs` do.

use greenroom_agent::keeping::{self, Engine, Holds};
use greenroom_agent::place::Place;
use greenroom_agent::{AgentConfig, OnExit};
use greenroom_core::fleet::Fleet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;
use crate::public_host::bind_for;
use crate::serve::run_agent;

/// How an engine calls its things.
pub(crate) struct Words {
    /// What becomes a host.
    pub(crate) host: &'static str,
    /// Why a fleet cannot have ports of its own there.
    pub(crate) no_way: &'static str,
    /// How it could.
    pub(crate) instead: &'static str,
}

/// The agent of `host`: what the place says, and the file's labels over the engine's.
pub(crate) fn placed(
    mut settings: AgentConfig,
    host: &str,
    place: Place,
    fleets: &[Fleet],
    words: &Words,
) -> Result<AgentConfig, Failure> {
    settings.host = host.parse().map_err(|error| {
        let what = format!("{} {host:?} cannot be a host: {error}", words.host);
        Failure::usage(what, "Give its workload a shorter name: it becomes the host's.")
    })?;
    if !place.has_all_ports {
        if let Some(fleet) = fleets.iter().find(|fleet| fleet.ports.is_some()) {
            let what = format!("fleet {} has ports of its own, and {}", fleet.name, words.no_way);
            return Err(Failure::usage(what, format!("Leave its `ports` out, or {}.", words.instead)));
        }
        settings.servers_max = u32::try_from(place.ports.len()).unwrap_or(u32::MAX);
    }
    settings.ports = place.ports;
    settings.dialled = place.dialled;
    settings.bind = bind_for(&place.public_host);
    settings.public_host = place.public_host;
    let of_file = std::mem::replace(&mut settings.labels, place.labels);
    settings.labels.extend(of_file);
    // A container ends with its first process: whoever is left then is killed without a word.
    settings.on_exit = OnExit::StopServers;
    Ok(settings)
}

/// Runs the agent until `stop`, and beside it whoever tells the engine what is on it.
pub(crate) async fn run<Keeping: Future<Output = ()>>(
    mut settings: AgentConfig,
    holds: Holds,
    keep: impl FnOnce(Engine) -> Keeping,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let (around, engine) = keeping::channel(holds);
    settings.around = Some(around);
    // It ends with the agent, which says nothing any more then; until its last server is gone, the mark stays.
    let (outcome, ()) = tokio::join!(run_agent(settings, stop), keep(engine));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const WORDS: Words =
        Words { host: "pod", no_way: "no hostPort leads to them", instead: "give the pod hostNetwork: true" };

    fn settings() -> AgentConfig {
        let mut settings =
            AgentConfig::new("local".parse().unwrap(), "http://127.0.0.1:8700".to_owned(), "/data".into());
        settings.labels = [("zone".to_owned(), "mine".to_owned())].into();
        settings
    }

    fn place(has_all_ports: bool) -> Place {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Place {
            public_host: "203.0.113.7".to_owned(),
            ports: 7000..=7003,
            dialled: [(7000, 32_768)].into(),
            has_all_ports,
            labels: [label("zone", "eu-1a"), label("node", "node-a")].into(),
        }
    }

    fn fleets(more: &str) -> Vec<Fleet> {
        let text = format!("[fleets.arena]\nkind = \"mesh\"\ncommand = [\"game\"]\nreplicas_max = 1\n{more}");
        config::parse("a test", &text).unwrap().fleets
    }

    #[test]
    fn the_engine_says_where_the_host_is_and_the_file_has_the_last_word_on_labels() {
        let settings = placed(settings(), "arena-7d9-x2", place(false), &fleets(""), &WORDS).unwrap();
        assert_eq!(settings.host.as_str(), "arena-7d9-x2");
        assert_eq!(
            (settings.public_host.as_str(), settings.bind.to_string().as_str()),
            ("203.0.113.7", "0.0.0.0")
        );
        assert_eq!((settings.ports, settings.servers_max), (7000..=7003, 4));
        assert_eq!(settings.dialled, [(7000, 32_768)].into());
        assert_eq!((&*settings.labels["zone"], &*settings.labels["node"]), ("mine", "node-a"));
        assert_eq!(settings.on_exit, OnExit::StopServers);
    }

    #[test]
    fn a_fleet_with_ports_of_its_own_needs_all_ports_of_the_host() {
        let own = fleets("ports = \"9000-9000\"\n");
        let refused = placed(settings(), "arena-0", place(false), &own, &WORDS).unwrap_err();
        assert_eq!(refused.what, "fleet arena has ports of its own, and no hostPort leads to them");
        placed(settings(), "arena-0", place(true), &own, &WORDS).unwrap();
        let long = "a".repeat(64);
        let refused = placed(settings(), &long, place(true), &[], &WORDS).unwrap_err();
        assert!(refused.what.starts_with("pod \"aaa"));
    }
}
