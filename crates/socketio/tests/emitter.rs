//! What emitters outside of the servers publish: each message as the npm package 5.1.0 wrote it, and what is none.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use greenroom_socketio::{
    Limits,
    emitter::{Emitted, Target, patterns},
};
use proptest::prelude::*;

const LIMITS: Limits = Limits::DEFAULT;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn read(channel: &str, message: &[u8]) -> Result<Option<Emitted>, String> {
    Emitted::read("socket.io", channel, message, &LIMITS).map_err(|error| error.to_string())
}

fn target(namespace: &str, groups: &[&str], except: &[&str]) -> Target {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Target { namespace: namespace.to_owned(), groups: own(groups), except: own(except) }
}

#[test]
fn the_events_of_the_npm_emitter_are_read() {
    type Case = (&'static str, &'static str, Target, &'static str, &'static [&'static [u8]], (bool, bool));
    let cases: [Case; 3] = [
        (
            "socket.io#/#",
            "93a7656d697474657283a47479706502a46461746193a568656c6c6f0181a16192c0c0a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490",
            target("/", &[], &[]),
            r#"2["hello",1,{"a":[null,null]}]"#,
            &[],
            (false, true),
        ),
        (
            "socket.io#/chat#",
            "93a7656d697474657283a47479706502a46461746193a56279746573c4020102c40109a36e7370a52f6368617483a5726f6f6d7392a3726564a4626c7565a5666c61677382a8766f6c6174696c65c3a8636f6d7072657373c2a665786365707491a26d65",
            target("/chat", &["red", "blue"], &["me"]),
            r#"52-/chat,["bytes",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            &[&[1, 2], &[9]],
            (true, false),
        ),
        // Moments in each of their three forms.
        (
            "socket.io#/#one#",
            "93a7656d697474657283a47479706502a46461746196a47768656ed6ff00000000d7ff1d5353006553f100c70cff3b4e7ec0ffffffffffffffffcf0000010000000000cbbff8000000000000a36e7370a12f83a5726f6f6d7391a36f6e65a5666c61677380a665786365707490",
            target("/", &["one"], &[]),
            r#"2["when","1970-01-01T00:00:00.000Z","2023-11-14T22:13:20.123Z","1969-12-31T23:59:59.995Z",1099511627776,-1.5]"#,
            &[],
            (false, true),
        ),
    ];
    for (channel, hex, expected, text, attachments, flags) in cases {
        let Some(Emitted::Event { target, packet, is_volatile, is_compressible }) =
            read(channel, &bytes(hex)).unwrap()
        else {
            panic!("{channel}: an event was due");
        };
        assert_eq!((target, packet.text(), packet.attachments().len()), (expected, text, attachments.len()));
        assert!(packet.attachments().iter().zip(attachments).all(|(part, expected)| part == expected));
        assert_eq!((is_volatile, is_compressible), flags);
    }
}

#[test]
fn the_requests_of_the_npm_emitter_are_read() {
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let cases = [
        (
            "/",
            r#"{"type":2,"opts":{"rooms":["red"],"except":[]},"rooms":["a","b"]}"#,
            Emitted::Join { target: target("/", &["red"], &[]), groups: groups(&["a", "b"]) },
        ),
        (
            "/chat",
            r#"{"type":3,"opts":{"rooms":[],"except":["x"]},"rooms":["c"]}"#,
            Emitted::Leave { target: target("/chat", &[], &["x"]), groups: groups(&["c"]) },
        ),
        (
            "/",
            r#"{"type":4,"opts":{"rooms":[],"except":[]},"close":true}"#,
            Emitted::Disconnect { target: target("/", &[], &[]), is_transport: true },
        ),
        (
            "/",
            r#"{"type":4,"opts":{"rooms":["r"],"except":[]},"close":false}"#,
            Emitted::Disconnect { target: target("/", &["r"], &[]), is_transport: false },
        ),
    ];
    for (namespace, message, expected) in cases {
        let channel = format!("socket.io-request#{namespace}#");
        assert_eq!(read(&channel, message.as_bytes()), Ok(Some(expected)), "{message}");
    }
    let message = br#"{"uid":"emitter","type":6,"data":["reload",1,{"x":2}]}"#;
    let Some(Emitted::ServerSide { namespace, packet }) = read("socket.io-request#/a#b#", message).unwrap()
    else {
        panic!("an event for servers was due");
    };
    assert_eq!(
        (namespace.as_str(), packet.event(), packet.args_raw()),
        ("/a#b", Some("reload"), r#"1,{"x":2}"#)
    );
}

#[test]
fn what_servers_say_to_each_other_is_left_alone_and_what_nobody_says_is_an_error() {
    let other = "93a6736572766572"; // a list of three, "server"
    let event = "83a47479706502a46461746191a178a36e7370a12f"; // the event "x" in "/"
    let options = "83a5726f6f6d7390a5666c61677380a665786365707490";
    assert_eq!(read("socket.io#/#", &bytes(&format!("{other}{event}{options}"))), Ok(None));
    assert_eq!(read("socket.io-request#/#", br#"{"uid":"a1b2c3","type":2,"rooms":["a"]}"#), Ok(None));
    assert_eq!(read("socket.io-request#/#", &[0x81, 0xa1]), Ok(None));
    let emitter = "93a7656d6974746572";
    let faulty = [
        ("socket.io", String::new()),
        ("other#/#", String::new()),
        ("socket.io-response#/#", String::new()),
        ("socket.io-request#/", String::new()),
        ("socket.io#/#", String::new()),
        ("socket.io#/#", "c0".to_owned()),
        ("socket.io#/#", format!("{emitter}{event}")),
        ("socket.io#/#", format!("{emitter}{event}{options}00")),
        ("socket.io#/#", format!("{emitter}{event}81a5726f6f6d739101")), // a group that is no text
        ("socket.io#/#", format!("{emitter}{event}81a5726f6f6d7391c40101")), // or bytes
        (
            "socket.io#/#",
            format!("{emitter}83a47479706502a46461746191aa646973636f6e6e656374a36e7370a12f{options}"),
        ),
        ("socket.io#/#", format!("{emitter}83a47479706500a46461746180a36e7370a12f{options}")), // a connect
        ("socket.io#/#", format!("{emitter}84a47479706502a2696401a46461746191a178a36e7370a12f{options}")),
    ];
    for (channel, hex) in faulty {
        assert!(read(channel, &bytes(&hex)).is_err(), "{channel} {hex}");
    }
    for message in [
        "{",
        "{}",
        r#"{"type":2}"#,
        r#"{"type":9,"opts":{}}"#,
        r#"{"type":2,"opts":{"rooms":[1]},"rooms":[]}"#,
        r#"{"uid":"emitter","type":6}"#,
        r#"{"uid":"emitter","type":6,"data":["disconnect"]}"#,
        r#"{"uid":"emitter","type":6,"data":{}}"#,
    ] {
        assert!(read("socket.io-request#/#", message.as_bytes()).is_err(), "{message}");
    }
}

#[test]
fn a_key_is_taken_as_it_is() {
    assert_eq!(patterns("socket.io"), ["socket.io#*", "socket.io-request#*"]);
    assert_eq!(patterns("a*[b]?\\"), ["a\\*\\[b\\]\\?\\\\#*", "a\\*\\[b\\]\\?\\\\-request#*"]);
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        is_request in any::<bool>(),
        message in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let channel = if is_request { "socket.io-request#/#" } else { "socket.io#/#" };
        let _judged = read(channel, &message);
    }
}
