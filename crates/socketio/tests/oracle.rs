//! Compares the WebSocket framing with tungstenite, which knows nothing of ours, over memory.

use std::io::{Cursor, Read, Write};

use greenroom_socketio::ws::{Decoder, Event, MaskKey, Opcode, Role, close_payload, write_frame};
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, Role as TheirRole, frame::coding::CloseCode},
};

/// Reads what was laid in and keeps what is written.
struct Memory {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn theirs(role: Role, input: Vec<u8>) -> WebSocket<Memory> {
    let role = match role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    WebSocket::from_raw_socket(Memory { input: Cursor::new(input), output: Vec::new() }, role, None)
}

/// All messages that ours reads out of a stream that comes in pieces.
fn ours_reads(role: Role, stream: &mut [u8], piece_bytes: usize) -> Vec<Message> {
    let mut decoder = Decoder::new(role, 1 << 20);
    let mut messages = Vec::new();
    for piece in stream.chunks_mut(piece_bytes) {
        let mut feed = decoder.feed(piece);
        while let Some(event) = feed.next().expect("the other library writes no faults") {
            messages.push(match event {
                Event::Text(text) => Message::text(text),
                Event::Binary(bytes) => Message::binary(bytes.to_vec()),
                Event::Ping(bytes) => Message::Ping(bytes.to_vec().into()),
                Event::Pong(bytes) => Message::Pong(bytes.to_vec().into()),
                Event::Close(frame) => Message::Close(
                    frame
                        .code
                        .map(|code| CloseFrame { code: code.into(), reason: frame.reason.to_owned().into() }),
                ),
            });
        }
    }
    messages
}

fn message() -> impl Strategy<Value = Message> {
    let control = prop::collection::vec(any::<u8>(), 0..126);
    prop_oneof![
        ".{0,200}".prop_map(Message::text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
        (65_530usize..65_540).prop_map(|bytes| Message::binary(vec![7; bytes])),
        control.prop_map(|bytes| Message::Ping(bytes.into())),
    ]
}

fn role() -> impl Strategy<Value = (Role, Role)> {
    prop_oneof![Just((Role::Server, Role::Client)), Just((Role::Client, Role::Server))]
}

proptest! {
    #[test]
    fn ours_reads_what_tungstenite_writes(
        messages in prop::collection::vec(message(), 0..6),
        reason in ".{0,30}",
        (ours, others) in role(),
        piece_bytes in 1usize..5_000,
    ) {
        let mut writer = theirs(others, Vec::new());
        for message in &messages {
            writer.send(message.clone()).unwrap();
        }
        let close = CloseFrame { code: CloseCode::Away, reason: reason.into() };
        let close_message = Message::Close(Some(close.clone()));
        writer.close(Some(close)).unwrap();
        let mut stream = writer.get_ref().output.clone();
        let expected: Vec<Message> = messages.into_iter().chain([close_message]).collect();
        prop_assert_eq!(ours_reads(ours, &mut stream, piece_bytes), expected);
    }

    #[test]
    fn tungstenite_reads_what_ours_writes(
        messages in prop::collection::vec(message(), 0..6), (ours, others) in role(), key: MaskKey,
    ) {
        let key = (ours == Role::Client).then_some(key);
        let mut stream = Vec::new();
        for message in &messages {
            let opcode = match message {
                Message::Text(_) => Opcode::Text,
                Message::Ping(_) => Opcode::Ping,
                Message::Binary(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Opcode::Binary,
            };
            write_frame(opcode, &message.clone().into_data(), key, &mut stream);
        }
        write_frame(Opcode::Close, &close_payload(1001, "gone"), key, &mut stream);
        let mut reader = theirs(others, stream);
        for message in messages {
            prop_assert_eq!(reader.read().unwrap(), message);
        }
        let gone = CloseFrame { code: CloseCode::Away, reason: "gone".into() };
        prop_assert_eq!(reader.read().unwrap(), Message::Close(Some(gone)));
    }

    #[test]
    fn what_tungstenite_refuses_ours_refuses_too(bytes: Vec<u8>, (ours, _) in role()) {
        let mut reader = theirs(ours, bytes.clone());
        let refused = loop {
            match reader.read() {
                Ok(Message::Close(_)) => break false,
                Ok(_) => {}
                Err(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                    break false;
                }
                Err(_) => break true,
            }
        };
        let (mut decoder, mut bytes) = (Decoder::new(ours, 64 << 20), bytes);
        let mut feed = decoder.feed(&mut bytes);
        let faulty = loop {
            match feed.next() {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        prop_assert!(faulty || !refused);
    }
}
