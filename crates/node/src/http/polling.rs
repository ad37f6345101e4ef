//! The three requests of long-polling: open, wait for packets, hand packets in.
//! Never holds a session open: a request that goes away closes it.

use std::rc::Rc;

use bytes::Bytes;
use greenroom_socketio::engine::{
    DisconnectReason, EnginePacket, PayloadError, PayloadReader, RequestError, Transport,
};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::{Response, compress, plain, refusal, respond};
use crate::handshake::Handshake;
use crate::hooks::{EngineRequest, Refused};
use crate::line::{Body, Line};
use crate::session::{Goodbye, Session};
use crate::state::NodeState;

fn packets(session: &Session, request: &EngineRequest, body: Body) -> Response {
    let mut answer = respond(StatusCode::OK, "text/plain; charset=UTF-8", Bytes::new());
    compress::fill(&mut answer, body, request.headers(), session.state.config.http_compression);
    answer
}

pub(super) fn open(state: &Rc<NodeState>, handshake: Handshake) -> Response {
    let session = Session::open_polling(state, handshake);
    let payload = session.open_payload(Transport::Polling);
    session.tell_created(&EnginePacket::Open(&payload));
    let open = Bytes::from(format!("0{payload}"));
    let mut response = respond(StatusCode::OK, "text/plain; charset=UTF-8", open);
    let cookie = state.config.cookie.as_ref().and_then(|cookie| cookie.header(&session.sid));
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn bad_request() -> Response {
    refusal(&Refused::new(RequestError::BadRequest, ""))
}

/// What a poll meets.
enum Met {
    Packets(Body),
    Nothing(oneshot::Receiver<Body>),
    Another,
    NoLine,
}

pub(super) async fn poll(session: &Rc<Session>, request: &EngineRequest) -> Response {
    session.state.counting.polls_total.one();
    let met = meet(session);
    match met {
        Met::Packets(body) => {
            if session.is_closing() {
                session.flush();
            }
            session.tell_drained();
            packets(session, request, body)
        }
        Met::Nothing(waiting) => {
            let watch = Watch { session: Rc::clone(session), is_over: false };
            let answer = waiting.await;
            watch.disarm();
            match answer {
                Ok(body) => packets(session, request, body),
                Err(_) => refusal(&Refused::new(RequestError::UnknownSession, "CLOSED")),
            }
        }
        Met::Another => {
            session.explain(&"two polls at once");
            session.close_faulty(DisconnectReason::TransportError, None);
            bad_request()
        }
        Met::NoLine => bad_request(),
    }
}

fn meet(session: &Rc<Session>) -> Met {
    let Line::Polling(polling) = &mut *session.line.borrow_mut() else { return Met::NoLine };
    if polling.waiter.is_some() {
        return Met::Another;
    }
    if !polling.is_empty() {
        return Met::Packets(polling.take_body(session.state.config.limits.payload_bytes_max));
    }
    if session.upgrade.get().is_probed() {
        return Met::Packets(Body::NOOP);
    }
    let (waiter, waiting) = oneshot::channel();
    polling.waiter = Some(waiter);
    Met::Nothing(waiting)
}

/// Closes the session when the request it watches goes away unanswered.
struct Watch {
    session: Rc<Session>,
    is_over: bool,
}

impl Watch {
    fn disarm(mut self) {
        self.is_over = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.session.explain(&"a polling request was aborted");
            self.session.close(DisconnectReason::TransportClose, Goodbye::HangUp);
        }
    }
}

pub(super) async fn post(session: &Rc<Session>, body: Option<Incoming>) -> Response {
    let Some(body) = body else { return bad_request() };
    session.state.counting.posts_total.one();
    let is_another = match &mut *session.line.borrow_mut() {
        Line::Polling(polling) => std::mem::replace(&mut polling.is_posting, true),
        Line::WebSocket(_) | Line::Gone => return bad_request(),
    };
    if is_another {
        session.explain(&"two posts at once");
        session.close_faulty(DisconnectReason::TransportError, None);
        return bad_request();
    }
    let watch = Watch { session: Rc::clone(session), is_over: false };
    let bytes_max = session.state.config.limits.payload_bytes_max;
    let body = Limited::new(body, bytes_max).collect();
    let body = tokio::time::timeout(session.state.config.body_timeout, body).await;
    watch.disarm();
    if let Line::Polling(polling) = &mut *session.line.borrow_mut() {
        polling.is_posting = false;
    }
    match body {
        Ok(Ok(body)) => hand_in(session, &body.to_bytes(), bytes_max),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_long(session),
        Ok(Err(_)) | Err(_) => {
            session.explain(&"the body of a post did not come");
            session.close_faulty(DisconnectReason::TransportError, None);
            plain(StatusCode::REQUEST_TIMEOUT, "the body did not come")
        }
    }
}

fn too_long(session: &Rc<Session>) -> Response {
    session.explain(&"the body of a post is too long");
    session.close_faulty(DisconnectReason::TransportError, None);
    plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")
}

fn hand_in(session: &Rc<Session>, body: &[u8], bytes_max: usize) -> Response {
    let reader = match PayloadReader::new(body, bytes_max) {
        Ok(reader) => reader,
        Err(PayloadError::TooLong { .. }) => return too_long(session),
        Err(PayloadError::InvalidUtf8 | PayloadError::Base64 | PayloadError::Packet(_)) => {
            session.close_faulty(DisconnectReason::ParseError, None);
            return bad_request();
        }
    };
    for packet in reader {
        match packet {
            Ok(packet) => session.handle_packet(packet),
            Err(error) => {
                tracing::debug!(%error, "polling body refused");
                session.explain(&error);
                session.close_faulty(DisconnectReason::ParseError, None);
                return bad_request();
            }
        }
    }
    respond(StatusCode::OK, "text/html", Bytes::from_static(b"ok"))
}
