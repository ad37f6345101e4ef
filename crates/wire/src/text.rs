//! A core name on the wire: the text of it, checked when read.

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `T` as its text. Reading one refuses what `T::from_str` refuses, with its message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<T>(pub T);

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsing(PhantomData))
    }
}

/// Reads the text where it lies.
struct Parsing<T>(PhantomData<T>);

impl<T> Visitor<'_> for Parsing<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map(Text).map_err(E::custom)
    }
}

/// The name of a core type, without its path.
fn bare_name<T>() -> &'static str {
    let whole = type_name::<T>();
    whole.rsplit("::").next().unwrap_or(whole)
}

/// Longest text and allowed characters of a core name; what is not known here is any text.
fn spelling(name: &str) -> Option<(u32, &'static str)> {
    const LABEL: &str = "^[a-z0-9-]+$";
    const TOKEN: &str = "^[A-Za-z0-9_.~-]+$";
    const VISIBLE: &str = "^[!-~]+$";
    match name {
        "FleetName" => Some((40, LABEL)),
        "ServerName" => Some((63, LABEL)),
        "Revision" => Some((64, LABEL)),
        "InstanceId" => Some((80, TOKEN)),
        "HostName" => Some((63, TOKEN)),
        "RoomId" => Some((40, TOKEN)),
        "TicketId" => Some((64, TOKEN)),
        "RoomKey" | "PlayerId" | "IdempotencyKey" => Some((128, VISIBLE)),
        _ => None,
    }
}

impl<T> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed(bare_name::<T>())
    }

    fn schema_id() -> Cow<'static, str> {
        Cow::Borrowed(type_name::<Self>())
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        match spelling(bare_name::<T>()) {
            Some((chars_max, pattern)) => json_schema!({
                "type": "string", "minLength": 1, "maxLength": chars_max, "pattern": pattern
            }),
            None => json_schema!({ "type": "string" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_core::{
        FleetName, HostName, IdempotencyKey, InstanceId, PlayerId, Revision, RoomId, RoomKey, ServerName,
        TicketId,
    };

    use super::*;

    fn longest<T: FromStr>() {
        let (chars_max, pattern) = spelling(bare_name::<T>()).expect("the spelling of each name is told");
        let text = "a".repeat(chars_max as usize);
        assert!(
            text.parse::<T>().is_ok() && format!("{text}a").parse::<T>().is_err(),
            "{}",
            bare_name::<T>()
        );
        let inside: &[(&str, bool)] = &[
            ("A", pattern != "^[a-z0-9-]+$"),
            ("~", pattern != "^[a-z0-9-]+$"),
            (":", pattern == "^[!-~]+$"),
            (" ", false),
        ];
        for (text, allowed) in inside {
            assert_eq!(text.parse::<T>().is_ok(), *allowed, "{} {text:?}", bare_name::<T>());
        }
    }

    #[test]
    fn the_spelling_that_is_told_is_the_one_that_is_checked() {
        longest::<FleetName>();
        longest::<HostName>();
        longest::<IdempotencyKey>();
        longest::<InstanceId>();
        longest::<PlayerId>();
        longest::<Revision>();
        longest::<RoomId>();
        longest::<RoomKey>();
        longest::<ServerName>();
        longest::<TicketId>();
    }
}
