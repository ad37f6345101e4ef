//! Owns a lobby and two game servers that run in the test, and the faults they can have.
//! Never more of the protocol than a player touches.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use greenroom_socketio::{
    SocketId,
    packet::{Draft, Packet, PacketKind, Prepared},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use crate::channel::{read_head, talk, upgrade};

/// What the servers do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Not a fault: rooms end as soon as somebody has played a little.
    RoomsFinish,
    /// The last member of a match is sent to another server.
    Misplace,
    /// The last member of a match is sent to another room.
    ShortRoom,
    /// All get seat 0.
    SeatTwice,
    /// A second `matched` follows.
    AssignTwice,
    /// The first player of all waits for ever.
    ForgetOne,
    RefuseToken,
    /// Game connections are cut at the first input.
    DropGame,
    RefuseUpgrade,
    /// Every third answer in a game is not sent.
    LoseEvents,
    /// Every third answer comes twice.
    DoubleEvents,
    /// Every third answer comes after the fourth.
    ReorderEvents,
    /// Every answer goes to a player of any room too.
    Leak,
    /// Each player sees a world of its own.
    StatesPart,
    /// Inputs are not acknowledged.
    NoAcks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Lobby,
    Game,
}

type Outbox = mpsc::Sender<Prepared>;

struct Shared {
    fault: Fault,
    games: [String; 2],
    /// Players who wait for a match.
    queue: RefCell<Vec<Outbox>>,
    rooms: Cell<u32>,
    forgotten: Cell<bool>,
    connections: Cell<u32>,
    goodbyes: Cell<u32>,
    opened: Cell<u32>,
    /// The last input of anybody.
    last: RefCell<Option<Prepared>>,
}

pub(crate) struct Servers {
    shared: Rc<Shared>,
    lobby: String,
    _tasks: JoinSet<()>,
}

impl Servers {
    pub(crate) async fn start(fault: Fault) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let at = |i: usize| listeners[i].local_addr().unwrap().to_string();
        let (lobby, games) = (at(0), [at(1), at(2)]);
        let shared = Rc::new(Shared {
            fault,
            games,
            queue: RefCell::default(),
            rooms: Cell::default(),
            forgotten: Cell::default(),
            connections: Cell::default(),
            goodbyes: Cell::default(),
            opened: Cell::default(),
            last: RefCell::default(),
        });
        let mut tasks = JoinSet::new();
        for (listener, part) in listeners.into_iter().zip([Part::Lobby, Part::Game, Part::Game]) {
            tasks.spawn_local(listen(Rc::clone(&shared), listener, part));
        }
        Self { shared, lobby, _tasks: tasks }
    }

    pub(crate) fn lobby_url(&self) -> String {
        format!("http://{}", self.lobby)
    }

    /// Waits until no connection is left, and checks that those the servers did not end were left with a goodbye.
    pub(crate) async fn assert_all_left(&self) {
        while self.shared.connections.get() > 0 {
            tokio::task::yield_now().await;
        }
        if self.shared.fault == Fault::None {
            assert_eq!(self.shared.goodbyes.get(), self.shared.opened.get());
        }
    }
}

async fn listen(shared: Rc<Shared>, listener: TcpListener, part: Part) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Rc::clone(&shared);
        connections.spawn_local(async move {
            shared.connections.set(shared.connections.get() + 1);
            serve(&shared, stream, part).await;
            shared.connections.set(shared.connections.get() - 1);
        });
    }
}

async fn serve(shared: &Rc<Shared>, mut stream: TcpStream, part: Part) {
    if shared.fault == Fault::RefuseUpgrade {
        read_head(&mut stream).await;
        let refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(refusal).await.unwrap();
    }
    upgrade(&mut stream).await;
    shared.opened.set(shared.opened.get() + 1);
    converse(shared, stream, part).await;
}

async fn converse(shared: &Rc<Shared>, stream: TcpStream, part: Part) {
    let (outbox, outgoing) = mpsc::channel(64);
    let mut visitor = Visitor {
        shared: Rc::clone(shared),
        part,
        outbox,
        inputs: 0,
        held: None,
        serial: shared.opened.get(),
        at: stream.local_addr().unwrap(),
    };
    talk(stream, outgoing, |packet| visitor.handle(packet)).await;
}

/// One connection's end at a server.
struct Visitor {
    shared: Rc<Shared>,
    part: Part,
    outbox: Outbox,
    inputs: u32,
    /// An answer that comes too late.
    held: Option<Prepared>,
    /// Which connection of all this is.
    serial: u32,
    at: std::net::SocketAddr,
}

impl Visitor {
    fn send(&self, packet: Prepared) {
        self.outbox.try_send(packet).unwrap();
    }

    /// Gives whether the connection goes on.
    fn handle(&mut self, packet: &Packet) -> bool {
        match packet.kind() {
            PacketKind::Connect => self.connect(packet.data()),
            PacketKind::Event if self.part == Part::Lobby => self.enqueue(packet),
            PacketKind::Event => return self.input(packet),
            PacketKind::Disconnect => self.shared.goodbyes.set(self.shared.goodbyes.get() + 1),
            PacketKind::Ack | PacketKind::ConnectError => panic!("a player sent {packet:?}"),
        }
        true
    }

    fn connect(&self, auth: &str) {
        let wanted = match self.part {
            Part::Lobby => String::new(),
            Part::Game => format!(r#"{{"token":"for {}"}}"#, self.at),
        };
        assert_eq!(auth, wanted, "each server gets the token that was meant for it");
        if self.part == Part::Game && self.shared.fault == Fault::RefuseToken {
            let data = r#"{"code":"token_expired","message":"too late"}"#;
            return self.send(Prepared::connect_error("/", "token_expired", Some(data)).unwrap());
        }
        self.send(Prepared::connected("/", &SocketId::from_random([1; 15]), None).unwrap());
    }

    fn enqueue(&self, packet: &Packet) {
        let shared = &self.shared;
        assert_eq!(packet.event(), Some("match"));
        assert!(packet.args().next().unwrap().starts_with(r#"{"player":"swarm-"#));
        if shared.fault == Fault::ForgetOne && !shared.forgotten.replace(true) {
            return;
        }
        let mut queue = shared.queue.borrow_mut();
        queue.push(self.outbox.clone());
        if queue.len() < 4 {
            return;
        }
        let number = shared.rooms.get();
        shared.rooms.set(number + 1);
        for (seat, outbox) in queue.drain(..).enumerate() {
            let last = seat == 3;
            let wrong_server = usize::from(last && shared.fault == Fault::Misplace);
            let endpoint = &shared.games[(usize::try_from(number).unwrap() + wrong_server) % 2];
            let elsewhere = last && shared.fault == Fault::ShortRoom;
            let room = format!("{}-{number}", if elsewhere { "elsewhere" } else { "room" });
            let seat = if shared.fault == Fault::SeatTwice { 0 } else { seat };
            let matched = serde_json::json!({
                "room": room, "endpoint": endpoint, "token": format!("for {endpoint}"), "seat": seat,
            });
            let matched = Draft::event("matched").unwrap().arg(&matched).unwrap().prepare("/", None).unwrap();
            for _ in 0..if shared.fault == Fault::AssignTwice { 2 } else { 1 } {
                outbox.try_send(matched.clone()).unwrap();
            }
        }
    }

    fn answer(&mut self, state: &Prepared) {
        let third = self.inputs.is_multiple_of(3);
        match self.shared.fault {
            Fault::LoseEvents if third => {}
            Fault::ReorderEvents if third => self.held = Some(state.clone()),
            Fault::DoubleEvents if third => {
                self.send(state.clone());
                self.send(state.clone());
            }
            Fault::None
            | Fault::RoomsFinish
            | Fault::Misplace
            | Fault::ShortRoom
            | Fault::SeatTwice
            | Fault::AssignTwice
            | Fault::ForgetOne
            | Fault::RefuseToken
            | Fault::DropGame
            | Fault::RefuseUpgrade
            | Fault::LoseEvents
            | Fault::DoubleEvents
            | Fault::ReorderEvents
            | Fault::Leak
            | Fault::StatesPart
            | Fault::NoAcks => self.send(state.clone()),
        }
        if !third && let Some(held) = self.held.take() {
            self.send(held);
        }
        let before = self.shared.last.replace(Some(state.clone()));
        if self.shared.fault == Fault::Leak
            && let Some(before) = before
        {
            self.send(before);
        }
    }

    fn input(&mut self, packet: &Packet) -> bool {
        assert_eq!(packet.event(), Some("steer"));
        if self.shared.fault == Fault::DropGame {
            return false;
        }
        self.inputs += 1;
        let state = Draft::event("state").unwrap().args_of(packet).unwrap().prepare("/", None).unwrap();
        if let Some(id) = packet.ack_id().filter(|_| self.shared.fault != Fault::NoAcks) {
            self.send(Draft::ack().prepare("/", Some(id)).unwrap());
        }
        self.answer(&state);
        let world = if self.shared.fault == Fault::StatesPart { self.serial } else { 0 };
        let tick = serde_json::json!({ "t": self.inputs, "world": world });
        self.send(Draft::event("tick").unwrap().arg(&tick).unwrap().prepare("/", None).unwrap());
        if self.shared.fault == Fault::RoomsFinish && self.inputs == 3 {
            let end = Draft::event("greenroom:closed").unwrap().raw_arg(r#"{"reason":"finished"}"#).unwrap();
            self.send(end.prepare("/", None).unwrap());
            self.send(Prepared::disconnect("/").unwrap());
        }
        true
    }
}
