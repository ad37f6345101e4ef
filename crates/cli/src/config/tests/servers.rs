//! When a fleet's servers are ready, how many there are, and when one has done enough.

use super::*;

#[test]
fn a_server_that_could_never_be_ready_in_time_is_refused() {
    let fleet = "[fleets.a]\nkind = \"mesh\"\ncommand = [\"./a\"]\n";
    let told = faults(&format!("{fleet}min_ready = \"60s\"\n"));
    assert!(
        told.contains("no server would ever be ready, for its start_timeout of 1m is over first"),
        "{told}"
    );
    for good in ["min_ready = \"59s\"", "min_ready = \"2m\"\nstart_timeout = \"121s\"", "min_ready = \"0s\""]
    {
        let config = parse("greenroom.toml", &format!("{fleet}{good}\n")).expect(good);
        assert!(config.fleets[0].template.min_ready < config.fleets[0].start_timeout, "{good}");
    }
}

#[test]
fn faults_of_autoscale_are_told_with_what_was_meant() {
    let text = r#"[fleets.arena]
kind = "room"
command = ["./arena"]
seats_per_room = 4
replicas_max = 9

[fleets.arena.autoscale]
cooldown = "3m"
cooldown_in = 60
step_in_max = 0
scale_in = "busy"
policies = [
    { policy = "base-stock" },
    { policy = "base_stock", z = 11 },
    { policy = "buffer", free = "100%", unit = "room" },
    { policy = "target_average", metric = "cpu", per_server = 0 },
    { policy = "target_average", metric = "loop_lag", per_server = 5, spare = 1 },
    { policy = "schedule", cron = "0 18 * *", zone = "Asia/Tokio", lasts = "4h", replicas = 30 },
    { policy = "schedule", cron = "0 18 * * *", zone = "Asia/Tokio", lasts = "4h", replicas = 3 },
    { policy = "schedule" },
    { free = "3" },
    7,
]

[fleets.board]
kind = "mesh"
command = ["./board"]
autoscale = { policies = [{ policy = "base_stock" }, { policy = "target_average", metric = "rooms", per_server = 3 }] }
"#;
    insta::assert_snapshot!(faults(text));
}

#[test]
fn faults_of_recycle_are_told_with_what_was_meant() {
    let text = r#"[fleets.arena]
kind = "room"
command = ["./arena"]
seats_per_room = 4
recycle = { age = "10s", rooms = 0, memory = "512MB" }

[fleets.brawl]
kind = "room"
command = ["./brawl"]
seats_per_room = 4
recycle = { memory = "12 GiB", room = 5 }

[fleets.board]
kind = "mesh"
command = ["./board"]
recycle = { rooms = 5, memory = "1KiB" }

[fleets.chat]
kind = "mesh"
command = ["./chat"]
recycle = { memory = "lots" }

[fleets.feed]
kind = "mesh"
command = ["./feed"]
recycle = {}

[fleets.news]
kind = "mesh"
command = ["./news"]
recycle = { memory = "99999999999TiB" }
"#;
    insta::assert_snapshot!(faults(text));
}

#[test]
fn faults_of_full_at_are_told_with_what_was_meant() {
    let caps = [
        "{ connections = 0, tick_lateness = \"0ms\", loop_lag = 50 }",
        "{ lop_lag = \"50ms\" }",
        "{ loop_lag = \"2m\" }",
        "{}",
    ];
    let fleet =
        |caps| faults(&format!("[fleets.feed]\nkind = \"mesh\"\ncommand = [\"./feed\"]\nfull_at = {caps}\n"));
    insta::assert_snapshot!(caps.map(fleet).join("\n\n"));
}
