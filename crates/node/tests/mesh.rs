//! Broadcasts across the nodes of a mesh, by way of an agent of the test's own.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::agent::Agent;
use common::{Served, run, serve, until};
use greenroom_node::{Config, Draft, Node, RemoteSocket};
use greenroom_wire::link::{
    FromServer, MeshMessage, MeshReply, MeshSend, MeshSocket, MeshTold, Relay, ToServer,
};
use serde_json::{Value, json};

fn published(message: FromServer) -> Option<Relay> {
    match message {
        FromServer::Publish(relay) => Some(relay),
        FromServer::Hello { .. }
        | FromServer::Ending
        | FromServer::Status(_)
        | FromServer::RoomEnded(_)
        | FromServer::Mesh(_)
        | FromServer::Backplane(_) => None,
    }
}

#[test]
fn a_broadcast_reaches_the_sockets_of_the_other_node() {
    run(async {
        let (mut here, mut there) = (Agent::listen().await, Agent::listen().await);
        let node = |agent: &Agent| {
            let mut node = Node::new(agent.config());
            node.namespace("/")
                .on("draw", |socket, event| socket.broadcast().forward("draw", &event))
                .on("join", |socket, event| socket.join(&event.arg::<String>(0).unwrap()));
            serve(node)
        };
        let (one, two) = (node(&here), node(&there));
        here.welcome().await;
        there.welcome().await;
        let (mut ann, ann_id) = one.connect().await;
        let (mut bob, _) = two.connect().await;
        bob.send("42[\"join\",\"red\"]").await;

        ann.send("42[\"draw\",{\"x\":1}]").await;
        let relay = here.find(published).await;
        assert_eq!(
            (relay.packet.as_str(), relay.except.as_slice()),
            ("2[\"draw\",{\"x\":1}]", &[ann_id][..])
        );
        there.send(&ToServer::Deliver(relay)).await;
        assert_eq!(bob.recv().await, "42[\"draw\",{\"x\":1}]");

        let bytes = Draft::event("bytes").unwrap().binary_arg(vec![1, 2, 3].into());
        one.handle.everybody().local().emit("local", &1);
        one.handle.to("red").emit_draft(&bytes);
        let relay = here.find(published).await;
        assert_eq!(relay.groups, ["red"], "what is local was not published");
        there.send(&ToServer::Deliver(relay)).await;
        assert_eq!(bob.recv().await, "451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]");
        assert_eq!(bob.recv_binary().await, [1, 2, 3]);
        assert_eq!(ann.recv().await, "42[\"local\",1]");

        // What cannot be read harms nobody.
        for packet in ["", "2[", "3[]", "51-[\"x\",{\"_placeholder\":true,\"num\":0}]", "0"] {
            let relay = Relay {
                namespace: "/".into(),
                groups: vec![],
                except: vec![],
                packet: packet.into(),
                attachments: vec![],
            };
            there.send(&ToServer::Deliver(relay)).await;
        }
        two.handle.emit("after", &json!(null));
        assert_eq!(bob.recv().await, "42[\"after\",null]");
        assert_eq!(two.handle.counters().delivered_total, 2);
    });
}

#[test]
fn a_node_without_its_agent_serves_and_counts_what_it_could_not_publish() {
    run(async {
        let mut agent = Agent::listen().await;
        let served = serve(Node::new(Config { publish_bytes_max: 100, ..agent.config() }));
        let (mut ann, _) = served.connect().await;
        served.handle.emit("early", &1);
        assert_eq!(ann.recv().await, "42[\"early\",1]");
        assert_eq!(served.handle.counters().publish_dropped_total, 1);
        agent.welcome().await;
        common::until("the link is up", || {
            served.handle.emit("again", &1);
            served.handle.counters().published_total > 0
        })
        .await;
        // One after the other in one turn: the queue to the agent has its bound.
        let before = served.handle.counters().publish_dropped_total;
        (0..100).for_each(|n| served.handle.emit("burst", &n));
        assert!(served.handle.counters().publish_dropped_total > before);
    });
}

fn sent(message: FromServer) -> Option<MeshSend> {
    match message {
        FromServer::Mesh(send) => Some(send),
        FromServer::Hello { .. }
        | FromServer::Ending
        | FromServer::Status(_)
        | FromServer::RoomEnded(_)
        | FromServer::Publish(_)
        | FromServer::Backplane(_) => None,
    }
}

fn told(send: MeshSend) -> ToServer {
    let from = "arena-a1b2c.7".parse::<greenroom_core::InstanceId>().expect("an instance").into();
    ToServer::Mesh(MeshTold { from, ask: send.ask, message: send.message })
}

/// Waits until the node knows that its link is up.
async fn linked(served: &Served, agent: &mut Agent) {
    until("the link is up", || {
        served.handle.everybody().server_side_emit("early", &1);
        served.handle.counters().published_total > 0
    })
    .await;
    agent.find(sent).await;
}

/// Two nodes, each with an agent of its own, between which a test carries the words.
struct Pair {
    one: Served,
    two: Served,
    here: Agent,
    there: Agent,
}

impl Pair {
    /// The second one does what `program` tells it.
    async fn listen(program: impl FnOnce(&mut Node)) -> Self {
        let (here, there) = (Agent::listen().await, Agent::listen().await);
        let mut node = Node::new(there.config());
        program(&mut node);
        Self { one: serve(Node::new(here.config())), two: serve(node), here, there }
    }

    async fn linked(mut self) -> Self {
        self.here.welcome().await;
        self.there.welcome().await;
        linked(&self.one, &mut self.here).await;
        self
    }
}

/// What the agent says first to who asks.
fn asked(send: &MeshSend) -> ToServer {
    let peer = "arena-a1b2c.7".parse::<greenroom_core::InstanceId>().expect("an instance").into();
    ToServer::MeshAsked { ask: send.ask.expect("a question"), peers: vec![peer] }
}

async fn a_faulty_handler_harms_nobody(one: &Served, two: &Served, here: &mut Agent, there: &mut Agent) {
    one.handle.everybody().server_side_emit("bug", &1);
    there.send(&told(here.find(sent).await)).await;
    until("the fault is counted", || two.handle.counters().handler_panics_total == 1).await;
}

#[test]
fn sockets_of_other_nodes_are_joined_left_disconnected_and_servers_hear_events() {
    run(async {
        let heard = Rc::new(RefCell::new(None));
        let hear = Rc::clone(&heard);
        let program = move |node: &mut Node| {
            node.namespace("/").on_server_side("bug", |_, _| panic!("a fault of the program"));
            node.namespace("/").on_server_side("reload", move |node, event| {
                *hear.borrow_mut() = Some((node.connections(), event.arg::<Value>(0).unwrap()));
            });
        };
        let Pair { one, two, mut here, mut there } = Pair::listen(program).await.linked().await;
        let (mut bob, bob_id) = two.connect().await;
        let bob_socket = two.handle.to(bob_id.clone()).sockets().remove(0);

        one.handle.to(&*bob_id).join("red");
        there.send(&told(here.find(sent).await)).await;
        until("bob is in", || bob_socket.groups() == ["red"]).await;
        one.handle.to("red").leave("red");
        there.send(&told(here.find(sent).await)).await;
        until("bob is out", || bob_socket.groups().is_empty()).await;
        one.handle.everybody().server_side_emit("reload", &json!({ "now": true }));
        there.send(&told(here.find(sent).await)).await;
        until("the server heard it", || heard.borrow().is_some()).await;
        assert_eq!(heard.take(), Some((1, json!({ "now": true }))));
        a_faulty_handler_harms_nobody(&one, &two, &mut here, &mut there).await;
        one.handle.everybody().local().join("blue");
        one.handle.everybody().except("blue").disconnect();
        let send = here.find(sent).await;
        assert!(matches!(send.message, MeshMessage::Disconnect { is_transport: false, .. }), "{send:?}");
        there.send(&told(send)).await;
        assert_eq!(bob.recv().await, "41");
    });
}

#[test]
fn questions_reach_every_node_and_the_silent_ones_are_named() {
    run(async {
        let pair = Pair::listen(|_| {}).await;
        let down = pair.one.handle.everybody().fetch(Duration::from_secs(5)).await;
        assert_eq!(down.nodes_missing, ["agent"], "not linked yet");
        let Pair { one, two, mut here, mut there } = pair.linked().await;
        let (mut ann, ann_id) = one.connect().await;
        let (mut bob, bob_id) = two.connect().await;

        // Fetch: the other node is asked, and its answer comes back.
        let everybody = one.handle.everybody();
        let (fetched, ()) = tokio::join!(everybody.fetch(Duration::from_secs(5)), async {
            let send = here.find(sent).await;
            here.send(&asked(&send)).await;
            there.send(&told(send)).await;
            let answer = there.find(sent).await;
            assert_eq!(answer.to.as_ref().map(|to| to.as_str().to_owned()), Some("arena-a1b2c.7".to_owned()));
            here.send(&told(answer)).await;
        });
        assert_eq!(fetched.nodes_missing, Vec::<String>::new());
        let ids: Vec<String> = fetched.sockets.iter().map(|socket| socket.id.to_string()).collect();
        assert_eq!(ids, [ann_id, bob_id.clone()]);
        assert!(fetched.sockets[1].url.starts_with("/socket.io/?EIO=4"));

        // Acks: both answer, each on its own node.
        let (answers, ()) = tokio::join!(everybody.ask("ready", &1, Duration::from_secs(5)), async {
            let send = here.find(sent).await;
            here.send(&asked(&send)).await;
            there.send(&told(send)).await;
            assert_eq!(ann.recv().await, "420[\"ready\",1]");
            ann.send("430[\"ann\"]").await;
            assert_eq!(bob.recv().await, "420[\"ready\",1]");
            bob.send("430[\"bob\"]").await;
            here.send(&told(there.find(sent).await)).await;
        });
        assert!(answers.is_complete(), "{answers:?}");
        let names: Vec<String> = answers.replies.iter().map(|(_, reply)| reply.arg(0).unwrap()).collect();
        assert_eq!(names, ["ann", "bob"]);
    });
}

#[test]
fn a_node_that_stays_silent_is_named_and_one_that_lies_harms_nobody() {
    run(async {
        let mut here = Agent::listen().await;
        let one = serve(Node::new(here.config()));
        here.welcome().await;
        linked(&one, &mut here).await;
        let (mut ann, ann_id) = one.connect().await;
        let nobody = one.handle.to("nobody");
        let (fetched, ()) = tokio::join!(nobody.fetch(Duration::from_millis(50)), async {
            let send = here.find(sent).await;
            here.send(&asked(&send)).await;
        });
        assert_eq!(fetched.nodes_missing, ["arena-a1b2c.7"]);
        let (answers, ()) = tokio::join!(nobody.ask("x", &1, Duration::from_secs(5)), async {
            let send = here.find(sent).await;
            here.send(&asked(&send)).await;
            let reply = |packet: &str| MeshReply {
                socket: ann_id.clone(),
                packet: packet.to_owned(),
                attachments: vec![],
            };
            let missing = vec![(ann_id.clone(), "too_many".to_owned()), ("no id".to_owned(), String::new())];
            let message = MeshMessage::Answers { replies: vec![reply("3["), reply("30[7]")], missing };
            let answer = MeshSend { to: None, ask: send.ask, message };
            here.send(&told(answer.clone())).await;
            here.send(&told(answer)).await;
        });
        assert_eq!((answers.replies.len(), answers.missing.len()), (1, 2), "{answers:?}");
        let stray = MeshSocket {
            id: "x".into(),
            groups: vec![],
            data: Value::Null,
            address: String::new(),
            url: String::new(),
        };
        let message = MeshMessage::Sockets { sockets: vec![stray] };
        here.send(&told(MeshSend { to: None, ask: Some(99), message })).await;
        one.handle.everybody().local().emit("alive", &1);
        assert_eq!(ann.recv().await, "42[\"alive\",1]");
    });
}

#[test]
fn servers_ask_each_other_and_who_has_no_answer_is_named() {
    run(async {
        let program = |node: &mut Node| {
            node.namespace("/")
                .on_server_side("load", |node, event| {
                    assert_eq!(event.from(), "arena-a1b2c.7");
                    event.reply(
                        &json!({ "connections": node.connections(), "of": event.arg::<Value>(0).unwrap() }),
                    );
                    event.reply(&"an answer is given once");
                })
                .on_server_side("later", |node, event| {
                    let ack = event.ack().expect("an answer is wanted");
                    assert!(event.ack().is_none());
                    node.spawn(async move { ack.send(&"later") });
                });
        };
        let Pair { one, two, mut here, mut there } = Pair::listen(program).await.linked().await;
        let (_bob, _) = two.connect().await;
        let everybody = one.handle.everybody();
        for (event, expected) in [
            ("load", Some(json!({ "connections": 1, "of": "all" }))),
            ("later", Some(json!("later"))),
            ("unheard of", None),
        ] {
            let asking = everybody.server_side_ask(event, "all", Duration::from_secs(5));
            let (answers, ()) = tokio::join!(asking, async {
                let send = here.find(sent).await;
                here.send(&asked(&send)).await;
                there.send(&told(send)).await;
                here.send(&told(there.find(sent).await)).await;
            });
            let replies: Vec<(String, Value)> =
                answers.replies.iter().map(|(from, reply)| (from.clone(), reply.arg(0).unwrap())).collect();
            let (named, missing) = match expected {
                Some(value) => (vec![("arena-a1b2c.7".to_owned(), value)], vec![]),
                None => (vec![], vec!["arena-a1b2c.7".to_owned()]),
            };
            assert_eq!((replies, answers.nodes_missing), (named, missing), "{event}");
        }
        let (answers, ()) =
            tokio::join!(everybody.server_side_ask("load", &1, Duration::from_millis(20)), async {
                let send = here.find(sent).await;
                here.send(&asked(&send)).await;
            });
        assert_eq!(answers.nodes_missing, ["arena-a1b2c.7"], "it did not answer in time");
        let alone = serve(Node::new(common::config())).handle.everybody();
        let answers = alone.server_side_ask("load", &1, Duration::from_secs(5)).await;
        assert!(answers.replies.is_empty() && answers.nodes_missing.is_empty(), "{answers:?}");
    });
}

#[test]
fn a_fetched_socket_is_acted_on_wherever_it_is() {
    run(async {
        let Pair { one, two, mut here, mut there } = Pair::listen(|_| {}).await.linked().await;
        let (mut ann, ann_id) = one.connect().await;
        let (mut bob, bob_id) = two.connect().await;
        let everybody = one.handle.everybody();
        let (fetched, ()) = tokio::join!(everybody.fetch(Duration::from_secs(5)), async {
            let send = here.find(sent).await;
            here.send(&asked(&send)).await;
            there.send(&told(send)).await;
            here.send(&told(there.find(sent).await)).await;
        });
        let (own, far) = (&fetched.sockets[0], &fetched.sockets[1]);
        assert_eq!((own.id.to_string(), far.id.to_string()), (ann_id.clone(), bob_id.clone()));
        let (ann_socket, bob_socket) =
            (one.handle.to(ann_id).sockets().remove(0), two.handle.to(bob_id).sockets().remove(0));

        // One of this node is reached at once; the others are told and have none of that id.
        own.join("red");
        assert_eq!(ann_socket.groups(), ["red"]);
        there.send(&told(here.find(sent).await)).await;
        own.emit("hello", &1);
        assert_eq!(ann.recv().await, "42[\"hello\",1]");
        here.find(published).await;
        own.disconnect();
        assert_eq!(ann.recv().await, "41");
        here.find(sent).await;

        far.emit("hello", &2);
        there.send(&ToServer::Deliver(here.find(published).await)).await;
        assert_eq!(bob.recv().await, "42[\"hello\",2]");
        for (act, groups) in
            [(RemoteSocket::join as fn(&RemoteSocket, &str), vec!["blue"]), (RemoteSocket::leave, vec![])]
        {
            act(far, "blue");
            there.send(&told(here.find(sent).await)).await;
            until("the other node has done it", || bob_socket.groups() == groups).await;
        }
        far.close_transport();
        there.send(&told(here.find(sent).await)).await;
        assert_eq!(bob.closed().await, [], "nothing else reached it");
    });
}
