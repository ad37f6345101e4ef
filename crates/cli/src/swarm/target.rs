//! What a swarm is sent to: a control plane that runs, or one that is started for this run alone.
//!
//! Never sends players, and leaves no process behind.

mod npm;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use greenroom_core::FleetName;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::args::RunOptions;
use crate::args::Global;
use crate::ask;
use crate::failure::Failure;

/// Where everything goes that a run starts.
const FOLDER: &str = ".greenroom/swarm";
/// How long a `dev` may take until every fleet has its minimum.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Against what a run goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TargetKind {
    /// The control plane that --server names.
    #[default]
    Control,
    /// A `greenroom dev` of its own, started for the run and stopped after it.
    Dev,
    /// A plain npm Socket.IO server, started for the run and stopped after it.
    Npm,
}

/// What answers during a run.
pub(super) struct Target {
    /// As the players are told to ask.
    pub(super) global: Global,
    /// Fleets are what its control plane says; the npm server knows none and takes any.
    pub(super) has_fleets: bool,
    /// Processes that serve besides those that a control plane tells of.
    pub(super) pids: Vec<u32>,
    /// Where `dev` writes down who runs, for those who end processes on purpose.
    pub(super) data_dir: PathBuf,
    child: Option<Child>,
}

impl Target {
    /// Starts what is to be started, and waits until it serves. `match_players` is the size of a match.
    pub(super) async fn start(
        options: &RunOptions,
        match_players: u16,
        global: &Global,
    ) -> Result<Self, Failure> {
        match options.target {
            TargetKind::Control => Ok(Self {
                global: global.clone(),
                has_fleets: true,
                pids: options.server_pids.clone(),
                data_dir: options.data_dir.clone(),
                child: None,
            }),
            TargetKind::Dev => Self::dev(options, global).await,
            TargetKind::Npm => {
                let (child, url) = npm::start(&Path::new(FOLDER).join("npm"), match_players).await?;
                let pids = child.id().into_iter().collect();
                let global = Global { server: url, ..global.clone() };
                Ok(Self { global, has_fleets: false, pids, data_dir: PathBuf::new(), child: Some(child) })
            }
        }
    }

    async fn dev(options: &RunOptions, global: &Global) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot start greenroom dev: {error}"), "");
        let port = free_port().map_err(failed)?;
        let data_dir = Path::new(FOLDER).join("dev");
        std::fs::create_dir_all(&data_dir).map_err(failed)?;
        let log = std::fs::File::create(data_dir.join("dev.log")).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["dev", "--no-open", "--port", &port.to_string()]);
        command.arg("--data-dir").arg(&data_dir);
        if let Some(config) = &options.target_config {
            command.arg("--config").arg(config);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        let url = format!("http://127.0.0.1:{port}");
        let global = Global { server: url, ..global.clone() };
        let control = ask::client(&global)?;
        let until = Instant::now() + READY_WITHIN;
        while !control.readiness().await.is_ok_and(|readiness| readiness.ready) {
            if let Some(status) = child.try_wait().map_err(failed)? {
                let next = format!("{} says why.", data_dir.join("dev.log").display());
                return Err(Failure::new(format!("greenroom dev ended with {status}"), next));
            }
            if Instant::now() >= until {
                let what = format!("greenroom dev was not ready within {} s", READY_WITHIN.as_secs());
                let target =
                    Self { global, has_fleets: true, pids: Vec::new(), data_dir, child: Some(child) };
                target.stop().await;
                return Err(Failure::new(what, "Its log is in .greenroom/swarm/dev/dev.log."));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(Self { global, has_fleets: true, pids: Vec::new(), data_dir, child: Some(child) })
    }

    /// Stops what was started.
    pub(super) async fn stop(self) {
        let Some(mut child) = self.child else { return };
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            let _gone_already = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_WITHIN, child.wait()).await.is_err() {
            let _gone_already = child.kill().await;
        }
    }

    /// Whether this fleet can be asked for.
    pub(super) async fn check_fleet(&self, names: &[&FleetName], scenario: &str) -> Result<(), Failure> {
        if !self.has_fleets || names.is_empty() {
            return Ok(());
        }
        let fleets = ask::client(&self.global)?.fleets().await;
        let fleets = fleets.map_err(|error| ask::failure(&error, &self.global))?.fleets;
        match names.iter().find(|name| !fleets.iter().any(|fleet| *fleet.name == ***name)) {
            None => Ok(()),
            Some(name) => {
                let what = format!("there is no fleet {name}, which the scenario {scenario} needs");
                Err(Failure::usage(what, "`greenroom get fleets` lists them."))
            }
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
