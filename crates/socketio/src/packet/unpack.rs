//! Owns the reading of packets in MessagePack, as the npm package `socket.io-msgpack-parser` writes them.
//! Never builds values: what is read becomes the same text and attachments that the standard format has.

use bytes::Bytes;

use super::{Content, DecodeError, JsonError, Packet, PacketKind};
use crate::{Limits, limits::JSON_DEPTH_CEILING};

/// Reads one message, a map with `type`, `nsp`, `data` and perhaps `id`; other keys are skipped. Binary parts become
/// attachments and are bound by the limits of attachments; dates become texts as JSON has them.
///
/// # Errors
/// On everything the protocol forbids, and on what crosses a limit.
pub fn unpack(message: &[u8], limits: &Limits) -> Result<Packet, DecodeError> {
    read(message, limits)?.check(limits)
}

/// The same before it is judged.
pub(super) fn read(message: &[u8], limits: &Limits) -> Result<Content, DecodeError> {
    let mut reader = Reader::new(message, limits);
    let content = reader.content()?;
    reader.end()?;
    Ok(content)
}

/// Reads what an emitter publishes, a list of a text (who speaks), a packet and the options, which come as JSON.
pub(crate) fn unpack_emitted(
    message: &[u8],
    limits: &Limits,
) -> Result<(String, Packet, String), DecodeError> {
    let mut reader = Reader::new(message, limits);
    let Some(Head::List(3)) = reader.head()? else { return reader.fault() };
    let Some(Head::Text(speaker)) = reader.head()? else { return reader.fault() };
    let content = reader.content()?;
    let mut options = String::new();
    reader.value(&mut options, 0)?;
    reader.end()?;
    if !reader.attachments.is_empty() {
        return reader.fault();
    }
    Ok((speaker.to_owned(), content.check(limits)?, options))
}

/// Reads any value as JSON, with placeholders for the bytes in it, and those bytes.
pub(crate) fn unpack_value(message: &[u8], limits: &Limits) -> Result<(String, Vec<Bytes>), DecodeError> {
    let mut reader = Reader::new(message, limits);
    let mut json = String::new();
    reader.value(&mut json, 0)?;
    reader.end()?;
    Ok((json, reader.attachments))
}

/// What a message's map holds.
#[derive(Default)]
struct Fields {
    kind: Option<u64>,
    namespace: Option<String>,
    id: Option<u64>,
    /// JSON text.
    data: Option<String>,
}

impl Fields {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let Some(Head::Text(key)) = reader.head()? else { return reader.fault() };
        match key {
            "type" => self.kind = reader.number()?,
            "id" => self.id = reader.number()?,
            "nsp" => match reader.head()? {
                Some(Head::Text(namespace)) => self.namespace = Some(namespace.to_owned()),
                _ => return reader.fault(),
            },
            "data" => {
                // A second one would keep the attachments of the first.
                if self.data.is_some() || !reader.attachments.is_empty() {
                    return reader.fault();
                }
                let mut json = String::new();
                reader.value(&mut json, 0)?;
                self.data = Some(json).filter(|json| json != "null");
            }
            _ => {
                let kept = reader.attachments.len();
                reader.value(&mut String::new(), 0)?;
                reader.attachments.truncate(kept);
            }
        }
        Ok(())
    }
}

/// The start of a value; texts, bytes and numbers are read with it.
enum Head<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
    Binary(&'a [u8]),
    /// Milliseconds since 1970.
    Date(i64),
    List(u32),
    Map(u32),
}

/// Extensions that are known by their numbers. 0 is what the npm packages made up for buffers, dates and `undefined`.
const BUFFER: u64 = 0;
const TIMESTAMP: u64 = 0xff;

/// Out of what a calendar has is out of it afterwards too.
fn millis(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    depth_max: usize,
    attachments_max: usize,
    bytes_left: usize,
    bytes_max: usize,
    attachments: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    fn new(message: &'a [u8], limits: &Limits) -> Self {
        Self {
            message,
            at: 0,
            depth_max: limits.json_depth_max.min(JSON_DEPTH_CEILING),
            attachments_max: limits.attachments_max,
            bytes_left: limits.attachment_bytes_max,
            bytes_max: limits.attachment_bytes_max,
            attachments: Vec::new(),
        }
    }

    fn fault<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::Msgpack { at: self.at })
    }

    /// The map of a packet. Its binary parts are taken away with it.
    fn content(&mut self) -> Result<Content, DecodeError> {
        let mut fields = Fields::default();
        let Some(Head::Map(pairs)) = self.head()? else { return self.fault() };
        for _ in 0..pairs {
            fields.read(self)?;
        }
        let kind = fields.kind.and_then(PacketKind::of_number).ok_or(DecodeError::UnknownType)?;
        Ok(Content {
            kind,
            namespace: fields.namespace.unwrap_or_default(),
            id: fields.id,
            data: fields.data,
            attachments: std::mem::take(&mut self.attachments),
        })
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.message.len() { Ok(()) } else { self.fault() }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.message.len());
        let Some(end) = end else { return self.fault() };
        let taken = &self.message[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64, DecodeError> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, bytes: usize) -> Result<i64, DecodeError> {
        let unused = 64 - 8 * u32::try_from(bytes).expect("a number has eight bytes at most");
        let number = self.unsigned(bytes)? << unused;
        Ok(number.cast_signed() >> unused)
    }

    fn length(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        let length = self.unsigned(bytes)?;
        usize::try_from(length).or_else(|_| self.fault())
    }

    fn count(&mut self, bytes: usize) -> Result<u32, DecodeError> {
        let count = self.unsigned(bytes)?;
        u32::try_from(count).or_else(|_| self.fault())
    }

    fn text(&mut self, length: usize) -> Result<Option<Head<'a>>, DecodeError> {
        let bytes = self.take(length)?;
        match simdutf8::basic::from_utf8(bytes) {
            Ok(text) => Ok(Some(Head::Text(text))),
            Err(_) => self.fault(),
        }
    }

    fn binary(&mut self, length: usize) -> Result<Option<Head<'a>>, DecodeError> {
        Ok(Some(Head::Binary(self.take(length)?)))
    }

    /// Extensions: a buffer of some length, or a moment.
    fn extension(&mut self, length: usize) -> Result<Option<Head<'a>>, DecodeError> {
        match self.unsigned(1)? {
            BUFFER => self.binary(length),
            TIMESTAMP if length == 12 => {
                let nanoseconds = self.signed(4)?;
                let seconds = self.signed(8)?;
                Ok(Some(Head::Date(millis(seconds, nanoseconds))))
            }
            _ => self.fault(),
        }
    }

    /// A date of the npm package before version 3, or a moment as MessagePack has it.
    fn long_date(&mut self) -> Result<Option<Head<'a>>, DecodeError> {
        match self.unsigned(1)? {
            BUFFER => Ok(Some(Head::Date(self.signed(8)?))),
            TIMESTAMP => {
                let both = self.unsigned(8)?;
                let (nanoseconds, seconds) = (both >> 34, both & ((1 << 34) - 1));
                Ok(Some(Head::Date(millis(seconds.cast_signed(), nanoseconds.cast_signed()))))
            }
            _ => self.fault(),
        }
    }

    /// `None`: `undefined`.
    fn head(&mut self) -> Result<Option<Head<'a>>, DecodeError> {
        let first = self.take(1)?[0];
        let head = match first {
            0x00..=0x7f => Head::Unsigned(u64::from(first)),
            0x80..=0x8f => Head::Map(u32::from(first & 0x0f)),
            0x90..=0x9f => Head::List(u32::from(first & 0x0f)),
            0xa0..=0xbf => return self.text(usize::from(first & 0x1f)),
            0xc0 => Head::Null,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(1 << (first - 0xc4))?;
                return self.binary(length);
            }
            0xc7..=0xc9 => {
                let length = self.length(1 << (first - 0xc7))?;
                return self.extension(length);
            }
            0xca => {
                let bits = self.count(4)?;
                Head::Float(f64::from(f32::from_bits(bits)))
            }
            0xcb => Head::Float(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => Head::Unsigned(self.unsigned(1 << (first - 0xcc))?),
            0xd0..=0xd3 => Head::Signed(self.signed(1 << (first - 0xd0))?),
            0xd4 => return if self.take(2)? == [0, 0] { Ok(None) } else { self.fault() },
            0xd6 if self.unsigned(1)? == TIMESTAMP => Head::Date(millis(self.unsigned(4)?.cast_signed(), 0)),
            0xd7 => return self.long_date(),
            0xd9..=0xdb => {
                let length = self.length(1 << (first - 0xd9))?;
                return self.text(length);
            }
            0xdc => Head::List(self.count(2)?),
            0xdd => Head::List(self.count(4)?),
            0xde => Head::Map(self.count(2)?),
            0xdf => Head::Map(self.count(4)?),
            0xe0..=0xff => Head::Signed(i64::from(first.cast_signed())),
            0xc1 | 0xd5 | 0xd6 | 0xd8 => return self.fault(),
        };
        Ok(Some(head))
    }

    /// A whole number that is not negative, or nothing.
    fn number(&mut self) -> Result<Option<u64>, DecodeError> {
        match self.head()? {
            Some(Head::Unsigned(number)) => Ok(Some(number)),
            Some(Head::Signed(number)) if number >= 0 => Ok(Some(number.unsigned_abs())),
            Some(Head::Null) | None => Ok(None),
            Some(_) => self.fault(),
        }
    }

    /// Writes the next value as JSON. Recurses as deep as the limit allows.
    fn value(&mut self, json: &mut String, depth: usize) -> Result<(), DecodeError> {
        match self.head()? {
            Some(Head::Null) | None => json.push_str("null"),
            Some(Head::Bool(value)) => json.push_str(if value { "true" } else { "false" }),
            Some(Head::Unsigned(number)) => json.push_str(&number.to_string()),
            Some(Head::Signed(number)) => json.push_str(&number.to_string()),
            Some(Head::Float(number)) => {
                json.push_str(&serde_json::Value::from(number).to_string());
            }
            Some(Head::Text(text)) => push_text(json, text),
            Some(Head::Date(millis)) => push_date(json, millis),
            Some(Head::Binary(bytes)) => self.attach(json, bytes)?,
            Some(Head::List(count)) => {
                self.deeper(depth)?;
                json.push('[');
                for index in 0..count {
                    if index > 0 {
                        json.push(',');
                    }
                    self.value(json, depth + 1)?;
                }
                json.push(']');
            }
            Some(Head::Map(count)) => {
                self.deeper(depth)?;
                json.push('{');
                for index in 0..count {
                    if index > 0 {
                        json.push(',');
                    }
                    let Some(Head::Text(key)) = self.head()? else { return self.fault() };
                    push_text(json, key);
                    json.push(':');
                    self.value(json, depth + 1)?;
                }
                json.push('}');
            }
        }
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<(), DecodeError> {
        if depth < self.depth_max {
            Ok(())
        } else {
            Err(JsonError::TooDeep { depth_max: self.depth_max }.into())
        }
    }

    fn attach(&mut self, json: &mut String, bytes: &[u8]) -> Result<(), DecodeError> {
        if self.attachments.len() >= self.attachments_max {
            return Err(DecodeError::TooManyAttachments { attachments_max: self.attachments_max });
        }
        let left = self.bytes_left.checked_sub(bytes.len());
        self.bytes_left = left.ok_or(DecodeError::AttachmentsTooLong { bytes_max: self.bytes_max })?;
        json.push_str(&format!(r#"{{"_placeholder":true,"num":{}}}"#, self.attachments.len()));
        self.attachments.push(Bytes::copy_from_slice(bytes));
        Ok(())
    }
}

fn push_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// A date as `JSON.stringify` writes it; `null` for one that no calendar has.
fn push_date(json: &mut String, millis: i64) {
    const DAY_MS: i64 = 86_400_000;
    /// The last moment of JavaScript's `Date`.
    const LAST_MS: i64 = 8_640_000_000_000_000;
    if !(-LAST_MS..=LAST_MS).contains(&millis) {
        json.push_str("null");
        return;
    }
    let (days, rest) = (millis.div_euclid(DAY_MS), millis.rem_euclid(DAY_MS));
    // Days from 0000-03-01, in eras of 400 years, each of which has as many days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        10_000.. => format!("+{year:06}"),
        ..0 => format!("-{:06}", -year),
    };
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    json.push_str(&format!("\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z\""));
}
