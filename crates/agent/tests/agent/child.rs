//! The programs that are this test program started again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use greenroom_agent::{AgentConfig, OnExit};
use greenroom_core::RoomId;
use greenroom_wire::link::{FromServer, Relay, Status, ToServer, VERSION, env};
use greenroom_wire::rooms::{EndReason, RoomEnded};
use tokio_util::sync::CancellationToken;

/// Set: be a gameserver.
pub(crate) const IS_CHILD: &str = "TEST_IS_GAMESERVER";
/// Set: be an agent, with this control URL, data folder and first port, separated by spaces.
pub(crate) const IS_AGENT: &str = "TEST_IS_AGENT";
/// Set: tell this room's end until it is acknowledged.
pub(crate) const ENDED_ROOM: &str = "TEST_ENDED_ROOM";
/// Set: publish this packet again and again.
pub(crate) const PUBLISH: &str = "TEST_PUBLISH";
/// How many connections it tells of; 3 unless it is said.
pub(crate) const CONNECTIONS: &str = "TEST_CONNECTIONS";
/// A gameserver ends by itself after this, whatever becomes of the test.
const LIFE: Duration = Duration::from_secs(90);

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the agent"))
}

/// Answers Engine.IO handshakes on its port and keeps a link to the agent.
pub(crate) fn gameserver() {
    let dies_at = Instant::now() + LIFE;
    let address = format!("{}:{}", var(env::BIND), var(env::PORT));
    let listener = TcpListener::bind(&address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    println!("gameserver {} listens", var(env::INSTANCE));
    let mut ended = std::env::var(ENDED_ROOM).ok();
    while Instant::now() < dies_at {
        // A link that fails is dialled again: the agent may be away.
        let _ = link(&mut ended, dies_at);
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            Ok(_) | Err(_) => return,
        }
    }
    let body = if request.starts_with(b"GET /socket.io/?EIO=4&transport=polling ") {
        r#"0{"sid":"probe-1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
    } else {
        "ok"
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // The asker may be gone.
    let _ = stream.write_all((head + body).as_bytes());
}

fn link(ended: &mut Option<String>, dies_at: Instant) -> std::io::Result<()> {
    let stream = TcpStream::connect(var(env::LINK))?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut write = stream.try_clone()?;
    let mut say = |message: &FromServer| {
        let line = serde_json::to_string(message).unwrap() + "\n";
        write.write_all(line.as_bytes())
    };
    let instance = var(env::INSTANCE).parse::<greenroom_core::InstanceId>().unwrap().into();
    say(&FromServer::Hello { version: VERSION, instance, secret: var(env::LINK_SECRET) })?;
    let mut read = BufReader::new(stream);
    let mut line = String::new();
    let mut once = true;
    let connections = std::env::var(CONNECTIONS).map_or(3, |told| told.parse().unwrap());
    while Instant::now() < dies_at {
        say(&FromServer::Status(Status { connections, ..Status::default() }))?;
        if let Ok(packet) = std::env::var(PUBLISH) {
            let namespace = "/".to_owned();
            let (groups, except, attachments) = (Vec::new(), Vec::new(), Vec::new());
            say(&FromServer::Publish(Relay { namespace, groups, except, packet, attachments }))?;
        }
        if let Some(room) = ended.as_ref().filter(|_| once) {
            let room: RoomId = room.parse().unwrap();
            let result = serde_json::json!({"won": 3});
            let message = RoomEnded { room: room.into(), epoch: 1, reason: EndReason::Finished, result };
            say(&FromServer::RoomEnded(message))?;
            once = false;
        }
        match read.read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                hear(serde_json::from_str(&line).unwrap(), ended);
                line.clear();
            }
            // A timeout: half a line may have been read and stays.
            Err(error) if matches!(error.raw_os_error(), Some(11 | 35)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn hear(message: ToServer, ended: &mut Option<String>) {
    match message {
        ToServer::Welcome { .. } => println!("welcomed"),
        ToServer::Keys { keys } => println!("{} keys", keys.keys.len()),
        ToServer::RoomEndedAck { room, .. } => {
            println!("acknowledged {room}");
            *ended = None;
        }
        ToServer::Ending { successor } => println!("followed by {successor:?}"),
        ToServer::CloseRoom { room, .. } => println!("close {room}"),
        ToServer::Deliver(relay) => println!("delivered {}", relay.packet),
        ToServer::Mesh(told) => println!("told by {}", told.from),
        ToServer::MeshAsked { peers, .. } => println!("{} peers are asked", peers.len()),
        ToServer::Backplane(_) => println!("told by the board"),
    }
}

/// An agent that runs until it is killed.
pub(crate) fn agent(config: &str) {
    let words: Vec<&str> = config.split(' ').collect();
    let [control, folder, port] = words[..] else { panic!("{config}") };
    let mut config = AgentConfig::new("host-1".parse().unwrap(), control.to_owned(), folder.into());
    let port: u16 = port.parse().unwrap();
    config.ports = port..=port + 7;
    config.on_exit = OnExit::LeaveServers;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = tokio::time::Duration::from_secs(90);
    let run = greenroom_agent::run(config, CancellationToken::new());
    runtime.block_on(async { tokio::time::timeout(limit, run).await }).unwrap().unwrap();
}
