//! Owns a game server that recovers sessions: it sends each one numbered events whether somebody is connected or not,
//! and replays what was missed. And the ways in which it can do that wrong.
//! Never forgets a session by time.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use greenroom_socketio::{
    SocketId,
    packet::{Draft, Packet, PacketKind, Prepared},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::channel::{talk, upgrade};

/// What goes wrong with sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slip {
    None,
    /// A session that comes back is not known.
    Forget,
    /// The first missed event is not replayed.
    SkipOne,
    /// Replay begins with the event that was heard last.
    OneTwice,
    /// The first two missed events are swapped.
    Swap,
    /// The old secret comes with a new id.
    Mix,
}

#[derive(Default)]
struct Kept {
    sid: u8,
    log: Vec<(usize, Prepared)>,
    connection: Option<mpsc::Sender<Prepared>>,
}

type Sessions = Rc<RefCell<HashMap<String, Kept>>>;

pub(crate) struct SessionServer {
    pub(crate) url: String,
    _tasks: JoinSet<()>,
}

impl SessionServer {
    pub(crate) async fn start(slip: Slip) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sessions = Sessions::default();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(beat(Rc::clone(&sessions)));
        tasks.spawn_local(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn_local(serve(Rc::clone(&sessions), stream, slip));
            }
        });
        Self { url, _tasks: tasks }
    }
}

/// One numbered event for each session every few milliseconds.
async fn beat(sessions: Sessions) {
    let mut number = 0;
    let mut beats = tokio::time::interval(Duration::from_millis(5));
    loop {
        beats.tick().await;
        number += 1;
        for kept in sessions.borrow_mut().values_mut() {
            let event = Draft::event("state").unwrap().arg(&number).unwrap();
            let event = event.arg(&number.to_string()).unwrap().prepare("/", None).unwrap();
            if let Some(connection) = &kept.connection {
                // One that is gone is replayed to.
                let _gone = connection.try_send(event.clone());
            }
            kept.log.push((number, event));
        }
    }
}

async fn serve(sessions: Sessions, mut stream: TcpStream, slip: Slip) {
    upgrade(&mut stream).await;
    let (outbox, outgoing) = mpsc::channel(1_000);
    talk(stream, outgoing, |packet| {
        if packet.kind() == PacketKind::Connect {
            connect(&sessions, packet, &outbox, slip);
        }
        true
    })
    .await;
}

fn connect(sessions: &Sessions, packet: &Packet, outbox: &mpsc::Sender<Prepared>, slip: Slip) {
    let auth: Value = serde_json::from_str(packet.data()).unwrap_or_default();
    let mut sessions = sessions.borrow_mut();
    let number = u8::try_from(sessions.len() + 1).unwrap();
    let (mut sid, mut missed) = (number, Vec::new());
    let mut pid = auth["pid"].as_str().map(str::to_owned).filter(|_| slip != Slip::Forget);
    if let Some(kept) = pid.as_ref().and_then(|pid| sessions.get(pid)) {
        let heard: usize = auth["offset"].as_str().map_or(0, |offset| offset.parse().unwrap());
        sid = if slip == Slip::Mix { 200 } else { kept.sid };
        let after = heard - usize::from(slip == Slip::OneTwice && heard > 0);
        let log = kept.log.iter().filter(|(number, _)| *number > after);
        missed = log.map(|(_, event)| event.clone()).collect();
    } else {
        pid = None;
    }
    match slip {
        Slip::SkipOne if !missed.is_empty() => drop(missed.remove(0)),
        Slip::Swap if missed.len() > 1 => missed.swap(0, 1),
        Slip::None | Slip::Forget | Slip::SkipOne | Slip::OneTwice | Slip::Swap | Slip::Mix => {}
    }
    let pid = pid.unwrap_or_else(|| format!("pid-{number}"));
    let reply = Prepared::connected("/", &SocketId::from_random([sid; 15]), Some(&pid)).unwrap();
    for packet in [reply].into_iter().chain(missed) {
        outbox.try_send(packet).unwrap();
    }
    let kept = sessions.entry(pid).or_default();
    kept.sid = sid;
    kept.connection = Some(outbox.clone());
}
