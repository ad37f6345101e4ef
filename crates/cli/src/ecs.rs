//! `greenroom agent --ecs`: an agent that finds out from its task where it is, and keeps the task while somebody is on it.
//!
//! Never reads the configuration, but for a `public_host` that somebody has set: nothing in a task knows better.

use std::time::Duration;

use greenroom_agent::AgentConfig;
use greenroom_agent::keeping::Holds;
use greenroom_core::fleet::Fleet;
use greenroom_ecs::{AddressFrom, Endpoints, Tasks, pacing};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::{EcsArgs, ProtectWord};
use crate::around::{self, Words, placed};
use crate::failure::{Failure, chain};
use crate::serve::run_agent;

const WORDS: Words = Words {
    host: "task",
    no_way: "ECS hands through only what is mapped in bridge mode",
    instead: "give the task the network mode awsvpc or host",
};

/// The longest that ECS waits between SIGTERM and SIGKILL (`stopTimeout`), and what a Spot interruption leaves.
const STOP_MAX: Duration = Duration::from_secs(120);

/// Runs the agent in its task until `stop`. `named` is a `public_host` that the configuration sets.
pub(crate) async fn run(
    args: &EcsArgs,
    settings: AgentConfig,
    named: Option<String>,
    fleets: &[Fleet],
    stop: CancellationToken,
) -> Result<(), Failure> {
    let Some(metadata) = args.ecs_metadata_uri.clone() else {
        let how = "ECS sets it in every container, from container agent 1.39 and Fargate platform 1.4.0 on. Outside of a task leave --ecs out.";
        return Err(Failure::usage("--ecs needs ECS_CONTAINER_METADATA_URI_V4", how));
    };
    let keeps = match (args.ecs_protect, args.ecs_agent_uri.as_deref()) {
        (ProtectWord::Off, _) => None,
        (ProtectWord::Ready, Some(uri)) => Some((Holds::Servers, uri)),
        (ProtectWord::Busy, Some(uri)) => Some((Holds::Busy, uri)),
        (ProtectWord::Ready | ProtectWord::Busy, None) => {
            let how = "ECS sets it where its container agent is new enough for task protection: update that. With --ecs-protect off the agent runs without, and ECS may stop the task while somebody plays.";
            return Err(Failure::usage("--ecs needs ECS_AGENT_URI to protect the task", how));
        }
    };
    let failed = |error| Failure::new(chain(&error), "See docs/ecs.md.");
    let from = named.map_or_else(|| args.ecs_address.clone(), AddressFrom::Named);
    let endpoints = Endpoints { metadata, instance: args.ecs_instance_uri.clone() };
    let tasks = Tasks::at(endpoints).map_err(failed)?;
    let found = tasks.find(&from, &settings.ports).await.map_err(failed)?;
    let task = found.task;
    let settings = placed(settings, &task, found.place, fleets, &WORDS)?;
    info!(task, public_host = settings.public_host, ports = ?settings.ports, dialled = ?settings.dialled, labels = ?settings.labels, "task found");
    if from == AddressFrom::Internal {
        info!(
            public_host = settings.public_host,
            "players are told a private address, as --ecs-address internal says"
        );
    }
    for fleet in fleets.iter().filter(|fleet| fleet.template.stop_grace > STOP_MAX) {
        warn!(fleet = %fleet.name, stop_grace = ?fleet.template.stop_grace, "ECS kills a task 120 s after SIGTERM at the latest, before this grace is over");
    }
    let Some((holds, uri)) = keeps else {
        warn!("ECS may stop this task while somebody plays: --ecs-protect is off");
        return run_agent(settings, stop).await;
    };
    let keeper = tasks.keeper(uri, &task);
    around::run(settings, holds, |engine| keeper.keep(pacing(), engine, CancellationToken::new()), stop).await
}
