//! Packets in MessagePack: what the npm parser wrote is read, and what is written is read the same as the text form.

use bytes::Bytes;
use greenroom_socketio::{
    Limits, SocketId,
    packet::{AckId, DecodeError, Decoder, Draft, JsonError, Msgpack, Packet, Prepared, unpack},
};
use proptest::prelude::*;
use serde_json::{Value, value::RawValue};

const LIMITS: Limits = Limits::DEFAULT;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// The message's bytes: the only frame without its header, a short one here.
fn packed(packet: &Prepared) -> Vec<u8> {
    let packed = packet.written_by(&Msgpack).expect("it is not deep");
    let frames: Vec<&Bytes> = packed.frames().collect();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][0], 0x82, "a whole binary frame");
    let header = match frames[0][1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frames[0][header..].to_vec()
}

#[test]
fn what_the_npm_parser_writes_is_read() {
    let cases: [(&str, &str, &[&[u8]]); 6] = [
        ("83a47479706500a36e7370a12fa464617461d40000", "0", &[]),
        ("83a47479706500a36e7370a62f613f783d31a46461746181a5746f6b656ea174", r#"0/a?x=1,{"token":"t"}"#, &[]),
        (
            "84a47479706502a36e7370a12fa46461746197a568656c6c6f01ffcb3ff8000000000000c0c3a2c3a9a76f7074696f6e7381a8636f6d7072657373c3",
            "2[\"hello\",1,-1,1.5,null,true,\"\u{e9}\"]",
            &[],
        ),
        (
            "84a47479706502a36e7370a62f61646d696ea26964cd012ca46461746192a17883a464656570c403010203a47768656ed7000000018bcfe5687ba4676f6e65d40000",
            r#"51-/admin,300["x",{"deep":{"_placeholder":true,"num":0},"when":"2023-11-14T22:13:20.123Z","gone":null}]"#,
            &[&[1, 2, 3]],
        ),
        (
            "84a47479706503a36e7370a12fa2696400a46461746191c7010009",
            r#"61-0[{"_placeholder":true,"num":0}]"#,
            &[&[9]],
        ),
        ("82a47479706501a36e7370a62f61646d696e", "1/admin,", &[]),
    ];
    for (hex, text, attachments) in cases {
        let packet = unpack(&bytes(hex), &LIMITS).unwrap_or_else(|error| panic!("{hex}: {error}"));
        assert_eq!(packet.text(), text);
        assert_eq!(packet.attachments(), attachments);
    }
}

#[test]
fn what_is_no_packet_is_refused() {
    let key = "a47479706502a36e7370a12fa464617461"; // type 2, nsp "/", data
    let cases = [
        (String::new(), "invalid messagepack"),
        ("c0".into(), "invalid messagepack"),
        ("83a474".into(), "invalid messagepack"),
        ("80".into(), "packet type is unknown"),
        ("82a47479706505a36e7370a12f".into(), "packet type is unknown"),
        ("82a474797065cb4000000000000000a36e7370a12f".into(), "invalid messagepack"),
        ("81a47479706500".into(), "a namespace has a control character"),
        ("82a47479706500a36e7370a161".into(), "a namespace has a control character"),
        ("82a47479706500a36e7370a32f2c61".into(), "a namespace has a control character"),
        (format!("83{key}91a178ff"), "invalid messagepack"),
        (format!("83{key}91a1ff"), "invalid messagepack"),
        (format!("83{key}91c1"), "invalid messagepack"),
        (format!("83{key}dfffffffff"), "invalid messagepack"),
        (format!("83{key}ddffffffff"), "invalid messagepack"),
        (format!("83{key}c6ffffffff"), "invalid messagepack"),
        (format!("83{key}91d40100"), "invalid messagepack"),
        (format!("83{key}81a161a162"), "the payload does not fit the packet type"),
        (format!("83{key}90"), "the payload does not fit the packet type"),
        (format!("83{key}91aa646973636f6e6e656374"), "event name \"disconnect\" is reserved"),
        (
            "83a47479706503a36e7370a12fa46461746190".into(),
            "an ack id is missing, out of range or out of place",
        ),
        (
            "83a47479706500a36e7370a12fa46461746181a16bc40101".into(),
            "the payload does not fit the packet type",
        ),
    ];
    for (hex, expected) in cases {
        let error = unpack(&bytes(&hex), &LIMITS).map(|packet| packet.text().to_owned()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{hex}: {error}");
    }
}

#[test]
fn every_limit_holds() {
    let event = |data: &[u8]| {
        let mut message = bytes("83a47479706502a36e7370a12fa464617461");
        message.extend_from_slice(data);
        message
    };
    let binary = event(&bytes("94a178c40101c40102c40103"));
    let depth = |depth: usize| event(&[&vec![0x92; depth][..], &bytes("a178"), &vec![0xc0; depth]].concat());
    let nested = |depth: usize| {
        // `["x",[[..]]]`
        let mut data = bytes("92a178");
        data.extend(vec![0x91; depth]);
        data.push(0xc0);
        event(&data)
    };
    let few = Limits { attachments_max: 2, ..LIMITS };
    assert_eq!(unpack(&binary, &few), Err(DecodeError::TooManyAttachments { attachments_max: 2 }));
    let short = Limits { attachment_bytes_max: 2, ..LIMITS };
    assert_eq!(unpack(&binary, &short), Err(DecodeError::AttachmentsTooLong { bytes_max: 2 }));
    assert!(unpack(&binary, &LIMITS).is_ok());
    assert!(unpack(&nested(63), &LIMITS).is_ok());
    assert_eq!(unpack(&nested(64), &LIMITS), Err(JsonError::TooDeep { depth_max: 64 }.into()));
    assert_eq!(unpack(&depth(1_000_000), &LIMITS), Err(JsonError::TooDeep { depth_max: 64 }.into()));
    // What is skipped is bound as well.
    let mut skipped = bytes("84a47479706502a36e7370a12fa464617461");
    skipped.extend(bytes("91a178a3616161"));
    skipped.extend(vec![0x91; 1_000_000]);
    assert_eq!(unpack(&skipped, &LIMITS), Err(JsonError::TooDeep { depth_max: 64 }.into()));
}

#[test]
fn dates_read_as_javascript_writes_them() {
    for (millis, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-62_198_755_200_001, "-000002-12-31T23:59:59.999Z"),
        (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
        (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
    ] {
        let mut message = bytes("83a47479706502a36e7370a12fa46461746192a178d700");
        message.extend_from_slice(&i64::to_be_bytes(millis));
        let packet = unpack(&message, &LIMITS).unwrap();
        assert_eq!(packet.args_raw(), format!("\"{text}\""));
    }
}

#[test]
fn control_packets_and_polling_have_their_form_too() {
    let sid = SocketId::from_random([0; 15]);
    let connected = Prepared::connected("/a", &sid, None).unwrap();
    let packet = unpack(&packed(&connected), &LIMITS).unwrap();
    assert_eq!(packet.text(), r#"0/a,{"sid":"AAAAAAAAAAAAAAAAAAAA"}"#);
    let polling = connected.written_by(&Msgpack).unwrap().polling();
    assert!(polling.starts_with(b"bg6R0eXBlAKNuc3"), "{polling:?}");
    let refused = Prepared::connect_error("/", "no", Some("7")).unwrap();
    assert_eq!(unpack(&packed(&refused), &LIMITS).unwrap().data(), r#"{"message":"no","data":7}"#.to_owned());
    let left = Prepared::disconnect("/").unwrap();
    assert_eq!(unpack(&packed(&left), &LIMITS).unwrap().text(), "1");
    for (depth, is_written) in [(127, true), (128, false)] {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        let nested: Box<RawValue> = serde_json::from_str(&nested).unwrap();
        let deep = Draft::event("x").unwrap().arg(&nested).unwrap().prepare("/", None).unwrap();
        assert_eq!(deep.written_by(&Msgpack).is_ok(), is_written);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_packet_reads_the_same_in_both_forms(
        values in prop::collection::vec(value(), 0..4),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
        id in prop::option::of(0u64..1 << 53),
    ) {
        let mut draft = Draft::event("event").unwrap();
        for value in &values {
            draft = draft.arg(value).unwrap();
        }
        for part in &parts {
            draft = draft.binary_arg(Bytes::from(part.clone()));
        }
        let prepared = draft.prepare("/n", id.and_then(AckId::new)).unwrap();
        let mut decoder = Decoder::new();
        let mut standard: Option<Packet> = decoder.handle_text(prepared.text(), &LIMITS).unwrap();
        for part in &parts {
            standard = decoder.handle_binary(part, &LIMITS).unwrap();
        }
        let standard = standard.unwrap();
        let packed = unpack(&packed(&prepared), &LIMITS).unwrap();
        prop_assert_eq!(packed.kind(), standard.kind());
        prop_assert_eq!(packed.namespace(), standard.namespace());
        prop_assert_eq!(packed.ack_id(), standard.ack_id());
        prop_assert_eq!(packed.attachments(), standard.attachments());
        // Numbers are as exact as they were, whatever reads them: the texts are the same but for spelling.
        let read = |packet: &Packet| serde_json::from_str::<Value>(packet.data()).unwrap();
        prop_assert_eq!(read(&packed), read(&standard));
        prop_assert_eq!(packed.data(), standard.data());
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(message in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = unpack(&message, &LIMITS) {
            prop_assert!(packet.text().len() < 7 * message.len() + 32);
        }
    }
}
