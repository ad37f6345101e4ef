//! Servers come and go while sockets pass: nobody whose server lives notices.
//!
//! `GREENROOM_EDGE_SERVERS` and `GREENROOM_EDGE_SOCKETS` say how many; `cargo xtask nightly` sets 50 and 2,000. All is in
//! one process, so a socket takes four file descriptors.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use support::clients::{Dropped, Poller, Socket};
use support::{Control, edge, run, until};

/// One client in ten polls, through both edges in turn.
enum Passing {
    Socket(Box<Socket>),
    Poller(Box<Poller>),
}

impl Passing {
    async fn connect(number: usize, edges: &[SocketAddr]) -> Result<Self, Dropped> {
        if number.is_multiple_of(10) {
            return Ok(Self::Poller(Box::new(Poller::connect(edges, "").await?)));
        }
        Ok(Self::Socket(Box::new(Socket::connect(edges[number % edges.len()], "").await?)))
    }

    async fn echo(&mut self, said: u64) -> Result<(), Dropped> {
        match self {
            Self::Socket(socket) => socket.echo(said).await,
            Self::Poller(poller) => poller.echo(said).await,
        }
    }

    async fn who(&mut self) -> Result<String, Dropped> {
        let who = match self {
            Self::Socket(socket) => socket.ask("who", "").await?,
            Self::Poller(poller) => poller.ask("who", "").await?,
        };
        Ok(who.trim_matches('"').to_owned())
    }
}

struct Crowd {
    edges: Vec<SocketAddr>,
    passing: Vec<(Passing, String)>,
    joined: usize,
    drops: Vec<Dropped>,
    rounds: u64,
}

impl Crowd {
    /// Until so many pass.
    async fn fill(&mut self, wanted: usize) {
        while self.passing.len() < wanted && self.drops.is_empty() {
            self.joined += 1;
            let joining = async {
                let mut passing = Passing::connect(self.joined, &self.edges).await?;
                let who = passing.who().await?;
                Ok((passing, who))
            };
            match joining.await {
                Ok(joined) => self.passing.push(joined),
                Err(error) => self.drops.push(error),
            }
        }
    }

    /// Everybody says something and hears it again, from the server it has always had.
    async fn round(&mut self) {
        self.rounds += 1;
        for (passing, _) in &mut self.passing {
            if let Err(error) = passing.echo(self.rounds).await {
                self.drops.push(error);
            }
        }
        let none: Vec<Dropped> = Vec::new();
        assert_eq!(self.drops, none, "in round {}", self.rounds);
    }

    /// Those of this server leave by themselves.
    async fn empty(&mut self, server: &str) {
        for (passing, _) in self.passing.extract_if(.., |(_, on)| on == server) {
            match passing {
                Passing::Socket(socket) => drop(socket),
                Passing::Poller(poller) => poller.leave().await.expect("it may leave"),
            }
        }
    }

    fn on(&self) -> BTreeMap<&str, usize> {
        let mut on = BTreeMap::new();
        for (_, server) in &self.passing {
            *on.entry(server.as_str()).or_default() += 1;
        }
        on
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn servers_come_and_go_while_sockets_pass_and_none_is_dropped() {
    let (servers, sockets) = (number("GREENROOM_EDGE_SERVERS", 8), number("GREENROOM_EDGE_SOCKETS", 120));
    run(Duration::from_mins(10), async {
        let control = Control::start().await;
        let first = servers / 2;
        (0..first).for_each(|n| control.add(&format!("s{n}"), |_| {}));
        let edges = [edge(&control, |_| {}), edge(&control, |_| {})];
        control.heard(edges.len()).await;
        let addresses = edges.iter().map(|edge| edge.address).collect();
        let mut crowd =
            Crowd { edges: addresses, passing: Vec::new(), joined: 0, drops: Vec::new(), rounds: 0 };
        crowd.fill(sockets / 2).await;
        crowd.round().await;
        // In steps: some come, as many go, half of them once they are empty and half with all that they have.
        let mut gone = Vec::new();
        let step = (servers / 5).max(1);
        let (mut added, mut removed) = (first, 0);
        while removed < servers {
            for _ in 0..step.min(first + servers - added) {
                control.add(&format!("s{added}"), |_| {});
                added += 1;
            }
            control.heard(edges.len()).await;
            crowd.fill(crowd.passing.len() + sockets / 10).await;
            for _ in 0..step.min(servers - removed) {
                let name = format!("s{removed}");
                control.show(&name, "draining");
                if removed.is_multiple_of(2) {
                    control.heard(edges.len()).await;
                    crowd.empty(&name).await;
                    until("nobody is left there", || control.connections(&name) == 0).await;
                    control.forget(&name).shutdown();
                } else {
                    gone.push(control.forget(&name));
                }
                removed += 1;
            }
            crowd.round().await;
        }
        crowd.fill(sockets).await;
        crowd.round().await;
        control.heard(edges.len()).await;
        crowd.round().await;
        assert!(crowd.passing.len() >= sockets);
        let on = crowd.on();
        println!(
            "{} sockets on {} servers after {} came and {removed} went: {on:?}",
            crowd.passing.len(),
            on.len(),
            added - first
        );
        assert!(gone.iter().any(|handle| handle.connections() > 0), "some servers left with sockets on them");
    });
}
