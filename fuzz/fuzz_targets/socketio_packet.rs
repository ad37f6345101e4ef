//! Reads a packet's text and its attachments, cut at 0xff; a relayed packet must read the same over polling.
#![no_main]

use greenroom_socketio::{
    Limits,
    engine::{EnginePacket, PayloadReader},
    packet::{Decoder, Draft, Packet, PacketKind, Prepared},
};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const LIMITS: Limits = Limits { attachment_bytes_max: 64, namespace_bytes_max: 32, ..Limits::DEFAULT };

fn read(decoder: &mut Decoder, packet: EnginePacket<'_>) -> Option<Packet> {
    match packet {
        EnginePacket::Text(text) => decoder.handle_text(text, &LIMITS).expect("it was accepted before"),
        EnginePacket::Binary(bytes) => {
            decoder.handle_binary(&bytes, &LIMITS).expect("it was accepted before")
        }
        other => panic!("a prepared packet is made of messages, not {other:?}"),
    }
}

fn relay(packet: &Packet) -> Option<Prepared> {
    let draft = match packet.kind() {
        PacketKind::Event => {
            Draft::event(packet.event().expect("an event has a name")).expect("it is not reserved")
        }
        PacketKind::Ack => Draft::ack(),
        PacketKind::Connect | PacketKind::Disconnect | PacketKind::ConnectError => return None,
    };
    let draft = draft.args_of(packet).expect("the draft has no attachments");
    Some(draft.prepare(packet.namespace(), packet.ack_id()).expect("what was received can be sent"))
}

fuzz_target!(|input: &[u8]| {
    let mut pieces = input.split(|byte| *byte == 0xff);
    let Some(Ok(text)) = pieces.next().map(std::str::from_utf8) else { return };
    let mut decoder = Decoder::new();
    let Ok(mut packet) = decoder.handle_text(text, &LIMITS) else { return };
    for piece in pieces {
        let Ok(next) = decoder.handle_binary(piece, &LIMITS) else { return };
        packet = next;
    }
    let Some(packet) = packet else { return };
    if !packet.data().is_empty() {
        serde_json::from_str::<IgnoredAny>(packet.data()).expect("accepted json is json");
    }
    let args: Vec<&str> = packet.args().collect();
    for arg in &args {
        serde_json::from_str::<IgnoredAny>(arg).expect("an argument is json");
    }
    let values: Vec<IgnoredAny> =
        serde_json::from_str(&format!("[{}]", packet.args_raw())).expect("all arguments are an array");
    assert_eq!(values.len(), args.len());

    let Some(prepared) = relay(&packet) else { return };
    let mut relayed = None;
    for piece in PayloadReader::new(prepared.polling(), usize::MAX).expect("it is utf-8") {
        relayed = read(&mut decoder, piece.expect("a prepared packet is a payload"));
    }
    let relayed = relayed.expect("it is complete");
    assert_eq!(relayed.event(), packet.event());
    assert_eq!(relayed.ack_id(), packet.ack_id());
    assert_eq!(relayed.namespace(), packet.namespace());
    assert_eq!(relayed.args().collect::<Vec<_>>(), args);
    assert_eq!(relayed.attachments(), packet.attachments());
    if packet.kind() == PacketKind::Event {
        let longer = prepared.with_arg("\"1-0\"").expect("an event takes an argument");
        let mut decoder = Decoder::new();
        let mut read_again = decoder.handle_text(longer.text(), &LIMITS).expect("it stays a packet");
        for attachment in longer.attachments() {
            read_again = decoder.handle_binary(&attachment, &LIMITS).expect("the attachments are the same");
        }
        let read_again = read_again.expect("it is complete");
        assert_eq!(read_again.args().last(), Some("\"1-0\""));
        assert_eq!(read_again.args().count(), args.len() + 1);
    }
});
