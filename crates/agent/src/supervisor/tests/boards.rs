//! The board that an agent has for its servers passes the suite of every backplane, by way of their links.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_backplane::conformance::{Stand, all, limits};
use greenroom_backplane::way::{FromBackplane, Teller, ToBackplane, Way, WayEnd};
use greenroom_core::InstanceId;
use greenroom_wire::link::{FromServer, ToServer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::*;

/// What the links of this host bring.
enum Brought {
    Linked(InstanceId, WayEnd),
    Said(LinkId, ToBackplane),
    Lost(LinkId),
}

/// An agent in real time, whose servers are the suite's nodes.
struct Host {
    bench: Bench,
    began: Instant,
    ways: BTreeMap<LinkId, Teller>,
    secrets: BTreeMap<String, String>,
    links: u64,
    bring: UnboundedSender<Brought>,
}

impl Host {
    fn event(&mut self, event: Event) {
        self.bench.now = T0 + self.began.elapsed();
        self.bench.event(event);
        for (_, effect) in std::mem::take(&mut self.bench.done) {
            match effect {
                Effect::Start { spec, .. } => {
                    let secret = spec.env["GREENROOM_LINK_SECRET"].clone();
                    self.secrets.insert(spec.instance.to_string(), secret);
                }
                Effect::TellServer { link, message } => self.tell(link, message),
                Effect::Deliver { links, relay } => {
                    links.iter().for_each(|link| self.tell(*link, ToServer::Deliver(relay.clone())));
                }
                Effect::CloseLink { link, .. } => drop(self.ways.remove(&link)),
                _ => {}
            }
        }
    }

    fn tell(&self, link: LinkId, message: ToServer) {
        let told = match message {
            ToServer::Welcome { .. } => FromBackplane::Up,
            ToServer::Backplane(told) => FromBackplane::Told(told),
            ToServer::Mesh(told) => FromBackplane::Mesh(told),
            ToServer::MeshAsked { ask, peers } => FromBackplane::Asked { ask, peers },
            ToServer::Deliver(relay) => FromBackplane::Deliver(relay),
            other => panic!("nothing of this is for a backplane: {other:?}"),
        };
        if let Some(way) = self.ways.get(&link) {
            // Its node may be gone by now.
            way.tell(told);
        }
    }

    /// A node comes: the server that it is runs, and says hello on a link of its own.
    fn linked(&mut self, node: &InstanceId, end: WayEnd) {
        if !self.secrets.contains_key(node.as_str()) {
            let server = node.as_str().strip_suffix(".0").expect("the suite has first processes alone");
            let order = Box::new(order(server, "arena"));
            self.event(Event::Control(ToAgent::Start { term: 5, order }));
            let process = Process { handle: Handle::from_text(node.to_string()), pid: None };
            self.event(Event::Started { server: name(server), instance: node.clone(), process });
        }
        self.links += 1;
        let link = LinkId(self.links);
        let WayEnd { mut to, from } = end;
        self.ways.insert(link, from);
        let bring = self.bring.clone();
        tokio::task::spawn_local(async move {
            while let Some(said) = to.recv().await {
                // The host ends with its test.
                let _there = bring.send(Brought::Said(link, said));
            }
            let _there = bring.send(Brought::Lost(link));
        });
        let secret = self.secrets[node.as_str()].clone();
        self.event(Event::Link {
            link,
            message: FromServer::Hello { version: 1, instance: node.clone().into(), secret },
        });
    }

    async fn run(mut self, mut brought: UnboundedReceiver<Brought>) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                brought = brought.recv() => match brought {
                    None => return,
                    Some(Brought::Linked(node, end)) => self.linked(&node, end),
                    Some(Brought::Said(link, said)) => {
                        let message = match said {
                            ToBackplane::Command(command) => FromServer::Backplane(command),
                            ToBackplane::Mesh(send) => FromServer::Mesh(send),
                            ToBackplane::Publish(relay) => FromServer::Publish(relay),
                        };
                        self.event(Event::Link { link, message });
                    }
                    Some(Brought::Lost(link)) => {
                        self.ways.remove(&link);
                        self.event(Event::LinkLost { link });
                    }
                },
                _ = tick.tick() => self.event(Event::Tick),
            }
        }
    }
}

#[test]
fn the_board_of_a_host_is_a_backplane() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let settings = Settings { boards: limits(), servers_max: 100, ports: 7000..=7100, ..settings() };
        let mut bench = Bench::with(settings, Journal::empty("host-1".parse().unwrap()), T0);
        bench.control(ToAgent::Welcome {
            version: 1,
            term: 5,
            keys: PublicKeys::default(),
            hears_held: true,
        });
        let (bring, brought) = unbounded_channel();
        let (ways, secrets) = (BTreeMap::new(), BTreeMap::new());
        let host = Host { bench, began: Instant::now(), ways, secrets, links: 0, bring: bring.clone() };
        tokio::task::spawn_local(host.run(brought));
        let mut way = |node| {
            let (way, end) = Way::new();
            bring.send(Brought::Linked(node, end)).expect("the host runs");
            way
        };
        all(&mut Stand { way: &mut way, gone_within: Duration::from_millis(50) }).await;
    });
}
