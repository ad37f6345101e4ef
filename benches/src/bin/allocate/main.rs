//! How many rooms a second the control plane hands out over HTTP, with a token for each of four players, and what that
//! costs. The control plane is a process of its own with its real store; the callers share the machine's cores with it.
//!
//! Three more questions beside it: how many the world alone hands out (`--in-process`), what the reports of many
//! servers cost (`--reports`), and how many players a second are told where to connect to (`--discover`).
//!
//! Never starts a gameserver: the agents on the other side tell of servers that there are not.

mod agents;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use greenroom_control::{ControlConfig, ReplicaConfig, run_on};
use greenroom_core::fleet::{Fleet, FleetKind, Probe, Recycle, Template};
use greenroom_core::matchmake::Rules;
use greenroom_store::redis::{RedisConfig, RedisStore};
use greenroom_store::{FileStore, MemoryStore, Store};
use greenroom_wire::api::{Allocation, EndpointAnswer};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Parser)]
struct Args {
    /// How long to ask.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Callers, each with one connection and one call at a time.
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// Players of each room, and so tokens in each answer.
    #[arg(long, default_value_t = 4)]
    players: usize,
    /// Servers of the fleet.
    #[arg(long, default_value_t = 200)]
    servers: u32,
    /// Rooms that one server holds.
    #[arg(long, default_value_t = 500)]
    rooms_per_server: u16,
    /// Hosts that the servers are spread over.
    #[arg(long, default_value_t = 20)]
    hosts: u32,
    /// Ask until every place is given away, then once more each: none may be refused too early or given twice.
    #[arg(long, conflicts_with_all = ["in_process", "reports"])]
    exhaust: bool,
    /// Ask the world itself and keep its records in memory: no HTTP, no signature.
    #[arg(long, conflicts_with = "reports")]
    in_process: bool,
    /// Ask where to connect to, as players of a mesh do, while each second another tenth of the servers is not ready.
    #[arg(long, conflicts_with_all = ["in_process", "reports", "exhaust"])]
    discover: bool,
    /// Calls that are stored together with `--in-process`; over HTTP it is as many as wait.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Ask nothing: the servers report each second, and the control plane's CPU is told.
    #[arg(long)]
    reports: bool,
    /// Where promises are kept.
    #[arg(long, value_enum, default_value_t = Kept::File)]
    store: Kept,
    /// Is the control plane.
    #[arg(long, hide = true)]
    serve: bool,
    /// Where its Redis is.
    #[arg(long, hide = true, default_value_t = 0)]
    redis_port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kept {
    /// As `greenroom control` keeps them.
    File,
    /// Nowhere.
    Memory,
    /// In a Redis of its own on the same cores, as a replica that leads keeps them: with a lease, and append-only.
    Redis,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // One thread, as `greenroom control` has.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.in_process {
        return runtime.block_on(world::measure(&args));
    }
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let _stopped = stop.clone().drop_guard();
        match (args.serve, args.reports) {
            (true, _) => serve(&args).await,
            (false, true) => listen(&args, &stop).await,
            (false, false) => ask(&args, &stop).await,
        }
    })
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = match args.store {
        Kept::File => Arc::new(FileStore::open(folder.path())?),
        Kept::Memory => Arc::new(MemoryStore::default()),
        Kept::Redis => Arc::new(RedisStore::open(RedisConfig::new(
            format!("redis://127.0.0.1:{}", args.redis_port).parse()?,
        ))?),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut config = ControlConfig::new(vec![fleet(args)?]);
    let is_shared = matches!(args.store, Kept::Redis);
    config.replica = is_shared.then(|| ReplicaConfig::new("a", format!("http://{address}")));
    let stop = CancellationToken::new();
    println!("{address}");
    Ok(run_on(listener, config, store, stop).await?)
}

/// A Redis in a folder of its own; both end with this value.
struct Redis {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--logfile", "redis.log"]);
        command.args(["--appendfsync", "everysec", "--port", &port.to_string(), "--dir"]).arg(folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self { child: child.context("redis-server cannot be started")?, port, _folder: folder })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn fleet(args: &Args) -> anyhow::Result<Fleet> {
    let (servers, rooms_per_server) = (args.servers, args.rooms_per_server);
    let kind = FleetKind::Room { rooms_per_server, seats_per_room: 4 };
    let kind = if args.discover { FleetKind::Mesh } else { kind };
    Ok(Fleet {
        name: "arena".parse()?,
        kind,
        template: Template {
            command: vec!["none".to_owned()],
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            probe: Probe::Tcp,
            stop_grace: Duration::from_secs(10),
            min_ready: Duration::ZERO,
            agones: false,
        },
        revision: "bench".parse()?,
        replicas_min: servers,
        replicas_max: servers,
        matching: Rules::default(),
        autoscale: greenroom_core::autoscale::Autoscale::default(),
        allocation: greenroom_core::allocate::Preference::of(kind),
        spread: greenroom_core::placement::Spread::default(),
        start_timeout: Duration::from_mins(1),
        recycle: Recycle::default(),
        full_at: greenroom_core::fleet::FullAt::default(),
        ports: None,
    })
}

/// The control process, ended with this one.
struct Control {
    child: Child,
    address: String,
    redis: Option<Redis>,
}

impl Control {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let store = args.store.to_possible_value().context("every store has a word")?;
        let redis = if matches!(args.store, Kept::Redis) { Some(Redis::start()?) } else { None };
        let redis_port = redis.as_ref().map_or(0, |redis| redis.port);
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--serve", "--servers", &args.servers.to_string(), "--store", store.get_name()])
            .args(["--rooms-per-server", &args.rooms_per_server.to_string()])
            .args(["--redis-port", &redis_port.to_string()])
            .args(args.discover.then_some("--discover"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned(), redis })
    }

    /// User and system time so far, in seconds.
    fn cpu_s(&self) -> anyhow::Result<f64> {
        cpu_s(&format!("/proc/{}/stat", self.child.id()))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended by itself; either is the same.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn cpu_s(stat: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(stat)?;
    let after_name = text.rsplit(')').next().context("a stat has a name")?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || -> anyhow::Result<f64> { Ok(fields.next().context("a stat has times")?.parse()?) };
    let (user, system) = (ticks()?, ticks()?);
    Ok((user + system) / 100.0)
}

/// What the reports alone cost.
async fn listen(args: &Args, stop: &CancellationToken) -> anyhow::Result<()> {
    let control = Control::start(args)?;
    let _agents = agents::start(&control.address, args, stop)?;
    wait_until_ready(&control.address, args.servers).await?;
    let (before, begun) = (control.cpu_s()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let (used, seconds) = (control.cpu_s()? - before, begun.elapsed().as_secs_f64());
    println!("servers, hosts           {}, {}", args.servers, args.hosts);
    println!("reports of a server      1 each second");
    println!("control, % of a core     {:.1}", used * 100.0 / seconds);
    Ok(())
}

async fn ask(args: &Args, stop: &CancellationToken) -> anyhow::Result<()> {
    let control = Control::start(args)?;
    let _agents = agents::start(&control.address, args, stop)?;
    wait_until_ready(&control.address, args.servers).await?;
    let (control_before, own_before) = (control.cpu_s()?, cpu_s("/proc/self/stat")?);
    let begun = Instant::now();
    let until = begun + Duration::from_secs(args.seconds);
    let mut callers = JoinSet::new();
    for caller in 0..args.callers {
        let address = control.address.clone();
        if args.discover {
            callers.spawn(discover(address, until));
        } else {
            callers.spawn(call(address, caller, args.players, until, args.exhaust));
        }
    }
    let mut latency = Histogram::<u64>::new(3)?;
    let (mut answers, mut refused) = (Vec::new(), 0);
    while let Some(ended) = callers.join_next().await {
        let asked = ended??;
        latency.add(asked.times)?;
        answers.extend(asked.answers);
        refused += usize::from(asked.refused);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (control_s, own_s) = (control.cpu_s()? - control_before, cpu_s("/proc/self/stat")? - own_before);
    if args.discover {
        check_discovered(&answers)?;
    } else {
        check(&answers, args)?;
    }
    if args.exhaust {
        let places = args.servers as usize * usize::from(args.rooms_per_server);
        ensure!(answers.len() == places, "{} rooms were given of {places} places", answers.len());
        ensure!(refused == args.callers, "{refused} of {} callers met the end", args.callers);
    }
    let count = answers.len() as f64;
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    println!("answers                  {}", answers.len());
    println!("per second               {:.0}", count / seconds);
    println!("p50, p99, p99.9, max ms  {:.2}, {:.2}, {:.2}, {:.2}", ms(0.5), ms(0.99), ms(0.999), ms(1.0));
    println!(
        "CPU s per million        {:.0} control, {:.0} callers",
        control_s * 1e6 / count,
        own_s * 1e6 / count
    );
    if let Some(redis) = &control.redis {
        let redis_s = cpu_s(&format!("/proc/{}/stat", redis.child.id()))?;
        println!("                         {:.0} Redis, its start included", redis_s * 1e6 / count);
    }
    if !args.discover {
        println!("refused or given twice   0");
    }
    if args.exhaust {
        println!(
            "places                   all given, each once; then {refused} callers refused, none before"
        );
    }
    Ok(())
}

/// What one caller came to.
struct Asked {
    times: Histogram<u64>,
    answers: Vec<Vec<u8>>,
    /// Whether it was told that there is no place left.
    refused: bool,
}

async fn wait_until_ready(address: &str, servers: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stream = TcpStream::connect(address).await?;
    loop {
        let request = format!("GET /v1/fleets/arena HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let (_, body) = exchange(&mut stream, request.as_bytes()).await?;
        let fleet: serde_json::Value = serde_json::from_slice(&body)?;
        if fleet["ready"].as_u64() == Some(u64::from(servers)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the servers are not ready after 60 s: {fleet}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One caller: one call after the other. Answers are looked at when all is over.
async fn call(
    address: String,
    caller: usize,
    players: usize,
    until: Instant,
    exhaust: bool,
) -> anyhow::Result<Asked> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut answers, mut refused) = (Histogram::new(3)?, Vec::new(), false);
    for nth in 0.. {
        let names: Vec<String> = (0..players).map(|player| format!("\"c{caller}-{nth}-{player}\"")).collect();
        let body = format!("{{\"players\":[{}],\"timeout_ms\":0}}", names.join(","));
        let request = format!(
            "POST /v1/fleets/arena/rooms HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let (status, answer) = exchange(&mut stream, request.as_bytes()).await?;
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
        if exhaust && status == 503 {
            let told: serde_json::Value = serde_json::from_slice(&answer)?;
            ensure!(told.to_string().contains("no_capacity"), "refused for another reason: {told}");
            refused = true;
            break;
        }
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&answer));
        answers.push(answer);
    }
    Ok(Asked { times, answers, refused })
}

/// One player after the other who asks for a server of a mesh.
async fn discover(address: String, until: Instant) -> anyhow::Result<Asked> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut answers) = (Histogram::new(3)?, Vec::new());
    let request = format!("GET /v1/fleets/arena/endpoint HTTP/1.1\r\nhost: {address}\r\n\r\n");
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(Asked { times, answers, refused: false });
        }
        let (status, answer) = exchange(&mut stream, request.as_bytes()).await?;
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&answer));
        answers.push(answer);
    }
}

/// Whether the answers were spread over the servers; tells how evenly.
fn check_discovered(answers: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut on_server: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let given: EndpointAnswer = serde_json::from_slice(answer)?;
        *on_server.entry(given.server.to_string()).or_default() += 1;
    }
    let (fewest, most) = (on_server.values().min(), on_server.values().max());
    let times = |count: Option<&usize>| count.copied().unwrap_or_default();
    println!("servers given            {}, each {} to {} times", on_server.len(), times(fewest), times(most));
    ensure!(on_server.len() > 1, "all players were sent to one server");
    Ok(())
}

/// Sends a request and reads its answer: status and body.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
    stream.write_all(request).await?;
    let mut bytes = Vec::with_capacity(4_096);
    loop {
        ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection was closed");
        ensure!(bytes.len() < ANSWER_BYTES_MAX, "the answer is too long");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = answer.parse(&bytes)? else { continue };
        let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = std::str::from_utf8(length.context("an answer has a length")?.value)?.parse()?;
        if bytes.len() >= head + length {
            let status = answer.code.context("an answer has a status")?;
            return Ok((status, bytes.split_off(head)));
        }
    }
}

/// Every room is another one, with a token for each player, and no server holds more than it may.
fn check(answers: &[Vec<u8>], args: &Args) -> anyhow::Result<()> {
    let mut rooms = BTreeSet::new();
    let mut on_server: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let given: Allocation = serde_json::from_slice(answer)?;
        ensure!(
            given.seats.len() == args.players,
            "{} seats for {} players",
            given.seats.len(),
            args.players
        );
        ensure!(given.seats.iter().all(|seat| seat.token.len() > 100), "a token is missing");
        ensure!(rooms.insert(given.room.to_string()), "room {} was given twice", given.room);
        *on_server.entry(given.server.to_string()).or_default() += 1;
    }
    // Rooms to which nobody came are free again after half a minute; shorter runs may not exceed the bound.
    let most = on_server.values().max().copied().unwrap_or_default();
    ensure!(most <= usize::from(args.rooms_per_server), "a server was given {most} rooms");
    Ok(())
}
