//! A board behind the link protocol, as the agent of a host has it, for several nodes of a test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_backplane::{Board, Limits};
use greenroom_core::Timestamp;
use greenroom_node::Config;
use greenroom_node::config::{LinkConfig, Membership, Recovery, Secret};
use greenroom_wire::backplane::{Command, Told};
use greenroom_wire::kept::RoomCommand;
use greenroom_wire::link::{FromServer, Status, Successor, ToServer, VERSION};
use greenroom_wire::rooms::RoomEnded;
use greenroom_wire::token::PublicKeys;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::config;

type Outbox = mpsc::UnboundedSender<String>;

struct Inner {
    board: Board,
    nodes: BTreeMap<String, Outbox>,
    keys: PublicKeys,
    /// What nodes said of rooms that ended.
    ended: Vec<RoomEnded>,
    acknowledges: bool,
    /// Steps of rooms that were given.
    steps: usize,
    status: BTreeMap<String, Status>,
    successor: Successor,
}

impl Inner {
    fn tell(&self, told: Vec<(String, Told)>) {
        for (node, told) in told {
            if let Some(outbox) = self.nodes.get(&node) {
                let _gone = outbox.send(line(&ToServer::Backplane(told)));
            }
        }
    }
}

pub(crate) struct Hub {
    address: String,
    inner: Rc<RefCell<Inner>>,
    task: tokio::task::JoinHandle<()>,
}

impl Hub {
    pub(crate) async fn listen() -> Self {
        Self::on("127.0.0.1:0", &[]).await
    }

    pub(crate) async fn on(address: &str, expected: &[&str]) -> Self {
        Self::of(Limits::default(), address, expected).await
    }

    /// One that keeps no more sessions than these.
    pub(crate) async fn narrow(sessions_max: usize) -> Self {
        Self::of(Limits { sessions_max, ..Limits::default() }, "127.0.0.1:0", &[]).await
    }

    async fn of(limits: Limits, address: &str, expected: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let expected: BTreeSet<String> = expected.iter().map(|node| (*node).to_owned()).collect();
        let seed = getrandom::u64().unwrap();
        let board = Board::new(limits, seed, expected, now());
        let inner = Rc::new(RefCell::new(Inner {
            board,
            nodes: BTreeMap::new(),
            keys: PublicKeys { keys: vec![] },
            ended: vec![],
            acknowledges: true,
            steps: 0,
            status: BTreeMap::new(),
            successor: Successor::Nobody,
        }));
        let serving = Rc::clone(&inner);
        let task = tokio::task::spawn_local(async move {
            let mut links = tokio::task::JoinSet::new();
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => drop(links.spawn_local(serve(stream, Rc::clone(&serving)))),
                    _ = tick.tick() => {
                        let mut inner = serving.borrow_mut();
                        let told = inner.board.tick(now());
                        inner.tell(told);
                    }
                }
            }
        });
        Self { address, inner, task }
    }

    /// Forgets everything at once and begins again on the same port, as an agent does after a `kill -9`.
    pub(crate) async fn crash(self, expected: &[&str]) -> Self {
        let address = self.end().await;
        Self::on(&address, expected).await
    }

    /// Is gone from now on; gives where it was, for [`Self::on`].
    pub(crate) async fn end(self) -> String {
        self.task.abort();
        let _aborted = self.task.await;
        self.inner.borrow_mut().nodes.clear();
        self.address
    }

    /// What tokens are checked with, for nodes that link from now on.
    pub(crate) fn set_keys(&self, keys: PublicKeys) {
        self.inner.borrow_mut().keys = keys;
    }

    /// Whether results are acknowledged.
    pub(crate) fn acknowledge(&self, acknowledges: bool) {
        self.inner.borrow_mut().acknowledges = acknowledges;
    }

    /// What comes after processes that end. Nobody, unless it is said.
    pub(crate) fn set_successor(&self, successor: Successor) {
        self.inner.borrow_mut().successor = successor;
    }

    /// The rooms that were told to have ended.
    pub(crate) fn ended(&self) -> Vec<RoomEnded> {
        self.inner.borrow().ended.clone()
    }

    /// What a node told of itself last.
    pub(crate) fn status(&self, node: &str) -> Status {
        self.inner.borrow().status.get(node).cloned().unwrap_or_default()
    }

    /// Steps of rooms that were given so far.
    pub(crate) fn steps(&self) -> usize {
        self.inner.borrow().steps
    }

    /// Rooms that are kept.
    pub(crate) fn rooms(&self) -> usize {
        self.inner.borrow().board.rooms()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.inner.borrow().board.sessions()
    }

    /// The configuration of a node of this host, with sessions.
    pub(crate) fn config(&self, instance: &str) -> Config {
        let link = LinkConfig { address: self.address.clone(), secret: Secret::new("hush") };
        let membership = Membership {
            fleet: "board".parse().unwrap(),
            instance: instance.parse().unwrap(),
            link: Some(link),
        };
        Config { membership: Some(membership), recovery: Some(Recovery::default()), ..config() }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap())
}

fn line(message: &ToServer) -> String {
    serde_json::to_string(message).unwrap() + "\n"
}

async fn serve(stream: TcpStream, inner: Rc<RefCell<Inner>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let (outbox, mut outgoing) = mpsc::unbounded_channel::<String>();
    let mut node = String::new();
    loop {
        tokio::select! {
            read = lines.next_line() => {
                let Ok(Some(text)) = read else { break };
                match serde_json::from_str(&text).unwrap() {
                    FromServer::Hello { instance, .. } => {
                        node = instance.to_string();
                        inner.borrow_mut().nodes.insert(node.clone(), outbox.clone());
                        let keys = inner.borrow().keys.clone();
                        let welcome = ToServer::Welcome { version: VERSION, keys };
                        outbox.send(line(&welcome)).unwrap();
                    }
                    FromServer::Backplane(command) => {
                        let mut inner = inner.borrow_mut();
                        inner.steps += usize::from(matches!(command, Command::Room(RoomCommand::Keep { .. })));
                        let told = inner.board.handle(now(), &node, command);
                        inner.tell(told);
                    }
                    FromServer::RoomEnded(ended) => {
                        let mut inner = inner.borrow_mut();
                        if inner.acknowledges {
                            let ack = ToServer::RoomEndedAck { room: ended.room.clone(), epoch: ended.epoch };
                            outbox.send(line(&ack)).unwrap();
                        }
                        inner.ended.push(ended);
                    }
                    FromServer::Ending => {
                        let successor = inner.borrow().successor;
                        outbox.send(line(&ToServer::Ending { successor })).unwrap();
                    }
                    FromServer::Status(status) => drop(inner.borrow_mut().status.insert(node.clone(), status)),
                    _ => {}
                }
            }
            Some(text) = outgoing.recv() => {
                if write.write_all(text.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    }
    let mut inner = inner.borrow_mut();
    let told = inner.board.handle_gone(now(), &node);
    inner.tell(told);
}
