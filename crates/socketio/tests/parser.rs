//! Formats of a program's own: what one writes is framed for each transport, and what one reads is judged.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use bytes::Bytes;
use greenroom_socketio::{
    Limits,
    engine::EnginePacket,
    packet::{
        Content, DecodeError, Decoder, Draft, Message, PacketDecoder, PacketKind, PacketParser, Prepared,
        WriteError,
    },
};

/// Writes the given messages whatever the packet says; reads a count as so many messages to wait for, then an empty
/// event.
#[derive(Debug, Clone)]
struct Given(Vec<Message<'static>>);

impl PacketParser for Given {
    fn encode(&self, _: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
        Ok(self.0.clone())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Waiting(0))
    }
}

#[derive(Debug)]
struct Waiting(usize);

impl PacketDecoder for Waiting {
    fn decode(&mut self, message: &Message<'_>, _: &Limits) -> Result<Option<Content>, DecodeError> {
        if let Message::Text(text) = message {
            self.0 = text.parse().map_err(|_| DecodeError::Refused { why: "no number".to_owned() })?;
        } else {
            self.0 -= 1;
        }
        Ok((self.0 == 0).then(|| content(PacketKind::Event, "/", None, Some("[\"x\"]"), &[])))
    }
}

fn content(
    kind: PacketKind,
    namespace: &str,
    id: Option<u64>,
    data: Option<&str>,
    attachments: &[&'static [u8]],
) -> Content {
    Content {
        kind,
        namespace: namespace.to_owned(),
        id,
        data: data.map(str::to_owned),
        attachments: attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
    }
}

fn packet() -> Prepared {
    Draft::event("x").unwrap().binary_arg(vec![7].into()).prepare("/", None).unwrap()
}

#[test]
fn messages_of_a_format_are_framed_for_each_transport_in_their_order() {
    type Case = (Vec<Message<'static>>, &'static [&'static [u8]], &'static str);
    let cases: [Case; 4] = [
        (vec!["hi".to_owned().into()], &[b"\x81\x034hi"], "4hi"),
        (vec![vec![1, 2].into()], &[b"\x82\x02\x01\x02"], "bAQI="),
        (
            vec![vec![1].into(), "hi".to_owned().into(), vec![].into()],
            &[b"\x82\x01\x01", b"\x81\x034hi", b"\x82\x00"],
            "bAQ==\u{1e}4hi\u{1e}b",
        ),
        (vec![String::new().into()], &[b"\x81\x014"], "4"),
    ];
    for (messages, frames, polling) in cases {
        let packet = packet();
        let written = packet.written_by(&Given(messages.clone())).unwrap();
        assert_eq!(written.frames().collect::<Vec<_>>(), frames, "{messages:?}");
        assert_eq!(written.polling(), polling.as_bytes());
        let expected: Vec<EnginePacket<'_>> = messages
            .iter()
            .map(|message| match message {
                Message::Text(text) => EnginePacket::Text(text),
                Message::Binary(bytes) => EnginePacket::decode_binary(bytes),
            })
            .collect();
        assert_eq!(written.engine_packets().collect::<Vec<_>>(), expected);
        assert_eq!((written.text(), written.data(), written.attachments().len()), ("", "", 0));
        assert!(std::ptr::eq(written, written.written_by(&Given(vec![])).unwrap()), "it is written once");
        assert_eq!(packet.attachments().len(), 1, "the packet itself stays");
    }
}

#[test]
fn nothing_and_what_parts_packets_cannot_be_written() {
    let parted: Message<'_> = "a\u{1e}b".to_owned().into();
    assert_eq!(packet().written_by(&Given(vec![])).unwrap_err(), &WriteError::Nothing);
    assert_eq!(packet().written_by(&Given(vec![parted])).unwrap_err(), &WriteError::Separator);
}

/// Says what it was given.
#[derive(Debug, Clone)]
struct Says(Content);

impl PacketParser for Says {
    fn encode(&self, _: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
        Ok(vec![])
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(self.clone())
    }
}

impl PacketDecoder for Says {
    fn decode(&mut self, _: &Message<'_>, _: &Limits) -> Result<Option<Content>, DecodeError> {
        Ok(Some(self.0.clone()))
    }
}

#[test]
fn what_a_format_says_is_judged_as_strictly_as_the_standard_one() {
    use PacketKind::{Ack, Connect, ConnectError, Disconnect, Event};
    const PLACE: &str = r#"["x",{"_placeholder":true,"num":0}]"#;
    let limits = Limits { payload_bytes_max: 100, attachment_bytes_max: 4, ..Limits::DEFAULT };
    let long = format!("[\"{}\"]", "x".repeat(800));
    let fine = [
        (content(Connect, "/", None, None, &[]), "0"),
        (content(Connect, "/a?b=c", None, Some("{\"d\":1}"), &[]), "0/a?b=c,{\"d\":1}"),
        (content(Disconnect, "/a", None, None, &[]), "1/a,"),
        (content(Event, "/", Some(0), Some(" [\"x\"]"), &[]), "20 [\"x\"]"),
        (content(Event, "/", None, Some(PLACE), &[b"ab"]), &*format!("51-{PLACE}")),
        (content(Ack, "/a", Some(12), Some("[]"), &[]), "3/a,12[]"),
        (content(ConnectError, "/", None, Some("{\"message\":\"no\"}"), &[]), "4{\"message\":\"no\"}"),
    ];
    for (said, text) in fine {
        let mut decoder = Decoder::of(&Says(said.clone()));
        let packet = decoder.handle_binary(b"", &limits).unwrap().expect("it is whole");
        assert_eq!(packet.text(), text, "{said:?}");
        assert_eq!(packet.attachments(), said.attachments);
    }
    let faulty = [
        content(Connect, "/", Some(1), None, &[]),
        content(Connect, "/", None, Some("[]"), &[]),
        content(Connect, "/", None, Some("{}"), &[b"a"]),
        content(Connect, "/", None, Some("/other,{}"), &[]),
        content(Connect, "", None, None, &[]),
        content(Connect, "/a,b", None, None, &[]),
        content(Connect, "/a\u{1e}", None, None, &[]),
        content(Disconnect, "/", None, Some("{}"), &[]),
        content(Event, "/", None, None, &[]),
        content(Event, "/", None, Some("1[\"x\"]"), &[]),
        content(Event, "/", None, Some("/other,[\"x\"]"), &[]),
        content(Event, "/", None, Some("[\"connect\"]"), &[]),
        content(Event, "/", None, Some("[\"x\""), &[]),
        content(Event, "/", None, Some(&long), &[]),
        content(Event, "/", None, Some(PLACE), &[b"a", b"b", b"c", b"d", b"e"]),
        content(Event, "/", None, Some(PLACE), &[b"", b"", b"", b"", b"", b"", b"", b"", b"", b"", b""]),
        content(Event, "/", None, Some("[\"x\",{\"_placeholder\":true,\"num\":1}]"), &[b"a"]),
        content(Event, "/", Some(1 << 53), Some("[\"x\"]"), &[]),
        content(Ack, "/", None, Some("[]"), &[]),
    ];
    for said in faulty {
        let mut decoder = Decoder::of(&Says(said.clone()));
        let judged = decoder.handle_text("", &limits);
        assert!(judged.is_err(), "{said:?}: {judged:?}");
    }
}

#[test]
fn a_packet_of_several_messages_has_as_many_and_as_long_ones_as_the_standard_format_allows() {
    let limits =
        Limits { attachments_max: 3, attachment_bytes_max: 6, payload_bytes_max: 4, ..Limits::DEFAULT };
    let parser = Given(vec![]);
    let mut decoder = Decoder::of(&parser);
    for _ in 0..3 {
        assert!(decoder.handle_text("3", &limits).unwrap().is_none() && decoder.is_waiting());
        for is_last in [false, false, true] {
            assert_eq!(decoder.handle_binary(b"abc", &limits).unwrap().is_some(), is_last);
        }
        assert!(!decoder.is_waiting());
    }
    decoder.handle_text("9", &limits).unwrap();
    for _ in 0..3 {
        decoder.handle_binary(b"a", &limits).unwrap();
    }
    let many = decoder.handle_binary(b"a", &limits);
    assert_eq!(many, Err(DecodeError::TooManyAttachments { attachments_max: 3 }));
    let mut decoder = Decoder::of(&parser);
    decoder.handle_text("2", &limits).unwrap();
    let long = decoder.handle_binary(b"0123456789", &limits);
    assert_eq!(long, Err(DecodeError::AttachmentsTooLong { bytes_max: 10 }));
}
