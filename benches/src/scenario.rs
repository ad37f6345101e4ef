//! What is measured: idle connections, echo, rooms, broadcasts, bursts and a storm of reconnects.
//! Never judges: every number is a figure of one run, put together elsewhere.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::kernel::Tcp;
use crate::mesh;
use crate::peer::{Peer, Subject};
use crate::swarm::{Arrival, Swarm};

/// Figures of one run, by name; each name ends in its unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Time between two messages of one player.
const BEAT: Duration = Duration::from_millis(50);

/// Connects in flight where a storm is not what is measured.
const POLITE: usize = 64;

/// What a player says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    Json,
    /// An attachment: two frames for each delivery.
    Binary,
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Connections that do nothing, and then a broadcast to all of them.
    Idle { connections: usize, rest: Duration },
    /// Everybody sends again as soon as the ack is there.
    Echo { connections: usize },
    /// Everybody tells the others of their room where they are, 20 times a second.
    Rooms { rooms: usize, players: usize, payload: Payload },
    /// So many broadcasts always in flight.
    Burst { connections: usize, in_flight: usize },
    /// The server is killed and started again; everybody comes back at once.
    Storm { connections: usize },
    /// Nodes share a Redis, one is killed, and its clients come back to their sessions.
    Recover { connections: usize },
    /// So many broadcasts in flight from a node to another, or to itself alone.
    Cross { in_flight: usize, is_shared: bool },
    /// A tenth after the other goes and comes back, ten times over, under broadcasts; memory must not creep.
    Soak { connections: usize },
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Idle { connections, .. } => format!("idle {connections}"),
            Self::Echo { connections } => format!("echo {connections}"),
            Self::Rooms { rooms, players, payload: Payload::Json } => format!("rooms {rooms}x{players}"),
            Self::Rooms { rooms, players, payload: Payload::Binary } => {
                format!("rooms {rooms}x{players} binary")
            }
            Self::Burst { connections, in_flight } => format!("burst {in_flight}x{connections}"),
            Self::Storm { connections } => format!("storm {connections}"),
            Self::Soak { connections } => format!("soak {connections}"),
            Self::Recover { connections } => format!("recover {connections}"),
            Self::Cross { in_flight, is_shared: true } => format!("cross {in_flight}"),
            Self::Cross { in_flight, is_shared: false } => format!("alone {in_flight}"),
        }
    }

    /// Measures one subject once.
    pub(crate) fn run(
        self,
        subject: &Subject,
        greenroom: &Path,
        lasting: Duration,
    ) -> anyhow::Result<Figures> {
        let mut peer = Peer::start(subject, None)?;
        peer.wait_listening()?;
        match self {
            Self::Idle { connections, rest } => idle(&peer, connections, rest),
            Self::Echo { connections } => echo(&peer, connections, lasting),
            Self::Rooms { rooms, players, payload } => play(&peer, rooms, players, payload, lasting),
            Self::Burst { connections, in_flight } => burst(&peer, connections, in_flight, lasting),
            Self::Storm { connections } => storm(peer, subject, connections),
            Self::Soak { connections } => soak(&peer, connections),
            Self::Recover { connections } => mesh::recover(greenroom, connections),
            Self::Cross { in_flight, is_shared } => mesh::cross(greenroom, is_shared, in_flight, lasting),
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

fn tell_latency(figures: &mut Figures, latencies_us: &Histogram<u64>) {
    figures.insert("p50_ms", latencies_us.value_at_quantile(0.5) as f64 / 1e3);
    figures.insert("p99_ms", latencies_us.value_at_quantile(0.99) as f64 / 1e3);
}

/// Lets the swarm live for a while, heartbeats included.
fn rest(swarm: &mut Swarm, span: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + span;
    while Instant::now() < until {
        swarm.turn(Duration::from_millis(50), |_, _, _| {})?;
    }
    Ok(())
}

fn idle(peer: &Peer, connections: usize, span: Duration) -> anyhow::Result<Figures> {
    let mut swarm = Swarm::new(peer, connections)?;
    rest(&mut swarm, Duration::from_millis(300))?;
    let (memory, cpu, began) = (peer.memory_kib()?, peer.cpu()?, Instant::now());
    swarm.connect_all(POLITE, Duration::from_secs(60))?;
    let took = began.elapsed().as_secs_f64();
    rest(&mut swarm, Duration::from_secs(1))?;
    let per_connect = peer.cpu()?.since(cpu).total() / connections as f64;
    let mut figures = Figures::from([
        ("memory_kib_per_connection", (peer.memory_kib()? - memory) / connections as f64),
        ("base_memory_kib", memory),
        ("connect_cpu_us", per_connect * 1e6),
        ("connects_per_s", connections as f64 / took),
    ]);
    if !span.is_zero() {
        let (run_ns, began) = (peer.run_ns()?, Instant::now());
        rest(&mut swarm, span)?;
        let used_us = (peer.run_ns()? - run_ns) / 1e3;
        figures.insert("idle_cpu_us_per_s", used_us / began.elapsed().as_secs_f64() / connections as f64);
        figures.insert("memory_later_kib", (peer.memory_kib()? - memory) / connections as f64);
    }
    figures.extend(broadcast(peer, &mut swarm)?);
    Ok(figures)
}

/// One broadcast after the other, each when the last one reached everybody.
fn broadcast(peer: &Peer, swarm: &mut Swarm) -> anyhow::Result<Figures> {
    const BROADCASTS: usize = 12;
    let mut latencies = histogram();
    let mut before = peer.cpu()?;
    for round in 0..BROADCASTS {
        // The first two warm the caches and the allocator.
        if round == 2 {
            before = peer.cpu()?;
        }
        let began = Instant::now();
        let mut missing = swarm.len();
        swarm.send_event(0, "all", false, 1);
        while missing > 0 {
            swarm.turn(Duration::from_millis(100), |_, _, arrival| {
                if matches!(arrival, Arrival::Event(_)) {
                    missing -= 1;
                }
            })?;
            anyhow::ensure!(began.elapsed() < Duration::from_secs(20), "a broadcast missed {missing}");
        }
        latencies.record(u64::try_from(began.elapsed().as_micros())?)?;
    }
    let cpu = peer.cpu()?.since(before);
    let millions = ((BROADCASTS - 2) * swarm.len()) as f64 / 1e6;
    Ok(Figures::from([
        ("broadcast_cpu_s_per_million", cpu.total() / millions),
        ("broadcast_user_s_per_million", cpu.user / millions),
        ("broadcast_reached_ms", latencies.value_at_quantile(0.5) as f64 / 1e3),
    ]))
}

fn echo(peer: &Peer, connections: usize, lasting: Duration) -> anyhow::Result<Figures> {
    let mut swarm = Swarm::new(peer, connections)?;
    swarm.connect_all(POLITE, Duration::from_secs(60))?;
    for who in 0..connections {
        swarm.send_event(who, "echo", true, 1);
    }
    let mut latencies = histogram();
    let mut acks = 0u64;
    let warm = lasting / 4;
    let (mut cpu, mut began, mut counted) = (peer.cpu()?, Instant::now(), false);
    while !counted || began.elapsed() < lasting {
        if !counted && began.elapsed() >= warm {
            (cpu, began, acks, counted) = (peer.cpu()?, Instant::now(), 0, true);
            latencies.reset();
        }
        swarm.turn(Duration::from_millis(50), |swarm, who, arrival| {
            if let Arrival::Ack(sent_us) = arrival {
                acks += 1;
                latencies.saturating_record(swarm.now_us() - sent_us);
                swarm.send_event(who, "echo", true, 1);
            }
        })?;
    }
    let mut figures = per_million(peer, cpu, acks, began.elapsed())?;
    tell_latency(&mut figures, &latencies);
    Ok(figures)
}

fn per_million(peer: &Peer, before: crate::peer::Cpu, done: u64, span: Duration) -> anyhow::Result<Figures> {
    let cpu = peer.cpu()?.since(before);
    let millions = done as f64 / 1e6;
    Ok(Figures::from([
        ("cpu_s_per_million", cpu.total() / millions),
        ("user_s_per_million", cpu.user / millions),
        ("per_s", done as f64 / span.as_secs_f64()),
        ("per_cpu_s", done as f64 / cpu.total()),
        ("cores", cpu.total() / span.as_secs_f64()),
    ]))
}

/// Spreads players over the beat as real ones are spread, the same way in every run.
fn phase_of(who: usize) -> Duration {
    let mut mixed = (who as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    BEAT.mul_f64(((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64)
}

fn play(
    peer: &Peer,
    rooms: usize,
    players: usize,
    payload: Payload,
    lasting: Duration,
) -> anyhow::Result<Figures> {
    let all = rooms * players;
    let mut swarm = Swarm::new(peer, all)?;
    swarm.connect_all(POLITE, Duration::from_secs(60))?;
    let mut joined = 0;
    for who in 0..all {
        swarm.send_join(who, who % rooms);
    }
    while joined < all {
        swarm.turn(Duration::from_millis(50), |_, _, arrival| {
            if matches!(arrival, Arrival::Ack(_)) {
                joined += 1;
            }
        })?;
    }
    let mut order: Vec<(Duration, usize)> = (0..all).map(|who| (phase_of(who), who)).collect();
    order.sort();
    let mut latencies = histogram();
    let (mut arrived, mut sent) = (0u64, 0u64);
    let warm = lasting / 4;
    let began = Instant::now();
    let mut counting: Option<(Instant, crate::peer::Cpu)> = None;
    let (mut beat, mut place) = (0u32, 0usize);
    while began.elapsed() < warm + lasting {
        if counting.is_none() && began.elapsed() >= warm {
            (arrived, sent) = (0, 0);
            latencies.reset();
            counting = Some((Instant::now(), peer.cpu()?));
        }
        let due = loop {
            let due = BEAT * beat + order[place].0;
            if due > began.elapsed() {
                break due;
            }
            match payload {
                Payload::Json => swarm.send_event(order[place].1, "pos", false, 1),
                Payload::Binary => swarm.send_binary(order[place].1, "pos"),
            }
            sent += 1;
            place += 1;
            if place == all {
                (beat, place) = (beat + 1, 0);
            }
        };
        let patience = due.saturating_sub(began.elapsed());
        swarm.turn(patience, |swarm, _, arrival| {
            if let Arrival::Event(sent_us) = arrival {
                arrived += 1;
                latencies.saturating_record(swarm.now_us() - sent_us);
            }
        })?;
    }
    let (counted_from, cpu) = counting.unwrap_or((began, crate::peer::Cpu::default()));
    let mut figures = per_million(peer, cpu, arrived, counted_from.elapsed())?;
    figures.insert("arrived_share", arrived as f64 / (sent * (players as u64 - 1)) as f64);
    tell_latency(&mut figures, &latencies);
    Ok(figures)
}

fn burst(peer: &Peer, connections: usize, in_flight: usize, lasting: Duration) -> anyhow::Result<Figures> {
    let mut swarm = Swarm::new(peer, connections)?;
    swarm.connect_all(POLITE, Duration::from_secs(60))?;
    let mut latencies = histogram();
    let mut arrived = 0u64;
    let (mut cpu, mut began) = (peer.cpu()?, Instant::now());
    let mut round = 0;
    while round < 3 || began.elapsed() < lasting {
        if round == 3 {
            (cpu, began, arrived) = (peer.cpu()?, Instant::now(), 0);
            latencies.reset();
        }
        round += 1;
        let mut missing = in_flight * connections;
        swarm.send_event(round % connections, "all", false, in_flight);
        let sent_at = Instant::now();
        while missing > 0 {
            swarm.turn(Duration::from_millis(50), |swarm, _, arrival| {
                if let Arrival::Event(sent_us) = arrival {
                    missing -= 1;
                    arrived += 1;
                    latencies.saturating_record(swarm.now_us() - sent_us);
                }
            })?;
            anyhow::ensure!(sent_at.elapsed() < Duration::from_secs(20), "a burst missed {missing}");
        }
    }
    let mut figures = per_million(peer, cpu, arrived, began.elapsed())?;
    tell_latency(&mut figures, &latencies);
    Ok(figures)
}

/// How much the tenth peak of memory may be above the second.
const CREEP_MAX: f64 = 1.05;

fn soak(peer: &Peer, connections: usize) -> anyhow::Result<Figures> {
    const ROUNDS: usize = 10;
    let mut swarm = Swarm::new(peer, connections)?;
    swarm.connect_all(POLITE, Duration::from_secs(120))?;
    let mut peaks = Vec::new();
    for _ in 0..ROUNDS {
        let mut peak: f64 = 0.0;
        for part in 0..10 {
            swarm.renew((part..connections).step_by(10), POLITE, Duration::from_secs(60))?;
            swarm.send_event(part, "all", false, 3);
            rest(&mut swarm, Duration::from_millis(300))?;
            peak = peak.max(peer.memory_kib()?);
        }
        peaks.push(peak);
    }
    let (second, tenth) = (peaks[1], peaks[ROUNDS - 1]);
    anyhow::ensure!(tenth <= CREEP_MAX * second, "memory creeps: peaks of {peaks:?} KiB");
    Ok(Figures::from([
        ("second_peak_kib", second),
        ("tenth_peak_kib", tenth),
        ("tenth_to_second", tenth / second),
        ("renewed", (ROUNDS * connections) as f64),
    ]))
}

/// Asks for the health page as a load balancer does. The answer says whether there was any answer.
fn is_healthy(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 15];
        stream.read_exact(&mut head)?;
        Ok(head.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

fn storm(peer: Peer, subject: &Subject, connections: usize) -> anyhow::Result<Figures> {
    let address = peer.address;
    let mut swarm = Swarm::new(&peer, connections)?;
    swarm.connect_all(POLITE, Duration::from_secs(60))?;
    drop(peer);
    while swarm.ready > 0 {
        swarm.turn(Duration::from_millis(50), |_, _, _| {})?;
    }
    let mut peer = Peer::start(subject, Some(address.port()))?;
    peer.wait_listening()?;
    let (cpu, tcp, lost) = (peer.cpu()?, Tcp::read()?, swarm.lost);
    let began = Instant::now();
    let asking = std::thread::spawn(move || {
        let (mut asked, mut refused) = (0u32, 0u32);
        while began.elapsed() < Duration::from_secs(1) {
            asked += 1;
            refused += u32::from(!is_healthy(address));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        (asked, refused)
    });
    swarm.connect_all(connections, Duration::from_secs(60))?;
    let took = began.elapsed();
    let used = peer.cpu()?.since(cpu).total();
    let tcp = Tcp::read()?.since(&tcp);
    let (asked, refused) = asking.join().map_err(|_| anyhow::anyhow!("the health checks broke"))?;
    let mut figures = Figures::from([
        ("all_back_s", took.as_secs_f64()),
        ("cpu_s", used),
        ("refused", (swarm.lost - lost) as f64),
        ("health_asked", f64::from(asked)),
        ("health_refused", f64::from(refused)),
    ]);
    figures.extend(tcp);
    Ok(figures)
}
