//! The sentences of the two published protocol documents, each on a raw WebSocket or raw HTTP: what opens, what is
//! answered, what is ignored and what closes the session.

mod common;

use std::time::Duration;

use common::{Served, Tung, config, run, serve, until};
use greenroom_node::config::Parser;
use greenroom_node::{Config, Node};
use greenroom_socketio::Limits;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

/// A server as the published suites want it.
fn server(config: Config) -> Served {
    let mut node = Node::new(config);
    for name in ["/", "/custom"] {
        node.namespace(name)
            .on_connect(|socket| socket.emit("auth", &socket.auth::<Value>().expect("json")))
            .keep_auth()
            .on("message", |socket, event| {
                socket.emit_draft(event.forward("message-back").expect("no reserved name"));
            })
            .on("message-with-ack", |_, mut event| {
                if let Some(ack) = event.ack() {
                    ack.send_args_of(&event);
                }
            });
    }
    serve(node)
}

async fn connected(served: &Served) -> Tung {
    let mut client = served.opened().await;
    client.send("40").await;
    client.recv_starting("40{").await;
    assert_eq!(client.recv().await, "42[\"auth\",{}]");
    client
}

#[test]
fn an_open_packet_tells_what_the_document_lists_on_both_transports() {
    run(async {
        let served = server(config());
        let polled = served.http("GET", "EIO=4&transport=polling", "").await;
        assert!(polled.head.contains("content-type: text/plain; charset=utf-8"), "{}", polled.head);
        let text = served.websocket().await.recv().await;
        for (open, upgrades) in [(&polled.body[1..], 1), (&text[1..], 0)] {
            let open: serde_json::Map<String, Value> = serde_json::from_str(open).unwrap();
            let keys: Vec<&str> = open.keys().map(String::as_str).collect();
            assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
            assert_eq!(open["upgrades"].as_array().map(Vec::len), Some(upgrades));
            assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&25_000.into(), &20_000.into()));
            assert_eq!(open["maxPayload"], 1_000_000);
        }
    });
}

#[test]
fn a_client_connects_to_namespaces_with_and_without_a_payload() {
    run(async {
        let served = server(config());
        for (packet, reply, auth) in [
            ("40", "40{\"sid\":\"", "42[\"auth\",{}]"),
            ("40{\"token\":\"123\"}", "40{\"sid\":\"", "42[\"auth\",{\"token\":\"123\"}]"),
            ("40/custom,", "40/custom,{\"sid\":\"", "42/custom,[\"auth\",{}]"),
            ("40/custom", "40/custom,{\"sid\":\"", "42/custom,[\"auth\",{}]"),
            ("40/custom?a=b,{\"x\":[]}", "40/custom,{\"sid\":\"", "42/custom,[\"auth\",{\"x\":[]}]"),
        ] {
            let mut client = served.opened().await;
            client.send(packet).await;
            let told = client.recv_starting(reply).await;
            assert!(told.ends_with("\"}") && !told.contains("pid"), "only the sid is told: {told}");
            assert_eq!(client.recv().await, auth, "{packet}");
        }
        let mut client = served.opened().await;
        client.send("40/random").await;
        assert_eq!(client.recv().await, "44/random,{\"message\":\"Invalid namespace\"}");
        client.send("40").await;
        client.recv_starting("40{").await;
    });
}

#[test]
fn what_is_invalid_closes_the_session_and_nobody_elses() {
    run(async {
        let served = server(config());
        let mut bystander = connected(&served).await;
        // Before a namespace is connected: no other packet may come.
        for packet in ["42[\"message\"]", "42/custom,[\"message\"]", "430[]", "41", "41/custom,", "44{}"] {
            let mut client = served.opened().await;
            client.send(packet).await;
            assert_eq!(client.closed().await, [], "{packet}");
        }
        let invalid = [
            "",                                               // a frame without a type
            "7",                                              // unknown Engine.IO type
            "abc",                                            // the same
            "2",                                              // a ping is the server's
            "4",                                              // a message without a packet
            "4abc",                                           // unknown Socket.IO type
            "47[\"x\"]",                                      // the same
            "40",                                             // a second CONNECT
            "40[]",                                           // CONNECT with a list
            "401{}",                                          // CONNECT with an ack id
            "41{}",                                           // DISCONNECT with a payload
            "42{}",                                           // an event is a list
            "42",                                             // an event without a payload
            "42[]",                                           // an event without a name
            "42[{}]",                                         // a name that is none
            "42[null]",                                       // the same
            "42[\"disconnect\"]",                             // a reserved name
            "42[\"connect_error\"]",                          // the same
            "42[\"x\"",                                       // broken JSON
            "42[\"x\"]]",                                     // something behind the JSON
            "42abc[\"message-with-ack\"]",                    // an ack id that is no number
            "42-1[\"message-with-ack\"]",                     // the same
            "429007199254740992[\"x\"]",                      // an ack id beyond what JavaScript counts
            "43[]",                                           // an ack without its id
            "430{}",                                          // an ack is a list
            "44{\"message\":\"no\"}",                         // CONNECT_ERROR is the server's
            "45[\"x\"]",                                      // a binary event without a count
            "45-[\"x\"]",                                     // the same
            "4511-[\"x\"]",                                   // too many attachments
            "451-[\"x\",{\"_placeholder\":true,\"num\":1}]",  // a placeholder for nothing
            "451-[\"x\",{\"_placeholder\":true,\"num\":-1}]", // the same
            "451-[\"x\",{\"_placeholder\":true}]",            // a placeholder without a number
        ];
        for packet in invalid {
            let mut client = connected(&served).await;
            client.send(packet).await;
            assert_eq!(client.closed().await, [], "{packet}");
        }
        until("only the bystander is left", || served.handle.connections() == 1).await;
        bystander.send("42[\"message\",1]").await;
        assert_eq!(bystander.recv().await, "42[\"message-back\",1]");
    });
}

#[test]
fn binary_messages_belong_to_the_packet_before_them() {
    run(async {
        let served = server(config());
        // Binary without a packet that announced it, an attachment too many, a text in the place of one.
        let mut client = connected(&served).await;
        client.send_binary(&[1]).await;
        assert_eq!(client.closed().await, []);
        let announce = "451-[\"message\",{\"_placeholder\":true,\"num\":0}]";
        let mut client = connected(&served).await;
        client.send(announce).await;
        client.send("42[\"message\"]").await;
        assert_eq!(client.closed().await, []);
        let mut client = connected(&served).await;
        client.send(announce).await;
        client.send_binary(&[]).await;
        client.recv_starting("451-[\"message-back\"").await;
        assert!(client.recv_binary().await.is_empty(), "an attachment may be empty");
        client.send("452-0[\"message-with-ack\",[{\"_placeholder\":true,\"num\":1}],{\"_placeholder\":true,\"num\":0}]").await;
        client.send_binary(&[1]).await;
        // A pong between the attachments is no message.
        client.send("3").await;
        client.send_binary(&[2]).await;
        let ack = "462-0[[{\"_placeholder\":true,\"num\":1}],{\"_placeholder\":true,\"num\":0}]";
        assert_eq!(client.recv().await, ack);
        assert_eq!((client.recv_binary().await, client.recv_binary().await), (vec![1], vec![2]));
        client.send_binary(&[3]).await;
        assert_eq!(client.closed().await, []);
        // None announced, none due: the event is complete at once.
        let mut client = connected(&served).await;
        client.send("450-[\"message\",1]").await;
        assert_eq!(client.recv().await, "42[\"message-back\",1]");
    });
}

#[test]
fn what_has_no_meaning_here_is_ignored() {
    run(async {
        let served = server(config());
        let mut client = connected(&served).await;
        for packet in
            ["6", "3", "3probe", "5", "430[]", "43/custom,7[1]", "42[\"nobody listens\",1]", "42[5]"]
        {
            client.send(packet).await;
        }
        client.send("42[\"message\",1,\"2\",{\"3\":[true]}]").await;
        assert_eq!(client.recv().await, "42[\"message-back\",1,\"2\",{\"3\":[true]}]");
        client.send("42456[\"message-with-ack\"]").await;
        assert_eq!(client.recv().await, "43456[]");
    });
}

#[test]
fn leaving_a_namespace_leaves_the_others_and_then_the_connect_timeout_counts() {
    run(async {
        let served = server(Config { connect_timeout: Duration::from_millis(300), ..config() });
        let mut client = connected(&served).await;
        client.send("40/custom,").await;
        client.recv_starting("40/custom,{").await;
        client.recv_starting("42/custom,[\"auth\"").await;
        client.send("41/custom,").await;
        // Too late for a namespace that was left: no answer, no harm.
        client.send("42/custom,[\"message\",1]").await;
        client.send("42[\"message\",2]").await;
        assert_eq!(client.recv().await, "42[\"message-back\",2]");
        client.send("40/custom,").await;
        client.recv_starting("40/custom,{").await;
        client.recv_starting("42/custom,[\"auth\"").await;
        client.send("41").await;
        client.send("41/custom,").await;
        client.send("42[\"message\",3]").await;
        assert_eq!(client.closed().await, []);
        assert_eq!(served.handle.counters().connect_timeouts_total, 1);
        // Refused everywhere counts as nowhere.
        let mut client = served.opened().await;
        client.send("40/random,").await;
        client.recv_starting("44/random").await;
        assert_eq!(client.closed().await, []);
    });
}

#[test]
fn the_largest_payload_passes_and_one_byte_more_does_not() {
    run(async {
        let limits = Limits { payload_bytes_max: 1000, ..Limits::DEFAULT };
        let served = server(Config { limits, ..config() });
        let event = |bytes: usize| {
            let (head, tail) = ("42[\"message\",\"", "\"]");
            format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
        };
        let mut client = connected(&served).await;
        client.send(&event(1000)).await;
        client.recv_starting("42[\"message-back\",\"xxx").await;
        client.send(&event(1001)).await;
        assert_eq!(client.closed().await, []);
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        assert_eq!(served.http("POST", &session, &event(1000)).await.status, 200);
        assert_eq!(served.http("POST", &session, &event(1001)).await.status, 413);
        served.http("GET", &session, "").await;
        until("both sessions are gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn the_close_packet_ends_the_session_at_once() {
    run(async {
        let served = server(config());
        let mut client = connected(&served).await;
        client.send("1").await;
        assert_eq!(client.closed().await, []);
        let session = served.open_polling().await;
        assert_eq!(served.http("POST", &session, "1").await.status, 200);
        assert_eq!(served.http("GET", &session, "").await.status, 400);
        until("both are gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn polling_carries_several_packets_and_binary_in_one_body() {
    run(async {
        let served = server(config());
        let session = served.open_polling().await;
        let body = "40\u{1e}451-[\"message\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQIDBA==\u{1e}42[\"message\",\"\u{20ac}\"]";
        let posted = served.http("POST", &session, body).await;
        assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
        let body = served.http("GET", &session, "").await.body;
        let packets: Vec<&str> = body.split('\u{1e}').collect();
        let expected = [
            "42[\"auth\",{}]",
            "451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]",
            "bAQIDBA==",
            "42[\"message-back\",\"\u{20ac}\"]",
        ];
        assert!(packets[0].starts_with("40{\"sid\":"), "{body}");
        assert_eq!(packets[1..], expected);
        for method in ["PUT", "DELETE", "PATCH", "HEAD"] {
            assert_eq!(served.http(method, &session, "").await.status, 400, "{method}");
        }
    });
}

#[test]
fn a_messagepack_node_takes_messagepack_alone_and_closes_on_anything_else() {
    run(async {
        let served = server(Config { parser: Parser::Msgpack, ..config() });
        let connect = [&[0x82][..], b"\xa4type\x00\xa3nsp\xa1/"].concat();
        let open = || async {
            let mut client = served.websocket().await;
            client.recv_starting("0{").await;
            client
        };
        let mut client = open().await;
        client.send_binary(&connect).await;
        let reply = client.recv_binary().await;
        assert!(reply.starts_with(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xb4"), "{reply:?}");
        client.recv_binary().await;
        client
            .send_binary(
                b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x07\xa4data\x92\xb0message-with-ack\xc4\x02\x05\x06",
            )
            .await;
        let ack = client.recv_binary().await;
        assert_eq!(ack, b"\x84\xa4type\x03\xa3nsp\xa1/\xa2id\x07\xa4data\x91\xc4\x02\x05\x06");
        // Polling has it in base64.
        let session = served.open_polling().await;
        served.http("POST", &session, "bgqR0eXBlAKNuc3ChLw==").await;
        assert!(served.http("GET", &session, "").await.body.starts_with("bg6R0eXBlAKNuc3ChL6RkYXRh"));
        for wrong in
            [Message::text("40"), Message::binary(vec![0xc1]), Message::binary(vec![]), Message::text("4")]
        {
            let mut client = open().await;
            client.send_message(wrong.clone()).await;
            assert_eq!(client.closed().await, [], "{wrong:?}");
        }
    });
}
