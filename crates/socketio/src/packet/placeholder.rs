//! Owns the stand-ins for binary attachments in JSON.
//! Never copies an attachment.

use serde::{Deserialize, Serialize};

use super::json::{JsonError, Passed, Scanner};

/// Stands in an argument for the binary attachment of that number: `{"_placeholder":true,"num":0}`. To be put into
/// a value that is sent with attachments, and read out of one that was received; then take
/// [`super::Packet::attachments`] at [`Self::num`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placeholder {
    #[serde(rename = "_placeholder")]
    marker: Marker,
    /// The place in the list of attachments, from 0.
    pub num: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marker;

impl Serialize for Marker {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Marker {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            Ok(Self)
        } else {
            Err(serde::de::Error::custom("a placeholder says true"))
        }
    }
}

impl Placeholder {
    /// Stands for attachment `num`, counted from 0.
    #[must_use]
    pub const fn new(num: usize) -> Self {
        Self { marker: Marker, num }
    }
}

/// Why the placeholders of a packet do not fit its attachments, or the JSON cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// A placeholder has no number, or one that no attachment has.
    #[error("a placeholder names none of the {attachments} attachments")]
    OutOfRange {
        /// How many attachments the packet has.
        attachments: usize,
    },
    /// The JSON is broken or too deep.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// One open object of a walk.
#[derive(Debug, Clone, Copy, Default)]
struct Object {
    key: Key,
    is_placeholder: bool,
    num: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Marker,
    Num,
}

impl Key {
    /// Reads a key with its quotes. A key in escapes means the same as one without, so it must not slip through.
    fn read(raw: &[u8]) -> Self {
        if raw.contains(&b'\\') {
            // The longest form of `_placeholder` is six bytes a character.
            if raw.len() > 2 + 6 * "_placeholder".len() {
                return Self::Other;
            }
            return serde_json::from_slice::<String>(raw).map_or(Self::Other, |key| Self::named(&key));
        }
        std::str::from_utf8(raw).map_or(Self::Other, |key| Self::named(key.trim_matches('"')))
    }

    fn named(key: &str) -> Self {
        match key {
            "_placeholder" => Self::Marker,
            "num" => Self::Num,
            _ => Self::Other,
        }
    }
}

/// Checks that each placeholder in `json` names one of `attachments` attachments, as a receiver will look it up: a key
/// that comes twice counts as it comes last.
pub(super) fn check(json: &str, attachments: usize, depth_max: usize) -> Result<(), PlaceholderError> {
    let mut objects: Vec<Object> = Vec::new();
    let mut scanner = Scanner::new(json, depth_max);
    scanner.walk(0, |passed, raw| {
        match passed {
            Passed::ObjectOpen => objects.push(Object::default()),
            Passed::Key => {
                let object = objects.last_mut().expect("a key stands in an object");
                object.key = Key::read(raw);
                // What follows may be an array or an object, which is neither true nor a number; a scalar sets it again.
                object.set(b"[]");
            }
            Passed::Scalar => objects.last_mut().expect("the value of a key stands in an object").set(raw),
            Passed::ObjectClose => {
                let object = objects.pop().expect("each object that closes was opened");
                if object.is_placeholder && object.num.is_none_or(|num| num >= attachments) {
                    return Err(PlaceholderError::OutOfRange { attachments });
                }
            }
        }
        Ok(())
    })?;
    Ok(scanner.end()?)
}

impl Object {
    fn set(&mut self, raw: &[u8]) {
        match self.key {
            Key::Other => {}
            Key::Marker => self.is_placeholder = raw == b"true",
            Key::Num => self.num = std::str::from_utf8(raw).ok().and_then(|num| num.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_reads_and_writes_as_the_protocol_has_it() {
        let json = r#"{"_placeholder":true,"num":3}"#;
        assert_eq!(serde_json::to_string(&Placeholder::new(3)).unwrap(), json);
        assert_eq!(serde_json::from_str::<Placeholder>(json).unwrap(), Placeholder::new(3));
        assert!(serde_json::from_str::<Placeholder>(r#"{"_placeholder":false,"num":3}"#).is_err());
    }

    #[test]
    fn placeholders_name_attachments_that_are_there() {
        for json in [
            "[]",
            r#"["x",{"_placeholder":true,"num":1}]"#,
            r#"["x",{"num":0,"_placeholder":true},[{"a":{"_placeholder":true,"num":1}}]]"#,
            r#"["x",{"_placeholder":false,"num":9}]"#,
            r#"["x",{"_placeholder":"true"}]"#,
            r#"["_placeholder",true,{"num":7}]"#,
            r#"["x",{"_placeholder":true,"num":9,"num":0}]"#,
            r#"["x",{"_placeholder":true,"_placeholder":[true]}]"#,
            r#"["x",{"_placeholder":true,"_placeholder":{}}]"#,
        ] {
            assert_eq!(check(json, 2, 64), Ok(()), "{json}");
        }
        for json in [
            r#"["x",{"_placeholder":true,"num":2}]"#,
            r#"["x",{"_placeholder":true,"num":-1}]"#,
            r#"["x",{"_placeholder":true,"num":0.5}]"#,
            r#"["x",{"_placeholder":true,"num":"0"}]"#,
            r#"["x",{"_placeholder":true,"num":[0]}]"#,
            r#"["x",{"_placeholder":true,"num":0,"num":[0]}]"#,
            r#"["x",{"_placeholder":true}]"#,
            r#"["x",{"_placeholder":true,"num":0,"num":9}]"#,
            r#"["x",[[{"a":[{"_placeholder":true,"num":2}]}]]]"#,
            r#"["x",{"\u005fplaceholder":true,"num":2}]"#,
            r#"["x",{"_placeholder":true,"n\u0075m":2,"a":{"num":0}}]"#,
        ] {
            assert_eq!(check(json, 2, 64), Err(PlaceholderError::OutOfRange { attachments: 2 }), "{json}");
        }
    }
}
