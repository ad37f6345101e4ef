//! Tables and laws of WebSocket framing, in both roles.

use greenroom_socketio::ws::{
    CloseFrame, Decoder, Event, MaskKey, Opcode, Role, WsError, close_payload, encode_header, mask,
    server_frame, write_frame,
};
use proptest::prelude::*;

const KEY: MaskKey = [0x37, 0xfa, 0x21, 0x3d];

/// An event that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Fault(WsError),
}

fn read(role: Role, bytes_max: usize, pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<Seen> {
    let mut decoder = Decoder::new(role, bytes_max);
    let mut seen = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut feed = decoder.feed(&mut piece);
        loop {
            seen.push(match feed.next() {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => Seen::Text(text.to_owned()),
                Ok(Some(Event::Binary(bytes))) => Seen::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(bytes))) => Seen::Ping(bytes.to_vec()),
                Ok(Some(Event::Pong(bytes))) => Seen::Pong(bytes.to_vec()),
                Ok(Some(Event::Close(CloseFrame { code, reason }))) => Seen::Close(code, reason.to_owned()),
                Err(error) => Seen::Fault(error),
            });
        }
    }
    seen
}

fn client_reads(stream: &[u8]) -> Vec<Seen> {
    let whole = read(Role::Client, 100_000, &mut std::iter::once(stream));
    let bytes = read(Role::Client, 100_000, &mut stream.chunks(1));
    assert_eq!(whole, bytes, "cutting the stream changes nothing");
    whole
}

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    [encode_header(opcode, fin, payload.len(), None).as_slice(), payload].concat()
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = || Seen::Text("Hello".into());
    for (role, stream, expected) in [
        (Role::Client, &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..], hello()),
        (Role::Server, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58], hello()),
        (Role::Client, &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], hello()),
        (Role::Client, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Seen::Ping(b"Hello".to_vec())),
        (
            Role::Server,
            &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58],
            Seen::Pong(b"Hello".to_vec()),
        ),
    ] {
        assert_eq!(read(role, 100, &mut std::iter::once(stream)), std::slice::from_ref(&expected));
        assert_eq!(read(role, 100, &mut stream.chunks(1)), [expected]);
    }
}

#[test]
fn what_the_rfc_forbids_is_refused_with_its_close_code() {
    for (name, stream, error, code) in [
        ("reserved bit 1", &[0xc1, 0][..], WsError::ReservedBits, 1002),
        ("reserved bit 3", &[0x91, 0], WsError::ReservedBits, 1002),
        ("opcode 3", &[0x83, 0], WsError::UnknownOpcode { opcode: 3 }, 1002),
        ("opcode 15", &[0x8f, 0], WsError::UnknownOpcode { opcode: 15 }, 1002),
        ("a masked frame from a server", &[0x81, 0x80, 0, 0, 0, 0], WsError::Masked, 1002),
        ("a long ping", &[0x89, 126, 0, 126], WsError::ControlTooLong, 1002),
        ("a fragmented ping", &[0x09, 0], WsError::ControlFragmented, 1002),
        ("a 16-bit length for 125", &[0x82, 126, 0, 125], WsError::LengthNotMinimal, 1002),
        (
            "a 64-bit length for 65535",
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255],
            WsError::LengthNotMinimal,
            1002,
        ),
        ("a negative length", &[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0], WsError::LengthSign, 1002),
        ("a lone continuation", &[0x80, 0], WsError::NothingToContinue, 1002),
        ("a text inside a text", &[0x01, 1, b'a', 0x81, 0], WsError::MessageInsideMessage, 1002),
        ("too long", &[0x82, 127, 0, 0, 0, 0, 0, 1, 134, 161], WsError::TooLong { bytes_max: 100_000 }, 1009),
        (
            "the largest length",
            &[0x82, 127, 127, 255, 255, 255, 255, 255, 255, 255],
            WsError::TooLong { bytes_max: 100_000 },
            1009,
        ),
        ("half a character", &[0x81, 1, 0xc3], WsError::InvalidUtf8, 1007),
        ("a surrogate", &[0x81, 3, 0xed, 0xa0, 0x80], WsError::InvalidUtf8, 1007),
        ("a bad byte before the end of a fragment", &[0x01, 2, 0xff, b'a'], WsError::InvalidUtf8, 1007),
        ("a bad byte before the end of a frame", &[0x81, 5, 0xff], WsError::InvalidUtf8, 1007),
        ("half a close code", &[0x88, 1, 3], WsError::CloseTruncated, 1002),
        ("a close code for inside only", &[0x88, 2, 3, 237], WsError::CloseCode { code: 1005 }, 1002),
        ("a close reason in latin 1", &[0x88, 3, 3, 232, 0xe9], WsError::InvalidUtf8, 1007),
    ] {
        assert_eq!(client_reads(stream), [Seen::Fault(error)], "{name}");
        assert_eq!(error.close_code(), code, "{name}");
    }
    let unmasked = read(Role::Server, 10, &mut std::iter::once(&[0x81, 0][..]));
    assert_eq!(unmasked, [Seen::Fault(WsError::Unmasked)]);
}

#[test]
fn control_frames_may_come_between_fragments_and_characters_may_be_cut() {
    let stream = [
        frame(Opcode::Text, false, &[b'a', 0xe2]),
        frame(Opcode::Ping, true, b"?"),
        frame(Opcode::Continuation, false, &[]),
        frame(Opcode::Continuation, false, &[0x82]),
        frame(Opcode::Pong, true, b"!"),
        frame(Opcode::Continuation, true, &[0xac, b'b']),
        frame(Opcode::Binary, true, &[1]),
    ]
    .concat();
    assert_eq!(
        client_reads(&stream),
        [
            Seen::Ping(b"?".to_vec()),
            Seen::Pong(b"!".to_vec()),
            Seen::Text("a\u{20ac}b".into()),
            Seen::Binary(vec![1])
        ]
    );
}

#[test]
fn nothing_is_read_after_a_close_or_a_fault() {
    let close =
        [frame(Opcode::Close, true, &close_payload(1000, "bye")), frame(Opcode::Text, true, b"x")].concat();
    assert_eq!(client_reads(&close), [Seen::Close(Some(1000), "bye".into())]);
    let fault = [frame(Opcode::Continuation, true, &[]), frame(Opcode::Text, true, b"x")].concat();
    assert_eq!(client_reads(&fault), [Seen::Fault(WsError::NothingToContinue)]);
}

#[test]
fn a_limit_bounds_all_fragments_together() {
    let pieces =
        [frame(Opcode::Binary, false, &[0; 60]), frame(Opcode::Continuation, true, &[0; 41])].concat();
    let seen = read(Role::Client, 100, &mut std::iter::once(pieces.as_slice()));
    assert_eq!(seen, [Seen::Fault(WsError::TooLong { bytes_max: 100 })]);
    let seen = read(Role::Client, 101, &mut std::iter::once(pieces.as_slice()));
    assert_eq!(seen, [Seen::Binary(vec![0; 101])]);
}

#[test]
fn a_hundred_thousand_fragments_are_read_in_a_moment() {
    let mut stream = frame(Opcode::Text, false, &[]);
    for _ in 0..100_000 {
        stream.extend(frame(Opcode::Continuation, false, b"x"));
        stream.extend(frame(Opcode::Continuation, false, b""));
    }
    stream.extend(frame(Opcode::Continuation, true, b""));
    assert_eq!(client_reads(&stream), [Seen::Text("x".repeat(100_000))]);
}

#[test]
fn a_close_is_answered_by_its_code() {
    let mut out = Vec::new();
    CloseFrame { code: Some(1001), reason: "gone" }.write_reply(None, &mut out);
    CloseFrame { code: None, reason: "" }.write_reply(None, &mut out);
    assert_eq!(out, [0x88, 2, 3, 233, 0x88, 0]);
    assert_eq!(&server_frame(Opcode::Pong, b"x")[..], [0x8a, 1, b'x']);
}

/// A stream of frames, mostly valid, with the masks that a client sets if `key` is given.
fn stream(frames: &[(Opcode, bool, Vec<u8>)], key: Option<MaskKey>) -> Vec<u8> {
    let mut out = Vec::new();
    for (opcode, fin, payload) in frames {
        out.extend_from_slice(encode_header(*opcode, *fin, payload.len(), key).as_slice());
        let start = out.len();
        out.extend_from_slice(payload);
        if let Some(key) = key {
            mask(&mut out[start..], key, 0);
        }
    }
    out
}

fn any_frame() -> impl Strategy<Value = (Opcode, bool, Vec<u8>)> {
    let opcode = prop_oneof![
        3 => Just(Opcode::Continuation),
        3 => Just(Opcode::Text),
        3 => Just(Opcode::Binary),
        1 => Just(Opcode::Ping),
        1 => Just(Opcode::Close),
    ];
    let payload = prop_oneof![
        3 => ".{0,10}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    (opcode, any::<bool>(), payload)
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_gives_the_same_events(
        frames in prop::collection::vec(any_frame(), 0..8),
        cuts in prop::collection::vec(1usize..20, 1..40),
        masked: bool,
    ) {
        let role = if masked { Role::Server } else { Role::Client };
        let stream = stream(&frames, masked.then_some(KEY));
        let whole = read(role, 300, &mut std::iter::once(stream.as_slice()));
        let mut rest = stream.as_slice();
        let mut sizes = cuts.iter().cycle();
        let mut pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next()?));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(read(role, 300, &mut pieces), whole);
    }

    #[test]
    fn reading_what_was_written_gives_the_same_messages(
        messages in prop::collection::vec((any::<bool>(), ".{0,70}"), 0..6), key: MaskKey, masked: bool, cut in 1usize..9,
    ) {
        let (role, key) = if masked { (Role::Server, Some(key)) } else { (Role::Client, None) };
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for (binary, text) in &messages {
            let opcode = if *binary { Opcode::Binary } else { Opcode::Text };
            write_frame(opcode, text.as_bytes(), key, &mut out);
            expected.push(if *binary { Seen::Binary(text.clone().into_bytes()) } else { Seen::Text(text.clone()) });
        }
        prop_assert_eq!(read(role, 1_000, &mut out.chunks(cut)), expected);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>, masked: bool) {
        let role = if masked { Role::Server } else { Role::Client };
        let whole = read(role, 1_000, &mut std::iter::once(bytes.as_slice()));
        prop_assert_eq!(read(role, 1_000, &mut bytes.chunks(1)), whole);
    }
}
