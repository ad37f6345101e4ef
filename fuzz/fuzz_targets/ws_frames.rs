//! Reads a WebSocket stream whole and cut; the same events must come out.
#![no_main]

use greenroom_socketio::ws::{Decoder, Event, Opcode, Role, WsError, write_frame};
use libfuzzer_sys::fuzz_target;

/// An event that owns its payload.
#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Fault(WsError),
}

fn read<'a>(role: Role, bytes_max: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
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
                Ok(Some(Event::Close(frame))) => Seen::Close(frame.code, frame.reason.to_owned()),
                Err(error) => Seen::Fault(error),
            });
        }
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let Some((&[choice, first, second, third], stream)) = input.split_first_chunk() else { return };
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let bytes_max = if choice & 2 == 0 { 200 } else { 70_000 };
    let whole = read(role, bytes_max, std::iter::once(stream));

    let sizes = [first, second, third].map(|size| usize::from(size).max(1));
    let mut rest = stream;
    let mut turn = sizes.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let (piece, after) = rest.split_at(rest.len().min(*turn.next()?));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(read(role, bytes_max, pieces), whole);

    // What was understood can be sent back and is understood the same.
    let (answering, key) = match role {
        Role::Server => (Role::Client, None),
        Role::Client => (Role::Server, Some([choice, first, second, third])),
    };
    let mut answer = Vec::new();
    let mut messages = Vec::new();
    for event in whole {
        let (opcode, payload) = match &event {
            Seen::Text(text) => (Opcode::Text, text.as_bytes()),
            Seen::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
            Seen::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
            Seen::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
            Seen::Close(..) | Seen::Fault(_) => break,
        };
        write_frame(opcode, payload, key, &mut answer);
        messages.push(event);
    }
    assert_eq!(read(answering, bytes_max, std::iter::once(answer.as_slice())), messages);
});
