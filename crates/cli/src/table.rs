//! Tables for people: plain columns, one row a line, no borders.
//!
//! Never asks for anything; what is shown comes in.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use greenroom_wire::api::{
    Allocation, AuditEntry, DrainStatus, FleetStatus, GameserverStatus, HostStatus, KindWord, RoomStatus,
    SeatWord, SloList, SloStatus, TriggerStatus,
};
use serde::Serialize;

/// Fleets.
pub(crate) fn fleets(fleets: &[FleetStatus]) -> String {
    let rows = fleets.iter().map(|fleet| {
        let rooms = match fleet.kind {
            KindWord::Room => fleet.rooms.to_string(),
            KindWord::Mesh => "-".to_owned(),
        };
        vec![
            fleet.name.to_string(),
            word(&fleet.kind),
            format!("{}/{}", fleet.ready, fleet.replicas_wanted),
            fleet.busy.to_string(),
            format!("{}-{}", fleet.replicas_min, fleet.replicas_max),
            rooms,
            fleet.players.to_string(),
            fleet.tickets.to_string(),
            fleet.waiting_on.join("; "),
        ]
    });
    render(
        &["NAME", "KIND", "READY", "BUSY", "BOUNDS", "ROOMS", "PLAYERS", "QUEUE", "WAITING ON"],
        &rows.collect::<Vec<_>>(),
    )
}

/// Game servers; `now_ms` is the control plane's clock.
pub(crate) fn gameservers(servers: &[GameserverStatus], now_ms: u64) -> String {
    let rows = servers.iter().map(|server| {
        vec![
            server.name.to_string(),
            word(&server.state),
            or_dash(&server.endpoint),
            server.host.to_string(),
            server.rooms.to_string(),
            server.players.max(server.connections).to_string(),
            server.restarts.to_string(),
            age(now_ms, server.started_at_ms),
            noted(server),
        ]
    });
    render(
        &["NAME", "STATE", "ENDPOINT", "HOST", "ROOMS", "PLAYERS", "RESTARTS", "AGE", "MESSAGE"],
        &rows.collect::<Vec<_>>(),
    )
}

/// What is said of a server, after the labels that it has given itself.
fn noted(server: &GameserverStatus) -> String {
    let labels = server.labels.iter().map(|(name, value)| format!("{name}={value}"));
    labels.chain((!server.message.is_empty()).then(|| server.message.clone())).collect::<Vec<_>>().join(", ")
}

/// Rooms.
pub(crate) fn rooms(rooms: &[RoomStatus], now_ms: u64) -> String {
    let rows = rooms.iter().map(|room| {
        let taken = room.seats.iter().filter(|seat| seat.state != SeatWord::Free).count();
        let players: Vec<String> =
            room.seats.iter().filter_map(|seat| Some(seat.player.as_ref()?.to_string())).collect();
        vec![
            room.room.to_string(),
            room.key.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            room.fleet.to_string(),
            room.ended
                .as_ref()
                .map_or_else(|| word(&room.phase), |reason| format!("ended: {}", word(reason))),
            format!("{taken}/{}", room.seats.len()),
            room.server.to_string(),
            age(now_ms, room.created_at_ms),
            players.join(","),
        ]
    });
    render(
        &["NAME", "KEY", "FLEET", "STATE", "SEATS", "GAMESERVER", "AGE", "PLAYERS"],
        &rows.collect::<Vec<_>>(),
    )
}

/// Hosts.
pub(crate) fn hosts(hosts: &[HostStatus], now_ms: u64) -> String {
    let rows = hosts.iter().map(|host| {
        vec![
            host.name.to_string(),
            if host.connected { "connected" } else { "silent" }.to_owned(),
            host.zone.clone(),
            format!("{}/{}", host.servers, host.servers_max),
            age(now_ms, host.heard_at_ms),
            host.drained.clone(),
            host.trouble.clone(),
        ]
    });
    let header = ["NAME", "STATE", "ZONE", "GAMESERVERS", "HEARD", "DRAINED", "TROUBLE"];
    render(&header, &rows.collect::<Vec<_>>())
}

/// Triggers.
pub(crate) fn triggers(triggers: &[TriggerStatus], now_ms: u64) -> String {
    let rows = triggers.iter().map(|trigger| {
        let threshold = trigger.above.map(|above| format!("above {above}"));
        let state =
            if trigger.running { "running".to_owned() } else { word(&trigger.state).replace('_', " ") };
        let outcome = trigger.outcome.as_ref();
        vec![
            trigger.name.clone(),
            trigger.metric.clone(),
            trigger.value.map_or_else(|| "-".to_owned(), |value| value.to_string()),
            threshold.or(trigger.below.map(|below| format!("below {below}"))).unwrap_or_default(),
            state,
            trigger.fires.to_string(),
            trigger.fired_at_ms.map_or_else(|| "-".to_owned(), |at_ms| age(now_ms, at_ms)),
            outcome.map_or_else(
                || "-".to_owned(),
                |outcome| format!("{}: {}", word(&outcome.result), outcome.detail),
            ),
            trigger.no_value.clone(),
        ]
    });
    let header = ["NAME", "METRIC", "VALUE", "FIRES", "STATE", "FIRED", "LAST", "LAST OUTCOME", "NO VALUE"];
    render(&header, &rows.collect::<Vec<_>>())
}

/// Service level objectives.
pub(crate) fn slos(list: &SloList, now_ms: u64) -> String {
    let rows = list.slos.iter().map(|slo| {
        let kept = slo.seen - slo.missed;
        vec![
            slo.name.clone(),
            met(slo).to_owned(),
            format!("{}.{} %", slo.goal_per_mille / 10, slo.goal_per_mille % 10),
            format!("{kept}/{}", slo.seen),
            slo.longest_ms.map_or_else(|| "-".to_owned(), |longest| format!("{longest} ms")),
            slo.promise.clone(),
        ]
    });
    let table = render(&["NAME", "MET", "GOAL", "KEPT", "LONGEST", "PROMISE"], &rows.collect::<Vec<_>>());
    format!("{table}\ncounted for {}, since this leader leads", age(now_ms, list.since_ms))
}

/// Of one that had no case nobody can tell.
const fn met(slo: &SloStatus) -> &'static str {
    match (slo.seen, slo.met) {
        (0, _) => "-",
        (_, true) => "yes",
        (_, false) => "NO",
    }
}

/// How far a drain is.
pub(crate) fn drain(status: &DrainStatus) -> String {
    let DrainStatus { kind, name, drained, hosts } = status;
    let is = if *drained { "is drained: nothing new there" } else { "is in use again" };
    let rows = hosts
        .iter()
        .map(|host| vec![host.host.to_string(), host.servers.to_string(), host.busy.to_string()])
        .collect::<Vec<_>>();
    format!("{kind} {name} {is}\n{}", render(&["HOST", "GAMESERVERS", "BUSY"], &rows))
}

/// The audit trail.
pub(crate) fn audit(entries: &[AuditEntry], now_ms: u64) -> String {
    let rows = entries.iter().map(|entry| {
        vec![
            entry.number.to_string(),
            age(now_ms, entry.at_ms),
            entry.who.clone(),
            word(&entry.action),
            entry.subject.clone(),
            if entry.busy { "busy" } else { "idle" }.to_owned(),
            entry.reason.clone(),
        ]
    });
    render(&["NUMBER", "AGO", "WHO", "WHAT", "WHICH", "IT WAS", "WHY"], &rows.collect::<Vec<_>>())
}

/// A room with its seats, a token for each player, and what to do with it.
pub(crate) fn allocation(allocation: &Allocation, now_ms: u64) -> String {
    let made = if allocation.created { "new" } else { "existing" };
    let key = allocation.key.as_ref().map(|key| format!(", key {key}")).unwrap_or_default();
    let mut text = format!("{made} room {}{key}\n", allocation.room);
    text.push_str(&format!("  game server  {}\n  address      {}\n", allocation.server, allocation.url));
    if !allocation.because.is_empty() {
        text.push_str(&format!("  because      {}\n", allocation.because));
    }
    for seat in &allocation.seats {
        text.push_str(&format!("\nseat {}, player {}, token:\n{}\n", seat.seat, seat.player, seat.token));
    }
    let expires_at_ms = allocation.seats.iter().map(|seat| seat.expires_at_ms).min();
    let seconds = expires_at_ms.unwrap_or_default().saturating_sub(now_ms) / 1000;
    text.push_str(&format!(
        "\nEach player connects within {seconds} s, or the seat is free again:\n  io(\"{}\", {{ auth: {{ token }} }})",
        allocation.url
    ));
    text
}

/// The word a value has on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a wire word is a text, this is {other:?}"),
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// `12s`, `4m`, `3h`, `2d`.
pub(crate) fn age(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns of nothing are left out from the right: a message column appears when somebody has a message.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut columns = header.len();
    while columns > 1 && rows.iter().all(|row| row[columns - 1].is_empty()) {
        columns -= 1;
    }
    let cell = |text: &str| Cell::new(text).set_alignment(CellAlignment::Left);
    table.set_header(header.iter().take(columns).map(|text| cell(text)));
    for row in rows {
        table.add_row(row.iter().take(columns).map(|text| cell(text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use greenroom_wire::api::{FleetList, GameserverList, HostList, RoomList, TriggerList};

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    #[test]
    fn fleets_are_told_with_what_they_wait_for() {
        let list: FleetList = serde_json::from_value(serde_json::json!({"fleets": [
            {"name": "arena", "kind": "room", "revision": "16cfdfc7b92d", "replicas_min": 2, "replicas_max": 6,
             "replicas_wanted": 3, "replicas": 3, "ready": 2, "busy": 1, "rooms": 7, "rooms_per_server": 16,
             "seats_per_room": 4, "players": 28, "tickets": 2, "waiting_on": ["1 server starts"]},
            {"name": "lobby", "kind": "mesh", "revision": "d8f5bd3e95c2", "replicas_min": 1, "replicas_max": 2,
             "replicas_wanted": 1, "replicas": 1, "ready": 1, "busy": 0, "rooms": 0, "rooms_per_server": 0,
             "seats_per_room": 0, "players": 0, "tickets": 0, "waiting_on": []},
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::fleets(&list.fleets));
        insta::assert_snapshot!(super::fleets(&list.fleets[1..]));
    }

    #[test]
    fn gameservers_are_told_with_state_address_host_and_age() {
        let server = |name: &str, state: &str, endpoint: &str, age_s: u64, message: &str| {
            serde_json::json!({
                "name": name, "fleet": "arena", "host": "local", "instance": format!("{name}.0"),
                "revision": "16cfdfc7b92d", "state": state, "endpoint": endpoint, "pid": 4711, "rooms": 3,
                "players": 11, "connections": 12, "restarts": 0, "started_at_ms": NOW_MS - age_s * 1000,
                "message": message, "labels": if endpoint.is_empty() {
                    serde_json::json!({"map": "desert", "mode": "duel"})
                } else {
                    serde_json::json!({})
                },
            })
        };
        let list: GameserverList = serde_json::from_value(serde_json::json!({"gameservers": [
            server("arena-k3x9q", "allocated", "127.0.0.1:7400", 59, ""),
            server("arena-zz01a", "starting", "", 7_300, "probe: connection refused"),
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::gameservers(&list.gameservers, NOW_MS));
        insta::assert_snapshot!(super::gameservers(&[], NOW_MS));
    }

    #[test]
    fn rooms_are_told_with_key_seats_and_how_they_ended() {
        let list: RoomList = serde_json::from_value(serde_json::json!({"total": 2, "rooms": [
            {"room": "r-7f3k", "fleet": "chat", "key": "guild:42", "epoch": 1, "server": "chat-a1b2c",
             "endpoint": "127.0.0.1:7003", "phase": "live", "created_at_ms": NOW_MS - 240_000, "seats": [
                {"seat": 0, "state": "connected", "player": "ann"}, {"seat": 1, "state": "away", "player": "bob"},
                {"seat": 2, "state": "free"}]},
            {"room": "r-9x2c", "fleet": "arena", "epoch": 1, "server": "arena-k3x9q", "endpoint": "127.0.0.1:7400",
             "phase": "ended", "ended": "server_lost", "created_at_ms": NOW_MS - 90_000_000, "seats": [
                {"seat": 0, "state": "free"}]},
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::rooms(&list.rooms, NOW_MS));
    }

    #[test]
    fn hosts_are_told_with_how_long_they_were_silent() {
        let list: HostList = serde_json::from_value(serde_json::json!({"hosts": [
            {"name": "local", "connected": true, "heard_at_ms": NOW_MS, "servers": 7, "servers_max": 1001,
             "zone": "a", "drained": "zone a, by token ops: new switches"},
            {"name": "gone", "connected": false, "heard_at_ms": NOW_MS - 65_000, "servers": 2, "servers_max": 10,
             "trouble": "the task cannot be protected: AccessDeniedException"},
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::hosts(&list.hosts, NOW_MS));
    }

    #[test]
    fn objectives_are_told_with_what_was_kept() {
        let list: SloList = serde_json::from_value(serde_json::json!({"since_ms": NOW_MS - 90_000, "slos": [
            {"name": "placed", "promise": "a call gets one", "goal_per_mille": 999, "seen": 40, "missed": 0, "met": true},
            {"name": "takeover", "promise": "nobody leads for at most 3 s", "goal_per_mille": 990,
             "within_ms": 3000, "seen": 1, "missed": 1, "longest_ms": 3377, "met": false},
            {"name": "rebuilt", "promise": "known within 2 s", "goal_per_mille": 1000, "within_ms": 2000, "seen": 0,
             "missed": 0, "met": true},
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::slos(&list, NOW_MS));
    }

    #[test]
    fn triggers_are_told_with_value_state_and_what_came_of_them() {
        let list: TriggerList = serde_json::from_value(serde_json::json!({"triggers": [
            {"name": "grow", "metric": "custom.queue", "value": 120.5, "above": 100.0, "rearm": 80.0,
             "state": "firing", "fires": 3, "fired_at_ms": NOW_MS - 90_000, "action": "exec", "running": false,
             "outcome": {"result": "failed", "detail": "exit code 3", "at_ms": NOW_MS - 89_000}},
            {"name": "quiet", "metric": "fleet.arena.ready", "below": 2.0, "rearm": 2.0, "state": "no_value",
             "no_value": "waiting for the agents of: h1", "fires": 0, "action": "post", "running": false},
        ]}))
        .expect("valid");
        insta::assert_snapshot!(super::triggers(&list.triggers, NOW_MS));
    }

    #[test]
    fn an_allocation_is_told_with_a_token_for_each_player() {
        let answer: Allocation = serde_json::from_value(serde_json::json!({
            "room": "r-7f3k", "fleet": "arena", "key": "party:1", "epoch": 1, "server": "arena-k3x9q",
            "endpoint": "127.0.0.1:7400", "url": "http://127.0.0.1:7400", "created": true,
            "because": "the fullest of 2 with a place", "seats": [
                {"seat": 0, "player": "ann", "token": "aaa.bbb.ccc", "expires_at_ms": NOW_MS + 30_000},
                {"seat": 1, "player": "bob", "token": "ddd.eee.fff", "expires_at_ms": NOW_MS + 30_000}],
        }))
        .expect("valid");
        insta::assert_snapshot!(super::allocation(&answer, NOW_MS));
    }
}
