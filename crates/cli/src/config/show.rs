//! Prints the effective values of a configuration, defaults included, as TOML that says the same when read again.
//!
//! Never prints a value that was not checked.

use std::fmt;
use std::time::Duration;

use greenroom_control::Says;
use greenroom_core::fleet::{Fleet, FleetKind, Probe};

use super::RECOVERY_ENVS;
use super::{Config, KeysSection, PlayersSection};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (control, host) = (&self.control, &self.host);
        writeln!(f, "[control]")?;
        writeln!(f, "listen = {}", text(&control.listen.to_string()))?;
        if let Some(url) = &control.webhook_url {
            writeln!(f, "webhook_url = {}", text(url))?;
        }
        writeln!(f, "reservation = {}", span(control.reservation))?;
        writeln!(f, "host_lost_after = {}", span(control.host_lost_after))?;
        for token in &control.tokens {
            writeln!(f, "\n[[control.tokens]]")?;
            writeln!(f, "name = {}", text(&token.name))?;
            writeln!(f, "role = {}", text(token.role.word()))?;
            writeln!(f, "from = {}", text(&token.from.to_string()))?;
        }
        self.control.notify.iter().try_for_each(|reader| super::notify::write(f, reader))?;
        self.control.tls.as_ref().map_or(Ok(()), |tls| super::tls::write_control(f, tls))?;
        self.agent_tls.as_ref().map_or(Ok(()), |tls| super::tls::write_agent(f, tls))?;
        writeln!(f, "\n[host]")?;
        writeln!(f, "name = {}", text(host.name.as_str()))?;
        writeln!(f, "public_host = {}", text(&host.public_host))?;
        writeln!(f, "allow_ip = {}", host.allow_ip)?;
        writeln!(f, "ports = \"{}-{}\"", host.ports.start(), host.ports.end())?;
        writeln!(f, "allowed_origins = {}", list(&host.allowed_origins))?;
        if !host.labels.is_empty() {
            let labels = host.labels.iter().map(|(name, value)| format!("{} = {}", text(name), text(value)));
            writeln!(f, "labels = {{ {} }}", labels.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(players) = &self.players {
            write_players(f, players)?;
        }
        self.triggers.iter().try_for_each(|trigger| super::triggers::write(f, trigger))?;
        self.fleets.iter().try_for_each(|fleet| {
            write_fleet(f, fleet)?;
            if let Some(paths) = self.watch.get(&fleet.name) {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                writeln!(f, "watch = {}", list(&paths))?;
            }
            super::autoscale::write(f, fleet.name.as_str(), &fleet.autoscale)?;
            super::matching::write(f, fleet.name.as_str(), &fleet.matching)?;
            super::recycle::write(f, fleet.name.as_str(), &fleet.recycle)?;
            super::full_at::write(f, fleet.name.as_str(), &fleet.full_at)
        })
    }
}

fn write_players(f: &mut fmt::Formatter<'_>, players: &PlayersSection) -> fmt::Result {
    writeln!(f, "\n[players]")?;
    writeln!(f, "listen = {}", text(&players.listen.to_string()))?;
    match &players.keys {
        KeysSection::Url(url) => writeln!(f, "keys_url = {}", text(url))?,
        KeysSection::File(file) => writeln!(f, "keys_file = {}", text(&file.display().to_string()))?,
        KeysSection::Shared(reference) => writeln!(f, "secret = {}", text(&reference.to_string()))?,
    }
    let words: Vec<String> = players.algorithms.iter().map(|one| one.word().to_owned()).collect();
    writeln!(f, "algorithms = {}", list(&words))?;
    writeln!(f, "audience = {}", text(&players.audience))?;
    if let Some(issuer) = &players.issuer {
        writeln!(f, "issuer = {}", text(issuer))?;
    }
    writeln!(f, "allowed_origins = {}", list(&players.allowed_origins))?;
    for (key, fleets) in
        [("endpoints", &players.endpoints), ("rooms", &players.rooms), ("tickets", &players.tickets)]
    {
        let names: Vec<String> = fleets.iter().map(ToString::to_string).collect();
        writeln!(f, "{key} = {}", list(&names))?;
    }
    if let Some(claim) = &players.rating_claim {
        writeln!(f, "rating_claim = {}", text(claim))?;
    }
    if !players.said.0.is_empty() {
        let said = players.said.0.iter().map(|(name, says)| match says {
            Says::Player => format!("{name} = \"player\""),
            Says::Token => format!("{name} = \"token\""),
        });
        writeln!(f, "attributes = {{ {} }}", said.collect::<Vec<_>>().join(", "))?;
    }
    writeln!(f, "player_calls_per_second = {}", players.per_player.per_second)?;
    writeln!(f, "player_calls_burst = {}", players.per_player.burst)?;
    writeln!(f, "address_calls_per_second = {}", players.per_address.per_second)?;
    writeln!(f, "address_calls_burst = {}", players.per_address.burst)?;
    writeln!(f, "proxies = {}", players.proxies)?;
    players.tls.as_ref().map_or(Ok(()), |pair| super::tls::write_players(f, pair))
}

fn write_fleet(f: &mut fmt::Formatter<'_>, fleet: &Fleet) -> fmt::Result {
    writeln!(f, "\n[fleets.{}] # revision {}", fleet.name, fleet.revision)?;
    match fleet.kind {
        FleetKind::Room { rooms_per_server, seats_per_room } => {
            writeln!(f, "kind = \"room\"")?;
            writeln!(f, "rooms_per_server = {rooms_per_server}")?;
            writeln!(f, "seats_per_room = {seats_per_room}")?;
            writeln!(f, "match_players = {}", fleet.matching.players)?;
        }
        FleetKind::Mesh => writeln!(f, "kind = \"mesh\"")?,
    }
    writeln!(f, "command = {}", list(&fleet.template.command))?;
    for (key, env) in RECOVERY_ENVS {
        if let Some(value) = fleet.template.env.get(env) {
            writeln!(f, "{key} = {}", text(value))?;
        }
    }
    let is_shown = |key: &String| RECOVERY_ENVS.iter().any(|(_, env)| env == key);
    let plain = fleet.template.env.iter().filter(|(key, _)| !is_shown(key));
    let plain = plain.map(|(key, value)| format!("{} = {}", text(key), text(value)));
    let secrets = fleet.template.secrets.iter().map(|(key, source)| {
        let version = match source.version.as_str() {
            "" => String::new(),
            version => format!(", version = {}", text(version)),
        };
        format!("{} = {{ from = {}{version} }}", text(key), text(&source.from))
    });
    let env: Vec<String> = plain.chain(secrets).collect();
    if !env.is_empty() {
        writeln!(f, "env = {{ {} }}", env.join(", "))?;
    }
    writeln!(f, "allocation = {}", text(fleet.allocation.name()))?;
    writeln!(f, "spread = {}", text(fleet.spread.name()))?;
    writeln!(f, "replicas_min = {}", fleet.replicas_min)?;
    writeln!(f, "replicas_max = {}", fleet.replicas_max)?;
    let probe = match &fleet.template.probe {
        Probe::EngineIo => "engine_io".to_owned(),
        Probe::Tcp => "tcp".to_owned(),
        Probe::Http(path) => format!("http:{path}"),
        Probe::Sdk { silence } => format!("sdk:{}", humantime::format_duration(*silence)),
    };
    writeln!(f, "probe = {}", text(&probe))?;
    writeln!(f, "stop_grace = {}", span(fleet.template.stop_grace))?;
    writeln!(f, "start_timeout = {}", span(fleet.start_timeout))?;
    writeln!(f, "min_ready = {}", span(fleet.template.min_ready))?;
    if fleet.template.agones {
        writeln!(f, "agones = true")?;
    }
    match &fleet.ports {
        Some(ports) => writeln!(f, "ports = \"{}-{}\"", ports.start(), ports.end()),
        None => Ok(()),
    }
}

pub(super) fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

pub(super) fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", quoted.join(", "))
}

pub(super) fn span(value: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(value))
}
