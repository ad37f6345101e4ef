//! Start, probe, death, restart, stop.

use greenroom_provider::StopSignal;
use greenroom_wire::link::Status;

use super::*;

fn starts(effects: &[(u64, Effect)]) -> Vec<(u64, u16, String)> {
    let start = effects.iter().filter_map(|(at, effect)| match effect {
        Effect::Start { port, spec } => Some((*at, *port, spec.instance.to_string())),
        _ => None,
    });
    start.collect()
}

fn signals(effects: &[(u64, Effect)]) -> Vec<(u64, StopSignal)> {
    let signal = effects.iter().filter_map(|(at, effect)| match effect {
        Effect::Signal { signal, .. } => Some((*at, *signal)),
        _ => None,
    });
    signal.collect()
}

#[test]
fn a_started_server_is_told_the_whole_contract() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    let effects = bench.take();
    let [(0, Effect::Start { port: 7000, spec })] = &effects[..] else { panic!("{effects:?}") };
    let told: Vec<String> = spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    COLOUR=green
    GREENROOM_ALLOWED_ORIGINS=https://a.example,https://b.example
    GREENROOM_BIND=0.0.0.0
    GREENROOM_CA=/tls/ca.crt
    GREENROOM_CONTROL=http://127.0.0.1:8700
    GREENROOM_FLEET=arena
    GREENROOM_HOST=host-1
    GREENROOM_INSTANCE=arena-1.0
    GREENROOM_LINK=127.0.0.1:9999
    GREENROOM_LINK_SECRET=secret-1
    GREENROOM_PORT=7000
    GREENROOM_PUBLIC_ADDRESS=play.example.com:7000
    GREENROOM_REVISION=r1
    GREENROOM_ROOMS_PER_SERVER=2
    GREENROOM_SDK_URL=http://127.0.0.1:9998/arena-1.0/secret-1
    GREENROOM_SEATS_PER_ROOM=4
    GREENROOM_SERVER=arena-1
    PORT=7000
    ");
    assert_eq!(spec.command, ["game", "--fast"]);
    assert_eq!(spec.env_absent, ["GREENROOM_TOKEN"], "the agent's own is not for its servers");
    assert_eq!(greenroom_provider::INSTANCE_ENV, greenroom_wire::link::env::INSTANCE);
}

#[test]
fn a_mesh_server_has_no_rooms_and_may_keep_its_own_port_variable() {
    let mut bench = Bench::welcomed();
    let mut mesh = order("board-1", "board");
    (mesh.rooms_per_server, mesh.seats_per_room) = (0, 0);
    mesh.env = BTreeMap::from([
        ("PORT".to_owned(), "80".to_owned()),
        ("GREENROOM_SERVER".to_owned(), "forged".to_owned()),
    ]);
    bench.control(ToAgent::Start { term: 5, order: Box::new(mesh) });
    let effects = bench.take();
    let [(0, Effect::Start { spec, .. })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(
        spec.env_absent,
        ["GREENROOM_TOKEN", "GREENROOM_ROOMS_PER_SERVER", "GREENROOM_SEATS_PER_ROOM"]
    );
    assert_eq!((spec.env["PORT"].as_str(), spec.env["GREENROOM_PORT"].as_str()), ("80", "7000"));
    assert_eq!(spec.env["GREENROOM_SERVER"], "board-1");
}

#[test]
fn a_server_is_ready_when_its_probe_has_passed() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
    bench.started("arena-1", "arena-1.0");
    bench.take();
    let mut probes = Vec::new();
    for outcome in [Err("refused"), Err("refused"), Ok(()), Ok(()), Err("hangs"), Ok(())] {
        bench.probed("arena-1", "arena-1.0", outcome);
        bench.pass(2_000);
        let asked = bench.take().into_iter().filter(|(_, effect)| matches!(effect, Effect::Probe { .. }));
        probes.extend(asked.map(|(at, _)| at));
    }
    let pauses: Vec<u64> = probes.iter().map(|at| (at - 21) % 2_000).collect();
    assert_eq!(pauses, [250, 250, 0, 0, 250, 0], "soon after a failure, every 2 s otherwise");
    assert_eq!(bench.phase("arena-1"), (ProcessPhase::Ready, "arena-1.0".to_owned(), String::new()));
}

#[test]
fn a_port_that_speaks_tls_is_told_so_as_soon_as_a_probe_has_found_out() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.pass(21);
    assert_eq!(bench.told("arena-1").map(|told| told.tls), Some(false));
    let found =
        Event::Probed { server: name("arena-1"), instance: instance("arena-1.0"), outcome: Ok(Speech::Tls) };
    bench.event(found);
    bench.pass(21);
    assert_eq!(
        bench.told("arena-1").map(|told| told.tls),
        Some(true),
        "at once, not with the next heartbeat"
    );
    bench.probed("arena-1", "arena-1.0", Err("late"));
    bench.pass(21);
    assert_eq!(bench.told("arena-1").map(|told| told.tls), Some(true), "a failure tells nothing of it");
}

#[test]
fn a_ready_server_is_unhealthy_after_two_failed_probes_and_ready_again_after_one() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    for (outcome, phase) in [
        (Err("hangs"), ProcessPhase::Ready),
        (Err("hangs"), ProcessPhase::Unhealthy),
        (Err("hangs"), ProcessPhase::Unhealthy),
        (Ok(()), ProcessPhase::Ready),
        (Err("hangs"), ProcessPhase::Ready),
    ] {
        bench.pass(2_000);
        bench.probed("arena-1", "arena-1.0", outcome);
        assert_eq!(bench.phase("arena-1").0, phase, "{outcome:?}");
    }
}

#[test]
fn a_linked_server_is_unhealthy_after_three_silent_seconds_until_it_is_heard() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.pass(10_000);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready, "without a link the probe alone decides");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.pass(2_900);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    bench.pass(100);
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!((phase, message.as_str()), (ProcessPhase::Unhealthy, "nothing was heard on its link for 3 s"));
    bench.link(1, FromServer::Status(Status::default()));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
}

#[test]
fn a_server_takes_players_once_its_probe_has_passed_for_its_fleets_min_ready_without_a_break() {
    let mut bench = Bench::welcomed();
    let order = StartOrder { min_ready_ms: 1_000, ..order("arena-1", "arena") };
    bench.control(ToAgent::Start { term: 5, order: Box::new(order) });
    bench.started("arena-1", "arena-1.0");
    // Each answer comes at once, and the next question 250 ms after it.
    let answers = |bench: &mut Bench, outcomes: &[bool]| {
        for ok in outcomes {
            bench.pass(250);
            bench.probed("arena-1", "arena-1.0", if *ok { Ok(()) } else { Err("refused") });
        }
    };
    answers(&mut bench, &[true, true, true, true, false]);
    assert_eq!(bench.phase("arena-1").2, "its probe has not passed yet: refused");
    answers(&mut bench, &[true, true, true, true]);
    let (phase, _, message) = bench.phase("arena-1");
    let waits = "its probe passes; it must for 1s before it takes players (min_ready)";
    assert_eq!((phase, message.as_str()), (ProcessPhase::Starting, waits));
    answers(&mut bench, &[true]);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready);
    answers(&mut bench, &[false]);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ready, "from now on it is healthy or not");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(200);
    bench.started("arena-1", "arena-1.1");
    bench.probed("arena-1", "arena-1.1", Ok(()));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting, "the next process proves it anew");
}

/// Lets the probes of a server fail for a while; the answer is whether it was killed.
fn fails_for(bench: &mut Bench, span_ms: u64) -> bool {
    bench.take();
    for _ in 0..span_ms / 500 {
        bench.pass(500);
        bench.probed("arena-1", "arena-1.0", Err("hangs"));
    }
    let is_kill = |effect: &Effect| matches!(effect, Effect::Signal { signal: StopSignal::Kill, .. });
    bench.take().iter().any(|(_, effect)| is_kill(effect))
}

#[test]
fn a_frozen_process_is_killed_and_started_again_and_one_that_answers_is_not() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    assert!(!fails_for(&mut bench, 29_500));
    bench.link(1, FromServer::Status(Status::default()));
    assert!(!fails_for(&mut bench, 29_500), "it was heard meanwhile");
    bench.probed("arena-1", "arena-1.0", Ok(()));
    assert!(!fails_for(&mut bench, 1_000), "long silent, but it has answered");
    // The agent itself slept: much time has passed, and hardly a probe has failed.
    bench.now = bench.now + Duration::from_secs(600);
    bench.event(Event::Tick);
    assert!(!fails_for(&mut bench, 30_000));
    assert!(fails_for(&mut bench, 10_000), "it had as long as ever since that was noticed");
    bench.pass(1_000);
    let why = "frozen: silent for 30 s and its probe fails";
    assert!(bench.phase("arena-1").2.contains(why), "{:?}", bench.phase("arena-1"));
    bench.exited("arena-1", "arena-1.0", Exit::Signal(9));
    assert_eq!(bench.phase("arena-1").2, format!("restarted ({why}): killed by signal 9 (SIGKILL)"));
    bench.started("arena-1", "arena-1.1");
    assert_eq!(bench.phase("arena-1").1, "arena-1.1");
}

#[test]
fn a_dead_process_is_started_again_on_its_port_with_growing_pauses_and_then_given_up() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.take();
    for restart in 1..=5 {
        bench.exited("arena-1", &format!("arena-1.{}", restart - 1), Exit::Signal(9));
        let (phase, instance, message) = bench.phase("arena-1");
        assert_eq!(phase, ProcessPhase::Restarting);
        assert_eq!(instance, format!("arena-1.{restart}"));
        assert_eq!(message, "killed by signal 9 (SIGKILL)");
        bench.pass(4_979);
        let died_at = (restart - 1) * 5_000;
        let pause = 100 << (restart - 1);
        let starts = starts(&bench.take());
        assert_eq!(starts, [(died_at + pause, 7000, format!("arena-1.{restart}"))]);
        bench.started("arena-1", &instance);
    }
    bench.exited("arena-1", "arena-1.5", Exit::Code(1));
    let (phase, instance, message) = bench.phase("arena-1");
    assert_eq!((phase, instance.as_str()), (ProcessPhase::Ended, "arena-1.5"));
    assert_eq!(message, "died 6 times within 60 s; the last time: exited with code 1");
}

#[test]
fn deaths_older_than_a_minute_are_forgotten() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    for restart in 0..20 {
        bench.exited("arena-1", &format!("arena-1.{restart}"), Exit::Code(1));
        bench.pass(20_000);
        bench.started("arena-1", &format!("arena-1.{}", restart + 1));
    }
    bench.probed("arena-1", "arena-1.20", Ok(()));
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!(phase, ProcessPhase::Ready);
    assert_eq!(message, "the process before this one: exited with code 1");
    assert_eq!(bench.told("arena-1").unwrap().restarts, 20);
}

#[test]
fn a_command_that_cannot_be_started_is_told_and_given_up() {
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    for attempt in 0..6 {
        let instance = instance(&format!("arena-1.{attempt}"));
        let message = "program \"game\" does not exist".to_owned();
        bench.event(Event::NotStarted { server: name("arena-1"), instance, message });
        bench.pass(5_000 - 21);
        bench.done.retain(|(_, effect)| matches!(effect, Effect::Tell(_)));
        bench.pass(21);
    }
    let last = bench.take();
    assert!(starts(&last).is_empty(), "{last:?}");
    assert!(bench.told("arena-1").is_none(), "it was told and forgotten");
}

#[test]
fn a_stop_asks_waits_the_grace_time_and_kills() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.linked(1, "arena-1.0", "secret-1");
    bench.link(1, FromServer::Status(Status::default()));
    bench.take();
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    bench.control(stop());
    bench.control(stop());
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!((phase, message.as_str()), (ProcessPhase::Stopping, "stopping (surplus)"));
    bench.event(Event::LinkLost { link: LinkId(1) });
    let (_, _, message) = bench.phase("arena-1");
    assert_eq!(message, "stopping (surplus); it has closed its link but its process has not exited");
    bench.pass(10_000);
    let (_, _, message) = bench.phase("arena-1");
    assert_eq!(message, "stopping (surplus); its grace time is over, SIGKILL was sent");
    assert_eq!(signals(&bench.take()), [(0, StopSignal::Ask), (10_000, StopSignal::Kill)]);
    bench.exited("arena-1", "arena-1.0", Exit::Signal(9));
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!(phase, ProcessPhase::Ended);
    assert_eq!(message, "stopped (surplus): killed by signal 9 (SIGKILL)");
    bench.pass(2_000);
    assert!(bench.told("arena-1").is_none(), "an ended server is told once");
}

#[test]
fn a_stop_reaches_a_server_at_every_stage() {
    let stop = || ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() };
    // While the engine starts it: asked as soon as it runs.
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    bench.control(stop());
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping);
    bench.started("arena-1", "arena-1.0");
    assert_eq!(signals(&bench.take()).len(), 1);
    // While it waits to be started again: over at once, and it stays so.
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.take();
    bench.control(stop());
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!((phase, message.as_str()), (ProcessPhase::Ended, "stopped (surplus): was not running"));
    bench.pass(10_000);
    assert!(starts(&bench.take()).is_empty());
}

#[test]
fn a_port_of_an_ended_server_rests_before_it_is_used_again() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "x".to_owned() });
    bench.exited("arena-1", "arena-1.0", Exit::Code(0));
    bench.take();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-2", "arena")) });
    bench.pass(30_000);
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-3", "arena")) });
    let ports: Vec<u16> = starts(&bench.take()).into_iter().map(|(_, port, _)| port).collect();
    assert_eq!(ports, [7001, 7000]);
}

#[test]
fn a_taken_port_is_changed_before_the_first_start_and_kept_after_it() {
    let taken = |of: &str| Event::PortTaken { server: name("arena-1"), instance: instance(of) };
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    bench.event(taken("arena-1.0"));
    let ports: Vec<u16> = starts(&bench.take()).into_iter().map(|(_, port, _)| port).collect();
    assert_eq!(ports, [7000, 7001]);
    bench.started("arena-1", "arena-1.0");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(100);
    bench.event(taken("arena-1.1"));
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!(phase, ProcessPhase::Restarting);
    assert_eq!(message, "not started: port 7001 is in use by another process");
    // When every port is taken the order ends.
    let mut bench = Bench::welcomed();
    bench.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    for _ in 0..4 {
        bench.event(taken("arena-1.0"));
    }
    let (phase, _, message) = bench.phase("arena-1");
    assert_eq!(phase, ProcessPhase::Ended);
    assert_eq!(message, "no free port in 7000-7003: 1 in use, 4 in quarantine");
}

#[test]
fn what_is_said_of_an_earlier_process_changes_nothing() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.pass(100);
    bench.started("arena-1", "arena-1.1");
    bench.take();
    bench.exited("arena-1", "arena-1.0", Exit::Code(1));
    bench.probed("arena-1", "arena-1.0", Ok(()));
    bench.exited("nobody", "nobody.0", Exit::Code(1));
    let (phase, instance, _) = bench.phase("arena-1");
    assert_eq!((phase, instance.as_str()), (ProcessPhase::Starting, "arena-1.1"));
    assert!(starts(&bench.take()).is_empty());
}

#[test]
fn the_end_of_a_process_is_told_with_its_last_words_where_it_ended_by_itself() {
    let cases = [
        (Exit::Code(64), "bad number", "exited with code 64: bad number"),
        (Exit::Code(64), "", "exited with code 64"),
        (Exit::Code(0), "bye", "exited with code 0"),
        (Exit::Signal(6), "panicked", "killed by signal 6 (SIGABRT): panicked"),
        (Exit::Signal(9), "listening", "killed by signal 9 (SIGKILL)"),
    ];
    for (exit, last_words, expected) in cases {
        let mut bench = Bench::welcomed();
        bench.ready("arena-1");
        bench.exited_with("arena-1", "arena-1.0", exit, last_words);
        let (phase, _, message) = bench.phase("arena-1");
        assert_eq!((phase, message.as_str()), (ProcessPhase::Restarting, expected));
    }
}

fn restart(bench: &mut Bench) {
    let server = name("arena-1").into();
    bench.control(ToAgent::Restart { term: 5, server, reason: "server.js changed".to_owned() });
}

#[test]
fn a_restart_replaces_the_process_on_the_same_port_and_is_no_death() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.take();
    for round in 1..=10 {
        let (old, new) = (format!("arena-1.{}", round - 1), format!("arena-1.{round}"));
        restart(&mut bench);
        restart(&mut bench);
        assert_eq!(signals(&bench.take()).len(), 1, "asked once");
        let told = bench.phase("arena-1");
        assert_eq!(told, (ProcessPhase::Starting, old.clone(), "restarting (server.js changed)".to_owned()));
        bench.exited("arena-1", &old, Exit::Signal(15));
        let starts = starts(&bench.take());
        assert_eq!(
            starts.iter().map(|(_, port, of)| (*port, of.as_str())).collect::<Vec<_>>(),
            [(7000, new.as_str())]
        );
        bench.started("arena-1", &new);
        bench.probed("arena-1", &new, Ok(()));
        assert_eq!(bench.phase("arena-1"), (ProcessPhase::Ready, new, String::new()));
        bench.take();
    }
}

#[test]
fn a_restart_starts_a_server_that_waits_after_a_death_at_once_and_a_stop_overrules_it() {
    let mut bench = Bench::welcomed();
    bench.ready("arena-1");
    bench.pass(21);
    for _ in 0..3 {
        let of = bench.told("arena-1").map(|told| told.instance.to_string()).unwrap_or_default();
        bench.exited("arena-1", &of, Exit::Code(1));
        bench.take();
        restart(&mut bench);
        let of = starts(&bench.take()).pop().expect("started at once").2;
        bench.started("arena-1", &of);
        bench.pass(21);
    }
    restart(&mut bench);
    bench.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() });
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Stopping);
    let of = bench.told("arena-1").expect("it is reported").instance.to_string();
    bench.exited("arena-1", &of, Exit::Signal(15));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Ended);
}
