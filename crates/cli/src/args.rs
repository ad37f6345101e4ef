//! The command line: what may be typed and what it means.
//!
//! Never acts; reading the environment ends here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use greenroom_wire::secret::SecretRef;

/// Runs stateful realtime servers: hands each party the address of one live room and keeps it alive.
#[derive(Debug, Parser)]
#[command(name = "greenroom", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Verb,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The control plane to ask.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "GREENROOM_SERVER_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:8700"
    )]
    pub(crate) server: String,
    /// Where this caller's token is, as env:NAME or file:PATH; without it GREENROOM_TOKEN, if that is set.
    #[arg(long, global = true, help_heading = "Global options", value_name = "REFERENCE")]
    pub(crate) token_from: Option<SecretRef>,
    /// The authorities (PEM) by which an https control plane is known; without it those of the system.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "GREENROOM_CA",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// How answers are printed.
    #[arg(short, long, global = true, help_heading = "Global options", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// How log lines are printed.
    #[arg(long, global = true, help_heading = "Global options", value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log: LogFormat,
    /// Which log lines are printed, such as `info` or `greenroom_control=debug`.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "GREENROOM_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(crate) log_filter: String,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs: the API's own answer.
    Json,
}

/// How log lines are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs everything in one terminal: control plane, one agent, the fleets of greenroom.toml or a demonstration.
    Dev(DevArgs),
    /// Runs the control plane.
    Control(ControlArgs),
    /// Runs the agent of this host: starts and watches its game servers.
    Agent(AgentArgs),
    /// Runs one address in front of the game servers of fleets, for clients that cannot dial servers.
    Edge(crate::edge::EdgeArgs),
    /// Runs an example game server; an agent starts it.
    Example {
        /// lobby, arena, whiteboard, chat, udp-echo or relay.
        name: String,
        /// What the example takes: the relay `[PORT [FLUSH_MS]] [--recovery DURATION] [--redis URL]`, the others nothing.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Lists what there is.
    #[command(subcommand)]
    Get(Kind),
    /// Gets a room with a seat for each player.
    Allocate(AllocateArgs),
    /// Prints the output of game servers.
    Logs(LogsArgs),
    /// Starts the game servers of a fleet anew, each in its place; rooms that are not kept end.
    Restart {
        /// The fleet.
        fleet: String,
    },
    /// Takes a host or a zone out of use: nothing new there, its game servers are replaced elsewhere, nobody is disturbed.
    Drain(DrainArgs),
    /// Tells who changed what, and why game servers stopped, newest first.
    Audit {
        /// How many entries, 1 to 1,000.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Only those before this number: the next page.
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
    },
    /// Orders how many game servers a fleet has at least, now or by a time, and what it may not do by itself.
    Scale(crate::scaling::ScaleArgs),
    /// Tells why things are as they are.
    #[command(subcommand)]
    Explain(crate::scaling::ExplainVerb),
    /// Sends players through lobby, match and game, and tells whether all were where they belonged.
    Swarm(Box<crate::swarm::SwarmArgs>),
    /// Plays scaling policies against a recorded flow of rooms: who had to wait, and what stood idle for it.
    Simulate(crate::simulate::SimulateArgs),
    /// Writes all that a control plane has promised into a file: its backup, or its way to another store.
    Export(ExportArgs),
    /// Stores what an export holds, for a control plane that is started on that store then.
    Import(ImportArgs),
    /// Checks configuration files.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Prints the version.
    Version,
}

/// What to list.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Kind {
    /// Fleets.
    #[command(visible_alias = "fleet")]
    Fleets,
    /// Game servers.
    #[command(visible_aliases = ["servers", "gs"])]
    Gameservers,
    /// Rooms.
    #[command(visible_alias = "room")]
    Rooms {
        /// Those too that ended within the last ten minutes.
        #[arg(long)]
        ended: bool,
    },
    /// Hosts.
    #[command(visible_alias = "host")]
    Hosts,
    /// Triggers: what is watched, and what was done about it.
    #[command(visible_alias = "trigger")]
    Triggers,
    /// Service level objectives, and how often they were kept since the present leader leads.
    #[command(visible_alias = "slo")]
    Slos,
}

/// `greenroom drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// What.
    #[arg(value_enum)]
    pub(crate) kind: DrainArg,
    /// Its name.
    pub(crate) name: String,
    /// Why, for the audit trail and whoever wonders.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Gives it back to use.
    #[arg(long)]
    pub(crate) undo: bool,
}

/// What is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrainArg {
    /// One host.
    Host,
    /// All hosts with this value of the label `zone`.
    Zone,
}

/// `greenroom config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Tells every fault of a file, or prints its effective values.
    Check {
        /// The file.
        #[arg(default_value = "greenroom.toml")]
        file: PathBuf,
    },
}

/// `greenroom dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Which fleets; without it `greenroom.toml` of this folder, or else the built-in demonstration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where all files go.
    #[arg(long, value_name = "FOLDER", default_value = ".greenroom")]
    pub(crate) data_dir: PathBuf,
    /// Port of the API and the dashboard; without it that of the file's `[control] listen`, which is 8700 by default.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Does not open the dashboard in a browser.
    #[arg(long)]
    pub(crate) no_open: bool,
}

/// Where `control` and `agent` read their configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration; without it `greenroom.toml` of this folder if there is one, or else all defaults.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub(crate) config: Option<PathBuf>,
    /// Takes the built-in demonstration as configuration.
    #[arg(long)]
    pub(crate) demo: bool,
}

/// `greenroom control`.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Where promises are kept: in `control` below it.
    #[arg(long, value_name = "FOLDER", default_value = ".greenroom")]
    pub(crate) data_dir: PathBuf,
    /// Overrides `[control] listen`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) shared: SharedArgs,
    /// Serves the pages of the examples too.
    #[arg(long)]
    pub(crate) demo_pages: bool,
    /// Started by `dev`: `greenroom` in commands means this binary, and readiness waits for every fleet's minimum.
    #[arg(long, hide = true)]
    pub(crate) under_dev: bool,
    /// Leaves this fleet out.
    #[arg(long, hide = true, value_name = "FLEET")]
    pub(crate) skip_fleet: Vec<String>,
}

/// Several control planes on one store, of which one leads.
#[derive(Debug, Args)]
pub(crate) struct SharedArgs {
    /// Keeps promises in this Redis instead, which replicas on other machines can share: `redis://host:port`, or `redis+sentinel://host:port,host:port,host:port/name`.
    #[arg(long, env = "GREENROOM_STORE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// What all keys in that Redis begin with: replicas of one prefix are one control plane.
    #[arg(long, value_name = "WORD", default_value = "greenroom", requires = "store")]
    pub(crate) store_prefix: String,
    /// The name of this replica, as no other is called; without it the address that it listens on.
    #[arg(long, value_name = "NAME", requires = "store")]
    pub(crate) replica: Option<String>,
    /// Where the other replicas reach this one; without it http:// (https:// under TLS) and the address that it listens on.
    #[arg(long, value_name = "URL", requires = "store")]
    pub(crate) advertise: Option<String>,
    /// Where the token is, of the role operate, with which this replica asks the leader for players: env:NAME or file:PATH. Not needed under mutual TLS.
    #[arg(long, value_name = "REFERENCE", requires = "store")]
    pub(crate) replica_token_from: Option<SecretRef>,
}

/// `greenroom export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file, which must not be there yet, for its owner alone to read; `-` is the standard output.
    pub(crate) file: PathBuf,
    /// From which store, without asking a control plane; else the one that --server names is asked.
    #[command(flatten)]
    pub(crate) from: StoreArgs,
    /// Leaves out the keys that join tokens are signed with; what is given out already is refused after an import then.
    #[arg(long)]
    pub(crate) without_keys: bool,
}

/// `greenroom import`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("into").required(true).args(["store", "data_dir"])))]
pub(crate) struct ImportArgs {
    /// The file that `greenroom export` wrote; `-` is the standard input.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) into: StoreArgs,
    /// Deletes all that the store holds now, in the same step.
    #[arg(long)]
    pub(crate) replace: bool,
}

/// A store that no control plane runs on.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// A Redis: `redis://host:port`, or `redis+sentinel://host:port,host:port,host:port/name`.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub(crate) store: Option<String>,
    /// What all keys in that Redis begin with.
    #[arg(long, value_name = "WORD", default_value = "greenroom", requires = "store")]
    pub(crate) store_prefix: String,
    /// The folder of a control plane without a Redis: `.greenroom`, where `greenroom control --data-dir` names no other one.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// `greenroom agent`.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Where the journal and the servers' output go: into `agent` below it.
    #[arg(long, value_name = "FOLDER", default_value = ".greenroom")]
    pub(crate) data_dir: PathBuf,
    /// Stops the game servers when the agent is told to stop; without it they run on and the next agent adopts them.
    #[arg(long)]
    pub(crate) stop_servers_on_exit: bool,
    /// One more replica of the control plane, besides --server; may be given several times.
    #[arg(long, value_name = "URL")]
    pub(crate) replica: Vec<String>,
    /// One more browser origin that may connect to game servers.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    #[cfg(feature = "kubernetes")]
    #[command(flatten)]
    pub(crate) pod: PodArgs,
    #[command(flatten)]
    pub(crate) ecs: EcsArgs,
    /// Started by `dev`, which speaks plain HTTP: `[agent.tls]` is left aside.
    #[arg(long, hide = true)]
    pub(crate) under_dev: bool,
}

/// `greenroom agent --kubernetes`.
#[cfg(feature = "kubernetes")]
#[derive(Debug, Args)]
pub(crate) struct PodArgs {
    /// Runs as the entrypoint of a Kubernetes pod: takes the host's name from the pod, the address that players dial from its
    /// node, ports from its hostPorts, and keeps the pod from being stopped while somebody is on it.
    #[arg(long, help_heading = "Kubernetes")]
    pub(crate) kubernetes: bool,
    /// Which address of the node players dial: external, internal, or a name in which {node} and {pod} are filled in.
    #[arg(long, help_heading = "Kubernetes", value_name = "ADDRESS", default_value_t)]
    pub(crate) kubernetes_address: greenroom_kubernetes::AddressFrom,
    /// The pod, by the downward API.
    #[arg(long, help_heading = "Kubernetes", env = "POD_NAME", hide_env_values = true, value_name = "NAME")]
    pub(crate) pod_name: Option<String>,
    /// Its namespace; without it that of the service account.
    #[arg(
        long,
        help_heading = "Kubernetes",
        env = "POD_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) pod_namespace: Option<String>,
}

/// `greenroom agent --ecs`.
#[derive(Debug, Args)]
pub(crate) struct EcsArgs {
    /// Runs as the entrypoint of a container in a task of Amazon ECS: takes the host's name, the address that players dial and the
    /// ports from the task, and protects the task from scale-in and deployments.
    #[arg(long, help_heading = "Amazon ECS", conflicts_with_all = ECS_OR_POD)]
    pub(crate) ecs: bool,
    /// Which address players dial where the file sets no public_host: external, that of the instance, or internal, the private one.
    #[arg(long, help_heading = "Amazon ECS", value_name = "ADDRESS", default_value_t)]
    pub(crate) ecs_address: greenroom_ecs::AddressFrom,
    /// When the task is protected.
    #[arg(long, help_heading = "Amazon ECS", value_name = "WHEN", value_enum, default_value_t = ProtectWord::Ready)]
    pub(crate) ecs_protect: ProtectWord,
    /// The task's metadata, as ECS tells it.
    #[arg(
        long,
        help_heading = "Amazon ECS",
        env = "ECS_CONTAINER_METADATA_URI_V4",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) ecs_metadata_uri: Option<String>,
    /// The container agent, as ECS tells it.
    #[arg(
        long,
        help_heading = "Amazon ECS",
        env = "ECS_AGENT_URI",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) ecs_agent_uri: Option<String>,
    /// The metadata service of the EC2 instance.
    #[arg(
        long,
        help_heading = "Amazon ECS",
        env = "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://169.254.169.254"
    )]
    pub(crate) ecs_instance_uri: String,
}

/// When a task is protected from scale-in and deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProtectWord {
    /// While it has a game server: none is handed out before the task is protected.
    Ready,
    /// While somebody is on it or was promised a place: idle tasks may go, and in the moment after a promise too.
    Busy,
    /// Never.
    Off,
}

#[cfg(feature = "kubernetes")]
const ECS_OR_POD: [&str; 1] = ["kubernetes"];
#[cfg(not(feature = "kubernetes"))]
const ECS_OR_POD: [&str; 0] = [];

/// `greenroom allocate`.
#[derive(Debug, Args)]
pub(crate) struct AllocateArgs {
    /// The fleet.
    pub(crate) fleet: String,
    /// Who gets a seat; may be given several times.
    #[arg(long = "player", value_name = "PLAYER", required = true)]
    pub(crate) players: Vec<String>,
    /// The room's key: the same key gives the same room.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// How long to wait for capacity, in milliseconds.
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u64>,
    /// Takes free seats in a room that another such call has made; makes one when there is none.
    #[arg(long, conflicts_with = "key")]
    pub(crate) fill: bool,
    /// A label that the server's host must have; may be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// The revision that the server must run.
    #[arg(long)]
    pub(crate) revision: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `greenroom logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A game server, `fleet/NAME` for all servers of a fleet, or `room/ID` for what its server says of a room.
    #[arg(value_name = "SERVER|fleet/NAME|room/ID")]
    pub(crate) of: crate::logs::Of,
    /// Goes on until interrupted, or until the room is over; to another server with the room, and to new ones of the fleet.
    #[arg(short, long)]
    pub(crate) follow: bool,
}
