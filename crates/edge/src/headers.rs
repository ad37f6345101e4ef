//! Which headers pass: all but those that are about one connection, and with a word of who asked.
//!
//! Never touches what a server and its client say to each other in theirs.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// About one connection, not about the request (RFC 9110 section 7.6.1), besides those that `Connection` names.
const OF_ONE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Whether a request asks for a WebSocket.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    items(headers, &header::UPGRADE).any(|item| item.eq_ignore_ascii_case("websocket"))
}

fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

/// Takes out what is about one connection.
pub(crate) fn strip(headers: &mut HeaderMap) {
    // Whoever reads a body by its chunks must not hear of another length.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> =
        items(headers, &header::CONNECTION).filter_map(|item| item.parse().ok()).collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

/// Asks the next hop for a WebSocket, or agrees to one.
pub(crate) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Says who asks, behind whatever proxies before this one said. Their word on the scheme stays: they met the client.
pub(crate) fn forward(headers: &mut HeaderMap, peer: IpAddr, is_secure: bool) {
    let before: Vec<&str> = items(headers, &FORWARDED_FOR).filter(|item| !item.is_empty()).collect();
    let mut all = before.join(", ");
    if !all.is_empty() {
        all.push_str(", ");
    }
    all.push_str(&peer.to_string());
    let all = HeaderValue::try_from(all).expect("addresses and header values are header values");
    headers.insert(FORWARDED_FOR, all);
    let scheme = HeaderValue::from_static(if is_secure { "https" } else { "http" });
    headers.entry(FORWARDED_PROTO).or_insert(scheme);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in pairs {
            all.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        all
    }

    #[test]
    fn what_is_about_one_connection_stays_behind() {
        let mut all = headers(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "upgrade"),
            ("x-secret", "1"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("host", "play.example"),
            ("cookie", "io=1"),
            ("content-length", "5"),
        ]);
        strip(&mut all);
        assert_eq!(all, headers(&[("host", "play.example"), ("cookie", "io=1"), ("content-length", "5")]));
        let mut both = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        strip(&mut both);
        assert_eq!(both, HeaderMap::new(), "no two words on one body's length");
    }

    #[test]
    fn the_next_hop_hears_who_asks_and_what_was_said_before() {
        let peer = IpAddr::from([192, 0, 2, 7]);
        let cases = [
            (headers(&[]), "192.0.2.7", "http"),
            (
                headers(&[
                    ("x-forwarded-for", "a"),
                    ("x-forwarded-for", " b,, c"),
                    ("x-forwarded-proto", "https"),
                ]),
                "a, b, c, 192.0.2.7",
                "https",
            ),
        ];
        for (mut all, by, scheme) in cases {
            forward(&mut all, peer, false);
            assert_eq!(
                (&all[FORWARDED_FOR], &all[FORWARDED_PROTO]),
                (&by.parse().unwrap(), &scheme.parse().unwrap())
            );
            assert_eq!(all.len(), 2);
        }
    }

    #[test]
    fn a_websocket_is_asked_for_in_any_case() {
        let cases = [("WebSocket", true), ("h2c, websocket", true), ("h2c", false)];
        for (value, expected) in cases {
            assert_eq!(asks_for_websocket(&headers(&[("upgrade", value)])), expected, "{value}");
        }
    }
}
