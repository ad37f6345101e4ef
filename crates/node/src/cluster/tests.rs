//! What this node asks and answers, against servers whose words are made here.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::time::Duration;

use greenroom_backplane::adapter::{Heard, Said, SaidWords};
use greenroom_socketio::Limits;
use greenroom_socketio::adapter::{Asks, RemoteSocket, Says, Tells, Word};
use greenroom_socketio::emitter::Target;
use greenroom_socketio::packet::{Decoder, Packet};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::config::{Adapter, Config, Secret};
use crate::node::{Node, NodeHandle};

const TIME: Duration = Duration::from_millis(500);

/// A node whose Redis is this test.
struct Played {
    node: NodeHandle,
    words: SaidWords,
}

impl Played {
    fn start() -> Self {
        let adapter = Some(Adapter::at(Secret::new("redis://127.0.0.1:1")));
        let mut node = Node::new(Config { bind: ([127, 0, 0, 1], 0).into(), adapter, ..Config::default() });
        node.namespace("/").on_server_side("who", |_, event| event.reply(&json!({ "me": 1 })));
        let node = node.bind().unwrap().handle();
        let words = node.0.peers.cluster.as_ref().unwrap().take_words().unwrap();
        let mut played = Self { node, words };
        assert!(played.node.0.is_backplane_down());
        played.hear(Heard::Up);
        assert!(!played.node.0.is_backplane_down());
        let own = format!("socket.io#/#{}#", played.server());
        assert_eq!(
            played.words.try_recv(),
            Some(Said::Subscribe { channels: vec!["socket.io#/#".to_owned(), own] })
        );
        played
    }

    fn server(&self) -> String {
        self.node.0.peers.cluster.as_ref().unwrap().server.clone()
    }

    fn hear(&self, heard: Heard) {
        self.node.0.peers.cluster.as_ref().unwrap().handle(&self.node.0, heard);
    }

    /// Another server says something to it.
    fn say(&self, from: &str, says: Says) {
        let word = Word { from: from.to_owned(), namespace: "/".to_owned(), says };
        self.hear(Heard::Message { message: word.to_message().unwrap() });
    }

    /// It asks who is there, and is told; gives the name of its question and what it asks.
    async fn asked(&mut self, servers: &[&str]) -> (String, Asks) {
        let Some(Said::Who { ask, pattern }) = self.words.recv().await else { panic!("it was to ask") };
        assert_eq!(pattern, "socket.io#/#?*#");
        let own = self.server();
        let servers = servers.iter().copied().chain([own.as_str()]);
        let channels = servers.map(|server| format!("socket.io#/#{server}#")).collect();
        self.hear(Heard::Channels { ask, channels });
        match self.said().expect("it asks them") {
            (channel, Says::Question { request, asks }) if channel == "socket.io#/#" => (request, asks),
            other => panic!("{other:?}"),
        }
    }

    /// What it publishes next, and where.
    fn said(&mut self) -> Option<(String, Says)> {
        let Said::Publish { channel, message } = self.words.try_recv()? else { panic!("no message") };
        Some((channel, Word::read_message(&message, &Limits::DEFAULT).unwrap().unwrap().says))
    }
}

fn answer(request: &str, tells: Tells) -> Says {
    Says::Answer { request: request.to_owned(), tells }
}

fn packet(text: &str) -> Packet {
    Decoder::new().handle_text(text, &Limits::DEFAULT).unwrap().unwrap()
}

fn ack(socket: Option<&str>) -> Tells {
    Tells::Ack { packet: packet("30[7]"), socket: socket.map(ToOwned::to_owned) }
}

fn everybody() -> Target {
    Target { namespace: "/".to_owned(), groups: vec![], except: vec![] }
}

#[tokio::test(start_paused = true)]
async fn sockets_are_told_by_who_was_asked_and_the_silent_are_named() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::start();
            let everybody = played.node.everybody();
            let asking = tokio::task::spawn_local(async move { everybody.fetch(TIME).await });
            let (request, asks) = played.asked(&["one", "two"]).await;
            assert_eq!(asks, Asks::Sockets { target: self::everybody() });
            let socket = |id: &str| RemoteSocket {
                id: id.to_owned(),
                groups: vec![id.to_owned()],
                data: json!({ "n": 1 }),
                handshake: json!({ "address": "::1", "url": "/x" }),
            };
            let sockets = vec![socket("AAAAAAAAAAAAAAAAAAAA"), socket("no id of a socket #")];
            for from in ["stranger", "one", "one"] {
                played.say(from, answer(&request, Tells::Sockets { sockets: sockets.clone() }));
            }
            played.say("two", answer("not asked", Tells::Sockets { sockets: sockets.clone() }));
            played.say("two", answer("fff", Tells::Sockets { sockets }));
            let fetched = asking.await.unwrap();
            let told: Vec<_> =
                fetched.sockets.iter().map(|each| (each.address.as_str(), each.url.as_str())).collect();
            assert_eq!((told, fetched.nodes_missing), (vec![("::1", "/x")], vec!["two".to_owned()]));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn acks_are_counted_by_what_each_server_said_and_none_is_lost_when_one_is_silent() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::start();
            let everybody = played.node.everybody();
            let asking = tokio::task::spawn_local(async move { everybody.ask("x", &1, TIME).await });
            let (request, asks) = played.asked(&["node", "whole", "slow", "mute"]).await;
            assert!(matches!(&asks, Asks::Clients { timeout_ms: Some(500), .. }), "{asks:?}");
            // Before its number, from nobody who was asked, and more than its number.
            played.say("whole", answer(&request, ack(None)));
            played.say("stranger", answer(&request, Tells::Clients { clients: 1 }));
            played.say("stranger", answer(&request, ack(None)));
            let id = "AAAAAAAAAAAAAAAAAAAA";
            for (from, clients) in [("node", 1), ("whole", 2), ("slow", 3)] {
                played.say(from, answer(&request, Tells::Clients { clients }));
            }
            played.say("node", answer(&request, ack(Some(id))));
            for from in ["whole", "whole", "whole", "slow"] {
                played.say(from, answer(&request, ack(None)));
            }
            let answers = asking.await.unwrap();
            assert_eq!(answers.replies.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), [id]);
            assert_eq!((answers.replies_unnamed.len(), answers.missing_unnamed), (3, 2));
            assert_eq!(
                (answers.nodes_missing.as_slice(), answers.all().count()),
                (&["mute".to_owned()][..], 4)
            );
            assert!(!answers.is_complete());
            assert!(
                played.node.0.peers.cluster.as_ref().unwrap().asking.borrow().is_empty(),
                "all is forgotten"
            );
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_number_beyond_all_sense_is_bounded_and_who_is_alone_asks_nobody() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::start();
            let everybody = played.node.everybody();
            let asking = tokio::task::spawn_local({
                let everybody = everybody.clone();
                async move { everybody.ask("x", &1, TIME).await }
            });
            let (request, _) = played.asked(&["one"]).await;
            played.say("one", answer(&request, Tells::Clients { clients: u64::MAX }));
            let answers = asking.await.unwrap();
            assert_eq!((answers.missing_unnamed, answers.nodes_missing.len()), (100_000, 0));
            let asking = tokio::task::spawn_local(async move { everybody.ask("x", &1, TIME).await });
            let Some(Said::Who { ask, .. }) = played.words.recv().await else { panic!("it was to ask") };
            played.hear(Heard::Channels { ask, channels: vec![] });
            assert!(asking.await.unwrap().is_complete());
            assert_eq!(played.said(), None);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_redis_that_goes_in_the_middle_of_a_question_leaves_nothing_behind() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::start();
            let everybody = played.node.everybody();
            let asking = tokio::task::spawn_local({
                let everybody = everybody.clone();
                async move { everybody.fetch(TIME).await }
            });
            let Some(Said::Who { .. }) = played.words.recv().await else { panic!("it was to ask") };
            played.hear(Heard::Down { why: "a test".to_owned() });
            assert!(played.node.0.peers.cluster.as_ref().unwrap().asking.borrow().is_empty());
            assert_eq!(asking.await.unwrap().nodes_missing, ["agent"]);
            assert!(played.node.0.is_backplane_down());
            // Nothing is said to a Redis that is not there, and whoever asks is told at once.
            everybody.emit("x", &1);
            assert_eq!(everybody.fetch(TIME).await.nodes_missing, ["agent"]);
            assert_eq!(played.words.try_recv(), None);
            assert_eq!(played.node.counters().publish_dropped_total, 2);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_asked_is_answered_to_whoever_asks_and_faults_are_counted() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::start();
            let question = |asks| Says::Question { request: "r".to_owned(), asks };
            played.say("one", question(Asks::Sockets { target: everybody() }));
            let (channel, says) = played.said().unwrap();
            assert_eq!(
                (channel.as_str(), says),
                ("socket.io#/#one#", answer("r", Tells::Sockets { sockets: vec![] }))
            );
            let asks = Asks::Clients { target: everybody(), packet: packet("2[\"x\"]"), timeout_ms: None };
            played.say("one", question(asks));
            assert_eq!(played.said().unwrap().1, answer("r", Tells::Clients { clients: 0 }));
            played.say("one", question(Asks::Servers { packet: packet("2[\"who\"]") }));
            let Says::Answer { tells: Tells::Server { packet: answered }, .. } = played.said().unwrap().1
            else {
                panic!("an answer was due");
            };
            let argument: Value = serde_json::from_str(answered.args().next().unwrap()).unwrap();
            assert_eq!(argument, json!({ "me": 1 }));
            // As on Node.js: who has no handler does not answer.
            played.say("one", question(Asks::Servers { packet: packet("2[\"nobody hears this\"]") }));
            // Its own words come back to it.
            let own = played.server();
            played.say(&own, question(Asks::Sockets { target: everybody() }));
            for message in [b"".to_vec(), b"text".to_vec(), vec![0x81]] {
                played.hear(Heard::Message { message });
            }
            played.hear(Heard::Entry { fields: vec![("uid".to_owned(), "x".to_owned())] });
            assert_eq!(played.said(), None);
            let counters = played.node.counters();
            assert_eq!((counters.adapter_faults_total, counters.delivered_total), (4, 4));
        })
        .await;
}
