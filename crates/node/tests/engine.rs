//! Engine.IO over real loopback sockets: HTTP errors, polling, upgrade, heartbeat, limits.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod common;

use std::time::Duration;

use common::{Served, Tung, config, run, serve, until};
use greenroom_node::config::Origins;
use greenroom_node::{Config, Node};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

fn echo(config: Config) -> Served {
    let mut node = Node::new(config);
    node.namespace("/")
        .on("echo", |socket, event| socket.emit_draft(event.forward("echo").unwrap()))
        .on("flood", |socket, event| {
            let text = "x".repeat(10_000);
            (0..event.arg::<u32>(0).unwrap()).for_each(|_| socket.emit("flood", &text));
        })
        .on("farewell", |socket, _| {
            socket.emit("last", "words");
            socket.close_transport();
        })
        .on("spray", |socket, _| (0..10).for_each(|n| socket.emit_volatile("spray", &n)));
    serve(node)
}

/// Waits for the n-th poll of all to have come.
async fn polls(served: &Served, n: u64) {
    until("the poll has come", || served.handle.counters().polls_total >= n).await;
}

#[test]
fn a_wrong_request_gets_the_error_that_clients_know() {
    run(async {
        let served = echo(config());
        let cases = [
            ("GET", "", r#"{"code":0,"message":"Transport unknown"}"#),
            ("GET", "EIO=4&transport=abc", r#"{"code":0,"message":"Transport unknown"}"#),
            ("GET", "EIO=4&transport=polling&sid=abc", r#"{"code":1,"message":"Session ID unknown"}"#),
            ("POST", "EIO=4&transport=polling&sid=abc", r#"{"code":1,"message":"Session ID unknown"}"#),
            ("POST", "EIO=4&transport=polling", r#"{"code":2,"message":"Bad handshake method"}"#),
            ("PUT", "EIO=4&transport=polling", r#"{"code":2,"message":"Bad handshake method"}"#),
            ("GET", "EIO=4&transport=websocket", r#"{"code":3,"message":"Bad request"}"#),
            ("GET", "EIO=3&transport=polling", r#"{"code":5,"message":"Unsupported protocol version"}"#),
            ("GET", "transport=polling", r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ];
        for (method, query, body) in cases {
            let answer = served.http(method, query, "").await;
            assert_eq!((answer.status, answer.body.as_str()), (400, body), "{method} {query}");
            assert!(answer.head.contains("application/json"), "{}", answer.head);
        }
        assert_eq!(served.handle.counters().requests_refused_total, cases.len() as u64);
        assert_eq!(served.handle.connections(), 0);
        for (target, status) in [("/livez", 200), ("/readyz", 200), ("/nothing", 404)] {
            assert_eq!(served.http_with("GET", target, "", "").await.status, status, "{target}");
        }
    });
}

#[test]
fn pages_of_other_origins_are_refused_on_both_transports() {
    run(async {
        let origins = Origins::Listed(vec!["https://play.example".to_owned()]);
        let served = echo(Config { origins, ..config() });
        let target = "/socket.io/?EIO=4&transport=polling";
        let refused = served.http_with("GET", target, "origin: https://evil.example\r\n", "").await;
        assert_eq!((refused.status, refused.body.as_str()), (403, r#"{"code":4,"message":"Forbidden"}"#));
        let allowed = served.http_with("GET", target, "origin: https://play.example\r\n", "").await;
        assert_eq!(allowed.status, 200);
        assert!(allowed.head.contains("access-control-allow-origin: https://play.example"));
        let asked = served.http_with("OPTIONS", target, "origin: https://play.example\r\n", "").await;
        assert_eq!(asked.status, 204);
        assert!(asked.head.contains("access-control-allow-methods: get, post"));
        let upgrade = "origin: https://evil.example\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let refused = served.http_with("GET", "/socket.io/?EIO=4&transport=websocket", upgrade, "").await;
        assert_eq!(refused.status, 403);
        assert_eq!(served.handle.counters().origins_refused_total, 2);
    });
}

#[test]
fn polling_alone_carries_a_whole_session() {
    run(async {
        let served = echo(config());
        let session = served.open_polling().await;
        assert_eq!(served.http("POST", &session, "40").await.body, "ok");
        assert!(served.http("GET", &session, "").await.body.starts_with("40{\"sid\":"));
        let sent = "42[\"echo\",1]\u{1e}451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQID";
        assert_eq!(served.http("POST", &session, sent).await.body, "ok");
        assert_eq!(served.http("GET", &session, "").await.body, sent);
        // A poll waits until there is something.
        let (polled, posted) = tokio::join!(served.http("GET", &session, ""), async {
            polls(&served, 3).await;
            served.http("POST", &session, "42[\"echo\",2]").await
        });
        assert_eq!((polled.body.as_str(), posted.status), ("42[\"echo\",2]", 200));
        // The client says goodbye while a poll waits.
        let (polled, _) = tokio::join!(served.http("GET", &session, ""), async {
            polls(&served, 4).await;
            served.http("POST", &session, "1").await
        });
        assert_eq!((polled.status, polled.body.as_str()), (200, "6"));
        assert_eq!(served.http("GET", &session, "").await.status, 400);
        assert_eq!(served.handle.connections(), 0);
    });
}

/// The stock client forgets the packets of a body that also says goodbye.
#[test]
fn last_words_and_goodbye_never_share_a_polling_body() {
    run(async {
        let served = echo(config());
        let session = served.open_polling().await;
        assert_eq!(served.http("POST", &session, "40").await.status, 200);
        assert!(served.http("GET", &session, "").await.body.starts_with("40{"));
        let (polled, _) = tokio::join!(served.http("GET", &session, ""), async {
            polls(&served, 2).await;
            served.http("POST", &session, r#"42["farewell"]"#).await
        });
        assert_eq!(polled.body, r#"42["last","words"]"#);
        assert_eq!(served.http("GET", &session, "").await.body, "1");
        assert_eq!(served.http("GET", &session, "").await.status, 400, "the session is gone");
    });
}

#[test]
fn a_second_request_of_a_kind_closes_the_session() {
    run(async {
        let served = echo(config());
        let session = served.open_polling().await;
        let (first, second) = tokio::join!(served.http("GET", &session, ""), async {
            polls(&served, 1).await;
            served.http("GET", &session, "").await
        });
        assert_eq!((first.status, first.body.as_str()), (200, "1"));
        assert_eq!((second.status, second.body.as_str()), (400, r#"{"code":3,"message":"Bad request"}"#));
        assert_eq!(served.http("GET", &session, "").await.status, 400);

        let session = served.open_polling().await;
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        let head = format!("POST /socket.io/?{session} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n4");
        slow.write_all(head.as_bytes()).await.unwrap();
        until("the first waits for its body", || served.handle.counters().posts_total == 1).await;
        assert_eq!(served.http("POST", &session, "40").await.status, 400);
        until("the session is closed", || served.handle.counters().faulty_closed_total == 2).await;
    });
}

#[test]
fn a_poll_that_goes_away_closes_the_session() {
    run(async {
        let served = echo(config());
        let session = served.open_polling().await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = format!("GET /socket.io/?{session} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        polls(&served, 1).await;
        assert_eq!(served.handle.connections(), 1);
        drop(stream);
        until("the session is gone", || served.handle.connections() == 0).await;
        assert_eq!(served.http("GET", &session, "").await.status, 400);
    });
}

#[test]
fn bytes_that_are_no_packets_close_the_session() {
    run(async {
        let served = echo(config());
        for body in ["abc", "4\u{1e}\u{1e}", "4abc", "42[\"connect\"]", "42{", "2", "b@"] {
            let session = served.open_polling().await;
            served.http("POST", &session, body).await;
            // The goodbye may be fetched once, then nothing is known of the session.
            served.http("GET", &session, "").await;
            assert_eq!(served.http("GET", &session, "").await.status, 400, "{body:?}");
            let mut client = served.websocket().await;
            client.recv_starting("0{").await;
            if body == "b@" {
                client.send_binary(&[1]).await;
            } else {
                client.send(body).await;
            }
            client.closed().await;
        }
        until("all are gone", || served.handle.connections() == 0).await;
        let (mut alive, _) = served.connect().await;
        alive.send("42[\"echo\",1]").await;
        assert_eq!(alive.recv().await, "42[\"echo\",1]");
    });
}

async fn upgrade(served: &Served, session: &str) -> Tung {
    let mut client = served.websocket_at(&session.replace("polling", "websocket")).await;
    client.send("2probe").await;
    assert_eq!(client.recv().await, "3probe");
    client
}

#[test]
fn a_session_moves_to_websocket_without_losing_a_packet() {
    run(async {
        let served = echo(config());
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        assert!(served.http("GET", &session, "").await.body.starts_with("40"));
        let (waiting, mut client) = tokio::join!(served.http("GET", &session, ""), async {
            polls(&served, 2).await;
            upgrade(&served, &session).await
        });
        assert_eq!(waiting.body, "6", "the waiting poll is released");
        assert_eq!(served.http("GET", &session, "").await.body, "6", "and each that still comes");
        served.http("POST", &session, "42[\"echo\",1]").await;
        client.send("5").await;
        assert_eq!(client.recv().await, "42[\"echo\",1]", "what waited moves too");
        client.send("42[\"echo\",2]").await;
        assert_eq!(client.recv().await, "42[\"echo\",2]");
        assert_eq!(served.handle.counters().sessions_upgraded_total, 1);
        // The old transport is refused, a second WebSocket closed, and the session is none the worse.
        assert_eq!(served.http("GET", &session, "").await.status, 400);
        assert_eq!(served.http("POST", &session, "42[\"echo\",3]").await.status, 400);
        let mut second = served.websocket_at(&session.replace("polling", "websocket")).await;
        second.closed().await;
        client.send("42[\"echo\",4]").await;
        assert_eq!(client.recv().await, "42[\"echo\",4]");
    });
}

#[test]
fn an_upgrade_that_fails_leaves_the_session_on_polling() {
    run(async {
        let served = echo(Config { upgrade_timeout: Duration::from_millis(100), ..config() });
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        served.http("GET", &session, "").await;
        let mut wrong = served.websocket_at(&session.replace("polling", "websocket")).await;
        wrong.send("2nothing").await;
        wrong.closed().await;
        upgrade(&served, &session).await.drop_line();
        let mut late = upgrade(&served, &session).await;
        late.closed().await;
        served.http("POST", &session, "42[\"echo\",1]").await;
        assert_eq!(served.http("GET", &session, "").await.body, "42[\"echo\",1]");
        let mut client = upgrade(&served, &session).await;
        client.send("5").await;
        client.send("42[\"echo\",2]").await;
        assert_eq!(client.recv().await, "42[\"echo\",2]");
    });
}

#[test]
fn the_node_pings_and_gives_up_on_who_does_not_answer() {
    run(async {
        let ping_interval = Duration::from_millis(60);
        let ping_timeout = Duration::from_millis(80);
        let served = echo(Config { ping_interval, ping_timeout, ..config() });
        let (mut lively, _) = served.connect().await;
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        served.http("GET", &session, "").await;
        assert_eq!(served.http("GET", &session, "").await.body, "2");
        // `next` answers the pings meanwhile.
        tokio::select! {
            message = lively.next() => panic!("{message:?}"),
            () = until("the silent one is gone", || served.handle.counters().ping_timeouts_total == 1) => {}
        }
        assert_eq!(served.http("GET", &session, "").await.status, 400);
        lively.send("42[\"echo\",1]").await;
        assert_eq!(lively.recv().await, "42[\"echo\",1]");
        let silence = tokio::time::timeout(Duration::from_millis(400), lively.recv()).await;
        assert!(silence.is_err(), "nothing comes, and it stays");
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn who_connects_to_no_namespace_in_time_is_closed() {
    run(async {
        let served = echo(Config { connect_timeout: Duration::from_millis(50), ..config() });
        let mut idle = served.websocket().await;
        idle.closed().await;
        served.open_polling().await;
        until("both are gone", || served.handle.connections() == 0).await;
        assert_eq!(served.handle.counters().connect_timeouts_total, 2);
    });
}

#[test]
fn a_full_node_says_so_before_any_work() {
    run(async {
        let served = echo(Config { connections_max: 2, ..config() });
        let (first, _) = served.connect().await;
        let (_second, _) = served.connect().await;
        let refused = served.http("GET", "EIO=4&transport=polling", "").await;
        assert_eq!(refused.status, 503);
        assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
        assert_eq!(served.handle.counters().connections_refused_total, 1);
        first.drop_line();
        until("one left", || served.handle.connections() == 1).await;
        assert_eq!(served.http("GET", "EIO=4&transport=polling", "").await.status, 200);
    });
}

#[test]
fn heads_bodies_and_messages_have_their_bounds() {
    run(async {
        let limits = greenroom_socketio::Limits { payload_bytes_max: 1_000, ..Default::default() };
        let header_timeout = Duration::from_millis(100);
        let served = echo(Config { limits, header_timeout, ..config() });
        let long = format!("x: {}\r\n", "y".repeat(20_000));
        assert_eq!(served.http_with("GET", "/livez", &long, "").await.status, 431);
        let session = served.open_polling().await;
        let body = "4".repeat(1_001);
        assert_eq!(served.http("POST", &session, &body).await.status, 413);
        let mut client = served.websocket().await;
        client.recv_starting("0{").await;
        client.send(&body).await;
        client.closed().await;
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "a head that never ends is not waited for");
    });
}

#[test]
fn a_slow_reader_is_closed_and_its_queue_stays_bounded() {
    run(async {
        let mut node = Node::new(Config { outbound_bytes_max: 200_000, ..config() });
        let gone = std::rc::Rc::new(std::cell::Cell::new(None));
        let told = std::rc::Rc::clone(&gone);
        node.namespace("/").on_disconnect(move |_, reason| told.set(Some(reason.as_str())));
        let served = serve(node);
        let (_silent, id) = served.connect().await;
        let text = "x".repeat(10_000);
        let mut sent = 0;
        while served.handle.counters().slow_closed_total == 0 {
            served.handle.to(&*id).emit("flood", &text);
            sent += 1;
            assert!(sent < 10_000, "the kernel's own buffers are smaller than this");
            tokio::task::yield_now().await;
        }
        until("the handler heard", || gone.get().is_some()).await;
        assert_eq!(gone.get(), Some("transport error"));
        assert_eq!(served.handle.connections(), 0);
    });
}

#[test]
fn answers_that_nobody_reads_are_bounded_too() {
    run(async {
        let served = echo(Config { outbound_bytes_max: 10_000, ..config() });
        let mut client = served.websocket().await;
        let flood = async { while client.try_send_message(Message::Ping(vec![0; 100].into())).await {} };
        let closed = until("it is closed", || served.handle.counters().slow_closed_total == 1);
        tokio::join!(flood, closed);
    });
}

#[test]
fn volatile_events_are_left_out_while_the_line_is_blocked() {
    run(async {
        let served = echo(Config { outbound_bytes_max: 100_000_000, ..config() });
        let (mut client, id) = served.connect().await;
        let text = "x".repeat(100_000);
        while served.handle.counters().volatile_dropped_total == 0 {
            served.handle.to(&*id).emit("flood", &text);
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            served.handle.to(&*id).volatile().emit("spray", &1);
        }
        served.handle.to(&*id).emit("last", &json!(1));
        // The reader wakes up: every reliable event arrives, and volatile ones pass again.
        client.recv_until("42[\"last\"").await;
        let dropped = served.handle.counters().volatile_dropped_total;
        client.send("42[\"spray\"]").await;
        assert_eq!(client.recv_until("42[\"spray\",0").await, "42[\"spray\",0]");
        assert_eq!(served.handle.counters().volatile_dropped_total, dropped);
        assert_eq!(served.handle.counters().slow_closed_total, 0);
    });
}

#[test]
fn websocket_pings_and_closes_are_answered() {
    run(async {
        let served = echo(config());
        let (mut client, _) = served.connect().await;
        client.send_message(Message::Ping(vec![7].into())).await;
        assert_eq!(client.next().await, Some(Message::Pong(vec![7].into())));
        client.send_message(Message::Close(None)).await;
        client.closed().await;
        until("the session is gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn a_node_that_ends_closes_transports_and_its_port() {
    run(async {
        let served = echo(config());
        let (mut client, _) = served.connect().await;
        let session = served.open_polling().await;
        let address = served.address;
        let polling = async { served.http("GET", &session, "").await };
        let (polled, ()) = tokio::join!(polling, async {
            polls(&served, 1).await;
            served.handle.shutdown();
        });
        assert_eq!(polled.body, "1");
        assert_eq!(client.closed().await, [], "no disconnect packet: the stock client comes back after this");
        served.ended().await;
        assert!(TcpStream::connect(address).await.is_err());
    });
}
