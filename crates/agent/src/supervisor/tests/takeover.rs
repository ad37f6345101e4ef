//! A new agent takes over from the journal of one that died.

use greenroom_provider::StopSignal;
use greenroom_wire::link::Status;

use super::*;

fn found(handle: &str) -> Option<Process> {
    Some(Process { handle: Handle::from_text(handle.to_owned()), pid: Some(1001) })
}

fn adopted(server: &str, of: &str, found: Option<Process>) -> Event {
    Event::Adopted { server: name(server), instance: instance(of), found }
}

/// The next agent, after the first had one ready server, linked or not.
fn next_agent(linked: bool) -> Bench {
    let mut first = Bench::welcomed();
    first.ready("arena-1");
    if linked {
        first.linked(1, "arena-1.0", "secret-1");
    }
    let journal = first.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal, first.now + Duration::from_secs(5));
    let adopt = Effect::Adopt {
        server: name("arena-1"),
        instance: instance("arena-1.0"),
        handle: Some(Handle::from_text("h1".to_owned())),
    };
    assert_eq!(bench.take(), [(5_000, adopt)]);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    bench
}

#[test]
fn a_server_that_runs_is_adopted_as_it_was() {
    let mut bench = next_agent(false);
    assert!(bench.report_times().is_empty(), "nothing is told before it is known");
    bench.event(adopted("arena-1", "arena-1.0", found("h1")));
    let (phase, instance, message) = bench.phase("arena-1");
    assert_eq!((phase, instance.as_str(), message.as_str()), (ProcessPhase::Ready, "arena-1.0", ""));
    let told = bench.told("arena-1").unwrap();
    assert_eq!((told.pid, told.endpoint.as_str()), (Some(1001), "play.example.com:7000"));
    assert_eq!(told.started_at_ms, T0.unix_ms());
    bench.probed("arena-1", "arena-1.0", Ok(()));
    bench.exited("arena-1", "arena-1.0", Exit::Unknown);
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Restarting);
}

#[test]
fn the_first_report_waits_until_adopted_servers_have_told_their_rooms() {
    let mut bench = next_agent(true);
    bench.event(adopted("arena-1", "arena-1.0", found("h1")));
    bench.pass(500);
    assert!(bench.report_times().is_empty());
    bench.linked(1, "arena-1.0", "secret-1");
    assert!(bench.report_times().is_empty());
    bench.link(1, FromServer::Status(Status { connections: 4, rooms: Vec::new(), ..Status::default() }));
    assert_eq!(bench.report_times(), [5_500]);
    bench.pass(21);
    // One that never links again holds nothing up for longer than 3 s, and is not told as healthy then.
    let mut bench = next_agent(true);
    bench.event(adopted("arena-1", "arena-1.0", found("h1")));
    bench.pass(2_999);
    assert!(bench.report_times().is_empty());
    bench.pass(1);
    assert_eq!(bench.told("arena-1").unwrap().phase, ProcessPhase::Unhealthy);
}

#[test]
fn a_server_that_ended_meanwhile_is_started_again_on_its_port() {
    let mut bench = next_agent(true);
    bench.event(adopted("arena-1", "arena-1.0", None));
    let (phase, instance, message) = bench.phase("arena-1");
    assert_eq!((phase, instance.as_str()), (ProcessPhase::Restarting, "arena-1.1"));
    assert_eq!(message, "ended while its agent was away");
    bench.pass(100);
    let started = bench.take().into_iter().any(|(_, effect)| {
        matches!(effect, Effect::Start { port: 7000, spec } if spec.instance.as_str() == "arena-1.1")
    });
    assert!(started);
}

#[test]
fn a_stop_goes_on_where_the_first_agent_left_it() {
    let mut first = Bench::welcomed();
    first.ready("arena-1");
    first.control(ToAgent::Stop { term: 5, server: name("arena-1").into(), reason: "surplus".to_owned() });
    let journal = first.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal.clone(), first.now);
    bench.event(adopted("arena-1", "arena-1.0", found("h1")));
    let asked = bench
        .take()
        .into_iter()
        .any(|(_, effect)| matches!(effect, Effect::Signal { signal: StopSignal::Ask, .. }));
    assert!(asked);
    let mut bench = Bench::from_journal(journal, first.now);
    bench.event(adopted("arena-1", "arena-1.0", None));
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    let (phase, _, message) = bench.phase("arena-1");
    let message = message.as_str();
    assert_eq!((phase, message), (ProcessPhase::Ended, "stopped (surplus): ended while its agent was away"));
}

#[test]
fn a_server_whose_start_was_cut_short_is_looked_for_by_its_instance() {
    let mut first = Bench::welcomed();
    first.control(ToAgent::Start { term: 5, order: Box::new(order("arena-1", "arena")) });
    let journal = first.supervisor.take_journal().unwrap();
    let mut bench = Bench::from_journal(journal, first.now);
    let adopt = Effect::Adopt { server: name("arena-1"), instance: instance("arena-1.0"), handle: None };
    assert_eq!(bench.take(), [(0, adopt)]);
    bench.control(ToAgent::Welcome { version: 1, term: 5, keys: PublicKeys::default(), hears_held: true });
    bench.event(adopted("arena-1", "arena-1.0", found("h7")));
    assert_eq!(bench.phase("arena-1").0, ProcessPhase::Starting);
}
