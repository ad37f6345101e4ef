//! Reads one `[fleets.NAME]` section.
//!
//! Never looks at other sections; what spans them is checked by the parent module.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use greenroom_core::FleetName;
use greenroom_core::allocate::Preference;
use greenroom_core::fleet::{Fleet, FleetKind, Probe, SecretSource, Template};
use greenroom_core::placement::Spread;
use greenroom_store::redis::RedisAddress;
use greenroom_wire::link::options;
use greenroom_wire::secret::SecretRef;
use toml::de::DeTable;

use super::fault::Fault;
use super::reader::{Found, Section, did_you_mean, missing, value_fault, wrong_type};
use super::{HOUR, REPLICAS_MAX};

/// Rooms one process may hold: far above what one thread can tick, low enough to catch a slip.
const ROOMS_PER_SERVER_MAX: i64 = 10_000;
/// Seats are numbered in 16 bits, and a room of more has stopped being a room.
const SEATS_PER_ROOM_MAX: i64 = 10_000;

/// How long a server may take to be ready, unless its fleet says otherwise.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a server with the probe `sdk` may be silent: a moment's pause is no death, and nobody waits longer for one.
const SDK_SILENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// A fleet with the places that faults across sections point at.
pub(super) struct ReadFleet {
    pub(super) fleet: Fleet,
    pub(super) replicas_max_span: Range<usize>,
    pub(super) ports_span: Range<usize>,
    pub(super) watch: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KindWord {
    Room,
    Mesh,
}

/// Reads the section called `name`. `None` when it has a fault that leaves nothing to build.
pub(super) fn read(
    name: &str,
    header: Range<usize>,
    table: &DeTable<'_>,
    faults: &mut Vec<Fault>,
) -> Option<ReadFleet> {
    let before = faults.len();
    let mut section = Section::new(format!("[fleets.{name}]"), header.clone(), table);
    let fleet_name = match name.parse::<FleetName>() {
        Ok(fleet_name) => Some(fleet_name),
        Err(error) => {
            faults.push(value_fault(header.clone(), error.to_string()));
            None
        }
    };
    let kind = kind(&mut section, faults);
    let command = command(&mut section, faults);
    let (mut env, secrets) = env(&mut section, faults);
    adapter(&section, &env, &secrets, kind, faults);
    env.extend(super::recovery::read(&mut section, kind, faults));
    let probe = section.parsed("probe", faults, probe).map_or(Probe::EngineIo, |found| found.value);
    let stop_grace = section.duration("stop_grace", Duration::ZERO..=HOUR, faults);
    let (min_ready, start_timeout) = readiness(&mut section, faults);
    let agones = section.flag("agones", faults);
    let ports = section.parsed("ports", faults, super::ports::parse);
    let watch = watch(&mut section, faults);
    let (replicas_min, replicas_max) = replicas(&mut section, faults);
    let (kind, match_players) = sizes(&mut section, kind, faults);
    let matching = super::matching::read(&mut section, kind, match_players, faults);
    let most = replicas_max.as_ref().map_or(replicas_min.max(1), |found| found.value);
    let autoscale = super::autoscale::read(&mut section, kind, most, faults);
    let recycle = super::recycle::read(&mut section, kind, faults);
    let full_at = super::full_at::read(&mut section, faults);
    let allocation = allocation(&mut section, kind, faults);
    let spread = spread(&mut section, faults);
    let ports_span = ports.as_ref().map_or_else(|| header.clone(), |found| found.span.clone());
    let replicas_max_span = replicas_max.as_ref().map_or(header, |found| found.span.clone());
    section.finish(faults);
    if faults.len() > before {
        return None;
    }
    let template = Template {
        command: command?,
        env,
        secrets,
        probe,
        stop_grace: stop_grace.map_or(Duration::from_secs(10), |found| found.value),
        min_ready,
        agones: agones.is_some_and(|found| found.value),
    };
    let kind = kind?;
    let usual_spread = usual_spread(kind, &template);
    let fleet = Fleet {
        name: fleet_name?,
        kind,
        revision: greenroom_wire::revision::revision(&template, kind),
        template,
        replicas_min,
        replicas_max: most,
        matching,
        autoscale,
        allocation: allocation.unwrap_or_else(|| Preference::of(kind)),
        spread: spread.unwrap_or(usual_spread),
        start_timeout,
        recycle,
        full_at,
        ports: ports.map(|found| found.value),
    };
    Some(ReadFleet { fleet, replicas_max_span, ports_span, watch })
}

/// For how long a server must pass its probe, and how long it may take for all of it.
fn readiness(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> (Duration, Duration) {
    let timeout = section.duration("start_timeout", Duration::from_secs(1)..=HOUR, faults);
    let timeout = timeout.map_or(START_TIMEOUT, |found| found.value);
    let Some(ready) = section.duration("min_ready", Duration::ZERO..=HOUR, faults) else {
        return (Duration::ZERO, timeout);
    };
    if ready.value >= timeout {
        let timeout = humantime::format_duration(timeout);
        let message = format!(
            "no server would ever be ready, for its start_timeout of {timeout} is over first; make min_ready shorter, or start_timeout longer"
        );
        faults.push(value_fault(ready.span, message));
    }
    (ready.value, timeout)
}

fn kind(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<KindWord> {
    if section.key_span("kind").is_none() {
        faults.push(missing(
            section.span.clone(),
            format!(
                "{} has no kind; write kind = \"room\" (each room lives on one server) or kind = \"mesh\" (any server will do)",
                section.title
            ),
        ));
    }
    let parsed = section.parsed("kind", faults, |text| match text {
        "room" => Ok(KindWord::Room),
        "mesh" => Ok(KindWord::Mesh),
        other => Err(format!("is {other:?}; allowed: \"room\", \"mesh\"")),
    });
    parsed.map(|found| found.value)
}

fn command(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Vec<String>> {
    if section.key_span("command").is_none() {
        faults.push(missing(
            section.span.clone(),
            format!(
                "{} has no command; write for example command = [\"node\", \"server.js\"]",
                section.title
            ),
        ));
    }
    let words = section.texts("command", faults)?;
    let program = words.value.first().map(|word| word.value.trim());
    if program.is_none_or(str::is_empty) {
        faults.push(value_fault(
            words.span,
            "command is empty; its first word is the program to run, for example [\"node\", \"server.js\"]",
        ));
        return None;
    }
    if let Some(word) = words.value.iter().find(|word| word.value.contains('\0')) {
        faults.push(value_fault(word.span.clone(), "command has a zero byte, which no program can be given"));
        return None;
    }
    Some(words.value.iter().map(|word| word.value.to_owned()).collect())
}

type Env = (BTreeMap<String, String>, BTreeMap<String, SecretSource>);

fn env(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Env {
    let (mut env, mut secrets) = Env::default();
    let Some(table) = section.table("env", faults) else { return (env, secrets) };
    for (name, value) in table.value {
        let key = name.get_ref().as_ref();
        // A server that calls the API needs a token, and it is the one thing of these that is the fleet's own.
        let token = key == greenroom_wire::link::env::TOKEN && value.get_ref().as_table().is_some();
        let is_own = token || options::FREE.contains(&key);
        if key == "PORT" || (key.starts_with("GREENROOM_") && !is_own) {
            faults.push(value_fault(
                name.span(),
                format!("env {key} is set by Greenroom for each server: a fixed one would clash; remove it"),
            ));
        } else if key.is_empty() || key.contains(['=', '\0']) {
            faults.push(value_fault(
                name.span(),
                format!("env name {key:?} is empty or has a = or a zero byte"),
            ));
        }
        match value.get_ref().as_str() {
            Some(text) if text.contains('\0') => {
                faults.push(value_fault(
                    value.span(),
                    format!("env {key} has a zero byte, which no program can be given"),
                ));
            }
            Some(text) => {
                if [options::STORE, options::EMITTERS].contains(&key)
                    && let Err(error) = text.parse::<RedisAddress>()
                {
                    faults.push(value_fault(value.span(), format!("env {key}: {error}")));
                }
                env.insert(key.to_owned(), text.to_owned());
            }
            None => match value.get_ref().as_table() {
                Some(table) => secrets.extend(secret(key, value.span(), table, faults)),
                None => faults.push(wrong_type(
                    &format!("env {key}"),
                    value,
                    "a text in quotes",
                    &format!("{key} = \"1\""),
                )),
            },
        }
    }
    (env, secrets)
}

/// A variable whose value is a secret: `{ from = "file:/run/secrets/db", version = "2" }`.
fn secret(
    key: &str,
    span: Range<usize>,
    table: &DeTable<'_>,
    faults: &mut Vec<Fault>,
) -> Option<(String, SecretSource)> {
    let mut section = Section::new(format!("env {key}"), span.clone(), table);
    if section.key_span("from").is_none() {
        let example = format!("{key} = {{ from = \"file:/run/secrets/db\" }}");
        faults.push(missing(span, format!("env {key} has no from; write for example {example}")));
    }
    let from = section.parsed("from", faults, |text| {
        let parsed: Result<SecretRef, _> = text.parse();
        parsed.map_err(|error| error.to_string())
    });
    let version = section.parsed("version", faults, |text| {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(text.to_owned()) } else { Err(format!("is {text:?}; write 1 to 64 visible characters")) }
    });
    section.finish(faults);
    let version = version.map(|found| found.value).unwrap_or_default();
    Some((key.to_owned(), SecretSource { from: from?.value.to_string(), version }))
}

/// What does not go with one cluster of nodes and Node.js servers: a node would refuse it at each start.
fn adapter(
    section: &Section<'_>,
    env: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, SecretSource>,
    kind: Option<KindWord>,
    faults: &mut Vec<Fault>,
) {
    let Some(span) = section.key_span("env").filter(|_| env.contains_key(options::ADAPTER)) else { return };
    let mut fault = |span, why: &str| faults.push(value_fault(span, format!("{} {why}", options::ADAPTER)));
    if let Some(recovery) = section.key_span("recovery") {
        fault(
            recovery,
            "does not go together with recovery: in a cluster with Node.js servers nothing is kept for clients that come \
             back; remove one of them",
        );
    }
    if !(env.contains_key(options::STORE) || secrets.contains_key(options::STORE)) {
        fault(span.clone(), "needs GREENROOM_REDIS beside it, the Redis that the Node.js servers use");
    }
    if kind == Some(KindWord::Room) {
        fault(span, "is for fleets of kind \"mesh\": rooms have one owner each; remove it");
    }
}

/// Files and folders, from the folder in which `dev` runs.
fn watch(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Vec<PathBuf> {
    let Some(paths) = section.texts("watch", faults) else { return Vec::new() };
    for path in paths.value.iter().filter(|path| path.value.trim().is_empty() || path.value.contains('\0')) {
        faults.push(value_fault(
            path.span.clone(),
            format!("watch has {:?}; write files or folders, such as [\"server.js\", \"src\"]", path.value),
        ));
    }
    paths.value.iter().map(|path| PathBuf::from(path.value)).collect()
}

/// Packing needs an end to fill up to, which a mesh server does not have.
fn allocation(
    section: &mut Section<'_>,
    kind: Option<FleetKind>,
    faults: &mut Vec<Fault>,
) -> Option<Preference> {
    let allowed: &[Preference] = match kind {
        Some(FleetKind::Mesh) => &[Preference::LeastConnected, Preference::PowerOfTwo],
        Some(FleetKind::Room { .. }) | None => {
            &[Preference::Packing, Preference::LeastConnected, Preference::PowerOfTwo]
        }
    };
    let found = section.parsed("allocation", faults, |text| {
        allowed.iter().find(|one| one.name() == text).copied().ok_or_else(|| {
            let names: Vec<&str> = allowed.iter().map(|one| one.name()).collect();
            let hint = did_you_mean(text, &names).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("is {text:?}; allowed: \"{}\"{hint}", names.join("\", \""))
        })
    });
    found.map(|found| found.value)
}

/// Among what the servers are spread.
fn spread(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Spread> {
    let found = section.parsed("spread", faults, |text| {
        Spread::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| {
            let names = Spread::ALL.map(Spread::name);
            let hint = did_you_mean(text, &names).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("is {text:?}; allowed: \"{}\"{hint}", names.join("\", \""))
        })
    });
    found.map(|found| found.value)
}

/// Broadcasts of a mesh reach the servers of other hosts by a store alone.
fn usual_spread(kind: FleetKind, template: &Template) -> Spread {
    let Template { env, secrets, .. } = template;
    let has_store = env.contains_key(options::STORE) || secrets.contains_key(options::STORE);
    if kind == FleetKind::Mesh && !has_store { Spread::OneHost } else { Spread::Hosts }
}

fn probe(text: &str) -> Result<Probe, String> {
    let http = |path: &str| {
        let visible = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic());
        visible.then(|| Probe::Http(path.to_owned()))
    };
    let sdk = |span: &str| {
        let silence = humantime::parse_duration(span).ok()?;
        SDK_SILENCE.contains(&silence).then_some(Probe::Sdk { silence })
    };
    match text {
        "engine_io" => Ok(Probe::EngineIo),
        "tcp" => Ok(Probe::Tcp),
        "sdk" => Ok(Probe::Sdk { silence: Probe::SDK_SILENCE }),
        other => {
            let http = other.strip_prefix("http:").and_then(http);
            http.or_else(|| other.strip_prefix("sdk:").and_then(sdk)).ok_or_else(|| {
                let hint = did_you_mean(other, &["engine_io", "tcp", "sdk"]).map(|hint| format!("; {hint}"));
                let hint = hint.unwrap_or_default();
                format!(
                    "is {other:?}; allowed: \"engine_io\", \"tcp\", \"http:/path\", \"sdk\", \"sdk:15s\" (1s to 10m){hint}"
                )
            })
        }
    }
}

fn replicas(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> (u32, Option<Found<u32>>) {
    let least = section.integer::<u32>("replicas_min", 0..=REPLICAS_MAX, faults);
    let most = section.integer::<u32>("replicas_max", 1..=REPLICAS_MAX, faults);
    if let (Some(least), Some(most)) = (&least, &most)
        && least.value > most.value
    {
        faults.push(value_fault(
            least.span.clone(),
            format!("replicas_min is {}, above replicas_max, which is {}", least.value, most.value),
        ));
    }
    (least.map_or(1, |found| found.value), most)
}

/// Sizes belong to `room`; a `mesh` fleet that sets them has misunderstood something, so it is told.
fn sizes(
    section: &mut Section<'_>,
    kind: Option<KindWord>,
    faults: &mut Vec<Fault>,
) -> (Option<FleetKind>, u16) {
    let rooms = section.integer::<u16>("rooms_per_server", 1..=ROOMS_PER_SERVER_MAX, faults);
    let seats = section.integer::<u16>("seats_per_room", 1..=SEATS_PER_ROOM_MAX, faults);
    let players = section.integer::<u16>("match_players", 0..=SEATS_PER_ROOM_MAX, faults);
    match kind {
        None => (None, 0),
        Some(KindWord::Mesh) => {
            for key in ["rooms_per_server", "seats_per_room", "match_players"] {
                if let Some(span) = section.key_span(key) {
                    faults.push(value_fault(
                        span,
                        format!(
                            "{key} belongs to kind = \"room\"; {} is a mesh and has no rooms of Greenroom's",
                            section.title
                        ),
                    ));
                }
            }
            (Some(FleetKind::Mesh), 0)
        }
        Some(KindWord::Room) => {
            if section.key_span("seats_per_room").is_none() {
                faults.push(missing(
                    section.span.clone(),
                    format!("{} has no seats_per_room; write how many players one room takes, for example seats_per_room = 4", section.title),
                ));
            }
            if let (Some(players), Some(seats)) = (&players, &seats)
                && players.value > seats.value
            {
                faults.push(value_fault(
                    players.span.clone(),
                    format!(
                        "match_players is {}, but seats_per_room is {}: such a match never fits",
                        players.value, seats.value
                    ),
                ));
            }
            let kind = seats.map(|seats| FleetKind::Room {
                rooms_per_server: rooms.map_or(1, |found| found.value),
                seats_per_room: seats.value,
            });
            (kind, players.map_or(0, |found| found.value))
        }
    }
}
