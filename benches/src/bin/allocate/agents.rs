//! Agents of many hosts, each on a stream of its own, that tell of servers which run already.
//!
//! Never starts anything: the control plane takes over what it is told of, as after a start of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Hello, ProcessPhase, Report, ServerReport, VERSION};
use greenroom_wire::link::Measured;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::Args;

/// One task for each host; they end with the value, or tell why they ended.
pub(crate) fn start(address: &str, args: &Args, stop: &CancellationToken) -> anyhow::Result<JoinSet<()>> {
    let mut agents = JoinSet::new();
    for host in 0..args.hosts.max(1) {
        let url = format!("ws://{address}/v1/agents/stream");
        let servers = (0..args.servers).filter(|nth| nth % args.hosts.max(1) == host).map(running);
        let servers = servers.collect::<anyhow::Result<Vec<ServerReport>>>()?;
        let (stop, churns) = (stop.clone(), args.discover);
        agents.spawn(async move {
            let talk = talk(&url, host, servers, churns);
            tokio::select! {
                () = stop.cancelled() => {}
                Err(error) = talk => eprintln!("the agent of host {host} ended: {error:#}"),
            }
        });
    }
    Ok(agents)
}

pub(crate) fn hello(host: u32) -> anyhow::Result<Hello> {
    Ok(Hello {
        version: VERSION,
        host: Text(format!("bench-{host}").parse()?),
        boot: "b1".to_owned(),
        labels: BTreeMap::new(),
        servers_max: 100_000,
        term_seen: 0,
        wants_occupied: false,
        agones: false,
    })
}

async fn talk(url: &str, host: u32, mut servers: Vec<ServerReport>, churns: bool) -> anyhow::Result<()> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    socket.send(Message::text(serde_json::to_string(&FromAgent::Hello(hello(host)?))?)).await?;
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for second in 0_u32.. {
        // What a server tells is never quite the same again.
        for (server, nth) in servers.iter_mut().zip(0..) {
            server.measured.loop_lag_ms = Some((second + nth) % 7);
            let is_out = churns && second > 3 && (second + nth) % 10 == 0;
            server.phase = if is_out { ProcessPhase::Starting } else { ProcessPhase::Ready };
            server.measured.memory_bytes = Some((64 << 20) + (u64::from(second) << 12));
        }
        let report = serde_json::to_string(&FromAgent::Report(Report {
            at_ms: None,
            term: None,
            trouble: String::new(),
            servers: servers.clone(),
        }))?;
        socket.send(Message::text(report)).await?;
        loop {
            tokio::select! {
                _ = beat.tick() => break,
                frame = socket.next() => match frame.context("the stream ended")?? {
                    Message::Close(frame) => anyhow::bail!("the stream was closed: {frame:?}"),
                    Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                },
            }
        }
    }
    Ok(())
}

pub(crate) fn running(nth: u32) -> anyhow::Result<ServerReport> {
    let server = format!("arena-{nth:05}");
    Ok(ServerReport {
        server: Text(server.parse()?),
        instance: Text(format!("{server}.1").parse()?),
        fleet: Text("arena".parse()?),
        revision: Text("bench".parse()?),
        phase: ProcessPhase::Ready,
        endpoint: format!("127.0.0.1:{}", 10_000 + nth),
        tls: false,
        pid: Some(1),
        restarts: 0,
        started_at_ms: 1,
        connections: 0,
        rooms: Vec::new(),
        keeps_rooms: false,
        linked: true,
        measured: Measured::default(),
        labels: std::collections::BTreeMap::new(),
        held: false,
        message: String::new(),
    })
}
