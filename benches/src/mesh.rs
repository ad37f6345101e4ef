//! Nodes that share a Redis: how long it takes until everybody is back after a `kill -9`, and what a message costs that
//! goes from one node to the other.
//! Never on a machine without `redis-server`: that is an error.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::peer::{Peer, Subject};
use crate::scenario::Figures;
use crate::swarm::{Arrival, Swarm};

/// Broadcasts that clients miss while their node is gone.
const MISSED: usize = 100;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn subject(name: &str, words: &[&str], arguments: &[&str], core: usize) -> Subject {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let command = owned(words).into_iter().map(Into::into).collect();
    Subject { name: name.to_owned(), command, arguments: owned(arguments), core, secure: None }
}

/// A Redis on the core of the load, and two relays on the other.
struct Stand {
    redis: Peer,
    relay: Subject,
    first: Peer,
    second: Peer,
}

impl Stand {
    fn start(greenroom: &Path, is_shared: bool) -> anyhow::Result<Self> {
        let settings = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut redis = Peer::start(&subject("redis", &["redis-server", "--port"], &settings, 1), None)?;
        redis.wait_listening()?;
        let url = format!("redis://{}", redis.address);
        let shared: &[&str] = if is_shared { &["--recovery", "2m", "--redis", &url] } else { &[] };
        let program = greenroom.to_string_lossy();
        let relay = subject("relay", &[&program, "example", "relay"], shared, 0);
        let (mut first, mut second) = (Peer::start(&relay, None)?, Peer::start(&relay, None)?);
        first.wait_listening()?;
        second.wait_listening()?;
        Ok(Self { redis, relay, first, second })
    }
}

/// Takes in what comes, until so many events are there.
fn hear(swarm: &mut Swarm, mut missing: usize, what: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while missing > 0 {
        swarm.turn(Duration::from_millis(20), |_, _, arrival| {
            missing -= usize::from(matches!(arrival, Arrival::Event(_))).min(missing);
        })?;
        anyhow::ensure!(began.elapsed() < PATIENCE, "{missing} of {what} are missing");
    }
    Ok(())
}

/// The node of all clients is killed, they miss some broadcasts, it starts again on its port, and all come at once.
pub(crate) fn recover(greenroom: &Path, connections: usize) -> anyhow::Result<Figures> {
    let Stand { redis, relay, first, second } = Stand::start(greenroom, true)?;
    let mut swarm = Swarm::remembering(&first, connections)?;
    swarm.connect_all(64, PATIENCE)?;
    let mut speaker = Swarm::new(&second, 1)?;
    speaker.connect_all(1, PATIENCE)?;
    speaker.send_event(0, "all", false, 1);
    hear(&mut speaker, 1, "the speaker's events")?;
    hear(&mut swarm, connections, "the first event")?;
    let port = first.address.port();
    drop(first);
    while swarm.ready > 0 {
        swarm.turn(Duration::from_millis(20), |_, _, _| {})?;
    }
    speaker.send_event(0, "all", false, MISSED);
    hear(&mut speaker, MISSED, "the speaker's events")?;
    let store = redis.cpu()?;
    let mut first = Peer::start(&relay, Some(port))?;
    first.wait_listening()?;
    let (node, began) = (first.cpu()?, Instant::now());
    let mut missing = connections * MISSED;
    swarm.begin_all()?;
    let mut all_in = None;
    while missing > 0 || all_in.is_none() {
        let mut lost = Vec::new();
        swarm.turn(Duration::from_millis(20), |_, who, arrival| match arrival {
            Arrival::Event(_) => missing = missing.saturating_sub(1),
            Arrival::Gone => lost.push(who),
            Arrival::Ready | Arrival::Ack(_) => {}
        })?;
        swarm.begin(lost)?;
        if all_in.is_none() && swarm.ready == connections {
            all_in = Some(began.elapsed());
        }
        anyhow::ensure!(
            began.elapsed() < PATIENCE,
            "{} of {connections} came back, {} recovered, {missing} events are missing",
            swarm.ready,
            swarm.recovered
        );
    }
    let took = began.elapsed();
    Ok(Figures::from([
        ("all_connected_s", all_in.unwrap_or(took).as_secs_f64()),
        ("all_have_everything_s", took.as_secs_f64()),
        ("recovered", swarm.recovered as f64),
        ("node_cpu_s", first.cpu()?.since(node).total()),
        ("store_cpu_s", redis.cpu()?.since(store).total()),
    ]))
}

/// Broadcasts of one client of one node, so many in flight, to one client of each.
pub(crate) fn cross(
    greenroom: &Path,
    is_shared: bool,
    in_flight: usize,
    lasting: Duration,
) -> anyhow::Result<Figures> {
    let stand = Stand::start(greenroom, is_shared)?;
    let (mut here, mut there) = (Swarm::new(&stand.first, 1)?, Swarm::new(&stand.second, 1)?);
    here.connect_all(1, PATIENCE)?;
    there.connect_all(1, PATIENCE)?;
    let cpu =
        || anyhow::Ok((stand.first.cpu()?.total() + stand.second.cpu()?.total(), stand.redis.cpu()?.total()));
    let (mut before, mut began, mut messages) = (cpu()?, Instant::now(), 0usize);
    let mut is_warm = false;
    while !is_warm || began.elapsed() < lasting {
        if !is_warm && began.elapsed() > lasting / 4 {
            (before, began, messages, is_warm) = (cpu()?, Instant::now(), 0, true);
        }
        here.send_event(0, "all", false, in_flight);
        hear(&mut here, in_flight, "events of the own node")?;
        if is_shared {
            hear(&mut there, in_flight, "events of the other node")?;
        }
        messages += in_flight;
    }
    let (took, after) = (began.elapsed().as_secs_f64(), cpu()?);
    let each_us = |spent: f64| spent * 1e6 / messages as f64;
    Ok(Figures::from([
        ("nodes_cpu_us_per_message", each_us(after.0 - before.0)),
        ("store_cpu_us_per_message", each_us(after.1 - before.1)),
        ("messages_per_s", messages as f64 / took),
    ]))
}
