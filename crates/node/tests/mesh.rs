//! Broadcasts across the nodes of a mesh, by way of an agent of the test's own.

mod common;

use common::agent::Agent;
use common::{run, serve};
use greenroom_node::{Config, Draft, Node};
use greenroom_wire::link::{FromServer, Relay, ToServer};
use serde_json::json;

fn published(message: FromServer) -> Option<Relay> {
    match message {
        FromServer::Publish(relay) => Some(relay),
        FromServer::Hello { .. } | FromServer::Status(_) | FromServer::RoomEnded(_) => None,
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
