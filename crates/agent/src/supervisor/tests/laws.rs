//! Laws that hold after any sequence of events.

use std::collections::BTreeSet;

use greenroom_wire::link::Status;
use proptest::prelude::*;

use super::*;

/// What can happen, with the present instance filled in when it happens; `stale` ones name the first process.
#[derive(Debug, Clone)]
enum Step {
    Order(u8, u64),
    Stop(u8, u64),
    Started(u8),
    NotStarted(u8),
    PortTaken(u8),
    Exited(u8),
    Stale(u8),
    Probed(u8, bool),
    Linked(u8),
    Status(u8, u32),
    LinkLost(u8),
    ControlLost,
    Welcome(u64),
    Pass(u64),
    AgentDies,
}

fn step() -> impl Strategy<Value = Step> {
    let server = 0..5_u8;
    prop_oneof![
        4 => (server.clone(), 3..8_u64).prop_map(|(server, term)| Step::Order(server, term)),
        2 => (server.clone(), 3..8_u64).prop_map(|(server, term)| Step::Stop(server, term)),
        6 => server.clone().prop_map(Step::Started),
        1 => server.clone().prop_map(Step::NotStarted),
        1 => server.clone().prop_map(Step::PortTaken),
        3 => server.clone().prop_map(Step::Exited),
        1 => server.clone().prop_map(Step::Stale),
        3 => (server.clone(), any::<bool>()).prop_map(|(server, ok)| Step::Probed(server, ok)),
        2 => server.clone().prop_map(Step::Linked),
        2 => (server.clone(), any::<u32>()).prop_map(|(server, count)| Step::Status(server, count)),
        1 => server.prop_map(Step::LinkLost),
        1 => Just(Step::ControlLost),
        1 => (3..8_u64).prop_map(Step::Welcome),
        4 => (1..20_000_u64).prop_map(Step::Pass),
        1 => Just(Step::AgentDies),
    ]
}

fn server(number: u8) -> String {
    format!("arena-{number}")
}

fn present(bench: &Bench, number: u8) -> String {
    let managed = bench.supervisor.servers.get(&name(&server(number)));
    managed.map_or_else(|| format!("{}.0", server(number)), |managed| managed.instance().to_string())
}

fn apply(bench: &mut Bench, step: &Step) {
    match step {
        Step::Order(number, term) => {
            bench.control(ToAgent::Start { term: *term, order: Box::new(order(&server(*number), "arena")) });
        }
        Step::Stop(number, term) => {
            let server = name(&server(*number)).into();
            bench.control(ToAgent::Stop { term: *term, server, reason: "x".to_owned() });
        }
        Step::Started(number) => {
            let of = present(bench, *number);
            bench.started(&server(*number), &of);
        }
        Step::NotStarted(number) => {
            let instance = instance(&present(bench, *number));
            let message = "no".to_owned();
            bench.event(Event::NotStarted { server: name(&server(*number)), instance, message });
        }
        Step::PortTaken(number) => {
            let instance = instance(&present(bench, *number));
            bench.event(Event::PortTaken { server: name(&server(*number)), instance });
        }
        Step::Exited(number) => {
            let of = present(bench, *number);
            bench.exited(&server(*number), &of, Exit::Code(1));
        }
        Step::Stale(number) => {
            bench.exited(&server(*number), &format!("{}.0", server(*number)), Exit::Code(1));
        }
        Step::Probed(number, ok) => {
            let of = present(bench, *number);
            bench.probed(&server(*number), &of, if *ok { Ok(()) } else { Err("no") });
        }
        Step::Linked(number) => {
            let of = present(bench, *number);
            bench.linked(u64::from(*number), &of, "secret-1");
        }
        Step::Status(number, connections) => {
            let status = Status { connections: *connections, rooms: Vec::new(), ..Status::default() };
            bench.link(u64::from(*number), FromServer::Status(status));
        }
        Step::LinkLost(number) => bench.event(Event::LinkLost { link: LinkId(u64::from(*number)) }),
        Step::ControlLost => bench.event(Event::ControlLost),
        Step::Welcome(term) => {
            bench.control(ToAgent::Welcome {
                version: 1,
                term: *term,
                keys: PublicKeys::default(),
                hears_held: true,
            });
        }
        Step::Pass(span_ms) => bench.pass(*span_ms),
        Step::AgentDies => {
            let journal = bench.supervisor.journal();
            let mut next = Bench::from_journal(journal, bench.now);
            next.processes = bench.processes;
            *bench = next;
            for number in 0..5 {
                let (server, instance) = (name(&server(number)), instance(&present(bench, number)));
                bench.event(Event::Adopted { server, instance, found: None });
            }
        }
    }
}

proptest! {
    #[test]
    fn ports_instances_and_terms_never_clash(steps in proptest::collection::vec(step(), 1..120)) {
        let mut bench = Bench::welcomed();
        let mut term_seen = 0;
        // Instances that were started; one whose port was taken was not.
        let mut started = BTreeSet::new();
        for step in &steps {
            if let Step::PortTaken(number) = step {
                started.remove(&present(&bench, *number));
            }
            apply(&mut bench, step);
            for (_, effect) in bench.take() {
                if let Effect::Start { spec, .. } = effect {
                    let instance = spec.instance.to_string();
                    prop_assert!(started.insert(instance), "{} was started twice", spec.instance);
                }
            }
            let live: Vec<_> = bench.supervisor.servers.values().filter(|managed| !managed.is_ended()).collect();
            let ports: BTreeSet<u16> = live.iter().map(|managed| managed.port).collect();
            prop_assert_eq!(ports.len(), live.len(), "two servers have one port after {:?}", step);
            prop_assert!(ports.iter().all(|port| (7000..=7003).contains(port)));
            prop_assert!(live.len() <= 3);
            prop_assert!(bench.supervisor.term_seen() >= term_seen);
            term_seen = bench.supervisor.term_seen();
        }
    }

    #[test]
    fn a_journal_taken_over_is_the_same_journal(steps in proptest::collection::vec(step(), 1..60)) {
        let mut bench = Bench::welcomed();
        for step in &steps {
            apply(&mut bench, step);
        }
        let journal = bench.supervisor.journal();
        let text = serde_json::to_string(&journal).unwrap();
        let read: Journal = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &journal);
        let mut next = Bench::from_journal(read, bench.now);
        prop_assert_eq!(next.supervisor.take_journal().unwrap(), journal);
    }
}
