//! A control process on a free loopback port, and an agent that speaks the real protocol and starts nothing.

#![expect(dead_code, reason = "each test file uses its own part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

pub(crate) mod schema;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_client::{CallTimes, ControlClient};
use greenroom_control::{ControlConfig, RunError, run_on};
use greenroom_core::fleet::{Fleet, FleetKind, Probe, Recycle, Template};
use greenroom_core::matchmake::Rules;
use greenroom_store::Store;
use greenroom_wire::Text;
use greenroom_wire::agent::{
    FromAgent, Hello, ProcessPhase, Report, ServerReport, StartOrder, ToAgent, VERSION,
};
use greenroom_wire::api::{AllocateRequest, Allocation, LogsAnswer};
use greenroom_wire::rooms::{RoomReport, SeatPhase, SeatReport};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_util::sync::CancellationToken;

/// Longest time a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Text<T> {
    Text(text.parse().unwrap())
}

pub(crate) fn fleet(name: &str, kind: FleetKind, replicas: (u32, u32), match_players: u16) -> Fleet {
    Fleet {
        name: name.parse().unwrap(),
        kind,
        template: Template {
            command: vec!["game".to_owned()],
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            probe: Probe::EngineIo,
            stop_grace: Duration::from_secs(10),
            min_ready: Duration::ZERO,
            agones: false,
        },
        revision: "rev1".parse().unwrap(),
        replicas_min: replicas.0,
        replicas_max: replicas.1,
        matching: Rules::first_come(match_players),
        autoscale: greenroom_core::autoscale::Autoscale::default(),
        allocation: greenroom_core::allocate::Preference::default(),
        spread: greenroom_core::placement::Spread::default(),
        start_timeout: Duration::from_secs(60),
        recycle: Recycle::default(),
        full_at: greenroom_core::fleet::FullAt::default(),
        ports: None,
    }
}

pub(crate) fn fleets() -> Vec<Fleet> {
    vec![
        fleet("arena", FleetKind::Room { rooms_per_server: 8, seats_per_room: 4 }, (2, 4), 4),
        fleet("hall", FleetKind::Room { rooms_per_server: 2, seats_per_room: 500 }, (1, 1), 0),
        fleet("lobby", FleetKind::Mesh, (2, 2), 0),
    ]
}

pub(crate) fn request(key: Option<&str>, players: &[&str]) -> AllocateRequest {
    AllocateRequest {
        key: key.map(text),
        players: players.iter().map(|player| text(player)).collect(),
        idempotency_key: None,
        timeout_ms: None,
        init: serde_json::Value::Null,
        fill: false,
        select: None,
    }
}

/// One control process. Dropping it ends it without a word, as `kill -9` would.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) client: ControlClient,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinSet<Result<(), RunError>>,
}

impl Control {
    pub(crate) async fn start(config: ControlConfig, store: Arc<dyn Store>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), config, store).await
    }

    pub(crate) async fn start_at(address: SocketAddr, config: ControlConfig, store: Arc<dyn Store>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        // A test may make many calls at once on one thread of a busy machine.
        let times = CallTimes { connect: DEADLINE, answer: DEADLINE };
        let client = ControlClient::with_token(&format!("http://{address}"), None, times).unwrap();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run_on(listener, config, store, stop.clone()));
        Self { address, client, stop, task }
    }

    /// The answer's body; fails unless it is 200.
    pub(crate) async fn get_json(&self, path: &str) -> serde_json::Value {
        let answer = reqwest::get(format!("{}{path}", self.client.base())).await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    /// The same of a POST.
    pub(crate) async fn post_json(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let url = format!("{}{path}", self.client.base());
        let answer = reqwest::Client::new().post(url).json(body).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    }

    /// Waits until every fleet has its minimum.
    pub(crate) async fn ready(&self) {
        until("every fleet has its minimum", async || {
            let fleets = self.client.fleets().await.ok()?.fleets;
            fleets.iter().all(|fleet| fleet.ready >= fleet.replicas_min).then_some(())
        })
        .await;
    }

    /// Tells it to end and waits until it has.
    pub(crate) async fn end(mut self) -> Result<(), RunError> {
        self.stop.cancel();
        self.task.join_next().await.expect("it ran").expect("it did not panic")
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Edit = Box<dyn FnOnce(&mut BTreeMap<String, ServerReport>) + Send>;

enum Command {
    Edit(Edit),
    Say(FromAgent),
}

/// An agent whose servers exist only in its reports.
pub(crate) struct FakeAgent {
    commands: mpsc::Sender<Command>,
    /// Everything control ordered.
    pub(crate) orders: mpsc::UnboundedReceiver<ToAgent>,
    task: JoinSet<String>,
}

impl FakeAgent {
    /// Connects with what already runs.
    pub(crate) async fn connect(
        control: SocketAddr,
        boot: &str,
        running: BTreeMap<String, ServerReport>,
    ) -> Self {
        Self::connect_as(control, boot, running, "no-token-is-asked-for").await
    }

    /// The same with a token.
    pub(crate) async fn connect_as(
        control: SocketAddr,
        boot: &str,
        running: BTreeMap<String, ServerReport>,
        token: &str,
    ) -> Self {
        let (commands, todo) = mpsc::channel(64);
        let (ordered, orders) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        let url = format!("ws://{control}/v1/agents/stream");
        let mut dial = url.into_client_request().unwrap();
        dial.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        task.spawn(attend(dial, boot.to_owned(), running, todo, ordered));
        Self { commands, orders, task }
    }

    /// Changes what runs, reports it and gives it back.
    pub(crate) async fn edit(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, ServerReport>) + Send + 'static,
    ) -> BTreeMap<String, ServerReport> {
        let (sender, changed) = tokio::sync::oneshot::channel();
        let edit: Edit = Box::new(move |servers| {
            change(servers);
            drop(sender.send(servers.clone()));
        });
        assert!(self.commands.send(Command::Edit(edit)).await.is_ok(), "the agent is connected");
        changed.await.unwrap()
    }

    /// The given players sit in the room.
    pub(crate) async fn seat(&self, of: &Allocation, seated: &[(u16, &str)]) {
        let report = RoomReport {
            kept: false,
            room: of.room.clone(),
            epoch: of.epoch,
            key: of.key.clone(),
            seats: seated
                .iter()
                .map(|(seat, player)| SeatReport {
                    seat: *seat,
                    player: text(player),
                    phase: SeatPhase::Connected,
                })
                .collect(),
        };
        let server = of.server.to_string();
        self.edit(move |servers| {
            let rooms = &mut servers.get_mut(&server).unwrap().rooms;
            rooms.retain(|room| room.room != report.room);
            rooms.push(report);
        })
        .await;
    }

    pub(crate) async fn say(&self, message: FromAgent) {
        assert!(self.commands.send(Command::Say(message)).await.is_ok(), "the agent is connected");
    }

    /// Why control ended the stream.
    pub(crate) async fn closed(mut self) -> String {
        let closed = tokio::time::timeout(DEADLINE, self.task.join_next()).await;
        closed.expect("in time").expect("it ran").expect("it did not panic")
    }
}

async fn attend(
    dial: Request,
    boot: String,
    mut servers: BTreeMap<String, ServerReport>,
    mut todo: mpsc::Receiver<Command>,
    ordered: mpsc::UnboundedSender<ToAgent>,
) -> String {
    let (mut socket, _) = tokio_tungstenite::connect_async(dial).await.unwrap();
    let hello = FromAgent::Hello(Hello {
        version: VERSION,
        host: text("h1"),
        boot,
        labels: BTreeMap::new(),
        servers_max: 50,
        term_seen: 0,
        wants_occupied: false,
        agones: true,
    });
    let mut queue = vec![hello];
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let mut welcomed = false;
    loop {
        for message in queue.drain(..) {
            let text = serde_json::to_string(&message).unwrap();
            if socket.send(Message::text(text)).await.is_err() {
                return "gone".to_owned();
            }
        }
        // Who has not welcomed it is not obeyed, and sees.
        let term = (!welcomed).then_some(0);
        let report = |servers: &BTreeMap<String, ServerReport>| {
            FromAgent::Report(Report {
                at_ms: None,
                term,
                trouble: String::new(),
                servers: servers.values().cloned().collect(),
            })
        };
        tokio::select! {
            _ = beat.tick() => queue.push(report(&servers)),
            command = todo.recv() => match command {
                Some(Command::Edit(edit)) => {
                    edit(&mut servers);
                    queue.push(report(&servers));
                }
                Some(Command::Say(message)) => queue.push(message),
                None => return "dropped".to_owned(),
            },
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    let order: ToAgent = serde_json::from_str(text.as_str()).unwrap();
                    welcomed = true;
                    queue.extend(obey(&mut servers, &order));
                    drop(ordered.send(order));
                }
                Some(Ok(Message::Close(Some(frame)))) => return frame.reason.to_string(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return "gone".to_owned(),
            },
        }
    }
}

fn obey(servers: &mut BTreeMap<String, ServerReport>, order: &ToAgent) -> Vec<FromAgent> {
    match order {
        ToAgent::Start { order, .. } => {
            let port = 7000 + servers.len();
            servers.entry(order.server.to_string()).or_insert_with(|| started(order, port));
            vec![FromAgent::Report(Report {
                at_ms: None,
                term: None,
                trouble: String::new(),
                servers: servers.values().cloned().collect(),
            })]
        }
        ToAgent::ReadLogs { request, .. } => {
            let outcome = Ok(LogsAnswer { text: "a line\n".to_owned(), next_offset: 7 });
            vec![FromAgent::Logs { request: *request, outcome }]
        }
        ToAgent::Welcome { .. }
        | ToAgent::Keys { .. }
        | ToAgent::Stop { .. }
        | ToAgent::CloseRoom { .. }
        | ToAgent::Restart { .. }
        | ToAgent::Peers { .. }
        | ToAgent::RoomEndedAck { .. }
        | ToAgent::Occupied { .. } => Vec::new(),
    }
}

fn started(order: &StartOrder, port: usize) -> ServerReport {
    ServerReport {
        server: order.server.clone(),
        instance: text(&format!("{}.1", order.server)),
        fleet: order.fleet.clone(),
        revision: order.revision.clone(),
        phase: ProcessPhase::Ready,
        endpoint: format!("127.0.0.1:{port}"),
        tls: false,
        pid: Some(1),
        restarts: 0,
        started_at_ms: 1,
        connections: 0,
        rooms: Vec::new(),
        keeps_rooms: false,
        linked: true,
        measured: greenroom_wire::link::Measured::default(),
        labels: std::collections::BTreeMap::new(),
        held: false,
        message: String::new(),
    }
}
