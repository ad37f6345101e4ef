//! A fleet of real nodes in this thread, a control plane that tells of them, edges in front, and clients of no code of ours.
#![expect(dead_code, reason = "each test file uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

pub(crate) mod clients;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_edge::{BoundEdge, EdgeConfig, EdgeError};
use greenroom_node::{Config, Node, NodeHandle};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, LocalSet};
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test on a thread of its own runtime, within `within`.
pub(crate) fn run(within: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(within, test).await.expect("the test ends within its deadline");
    });
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "never came true: {what}");
}

/// A server as the control plane shows it.
pub(crate) struct Shown {
    pub(crate) state: &'static str,
    pub(crate) endpoint: String,
    pub(crate) tls: bool,
    pub(crate) handle: Option<NodeHandle>,
}

/// A control plane with a list of servers, and nothing else.
#[derive(Clone, Default)]
pub(crate) struct Control {
    pub(crate) servers: Rc<RefCell<BTreeMap<String, Shown>>>,
    /// How often it has told its list.
    pub(crate) told: Rc<Cell<usize>>,
    pub(crate) url: String,
}

impl Control {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let control = Self { url, ..Self::default() };
        let own = control.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let own = own.clone();
                let service = service_fn(move |_| {
                    let list = own.list().to_string();
                    async move { Ok::<_, Infallible>(http::Response::new(Full::new(bytes::Bytes::from(list)))) }
                });
                tokio::task::spawn_local(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    drop(connection.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        control
    }

    fn list(&self) -> Value {
        self.told.set(self.told.get() + 1);
        let servers = self.servers.borrow();
        let all = servers.iter().map(|(name, shown)| {
            json!({
                "name": name, "fleet": "board", "host": "h", "instance": format!("{name}.0"), "revision": "r1",
                "state": shown.state, "endpoint": shown.endpoint, "tls": shown.tls, "pid": null, "rooms": 0,
                "players": 0, "connections": shown.handle.as_ref().map_or(0, NodeHandle::connections),
                "restarts": 0, "started_at_ms": 0, "message": "",
            })
        });
        json!({ "gameservers": all.collect::<Vec<_>>() })
    }

    /// A node of this name, ready.
    pub(crate) fn add(&self, name: &str, change: impl FnOnce(&mut Config)) {
        let mut config = Config { bind: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        change(&mut config);
        let tls = config.tls.is_some();
        let mut node = Node::new(config);
        let own = name.to_owned();
        node.namespace("/")
            .on("who", move |_, mut event| event.reply(&own))
            .on("from", |socket, mut event| {
                let header = |name: &str| {
                    let headers = socket.handshake();
                    headers.header(name).map(str::to_owned)
                };
                event.reply(&(header("x-forwarded-for"), header("x-forwarded-proto"), header("host")));
            })
            .on("echo", |_, mut event| {
                let said: u64 = event.arg(0).unwrap();
                event.reply(&said);
            });
        let bound = node.bind().unwrap();
        let (address, handle) = (bound.address(), bound.handle());
        tokio::task::spawn_local(bound.serve());
        let endpoint = if tls { format!("localhost:{}", address.port()) } else { address.to_string() };
        let shown = Shown { state: "ready", endpoint, tls, handle: Some(handle) };
        self.servers.borrow_mut().insert(name.to_owned(), shown);
    }

    pub(crate) fn show(&self, name: &str, state: &'static str) {
        self.servers.borrow_mut().get_mut(name).unwrap().state = state;
    }

    /// Tells of it no more; it goes on.
    pub(crate) fn forget(&self, name: &str) -> NodeHandle {
        self.servers.borrow_mut().remove(name).unwrap().handle.unwrap()
    }

    pub(crate) fn connections(&self, name: &str) -> usize {
        self.servers.borrow()[name].handle.as_ref().unwrap().connections()
    }

    /// Until every one of `edges` has certainly heard what is so now.
    pub(crate) async fn heard(&self, edges: usize) {
        // The first list after now may have been asked for before; each edge asks in its turn.
        let told = self.told.get();
        until("the edges have heard", || self.told.get() > told + 2 * edges + 1).await;
    }
}

/// An edge that serves.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    task: JoinHandle<Result<(), EdgeError>>,
}

/// An edge in front of what `control` tells of.
pub(crate) fn edge(control: &Control, change: impl FnOnce(&mut EdgeConfig)) -> Served {
    let client = ControlClient::new(&control.url).unwrap();
    let mut config =
        EdgeConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), "board".parse().unwrap(), vec![client]);
    config.ask_every = Duration::from_millis(30);
    change(&mut config);
    let bound = BoundEdge::bind(config).unwrap();
    let (address, stop) = (bound.address(), CancellationToken::new());
    Served { address, task: tokio::task::spawn_local(bound.serve(stop.clone())), stop }
}

impl Served {
    /// Ends it without a word.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    /// Tells it to end, and waits for that.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.ended().await;
    }

    pub(crate) async fn ended(self) {
        tokio::time::timeout(2 * DEADLINE, self.task).await.expect("the edge ends").unwrap().unwrap();
    }
}
