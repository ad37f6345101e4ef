//! Clients that come back, with raw packets as the stock client sends them.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::time::Duration;

use common::hub::Hub;
use common::{Served, Tung, config, run, serve, until};
use greenroom_node::config::Recovery;
use greenroom_node::{Config, Draft, Move, Node, Refusal};
use serde_json::{Value, json};

/// What a stock client remembers of its session.
#[derive(Debug, Clone, PartialEq)]
struct Remembered {
    sid: String,
    pid: String,
    offset: Option<String>,
}

/// A client that keeps what the stock client keeps.
struct Client {
    socket: Tung,
    session: Remembered,
}

impl Client {
    async fn connect(served: &Served) -> Self {
        Self::connect_with(served, json!({})).await.expect("a fresh client gets in")
    }

    /// The error is the refusal.
    async fn connect_with(served: &Served, auth: Value) -> Result<Self, String> {
        let mut socket = served.websocket().await;
        socket.recv_starting("0{").await;
        socket.send(&format!("40{auth}")).await;
        let reply = socket.recv().await;
        let Some(connected) = reply.strip_prefix("40") else { return Err(reply) };
        let connected: Value = serde_json::from_str(connected).unwrap();
        let text = |key: &str| connected[key].as_str().unwrap().to_owned();
        Ok(Self { socket, session: Remembered { sid: text("sid"), pid: text("pid"), offset: None } })
    }

    /// Comes back with what it knows.
    async fn again(served: &Served, session: &Remembered) -> Result<Self, String> {
        let mut auth = json!({ "pid": session.pid, "greenroom": { "recovery": true } });
        if let Some(offset) = &session.offset {
            auth["offset"] = json!(offset);
        }
        Self::connect_with(served, auth).await
    }

    /// Comes back and is told that it goes on.
    async fn goes_on(served: &Served, session: &Remembered) -> Self {
        let mut client = Self::again(served, session).await.unwrap();
        assert_eq!((&client.session.sid, &client.session.pid), (&session.sid, &session.pid));
        assert_eq!(client.word().await, json!({ "recovered": true }));
        client.session.offset.clone_from(&session.offset);
        client
    }

    /// Comes back and is told why it begins anew.
    async fn begins_anew(served: &Served, session: &Remembered) -> String {
        let mut client = Self::again(served, session).await.unwrap();
        assert!(client.session.sid != session.sid && client.session.pid != session.pid);
        let word = client.word().await;
        assert_eq!(word["recovered"], json!(false));
        word["reason"].as_str().unwrap().to_owned()
    }

    async fn word(&mut self) -> Value {
        let word = self.socket.recv_starting("42[\"greenroom:recovery\",").await;
        serde_json::from_str::<Value>(&word[2..]).unwrap()[1].clone()
    }

    /// The next event without its place, which is remembered.
    async fn event(&mut self) -> Value {
        let text = self.socket.recv_starting("42").await;
        let mut event: Value = serde_json::from_str(&text[2..]).unwrap();
        let parts = event.as_array_mut().unwrap();
        if let Some(Value::String(_)) = parts.last() {
            let last = parts.pop().unwrap();
            self.session.offset = last.as_str().map(str::to_owned);
        }
        event
    }

    async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.event().await);
        }
        events
    }
}

fn program(config: Config) -> Node {
    let mut node = Node::new(config);
    node.namespace("/")
        .on("join", |socket, mut event| {
            socket.join(&event.arg::<String>(0).unwrap());
            event.reply(&json!("ok"));
        })
        .on("set", |socket, mut event| {
            socket.set_data(event.arg(0).unwrap());
            event.reply(&json!("ok"));
        })
        .on("get", |socket, mut event| {
            let told = json!([socket.id(), socket.groups(), socket.data(), socket.recovered()]);
            event.reply(&json!(told.to_string()));
        })
        .on("go", |socket, mut event| {
            let (endpoint, token) = (Some("far:1".to_owned()), Some("t".to_owned()));
            let is_told = socket.move_to(&Move { endpoint, token, delay: Duration::from_millis(30) });
            event.reply(&json!(is_told));
        })
        .on("me", |socket, event| {
            for _ in 0..event.arg::<u32>(0).unwrap() {
                socket.emit("own", &json!(1));
            }
        });
    node
}

fn alone() -> Config {
    Config { recovery: Some(Recovery::default()), ..config() }
}

async fn ask(client: &mut Client, event: &str, argument: Value) -> Value {
    client.socket.send(&format!("421{}", json!([event, argument]))).await;
    let reply = client.socket.recv_starting("431").await;
    serde_json::from_str::<Value>(&reply[3..]).unwrap()[0].clone()
}

#[test]
fn a_client_that_got_nothing_goes_on_where_it_was_and_gets_all_it_missed_once() {
    run(async {
        let served = serve(program(alone()));
        let mut ann = Client::connect(&served).await;
        assert_eq!(ask(&mut ann, "join", json!("red")).await, json!("ok"));
        assert_eq!(ask(&mut ann, "set", json!({"color": "blue"})).await, json!("ok"));
        let session = ann.session.clone();
        drop(ann);
        until("the cut is noticed", || served.handle.connections() == 0).await;
        let everybody = || served.handle.everybody();
        everybody().emit("n", &1);
        everybody().to("red").emit("n", &2);
        everybody().to("green").emit("n", &0);
        everybody().to("red").to(session.sid.clone()).emit("n", &3);
        everybody().except("red").emit("n", &0);
        everybody().to(session.sid.clone()).emit_draft(&Draft::event("none").unwrap());
        everybody().volatile().emit("n", &0);
        everybody().local().emit("n", &0);
        everybody().to("red").except(session.sid.clone()).emit("n", &0);
        everybody().emit("n", &4);

        let mut ann = Client::goes_on(&served, &session).await;
        let missed = ann.events(5).await;
        assert_eq!(json!(missed), json!([["n", 1], ["n", 2], ["n", 3], ["none"], ["n", 4]]));
        served.handle.emit("n", &5);
        assert_eq!(ann.event().await, json!(["n", 5]));
        let told = ask(&mut ann, "get", json!(0)).await;
        let expected = json!([session.sid, ["red"], {"color": "blue"}, true]);
        assert_eq!(serde_json::from_str::<Value>(told.as_str().unwrap()).unwrap(), expected);

        // Twice in a row, from where it is now.
        let session = ann.session.clone();
        drop(ann);
        served.handle.emit("n", &6);
        let mut ann = Client::goes_on(&served, &session).await;
        assert_eq!(ann.event().await, json!(["n", 6]));
        assert_eq!(served.handle.counters().sessions_restored_total, 2);
    });
}

#[test]
fn events_for_one_socket_have_their_place_among_those_for_many() {
    run(async {
        let served = serve(program(alone()));
        let mut ann = Client::connect(&served).await;
        ann.socket.send("42[\"me\",2]").await;
        assert_eq!(ann.events(2).await, [json!(["own", 1]), json!(["own", 1])]);
        served.handle.emit("n", &1);
        assert_eq!(ann.event().await, json!(["n", 1]));
        let session = ann.session.clone();
        ann.socket.send("42[\"me\",2]").await;
        ann.events(1).await;
        let between = ann.session.clone();
        ann.events(1).await;
        // What carries no place must not be taken for one.
        served.handle.everybody().volatile().emit("text", "hello");
        let volatile = ann.socket.recv_starting("42[\"text\",\"hello\",\"").await;
        let place = volatile.rsplit('"').nth(1).unwrap().to_owned();
        assert_eq!(ann.session.offset.as_ref(), Some(&place), "both events for it were before");
        drop(ann);
        served.handle.emit("n", &2);
        for (session, expected) in [
            (&between, json!([["own", 1], ["n", 2]])),
            (&session, json!([["own", 1], ["own", 1], ["n", 2]])),
            (&Remembered { offset: Some(place), ..session.clone() }, json!([["n", 2]])),
            // The argument of an event that asked for an ack, say.
            (
                &Remembered { offset: Some("hello".into()), ..session.clone() },
                json!([["own", 1], ["own", 1], ["n", 1], ["own", 1], ["own", 1], ["n", 2]]),
            ),
        ] {
            let mut ann = Client::goes_on(&served, session).await;
            let count = expected.as_array().unwrap().len();
            assert_eq!(json!(ann.events(count).await), expected);
        }
    });
}

#[test]
fn a_connection_that_is_not_missed_yet_gives_way() {
    run(async {
        let served = serve(program(alone()));
        let mut old = Client::connect(&served).await;
        let mut new = Client::goes_on(&served, &old.session.clone()).await;
        old.socket.closed().await;
        served.handle.emit("n", &1);
        assert_eq!(new.event().await, json!(["n", 1]));
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn who_begins_anew_is_told_why() {
    run(async {
        let recovery = Recovery { window: Duration::from_millis(50), ..Recovery::default() };
        let served = serve(program(Config { recovery: Some(recovery), ..config() }));
        let late = Client::connect(&served).await.session;
        until("the cut is noticed", || served.handle.connections() == 0).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(Client::begins_anew(&served, &late).await, "window_over");

        let mut gone = Client::connect(&served).await;
        gone.socket.send("41").await;
        assert_eq!(ask_elsewhere(&served).await, "unknown_session");
        assert_eq!(Client::begins_anew(&served, &gone.session).await, "unknown_session");

        let mut ahead = Client::connect(&served).await;
        served.handle.emit("n", &1);
        ahead.event().await;
        let (epoch, _) = ahead.session.offset.as_ref().unwrap().split_once('-').unwrap();
        ahead.session.offset = Some(format!("{epoch}-99"));
        let session = ahead.session.clone();
        drop(ahead);
        assert_eq!(Client::begins_anew(&served, &session).await, "rewound");
        assert_eq!(served.handle.counters().sessions_not_restored_total, 4);
    });
}

async fn ask_elsewhere(served: &Served) -> String {
    let nobody = Remembered { sid: String::new(), pid: "x".repeat(20), offset: None };
    Client::begins_anew(served, &nobody).await
}

#[test]
fn whoever_was_banned_meanwhile_is_refused_though_middlewares_are_skipped() {
    run(async {
        let mut node = program(alone());
        node.namespace("/")
            .middleware(|socket, _| {
                socket.set_data(json!("judged"));
                Ok(())
            })
            .reauthorise(|socket, request| {
                assert_eq!(socket.data(), json!("banned"));
                assert!(request.auth_raw().contains("pid"));
                Err(Refusal::new("banned"))
            });
        let served = serve(node);
        let mut ann = Client::connect(&served).await;
        ask(&mut ann, "set", json!("banned")).await;
        let session = ann.session.clone();
        drop(ann);
        let refused = Client::again(&served, &session).await.err().unwrap();
        assert_eq!(refused, "44{\"message\":\"banned\"}");
        // Its session is over.
        assert_eq!(Client::begins_anew(&served, &session).await, "unknown_session");
    });
}

#[test]
fn a_session_outlives_its_node_and_its_node_s_backplane() {
    run(async {
        let hub = Hub::listen().await;
        let (one, two) = (serve(program(hub.config("board-1.0"))), serve(program(hub.config("board-2.0"))));
        let mut ann = Client::connect(&one).await;
        let mut bob = Client::connect(&two).await;
        ask(&mut ann, "join", json!("red")).await;
        two.handle.to("red").emit("n", &1);
        one.handle.emit("n", &2);
        assert_eq!(ann.events(2).await, [json!(["n", 1]), json!(["n", 2])]);
        assert_eq!(bob.event().await, json!(["n", 2]));
        ann.socket.send("42[\"me\",1]").await;
        ann.event().await;

        // The agent crashes; what is sent meanwhile waits in its node.
        let hub = hub.crash(&["board-1.0", "board-2.0"]).await;
        two.handle.to("red").emit("n", &3);
        assert_eq!(ann.event().await, json!(["n", 3]));
        until("both sessions are known again", || hub.sessions() == 2).await;

        // The node goes, and the client comes to the other one.
        let session = ann.session.clone();
        one.handle.shutdown();
        one.ended().await;
        two.handle.to("red").emit("n", &4);
        ann.socket.closed().await;
        let mut ann = Client::goes_on(&two, &session).await;
        assert_eq!(ann.event().await, json!(["n", 4]));
        two.handle.emit("n", &5);
        assert_eq!((ann.event().await, bob.event().await), (json!(["n", 5]), json!(["n", 5])));
    });
}

fn impatient(hub: &Hub) -> Config {
    let recovery = Recovery { patience: Duration::from_millis(100), ..Recovery::default() };
    Config { recovery: Some(recovery), ..hub.config("board-1.0") }
}

#[test]
fn who_connects_while_the_backplane_is_away_has_a_session_once_it_is_back() {
    run(async {
        let hub = Hub::listen().await;
        let served = serve(program(impatient(&hub)));
        let before = Client::connect(&served).await.session.clone();
        let address = hub.end().await;
        let mut client = Client::again(&served, &before).await.unwrap();
        assert_eq!(client.word().await, json!({ "recovered": false, "reason": "unavailable" }));
        ask(&mut client, "join", json!("red")).await;
        client.socket.send(r#"42["me",1]"#).await;
        let fresh = Client::connect(&served).await;

        let hub = Hub::on(&address, &[]).await;
        assert_eq!(client.event().await, json!(["own", 1]), "it waited for the backplane");
        until("both sessions are kept", || hub.sessions() >= 2).await;
        let (session, fresh) = (client.session.clone(), fresh.session.clone());
        served.handle.to("red").emit("x", &1);
        assert_eq!(client.event().await, json!(["x", 1]));
        drop(client);
        served.handle.to("red").emit("x", &2);
        let mut client = Client::goes_on(&served, &session).await;
        assert_eq!(client.events(2).await, [json!(["x", 1]), json!(["x", 2])]);
        Client::goes_on(&served, &fresh).await;
    });
}

#[test]
fn who_was_let_in_before_the_backplane_was_ever_there_begins_anew_once_it_is() {
    run(async {
        let hub = Hub::listen().await;
        let served = serve(program(impatient(&hub)));
        let address = hub.end().await;
        let unknown = Remembered { sid: String::new(), pid: "p".to_owned(), offset: None };
        let mut client = Client::again(&served, &unknown).await.unwrap();
        assert_eq!(client.word().await, json!({ "recovered": false, "reason": "unavailable" }));
        // What others said until the node is back it does not know, so nobody may believe to have seen all.
        let _hub = Hub::on(&address, &[]).await;
        client.socket.closed().await;
        assert_eq!(Client::begins_anew(&served, &client.session).await, "unknown_session");
    });
}

#[test]
fn who_follows_is_led_away_before_the_end_and_the_others_are_not() {
    run(async {
        let served = serve(program(Config { lead_away_within: Duration::from_millis(200), ..alone() }));
        let follows = || Client::connect_with(&served, json!({ "greenroom": { "moves": true } }));
        let (mut ann, mut bob) = (follows().await.unwrap(), follows().await.unwrap());
        let mut stock = Client::connect(&served).await;
        ann.socket.send(r#"421["go",0]"#).await;
        let word = |text: String| serde_json::from_str::<Value>(&text[2..]).unwrap()[1].clone();
        let told = word(ann.socket.recv_starting("42[\"greenroom:move\",").await);
        assert_eq!(told, json!({ "endpoint": "far:1", "token": "t", "delay_ms": 30 }));
        ann.socket.recv_starting("431[true]").await;
        assert_eq!(ask(&mut stock, "go", json!(0)).await, json!(false), "it would not understand");

        served.handle.shutdown();
        stock.socket.closed().await;
        let mut delays = Vec::new();
        for client in [&mut ann, &mut bob] {
            let told = word(client.socket.recv_starting("42[\"greenroom:move\",").await);
            delays.push(told["delay_ms"].as_u64().unwrap());
            assert_eq!(told, json!({ "delay_ms": delays[delays.len() - 1] }), "no address: it asks for one");
        }
        delays.sort_unstable();
        assert_eq!(delays, [0, 100], "spread over the time");
        assert_eq!(served.handle.connections(), 2, "they are waited for");
        drop((ann, bob));
        served.ended().await;
    });
}

#[test]
fn a_client_too_many_for_the_backplane_is_served_without_a_session() {
    run(async {
        let hub = Hub::narrow(1).await;
        let served = serve(program(hub.config("board-1.0")));
        let ann = Client::connect(&served).await;
        let mut bob = Client::connect(&served).await;
        bob.socket.send(r#"42["me",3]"#).await;
        assert_eq!(bob.events(3).await.len(), 3);
        until("the node is told", || served.handle.counters().sessions_not_kept_total == 1).await;
        bob.socket.send(r#"42["me",1]"#).await;
        served.handle.emit("n", &1);
        let both = bob.events(2).await;
        assert!(both.contains(&json!(["own", 1])) && both.contains(&json!(["n", 1])), "{both:?}");
        let session = bob.session.clone();
        drop(bob);
        assert_eq!(Client::begins_anew(&served, &session).await, "unknown_session");
        Client::goes_on(&served, &ann.session).await;
    });
}

#[test]
fn a_session_that_went_on_elsewhere_ends_here() {
    run(async {
        let hub = Hub::listen().await;
        let (one, two) = (serve(program(hub.config("board-1.0"))), serve(program(hub.config("board-2.0"))));
        let mut left = Client::connect(&one).await;
        let mut ann = Client::goes_on(&two, &left.session.clone()).await;
        left.socket.closed().await;
        until("the old connection is gone", || one.handle.connections() == 0).await;
        one.handle.emit("n", &1);
        assert_eq!(ann.event().await, json!(["n", 1]));
    });
}

#[test]
fn a_thousand_missed_events_are_more_than_a_line_holds_and_all_arrive() {
    run(async {
        let config = Config { outbound_bytes_max: 64 * 1024, ..alone() };
        let served = serve(program(config));
        let session = Client::connect(&served).await.session;
        until("the cut is noticed", || served.handle.connections() == 0).await;
        let text = "x".repeat(1000);
        for n in 0..1000 {
            let draft = Draft::event("n").unwrap().arg(&n).unwrap().arg(&text).unwrap();
            served.handle.everybody().emit_draft(&draft.arg(&0).unwrap());
        }
        let mut ann = Client::goes_on(&served, &session).await;
        for n in 0..1000 {
            assert_eq!(ann.event().await[1], json!(n));
        }
    });
}
