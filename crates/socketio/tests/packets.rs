//! Tables and laws of Socket.IO packets: reading, preparing, relaying.

use bytes::Bytes;
use greenroom_socketio::{
    Limits, SocketId,
    packet::{
        AckId, ConnectRefused, Connected, DecodeError, Decoder, Draft, EncodeError, JsonError, Packet,
        PacketKind, Placeholder, PlaceholderError, Prepared,
    },
};
use proptest::prelude::*;

const LIMITS: Limits = Limits::DEFAULT;

fn decode(text: &str, attachments: &[&[u8]]) -> Result<Option<Packet>, DecodeError> {
    let mut decoder = Decoder::new();
    let mut packet = decoder.handle_text(text, &LIMITS)?;
    for attachment in attachments {
        packet = decoder.handle_binary(attachment, &LIMITS)?;
    }
    Ok(packet)
}

fn whole(text: &str, attachments: &[&[u8]]) -> Packet {
    decode(text, attachments).unwrap_or_else(|error| panic!("{text}: {error}")).expect("it is complete")
}

/// What a packet's accessors give: kind, namespace, ack id, event name and raw arguments.
type Told<'a> = (PacketKind, &'a str, Option<u64>, Option<&'a str>, &'a str);

fn told(packet: &Packet) -> Told<'_> {
    (packet.kind(), packet.namespace(), packet.ack_id().map(AckId::get), packet.event(), packet.args_raw())
}

#[test]
fn packets_without_arguments_are_read_as_the_protocol_document_shows_them() {
    use PacketKind::{Connect, ConnectError, Disconnect};
    for (text, kind, namespace, data) in [
        ("0", Connect, "/", ""),
        (r#"0{"token":"123"}"#, Connect, "/", r#"{"token":"123"}"#),
        ("0/admin,", Connect, "/admin", ""),
        ("0/admin", Connect, "/admin", ""),
        (r#"0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}"#, Connect, "/admin", r#"{"sid":"oSO0OpakMV_3jnilAAAA"}"#),
        ("0/admin?token=1234&uid=abcd,", Connect, "/admin", ""),
        (r#"4{"message":"Not authorized"}"#, ConnectError, "/", r#"{"message":"Not authorized"}"#),
        (r#"4/admin,"no""#, ConnectError, "/admin", r#""no""#),
        ("1/admin,", Disconnect, "/admin", ""),
        ("1", Disconnect, "/", ""),
    ] {
        let packet = whole(text, &[]);
        assert_eq!(told(&packet), (kind, namespace, None, None, ""), "{text}");
        assert_eq!((packet.data(), packet.text()), (data, text));
    }
    assert_eq!(whole("0/admin?token=1234&uid=abcd,", &[]).query(), Some("token=1234&uid=abcd"));
    assert_eq!(whole("0/admin,", &[]).query(), None);
}

#[test]
fn events_and_acks_are_read_as_the_protocol_document_shows_them() {
    use PacketKind::{Ack, Event};
    for (text, expected) in [
        (r#"2["hello",1]"#, (Event, "/", None, Some("hello"), "1")),
        (r#"2["hello"]"#, (Event, "/", None, Some("hello"), "")),
        (r#"2/admin,456["project:delete",123]"#, (Event, "/admin", Some(456), Some("project:delete"), "123")),
        (r#"212["a"]"#, (Event, "/", Some(12), Some("a"), "")),
        (r#"29007199254740991["a"]"#, (Event, "/", Some(9_007_199_254_740_991), Some("a"), "")),
        (r#"2[7,"x"]"#, (Event, "/", None, Some("7"), r#""x""#)),
        (r#"2["h\u0069",[1,2],{"a":","}]"#, (Event, "/", None, Some("hi"), r#"[1,2],{"a":","}"#)),
        (r#"2[ "a" , 1 , 2 ] "#, (Event, "/", None, Some("a"), "1 , 2")),
        (r#"3/admin,456[]"#, (Ack, "/admin", Some(456), None, "")),
        (r#"30[1,"a"]"#, (Ack, "/", Some(0), None, r#"1,"a""#)),
        (r#"50-["a"]"#, (Event, "/", None, Some("a"), "")),
        // A placeholder in a text packet is plain data.
        (r#"2["a",{"_placeholder":true}]"#, (Event, "/", None, Some("a"), r#"{"_placeholder":true}"#)),
    ] {
        assert_eq!(told(&whole(text, &[])), expected, "{text}");
    }
    let packet = whole(r#"2["h",[1,2],{"a":","}, "]" ]"#, &[]);
    assert_eq!(packet.args().collect::<Vec<_>>(), ["[1,2]", r#"{"a":","}"#, r#""]""#]);
}

#[test]
fn binary_packets_are_read_as_the_protocol_document_shows_them() {
    use PacketKind::{Ack, Event};
    let one: &[&[u8]] = &[&[1, 2, 3]];
    let two: &[&[u8]] = &[&[1], &[]];
    let first = r#"{"_placeholder":true,"num":0}"#;
    let both = r#"{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}"#;
    for (text, attachments, expected) in [
        (r#"51-["hello",{"_placeholder":true,"num":0}]"#, one, (Event, "/", None, Some("hello"), first)),
        (
            r#"51-/admin,456["project:delete",{"_placeholder":true,"num":0}]"#,
            one,
            (Event, "/admin", Some(456), Some("project:delete"), first),
        ),
        (
            r#"62-/admin,456[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#,
            two,
            (Ack, "/admin", Some(456), None, both),
        ),
    ] {
        let packet = whole(text, attachments);
        assert_eq!(told(&packet), expected, "{text}");
        assert_eq!(packet.attachments(), attachments, "{text}");
    }
}

#[test]
fn texts_that_are_no_packets_are_refused_with_their_reason() {
    let deep = format!("2[\"a\",{}{}]", "[".repeat(64), "]".repeat(64));
    let long = format!("0/{},", "n".repeat(512));
    let syntax = |at| DecodeError::Json(JsonError::Syntax { at });
    let cases = [
        ("", DecodeError::UnknownType),
        ("7[]", DecodeError::UnknownType),
        ("abc", DecodeError::UnknownType),
        ("\u{e9}", DecodeError::UnknownType),
        // Found by fuzzing: 0x1e in a namespace would cut a polling body in two.
        ("2/a\u{1e}b,[\"a\"]", DecodeError::NamespaceCharacter),
        ("0/\u{7f}", DecodeError::NamespaceCharacter),
        ("0[]", DecodeError::Payload),
        ("0\"a\"", DecodeError::Payload),
        ("0{", syntax(1)),
        ("01{}", DecodeError::AckId),
        ("1{}", DecodeError::Payload),
        ("1/a,1", DecodeError::AckId),
        ("2", DecodeError::Payload),
        ("2/admin", DecodeError::Payload),
        ("2{}", DecodeError::Payload),
        ("2[]", DecodeError::Payload),
        ("2[null]", DecodeError::Payload),
        ("2[{}]", DecodeError::Payload),
        ("2[[\"a\"]]", DecodeError::Payload),
        ("2[\"\\ud800\"]", DecodeError::Payload),
        ("2[\"a\"", syntax(4)),
        ("2[\"a\",]", syntax(5)),
        ("2[\"a\" 1]", syntax(5)),
        ("2[\"a\"]]", syntax(5)),
        ("2[\"a\"]x", syntax(5)),
        ("2[\"a", syntax(3)),
        ("2-1[\"a\"]", DecodeError::Payload),
        ("2 [\"a\"]x", syntax(6)),
        ("29007199254740992[\"a\"]", DecodeError::AckId),
        ("299999999999999999999999999[\"a\"]", DecodeError::AckId),
        ("21.5[\"a\"]", DecodeError::Payload),
        ("3[]", DecodeError::AckId),
        ("31{}", DecodeError::Payload),
        ("31", DecodeError::Payload),
        ("4", DecodeError::Payload),
        ("4[]", DecodeError::Payload),
        ("4{}x", syntax(2)),
        ("5[\"a\"]", DecodeError::AttachmentCount),
        ("5-[\"a\"]", DecodeError::AttachmentCount),
        ("51[\"a\"]", DecodeError::AttachmentCount),
        ("5-1-[\"a\"]", DecodeError::AttachmentCount),
        ("51", DecodeError::AttachmentCount),
        ("51.5-[\"a\"]", DecodeError::AttachmentCount),
        ("511-[\"a\"]", DecodeError::TooManyAttachments { attachments_max: 10 }),
        ("599999999999999999999999-[\"a\"]", DecodeError::TooManyAttachments { attachments_max: 10 }),
        (
            "51-[\"a\",{\"_placeholder\":true,\"num\":1}]",
            DecodeError::Placeholder(PlaceholderError::OutOfRange { attachments: 1 }),
        ),
        (
            "60-1[{\"_placeholder\":true,\"num\":0}]",
            DecodeError::Placeholder(PlaceholderError::OutOfRange { attachments: 0 }),
        ),
        (&deep, DecodeError::Json(JsonError::TooDeep { depth_max: 64 })),
        (&long, DecodeError::NamespaceTooLong { bytes_max: 512 }),
    ];
    for (text, error) in cases {
        assert_eq!(decode(text, &[]), Err(error), "{text}");
    }
}

#[test]
fn reserved_event_names_are_refused_both_ways() {
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let refused = Err(DecodeError::ReservedEvent { name });
        assert_eq!(decode(&format!("2[\"{name}\"]"), &[]), refused);
        let escaped = format!("2[\"\\u{:04x}{}\"]", u32::from(name.as_bytes()[0]), &name[1..]);
        assert_eq!(decode(&escaped, &[]), refused, "{escaped}");
        assert!(matches!(Draft::event(name), Err(EncodeError::ReservedEvent { .. })));
    }
}

#[test]
fn attachments_come_when_they_are_due_and_only_then() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.handle_binary(&[1], &LIMITS), Err(DecodeError::UnexpectedAttachment));
    assert_eq!(decoder.handle_text(r#"52-["a"]"#, &LIMITS), Ok(None));
    assert!(decoder.is_waiting());
    assert_eq!(decoder.handle_binary(&[1], &LIMITS), Ok(None));
    assert_eq!(decoder.handle_text(r#"2["b"]"#, &LIMITS), Err(DecodeError::TextInsteadOfAttachment));
    assert!(!decoder.is_waiting());
    let limits = Limits { attachment_bytes_max: 3, ..LIMITS };
    assert_eq!(decoder.handle_text(r#"52-["a"]"#, &limits), Ok(None));
    assert_eq!(decoder.handle_binary(&[1, 2], &limits), Ok(None));
    assert!(matches!(decoder.handle_binary(&[3], &limits), Ok(Some(_))), "it may be as long as the limit");
    assert_eq!(decoder.handle_text(r#"52-["a"]"#, &limits), Ok(None));
    assert_eq!(decoder.handle_binary(&[1, 2], &limits), Ok(None));
    assert_eq!(
        decoder.handle_binary(&[1, 2], &limits),
        Err(DecodeError::AttachmentsTooLong { bytes_max: 3 })
    );
    assert_eq!(decoder.handle_binary(&[1], &limits), Err(DecodeError::UnexpectedAttachment));
}

#[test]
fn prepared_packets_read_as_the_protocol_document_shows_them() {
    let sid = SocketId::from_random([0; 15]);
    let id = AckId::new(456);
    let bytes = Bytes::from_static(&[1, 2, 3]);
    let placeholder = Placeholder::new(0);
    let packets = [
        Prepared::connect("/", None),
        Prepared::connect("/admin", Some(r#"{"token":"123"}"#)),
        Prepared::connect("/admin?a=b", None),
        Prepared::connected("/", &sid, None),
        Prepared::connected("/admin", &sid, Some("secret")),
        Prepared::connect_error("/", "Not authorized", None),
        Prepared::connect_error("/admin", "no\"", Some(r#"{"code":1}"#)),
        Prepared::disconnect("/admin"),
        Draft::event("hello").and_then(|draft| draft.arg(&1)?.prepare("/", None)),
        Draft::event("project:delete").and_then(|draft| draft.raw_arg("123")?.prepare("/admin", id)),
        Draft::event("a")
            .and_then(|draft| draft.binary_arg(bytes.clone()).binary_arg(bytes.clone()).prepare("/", None)),
        Draft::event("b")
            .and_then(|draft| draft.arg(&[placeholder])?.attach(bytes.clone()).prepare("/admin", id)),
        Draft::ack().prepare("/admin", id),
        Draft::ack().arg("x").and_then(|draft| draft.binary_arg(bytes.clone()).prepare("/", id)),
    ];
    let shown: Vec<String> = packets
        .into_iter()
        .map(|packet| {
            let packet = packet.unwrap();
            format!(
                "{}\n  {}",
                packet.text(),
                std::str::from_utf8(packet.polling()).unwrap().replace('\x1e', " ␞ ")
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let event = || Draft::event("a").unwrap();
    let bytes = Bytes::from_static(b"x");
    assert!(matches!(event().prepare("admin", None), Err(EncodeError::Namespace { .. })));
    assert!(matches!(event().prepare("/a,b", None), Err(EncodeError::Namespace { .. })));
    assert!(matches!(event().prepare("/a\u{1e}b", None), Err(EncodeError::Namespace { .. })));
    assert!(matches!(event().raw_arg("1,2"), Err(EncodeError::Json(_))));
    assert!(matches!(event().raw_arg(""), Err(EncodeError::Json(_))));
    assert!(matches!(Prepared::connect("/", Some("[]")), Err(EncodeError::NotAnObject)));
    assert!(matches!(Prepared::connect_error("/", "", Some("{")), Err(EncodeError::Json(_))));
    assert!(matches!(Draft::ack().prepare("/", None), Err(EncodeError::NotAnEvent)));
    assert!(matches!(Prepared::disconnect("/").unwrap().with_arg("1"), Err(EncodeError::NotAnEvent)));
    let misfit = event().arg(&Placeholder::new(1)).unwrap().attach(bytes.clone());
    assert!(matches!(misfit.prepare("/", None), Err(EncodeError::Placeholder(_))));
    let packet = whole(r#"51-["a",{"_placeholder":true,"num":0}]"#, &[&[1]]);
    assert!(matches!(event().binary_arg(bytes).args_of(&packet), Err(EncodeError::AttachmentsTwice)));
}

#[test]
fn an_offset_is_spliced_in_and_an_ack_id_is_put_before() {
    let prepared =
        Draft::event("e").unwrap().binary_arg(Bytes::from_static(&[9])).prepare("/n", None).unwrap();
    let spliced = prepared.with_arg("\"1-0\"").unwrap().with_ack_id(AckId::new(7).unwrap()).unwrap();
    assert_eq!(spliced.text(), r#"51-/n,7["e",{"_placeholder":true,"num":0},"1-0"]"#);
    assert_eq!(spliced.namespace(), "/n");
    assert_eq!(spliced.attachments().collect::<Vec<_>>(), prepared.attachments().collect::<Vec<_>>());
    assert!(matches!(prepared.with_arg("1]"), Err(EncodeError::Json(_))));
    assert_eq!(
        Draft::event("e").unwrap().prepare("/", None).unwrap().with_arg("1").unwrap().text(),
        r#"2["e",1]"#
    );
}

#[test]
fn a_relay_hands_arguments_on_as_they_came() {
    let packet = whole(r#"52-["say", 1.50,{"_placeholder":true,"num":1} ]"#, &[b"a", b"b"]);
    let relayed = Draft::event("said")
        .unwrap()
        .arg("bob")
        .unwrap()
        .args_of(&packet)
        .unwrap()
        .prepare("/", None)
        .unwrap();
    assert_eq!(relayed.text(), r#"52-["said","bob",1.50,{"_placeholder":true,"num":1}]"#);
    assert_eq!(relayed.attachments().collect::<Vec<_>>(), ["a", "b"]);
    let empty =
        Draft::event("x").unwrap().args_of(&whole(r#"2["y"]"#, &[])).unwrap().prepare("/", None).unwrap();
    assert_eq!(empty.text(), r#"2["x"]"#);
}

#[test]
fn a_client_reads_the_answers_to_its_connect() {
    let sid = SocketId::from_random([7; 15]);
    let packet = whole(Prepared::connected("/", &sid, Some("p")).unwrap().text(), &[]);
    let connected: Connected = serde_json::from_str(packet.data()).unwrap();
    assert_eq!(connected, Connected { sid: sid.as_str().into(), pid: Some("p".into()) });
    let packet = whole(Prepared::connect_error("/", "no", Some("[1]")).unwrap().text(), &[]);
    let refused: ConnectRefused = serde_json::from_str(packet.data()).unwrap();
    assert_eq!(
        (refused.message.as_str(), refused.data.map(|data| data.get().to_owned())),
        ("no", Some("[1]".into()))
    );
}

#[test]
fn ten_thousand_attachments_and_a_megabyte_of_brackets_are_read_in_a_moment() {
    let limits = Limits { attachments_max: 10_000, ..LIMITS };
    let mut decoder = Decoder::new();
    let placeholders: Vec<_> = (0..10_000).map(Placeholder::new).collect();
    let json = serde_json::to_string(&("a", placeholders)).unwrap();
    assert_eq!(decoder.handle_text(&format!("510000-{json}"), &limits), Ok(None));
    for n in 1..=10_000 {
        assert_eq!(decoder.handle_binary(&[], &limits).unwrap().is_some(), n == 10_000);
    }
    let args = whole(&format!("2[\"a\"{}]", ",[]".repeat(300_000)), &[]);
    assert_eq!(args.args().count(), 300_000);
}

/// JSON values as text, nested a little, with awkward strings.
fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        ".{0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[a-z0-9/é]{1,8}"]
}

proptest! {
    #[test]
    fn reading_a_prepared_event_or_ack_gives_its_parts_back(
        name in prop::option::of("[^\u{0}]{0,8}"),
        values in prop::collection::vec(json_value(), 0..4),
        binaries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..4),
        namespace in namespace(),
        id in prop::option::of(0..=AckId::MAX.get()),
    ) {
        let id = if name.is_none() { Some(id.unwrap_or(0)) } else { id }.and_then(AckId::new);
        let mut draft = match &name {
            Some(name) => Draft::event(name).unwrap(),
            None => Draft::ack(),
        };
        for value in &values {
            draft = draft.arg(value).unwrap();
        }
        for binary in &binaries {
            draft = draft.binary_arg(Bytes::copy_from_slice(binary));
        }
        let prepared = draft.prepare(&namespace, id).unwrap();
        let slices: Vec<&[u8]> = binaries.iter().map(Vec::as_slice).collect();
        let packet = whole(prepared.text(), &slices);
        prop_assert_eq!(packet.kind(), prepared.kind());
        prop_assert_eq!(packet.event(), name.as_deref());
        prop_assert_eq!(packet.namespace(), &namespace);
        prop_assert_eq!(packet.ack_id(), id);
        prop_assert_eq!(packet.data(), prepared.data());
        prop_assert_eq!(prepared.namespace(), &namespace);
        let args: Vec<serde_json::Value> = packet.args().map(|raw| serde_json::from_str(raw).unwrap()).collect();
        prop_assert_eq!(&args[..values.len()], &values[..]);
        for (n, raw) in args[values.len()..].iter().enumerate() {
            prop_assert_eq!(serde_json::from_value::<Placeholder>(raw.clone()).unwrap(), Placeholder::new(n));
        }
        let attachments: Vec<Bytes> = prepared.attachments().collect();
        prop_assert_eq!(attachments, packet.attachments());
        let relayed = match &name {
            Some(name) => Draft::event(name).unwrap(),
            None => Draft::ack(),
        }.args_of(&packet).unwrap().prepare(&namespace, id).unwrap();
        prop_assert_eq!(relayed.text(), prepared.text());
    }

    #[test]
    fn reading_a_prepared_control_packet_gives_its_parts_back(
        namespace in namespace(), message: String, value in json_value(), random: [u8; 15],
    ) {
        let sid = SocketId::from_random(random);
        let object = format!("{{\"value\":{value}}}");
        for prepared in [
            Prepared::connect(&namespace, None).unwrap(),
            Prepared::connect(&namespace, Some(&object)).unwrap(),
            Prepared::connected(&namespace, &sid, Some(&message)).unwrap(),
            Prepared::connect_error(&namespace, &message, Some(&object)).unwrap(),
            Prepared::disconnect(&namespace).unwrap(),
        ] {
            let packet = whole(prepared.text(), &[]);
            prop_assert_eq!(packet.kind(), prepared.kind());
            prop_assert_eq!(packet.namespace(), &namespace);
            prop_assert_eq!(packet.data(), prepared.data());
        }
    }

    #[test]
    fn no_text_makes_the_decoder_panic(
        text in r#"[0-9][0-9\-]{0,3}(/[a-z?]{0,3},?)?[0-9]{0,3}[\[\]{}",:a0\\ ]{0,10}|\PC{0,12}"#,
    ) {
        if let Ok(Some(packet)) = decode(&text, &[]) {
            prop_assert!(packet.args().count() <= text.len());
            prop_assert!(text.contains(packet.args_raw()));
            prop_assert!(packet.namespace().starts_with('/'));
        }
    }
}
