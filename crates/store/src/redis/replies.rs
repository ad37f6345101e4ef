//! Reads what the scripts answer. Never trusts it: whatever is not as expected is an error.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client may learn of more kinds of values; whatever is not expected is an error"
)]

use ::redis::Value;

use crate::{Stored, Version};

/// An answer that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Odd {
    /// The store refused, in its own words: it loads, is full, is a replica.
    #[error("the store refuses: {0}")]
    Refused(String),
    /// Another shape than a script gives.
    #[error("the store gave an answer of an unknown shape")]
    Shape,
}

/// What became of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stored {
        history: String,
        version: u64,
    },
    /// Which step, counted from 1, and what is there instead.
    Conflict {
        step: usize,
        found: Option<u64>,
    },
    Loaded {
        history: String,
        commits: u64,
        /// A list for each kind that was asked for.
        records: Vec<Vec<Stored>>,
    },
    /// The store is not what it was.
    Rewound(String),
}

pub(super) fn outcome(answer: Value) -> Result<Outcome, Odd> {
    let items = match answer {
        Value::Array(items) => items,
        Value::ServerError(error) => return Err(Odd::Refused(error.to_string())),
        _ => return Err(Odd::Shape),
    };
    let mut items = items.into_iter();
    let mut next = || items.next().ok_or(Odd::Shape);
    match text(next()?)?.as_str() {
        "stored" => Ok(Outcome::Stored { history: text(next()?)?, version: number(&next()?)? }),
        "conflict" => {
            let step = usize::try_from(number(&next()?)?).map_err(|_| Odd::Shape)?;
            let found = text(next()?)?;
            let found = if found == "-" { None } else { Some(found.parse().map_err(|_| Odd::Shape)?) };
            Ok(Outcome::Conflict { step, found })
        }
        "loaded" => {
            let (history, commits) = (text(next()?)?, number(&next()?)?);
            let Value::Array(kinds) = next()? else { return Err(Odd::Shape) };
            let records = kinds.into_iter().map(records).collect::<Result<_, _>>()?;
            Ok(Outcome::Loaded { history, commits, records })
        }
        "rewound" => Ok(Outcome::Rewound(text(next()?)?)),
        _ => Err(Odd::Shape),
    }
}

/// In the order of their keys.
fn records(value: Value) -> Result<Vec<Stored>, Odd> {
    let Value::Array(items) = value else { return Err(Odd::Shape) };
    let mut stored = Vec::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let Some(key) = items.next() {
        let Some(Value::BulkString(mut bytes)) = items.next() else { return Err(Odd::Shape) };
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Odd::Shape)?;
        let version = std::str::from_utf8(&bytes[..end]).ok().and_then(|digits| digits.parse().ok());
        let version = Version(version.ok_or(Odd::Shape)?);
        bytes.drain(..=end);
        stored.push(Stored { key: text(key)?, version, bytes });
    }
    stored.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    Ok(stored)
}

fn text(value: Value) -> Result<String, Odd> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| Odd::Shape),
        Value::SimpleString(text) => Ok(text),
        _ => Err(Odd::Shape),
    }
}

fn number(value: &Value) -> Result<u64, Odd> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| Odd::Shape),
        _ => Err(Odd::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// The records of one kind.
    fn kinds(records: Vec<Value>) -> Value {
        Value::Array(vec![Value::Array(records)])
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let cases = [
            (Value::Nil, Odd::Shape),
            (Value::Array(vec![]), Odd::Shape),
            (Value::Array(vec![bulk("other")]), Odd::Shape),
            (Value::Array(vec![bulk("stored"), bulk("h"), bulk("7")]), Odd::Shape),
            (Value::Array(vec![bulk("conflict"), Value::Int(-1), bulk("-")]), Odd::Shape),
            (Value::Array(vec![bulk("conflict"), Value::Int(1), bulk("x")]), Odd::Shape),
            (
                Value::Array(vec![bulk("loaded"), bulk("h"), Value::Int(1), Value::Array(vec![bulk("k")])]),
                Odd::Shape,
            ),
            (
                Value::Array(vec![bulk("loaded"), bulk("h"), Value::Int(1), kinds(vec![bulk("k")])]),
                Odd::Shape,
            ),
            (
                Value::Array(vec![
                    bulk("loaded"),
                    bulk("h"),
                    Value::Int(1),
                    kinds(vec![bulk("k"), bulk("no version")]),
                ]),
                Odd::Shape,
            ),
        ];
        for (answer, odd) in cases {
            assert_eq!(outcome(answer.clone()), Err(odd), "{answer:?}");
        }
        let answer = Value::Array(vec![bulk("conflict"), Value::Int(2), bulk("-")]);
        assert_eq!(outcome(answer), Ok(Outcome::Conflict { step: 2, found: None }));
    }
}
