//! `greenroom edge`: from arguments to a running proxy in front of fleets.
//!
//! Never chooses a server: the edge does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use greenroom_core::FleetName;
use greenroom_edge::{BoundEdge, EdgeConfig, PortUse};
use greenroom_tls::PairFiles;

use crate::args::Global;
use crate::ask;
use crate::failure::{Failure, chain};
use crate::serve::stop_on_signals;

/// `greenroom edge`.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// The fleet whose servers get sessions that name none: one whose servers are all as good as another.
    #[arg(long, env = "GREENROOM_EDGE_FLEET", hide_env_values = true, value_name = "FLEET")]
    pub(crate) fleet: FleetName,
    /// A fleet whose servers are reached by name, with `?server=NAME`; may be given several times.
    #[arg(long, value_name = "FLEET")]
    pub(crate) named_fleet: Vec<FleetName>,
    /// Where clients connect.
    #[arg(
        long,
        env = "GREENROOM_EDGE_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub(crate) listen: SocketAddr,
    /// Lets other edges of this machine listen there too: one for each core, or the next one before this one ends.
    #[arg(long)]
    pub(crate) share_port: bool,
    /// The certificate (PEM) that clients are shown, then those that lead to a known authority; read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authorities (PEM) of game servers that speak TLS themselves.
    #[arg(long, value_name = "FILE")]
    pub(crate) backend_ca: Option<PathBuf>,
    /// One more replica of the control plane, besides --server; may be given several times.
    #[arg(long, value_name = "URL")]
    pub(crate) replica: Vec<String>,
    /// Most connections of clients; without it what the limit of file descriptors allows, at two for each.
    #[arg(long, value_name = "COUNT")]
    pub(crate) connections_max: Option<usize>,
    /// How long connections may go on when it is told to end. Long polls need more than the 25 s between two pings.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) drain: Duration,
}

/// Runs the edge until SIGINT or SIGTERM.
pub(crate) async fn edge(args: &EdgeArgs, global: &Global) -> Result<(), Failure> {
    let urls = std::iter::once(&global.server).chain(&args.replica);
    let controls = urls
        .map(|url| ask::client_at(url, global.token_from.as_ref(), global.ca.as_deref()))
        .collect::<Result<_, _>>()?;
    let stop = stop_on_signals()?;
    let mut config = EdgeConfig::new(args.listen, args.fleet.clone(), controls);
    config.named_fleets.clone_from(&args.named_fleet);
    config.port_use = if args.share_port { PortUse::Shared } else { PortUse::Alone };
    let pair = args.tls_cert.clone().zip(args.tls_key.clone());
    config.tls = pair.map(|(certificates, key)| PairFiles { certificates, key });
    config.backend_ca.clone_from(&args.backend_ca);
    config.connections_max = args.connections_max;
    config.drain = args.drain;
    let failed = |error| {
        Failure::new(chain(&error), "Name another address with --listen, or mend the files that are named.")
    };
    BoundEdge::bind(config).map_err(failed)?.serve(stop).await.map_err(failed)
}
