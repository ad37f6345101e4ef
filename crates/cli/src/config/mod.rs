//! The configuration file `greenroom.toml`: what it may say, its defaults, and how it is checked.
//!
//! Never starts anything. A file is taken whole or not at all: all its faults are told together.

mod access;
mod autoscale;
pub(crate) mod fault;
mod fleet;
mod full_at;
mod matching;
mod notify;
mod players;
mod ports;
pub(crate) mod reader;
mod recovery;
mod recycle;
mod show;
#[cfg(test)]
mod tests;
mod tls;
mod triggers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_agent::AgentTls;
use greenroom_control::{ControlTls, Role};
use greenroom_core::fleet::Fleet;
use greenroom_core::{FleetName, HostName};
use greenroom_wire::link::options;
use greenroom_wire::secret::SecretRef;
use toml::de::DeTable;

use fault::Fault;
pub(crate) use fault::Faults;
use fleet::ReadFleet;
pub(crate) use notify::NotifySection;
pub(crate) use players::{KeysSection, PlayersSection};
use reader::{Found, Section, from_text, value_fault};

use crate::public_host::{is_host, is_public_address};
pub(crate) use triggers::{ActionSection, TriggerSection};

/// The demonstration that `dev` runs where there is no `greenroom.toml`.
pub(crate) const DEMO: &str = include_str!("../demo.toml");
/// What players dial where `[host] public_host` is not set.
pub(crate) const PUBLIC_HOST: &str = "127.0.0.1";

/// Most servers of one fleet: as many as a host has ports to give.
const REPLICAS_MAX: i64 = 50_000;
/// How clients come back, as it is written and as a Greenroom node reads it.
const RECOVERY_ENVS: [(&str, &str); 3] = [
    ("recovery", options::RECOVERY),
    ("delivery", options::DELIVERY),
    ("checkpoint_every", options::CHECKPOINT_EVERY),
];
const HOUR: Duration = Duration::from_secs(3600);

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `[control]`.
    pub(crate) control: ControlSection,
    /// `[host]`.
    pub(crate) host: HostSection,
    /// `[agent.tls]`: TLS of the streams to the control plane. Default none.
    pub(crate) agent_tls: Option<AgentTls>,
    /// `[players]`: the listener that players reach themselves. Default none.
    pub(crate) players: Option<PlayersSection>,
    /// `[triggers.*]`, by name: what is watched, and what is done about it. Default none.
    pub(crate) triggers: Vec<TriggerSection>,
    /// `[fleets.*]`, by name.
    pub(crate) fleets: Vec<Fleet>,
    /// `watch` of the fleets that have it: under `dev`, a change of these files restarts the fleet's servers.
    pub(crate) watch: BTreeMap<FleetName, Vec<PathBuf>>,
}

/// `[control]`: the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlSection {
    /// Where the API and the dashboard listen. Default `127.0.0.1:8700`; beyond loopback only with tokens or mutual TLS.
    pub(crate) listen: SocketAddr,
    /// `[control.tls]`: its certificate, and who is known by one. Default none: plain HTTP.
    pub(crate) tls: Option<ControlTls>,
    /// `[[control.tokens]]`: who may call. Default nobody is asked.
    pub(crate) tokens: Vec<TokenSection>,
    /// Where results of ended rooms are posted. Default: nowhere.
    pub(crate) webhook_url: Option<String>,
    /// `[[control.notify]]`: who outside is told what happens. Default nobody.
    pub(crate) notify: Vec<NotifySection>,
    /// How long a promised seat waits for its player. Default 30 s, 1 s to 1 h.
    pub(crate) reservation: Duration,
    /// How long a silent host is waited for before its rooms count as lost. Default 5 min, 10 s to 24 h.
    pub(crate) host_lost_after: Duration,
}

/// One of `[[control.tokens]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenSection {
    /// Who bears it.
    pub(crate) name: String,
    /// What its bearer may do.
    pub(crate) role: Role,
    /// Where it is.
    pub(crate) from: SecretRef,
}

/// `[host]`: the machine that game servers run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostSection {
    /// Its name. Default `local`.
    pub(crate) name: HostName,
    /// The name or address that players dial. Default `127.0.0.1`.
    pub(crate) public_host: String,
    /// Whether that may be an address that other machines dial. Default no.
    pub(crate) allow_ip: bool,
    /// Ports for game servers, one each. Default 7000 to 8000.
    pub(crate) ports: RangeInclusive<u16>,
    /// Browser origins that may connect to game servers. Default: none besides the server's own.
    pub(crate) allowed_origins: Vec<String>,
    /// What allocations may ask for, such as a zone. Default none.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read. Name another one, or make it readable.
    #[error("cannot read {file}: {why}")]
    Unreadable {
        /// As the caller named it.
        file: String,
        /// From the operating system, or what the bytes are.
        why: String,
    },
    /// The file has faults. Mend all of them; nothing was applied.
    #[error("{0}")]
    Faulty(Faults),
}

/// Reads and checks the file at `path`.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    const BYTES_MAX: u64 = 4 * 1024 * 1024;
    let file = path.display().to_string();
    let unreadable = |why: String| ConfigError::Unreadable { file: file.clone(), why };
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > BYTES_MAX {
        return Err(unreadable(format!("it has {length} bytes, more than the {BYTES_MAX} allowed")));
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())))?;
    parse(&file, &text).map_err(ConfigError::Faulty)
}

/// Checks `text`; `file` is how faults call it.
pub(crate) fn parse(file: &str, text: &str) -> Result<Config, Faults> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = errors.iter().map(Fault::of_syntax).collect();
    let config = read_root(root.get_ref(), &mut faults);
    match (Faults::of(file, text, faults), config) {
        (Some(faults), _) => Err(faults),
        (None, config) => Ok(config),
    }
}

fn read_root(table: &DeTable<'_>, faults: &mut Vec<Fault>) -> Config {
    let mut root = Section::new("the file", 0..0, table);
    let empty = DeTable::new();
    let control_table = root.table("control", faults);
    let host_table = root.table("host", faults);
    let agent_table = root.table("agent", faults);
    let players_table = root.table("players", faults);
    let triggers_table = root.table("triggers", faults);
    let fleets_table = root.table("fleets", faults);
    root.finish(faults);

    let (control, listen_span) = match &control_table {
        Some(found) => read_control(found.value, found.span.clone(), faults),
        None => read_control(&empty, 0..0, faults),
    };
    let (host, ports_span) = match &host_table {
        Some(found) => read_host(found.value, found.span.clone(), faults),
        None => read_host(&empty, 0..0, faults),
    };
    let agent_tls = agent_table.and_then(|found| tls::agent(found.value, found.span.clone(), faults));
    let fleets = fleets_table.map_or_else(Vec::new, |found| read_fleets(&found, faults));
    let specs: Vec<&Fleet> = fleets.iter().map(|read| &read.fleet).collect();
    let players =
        players_table.and_then(|found| players::read(found.value, found.span.clone(), &specs, faults));
    let triggers = triggers_table.map_or_else(Vec::new, |found| triggers::read(&found, &specs, faults));
    ports::check(&control, listen_span.as_ref(), &host, ports_span, &fleets, faults);
    let watched = fleets.iter().filter(|read| !read.watch.is_empty());
    let watch = watched.map(|read| (read.fleet.name.clone(), read.watch.clone())).collect();
    let mut fleets: Vec<Fleet> = fleets.into_iter().map(|read| read.fleet).collect();
    fleets.sort_by(|a, b| a.name.cmp(&b.name));
    Config { control, host, agent_tls, players, triggers, fleets, watch }
}

fn read_control(
    table: &DeTable<'_>,
    span: Range<usize>,
    faults: &mut Vec<Fault>,
) -> (ControlSection, Option<Range<usize>>) {
    let mut section = Section::new("[control]", span, table);
    let listen = section.parsed("listen", faults, |text| {
        text.parse::<SocketAddr>().map_err(|_unreadable| {
            format!("is {text:?}, which is no address; write for example \"127.0.0.1:8700\"")
        })
    });
    let (tokens, some) = access::tokens(&mut section, faults);
    let (tls, knows_callers) = tls::control(&mut section, faults);
    if let Some(found) = &listen
        && !found.value.ip().is_loopback()
        && !some
        && !knows_callers
    {
        faults.push(value_fault(
            found.span.clone(),
            format!(
                "listen is {}, which others can reach, and there are no [[control.tokens]]; add one with name, role and from, or [control.tls] with ca, or listen on 127.0.0.1",
                found.value
            ),
        ));
    }
    let webhook_url = section.parsed("webhook_url", faults, |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let names_a_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':']));
        if names_a_host && text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(text.to_owned())
        } else {
            Err(format!("is {text:?}; write a whole address such as \"http://127.0.0.1:3000/rooms/ended\""))
        }
    });
    let notify = notify::read(&mut section, faults);
    let second = Duration::from_secs(1);
    let reservation = section.duration("reservation", second..=HOUR, faults);
    let host_lost_after = section.duration("host_lost_after", second * 10..=HOUR * 24, faults);
    section.finish(faults);
    let listen_span = listen.as_ref().map(|found| found.span.clone());
    let control = ControlSection {
        listen: listen.map_or(SocketAddr::from(([127, 0, 0, 1], 8700)), |found| found.value),
        tls,
        tokens,
        webhook_url: webhook_url.map(|found| found.value),
        notify,
        reservation: reservation.map_or(second * 30, |found| found.value),
        host_lost_after: host_lost_after.map_or(second * 300, |found| found.value),
    };
    (control, listen_span)
}

fn read_host(
    table: &DeTable<'_>,
    span: Range<usize>,
    faults: &mut Vec<Fault>,
) -> (HostSection, Option<Range<usize>>) {
    let mut section = Section::new("[host]", span, table);
    let name = section.parsed("name", faults, from_text::<HostName>);
    let allow_ip = section.flag("allow_ip", faults).is_some_and(|found| found.value);
    let public_host = section.parsed("public_host", faults, |text| {
        if !is_host(text) {
            let example = "such as \"game.example.com\" or \"{ip}.games.example.com\"";
            return Err(format!("is {text:?}; write a host name or address without port, {example}"));
        }
        if is_public_address(text) && !allow_ip {
            return Err(format!(
                "is {text:?}, an address: players on networks with IPv6 alone reach names only, and certificates carry names; \
                 write a name, such as \"{{ip}}.games.example.com\", or allow_ip = true"
            ));
        }
        Ok(text.to_owned())
    });
    let ports = section.parsed("ports", faults, ports::parse);
    let origins = section.texts("allowed_origins", faults);
    for origin in origins.iter().flat_map(|found| &found.value) {
        if !is_origin(origin.value) {
            faults.push(value_fault(
                origin.span.clone(),
                format!(
                    "allowed_origins has {:?}; write \"*\" or an origin such as \"https://game.example.com\"",
                    origin.value
                ),
            ));
        }
    }
    let labels = read_labels(&mut section, faults);
    section.finish(faults);
    let ports_span = ports.as_ref().map(|found| found.span.clone());
    let host = HostSection {
        name: name.map_or_else(|| "local".parse().expect("a valid host name"), |found| found.value),
        public_host: public_host.map_or_else(|| PUBLIC_HOST.to_owned(), |found| found.value),
        allow_ip,
        ports: ports.map_or(7000..=8000, |found| found.value),
        allowed_origins: origins
            .map(|found| found.value.iter().map(|origin| origin.value.to_owned()).collect())
            .unwrap_or_default(),
        labels,
    };
    (host, ports_span)
}

/// `labels = { zone = "a" }`. As many and as long as a call may ask for.
fn read_labels(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> BTreeMap<String, String> {
    let Some(table) = section.table("labels", faults) else { return BTreeMap::new() };
    if table.value.len() > 16 {
        faults.push(value_fault(table.span.clone(), "labels has more than 16 entries"));
    }
    let fits = |text: &str| (1..=64).contains(&text.len()) && !text.contains([',', ':', '=']);
    let mut labels = BTreeMap::new();
    for (name, value) in table.value {
        let key = name.get_ref().as_ref();
        match value.get_ref().as_str().filter(|value| fits(key) && fits(value)) {
            Some(value) => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            None => faults.push(value_fault(
                value.span(),
                format!("label {key} must be 1 to 64 characters without comma, colon or =, and so must its value; write for example labels = {{ zone = \"a\" }}"),
            )),
        }
    }
    labels
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    text == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ',', ' ', '?', '#']))
}

fn read_fleets(found: &Found<&DeTable<'_>>, faults: &mut Vec<Fault>) -> Vec<ReadFleet> {
    let mut fleets = Vec::new();
    for (name, value) in found.value {
        let text = name.get_ref().as_ref();
        match value.get_ref().as_table() {
            Some(table) => fleets.extend(fleet::read(text, name.span(), table, faults)),
            None => {
                faults.push(reader::wrong_type(
                    &format!("fleets.{text}"),
                    value,
                    "a table",
                    "[fleets.arena]",
                ));
            }
        }
    }
    fleets
}
