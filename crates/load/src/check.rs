//! Owns the reading of what the oracles need out of an event: sender, number and moments, or key and hash.
//! Never judges it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher as _},
    time::Duration,
};

use serde_json::value::RawValue;

use crate::{
    scenario::{AgreedCheck, SequenceCheck, player_of},
    template::FRACTION,
};

/// What a numbered event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// Who sent it; `None` for the one who hears it.
    pub sender: Option<u32>,
    /// Its number, from 1.
    pub number: u32,
    /// When it was meant to be sent and when it was, since the start of the run, if it says so.
    pub sent: Option<(Duration, Duration)>,
}

/// Reads a numbered event. `None` when sender or number cannot be told.
#[must_use]
pub fn numbered(check: &SequenceCheck, seed: u64, argument: &str) -> Option<Numbered> {
    let fields = fields(argument);
    let field = |name: &Option<String>| match name {
        Some(name) => fields.as_ref()?.get(name.as_str()).map(|raw| raw.get()),
        None => Some(argument),
    };
    let sender = match &check.sender {
        Some(_) => Some(player_of(seed, &text(field(&check.sender)?)?)?),
        None => None,
    };
    let raw = field(&check.number)?;
    let (number, sent) = match text(raw) {
        Some(stamp) => stamp_of(&stamp)?,
        None => (number_of(raw)?, None),
    };
    Some(Numbered { sender, number, sent })
}

/// Key and hash of an event that all must hear alike, if it is one of those that are compared.
#[must_use]
pub fn state(check: &AgreedCheck, argument: &str) -> Option<(i64, u64)> {
    let key: i64 = fields(argument)?.get(check.key.as_str())?.get().parse().ok()?;
    (key % i64::from(check.every.max(1)) == 0).then(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(argument.as_bytes());
        (key, hasher.finish())
    })
}

fn fields(argument: &str) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(argument).ok()
}

fn text(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// `number@due@sent`, both in microseconds; the last two may be missing.
fn stamp_of(stamp: &str) -> Option<(u32, Option<(Duration, Duration)>)> {
    let mut parts = stamp.split('@');
    let number = parts.next()?.parse().ok()?;
    let mut moment = || parts.next()?.parse().ok().map(Duration::from_micros);
    let sent = moment().zip(moment());
    Some((number, sent))
}

/// A whole number, or a fraction of 65,536.
fn number_of(raw: &str) -> Option<u32> {
    if let Ok(number) = raw.parse() {
        return Some(number);
    }
    let fraction: f64 = raw.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be within 0 and 65,536"
    )]
    (0.0..1.0).contains(&fraction).then(|| (fraction * FRACTION).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flow::SocketName, scenario::Scope};

    fn check(sender: Option<&str>, number: Option<&str>) -> SequenceCheck {
        SequenceCheck {
            socket: SocketName::Game,
            event: "e".into(),
            sender: sender.map(str::to_owned),
            number: number.map(str::to_owned),
            scope: Scope::Group,
            whole: false,
        }
    }

    #[test]
    fn sender_number_and_moments_are_read_wherever_they_are() {
        let sent = Some((Duration::from_micros(10), Duration::from_micros(12)));
        let line = check(Some("from"), Some("text"));
        let stroke = check(Some("color"), Some("x0"));
        let echo = check(None, None);
        let cases = [
            (&line, r#"{"from":"swarm-7-4","text":"5@10@12"}"#, Some((Some(4), 5, sent))),
            (&line, r#"{"from":"swarm-7-4","text":"5"}"#, Some((Some(4), 5, None))),
            (&line, r#"{"from":"ann","text":"5"}"#, None),
            (&line, r#"{"from":"swarm-7-4","text":"hello"}"#, None),
            (&line, "null", None),
            (&stroke, r##"{"color":"#00002a","x0":0.0000762939453125}"##, Some((Some(42), 5, None))),
            (&echo, r#""5@10@12""#, Some((None, 5, sent))),
            (&echo, "5", Some((None, 5, None))),
        ];
        for (check, argument, expected) in cases {
            let read = numbered(check, 7, argument).map(|read| (read.sender, read.number, read.sent));
            assert_eq!(read, expected, "{argument}");
        }
    }

    #[test]
    fn states_of_some_keys_are_hashed() {
        let check =
            AgreedCheck { socket: SocketName::Game, event: "e".into(), key: "t".into(), every: 2, skip: 0 };
        let (key, hash) = state(&check, r#"{"t":4,"p":[1]}"#).unwrap();
        assert_eq!(key, 4);
        assert_ne!(state(&check, r#"{"t":4,"p":[2]}"#).unwrap().1, hash);
        assert_eq!(state(&check, r#"{"t":5,"p":[1]}"#), None);
        assert_eq!(state(&check, r#"{"p":[1]}"#), None);
    }
}
