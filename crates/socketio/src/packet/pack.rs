//! Owns the writing of packets in MessagePack, as the npm package `socket.io-msgpack-parser` reads them.
//! Never reads what was not checked as JSON before.

use std::borrow::Cow;

use bytes::Bytes;

use super::{JsonError, Placeholder, Prepared, json::Scanner};
use crate::limits::JSON_DEPTH_CEILING;

/// Writes the message of a packet: a map with `type`, `nsp`, `data` and perhaps `id`. Placeholders become the bytes
/// that they stand for.
pub(super) fn pack(packet: &Prepared) -> Result<Vec<u8>, JsonError> {
    let data = packet.data();
    let mut out = Vec::with_capacity(data.len() + packet.namespace().len() + 32);
    let pairs = 2 + u8::from(!data.is_empty()) + u8::from(packet.ack_id().is_some());
    out.push(0x80 | pairs);
    write_text(&mut out, "type");
    out.push(packet.kind().number());
    write_text(&mut out, "nsp");
    write_text(&mut out, packet.namespace());
    if let Some(id) = packet.ack_id() {
        write_text(&mut out, "id");
        write_unsigned(&mut out, id.get());
    }
    if !data.is_empty() {
        write_text(&mut out, "data");
        let attachments: Vec<Bytes> = packet.attachments().collect();
        let scanner = Scanner::new(data, JSON_DEPTH_CEILING);
        Packer { json: data, scanner, out: &mut out, attachments: &attachments }.value(0)?;
    }
    Ok(out)
}

/// Writes any JSON. Placeholders become the bytes that they stand for.
pub(crate) fn pack_value(json: &str, attachments: &[Bytes]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(json.len());
    let scanner = Scanner::new(json, JSON_DEPTH_CEILING);
    let mut packer = Packer { json, scanner, out: &mut out, attachments };
    packer.value(0)?;
    packer.scanner.end()?;
    Ok(out)
}

/// The short forms first, which hold up to `short_max`; then those with 1, 2 or 4 bytes of length.
fn write_length(out: &mut Vec<u8>, length: usize, short: Option<(u8, usize)>, one: Option<u8>, two: u8) {
    if let Some((code, max)) = short
        && length <= max
    {
        out.push(code | low_byte(length));
    } else if let Some(code) = one
        && length <= 0xff
    {
        out.extend_from_slice(&[code, low_byte(length)]);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(two);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(two + 1);
        let length = u32::try_from(length).expect("no packet of ours has four gigabytes");
        out.extend_from_slice(&length.to_be_bytes());
    }
}

fn low_byte(length: usize) -> u8 {
    length.to_le_bytes()[0]
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_length(out, text.len(), Some((0xa0, 31)), Some(0xd9), 0xda);
    out.extend_from_slice(text.as_bytes());
}

fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, bytes.len(), None, Some(0xc4), 0xc5);
    out.extend_from_slice(bytes);
}

fn write_unsigned(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    match number {
        0..=0x7f => out.push(bytes[7]),
        0x80..=0xff => out.extend_from_slice(&[0xcc, bytes[7]]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&bytes[4..]);
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Negative numbers; the others are unsigned.
fn write_negative(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let (code, length) = match number {
        -32.. => return out.push(bytes[7]),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        ..-0x8000_0000 => (0xd3, 8),
    };
    out.push(code);
    out.extend_from_slice(&bytes[8 - length..]);
}

/// Puts the head of a list or map before what was written from `start` on.
fn write_head(out: &mut Vec<u8>, start: usize, count: usize, short: u8, two: u8) {
    let mut head = Vec::new();
    write_length(&mut head, count, Some((short, 15)), None, two);
    out.splice(start..=start, head);
}

/// Walks over JSON and writes what it meets. Recurses as deep as JSON of ours may be nested.
struct Packer<'a> {
    json: &'a str,
    scanner: Scanner<'a>,
    out: &'a mut Vec<u8>,
    attachments: &'a [Bytes],
}

impl Packer<'_> {
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.scanner.space();
        let start = self.scanner.at();
        match self.scanner.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => {
                self.scanner.string()?;
                let text = self.read::<Cow<'_, str>>(start)?;
                write_text(self.out, &text);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => {
                self.scanner.number()?;
                self.number(start)
            }
            _ => {
                self.scanner.value(0)?;
                self.out.push(match &self.json[start..self.scanner.at()] {
                    text if text.starts_with('t') => 0xc3,
                    text if text.starts_with('f') => 0xc2,
                    _ => 0xc0,
                });
                Ok(())
            }
        }
    }

    fn fault<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax { at: self.scanner.at() })
    }

    /// Reads what was just walked over. Texts alone are read so, because they may have escapes.
    fn read<'b, T: serde::Deserialize<'b>>(&'b self, start: usize) -> Result<T, JsonError> {
        let raw = &self.json[start..self.scanner.at()];
        serde_json::from_str(raw).map_err(|_| JsonError::Syntax { at: start })
    }

    /// Numbers are read by the standard library, to the last bit.
    fn number(&mut self, start: usize) -> Result<(), JsonError> {
        let raw = &self.json[start..self.scanner.at()];
        if let Ok(number) = raw.parse::<u64>() {
            write_unsigned(self.out, number);
        } else if let Ok(number) = raw.parse::<i64>() {
            write_negative(self.out, number);
        } else {
            let number: f64 = raw.parse().map_err(|_| JsonError::Syntax { at: start })?;
            self.out.push(0xcb);
            self.out.extend_from_slice(&number.to_be_bytes());
        }
        Ok(())
    }

    fn deeper(depth: usize) -> Result<(), JsonError> {
        if depth < JSON_DEPTH_CEILING {
            Ok(())
        } else {
            Err(JsonError::TooDeep { depth_max: JSON_DEPTH_CEILING })
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), JsonError> {
        Self::deeper(depth)?;
        let start = self.out.len();
        self.out.push(0);
        let mut count = 0;
        self.scanner.take(b'[');
        self.scanner.space();
        while !self.scanner.take(b']') {
            if count > 0 && !self.scanner.take(b',') {
                return self.fault();
            }
            self.value(depth + 1)?;
            self.scanner.space();
            count += 1;
        }
        write_head(self.out, start, count, 0x90, 0xdc);
        Ok(())
    }

    fn map(&mut self, depth: usize) -> Result<(), JsonError> {
        Self::deeper(depth)?;
        let start = self.out.len();
        self.out.push(0);
        let json_at = self.scanner.at();
        let mut count = 0;
        self.scanner.take(b'{');
        self.scanner.space();
        while !self.scanner.take(b'}') {
            if count > 0 && !self.scanner.take(b',') {
                return self.fault();
            }
            self.scanner.space();
            let key_at = self.scanner.at();
            self.scanner.string()?;
            let key = self.read::<Cow<'_, str>>(key_at)?;
            write_text(self.out, &key);
            self.scanner.space();
            if !self.scanner.take(b':') {
                return self.fault();
            }
            self.value(depth + 1)?;
            self.scanner.space();
            count += 1;
        }
        // Only where something is attached does a placeholder stand for anything.
        let placeholder = if count == 2 && !self.attachments.is_empty() {
            self.read::<Placeholder>(json_at).ok()
        } else {
            None
        };
        match placeholder.and_then(|placeholder| self.attachments.get(placeholder.num)) {
            Some(bytes) => {
                self.out.truncate(start);
                write_binary(self.out, bytes);
            }
            None => write_head(self.out, start, count, 0x80, 0xde),
        }
        Ok(())
    }
}
