//! What a fleet asks of the nodes it runs: recovery, delivery, and the Redis between them.

use greenroom_core::placement::Spread;

use super::*;

#[test]
fn servers_are_kept_together_where_nothing_carries_their_broadcasts_to_another_host() {
    let mesh = "kind = \"mesh\"\ncommand = [\"./a\"]\n";
    let cases = [
        ("kind = \"room\"\ncommand = [\"./a\"]\nseats_per_room = 4\n".to_owned(), Spread::Hosts),
        (mesh.to_owned(), Spread::OneHost),
        (format!("{mesh}env = {{ GREENROOM_REDIS = \"redis://10.0.0.9\" }}\n"), Spread::Hosts),
        (format!("{mesh}env = {{ GREENROOM_REDIS = \"redis+sentinel://a,b,c/main\" }}\n"), Spread::Hosts),
        (format!("{mesh}env = {{ GREENROOM_REDIS = {{ from = \"env:REDIS\" }} }}\n"), Spread::Hosts),
        (format!("{mesh}spread = \"zone\"\n"), Spread::Zones),
        (format!("{mesh}spread = \"one_host\"\n"), Spread::OneHost),
    ];
    for (fleet, expected) in cases {
        let config = parse("greenroom.toml", &format!("[fleets.a]\n{fleet}")).expect("the text is valid");
        assert_eq!(config.fleets[0].spread, expected, "{fleet}");
    }
}

#[test]
fn an_address_of_a_redis_that_is_none_is_told_and_not_written_out() {
    for key in ["GREENROOM_REDIS", "GREENROOM_EMITTERS"] {
        let fleet = "[fleets.a]\nkind = \"mesh\"\ncommand = [\"./a\"]\n";
        let told = faults(&format!("{fleet}env = {{ {key} = \"redis+sentinel://:hush@a,b\" }}\n"));
        assert!(told.contains(&format!("env {key}: the address of a Redis is written redis://")), "{told}");
        assert!(told.contains("the name is missing that the sentinels have"), "{told}");
        // Beside the line of the file itself.
        assert!(
            told.lines().filter(|line| !line.contains(" | ")).all(|line| !line.contains("hush")),
            "{told}"
        );
    }
}

#[test]
fn what_does_not_go_with_a_cluster_of_node_js_servers_is_told_before_a_node_refuses_it() {
    let fleet = |kind: &str, more: &str, redis: &str| {
        let env = format!("env = {{ GREENROOM_ADAPTER = \"redis-streams\"{redis} }}");
        format!("[fleets.a]\nkind = \"{kind}\"\ncommand = [\"./a\"]\n{more}{env}\n")
    };
    let redis = ", GREENROOM_REDIS = \"redis://127.0.0.1:6379\"";
    let secret = ", GREENROOM_REDIS = { from = \"file:/run/redis\" }";
    for redis in [redis, secret] {
        let config = parse("greenroom.toml", &fleet("mesh", "", redis)).expect("valid");
        assert_eq!(config.fleets[0].template.env["GREENROOM_ADAPTER"], "redis-streams");
    }
    let cases = [
        (fleet("mesh", "recovery = \"2m\"\n", redis), "GREENROOM_ADAPTER does not go together with recovery"),
        (fleet("mesh", "", ""), "GREENROOM_ADAPTER needs GREENROOM_REDIS beside it"),
        (fleet("room", "seats_per_room = 4\n", redis), "GREENROOM_ADAPTER is for fleets of kind \"mesh\""),
    ];
    for (text, why) in cases {
        let told = faults(&text);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_choice_of_delivery_that_cannot_be_kept_is_told_with_the_reason() {
    let room = "kind = \"room\"\ncommand = [\"./room\"]\nseats_per_room = 4\n";
    let mesh = "kind = \"mesh\"\ncommand = [\"./mesh\"]\n";
    let cases = [
        (room, "delivery = \"commit_first\"\ncheckpoint_every = \"1s\""),
        (room, "recovery = \"2m\"\ndelivery = \"commit_frist\""),
        (room, "recovery = \"2m\"\ndelivery = \"commit_first\"\ncheckpoint_every = \"1s\""),
        (room, "recovery = \"2m\"\ncheckpoint_every = \"1ms\""),
        (mesh, "recovery = \"2m\"\ndelivery = \"deliver_first\""),
    ];
    let told = cases.map(|(kind, keys)| faults(&format!("[fleets.a]\n{kind}{keys}\n")));
    insta::assert_snapshot!(told.join("\n\n"));
    let text = format!(
        "[fleets.a]\n{room}recovery = \"2m\"\ndelivery = \"deliver_first\"\ncheckpoint_every = \"250ms\"\n"
    );
    let config = parse("greenroom.toml", &text).expect("valid");
    let env = &config.fleets[0].template.env;
    assert_eq!(env["GREENROOM_DELIVERY"], "deliver_first");
    assert_eq!(env["GREENROOM_CHECKPOINT_EVERY"], "250ms");
    assert_eq!(parse("shown", &config.to_string()).expect("what is shown is valid"), config);
}
