//! Tests of the configuration file: what is taken, and every sentence a person can be told.

use proptest::prelude::*;

use super::*;

mod nodes;
mod servers;

fn faults(text: &str) -> String {
    parse("greenroom.toml", text).expect_err("the text has faults").to_string()
}

#[test]
fn the_demonstration_is_a_valid_file_and_shows_its_defaults() {
    let config = parse("demo.toml", DEMO).expect("the demonstration is valid");
    insta::assert_snapshot!(config.to_string());
}

#[test]
fn an_empty_file_means_all_defaults() {
    insta::assert_snapshot!(parse("greenroom.toml", "").expect("nothing is required").to_string());
}

/// Every section, with other values than its defaults.
const WHOLE: &str = r#"
        [control]
        listen = "[::1]:9000"
        webhook_url = "https://example.com/ended"
        reservation = "45s"
        [[control.tokens]]
        name = "backend"
        role = "operate"
        from = "file:/run/secrets/backend"
        [[control.tokens]]
        name = "agents"
        role = "agent"
        from = "env:AGENTS"
        [players]
        listen = "0.0.0.0:8701"
        keys_url = "https://id.example.com/jwks.json"
        algorithms = ["ES256"]
        audience = "my-game"
        issuer = "https://id.example.com"
        allowed_origins = ["https://example.com"]
        endpoints = ["feed"]
        rooms = ["game"]
        player_calls_per_second = 3
        proxies = 1
        [host]
        name = "alpha"
        public_host = "play.example.com"
        ports = "20000-20100"
        allowed_origins = ["https://example.com", "*"]
        labels = { zone = "a", "odd key" = "1" }
        [fleets.game]
        kind = "room"
        command = ["node", "it's \"quoted\".js"]
        env = { MODE = "a\nb", "odd key" = "1", DB = { from = "file:/run/secrets/db", version = "2" }, GREENROOM_TOKEN = { from = "env:LOBBY" }, GREENROOM_TLS_KEY = "key.pem", GREENROOM_REDIS = { from = "env:REDIS" } }
        seats_per_room = 8
        probe = "http:/healthz"
        stop_grace = "1m 30s"
        replicas_max = 40
        allocation = "power_of_two"
        [fleets.game.autoscale]
        cooldown_out = "0s"
        cooldown_in = "10m"
        settle_in = "1m 30s"
        step_out_max = 8
        step_in_max = 2
        scale_in = "cordon"
        policies = [
            { policy = "base_stock", z = 3.09, start_time = "20s" },
            { policy = "buffer", free = "20%", unit = "seats" },
            { policy = "schedule", cron = "0 18 * * FRI", zone = "Asia/Tokyo", lasts = "4h", replicas = 30 },
        ]
        [fleets.game.recycle]
        age = "12h"
        rooms = 500
        memory = "1536MiB"
        [fleets.game.full_at]
        connections = 900
        tick_lateness = "50ms"
        loop_lag = "1s 200ms"
        [fleets.feed]
        kind = "mesh"
        command = ["./feed"]
        replicas_min = 0
        recycle = { memory = "2GiB" }
        probe = "sdk:2m 5s"
        recovery = "1m 30s"
        [[fleets.feed.autoscale.policies]]
        policy = "target_average"
        metric = "connections"
        per_server = 300
        spare = 50
    "#;

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let config = parse("greenroom.toml", WHOLE).expect("valid");
    assert_eq!(parse("shown", &config.to_string()).expect("what is shown is valid"), config);
}

#[test]
fn ports_for_shipped_sdks_are_there_only_for_a_fleet_that_asks() {
    let fleet = "[fleets.feed]\nkind = \"mesh\"\ncommand = [\"./feed\"]\n";
    for (line, asks) in [("", false), ("agones = false\n", false), ("agones = true\n", true)] {
        let config = parse("greenroom.toml", &format!("{fleet}{line}")).expect("valid");
        assert_eq!(config.fleets[0].template.agones, asks, "{line}");
        assert_eq!(parse("shown", &config.to_string()).expect("what is shown is valid"), config);
    }
    let told = faults(&format!("{fleet}agones = \"yes\"\n"));
    assert!(told.contains("agones") && told.contains("true or false"), "{told}");
}

#[test]
fn others_are_listened_to_with_tokens_only_and_a_token_is_never_written_out() {
    let listen = "[control]\nlisten = \"0.0.0.0:8700\"\n";
    let token = "[[control.tokens]]\nname = \"ops\"\nrole = \"admin\"\nfrom = \"env:OPS\"\n";
    let config = parse("greenroom.toml", &format!("{listen}{token}")).expect("valid");
    assert_eq!(config.control.listen.to_string(), "0.0.0.0:8700");
    let text = "[[control.tokens]]\nname = \"a b\"\nrole = \"root\"\nfrom = \"s3cret\"\n[[control.tokens]]\nfor = 1\n";
    insta::assert_snapshot!(format!("{}\n{}", faults(listen), faults(text)));
    insta::assert_snapshot!(faults(&format!("{token}{token}")));
}

#[test]
fn notifications_are_shown_as_they_are_read() {
    let text = r#"
        [[control.notify]]
        name = "ops"
        url = "env:SLACK_URL"
        [[control.notify]]
        name = "daily"
        url = "file:/run/secrets/slack"
        events = ["host", "failure"]
        digest_every = "1day"
        per_minute_max = 1
    "#;
    let config = parse("greenroom.toml", text).expect("valid");
    let all = config.control.notify[0].wants.events.len();
    assert_eq!((all, config.control.notify[1].wants.events.len()), (6, 2));
    let shown = config.to_string();
    assert_eq!(parse("shown.toml", &shown).unwrap_or_else(|faults| panic!("{faults}\n{shown}")), config);
}

#[test]
fn faults_of_notifications_are_told_and_an_address_is_never_written_out() {
    let text = r#"
        [[control.notify]]
        name = "Ops!"
        url = "https://hooks.example.com/hunter2"
        events = ["scale", "hosts", 7]
        digest_every = "1s"
        per_minute_max = 0
        every = "1d"
        [[control.notify]]
        events = ["digest"]
        [[control.notify]]
        name = "ops"
        url = "env:A"
        [[control.notify]]
        name = "ops"
        url = "env:B"
    "#;
    let told = faults(text);
    insta::assert_snapshot!(told);
    assert!(told.lines().filter(|line| !line.contains(" | ")).all(|line| !line.contains("hunter2")));
}

#[test]
fn certificates_are_read_shown_and_their_faults_told() {
    let whole = "[control]\nlisten = \"0.0.0.0:8700\"\n[control.tls]\ncert = \"a.crt\"\nkey = \"a.key\"\nca = \"ca.crt\"\nagents = [\"*.agents.test\", \"{host}.agents.test\"]\n[agent.tls]\nca = \"ca.crt\"\n[players]\nlisten = \"0.0.0.0:8701\"\nsecret = \"env:S\"\naudience = \"g\"\n[players.tls]\ncert = \"p.crt\"\nkey = \"p.key\"\n";
    let config = parse("greenroom.toml", whole).expect("mutual TLS will do beyond loopback");
    let mutual = config.control.tls.as_ref().and_then(|tls| tls.mutual.as_ref()).expect("ca is set");
    assert_eq!(mutual.replicas, ["greenroom-control"]);
    assert!(config.agent_tls.as_ref().is_some_and(|tls| tls.pair.is_none()));
    assert_eq!(parse("shown", &config.to_string()).expect("what is shown is valid"), config);
    let without_ca =
        "[control]\nlisten = \"0.0.0.0:8700\"\n[control.tls]\ncert = \"a.crt\"\nkey = \"a.key\"\n";
    let faulty = "[control.tls]\nkey = \"\"\nagents = [\"a b\", \"{host}\", \"{zone}.test\"]\nreplicas = []\ncertificate = \"a\"\n[agent.tls]\ncert = \"a\"\n[agent]\nname = 1\n";
    insta::assert_snapshot!(format!("{}\n\n{}", faults(without_ca), faults(faulty)));
}

#[test]
fn faults_of_the_listener_for_players_are_told() {
    let fleets = "[fleets.hall]\nkind = \"room\"\ncommand = [\"./hall\"]\nseats_per_room = 4\n";
    let empty = format!("[players]\n{fleets}");
    let full = format!(
        "[players]\nlisten = \"here\"\nkeys_file = \"jwks.json\"\nsecret = \"plain words\"\nalgorithms = [\"none\", \"HS256\"]\naudience = \"\"\nendpoints = [\"hall\"]\nrooms = [\"halls\"]\ntickets = [\"hall\"]\nproxies = 9\nanonymous = true\n{fleets}"
    );
    insta::assert_snapshot!(format!("{}\n\n{}", faults(&empty), faults(&full)));
}

#[test]
fn the_rules_of_matching_are_read_shown_and_their_faults_told() {
    let fleet = "[fleets.game]\nkind = \"room\"\ncommand = [\"./game\"]\nseats_per_room = 4\n";
    let whole = format!(
        "{fleet}match_players = 4\n[fleets.game.match]\nby = [\"mode\", \"region\"]\nplayers_min = 2\npatience = \"1m\"\nrating = {{ window = 100, widens_by = 50, every = \"5s\", window_max = 1000, clock = \"strictest\", unrated = 1500 }}\n[players]\nlisten = \"0.0.0.0:8701\"\nsecret = \"env:S\"\naudience = \"g\"\ntickets = [\"game\"]\nrating_claim = \"mmr\"\nattributes = {{ mode = \"player\", region = \"token\" }}\n"
    );
    let config = parse("greenroom.toml", &whole).expect("all of it is valid");
    let rules = &config.fleets[0].matching;
    assert_eq!((rules.players, rules.by.len(), rules.smaller.map(|one| one.players_min)), (4, 2, Some(2)));
    assert_eq!(parse("shown", &config.to_string()).expect("what is shown is valid"), config);
    let plain = parse(
        "greenroom.toml",
        &format!("{fleet}match_players = 4\n[fleets.game.match]\nrating = {{ window = 0 }}\n"),
    );
    let rule = plain.expect("a window that never widens").fleets[0].matching.rating.expect("there is one");
    assert_eq!((rule.window, rule.window_max, rule.widens_by), (0, 0, 0));
    let faulty = [
        format!("{fleet}[fleets.game.match]\nby = [\"Mode\", \"a\", \"a\"]\n"),
        format!("{fleet}match_players = 4\n[fleets.game.match]\nplayers_min = 4\nbys = []\nrating = {{ windw = 3, widens_by = 5, clock = \"strict\" }}\n"),
        format!("{fleet}match_players = 4\n[fleets.game.match]\npatience = \"1m\"\nrating = {{ window = 100, widens_by = 1, window_max = 1000 }}\n"),
        format!("{fleet}match_players = 4\n[fleets.game.match]\nrating = {{ window = 100, widens_by = 0, window_max = 50, every = \"1ms\" }}\n"),
        "[fleets.hall]\nkind = \"mesh\"\ncommand = [\"./hall\"]\n[fleets.hall.match]\nby = []\n".to_owned(),
        "[fleets.war]\nkind = \"room\"\ncommand = [\"./war\"]\nseats_per_room = 200\nmatch_players = 101\n[fleets.war.match]\nrating = { window = 1 }\n".to_owned(),
        format!("{fleet}[players]\nlisten = \"0.0.0.0:8701\"\nsecret = \"env:S\"\naudience = \"g\"\nrating_claim = \"\"\nattributes = {{ Mode = \"player\", tier = \"back end\" }}\n"),
    ];
    insta::assert_snapshot!(faulty.map(|text| faults(&text)).join("\n\n"));
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let text = r#"[control]
listen = "localhost"
webhok_url = "http://127.0.0.1:3000/ended"
reservation = 30

[host]
name = "my host"
public_host = "example.com:80"
ports = "8000-7000"
allowed_origins = ["example.com", 7]
labels = { zone = "a,b", rack = 7 }

[fleets.Arena]
kind = "rooms"
command = []
replicas_min = 6
replicas_max = 2

[fleets.arena]
kind = "room"
comand = ["./arena"]
rooms_per_server = 0
seats_per_room = 4
match_players = 5
probe = "engineio"
stop_grace = "ten seconds"
allocation = "least-connected"

[fleets.board]
kind = "mesh"
command = ["./board", 5]
allocation = "packing"
seats_per_room = 4
replicas_max = 1.5
env = { PORT = "3000", DEBUG = true, DB = { from = "hunter2", versoin = 1 }, KEY = {}, GREENROOM_TOKEN = "hunter2" }

[fleets.chat]
command = "./chat --fast"
seats_per_room = 70000

[logs]
level = "debug"
"#;
    insta::assert_snapshot!(faults(text));
}

#[test]
fn several_broken_lines_are_told_together_with_the_faults_of_whole_lines() {
    let text = "[host]\nname = \nports = \"7000-8000\n\n[fleets.arena]\nkind = \"room\"\nkind = \"mesh\"\ncommand = [\"./a\"\nseats_per_room = 0\nrooms = 3\n";
    insta::assert_snapshot!(faults(text));
}

#[test]
fn a_fleet_defined_twice_is_told() {
    let fleet = "[fleets.a]\nkind = \"mesh\"\ncommand = [\"./a\"]\n";
    insta::assert_snapshot!(faults(&format!("{fleet}\n{fleet}")));
}

#[test]
fn ports_that_clash_or_do_not_suffice_are_told() {
    let text = r#"[control]
listen = "127.0.0.1:7002"

[host]
ports = "7000-7003"

[fleets.a]
kind = "mesh"
command = ["./a"]
replicas_max = 3

[fleets.b]
kind = "mesh"
command = ["./b"]
replicas_min = 2
"#;
    insta::assert_snapshot!(faults(text));
}

#[test]
fn fleets_with_ports_of_their_own_may_not_clash() {
    let fleet = |name: &str, ports: &str, replicas_max: u32| {
        format!(
            "[fleets.{name}]\nkind = \"mesh\"\ncommand = [\"./{name}\"]\nports = \"{ports}\"\nreplicas_max = {replicas_max}\n\n"
        )
    };
    let shared = "[fleets.shared]\nkind = \"mesh\"\ncommand = [\"./shared\"]\n\n";
    let clashing = [
        fleet("a", "7900-8100", 1),
        fleet("b", "8100-8200", 1),
        fleet("c", "8690-8710", 1),
        fleet("d", "9000-9001", 3),
        shared.to_owned(),
    ];
    insta::assert_snapshot!(faults(&clashing.concat()));
    let apart = [fleet("a", "8100-8199", 100), fleet("b", "7000-7099", 100)].concat();
    let config = parse("greenroom.toml", &apart).expect("nobody shares the host's range");
    assert_eq!(config.fleets[0].ports, Some(8100..=8199));
}

#[test]
fn a_control_plane_without_a_login_stays_on_loopback() {
    insta::assert_snapshot!(faults("[control]\nlisten = \"0.0.0.0:8700\"\n"));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let error = load(Path::new("no/such/greenroom.toml")).expect_err("there is no such file");
    assert_eq!(
        error.to_string(),
        "cannot read no/such/greenroom.toml: No such file or directory (os error 2)"
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        if let Err(faults) = parse("x", &text) {
            prop_assert!(faults.to_string().contains("nothing was applied"));
        }
    }

    #[test]
    fn no_mangled_demonstration_makes_the_reader_panic(at in 0..DEMO.len(), with in "[\\[\\]\"={},.a-z0-9\n\t-]{0,8}") {
        let mut text = DEMO.to_owned();
        text.replace_range(at..(at + with.len()).min(DEMO.len()), &with);
        if let Err(faults) = parse("x", &text) {
            prop_assert!(faults.to_string().contains("nothing was applied"));
        }
    }
}
