//! What peers do to a TCP connection, byte by byte: violations of framing, cut texts, requests in pieces, caps.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{config, run, serve, until};
use greenroom_node::config::AddressCap;
use greenroom_node::{Config, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn node(config: Config) -> common::Served {
    let mut node = Node::new(config);
    node.namespace("/").on("echo", |_, mut event| {
        if let Some(ack) = event.ack() {
            ack.send_args_of(&event);
        }
    });
    serve(node)
}

/// A frame as a client sends it, its bits given raw. The mask is zero, so that payloads read as they are.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(0x80 | length),
        Ok(_) | Err(_) => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let byte = tokio::time::timeout(common::DEADLINE, stream.read_u8()).await;
        seen.push(byte.expect("more bytes in time").unwrap());
    }
    seen
}

/// A connection of `/`, its hellos read.
async fn connected(served: &common::Served) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    read_until(&mut stream, b"\r\n\r\n").await;
    read_until(&mut stream, b"}").await;
    stream.write_all(&frame(0x81, b"40")).await.unwrap();
    read_until(&mut stream, b"}").await;
    stream
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(common::DEADLINE, stream.read_to_end(&mut rest)).await;
    // A reset behind the last words is an end too.
    let _reset_or_end = read.expect("the node ends the connection");
    rest
}

#[test]
fn each_violation_of_framing_is_closed_with_its_code() {
    let unmasked = vec![0x81, 2, b'4', b'0'];
    let nested = [frame(0x01, b"42"), frame(0x81, b"42")].concat();
    let cut_text = [frame(0x01, b"42[\"\xf0\x9f"), frame(0x80, b"xx\"]")].concat();
    let huge = vec![0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let cases: [(&str, Vec<u8>, u16); 11] = [
        ("an unmasked frame", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"2"), 1002),
        ("an unknown opcode", frame(0x83, b""), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a message inside another", nested, 1002),
        ("a close code that is cut", frame(0x88, b"\x03"), 1002),
        ("bytes that are no text", frame(0x81, b"4\xff"), 1007),
        ("a text that stays cut", cut_text, 1007),
        ("a length without end", huge, 1009),
    ];
    run(async {
        let served = node(config());
        for (name, bytes, code) in cases {
            let mut stream = connected(&served).await;
            stream.write_all(&bytes).await.unwrap();
            let last = rest(&mut stream).await;
            assert_eq!(last, [&[0x88, 2][..], &code.to_be_bytes()].concat(), "{name}");
        }
        until("all are gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn what_led_to_an_end_is_told_beside_the_reason() {
    run(async {
        let told = Rc::new(RefCell::new(Vec::new()));
        let telling = Rc::clone(&told);
        let mut node = Node::new(Config { outbound_bytes_max: 1000, ..config() });
        node.namespace("/").on_disconnect(move |socket, reason| {
            telling.borrow_mut().push(format!("{reason}: {:?}", socket.disconnect_details()));
        });
        let served = serve(node);
        let ends: [(&[u8], &str); 5] = [
            (&frame(0x88, b"\x03\xe8bye"), "transport close: Some(\"websocket close 1000 bye\")"),
            (&frame(0x88, b""), "transport close: Some(\"websocket close\")"),
            (&frame(0x81, b"42[1"), "parse error: Some("),
            (&frame(0x83, b""), "parse error: Some("),
            (&frame(0x81, b"41"), "client namespace disconnect: None"),
        ];
        for (bytes, expected) in ends {
            let mut stream = connected(&served).await;
            stream.write_all(bytes).await.unwrap();
            until(expected, || told.borrow().last().is_some_and(|told| told.starts_with(expected))).await;
            told.borrow_mut().clear();
        }
        let _stream = connected(&served).await;
        served.handle.emit("a", &"a".repeat(600));
        served.handle.emit("b", &"b".repeat(600));
        let expected = "transport error: Some(\"more waited for the client than may\")";
        until(expected, || told.borrow().last().is_some_and(|told| told == expected)).await;
    });
}

#[test]
fn control_frames_between_fragments_and_a_character_cut_in_two_are_fine() {
    run(async {
        let served = node(config());
        let mut stream = connected(&served).await;
        let text = "420[\"echo\",\"\u{1f600}\"]".as_bytes();
        for cut in 0..=text.len() {
            let pieces = [
                frame(0x01, &text[..cut]),
                frame(0x89, b"hi"),
                frame(0x00, b""),
                frame(0x8a, b""),
                frame(0x80, &text[cut..]),
            ];
            stream.write_all(&pieces.concat()).await.unwrap();
            assert_eq!(read_until(&mut stream, b"]").await[..4], [0x8a, 2, b'h', b'i'], "{cut}");
        }
    });
}

#[test]
fn bytes_that_come_one_by_one_are_the_same_bytes() {
    run(async {
        let served = node(config());
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = [UPGRADE.as_bytes(), &frame(0x81, b"40"), &frame(0x81, b"420[\"echo\",1]")].concat();
        for byte in hello {
            stream.write_u8(byte).await.unwrap();
            tokio::task::yield_now().await;
        }
        let seen = read_until(&mut stream, b"430[1]").await;
        assert!(seen.starts_with(b"HTTP/1.1 101 "));
        drop(stream);
        until("it is gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn a_peer_that_says_nothing_or_vanishes_inside_its_request_holds_no_connection() {
    run(async {
        let header_timeout = Duration::from_millis(50);
        let served = node(Config { header_timeout, connections_max: 2, ..config() });
        let mut silent = TcpStream::connect(served.address).await.unwrap();
        assert_eq!(rest(&mut silent).await, b"");
        let mut vanished = TcpStream::connect(served.address).await.unwrap();
        vanished.write_all(&UPGRADE.as_bytes()[..60]).await.unwrap();
        drop(vanished);
        for _ in 0..4 {
            drop(connected(&served).await);
            until("the last one is gone", || served.handle.connections() == 0).await;
        }
    });
}

#[test]
fn a_second_websocket_of_a_session_is_turned_away_and_the_first_goes_on() {
    run(async {
        let served = node(config());
        let mut first = TcpStream::connect(served.address).await.unwrap();
        first.write_all(UPGRADE.as_bytes()).await.unwrap();
        read_until(&mut first, b"\r\n\r\n").await;
        let open = read_until(&mut first, b"}").await;
        let open = String::from_utf8_lossy(&open).into_owned();
        let sid = open.split('"').nth(3).unwrap();
        let mut second = TcpStream::connect(served.address).await.unwrap();
        let request = UPGRADE.replace("transport=websocket", &format!("transport=websocket&sid={sid}"));
        second.write_all(request.as_bytes()).await.unwrap();
        rest(&mut second).await;
        first.write_all(&[frame(0x81, b"40"), frame(0x81, b"420[\"echo\",2]")].concat()).await.unwrap();
        read_until(&mut first, b"430[2]").await;
    });
}

#[test]
fn one_address_may_hold_so_many_connections_and_no_more() {
    run(async {
        let served = node(Config { connections_per_address: AddressCap::Every(1), ..config() });
        let first = connected(&served).await;
        assert_eq!(served.http("GET", "EIO=4&transport=polling", "").await.status, 503);
        // Whoever asks for the health of a full node is told all the same.
        assert_eq!(served.http_with("GET", "/livez", "", "").await.status, 200);
        assert_eq!(served.http_with("GET", "/readyz", "", "").await.status, 200);
        drop(first);
        until("it is gone", || served.handle.connections() == 0).await;
        assert_eq!(served.http("GET", "EIO=4&transport=polling", "").await.status, 200);
    });
}

#[test]
fn sessions_that_come_too_fast_are_told_when_to_come_back_and_health_still_answers() {
    run(async {
        let served = node(Config { handshakes_per_second_max: 1, ..config() });
        let _first = connected(&served).await;
        let mut second = TcpStream::connect(served.address).await.unwrap();
        second.write_all(UPGRADE.as_bytes()).await.unwrap();
        let answer = String::from_utf8(rest(&mut second).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert_eq!(served.http("GET", "EIO=4&transport=polling", "").await.status, 503);
        assert_eq!(served.http_with("GET", "/livez", "", "").await.status, 200);
        assert_eq!(served.handle.counters().connections_refused_total, 2);
    });
}
