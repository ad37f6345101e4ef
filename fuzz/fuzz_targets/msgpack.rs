//! Reads a message in MessagePack; what is accepted is written again and must read the same.
#![no_main]

use greenroom_socketio::{
    Limits,
    packet::{Draft, Msgpack, PacketKind, unpack},
};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const LIMITS: Limits = Limits { attachment_bytes_max: 64, namespace_bytes_max: 32, ..Limits::DEFAULT };

/// Bytes of the header of an unmasked frame.
fn header_bytes(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

fuzz_target!(|input: &[u8]| {
    let Ok(packet) = unpack(input, &LIMITS) else { return };
    // Six bytes of JSON for a control character, and a few more for heads of values.
    assert!(packet.text().len() <= 40 * input.len());
    if !packet.data().is_empty() {
        serde_json::from_str::<IgnoredAny>(packet.data()).expect("what is written is json");
    }
    let draft = match packet.kind() {
        PacketKind::Event => {
            Draft::event(packet.event().expect("an event has a name")).expect("it is not reserved")
        }
        PacketKind::Ack => Draft::ack(),
        PacketKind::Connect | PacketKind::Disconnect | PacketKind::ConnectError => return,
    };
    let draft = draft.args_of(&packet).expect("the draft has no attachments");
    let prepared = draft.prepare(packet.namespace(), packet.ack_id()).expect("what was received can be sent");
    let packed = prepared.written_by(&Msgpack).expect("it is not deeper than allowed");
    let frame = packed.frames().next().expect("there is one");
    let again = unpack(&frame[header_bytes(frame)..], &LIMITS).expect("what is written can be read");
    assert_eq!(again.event(), packet.event());
    assert_eq!(again.ack_id(), packet.ack_id());
    assert_eq!(again.namespace(), packet.namespace());
    assert_eq!(again.args().count(), packet.args().count());
});
