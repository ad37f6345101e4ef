//! How a variant of a room's enums becomes an event of the stock Socket.IO client, and back. Never reads a
//! whole packet: framing is `socketio`'s.
//!
//! | Rust | JavaScript |
//! |---|---|
//! | `Move { x: i32 }` | `socket.emit("move", { x: 1 })`, `socket.on("move", ({ x }) => ..)` |
//! | `Say(String)` | `socket.emit("say", "hello")` |
//! | `Swap(u8, u8)` | `socket.emit("swap", [1, 2])`: one argument, an array |
//! | `Ready` | `socket.emit("ready")`: no argument |

use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, VariantAccess,
    Visitor,
};
use serde_json::value::RawValue;

type Reader<'a> = serde_json::Deserializer<serde_json::de::StrRead<'a>>;

/// Why an event cannot become an input: the enum has no such variant, or the argument has another shape than
/// the variant. The client's author must mend it; sending it again changes nothing.
#[derive(Debug, thiserror::Error)]
#[error("event {event:?} is refused: {reason}")]
pub struct DecodeError {
    /// Name of the event, its first 64 characters.
    pub event: String,
    /// What is wrong with it, for the client's author.
    pub reason: String,
}

/// Reads an event as a variant of the enum `T`: the variant named `event`, filled from the one argument, given
/// as JSON text. A variant without fields takes no argument (`null` is as good as none).
pub fn decode<T: DeserializeOwned>(event: &str, argument: Option<&str>) -> Result<T, DecodeError> {
    let argument = argument.filter(|text| text.trim() != "null");
    let shape = |error: serde_json::Error| DecodeError {
        event: event.chars().take(64).collect(),
        reason: error.to_string(),
    };
    T::deserialize(Event { event, argument }).map_err(shape)
}

/// Writes a variant of an enum as an event: its name, and its argument as JSON text (none for a variant
/// without fields). Fails for a value that has no JSON form and for anything that is not an externally
/// tagged enum, which is what serde derives by default.
pub fn encode<T: Serialize>(event: &T) -> Result<(String, Option<String>), serde_json::Error> {
    let text = serde_json::to_string(event)?;
    if text.starts_with('"') {
        return Ok((serde_json::from_str(&text)?, None));
    }
    let Tagged { name, argument } = serde_json::from_str(&text)?;
    Ok((name, Some(argument.get().to_owned())))
}

/// `{"name": argument}` with exactly one entry.
struct Tagged<'a> {
    name: String,
    argument: &'a RawValue,
}

impl<'de> serde::Deserialize<'de> for Tagged<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneEntry;
        impl<'de> Visitor<'de> for OneEntry {
            type Value = Tagged<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an enum variant: an object with one entry")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Tagged<'de>, A::Error> {
                let entry = map.next_entry::<String, &RawValue>()?;
                let (name, argument) = entry.ok_or_else(|| Error::invalid_length(0, &self))?;
                match map.next_key::<String>()? {
                    Some(_) => Err(Error::invalid_length(2, &OneEntry)),
                    None => Ok(Tagged { name, argument }),
                }
            }
        }
        deserializer.deserialize_map(OneEntry)
    }
}

/// An event seen as an enum by serde. `T: DeserializeOwned` accepts any `'de`, so the texts' own will do.
struct Event<'a> {
    event: &'a str,
    argument: Option<&'a str>,
}

impl<'de> Deserializer<'de> for Event<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("the room's event type is not an enum"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Event<'de> {
    type Error = serde_json::Error;
    type Variant = Argument<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Argument<'de>), Self::Error> {
        let name: StrDeserializer<'_, Self::Error> = self.event.into_deserializer();
        Ok((seed.deserialize(name)?, Argument(self.argument)))
    }
}

/// The event's argument, read as the fields of its variant.
struct Argument<'a>(Option<&'a str>);

impl<'a> Argument<'a> {
    fn read<T>(self, read: impl FnOnce(&mut Reader<'a>) -> serde_json::Result<T>) -> serde_json::Result<T> {
        let mut reader = serde_json::Deserializer::from_str(self.0.unwrap_or("null"));
        let value = read(&mut reader).map_err(|error| match self.0 {
            Some(_) => error,
            None => Error::custom("its argument is missing"),
        })?;
        reader.end()?;
        Ok(value)
    }
}

impl<'de> VariantAccess<'de> for Argument<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(Error::custom("it takes no argument")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error> {
        self.read(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.read(|reader| reader.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.read(|reader| reader.deserialize_struct("", fields, visitor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize, Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Sample {
        MoveTo { x: i32, y: i32 },
        Say(String),
        Maybe(Option<u8>),
        Swap(u8, u8),
        Ready,
    }

    #[test]
    fn a_variant_is_an_event_and_back() {
        let cases = [
            (Sample::MoveTo { x: 1, y: -2 }, "move_to", Some(r#"{"x":1,"y":-2}"#)),
            (Sample::Say("a \"b\"".into()), "say", Some(r#""a \"b\"""#)),
            (Sample::Maybe(None), "maybe", Some("null")),
            (Sample::Swap(1, 2), "swap", Some("[1,2]")),
            (Sample::Ready, "ready", None),
        ];
        for (variant, event, argument) in cases {
            assert_eq!(encode(&variant).unwrap(), (event.into(), argument.map(str::to_owned)));
            assert_eq!(decode::<Sample>(event, argument).unwrap(), variant);
        }
        assert_eq!(decode::<Sample>("ready", Some("null")).unwrap(), Sample::Ready);
    }

    #[test]
    fn a_wrong_event_is_refused_with_the_reason() {
        let cases = [
            ("fly", None, "unknown variant `fly`"),
            ("move_to", None, "its argument is missing"),
            ("move_to", Some("[]"), "invalid length 0"),
            ("move_to", Some(r#"{"x":1}"#), "missing field `y`"),
            ("move_to", Some(r#"{"x":1,"y":99999999999}"#), "invalid value"),
            ("say", Some("7"), "invalid type: integer `7`, expected a string"),
            ("say", Some("\"a\" \"b\""), "trailing characters"),
            ("say", Some("\"a"), "EOF while parsing a string"),
            ("ready", Some("{}"), "it takes no argument"),
        ];
        for (event, argument, reason) in cases {
            let error = decode::<Sample>(event, argument).unwrap_err().to_string();
            assert!(error.contains(reason), "{event} {argument:?}: {error}");
        }
    }

    #[test]
    fn what_is_not_an_enum_is_not_an_event() {
        assert!(decode::<u8>("say", Some("1")).unwrap_err().to_string().contains("not an enum"));
        assert!(encode(&7).is_err());
        assert!(encode(&std::collections::BTreeMap::from([("a", 1), ("b", 2)])).is_err());
    }
}
