//! `greenroom dev`: everything in one terminal, as separate real processes, and all of it gone at the end.
//!
//! Never does what control or agent do: it starts them, watches them and stops them.

mod folder;
mod part;
mod processes;
mod ready;
mod runtime;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_wire::secret::SecretRef;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{DevArgs, Global, LogFormat};
use crate::config::{self, Config};
use crate::failure::Failure;
use crate::print;
use folder::Folder;
use part::{Part, PartEvent};
use ready::Readiness;
use watch::{Changed, Watch};

/// What `dev` runs, settled before anything is started.
#[derive(Debug)]
struct Plan {
    config: Config,
    /// `--config FILE` or `--demo`, for the parts.
    config_args: Vec<String>,
    /// Where this caller's token is, for the agent too.
    token_from: Option<SecretRef>,
    /// How the parts log: as this process was told to.
    log_args: Vec<String>,
    listen: SocketAddr,
    /// Fleets whose command is not there, with the command.
    skipped: Vec<(String, String)>,
}

/// Runs until Ctrl-C or SIGTERM. Leaves no process and no port, and no file outside the data folder.
pub(crate) async fn run(args: &DevArgs, global: &Global) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let plan = plan(args, global)?;
    let folder = Folder::open(&args.data_dir)?;
    folder.clear_stale(&plan.fingerprint()).await?;
    ensure_free(plan.listen)?;
    let binary = std::env::current_exe()
        .map_err(|error| Failure::new(format!("cannot tell where this program lies: {error}"), ""))?;
    greet(&plan, folder.path());

    let mut control = Part::new("control", &binary, plan.control_args(folder.path()), folder.log("control"));
    let mut agent = Part::new("agent", &binary, plan.agent_args(folder.path()), folder.log("agent"));
    let outcome = supervise(args, &plan, &folder, &mut control, &mut agent, &mut signals).await;
    let stopped = stop(&plan, &folder, &mut control, &mut agent, &mut signals).await;
    outcome.and(stopped)
}

fn plan(args: &DevArgs, global: &Global) -> Result<Plan, Failure> {
    let default = Path::new("greenroom.toml");
    let file = args.config.clone().or_else(|| default.exists().then(|| default.to_owned()));
    let (config, config_args) = match &file {
        Some(file) => (config::load(file)?, vec!["--config".to_owned(), file.display().to_string()]),
        None => {
            let config = config::parse("the demonstration", config::DEMO)
                .map_err(|faults| Failure::usage(faults.to_string(), ""))?;
            (config, vec!["--demo".to_owned()])
        }
    };
    let mut listen = config.control.listen;
    if !listen.ip().is_loopback() {
        return Err(Failure::usage(
            format!("dev serves this machine only, and [control] listen is {listen}"),
            "Listen on 127.0.0.1 here; `greenroom control` serves others.",
        ));
    }
    if let Some(port) = args.port {
        listen.set_port(port);
    }
    if config.host.ports.contains(&listen.port()) {
        let (first, last) = (config.host.ports.start(), config.host.ports.end());
        return Err(Failure::usage(
            format!("port {} lies within {first}-{last}, which game servers take", listen.port()),
            "Choose another with --port, or move [host] ports in greenroom.toml.",
        ));
    }
    let (config, skipped) = runtime::without_missing(config);
    let token_from = global.token_from.clone();
    Ok(Plan { config, config_args, token_from, log_args: log_args(global), listen, skipped })
}

fn log_args(global: &Global) -> Vec<String> {
    let format = match global.log {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    ["--log", format, "--log-filter", &global.log_filter].map(str::to_owned).to_vec()
}

impl Plan {
    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    fn client(&self) -> Result<ControlClient, Failure> {
        crate::ask::client_at(&self.url(), self.token_from.as_ref(), None)
    }

    /// What commands in another terminal need to find this control plane.
    fn flag(&self) -> String {
        if self.listen.to_string() == "127.0.0.1:8700" {
            String::new()
        } else {
            format!(" --server {}", self.url())
        }
    }

    /// Changes when servers of an earlier run would not fit this one.
    fn fingerprint(&self) -> String {
        let fleets: Vec<String> =
            self.config.fleets.iter().map(|fleet| format!("{}={}", fleet.name, fleet.revision)).collect();
        let host = &self.config.host;
        format!("{} {} {:?} {} {}", self.listen, host.name, host.ports, host.public_host, fleets.join(" "))
    }

    fn control_args(&self, folder: &Path) -> Vec<String> {
        let mut args = vec!["control".to_owned()];
        args.extend(self.config_args.iter().chain(&self.log_args).cloned());
        args.extend(["--data-dir".to_owned(), folder.display().to_string()]);
        args.extend(["--listen".to_owned(), self.listen.to_string()]);
        args.extend(["--demo-pages".to_owned(), "--under-dev".to_owned()]);
        for (fleet, _command) in &self.skipped {
            args.extend(["--skip-fleet".to_owned(), fleet.clone()]);
        }
        args
    }

    fn agent_args(&self, folder: &Path) -> Vec<String> {
        let mut args = vec!["agent".to_owned()];
        args.extend(self.config_args.iter().chain(&self.log_args).cloned());
        args.extend(["--data-dir".to_owned(), folder.display().to_string()]);
        args.extend(["--server".to_owned(), self.url()]);
        if let Some(reference) = &self.token_from {
            args.extend(["--token-from".to_owned(), reference.to_string()]);
        }
        args.extend(["--stop-servers-on-exit", "--under-dev"].map(str::to_owned));
        for host in [self.listen.ip().to_string(), "localhost".to_owned()] {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            args.extend(["--allow-origin".to_owned(), format!("http://{host}:{}", self.listen.port())]);
        }
        args
    }

    /// Longest time that stopping all servers may take, with some to spare.
    fn stop_within(&self) -> Duration {
        let grace = self.config.fleets.iter().map(|fleet| fleet.template.stop_grace).max();
        grace.unwrap_or_default() + Duration::from_secs(5)
    }
}

fn ensure_free(listen: SocketAddr) -> Result<(), Failure> {
    match TcpListener::bind(listen) {
        Ok(_free) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::new(
            format!("port {} of {} is in use by another program", listen.port(), listen.ip()),
            format!(
                "Stop it, or choose another port: greenroom dev --port {}",
                listen.port().checked_add(1).unwrap_or(8700)
            ),
        )),
        Err(error) => Err(Failure::new(
            format!("cannot listen on {listen}: {error}"),
            "Choose another port with --port.",
        )),
    }
}

fn greet(plan: &Plan, folder: &Path) {
    print::line(format!("greenroom {} dev", env!("CARGO_PKG_VERSION")));
    print::line(format!("  files    {}", folder.display()));
    let names: Vec<&str> = plan.config.fleets.iter().map(|fleet| fleet.name.as_str()).collect();
    print::line(format!(
        "  fleets   {}",
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    ));
    for (fleet, command) in &plan.skipped {
        print::line(format!(
            "  SKIPPED  fleet {fleet}: its command {command} is not on this machine; install it and start again"
        ));
    }
}

/// Ctrl-C, SIGTERM and the terminal's end are one wish.
struct Signals {
    all: [Signal; 3],
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}"), ""))
        };
        Ok(Self {
            all: [on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?],
        })
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.all;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

enum Event {
    Stop,
    Control(PartEvent),
    Agent(PartEvent),
    Look,
    Watch,
}

async fn supervise(
    args: &DevArgs,
    plan: &Plan,
    folder: &Folder,
    control: &mut Part,
    agent: &mut Part,
    signals: &mut Signals,
) -> Result<(), Failure> {
    control.start()?;
    agent.start()?;
    folder.record(&plan.fingerprint(), control.pid(), agent.pid())?;
    let mut readiness = Readiness::new(plan.client()?, plan.flag());
    let mut watch = Watch::new(&plan.config.watch);
    for doubt in watch.doubts() {
        print::line(format!("  watch    {doubt}"));
    }
    loop {
        let event = tokio::select! {
            () = signals.next() => Event::Stop,
            event = control.next() => Event::Control(event),
            event = agent.next() => Event::Agent(event),
            () = readiness.next_look() => Event::Look,
            () = watch.next_look() => Event::Watch,
        };
        match event {
            Event::Stop => return Ok(()),
            Event::Control(event) => {
                control.handle(event)?;
                folder.record(&plan.fingerprint(), control.pid(), agent.pid())?;
            }
            Event::Agent(event) => {
                agent.handle(event)?;
                folder.record(&plan.fingerprint(), control.pid(), agent.pid())?;
            }
            Event::Watch => {
                for changed in watch.look() {
                    restart(plan, &changed).await?;
                }
            }
            Event::Look => {
                if readiness.look().await {
                    invite(plan, folder.path());
                    open_browser(args, &plan.url());
                }
            }
        }
    }
}

/// Gives the servers of a fleet new processes, because one of its files has changed.
async fn restart(plan: &Plan, changed: &Changed) -> Result<(), Failure> {
    let file = changed.file.display();
    match plan.client()?.restart(&changed.fleet).await {
        Ok(answer) => print::line(format!(
            "  changed  {file}: fleet {} restarts ({} game servers)",
            changed.fleet,
            answer.servers.len()
        )),
        Err(error) => {
            print::line(format!("  changed  {file}: fleet {} is not restarted: {error}", changed.fleet));
        }
    }
    Ok(())
}

/// What to try next, in the order a newcomer would.
fn invite(plan: &Plan, folder: &Path) {
    let url = plan.url();
    print::line(format!("\n  Dashboard     {url}/"));
    let has = |name: &str| plan.config.fleets.iter().any(|fleet| fleet.name.as_str() == name);
    if has("arena") && has("lobby") {
        print::line(format!(
            "  Arena         {url}/play/arena       open it in four tabs: four players, one room"
        ));
    }
    if has("whiteboard") {
        print::line(format!("  Whiteboard    {url}/play/whiteboard  two tabs on two servers, one drawing"));
    }
    if has("chat") {
        print::line(format!("  Guild chat    {url}/play/chat        the same key, the same room"));
    }
    let flag = plan.flag();
    print::line(format!("\n  greenroom get servers{flag}"));
    let room = plan
        .config
        .fleets
        .iter()
        .find(|fleet| matches!(fleet.kind, greenroom_core::fleet::FleetKind::Room { .. }));
    if let Some(fleet) = room {
        print::line(format!("  greenroom allocate {} --player ann --key party:1{flag}", fleet.name));
    }
    print::line(format!("\n  Logs are in {}/. Ctrl-C stops everything.", folder.join("logs").display()));
}

fn open_browser(args: &DevArgs, url: &str) {
    use std::io::IsTerminal as _;
    if args.no_open || !std::io::stdout().is_terminal() {
        return;
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if let Some(program) = runtime::find(opener) {
        // Failing to open a browser is no failure: the address was just printed.
        let _opened = std::process::Command::new(program)
            .arg(url)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
    }
}

/// Servers first, by their agent, then the control plane. A further signal ends all of it at once.
async fn stop(
    plan: &Plan,
    folder: &Folder,
    control: &mut Part,
    agent: &mut Part,
    signals: &mut Signals,
) -> Result<(), Failure> {
    print::line("\nstopping the game servers (again Ctrl-C to kill them)");
    let orderly = async {
        let agent_ended = agent.stop(plan.stop_within()).await;
        let control_ended = control.stop(Duration::from_secs(5)).await;
        agent_ended && control_ended
    };
    let ended = tokio::select! {
        ended = orderly => ended,
        () = signals.next() => false,
    };
    if !ended {
        print::line("killing what is left");
        agent.kill().await;
        control.kill().await;
    }
    // What the agent could not stop, or never got to; nothing when all went well.
    let killed = folder.kill_servers().await?;
    folder.forget();
    match killed {
        0 => print::line("stopped; nothing is left running"),
        1 => print::line("stopped; 1 game server process had to be killed"),
        killed => print::line(format!("stopped; {killed} game server processes had to be killed")),
    }
    Ok(())
}

/// An absolute form of `path` that needs not exist.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("{} is no usable path: {error}", path.display()), ""))
}
