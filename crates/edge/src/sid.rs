//! The session ids that clients see: the server's own one, and behind it a short word for the server. So each request says
//! by itself where it belongs, to any edge, also after a restart.
//!
//! Never remembers a session.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use greenroom_core::ServerName;
use greenroom_socketio::engine::Query;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Bytes of a name's hash that make its tag: 48 bits, so that two of 10,000 servers share one with a chance of 1 to 5,000,000.
const TAG_BYTES: usize = 6;
/// Stands between the two. In no tag, and clients send it in a query as it is.
const MARK: char = '.';
/// Between the packets of a polling body.
const SEPARATOR: u8 = 0x1e;

/// The word for a server: eight letters, digits, `-` or `_`. The same on every edge.
pub(crate) fn tag(server: &ServerName) -> String {
    let hash = Sha256::digest(server.as_str().as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&hash[..TAG_BYTES])
}

/// Where a request wants to go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// To the server of its session; `query` is what that server is asked.
    Session { tag: &'a str, query: String },
    /// To a session that no edge has given out.
    Stranger,
    /// To this server.
    Server(&'a str),
    /// To any server.
    Any,
}

/// What a request's query says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// Where it wants to go.
    pub(crate) wanted: Wanted<'a>,
    /// It opens an Engine.IO session.
    pub(crate) opens: bool,
    /// By long-polling, so that its id is told in the answer and comes back in queries.
    pub(crate) polls: bool,
}

impl<'a> Asked<'a> {
    /// Reads the part of a URL behind `?`.
    pub(crate) fn read(raw: &'a str) -> Self {
        let query = Query::parse(raw);
        let is_engine = query.version.is_some() && query.transport.is_some();
        let wanted = match query.sid.filter(|_| is_engine) {
            Some(sid) => match sid.rsplit_once(MARK) {
                Some((own, tag)) => Wanted::Session { tag, query: with_sid(raw, own) },
                None => Wanted::Stranger,
            },
            None => query
                .pairs()
                .find(|(key, _)| *key == "server")
                .map_or(Wanted::Any, |(_, name)| Wanted::Server(name)),
        };
        let opens = is_engine && query.sid.is_none();
        Self { wanted, opens, polls: query.transport == Some("polling") }
    }
}

/// The same query about the session `sid`.
fn with_sid(raw: &str, sid: &str) -> String {
    let pairs = raw.split('&').map(|pair| match pair.split_once('=') {
        Some(("sid", _)) => format!("sid={sid}"),
        Some(_) | None => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// The body of a polling handshake with the tag in its session's id; `None` when it is none.
pub(crate) fn tagged(body: &[u8], tag: &str) -> Option<Vec<u8>> {
    let end = body.iter().position(|byte| *byte == SEPARATOR).unwrap_or(body.len());
    let (open, rest) = body.split_at(end);
    let mut open: Map<String, Value> = serde_json::from_slice(open.strip_prefix(b"0")?).ok()?;
    let sid = open.get_mut("sid")?;
    *sid = Value::String(format!("{}{MARK}{tag}", sid.as_str()?));
    let mut out = b"0".to_vec();
    out.extend(serde_json::to_vec(&open).ok()?);
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> ServerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_tag_stays_what_it_is_or_sessions_end_with_an_upgrade_of_the_edge() {
        assert_eq!(tag(&name("chat-a1b2c")), "IDZL4bzI");
    }

    #[test]
    fn a_query_says_where_it_wants_to_go() {
        let session = |tag, query: &str| Wanted::Session { tag, query: query.to_owned() };
        let cases = [
            ("", Wanted::Any, false, false),
            ("EIO=4&transport=polling&t=x", Wanted::Any, true, true),
            ("EIO=4&transport=websocket", Wanted::Any, true, false),
            ("EIO=4&transport=polling&sid=ab.T", session("T", "EIO=4&transport=polling&sid=ab"), false, true),
            (
                "sid=a.b.T&EIO=4&transport=websocket&x",
                session("T", "sid=a.b&EIO=4&transport=websocket&x"),
                false,
                false,
            ),
            ("EIO=4&transport=polling&sid=ab", Wanted::Stranger, false, true),
            ("EIO=4&transport=polling&server=chat-1", Wanted::Server("chat-1"), true, true),
            (
                "EIO=4&transport=polling&server=chat-1&sid=x.T",
                session("T", "EIO=4&transport=polling&server=chat-1&sid=x"),
                false,
                true,
            ),
            ("sid=a.page.of.its.own", Wanted::Any, false, false),
            ("server=chat-1", Wanted::Server("chat-1"), false, false),
        ];
        for (query, wanted, opens, polls) in cases {
            assert_eq!(Asked::read(query), Asked { wanted, opens, polls }, "{query}");
        }
    }

    #[test]
    fn an_open_packet_gets_the_tag_and_whatever_else_stays() {
        let body =
            b"0{\"sid\":\"ab\",\"upgrades\":[\"websocket\"],\"pingInterval\":25000}\x1e40{\"sid\":\"q\"}";
        let text = String::from_utf8(tagged(body, "T").unwrap()).unwrap();
        let (open, rest) = text.split_once('\x1e').unwrap();
        let open: Value = serde_json::from_str(&open[1..]).unwrap();
        assert_eq!(
            open,
            serde_json::json!({"sid": "ab.T", "upgrades": ["websocket"], "pingInterval": 25000})
        );
        assert_eq!(rest, "40{\"sid\":\"q\"}");
        for other in [
            &b""[..],
            b"0",
            b"{\"sid\":\"a\"}",
            b"0{\"sid\":1}",
            b"0{}",
            b"0[]",
            b"96:0{\"sid\":\"a\"}",
            b"\x1e",
        ] {
            assert_eq!(tagged(other, "T"), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_server_called_its_session_is_what_it_is_asked_for(sid in "[A-Za-z0-9_.~-]{1,40}", server in "[a-z0-9]{1,20}") {
            let tag = tag(&name(&server));
            let open = serde_json::json!({ "sid": sid }).to_string();
            let told = tagged(format!("0{open}").as_bytes(), &tag).unwrap();
            let told: Value = serde_json::from_slice(&told[1..]).unwrap();
            let query = format!("EIO=4&transport=polling&sid={}", told["sid"].as_str().unwrap());
            let expected = format!("EIO=4&transport=polling&sid={sid}");
            prop_assert_eq!(Asked::read(&query).wanted, Wanted::Session { tag: &tag, query: expected });
        }

        #[test]
        fn garbage_is_read_without_a_panic(query in "\\PC{0,60}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _asked = Asked::read(&query);
            let _asked = Asked::read(&format!("EIO=4&transport=polling&sid={query}"));
            let _tagged = tagged(&body, "T");
            let _tagged = tagged(&[b"0", body.as_slice()].concat(), "T");
        }
    }
}
