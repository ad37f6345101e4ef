//! A node whose packets are in a format of the program's own: everything works as in the standard one, and what the
//! program's parser does wrong costs one session or one event.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;
#[path = "../examples/echo/prefixed.rs"]
mod prefixed;

use std::sync::Arc;

use common::agent::Agent;
use common::{Served, Tung, config, run, serve, until};
use greenroom_node::config::{Parser, Recovery};
use greenroom_node::parser::{
    Content, DecodeError, Limits, Message, PacketDecoder, PacketKind, PacketParser, Prepared, WriteError,
};
use greenroom_node::{Config, Draft, Node};
use greenroom_wire::link::{Relay, ToServer};
use prefixed::Prefixed;
use serde_json::json;

fn custom(parser: impl PacketParser + 'static) -> Parser {
    Parser::Custom(Arc::new(parser))
}

fn server(config: Config) -> Served {
    let mut node = Node::new(config);
    for name in ["/", "/custom"] {
        node.namespace(name).on("join", |socket, event| socket.join(&event.arg::<String>(0).unwrap())).on(
            "echo",
            |socket, mut event| match event.ack() {
                Some(ack) => ack.send_args_of(&event),
                None => socket.emit_draft(event.forward("echoed").unwrap()),
            },
        );
    }
    serve(node)
}

async fn connected(served: &Served) -> Tung {
    let mut client = served.opened().await;
    client.send(r#"4packet {"type":0,"nsp":"/"}"#).await;
    client.recv_starting(r#"4packet {"type":0,"nsp":"/","data":{"sid":""#).await;
    client
}

#[test]
fn everything_travels_in_the_program_s_own_format_on_both_transports() {
    run(async {
        let served = server(Config { parser: custom(Prefixed), ..config() });
        let mut client = connected(&served).await;
        client.send(r#"4packet {"type":2,"nsp":"/","id":7,"data":["echo",1,{"two":[3]}]}"#).await;
        assert_eq!(
            client.recv().await,
            r#"4packet {"type":3,"nsp":"/","id":7,"data":[1,{"two":[3]}],"parts":0}"#
        );
        let parts = r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        client.send(&format!(r#"4packet {{"type":2,"nsp":"/","data":["echo",{parts}],"parts":2}}"#)).await;
        client.send_binary(&[1, 2]).await;
        client.send_binary(&[]).await;
        assert_eq!(
            client.recv().await,
            format!(r#"4packet {{"type":2,"nsp":"/","data":["echoed",{parts}],"parts":2}}"#)
        );
        assert_eq!((client.recv_binary().await, client.recv_binary().await), (vec![1, 2], vec![]));
        client.send(r#"4packet {"type":0,"nsp":"/nowhere","data":{"a":1}}"#).await;
        assert_eq!(
            client.recv().await,
            r#"4packet {"type":4,"nsp":"/nowhere","data":{"message":"Invalid namespace"},"parts":0}"#
        );

        // Polling: the same messages, parted and in base64.
        let session = served.open_polling().await;
        let body = "4packet {\"type\":0,\"nsp\":\"/custom\"}\u{1e}4packet {\"type\":2,\"nsp\":\"/custom\",\"data\":[\
                    \"echo\",{\"_placeholder\":true,\"num\":0}],\"parts\":1}\u{1e}bAQI=";
        assert_eq!(served.http("POST", &session, body).await.status, 200);
        let body = served.http("GET", &session, "").await.body;
        let packets: Vec<&str> = body.split('\u{1e}').collect();
        assert!(packets[0].starts_with(r#"4packet {"type":0,"nsp":"/custom","data":{"sid":"#), "{body}");
        let echoed =
            r#"4packet {"type":2,"nsp":"/custom","data":["echoed",{"_placeholder":true,"num":0}],"parts":1}"#;
        assert_eq!(packets[1..], [echoed, "bAQI="]);
    });
}

#[test]
fn broadcasts_and_events_of_other_nodes_leave_in_the_program_s_format() {
    run(async {
        let mut agent = Agent::listen().await;
        let served = server(Config { parser: custom(Prefixed), ..agent.config() });
        agent.welcome().await;
        let (mut ann, mut bob) = (connected(&served).await, connected(&served).await);
        bob.send(r#"4packet {"type":2,"nsp":"/","data":["join","red"]}"#).await;
        until("bob is in the group", || served.handle.to("red").sockets().len() == 1).await;
        let bytes = Draft::event("bytes").unwrap().binary_arg(vec![9].into());
        served.handle.to("red").emit_draft(&bytes);
        served.handle.emit("all", &json!({"x": 1}));
        let all = r#"4packet {"type":2,"nsp":"/","data":["all",{"x":1}],"parts":0}"#;
        assert_eq!(ann.recv().await, all);
        bob.recv_starting(r#"4packet {"type":2,"nsp":"/","data":["bytes",{"_placeholder""#).await;
        assert_eq!(bob.recv_binary().await, [9]);
        assert_eq!(bob.recv().await, all);
        // Between nodes packets are in the standard format.
        let relay = Relay {
            namespace: "/".into(),
            groups: vec!["red".into()],
            except: vec![],
            packet: r#"2["told",5]"#.into(),
            attachments: vec![],
        };
        agent.send(&ToServer::Deliver(relay)).await;
        assert_eq!(bob.recv().await, r#"4packet {"type":2,"nsp":"/","data":["told",5],"parts":0}"#);
    });
}

#[test]
fn a_recoverable_event_carries_its_offset_in_the_program_s_format_too() {
    run(async {
        let recovery = Some(Recovery::default());
        let served = server(Config { parser: custom(Prefixed), recovery, ..config() });
        let mut client = served.opened().await;
        client.send(r#"4packet {"type":0,"nsp":"/"}"#).await;
        let reply = client.recv().await;
        assert!(reply.contains(r#""pid":""#), "{reply}");
        served.handle.emit("kept", &1);
        let kept = client.recv().await;
        assert!(kept.starts_with(r#"4packet {"type":2,"nsp":"/","data":["kept",1,""#), "{kept}");
        assert!(kept.ends_with(r#""],"parts":0}"#), "{kept}");
    });
}

#[test]
fn what_the_parser_cannot_read_or_no_packet_may_be_closes_that_session_alone() {
    run(async {
        let served = server(Config { parser: custom(Prefixed), ..config() });
        let mut bystander = connected(&served).await;
        let long = format!(r#"packet {{"type":0,"nsp":"/{}"}}"#, "n".repeat(600));
        let deep =
            format!(r#"packet {{"type":2,"nsp":"/","data":["x",{}{}]}}"#, "[".repeat(100), "]".repeat(100));
        let wrong = [
            "0",                                                                 // the standard format
            "packet",                                                            // no prefix
            "packet {",                                                          // broken JSON
            r#"packet {"type":9,"nsp":"/"}"#,                                    // no such kind
            r#"packet {"type":2,"nsp":"/"}"#,                                    // an event without data
            r#"packet {"type":2,"nsp":"/","data":{}}"#,                          // an event that is no list
            r#"packet {"type":2,"nsp":"/","data":[{}]}"#,                        // an event without a name
            r#"packet {"type":2,"nsp":"/","data":["disconnect"]}"#,              // a reserved name
            r#"packet {"type":2,"nsp":"/","data":"/x,[\"echo\"]"}"#, // data that would pass for a head
            r#"packet {"type":2,"nsp":"/","data":7}"#,               // data that would pass for an id
            r#"packet {"type":3,"nsp":"/","data":[1]}"#,             // an ack without an id
            r#"packet {"type":2,"nsp":"/","id":9007199254740992,"data":["x"]}"#, // an id beyond what can be counted
            r#"packet {"type":0,"nsp":"custom"}"#, // a namespace without a slash
            r#"packet {"type":0,"nsp":"/a,1"}"#,   // a namespace with a comma
            r#"packet {"type":0,"nsp":"/custom","data":[]}"#, // a connect with a list
            long.as_str(),
            deep.as_str(),
        ];
        for wrong in wrong {
            let mut client = connected(&served).await;
            client.send(&format!("4{wrong}")).await;
            assert_eq!(client.closed().await, [], "{wrong}");
        }
        // A part that nobody waits for, a text instead of one, and placeholders that fit no part.
        let mut client = connected(&served).await;
        client.send_binary(&[1]).await;
        assert_eq!(client.closed().await, []);
        let head = r#"4packet {"type":2,"nsp":"/","data":["echo",{"_placeholder":true,"num":1}],"parts":1}"#;
        let mut client = connected(&served).await;
        client.send(head).await;
        client.send(head).await;
        assert_eq!(client.closed().await, []);
        let mut client = connected(&served).await;
        client.send(head).await;
        client.send_binary(&[1]).await;
        assert_eq!(client.closed().await, []);
        bystander.send(r#"4packet {"type":2,"nsp":"/","id":0,"data":["echo"]}"#).await;
        assert_eq!(bystander.recv().await, r#"4packet {"type":3,"nsp":"/","id":0,"data":[],"parts":0}"#);
        let counters = served.handle.counters();
        assert_eq!((counters.faulty_closed_total, counters.handler_panics_total), (20, 0));
    });
}

#[test]
fn a_packet_that_never_ends_is_an_end_of_its_session() {
    run(async {
        let limits = Limits { attachments_max: 3, attachment_bytes_max: 500, ..Limits::DEFAULT };
        let served = server(Config { parser: custom(Prefixed), limits, ..config() });
        let endless = r#"4packet {"type":2,"nsp":"/","data":["x"],"parts":1000000}"#;
        let mut client = connected(&served).await;
        client.send(endless).await;
        for _ in 0..4 {
            client.send_binary(&[0]).await;
        }
        assert_eq!(client.closed().await, [], "it has more parts than a packet may");
        let mut client = connected(&served).await;
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        client
            .send(&format!(r#"4packet {{"type":2,"nsp":"/","data":["echo",{placeholder}],"parts":1}}"#))
            .await;
        client.send_binary(&[0; 501]).await;
        assert_eq!(client.closed().await, [], "its parts are longer than they may be");
    });
}

/// Does everything wrong: panics, writes nothing, writes what parts packets, says what is no packet.
#[derive(Debug, Clone, Copy)]
struct Faulty;

impl PacketParser for Faulty {
    fn encode(&self, packet: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
        assert!(!packet.data().contains("panic"), "it panics as it was told");
        if packet.data().contains("nothing") {
            return Ok(Vec::new());
        }
        if packet.data().contains("parted") {
            return Ok(vec!["one\u{1e}two".to_owned().into()]);
        }
        if packet.data().contains("refused") {
            return Err(WriteError::Refused { why: "it will not".to_owned() });
        }
        Ok(vec![packet.data().to_owned().into()])
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(*self)
    }
}

impl PacketDecoder for Faulty {
    fn decode(&mut self, message: &Message<'_>, _: &Limits) -> Result<Option<Content>, DecodeError> {
        let Message::Text(text) = message else { panic!("it panics as it was told") };
        Ok(Some(Content {
            kind: if text == "connect" { PacketKind::Connect } else { PacketKind::Event },
            namespace: "/".to_owned(),
            id: None,
            data: (text != "connect").then(|| text.to_string()),
            attachments: Vec::new(),
        }))
    }
}

#[test]
fn a_parser_that_panics_or_writes_nonsense_costs_an_event_or_a_session_and_never_the_node() {
    run(async {
        let served = server(Config { parser: custom(Faulty), ..config() });
        let enter = || async {
            let mut client = served.opened().await;
            client.send("4connect").await;
            client.recv_starting("4{\"sid\":").await;
            client
        };
        let mut client = enter().await;
        for event in ["panic", "nothing", "parted", "refused", "fine"] {
            served.handle.emit(event, &1);
        }
        assert_eq!(client.recv().await, r#"4["fine",1]"#);
        assert_eq!(served.handle.counters().emit_faults_total, 4);
        let mut other = enter().await;
        other.send_binary(&[1]).await;
        assert_eq!(other.closed().await, []);
        assert_eq!(served.handle.counters().handler_panics_total, 1);
        served.handle.emit("fine", &2);
        assert_eq!(client.recv().await, r#"4["fine",2]"#);
    });
}
