//! Peers and networks at their worst: connections that go silent, ends in the middle of an upgrade, clocks that jump,
//! heads without end, messages in endless pieces.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::{DEADLINE, Served, Tung, config, run, serve, until};
use greenroom_node::{Config, Node};
use greenroom_socketio::ws::{Opcode, encode_header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

type Ends = Rc<RefCell<Vec<String>>>;

/// A node that echoes and notes why its sockets ended.
fn node(config: Config) -> (Served, Ends) {
    let ends = Ends::default();
    let noting = Rc::clone(&ends);
    let mut node = Node::new(config);
    node.namespace("/")
        .on("echo", |socket, event| socket.emit_draft(event.forward("echo").unwrap()))
        .on("flood", |socket, _| (0..100).for_each(|_| socket.emit("flood", &"x".repeat(10_000))))
        .on_disconnect(move |_, reason| noting.borrow_mut().push(reason.as_str().to_owned()));
    (serve(node), ends)
}

/// One frame of a client; the key is zero, so that payloads read as they are.
fn frame(opcode: Opcode, is_last: bool, payload: &[u8]) -> Vec<u8> {
    let header = encode_header(opcode, is_last, payload.len(), Some([0; 4]));
    [header.as_slice(), payload].concat()
}

/// A raw WebSocket of `/`, its hellos read.
async fn connected(served: &Served) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    stream.write_all(&frame(Opcode::Text, true, b"40")).await.unwrap();
    read_until(&mut stream, b"40{\"sid\":\"").await;
    read_until(&mut stream, b"}").await;
    stream
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let byte = tokio::time::timeout(DEADLINE, stream.read_u8()).await;
        seen.push(byte.expect("more bytes in time").unwrap());
    }
    seen
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset behind the last words is an end too.
    let _end = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("an end in time");
    rest
}

/// A way to the node that can fall silent: it then takes bytes from both sides, gives none on, and closes nothing.
async fn silent_way(to: SocketAddr) -> (SocketAddr, Rc<Cell<bool>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let is_silent = Rc::new(Cell::new(false));
    let silence = Rc::clone(&is_silent);
    tokio::task::spawn_local(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(to).await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            for (mut from, mut into) in [(near_read, far_write), (far_read, near_write)] {
                let silence = Rc::clone(&silence);
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
                        if !silence.get() && into.write_all(&buffer[..bytes]).await.is_err() {
                            break;
                        }
                    }
                    // Even the end of a side is kept back.
                    while silence.get() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    drop(into);
                });
            }
        }
    });
    (address, is_silent)
}

#[test]
fn a_connection_that_falls_silent_in_both_directions_is_given_up() {
    run(async {
        let quick = Duration::from_millis(150);
        let (served, ends) = node(Config { ping_interval: quick, ping_timeout: quick, ..config() });
        let (address, is_silent) = silent_way(served.address).await;
        let way = served.by(address);
        let (mut ann, _) = way.connect().await;
        let polling = way.open_polling().await;
        assert_eq!(way.http("POST", &polling, "40").await.status, 200);
        ann.send("42[\"echo\",1]").await;
        assert_eq!(ann.recv_until("42").await, "42[\"echo\",1]");
        is_silent.set(true);
        until("both are given up", || way.handle.connections() == 0).await;
        assert_eq!(*ends.borrow(), ["ping timeout", "ping timeout"]);
        assert_eq!(way.handle.counters().ping_timeouts_total, 2);
        is_silent.set(false);
    });
}

async fn probed(served: &Served, session: &str) -> Tung {
    let mut client = served.websocket_at(&session.replace("polling", "websocket")).await;
    client.send("2probe").await;
    assert_eq!(client.recv().await, "3probe");
    client
}

#[test]
fn a_session_may_end_from_either_side_in_the_middle_of_its_upgrade() {
    run(async {
        let (served, ends) = node(config());
        // The client says on polling that it goes.
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        let mut candidate = probed(&served, &session).await;
        served.http("POST", &session, "1").await;
        candidate.closed().await;
        assert_eq!(served.http("GET", &session, "").await.status, 400);
        // The server ends it.
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        assert!(served.http("GET", &session, "").await.body.starts_with("40{"));
        let mut candidate = probed(&served, &session).await;
        served.handle.everybody().close_transports();
        assert_eq!(served.http("GET", &session, "").await.body, "1");
        candidate.closed().await;
        // The last word of the upgrade comes for a session that is gone.
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        let mut candidate = probed(&served, &session).await;
        served.http("POST", &session, "1").await;
        let _late = candidate.try_send_message(Message::text("5")).await;
        candidate.closed().await;
        until("all are gone", || served.handle.connections() == 0).await;
        assert_eq!(*ends.borrow(), ["transport close", "forced server close", "transport close"]);
    });
}

#[test]
fn of_two_websockets_that_race_for_one_session_one_wins() {
    run(async {
        let (served, _) = node(config());
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        let mut first = probed(&served, &session).await;
        let mut second = served.websocket_at(&session.replace("polling", "websocket")).await;
        second.closed().await;
        first.send("5").await;
        first.send("42[\"echo\",1]").await;
        assert_eq!(first.recv_until("42").await, "42[\"echo\",1]");
        assert_eq!(served.handle.counters().sessions_upgraded_total, 1);
    });
}

#[test]
fn a_clock_that_jumps_ahead_ends_nobody_who_answers() {
    run(async {
        let second = Duration::from_secs(1);
        let (served, ends) = node(Config { ping_interval: second, ping_timeout: second, ..config() });
        let mut eve = connected(&served).await;
        read_until(&mut eve, &[0x81, 1, b'2']).await;
        let (mut ann, _) = served.connect().await;
        // Answered in time, but the node does not get to read it: as on a machine that is suspended, everything is late
        // at once afterwards.
        eve.try_write(&frame(Opcode::Text, true, b"3")).unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(15)).await;
        tokio::time::resume();
        ann.send("42[\"echo\",1]").await;
        assert_eq!(ann.recv_until("42").await, "42[\"echo\",1]");
        eve.write_all(&frame(Opcode::Text, true, b"42[\"echo\",2]")).await.unwrap();
        read_until(&mut eve, b"42[\"echo\",2]").await;
        assert_eq!(*ends.borrow(), Vec::<String>::new());
        assert_eq!(served.handle.connections(), 2);
    });
}

#[test]
fn sixty_four_kilobytes_of_headers_are_refused_on_every_way_in() {
    run(async {
        let (served, _) = node(config());
        let one = format!("x-long: {}\r\n", "y".repeat(64 * 1024));
        let many: String = (0..2000).map(|n| format!("x-{n:05}: {}\r\n", "y".repeat(20))).collect();
        let upgrade = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nconnection: upgrade\r\n";
        for (kind, headers) in [("", &one), (upgrade, &one), ("", &many), (upgrade, &many)] {
            for step in [usize::MAX, 10_000] {
                let request =
                    format!("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n{kind}{headers}\r\n");
                let mut stream = TcpStream::connect(served.address).await.unwrap();
                for piece in request.as_bytes().chunks(step.min(request.len())) {
                    // It may have been turned away by then.
                    let _sent = stream.write_all(piece).await;
                    tokio::task::yield_now().await;
                }
                let answer = rest(&mut stream).await;
                let is_refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 ");
                assert!(is_refused, "{}", String::from_utf8_lossy(&answer));
            }
        }
        assert_eq!(served.handle.connections(), 0);
        served.connect().await;
    });
}

#[test]
fn messages_in_endless_pieces_stay_within_their_bound() {
    run(async {
        let (served, _) = node(config());
        let mut stream = connected(&served).await;
        // Empty pieces add up to nothing.
        let mut bytes = frame(Opcode::Text, false, b"42[\"echo\"");
        (0..10_000).for_each(|_| bytes.extend(frame(Opcode::Continuation, false, b"")));
        bytes.extend(frame(Opcode::Ping, true, &[b'p'; 125]));
        bytes.extend(frame(Opcode::Continuation, true, b",1]"));
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(read_until(&mut stream, &[b'p'; 125]).await.len(), 127);
        assert_eq!(read_until(&mut stream, b"42[\"echo\",1]").await.len(), 14);
        // An invalid character whose halves come in two pieces.
        let mut other = connected(&served).await;
        let cut =
            [frame(Opcode::Text, false, b"42[\"\xe2\x82"), frame(Opcode::Continuation, true, b"\x28\"]")];
        other.write_all(&cut.concat()).await.unwrap();
        assert_eq!(rest(&mut other).await, [&[0x88, 2][..], &1007u16.to_be_bytes()].concat());
        // Pieces that are each small enough, and too much together.
        stream.write_all(&frame(Opcode::Binary, false, &[0; 60_000])).await.unwrap();
        for _ in 0..20 {
            // It is turned away on the way.
            let _sent = stream.write_all(&frame(Opcode::Continuation, false, &[0; 60_000])).await;
        }
        let last = rest(&mut stream).await;
        assert!(last.is_empty() || last == [&[0x88, 2][..], &1009u16.to_be_bytes()].concat(), "{last:?}");
        until("both are gone", || served.handle.connections() == 0).await;
    });
}

#[test]
fn a_polling_client_that_never_polls_is_closed_before_it_costs_much() {
    run(async {
        let (served, ends) = node(Config { outbound_bytes_max: 300_000, ..config() });
        let session = served.open_polling().await;
        served.http("POST", &session, "40").await;
        served.http("POST", &session, "42[\"flood\"]").await;
        until("it is closed", || served.handle.counters().slow_closed_total == 1).await;
        until("it is gone", || served.handle.connections() == 0).await;
        assert_eq!(*ends.borrow(), ["transport error"]);
        assert_eq!(served.http("GET", &session, "").await.status, 400);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_message_ends_the_session_at_once() {
    run(async {
        let (served, ends) = node(config());
        let mut stream = connected(&served).await;
        let half = frame(Opcode::Text, true, b"42[\"echo\",1]");
        stream.write_all(&half[..9]).await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        until("it is gone", || served.handle.connections() == 0).await;
        let ended = ends.borrow().concat();
        assert!(ended == "transport close" || ended == "transport error", "{ended}");
    });
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_seen_at_once() {
    run(async {
        let (served, ends) = node(config());
        let mut stream = connected(&served).await;
        stream.write_all(&frame(Opcode::Text, true, b"42[\"echo\",1]")).await.unwrap();
        drop(stream);
        until("it is gone", || served.handle.connections() == 0).await;
        assert_eq!(ends.take(), ["transport close"]);
        // The same where the request, the connect and the end come in one piece.
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&[UPGRADE.as_bytes(), &frame(Opcode::Text, true, b"40")].concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.windows(3).any(|three| three == b"40{"), "{}", String::from_utf8_lossy(&answer));
        until("it is gone", || served.handle.connections() == 0).await;
    });
}
