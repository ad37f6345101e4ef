//! Fleets and servers from short words, for the tables of the tests beside.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::Autoscale;
use greenroom_core::fleet::{Fleet, FleetKind, Full, Probe, Recycle, StopReason, Template, Worn};
use greenroom_core::gameserver::{GameServer, State};

/// Now.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_ms(100_000_000);

/// Rooms per server of the fleets here.
pub(crate) const ROOMS_PER_SERVER: u16 = 2;

/// How servers are full here.
pub(crate) const FULL: Full = Full::LoopLag { ms: 70, cap_ms: 50 };

/// How servers are worn here.
pub(crate) const WORN: Worn = Worn::Rooms { rooms: 7, limit: 5 };

/// A fleet of rooms, two per server.
pub(crate) fn fleet(replicas_min: u32, replicas_max: u32) -> Fleet {
    Fleet {
        name: "arena".parse().unwrap(),
        kind: FleetKind::Room { rooms_per_server: ROOMS_PER_SERVER, seats_per_room: 4 },
        template: Template {
            command: vec!["arena".to_owned()],
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            probe: Probe::EngineIo,
            stop_grace: Duration::from_secs(10),
            min_ready: Duration::ZERO,
            agones: false,
        },
        revision: "new".parse().unwrap(),
        replicas_min,
        replicas_max,
        matching: greenroom_core::matchmake::Rules::first_come(4),
        autoscale: Autoscale::default(),
        allocation: greenroom_core::allocate::Preference::default(),
        spread: greenroom_core::placement::Spread::default(),
        start_timeout: Duration::from_secs(60),
        recycle: Recycle::default(),
        full_at: greenroom_core::fleet::FullAt::default(),
        ports: None,
    }
}

/// The same as a mesh fleet.
pub(crate) fn mesh(replicas_min: u32, replicas_max: u32) -> Fleet {
    let allocation = greenroom_core::allocate::Preference::LeastConnected;
    Fleet { kind: FleetKind::Mesh, allocation, ..fleet(replicas_min, replicas_max) }
}

/// A server from `<name> <state> [old] [worn] [held] [cordoned] [drained] [host=NAME] [zone=NAME] [rooms=N] [connections=N] [flight=N] [idle=SECONDS]
/// [since=SECONDS] [fleet=NAME]`. Idle for a
/// second unless something is on it or `idle` says otherwise.
pub(crate) fn server(text: &str) -> GameServer {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap();
    let state = match words.next().unwrap() {
        "starting" => State::Starting,
        "ready" => State::Ready,
        "reserved" => State::Reserved,
        "allocated" => State::Allocated,
        "draining" => State::Draining,
        "unhealthy" => State::Unhealthy,
        "stopped" => State::Stopped,
        other => panic!("no such state: {other}"),
    };
    let mut server = GameServer {
        name: name.parse().unwrap(),
        fleet: "arena".parse().unwrap(),
        host: "h1".parse().unwrap(),
        labels: std::sync::Arc::default(),
        instance: format!("{name}.0").parse().unwrap(),
        revision: "new".parse().unwrap(),
        state,
        rooms: 0,
        connections: 0,
        in_flight: 0,
        held: false,
        full: None,
        started_at: NOW - Duration::from_secs(10_000),
        cordoned: None,
        worn: None,
        idle_since: Some(NOW - Duration::from_secs(1)),
        starting_since: None,
    };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "old" => server.revision = "old".parse().unwrap(),
            "full" => server.full = Some(FULL),
            "held" => server.held = true,
            "worn" => server.worn = Some(WORN),
            "cordoned" => server.cordoned = Some(StopReason::Surplus),
            "drained" => server.cordoned = Some(StopReason::HostDrained),
            "zone" => server.labels = std::sync::Arc::new([("zone".to_owned(), value.to_owned())].into()),
            "host" => server.host = value.parse().unwrap(),
            "rooms" => server.rooms = value.parse().unwrap(),
            "connections" => server.connections = value.parse().unwrap(),
            "flight" => server.in_flight = value.parse().unwrap(),
            "idle" => server.idle_since = Some(NOW - Duration::from_secs(value.parse().unwrap())),
            "since" => {
                server.started_at = NOW - Duration::from_secs(value.parse().unwrap());
                server.starting_since = Some(server.started_at);
            }
            // Once more, after a process that had answered.
            "again" => server.starting_since = Some(NOW - Duration::from_secs(value.parse().unwrap())),
            "fleet" => server.fleet = value.parse().unwrap(),
            other => panic!("no such word: {other}"),
        }
    }
    if server.is_busy() {
        server.idle_since = None;
    }
    server
}

/// Servers from one text, parted by commas.
pub(crate) fn servers(text: &str) -> Vec<GameServer> {
    text.split(',').filter(|part| !part.trim().is_empty()).map(server).collect()
}
