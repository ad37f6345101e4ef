//! Owns the proof of what a connection says and tells, byte by byte.
//! Never opens a socket.

use greenroom_socketio::{engine::EnginePacket, ws::Role};

use super::*;

const OPEN: &str = r#"0{"sid":"s","upgrades":[],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#;

/// A link and the far end's reading of what it sends.
struct Wire {
    link: Link,
    server: ws::Decoder,
    heard: Vec<String>,
}

impl Wire {
    fn new(auth: Option<&str>) -> Self {
        Self {
            link: Link::new(Protocol::SocketIo, auth.map(str::to_owned), Draws::new(1, 1)),
            server: ws::Decoder::new(Role::Server, 1_000),
            heard: Vec::new(),
        }
    }

    /// Hands texts over as frames, cut into pieces of `piece` bytes.
    fn hand(&mut self, texts: &[&str], now_ms: u64, piece: usize) {
        let mut bytes = Vec::new();
        for text in texts {
            ws::write_frame(Opcode::Text, text.as_bytes(), None, &mut bytes);
        }
        let now = Duration::from_millis(now_ms);
        for piece in bytes.chunks_mut(piece) {
            let heard = &mut self.heard;
            self.link.handle_bytes(piece, now, &mut |what| heard.push(format!("{what:?}")));
        }
    }

    fn sent(&mut self) -> Vec<String> {
        let mut bytes = self.link.out().to_vec();
        self.link.wrote(bytes.len());
        let mut feed = self.server.feed(&mut bytes);
        let mut sent = Vec::new();
        while let Some(event) = feed.next().unwrap() {
            sent.push(if let ws::Event::Text(text) = event { text.to_owned() } else { format!("{event:?}") });
        }
        sent
    }
}

#[test]
fn a_link_opens_answers_pings_and_tells_events_however_the_bytes_are_cut() {
    for piece in [1, 7, 10_000] {
        let mut wire = Wire::new(Some(r#"{"token":"t"}"#));
        wire.hand(&[OPEN], 0, piece);
        assert_eq!(wire.sent(), [r#"40{"token":"t"}"#]);
        wire.hand(
            &[r#"40{"sid":"x","pid":"p"}"#, "2", r#"42["state",{"t":1},2]"#, r#"42["bare"]"#],
            10,
            piece,
        );
        assert_eq!(wire.sent(), ["3"]);
        assert_eq!(
            wire.heard,
            ["Connected(None)", r#"Event("state", Some("{\"t\":1}"))"#, r#"Event("bare", None)"#],
            "in pieces of {piece}"
        );
    }
}

#[test]
fn every_end_is_told_once_and_with_its_kind() {
    let cases = [
        ("41", "Closed(Server)"),
        ("1", r#"Closed(Transport("closed by the server"))"#),
        ("9", r#"Closed(Transport("engine packet type '9' is unknown"))"#),
        ("47", r#"Closed(Transport("packet type is unknown"))"#),
        (r#"44{"message":"nope","data":{"code":"token_used","message":"m"}}"#, r#"Refused("token_used")"#),
        (r#"44{"message":"nope"}"#, r#"Refused("nope")"#),
    ];
    for (text, expected) in cases {
        let mut wire = Wire::new(None);
        wire.hand(&[OPEN, text, text], 0, 10_000);
        assert_eq!(wire.heard[0], expected, "{text}");
        let ends = wire.heard.iter().filter(|word| word.starts_with("Closed")).count();
        assert_eq!(ends, usize::from(expected.starts_with("Closed")), "{text}");
    }
}

#[test]
fn a_websocket_close_is_answered_and_told_with_its_code() {
    let mut wire = Wire::new(None);
    let mut bytes = Vec::new();
    ws::write_frame(Opcode::Close, &ws::close_payload(1001, "bye"), None, &mut bytes);
    let heard = &mut wire.heard;
    wire.link.handle_bytes(&mut bytes, Duration::ZERO, &mut |what| heard.push(format!("{what:?}")));
    assert_eq!(wire.heard, [r#"Closed(Transport("closed by the server with code 1001"))"#]);
    assert_eq!(wire.sent(), [r#"Close(CloseFrame { code: Some(1001), reason: "" })"#]);
}

#[test]
fn a_silent_server_is_given_up() {
    let mut wire = Wire::new(None);
    let mut closed = Vec::new();
    wire.hand(&[OPEN], 0, 10_000);
    wire.hand(&["2"], 300, 10_000);
    for now_ms in [799, 800, 900] {
        wire.link.handle_time(Duration::from_millis(now_ms), &mut |what| {
            closed.push(format!("{now_ms} {what:?}"));
        });
    }
    assert_eq!(closed, [r#"800 Closed(Transport("ping timeout"))"#]);
}

#[test]
fn leaving_says_goodbye_and_hears_nothing_more() {
    let mut wire = Wire::new(None);
    wire.hand(&[OPEN, r#"40{"sid":"x"}"#], 0, 10_000);
    wire.link.emit("steer", r#"{"x":1}"#, None, &mut |_| ()).unwrap();
    wire.link.leave();
    wire.link.leave();
    wire.hand(&[r#"42["late"]"#, "41"], 1, 10_000);
    assert_eq!(wire.heard, ["Connected(None)"]);
    assert_eq!(
        wire.sent(),
        ["40", r#"42["steer",{"x":1}]"#, "41", r#"Close(CloseFrame { code: Some(1000), reason: "" })"#]
    );
    assert!(wire.link.has_ended());
}

#[test]
fn a_server_that_does_not_read_ends_the_link() {
    let mut wire = Wire::new(None);
    wire.hand(&[OPEN, r#"40{"sid":"x"}"#], 0, 10_000);
    let argument = format!("\"{}\"", "x".repeat(1_000));
    let mut heard = Vec::new();
    for _ in 0..100 {
        wire.link.emit("steer", &argument, None, &mut |what| heard.push(format!("{what:?}"))).unwrap();
    }
    assert_eq!(heard, [r#"Closed(Transport("the server does not read"))"#]);
    assert!(wire.link.out().len() <= OUT_BYTES_MAX);
}

#[test]
fn frames_of_a_client_are_masked() {
    let mut link = Link::new(Protocol::SocketIo, None, Draws::new(1, 1));
    let mut open = Vec::new();
    EnginePacket::Open(&OPEN[1..]).write_frame(None, &mut open);
    link.handle_bytes(&mut open, Duration::ZERO, &mut |_| ());
    assert_eq!(link.out()[1] & 0x80, 0x80);
}

#[test]
fn an_acknowledgement_is_asked_for_and_told_by_its_number() {
    let mut wire = Wire::new(None);
    wire.hand(&[OPEN, r#"40{"sid":"x"}"#], 0, 10_000);
    wire.link.emit("say", r#""hi""#, Some(7), &mut |_| ()).unwrap();
    assert_eq!(wire.sent(), ["40", r#"427["say","hi"]"#]);
    wire.hand(&[r#"437[1]"#], 1, 10_000);
    assert_eq!(wire.heard, ["Connected(None)", "Acked(7)"]);
}

#[test]
fn a_bare_websocket_says_and_hears_texts_as_they_are() {
    let mut wire = Wire::new(None);
    wire.link = Link::new(Protocol::WebSocket, None, Draws::new(1, 1));
    wire.link.emit("message", "42[hello", None, &mut |_| ()).unwrap();
    wire.hand(&["0 whatever"], 0, 3);
    assert_eq!(wire.heard, [r#"Event("message", Some("0 whatever"))"#]);
    wire.link.leave();
    assert_eq!(wire.sent(), ["42[hello", r#"Close(CloseFrame { code: Some(1000), reason: "" })"#]);
}

#[test]
fn a_session_is_known_again_by_its_pid_and_goes_on_after_the_last_offset() {
    let open = |session: Session, reply: &str| {
        let mut wire = Wire::new(Some(r#"{"token":"t"}"#));
        let auth = session.beside(Some(r#"{"token":"t"}"#));
        wire.link = Link::new(Protocol::SocketIo, auth, Draws::new(1, 1)).continuing(session);
        wire.hand(&[OPEN, reply], 0, 10_000);
        let asked = wire.sent().remove(0);
        (wire, asked)
    };
    let (mut first, asked) = open(Session::Untold, r#"40{"sid":"s","pid":"p"}"#);
    assert_eq!(
        (asked.as_str(), first.heard.as_slice()),
        (r#"40{"token":"t"}"#, &["Connected(None)".to_owned()][..])
    );
    let unheard = first.link.take_session();
    assert_eq!(unheard.beside(None).unwrap(), r#"{"pid":"p"}"#);
    let (mut second, asked) = open(unheard, r#"40{"sid":"s","pid":"p"}"#);
    assert_eq!(asked, r#"40{"pid":"p","token":"t"}"#, "nothing came yet: no offset");
    assert_eq!(second.heard, ["Connected(Recovered)"]);
    second.hand(&[r#"42["e",{"n":1},"o-1"]"#, r#"42["e",{"n":2},"o-2"]"#, r#"42["volatile",7]"#], 1, 10_000);
    let (mut third, asked) = open(second.link.take_session(), r#"40{"sid":"s","pid":"p"}"#);
    assert_eq!(asked, r#"40{"pid":"p","offset":"o-2","token":"t"}"#);
    let cases = [
        (r#"40{"sid":"s2","pid":"p2"}"#, "Connected(New)"),
        (r#"40{"sid":"s2"}"#, "Connected(New)"),
        (r#"40{"sid":"s2","pid":"p"}"#, "Connected(Mixed)"),
        (r#"40{"sid":"s","pid":"p2"}"#, "Connected(Mixed)"),
    ];
    let session = third.link.take_session();
    for (reply, heard) in cases {
        assert_eq!(open(session.clone(), reply).0.heard, [heard], "{reply}");
    }
}
