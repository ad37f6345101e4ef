//! What Node.js servers of one cluster tell each other: each message as the npm package `@socket.io/redis-streams-adapter`
//! 0.3.1 wrote it, what is none, and the law that what is written reads the same.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use greenroom_socketio::{
    Limits,
    adapter::{Asks, Entry, Names, RemoteSocket, Says, Tells, Word},
    emitter::{Emitted, Target},
    packet::{Decoder, Packet},
};
use proptest::prelude::*;
use serde_json::{Value, json};

const LIMITS: Limits = Limits::DEFAULT;
/// A line for each call of Redis: what, where and the fields or the message in hex.
const GOLDEN: &str = include_str!("golden/redis-streams-adapter-0.3.1.jsonl");
const SERVER: &str = "00112233445566aa";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn entry(fields: &Value) -> Entry {
    let mut entry = Entry::default();
    for (field, value) in fields.as_object().unwrap() {
        entry.set(field, value.as_str().unwrap().to_owned());
    }
    entry
}

fn target(groups: &[&str], except: &[&str]) -> Target {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Target { namespace: "/chat".to_owned(), groups: own(groups), except: own(except) }
}

/// Reads a packet from its text and attachments.
fn packet(text: &str, attachments: &[&[u8]]) -> Packet {
    let mut decoder = Decoder::new();
    let mut packet = decoder.handle_text(text, &LIMITS).unwrap();
    for attachment in attachments {
        packet = decoder.handle_binary(attachment, &LIMITS).unwrap();
    }
    packet.unwrap()
}

fn event(text: &str, attachments: &[&[u8]], target: Target, flags: (bool, bool)) -> Says {
    let (is_volatile, is_compressible) = flags;
    Says::Order(Emitted::Event { target, packet: packet(text, attachments), is_volatile, is_compressible })
}

fn question(request: &str, asks: Asks) -> Says {
    Says::Question { request: request.to_owned(), asks }
}

fn answer(tells: Tells) -> Says {
    Says::Answer { request: "r1".to_owned(), tells }
}

/// What the lines of the golden file say.
fn expected() -> Vec<Says> {
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let ack = |text, attachments: &[&[u8]]| Tells::Ack { packet: packet(text, attachments), socket: None };
    let handshake = json!({"address": "::1", "url": "/x", "query": {"EIO": "4"}, "issued": 5, "auth": {}});
    let remote = RemoteSocket {
        id: "s1".to_owned(),
        groups: groups(&["s1", "red"]),
        data: json!({"name": "ann", "pic": null}),
        handshake,
    };
    vec![
        event(r#"2/chat,["hello",1,{"deep":["é",null,-1.5]}]"#, &[], target(&[], &[]), (false, true)),
        event(r#"2/chat,["x"]"#, &[], target(&["red", "blue"], &["green"]), (true, false)),
        event(
            r#"52-/chat,["bytes",{"_placeholder":true,"num":0},{"more":{"_placeholder":true,"num":1}}]"#,
            &[&[1, 2], &[3]],
            target(&[], &[]),
            (false, true),
        ),
        Says::Order(Emitted::Join { target: target(&["red"], &[]), groups: groups(&["a", "b"]) }),
        Says::Order(Emitted::Leave { target: target(&[], &[]), groups: groups(&["a"]) }),
        Says::Order(Emitted::Disconnect { target: target(&["red"], &[]), is_transport: true }),
        Says::Order(Emitted::ServerSide {
            namespace: "/chat".to_owned(),
            packet: packet(r#"2/chat,["told",{"n":1}]"#, &[]),
        }),
        question(
            "2",
            Asks::Clients {
                target: target(&["red"], &[]),
                packet: packet(r#"51-/chat,["ask",{"_placeholder":true,"num":0}]"#, &[&[9]]),
                timeout_ms: Some(1500),
            },
        ),
        question("3", Asks::Servers { packet: packet(r#"2/chat,["ask",1]"#, &[]) }),
        question("1", Asks::Sockets { target: target(&["red"], &[]) }),
        answer(Tells::Sockets { sockets: vec![remote] }),
        answer(Tells::Clients { clients: 2 }),
        answer(ack(r#"61-/chat,0[{"a":{"_placeholder":true,"num":0}}]"#, &[&[7]])),
        answer(ack("3/chat,0[null]", &[])),
        answer(Tells::Server { packet: packet(r#"3/chat,0["yes"]"#, &[]) }),
    ]
}

#[test]
fn what_the_npm_adapter_writes_is_read_and_written_alike_to_the_last_byte() {
    let names = Names::default();
    let lines: Vec<Value> = GOLDEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = expected();
    assert_eq!(lines.len(), expected.len());
    for (line, mut says) in lines.iter().zip(expected) {
        let (kind, place) = (line[0].as_str().unwrap(), line[1].as_str().unwrap());
        let (is_entry, message) = (kind == "entry", line[2].as_str().map(bytes));
        let word = if is_entry {
            assert_eq!(place, names.stream_of("/chat"));
            Word::read_entry(&entry(&line[2]), &LIMITS)
        } else {
            Word::read_message(message.as_deref().unwrap(), &LIMITS)
        };
        let word = word.unwrap().unwrap();
        if let (Says::Question { request, .. }, Says::Question { request: read, .. }) =
            (&mut says, &word.says)
        {
            // They are of chance there.
            assert_eq!(read.len(), 16);
            request.clone_from(read);
        }
        assert_eq!(word, Word { from: SERVER.to_owned(), namespace: "/chat".to_owned(), says }, "{line}");
        match &word.says {
            Says::Order(_) | Says::Question { .. } if !is_entry => assert_eq!(place, names.channel("/chat")),
            Says::Answer { .. } => assert_eq!(place, names.channel_of("/chat", "ff")),
            Says::Order(_) | Says::Question { .. } => {}
        }
        if is_entry {
            assert_eq!(word.to_entry().unwrap(), entry(&line[2]));
        } else if !matches!(&word.says, Says::Answer { tells: Tells::Sockets { .. }, .. }) {
            assert_eq!(word.to_message().unwrap(), message.unwrap(), "{line}");
        }
    }
}

#[test]
fn streams_and_channels_are_called_as_the_npm_adapter_calls_them() {
    let names = Names { streams: 4, ..Names::default() };
    let cases = [
        ("/", "socket.io-3"),
        ("/my-namespace", "socket.io--3"),
        ("/game", "socket.io-1"),
        ("/é€𝄞", "socket.io-0"),
    ];
    for (namespace, stream) in cases {
        assert_eq!(names.stream_of(namespace), stream);
        assert!(names.all_streams().contains(&stream.to_owned()), "{stream} is read");
    }
    assert_eq!(names.all_streams().len(), 7);
    assert_eq!(Names::default().all_streams(), ["socket.io"]);
    let names = Names { prefix: "a*b".to_owned(), ..Names::default() };
    assert_eq!(names.servers_pattern("/[x]"), r"a\*b#/\[x\]#?*#");
    assert_eq!(names.server_in("/[x]", "a*b#/[x]#0011#"), Some("0011"));
    for channel in ["a*b#/[x]#", "a*b#/[x]##", "a*b#/[x]#a#b#", "a*b#/y#0011#"] {
        assert_eq!(names.server_in("/[x]", channel), None, "{channel}");
    }
}

#[test]
fn entries_that_no_server_writes_are_refused() {
    let event = r#"{"packet":{"type":2,"data":["x"]},"opts":{"rooms":[],"except":[],"flags":{}}}"#;
    let cases: &[(&str, &str, &str, &str)] = &[
        ("", "/", "3", event),
        ("a#b", "/", "3", event),
        ("a", "", "3", event),
        ("a", "chat", "3", event),
        ("a", "/a,b", "3", event),
        ("a", "/a?b", "3", event),
        ("a", "/", "", event),
        ("a", "/", "99", event),
        ("a", "/", "-3", event),
        ("a", "/", "3", ""),
        ("a", "/", "3", "{"),
        ("a", "/", "3", "no base64!"),
        ("a", "/", "3", "gqZwYWNrZXQ="),
        ("a", "/", "3", "{}"),
        ("a", "/", "3", r#"{"packet":{"type":2,"data":["x"]}}"#),
        ("a", "/", "3", r#"{"packet":{"type":0,"data":{}},"opts":{}}"#),
        ("a", "/", "3", r#"{"packet":{"type":2,"data":["disconnect"]},"opts":{}}"#),
        ("a", "/", "3", r#"{"packet":{"type":2,"data":["x"]},"opts":{"rooms":[1]}}"#),
        ("a", "/", "3", r#"{"packet":{"type":2,"data":["x"]},"opts":{},"requestId":"r"}"#),
        ("a", "/", "4", r#"{"opts":{}}"#),
        ("a", "/", "6", r#"{"close":true}"#),
        ("a", "/", "7", r#"{"opts":{},"requestId":"r"}"#),
        ("a", "/", "9", r#"{"packet":{}}"#),
        ("a", "/", "11", r#"{"requestId":"r","clientCount":1}"#),
    ];
    for (uid, nsp, kind, data) in cases {
        let [uid, nsp, kind, data] = [uid, nsp, kind, data].map(|text| (*text).to_owned());
        let entry = Entry { uid, nsp, kind, data };
        assert!(Word::read_entry(&entry, &LIMITS).is_err(), "{entry:?}");
    }
    let deep =
        format!(r#"{{"packet":{{"type":2,"data":["x",{}{}]}},"opts":{{}}}}"#, "[".repeat(70), "]".repeat(70));
    let of = |kind: &str, data: String| Entry { uid: "a".into(), nsp: "/".into(), kind: kind.into(), data };
    assert!(Word::read_entry(&of("3", deep), &LIMITS).is_err(), "nested too deep");
    assert!(Word::read_entry(&of("3", "A".repeat(33 << 20)), &LIMITS).is_err(), "too long");
    for kind in ["1", "2", "13"] {
        assert_eq!(Word::read_entry(&of(kind, String::new()), &LIMITS).unwrap(), None, "a heartbeat");
    }
    // As `@socket.io/redis-streams-emitter` may leave out what is empty.
    let short = r#"{"packet":{"type":2,"data":["x"]},"opts":{}}"#.to_owned();
    let emitter = Entry { uid: "emitter".into(), ..of("3", short) };
    assert!(matches!(Word::read_entry(&emitter, &LIMITS), Ok(Some(Word { says: Says::Order(_), .. }))));
}

#[test]
fn times_of_javascript_are_read_whatever_number_they_are() {
    for (timeout, expected) in [("1500", 1500), ("0.6", 1), ("-5", 0), ("1e300", u64::MAX)] {
        // The message as JSON is the same as in MessagePack but for its form.
        let data = format!(
            r#"{{"type":3,"uid":"a","nsp":"/","data":{{"packet":{{"type":2,"data":["x"]}},"requestId":"r","opts":{{"flags":{{"timeout":{timeout}}}}}}}}}"#
        );
        let value: Value = serde_json::from_str(&data).unwrap();
        let message = rmp(&value);
        let Some(Word { says: Says::Question { asks: Asks::Clients { timeout_ms, .. }, .. }, .. }) =
            Word::read_message(&message, &LIMITS).unwrap()
        else {
            panic!("{timeout}: a question was due");
        };
        assert_eq!(timeout_ms, Some(expected), "{timeout}");
    }
}

/// A small value as MessagePack, written by nobody's library but this function.
fn rmp(value: &Value) -> Vec<u8> {
    let short = |head: u8, length: usize| head | u8::try_from(length).unwrap();
    match value {
        Value::Null => vec![0xc0],
        Value::Bool(value) => vec![0xc2 | u8::from(*value)],
        Value::Number(number) => match number.as_u64() {
            Some(number) => [&[0xcf][..], &number.to_be_bytes()].concat(),
            None => [&[0xcb][..], &number.as_f64().unwrap().to_be_bytes()].concat(),
        },
        Value::String(text) => [&[short(0xa0, text.len())], text.as_bytes()].concat(),
        Value::Array(items) => {
            let items = items.iter().flat_map(rmp);
            std::iter::once(short(0x90, value.as_array().unwrap().len())).chain(items).collect()
        }
        Value::Object(fields) => {
            let pairs = fields.iter().flat_map(|(key, value)| [rmp(&json!(key)), rmp(value)].concat());
            std::iter::once(short(0x80, fields.len())).chain(pairs).collect()
        }
    }
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,20}"
}

fn any_target() -> impl Strategy<Value = Target> {
    let groups = || proptest::collection::vec(".{0,6}", 0..3);
    (groups(), groups()).prop_map(|(groups, except)| Target { namespace: "/chat".to_owned(), groups, except })
}

/// An event or ack with up to two attachments.
fn any_packet(kind: u8) -> impl Strategy<Value = Packet> {
    let argument = prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(|text| json!({ "text": text, "more": [null, true] })),
    ];
    (argument, proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3)).prop_map(
        move |(argument, attachments)| {
            let stand_ins = (0..attachments.len()).map(|num| json!({ "_placeholder": true, "num": num }));
            let bytes: Vec<Value> = stand_ins.collect();
            let data = match kind {
                2 => json!(["name", argument, bytes]),
                _ => json!([[argument, bytes]]),
            };
            let head = if attachments.is_empty() {
                kind.to_string()
            } else {
                format!("{}{}-", kind + 3, attachments.len())
            };
            let id = if kind == 3 { "0" } else { "" };
            let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
            packet(&format!("{head}/chat,{id}{data}"), &attachments)
        },
    )
}

fn any_order() -> impl Strategy<Value = Says> {
    let groups = proptest::collection::vec(".{0,6}", 0..3);
    prop_oneof![
        (any_target(), any_packet(2), any::<bool>(), any::<bool>()).prop_map(
            |(target, packet, is_volatile, is_compressible)| Says::Order(Emitted::Event {
                target,
                packet,
                is_volatile,
                is_compressible
            })
        ),
        (any_target(), groups.clone())
            .prop_map(|(target, groups)| Says::Order(Emitted::Join { target, groups })),
        (any_target(), groups).prop_map(|(target, groups)| Says::Order(Emitted::Leave { target, groups })),
        (any_target(), any::<bool>())
            .prop_map(|(target, is_transport)| Says::Order(Emitted::Disconnect { target, is_transport })),
        any_packet(2).prop_map(|packet| {
            Says::Order(Emitted::ServerSide { namespace: "/chat".to_owned(), packet })
        }),
    ]
}

fn any_says() -> impl Strategy<Value = Says> {
    let asks = prop_oneof![
        any_target().prop_map(|target| Asks::Sockets { target }),
        (any_target(), any_packet(2), proptest::option::of(any::<u64>()))
            .prop_map(|(target, packet, timeout_ms)| Asks::Clients { target, packet, timeout_ms }),
        any_packet(2).prop_map(|packet| Asks::Servers { packet }),
    ];
    let socket = (any_name(), ".{0,6}", any::<i64>()).prop_map(|(id, group, number)| RemoteSocket {
        id,
        groups: vec![group],
        data: json!({ "n": number }),
        handshake: json!({ "url": "/x" }),
    });
    let tells = prop_oneof![
        proptest::collection::vec(socket, 0..3).prop_map(|sockets| Tells::Sockets { sockets }),
        any::<u64>().prop_map(|clients| Tells::Clients { clients }),
        (any_packet(3), proptest::option::of(any_name()))
            .prop_map(|(packet, socket)| Tells::Ack { packet, socket }),
        any_packet(3).prop_map(|packet| Tells::Server { packet }),
    ];
    prop_oneof![
        any_order(),
        (any_name(), asks).prop_map(|(request, asks)| Says::Question { request, asks }),
        (any_name(), tells).prop_map(|(request, tells)| Says::Answer { request, tells }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(from in any_name(), says in any_says()) {
        let word = Word { from, namespace: "/chat".to_owned(), says };
        let message = word.to_message().unwrap();
        prop_assert_eq!(Word::read_message(&message, &LIMITS).unwrap(), Some(word.clone()));
        if matches!(word.says, Says::Order(_)) {
            let entry = word.to_entry().unwrap();
            prop_assert_eq!(Word::read_entry(&entry, &LIMITS).unwrap(), Some(word));
        } else {
            prop_assert!(word.to_entry().is_err());
        }
    }

    #[test]
    fn no_bytes_bring_the_reader_down(
        message in proptest::collection::vec(any::<u8>(), 0..200),
        says in any_says(),
        broken in any::<(prop::sample::Index, u8)>(),
    ) {
        let _judged = Word::read_message(&message, &LIMITS);
        let word = Word { from: "a".to_owned(), namespace: "/chat".to_owned(), says };
        // Nearly a word.
        let mut message = word.to_message().unwrap();
        let at = broken.0.index(message.len());
        message[at] = broken.1;
        let _judged = Word::read_message(&message, &LIMITS);
        for data in [String::from_utf8_lossy(&message).into_owned(), STANDARD.encode(Bytes::from(message))] {
            for kind in 0..14 {
                let entry = Entry { uid: "a".into(), nsp: "/".into(), kind: format!("{kind}"), data: data.clone() };
                let _judged = Word::read_entry(&entry, &LIMITS);
            }
        }
    }
}
