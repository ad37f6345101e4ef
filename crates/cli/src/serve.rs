//! `greenroom control` and `greenroom agent`: from arguments and configuration to a running part.
//!
//! Never decides anything about fleets or rooms.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use greenroom_agent::{AgentConfig, AgentTls, OnExit};
use greenroom_control::{
    AccessToken, Action, ControlConfig, ControlTls, LoginConfig, LoginKeys, NotifyConfig, PlayersConfig,
    ReadyWhen, ReplicaConfig, StaticPage, TokenSource, TriggerConfig, WebhookConfig,
};
use greenroom_core::fleet::Fleet;
use greenroom_store::redis::{RedisAddress, RedisConfig, RedisStore};
use greenroom_store::{FileStore, Store};
use greenroom_wire::secret::{Secret, SecretRef};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::{AgentArgs, ConfigArgs, ControlArgs, Global, SharedArgs};
use crate::config::{
    self, ActionSection, Config, KeysSection, NotifySection, PlayersSection, TokenSection, TriggerSection,
};
use crate::failure::{Failure, chain};
use crate::{pages, public_host, secrets};

/// How long one post to the webhook may take.
const WEBHOOK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Connections of players at once.
const PLAYER_CONNECTIONS_MAX: usize = 10_000;

/// Runs the control plane until SIGINT or SIGTERM.
pub(crate) async fn control(args: &ControlArgs) -> Result<(), Failure> {
    let config = read(&args.config)?;
    info!(fleets = config.fleets.len(), host = %config.host.name, "configuration read");
    let store = store(args)?;
    let stop = stop_on_signals()?;
    let settings = control_config(args, config)?;
    greenroom_control::run(settings, store, stop)
        .await
        .map_err(|error| Failure::new(chain(&error), "Promises made so far are kept; start it again."))
}

fn store(args: &ControlArgs) -> Result<Arc<dyn Store>, Failure> {
    if let Some(url) = &args.shared.store {
        let mut config = redis_config(url)?;
        config.prefix.clone_from(&args.shared.store_prefix);
        return redis_store(config);
    }
    file_store(&args.data_dir)
}

/// The store of a control plane without a Redis.
pub(crate) fn file_store(data_dir: &Path) -> Result<Arc<dyn Store>, Failure> {
    let store = FileStore::open(&data_dir.join("control")).map_err(|error| {
        Failure::new(chain(&error), "Stop the other control plane, or name another folder with --data-dir.")
    })?;
    Ok(Arc::new(store))
}

pub(crate) fn redis_store(config: RedisConfig) -> Result<Arc<dyn Store>, Failure> {
    let store = RedisStore::open(config).map_err(|error| {
        Failure::new(chain(&error), "Give this machine more of it, or end something else.")
    })?;
    Ok(Arc::new(store))
}

/// The defaults for the Redis that `--store` names.
pub(crate) fn redis_config(store: &str) -> Result<RedisConfig, Failure> {
    Ok(RedisConfig::new(redis_address(store)?))
}

pub(crate) fn redis_address(store: &str) -> Result<RedisAddress, Failure> {
    store
        .parse()
        .map_err(|error| Failure::usage(chain(&error), "Name a Redis with --store redis://host:port."))
}

/// Who shares its store is a replica, even where there is no other one yet.
fn replica(
    shared: &SharedArgs,
    listen: SocketAddr,
    tls: Option<&ControlTls>,
) -> Result<Option<ReplicaConfig>, Failure> {
    if shared.store.is_none() {
        return Ok(None);
    }
    let name = shared.replica.clone().unwrap_or_else(|| listen.to_string());
    let scheme = if tls.is_some() { "https://" } else { "http://" };
    let advertise = match &shared.advertise {
        Some(url) if url.starts_with(scheme) => url.clone(),
        Some(url) => {
            let problem = format!("--advertise cannot be {url:?}");
            let hint = match tls {
                Some(_) => {
                    "It must be https://host:port, as the other replicas reach it: [control.tls] is set."
                }
                None => {
                    "It must be http://host:port, as the other replicas reach it; https:// needs [control.tls]."
                }
            };
            return Err(Failure::usage(problem, hint));
        }
        None if listen.ip().is_unspecified() => {
            let problem = format!("the other replicas cannot reach {listen}");
            return Err(Failure::usage(
                problem,
                format!("Say where they do with --advertise {scheme}host:port."),
            ));
        }
        None => format!("{scheme}{listen}"),
    };
    let mut replica = ReplicaConfig::new(name, advertise);
    replica.token = match &shared.replica_token_from {
        Some(reference) => Some(secrets::resolve(reference, "--replica-token-from")?),
        None => None,
    };
    Ok(Some(replica))
}

fn control_config(args: &ControlArgs, config: Config) -> Result<ControlConfig, Failure> {
    let ourselves = std::env::current_exe()
        .map(|path| path.display().to_string())
        .map_err(|error| Failure::new(format!("cannot tell where this program lies: {error}"), ""))?;
    if args.under_dev && config.control.tls.is_some() {
        info!("[control.tls] and [agent.tls] are left aside: `greenroom dev` speaks plain HTTP on loopback");
    }
    if !args.under_dev && !config.watch.is_empty() {
        let fleets: Vec<&str> = config.watch.keys().map(greenroom_core::FleetName::as_str).collect();
        info!(fleets = fleets.join(", "), "watch is for `greenroom dev` alone and ignored here");
    }
    let mut fleets = config.fleets;
    fleets.retain(|fleet| !args.skip_fleet.iter().any(|skipped| skipped == fleet.name.as_str()));
    if args.under_dev {
        fleets = fleets.into_iter().map(|fleet| run_by(fleet, &ourselves)).collect();
    }
    let mut settings = ControlConfig::new(fleets);
    settings.listen = args.listen.unwrap_or(config.control.listen);
    settings.tls = config.control.tls.filter(|_| !args.under_dev);
    settings.replica = replica(&args.shared, settings.listen, settings.tls.as_ref())?;
    settings.tokens = config.control.tokens.into_iter().map(access_token).collect::<Result<_, _>>()?;
    settings.players = config.players.map(players).transpose()?;
    settings.webhook = config.control.webhook_url.map(|url| WebhookConfig { url, timeout: WEBHOOK_TIMEOUT });
    settings.notify = config.control.notify.into_iter().map(notify).collect::<Result<_, _>>()?;
    settings.triggers = config.triggers.into_iter().map(trigger).collect::<Result<_, _>>()?;
    settings.pages = pages::all(args.demo_pages)
        .into_iter()
        .map(|(path, content_type, bytes)| StaticPage {
            path: path.to_owned(),
            content_type: content_type.to_owned(),
            bytes: Bytes::from_static(bytes),
        })
        .collect();
    settings.timings.reservation = config.control.reservation;
    settings.timings.host_lost_after = config.control.host_lost_after;
    if args.under_dev {
        settings.ready_when = ReadyWhen::MinimumReady;
    }
    Ok(settings)
}

/// The address is read once: whoever changes it starts the control plane anew.
fn notify(section: NotifySection) -> Result<NotifyConfig, Failure> {
    let NotifySection { url, wants } = section;
    let whose = format!("[[control.notify]] {:?}", wants.name);
    Ok(NotifyConfig { url: secrets::resolve(&url, &whose)?, wants })
}

/// An address is read once, as above.
fn trigger(section: TriggerSection) -> Result<TriggerConfig, Failure> {
    let TriggerSection { name, gauge, trigger, action, timeout } = section;
    let action = match action {
        ActionSection::Exec(command) => Action::Exec(command),
        ActionSection::Post(url) => Action::Post(Secret::new(url)),
        ActionSection::PostFrom(url) => {
            Action::Post(secrets::resolve(&url, &format!("[triggers.{name}] post"))?)
        }
    };
    Ok(TriggerConfig { name, gauge, trigger, action, timeout })
}

/// A file is left to the control plane, which reads it again and again; a variable cannot change, and a program is run once.
fn access_token(section: TokenSection) -> Result<AccessToken, Failure> {
    let TokenSection { name, role, from } = section;
    let source = match from {
        SecretRef::Env(_) | SecretRef::Exec(_) => {
            TokenSource::Value(secrets::resolve(&from, &format!("token {name:?}"))?)
        }
        SecretRef::File(path) => TokenSource::File(path),
    };
    Ok(AccessToken { name, role, source })
}

fn players(section: PlayersSection) -> Result<PlayersConfig, Failure> {
    let keys = match section.keys {
        KeysSection::Url(url) => LoginKeys::Url(url),
        KeysSection::File(file) => LoginKeys::File(file),
        KeysSection::Shared(reference) => {
            LoginKeys::Shared(vec![secrets::resolve(&reference, "[players] secret")?])
        }
    };
    Ok(PlayersConfig {
        listen: section.listen,
        tls: section.tls,
        login: LoginConfig {
            keys,
            algorithms: section.algorithms,
            audience: section.audience,
            issuer: section.issuer,
        },
        origins: section.allowed_origins,
        endpoints: section.endpoints,
        rooms: section.rooms,
        tickets: section.tickets,
        rating_claim: section.rating_claim,
        said: section.said,
        per_player: section.per_player,
        per_address: section.per_address,
        proxies: section.proxies,
        connections_max: PLAYER_CONNECTIONS_MAX,
    })
}

/// The first word `greenroom` of a command becomes the running binary. The revision stays that of the file: where the
/// binary lies says nothing about what it runs.
fn run_by(mut fleet: Fleet, ourselves: &str) -> Fleet {
    if let Some(program) = fleet.template.command.first_mut()
        && program == "greenroom"
    {
        ourselves.clone_into(program);
    }
    fleet
}

/// Runs the agent until SIGINT or SIGTERM.
pub(crate) async fn agent(args: &AgentArgs, global: &Global) -> Result<(), Failure> {
    let config = read(&args.config)?;
    let token = secrets::own_token(global.token_from.as_ref())?;
    let stop = stop_on_signals()?;
    #[cfg(feature = "kubernetes")]
    if args.pod.kubernetes {
        let fleets = config.fleets.clone();
        return crate::pod::run(&args.pod, agent_config(args, config, global, token)?, &fleets, stop).await;
    }
    if args.ecs.ecs {
        return in_task(args, config, global, token, stop).await;
    }
    run_agent(agent_config(args, config, global, token)?, stop).await
}

/// What a task says goes before the file, but for a `public_host` that is not the default.
async fn in_task(
    args: &AgentArgs,
    mut config: Config,
    global: &Global,
    token: Option<Secret>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let fleets = config.fleets.clone();
    // Its {ip} is the task's: what this container dials from, nobody else reaches in bridge mode.
    let named = std::mem::replace(&mut config.host.public_host, config::PUBLIC_HOST.to_owned());
    let named = (named != config::PUBLIC_HOST).then_some(named);
    crate::ecs::run(&args.ecs, agent_config(args, config, global, token)?, named, &fleets, stop).await
}

pub(crate) async fn run_agent(settings: AgentConfig, stop: CancellationToken) -> Result<(), Failure> {
    greenroom_agent::run(settings, stop).await.map_err(|error| {
        Failure::new(chain(&error), "Running game servers go on; the next agent adopts them.")
    })
}

fn agent_config(
    args: &AgentArgs,
    config: Config,
    global: &Global,
    token: Option<Secret>,
) -> Result<AgentConfig, Failure> {
    let (server, ca) = (&global.server, global.ca.as_ref());
    let host = config.host;
    let public_host = public_host::filled(&host.public_host, server).map_err(|error| {
        let what = format!(
            "public_host {:?} needs this machine's address: no way to {server}: {error}",
            host.public_host
        );
        Failure::new(what, "Write the whole name, or see why that control plane cannot be reached from here.")
    })?;
    let mut settings = AgentConfig::new(host.name, server.clone(), args.data_dir.clone());
    let ports = host.ports.len()
        + config.fleets.iter().filter_map(|fleet| Some(fleet.ports.as_ref()?.len())).sum::<usize>();
    settings.servers_max = u32::try_from(ports).unwrap_or(u32::MAX);
    settings.token = token;
    let by_flag =
        || Some(AgentTls { ca: ca.filter(|_| server.starts_with("https://"))?.clone(), pair: None });
    settings.tls = config.agent_tls.filter(|_| !args.under_dev).or_else(by_flag).map(|tls| AgentTls {
        // Servers are told of it too, wherever they run.
        ca: std::path::absolute(&tls.ca).unwrap_or(tls.ca),
        ..tls
    });
    settings.other_controls.clone_from(&args.replica);
    settings.ports = host.ports;
    settings.bind = public_host::bind_for(&public_host);
    settings.public_host = public_host;
    settings.labels = host.labels;
    settings.allowed_origins = host.allowed_origins;
    settings.allowed_origins.extend(args.allow_origin.iter().cloned());
    if args.stop_servers_on_exit {
        settings.on_exit = OnExit::StopServers;
    }
    Ok(settings)
}

fn read(args: &ConfigArgs) -> Result<Config, Failure> {
    let default = Path::new("greenroom.toml");
    if args.demo {
        return config::parse("the demonstration", config::DEMO)
            .map_err(|faults| Failure::usage(faults.to_string(), ""));
    }
    match &args.config {
        Some(file) => Ok(config::load(file)?),
        None if default.exists() => Ok(config::load(default)?),
        None => config::parse("no file", "").map_err(|faults| Failure::usage(faults.to_string(), "")),
    }
}

/// Cancelled by the first SIGINT or SIGTERM. The waiting task ends with the runtime.
pub(crate) fn stop_on_signals() -> Result<CancellationToken, Failure> {
    let on =
        |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}"), ""));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    let tracker = tokio_util::task::TaskTracker::new();
    tracker.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
