//! Reads what a Redis answers. Never trusts it: whatever is not as expected is an error.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client may learn of more kinds of values; whatever is not expected is an error"
)]

use ::redis::Value;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Logged, NotRestored, Own, Pid, Position, SessionRecord};

/// An answer that this program did not expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Odd {
    /// The store refused, in its own words.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// Another shape than its question has.
    #[error("the store gave an answer of an unknown shape where {0} was expected")]
    Shape(&'static str),
}

/// What a script answered.
pub(super) struct Answered {
    /// `None`: there is no History.
    pub(super) epoch: Option<u64>,
    pub(super) answers: Vec<Value>,
}

pub(super) fn array(value: Value, what: &'static str) -> Result<Vec<Value>, Odd> {
    match value {
        Value::Array(items) => Ok(items),
        Value::ServerError(error) => Err(Odd::Refused(error.to_string())),
        _ => Err(Odd::Shape(what)),
    }
}

pub(super) fn fields<const N: usize>(value: Value, what: &'static str) -> Result<[Value; N], Odd> {
    array(value, what)?.try_into().map_err(|_| Odd::Shape(what))
}

pub(super) fn text(value: Value, what: &'static str) -> Result<String, Odd> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| Odd::Shape(what)),
        Value::SimpleString(text) => Ok(text),
        Value::Okay => Ok("OK".to_owned()),
        Value::ServerError(error) => Err(Odd::Refused(error.to_string())),
        _ => Err(Odd::Shape(what)),
    }
}

pub(super) fn number(value: Value, what: &'static str) -> Result<u64, Odd> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| Odd::Shape(what)),
        other => text(other, what)?.parse().map_err(|_| Odd::Shape(what)),
    }
}

fn epoch(text: &str) -> Result<u64, Odd> {
    u64::from_str_radix(text, 16).map_err(|_| Odd::Shape("an epoch"))
}

pub(super) fn answered(value: Value) -> Result<Answered, Odd> {
    let [current, fault, answers] = fields(value, "a script's answer")?;
    let fault = text(fault, "a fault")?;
    if !fault.is_empty() {
        return Err(Odd::Refused(fault));
    }
    let current = text(current, "an epoch")?;
    let epoch = if current.is_empty() { None } else { Some(epoch(&current)?) };
    Ok(Answered { epoch, answers: array(answers, "answers")? })
}

/// Epoch, the last event that counts as known, and what is gone.
pub(super) fn attached(value: Value) -> Result<(u64, u64, u64), Odd> {
    let [current, head, floor] = fields(value, "the answer to attach")?;
    let current = epoch(&text(current, "an epoch")?)?;
    Ok((current, number(head, "a head")?, number(floor, "a floor")?))
}

/// `OFFSET-N`.
pub(super) fn offset_n(text: &str) -> Result<(u64, u32), Odd> {
    let parts = text.split_once('-').and_then(|(offset, n)| Some((offset.parse().ok()?, n.parse().ok()?)));
    parts.ok_or(Odd::Shape("an id of an own event"))
}

/// The place of an own event; `None`: it was not kept.
pub(super) fn kept(value: Value) -> Result<Option<(u64, u32)>, Odd> {
    match value {
        Value::Int(0) => Ok(None),
        other => offset_n(&text(other, "an id of an own event")?).map(Some),
    }
}

/// An entry of a log: its epoch, its header and the event.
pub(super) fn entry(value: Value) -> Result<(u64, String, Logged), Odd> {
    const WHAT: &str = "an event";
    let [id, pairs] = fields(value, WHAT)?;
    let [_, header, _, event] = fields(pairs, WHAT)?;
    let (id, header) = (text(id, WHAT)?, text(header, WHAT)?);
    let offset = id.split('-').next().and_then(|offset| offset.parse().ok()).ok_or(Odd::Shape(WHAT))?;
    let mut parts = header.split(' ');
    let mut next = || parts.next().ok_or(Odd::Shape(WHAT));
    let (of, at_ms, origin, seq) = (epoch(next()?)?, next()?, next()?, next()?);
    let Value::BulkString(event) = event else { return Err(Odd::Shape(WHAT)) };
    let logged = Logged {
        offset,
        at_ms: at_ms.parse().map_err(|_| Odd::Shape(WHAT))?,
        origin: origin.to_owned(),
        seq: seq.parse().map_err(|_| Odd::Shape(WHAT))?,
        relay: serde_json::from_slice(&event).map_err(|_| Odd::Shape(WHAT))?,
    };
    Ok((of, header, logged))
}

/// A page: its floor, the head, and the events.
pub(super) fn page(value: Value) -> Result<(u64, u64, Vec<Logged>), Odd> {
    let [floor, head, events] = fields(value, "a page")?;
    let events = array(events, "a page")?;
    let events = events.into_iter().map(|each| entry(each).map(|(_, _, logged)| logged));
    Ok((number(floor, "a floor")?, number(head, "a head")?, events.collect::<Result<_, _>>()?))
}

/// What became of a question for a session.
pub(super) struct Taken {
    pub(super) head: u64,
    /// The session and who held it until now.
    pub(super) session: Result<(Box<SessionRecord>, String), NotRestored>,
}

pub(super) fn taken(value: Value, pid: &Pid, namespace: &str, node: &str) -> Result<Taken, Odd> {
    const WHAT: &str = "a session";
    let mut items = array(value, WHAT)?.into_iter();
    let mut next = || items.next().ok_or(Odd::Shape(WHAT));
    let outcome = text(next()?, WHAT)?;
    let head = number(next()?, WHAT)?;
    let refused = |why| Ok(Taken { head, session: Err(why) });
    match outcome.as_str() {
        "taken" => {}
        "window_over" => return refused(NotRestored::WindowOver),
        "rewound" => return refused(NotRestored::Rewound),
        "unknown_session" => return refused(NotRestored::UnknownSession),
        _ => return Err(Odd::Shape(WHAT)),
    }
    let generation = number(next()?, WHAT)?;
    let former = text(next()?, WHAT)?;
    let socket = text(next()?, WHAT)?;
    let groups = serde_json::from_str(&text(next()?, WHAT)?).map_err(|_| Odd::Shape(WHAT))?;
    let data = serde_json::from_str(&text(next()?, WHAT)?).map_err(|_| Odd::Shape(WHAT))?;
    let window_ms = number(next()?, WHAT)?;
    let epoch = epoch(&text(next()?, WHAT)?)?;
    let (offset, n) = (number(next()?, WHAT)?, number(next()?, WHAT)?);
    let n = u32::try_from(n).map_err(|_| Odd::Shape(WHAT))?;
    let own_lost = Some(text(next()?, WHAT)?).filter(|text| !text.is_empty());
    let own_lost = own_lost.map(|text| text.parse().map(Text).map_err(|_| Odd::Shape(WHAT))).transpose()?;
    let own = array(next()?, WHAT)?.into_iter().map(|each| own(each, epoch)).collect::<Result<_, _>>()?;
    let record = SessionRecord {
        pid: pid.clone(),
        namespace: namespace.to_owned(),
        socket,
        node: node.to_owned(),
        generation,
        groups,
        data,
        window_ms,
        safe: Text(Position { epoch, offset, n }),
        own,
        own_lost,
    };
    Ok(Taken { head, session: Ok((Box::new(record), former)) })
}

fn own(value: Value, epoch: u64) -> Result<Own, Odd> {
    const WHAT: &str = "an own event";
    let [id, pairs] = fields(value, WHAT)?;
    let [_, seq, _, event] = fields(pairs, WHAT)?;
    let (offset, n) = offset_n(&text(id, WHAT)?)?;
    let Value::BulkString(event) = event else { return Err(Odd::Shape(WHAT)) };
    let (packet, attachments) = serde_json::from_slice(&event).map_err(|_| Odd::Shape(WHAT))?;
    // Numbers count for the node that gave them alone, and this one may have others.
    number(seq, WHAT)?;
    Ok(Own { position: Text(Position { epoch, offset, n }), seq: 0, packet, attachments })
}
