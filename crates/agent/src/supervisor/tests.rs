//! The supervisor under virtual time: a bench that plays engine, control and gameservers.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks the one effect that it is about")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use greenroom_backplane::Limits;
use greenroom_core::{InstanceId, ServerName, Timestamp};
use greenroom_provider::{Exit, Handle};
use greenroom_wire::agent::{FromAgent, ProbeWord, ProcessPhase, ServerReport, StartOrder, ToAgent};
use greenroom_wire::link::FromServer;
use greenroom_wire::token::PublicKeys;

use super::{Effect, Event, Heard, LinkId, ProbeFailure, Process, Settings, Speech, Supervisor};
use crate::journal::Journal;
use crate::keeping::Holds;

mod agones;
mod boards;
mod frozen;
mod laws;
mod life;
mod links;
mod occupancy;
mod orders;
mod sdk;
mod takeover;

const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

fn settings() -> Settings {
    Settings {
        host: "host-1".parse().unwrap(),
        control: "http://127.0.0.1:8700".to_owned(),
        control_ca: Some("/tls/ca.crt".into()),
        public_host: "play.example.com".to_owned(),
        bind: Ipv4Addr::UNSPECIFIED.into(),
        ports: 7000..=7003,
        dialled: BTreeMap::new(),
        holds: Holds::Busy,
        allowed_origins: vec!["https://a.example".to_owned(), "https://b.example".to_owned()],
        servers_max: 3,
        link: SocketAddr::from((Ipv4Addr::LOCALHOST, 9999)),
        sdk: SocketAddr::from((Ipv4Addr::LOCALHOST, 9998)),
        agones: true,
        boards: Limits::default(),
    }
}

fn order(server: &str, fleet: &str) -> StartOrder {
    StartOrder {
        server: name(server).into(),
        fleet: fleet.parse::<greenroom_core::FleetName>().unwrap().into(),
        revision: "r1".parse::<greenroom_core::Revision>().unwrap().into(),
        command: vec!["game".to_owned(), "--fast".to_owned()],
        env: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        secrets: BTreeMap::new(),
        probe: ProbeWord::EngineIo,
        stop_grace_ms: 10_000,
        min_ready_ms: 0,
        rooms_per_server: 2,
        seats_per_room: 4,
        ports: None,
        agones: false,
    }
}

fn name(server: &str) -> ServerName {
    server.parse().unwrap()
}

fn instance(instance: &str) -> InstanceId {
    instance.parse().unwrap()
}

/// The supervisor, the time, and everything it wanted done with the millisecond (after `T0`) it wanted it.
struct Bench {
    supervisor: Supervisor,
    now: Timestamp,
    done: Vec<(u64, Effect)>,
    processes: u32,
}

impl Bench {
    fn new() -> Self {
        Self::from_journal(Journal::empty("host-1".parse().unwrap()), T0)
    }

    /// A bench whose session with control is open.
    fn welcomed() -> Self {
        let mut bench = Self::new();
        bench.control(ToAgent::Welcome {
            version: 1,
            term: 5,
            keys: PublicKeys::default(),
            hears_held: true,
        });
        bench
    }

    fn from_journal(journal: Journal, now: Timestamp) -> Self {
        Self::with(settings(), journal, now)
    }

    fn with(settings: Settings, journal: Journal, now: Timestamp) -> Self {
        let mut secrets = 0;
        let secret = move || {
            secrets += 1;
            format!("secret-{secrets}")
        };
        let supervisor = Supervisor::new(settings, journal, Box::new(secret), now);
        let mut bench = Self { supervisor, now, done: Vec::new(), processes: 0 };
        bench.event(Event::Tick);
        bench
    }

    fn event(&mut self, event: Event) {
        let effects = self.supervisor.handle(self.now, event);
        self.done.extend(effects.into_iter().map(|effect| (self.now.since(T0).as_millis() as u64, effect)));
    }

    fn control(&mut self, message: ToAgent) {
        self.event(Event::Control(message));
    }

    fn link(&mut self, link: u64, message: FromServer) {
        self.event(Event::Link { link: LinkId(link), message });
    }

    /// Lets time pass, ticking whenever the supervisor asks for it.
    fn pass(&mut self, span_ms: u64) {
        let until = self.now + Duration::from_millis(span_ms);
        while let Some(at) = self.supervisor.wake_at().filter(|at| *at <= until) {
            assert!(at > self.now, "it asks to be woken at a moment that has passed");
            self.now = at;
            self.event(Event::Tick);
        }
        self.now = until;
    }

    fn started(&mut self, server: &str, of: &str) {
        self.processes += 1;
        let process = Process {
            handle: Handle::from_text(format!("h{}", self.processes)),
            pid: Some(1000 + self.processes),
        };
        self.event(Event::Started { server: name(server), instance: instance(of), process });
    }

    fn probed(&mut self, server: &str, of: &str, outcome: Result<(), &str>) {
        self.probed_and_heard(server, of, outcome, Heard::Nothing);
    }

    fn probed_and_heard(&mut self, server: &str, of: &str, outcome: Result<(), &str>, heard: Heard) {
        let failure = |message: &str| ProbeFailure { message: message.to_owned(), heard };
        let outcome = outcome.map(|()| Speech::Plain).map_err(failure);
        self.event(Event::Probed { server: name(server), instance: instance(of), outcome });
    }

    fn exited(&mut self, server: &str, of: &str, exit: Exit) {
        self.exited_with(server, of, exit, "");
    }

    fn exited_with(&mut self, server: &str, of: &str, exit: Exit, last_words: &str) {
        let last_words = last_words.to_owned();
        self.event(Event::Exited { server: name(server), instance: instance(of), exit, last_words });
    }

    /// Orders a server of fleet `arena` and brings it to `Ready`.
    fn ready(&mut self, server: &str) {
        self.control(ToAgent::Start { term: 5, order: Box::new(order(server, "arena")) });
        self.started(server, &format!("{server}.0"));
        self.probed(server, &format!("{server}.0"), Ok(()));
    }

    /// Links the present process of a server, whose secret is `secret`.
    fn linked(&mut self, link: u64, of: &str, secret: &str) {
        let hello =
            FromServer::Hello { version: 1, instance: instance(of).into(), secret: secret.to_owned() };
        self.link(link, hello);
    }

    /// The server as the latest report tells it.
    fn told(&self, server: &str) -> Option<&ServerReport> {
        let reports = self.done.iter().rev().filter_map(|(_, effect)| match effect {
            Effect::Tell(told) => match &**told {
                FromAgent::Report(report) => Some(report),
                _ => None,
            },
            _ => None,
        });
        reports.into_iter().next()?.servers.iter().find(|told| told.server.as_str() == server)
    }

    /// Lets changes be reported, then gives phase, instance, endpoint and message.
    fn phase(&mut self, server: &str) -> (ProcessPhase, String, String) {
        self.pass(21);
        let told = self.told(server).expect("it is reported");
        (told.phase, told.instance.to_string(), told.message.clone())
    }

    /// What was wanted since the last call, without reports.
    fn take(&mut self) -> Vec<(u64, Effect)> {
        let is_report =
            |effect: &Effect| matches!(effect, Effect::Tell(told) if matches!(**told, FromAgent::Report(_)));
        std::mem::take(&mut self.done).into_iter().filter(|(_, effect)| !is_report(effect)).collect()
    }

    /// The moments of all reports since the last call of anything that takes.
    fn report_times(&mut self) -> Vec<u64> {
        let times = self.done.iter().filter(|(_, effect)| match effect {
            Effect::Tell(told) => matches!(**told, FromAgent::Report(_)),
            _ => false,
        });
        let times = times.map(|(at, _)| *at).collect();
        self.done.clear();
        times
    }

    fn refusals(&mut self) -> Vec<String> {
        let told = self.take().into_iter().filter_map(|(_, effect)| match effect {
            Effect::Tell(told) => match *told {
                FromAgent::Refused { message, .. } => Some(message),
                _ => None,
            },
            _ => None,
        });
        told.collect()
    }
}
