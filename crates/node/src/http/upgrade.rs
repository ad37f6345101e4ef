//! The WebSocket opening handshake, and the taking of a session's new connection.
//! Never agrees to an extension.

use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::ws::{accept_key, is_client_key};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{Response, Takeover, plain, respond};
use crate::session::Session;

/// Whether the headers ask for a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The answer 101, or another that says why there is none.
pub(super) fn accept(headers: &HeaderMap) -> Response {
    let bad = |text| plain(StatusCode::BAD_REQUEST, text);
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return bad("the connection header does not say upgrade");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = plain(StatusCode::UPGRADE_REQUIRED, "only websocket version 13 is spoken here");
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let Some(key) = key.filter(|key| is_client_key(key)) else {
        return bad("the websocket key is not sixteen bytes of base64");
    };
    let accept = HeaderValue::from_str(&accept_key(key)).expect("base64 is a valid header");
    let mut response = respond(StatusCode::SWITCHING_PROTOCOLS, "text/plain", Bytes::new());
    let answer = response.headers_mut();
    answer.clear();
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Reserves the session's upgrade for the connection at hand.
pub(super) fn begin(session: &Rc<Session>) -> Takeover {
    let mut upgrade = session.upgrade.get();
    let opened = upgrade.open(session.state.config.upgrade_timeout, session.state.now());
    session.upgrade.set(upgrade);
    match opened {
        Ok(()) if session.transport() == greenroom_socketio::engine::Transport::Polling => {
            if let Some(by) = upgrade.deadline() {
                session.arm(by);
            }
            Takeover::Upgrade(Rc::clone(session))
        }
        Ok(()) | Err(_) => Takeover::Refuse,
    }
}
