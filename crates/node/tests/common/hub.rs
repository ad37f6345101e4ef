//! A board behind the link protocol, as the agent of a host has it, for several nodes of a test.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_backplane::{Board, Limits};
use greenroom_core::Timestamp;
use greenroom_node::Config;
use greenroom_node::config::{LinkConfig, Membership, Recovery, Secret};
use greenroom_wire::backplane::Told;
use greenroom_wire::link::{FromServer, ToServer, VERSION};
use greenroom_wire::token::PublicKeys;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::config;

type Outbox = mpsc::UnboundedSender<String>;

struct Inner {
    board: Board,
    nodes: BTreeMap<String, Outbox>,
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
        let inner = Rc::new(RefCell::new(Inner { board, nodes: BTreeMap::new() }));
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
                        let welcome = ToServer::Welcome { version: VERSION, keys: PublicKeys { keys: vec![] } };
                        outbox.send(line(&welcome)).unwrap();
                    }
                    FromServer::Backplane(command) => {
                        let mut inner = inner.borrow_mut();
                        let told = inner.board.handle(now(), &node, command);
                        inner.tell(told);
                    }
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
