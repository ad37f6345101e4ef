//! What a program may choose of HTTP: who may open a session, transports, headers, cookie, CORS, IPv6.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use common::{Served, config, run, serve, until};
use flate2::read::{GzDecoder, ZlibDecoder};
use greenroom_node::config::{Cookie, Cors, Ipv6, KeptHeaders, Origins, Transports};
use greenroom_node::{Bytes, Config, EnginePacket, HeaderName, HeaderValue, Node, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OPEN: &str = "EIO=4&transport=polling";

fn target(query: &str) -> String {
    format!("/socket.io/?{query}")
}

/// Asks for a WebSocket by hand; the answer's status and head.
async fn ask_websocket(served: &Served, query: &str) -> (u16, String) {
    let headers =
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let answer = served.http_with("GET", &target(query), headers, "").await;
    (answer.status, answer.body)
}

#[test]
fn the_program_decides_who_may_open_a_session_and_hears_of_refusals() {
    run(async {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hear = Rc::clone(&heard);
        let mut node = Node::new(Config { connect_timeout: Duration::from_millis(300), ..config() });
        node.allow_request(|request| async move {
            match request.query("who") {
                Some("ann") if request.header("x-key") == Some("7") && request.is_handshake() => Ok(()),
                Some("slow") => std::future::pending().await,
                _ => Err("not \"you\"".to_owned()),
            }
        })
        .on_connection_error(move |error| {
            let told = (error.code, error.message.to_owned(), error.context.to_owned());
            assert!(error.request.url().starts_with("/socket.io/"));
            hear.borrow_mut().push(told);
        });
        let served = serve(node);
        let refused = served.http("GET", &format!("{OPEN}&who=bob"), "").await;
        assert_eq!(refused.status, 403);
        assert_eq!(
            serde_json::from_str::<Value>(&refused.body).unwrap(),
            json!({ "code": 4, "message": "not \"you\"" })
        );
        let slow = served.http("GET", &format!("{OPEN}&who=slow"), "").await;
        assert_eq!((slow.status, slow.body.as_str()), (403, r#"{"code":4,"message":"Forbidden"}"#));
        let target = target(&format!("{OPEN}&who=ann"));
        let opened = served.http_with("GET", &target, "x-key: 7\r\n", "").await;
        assert_eq!(opened.status, 200);
        served.http("GET", "EIO=4&transport=carrier", "").await;
        served.http("GET", "EIO=4&transport=polling&sid=none", "").await;
        served.http("PUT", OPEN, "").await;
        served.http("GET", "EIO=4&transport=websocket", "").await;
        served.http("GET", "EIO=3&transport=polling", "").await;
        let told = |code, message: &str, context: &str| (code, message.to_owned(), context.to_owned());
        let expected = [
            told(4, "not \"you\"", "not \"you\""),
            told(4, "Forbidden", "TIMEOUT"),
            told(0, "Transport unknown", "carrier"),
            told(1, "Session ID unknown", "none"),
            told(2, "Bad handshake method", "PUT"),
            told(3, "Bad request", "TRANSPORT_HANDSHAKE_ERROR"),
            told(5, "Unsupported protocol version", "3"),
        ];
        assert_eq!(*heard.borrow(), expected);
        assert_eq!(served.handle.counters().requests_refused_total, 7);
    });
}

#[test]
fn middlewares_and_header_hooks_shape_every_answer() {
    run(async {
        let mut node = Node::new(Config { cookie: Some(Cookie::default()), ..config() });
        node.engine_middleware(|request| {
            request.header("x-block").map(|_| {
                let mut response = Response::new(Bytes::from_static(b"blocked"));
                *response.status_mut() = StatusCode::IM_A_TEAPOT;
                response
            })
        })
        .on_initial_headers(|_, headers| {
            headers.insert("x-first", HeaderValue::from_static("1"));
        })
        .on_headers(|request, headers| {
            let post = HeaderValue::from_static(if request.method() == "POST" { "post" } else { "get" });
            headers.insert("x-each", post);
        });
        let served = serve(node);
        let blocked = served.http_with("GET", &target(OPEN), "x-block: 1\r\n", "").await;
        assert_eq!((blocked.status, blocked.body.as_str()), (418, "blocked"));
        let opened = served.http("GET", OPEN, "").await;
        let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
        let sid = open["sid"].as_str().unwrap();
        for header in ["x-first: 1", "x-each: get"] {
            assert!(opened.head.contains(header), "{}", opened.head);
        }
        let cookie = format!("set-cookie: io={}; path=/; httponly; samesite=lax", sid.to_lowercase());
        assert!(opened.head.contains(&cookie), "{}", opened.head);
        let posted = served.http("POST", &format!("{OPEN}&sid={sid}"), "40").await;
        assert!(posted.head.contains("x-each: post") && !posted.head.contains("x-first"), "{}", posted.head);
        assert!(!posted.head.contains("set-cookie"));
        let health = served.http_with("GET", "/livez", "x-block: 1\r\n", "").await;
        assert_eq!(health.status, 200);
    });
}

#[test]
fn transports_can_be_switched_off() {
    run(async {
        let only = |transports| serve(Node::new(Config { transports, ..config() }));
        let polling = only(Transports::PollingOnly);
        let opened = polling.http("GET", OPEN, "").await;
        assert!(opened.body.contains("\"upgrades\":[]"), "{}", opened.body);
        let unknown = r#"{"code":0,"message":"Transport unknown"}"#.to_owned();
        assert_eq!(ask_websocket(&polling, "EIO=4&transport=websocket").await, (400, unknown.clone()));
        let websocket = only(Transports::WebSocketOnly);
        let refused = websocket.http("GET", OPEN, "").await;
        assert_eq!((refused.status, refused.body), (400, unknown));
        websocket.connect().await;

        let fixed = serve(Node::new(Config { allow_upgrades: false, ..config() }));
        let opened = fixed.http("GET", OPEN, "").await;
        let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
        assert_eq!(open["upgrades"], json!([]));
        let query = format!("EIO=4&transport=websocket&sid={}", open["sid"].as_str().unwrap());
        assert_eq!(
            ask_websocket(&fixed, &query).await,
            (400, r#"{"code":3,"message":"Bad request"}"#.to_owned())
        );
        fixed.connect().await;
    });
}

#[test]
fn browsers_are_told_what_the_program_allows() {
    run(async {
        let cors = Cors {
            methods: HeaderValue::from_static("GET, POST, PUT"),
            headers: HeaderValue::from_static("x-key"),
            exposed_headers: Some(HeaderValue::from_static("x-first")),
            max_age: Duration::from_secs(5),
            ..Cors::default()
        };
        let origins = Origins::Listed(vec!["https://play.example".to_owned()]);
        let served = serve(Node::new(Config { cors, origins, ..config() }));
        let origin = "origin: https://play.example\r\n";
        let preflight = served.http_with("OPTIONS", &target(OPEN), origin, "").await;
        assert_eq!(preflight.status, 204);
        let always = [
            "access-control-allow-origin: https://play.example",
            "access-control-allow-credentials: true",
            "access-control-expose-headers: x-first",
            "vary: origin",
        ];
        let asked = [
            "access-control-allow-methods: get, post, put",
            "access-control-allow-headers: x-key",
            "access-control-max-age: 5",
        ];
        for line in always.iter().chain(&asked) {
            assert!(preflight.head.contains(line), "{line} in {}", preflight.head);
        }
        let opened = served.http_with("GET", &target(OPEN), origin, "").await;
        assert_eq!(opened.status, 200);
        assert!(always.iter().all(|line| opened.head.contains(line)), "{}", opened.head);
        assert!(!asked.iter().any(|line| opened.head.contains(line)), "{}", opened.head);
        let stranger =
            served.http_with("OPTIONS", &target(OPEN), "origin: https://evil.example\r\n", "").await;
        assert_eq!(stranger.status, 403);
        assert!(!stranger.head.contains("access-control"));
    });
}

#[test]
fn a_handshake_keeps_what_was_asked_to_be_kept() {
    run(async {
        let listed = KeptHeaders::Listed(vec![HeaderName::from_static("user-agent")]);
        let prefix = "nd01".parse().unwrap();
        let sid_prefix = Some(prefix);
        let mut node =
            Node::new(Config { headers_kept: listed, sid_prefix, origins: Origins::Any, ..config() });
        node.namespace("/").keep_auth().on("who", |socket, mut event| {
            let handshake = socket.handshake();
            event.reply(&json!({
                "agent": handshake.header("user-agent"),
                "host": handshake.header("host"),
                "origin": handshake.origin(),
                "cross": handshake.is_cross_origin(),
                "url": handshake.url(),
                "color": handshake.query("color"),
                "address": handshake.address().ip(),
                "recent": handshake.issued_at().elapsed().is_ok_and(|age| age.as_secs() < 60),
                "auth": socket.auth::<Value>().unwrap(),
            }));
        });
        let served = serve(node);
        let query = format!("{OPEN}&color=red");
        let headers = "user-agent: me\r\norigin: https://play.example\r\n";
        let opened = served.http_with("GET", &target(&query), headers, "").await;
        let open: Value = serde_json::from_str(&opened.body[1..]).unwrap();
        let sid = open["sid"].as_str().unwrap();
        assert!(sid.starts_with("nd01") && sid.len() == 20, "{sid}");
        let session = format!("{OPEN}&sid={sid}");
        served.http("POST", &session, "40{\"name\":\"ann\"}\u{1e}420[\"who\"]").await;
        let body = served.http("GET", &session, "").await.body;
        let answer = body.split('\u{1e}').find_map(|packet| packet.strip_prefix("430")).unwrap();
        let expected = json!([{
            "agent": "me",
            "host": null,
            "origin": "https://play.example",
            "cross": true,
            "url": "/socket.io/?EIO=4&transport=polling&color=red",
            "color": "red",
            "address": "127.0.0.1",
            "recent": true,
            "auth": { "name": "ann" },
        }]);
        assert_eq!(serde_json::from_str::<Value>(answer).unwrap(), expected);
    });
}

#[test]
fn the_program_hears_of_the_move_to_websocket() {
    run(async {
        let moved = Rc::new(RefCell::new(0));
        let count = Rc::clone(&moved);
        let mut node = Node::new(config());
        node.namespace("/").on_upgrade(move |socket| {
            assert_eq!(socket.transport().as_str(), "websocket");
            *count.borrow_mut() += 1;
        });
        let served = serve(node);
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        let mut candidate = served.websocket_at(&session.replace("polling", "websocket")).await;
        candidate.send("2probe").await;
        assert_eq!(candidate.recv().await, "3probe");
        candidate.send("5").await;
        until("it has moved", || *moved.borrow() == 1).await;
    });
}

#[test]
fn the_path_is_served_with_and_without_its_last_slash() {
    run(async {
        let served = serve(Node::new(Config { path: "/game/socket/".to_owned(), ..config() }));
        for (target, status) in [
            (format!("/game/socket/?{OPEN}"), 200),
            (format!("/game/socket?{OPEN}"), 200),
            (format!("/game/socket/more?{OPEN}"), 404),
            (format!("/socket.io/?{OPEN}"), 404),
        ] {
            assert_eq!(served.http_with("GET", &target, "", "").await.status, status, "{target}");
        }
    });
}

#[test]
fn an_ipv6_node_takes_ipv4_clients_unless_told_otherwise() {
    run(async {
        for (ipv6, takes_ipv4) in [(Ipv6::DualStack, true), (Ipv6::Only, false)] {
            let bind = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            let served = serve(Node::new(Config { bind, ipv6, ..config() }));
            let port = served.address.port();
            let by_ipv6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await;
            assert!(by_ipv6.is_ok(), "{ipv6:?}");
            let by_ipv4 = TcpStream::connect(("127.0.0.1", port)).await;
            assert_eq!(by_ipv4.is_ok(), takes_ipv4, "{ipv6:?}");
        }
    });
}

/// The raw answer to a poll of a client that takes these encodings.
async fn poll_raw(served: &Served, session: &str, encodings: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = format!(
        "GET /socket.io/?{session} HTTP/1.1\r\nhost: x\r\naccept-encoding: {encodings}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap(), body)
}

#[test]
fn long_polling_answers_are_compressed_for_who_takes_it_unless_the_program_forbids() {
    run(async {
        let (long, short) = ("x".repeat(2000), "x".repeat(900));
        type Case<'a> = (&'a str, &'a str, bool, Option<usize>, Option<&'a str>);
        let cases: [Case<'_>; 7] = [
            ("gzip, deflate", &long, true, Some(1024), Some("gzip")),
            ("deflate", &long, true, Some(1024), Some("deflate")),
            ("identity", &long, true, Some(1024), None),
            ("gzip", &short, true, Some(1024), None),
            ("gzip", &short, true, Some(10), Some("gzip")),
            ("gzip", &long, false, Some(1024), None),
            ("gzip", &long, true, None, None),
        ];
        for (encodings, text, compress, http_compression, expected) in cases {
            let served = serve(Node::new(Config { http_compression, ..config() }));
            let session = served.open_polling().await;
            assert_eq!(served.http("POST", &session, "40").await.status, 200);
            assert!(served.http("GET", &session, "").await.body.starts_with("40{"));
            served.handle.everybody().compress(compress).emit("text", text);
            let (head, body) = poll_raw(&served, &session, encodings).await;
            let told = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
            assert_eq!(told, expected, "{encodings} {compress} {http_compression:?}");
            let mut read = String::new();
            match expected {
                Some("gzip") => {
                    std::io::Read::read_to_string(&mut GzDecoder::new(&*body), &mut read).map(drop)
                }
                Some(_) => std::io::Read::read_to_string(&mut ZlibDecoder::new(&*body), &mut read).map(drop),
                None => std::io::Read::read_to_string(&mut &*body, &mut read).map(drop),
            }
            .unwrap();
            assert_eq!(read, format!("42[\"text\",\"{text}\"]"));
            assert!(expected.is_none() || body.len() < 100, "{} bytes", body.len());
        }
    });
}

/// A packet in one word, long payloads cut.
fn word(packet: &EnginePacket<'_>) -> String {
    match packet {
        EnginePacket::Open(_) => "open".to_owned(),
        EnginePacket::Text(text) => text.chars().take(12).collect(),
        EnginePacket::Binary(bytes) => format!("{bytes:?}"),
        EnginePacket::Ping(_) => "ping".to_owned(),
        EnginePacket::Pong(_) => "pong".to_owned(),
        EnginePacket::Close => "close".to_owned(),
        EnginePacket::Upgrade | EnginePacket::Noop => format!("{packet:?}"),
    }
}

#[test]
fn the_program_sees_single_packets_both_ways_and_when_all_have_left() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let note = |seen: &Rc<RefCell<Vec<String>>>| {
            let seen = Rc::clone(seen);
            move |line: String| seen.borrow_mut().push(line)
        };
        let mut node = Node::new(Config { ping_interval: Duration::from_millis(200), ..config() });
        let (came, left, drained) = (note(&seen), note(&seen), note(&seen));
        node.on_packet(move |_, packet| came(format!("< {}", word(packet))));
        node.on_packet_create(move |_, packet| left(format!("> {}", word(packet))));
        node.on_drain(move |connection| {
            drained(format!("drain {} {}", connection.waiting_bytes(), connection.sockets().len()));
        });
        node.namespace("/").on("bytes", |socket, event| {
            socket.broadcast().forward("bytes", &event);
            socket.node().everybody().forward("bytes", &event);
        });
        let served = serve(node);
        let (mut client, _) = served.connect().await;
        client.send("451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]").await;
        client.send_binary(&[7]).await;
        client.recv_starting("451-").await;
        assert_eq!(client.recv_binary().await, [7]);
        tokio::select! {
            other = client.next() => panic!("nothing else was due: {other:?}"),
            () = until("a ping was answered", || seen.borrow().iter().any(|line| line == "< pong")) => {}
        }
        client.send("1").await;
        client.closed().await;
        until("the close was heard", || seen.borrow().iter().any(|line| line == "< close")).await;
        let told = seen.borrow();
        let packets: Vec<&str> =
            told.iter().map(String::as_str).filter(|line| !line.starts_with('d')).collect();
        let first = ["> open", "< 0", "> 0{\"sid\":", "< 51-[\"bytes", "< [7]", "> 51-[\"bytes", "> [7]"];
        for (line, expected) in packets.iter().zip(first) {
            assert!(line.starts_with(expected), "{line} of {packets:?}");
        }
        let rest = &packets[first.len()..];
        assert_eq!((&rest[..2], rest.last()), (&["> ping", "< pong"][..], Some(&"< close")), "{rest:?}");
        let drains: Vec<&str> =
            told.iter().map(String::as_str).filter(|line| line.starts_with('d')).collect();
        assert_eq!(drains[0], "drain 0 0", "before a namespace was connected");
        assert!(drains[1..].iter().all(|line| *line == "drain 0 1"), "{drains:?}");
    });
}

#[test]
fn a_polling_session_tells_its_packets_too() {
    run(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (left, drained) = (Rc::clone(&seen), Rc::clone(&seen));
        let mut node = Node::new(config());
        node.on_packet_create(move |connection, packet| {
            left.borrow_mut().push(format!("{} {}", connection.transport().as_str(), word(packet)));
        });
        node.on_drain(move |_| drained.borrow_mut().push("drain".to_owned()));
        let served = serve(node);
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        let answer = served.http("GET", &session, "").await;
        assert!(answer.body.starts_with("40{"), "{answer:?}");
        let told = seen.borrow();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!((&*told[0], &*told[2]), ("polling open", "drain"));
        assert!(told[1].starts_with("polling 0{"), "{told:?}");
    });
}
