//! Owns the reading of one packet's text.
//! Never waits for attachments: the decoder does.

use std::ops::Range;

use bytes::Bytes;

use super::{
    AckId, Args, JsonError, MAIN_NAMESPACE, PacketKind, PlaceholderError, Prepared, RESERVED_EVENTS,
    json::{self, Scanner},
    placeholder,
};
use crate::{Limits, limits::JSON_DEPTH_CEILING};

/// Why a text or binary message is no packet. The connection is to be closed with "parse error".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first character is none of 0 to 6.
    #[error("packet type is unknown")]
    UnknownType,
    /// A binary packet does not say how many attachments follow.
    #[error("the count of attachments is not a number")]
    AttachmentCount,
    /// More attachments are announced than allowed.
    #[error("more than {attachments_max} attachments are announced")]
    TooManyAttachments {
        /// The limit that was crossed.
        attachments_max: usize,
    },
    /// The attachments of one packet have more bytes than allowed.
    #[error("the attachments have more than {bytes_max} bytes")]
    AttachmentsTooLong {
        /// The limit that was crossed.
        bytes_max: usize,
    },
    /// The namespace is longer than allowed.
    #[error("a namespace is longer than {bytes_max} bytes")]
    NamespaceTooLong {
        /// The limit that was crossed.
        bytes_max: usize,
    },
    /// The namespace has a control character. One of them, 0x1e, would cut a polling body in two.
    #[error("a namespace has a control character")]
    NamespaceCharacter,
    /// An ack id is missing in an ack, too large, or stands where none belongs.
    #[error("an ack id is missing, out of range or out of place")]
    AckId,
    /// The JSON is not of the kind that this packet needs.
    #[error("the payload does not fit the packet type")]
    Payload,
    /// The event's name belongs to the library.
    #[error("event name {name:?} is reserved")]
    ReservedEvent {
        /// The name received.
        name: &'static str,
    },
    /// The JSON is broken or too deep.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The bytes are not MessagePack that can stand for JSON.
    #[error("invalid messagepack at byte {at}")]
    Msgpack {
        /// Where, in bytes from the start of the message.
        at: usize,
    },
    /// A program's own parser says so.
    #[error("the parser refuses the message: {why}")]
    Refused {
        /// Why, in its own words.
        why: String,
    },
    /// A placeholder does not fit the attachments.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// A text message came while attachments were due.
    #[error("a text message came instead of an attachment")]
    TextInsteadOfAttachment,
    /// A binary message came while none was due.
    #[error("a binary message came while no attachment was due")]
    UnexpectedAttachment,
}

/// One packet that was received and checked. It owns its text; everything else is a slice of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    kind: PacketKind,
    text: Box<str>,
    namespace: Range<usize>,
    id: Option<AckId>,
    data: Range<usize>,
    name: Range<usize>,
    /// The name where it was written with escapes.
    name_unescaped: Option<Box<str>>,
    args: Range<usize>,
    pub(super) attachments_due: usize,
    pub(super) attachments: Vec<Bytes>,
}

impl Packet {
    /// What the packet is for.
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        self.kind
    }

    /// The whole text as it came.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The namespace without its query string; `/` where none was named.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let full = &self.text[self.namespace.clone()];
        match full.split_once('?') {
            Some((name, _)) => name,
            None if full.is_empty() => MAIN_NAMESPACE,
            None => full,
        }
    }

    /// The query string of the namespace, without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        Some(self.text[self.namespace.clone()].split_once('?')?.1)
    }

    /// The ack id. An ack always has one; an event has one when its sender wants an answer.
    #[must_use]
    pub fn ack_id(&self) -> Option<AckId> {
        self.id
    }

    /// The raw JSON after the header; empty where there is none.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.text[self.data.clone()]
    }

    /// The name of an event; a name that was sent as a number is given as it was written. `None` for other packets.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        (self.kind == PacketKind::Event)
            .then(|| self.name_unescaped.as_deref().unwrap_or(&self.text[self.name.clone()]))
    }

    /// The raw JSON of each argument: those after an event's name, all those of an ack, none of other packets.
    #[must_use]
    pub fn args(&self) -> Args<'_> {
        Args::new(self.args_raw())
    }

    /// The raw JSON of all arguments with their commas, without the brackets; empty where there are none.
    #[must_use]
    pub fn args_raw(&self) -> &str {
        &self.text[self.args.clone()]
    }

    /// The binary attachments, in the order of their placeholders' numbers.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// What was prepared, as whoever gets it reads it. No limit is applied: it is this program's own.
    ///
    /// # Errors
    /// For what is in another format than the standard one.
    pub fn of_prepared(prepared: &Prepared) -> Result<Self, DecodeError> {
        let limits = Limits {
            payload_bytes_max: usize::MAX,
            attachments_max: usize::MAX,
            attachment_bytes_max: usize::MAX,
            json_depth_max: JSON_DEPTH_CEILING,
            namespace_bytes_max: usize::MAX,
        };
        let mut packet = Self::parse(prepared.text(), &limits)?;
        packet.attachments = prepared.attachments().collect();
        Ok(packet)
    }

    /// Reads a packet's text. A binary packet comes back without its attachments, see [`super::Decoder`].
    ///
    /// # Errors
    /// On everything the protocol forbids, and on what crosses a limit.
    pub(super) fn parse(text: &str, limits: &Limits) -> Result<Self, DecodeError> {
        let (kind, binary) = match text.as_bytes().first() {
            Some(b'0') => (PacketKind::Connect, false),
            Some(b'1') => (PacketKind::Disconnect, false),
            Some(b'2') => (PacketKind::Event, false),
            Some(b'3') => (PacketKind::Ack, false),
            Some(b'4') => (PacketKind::ConnectError, false),
            Some(b'5') => (PacketKind::Event, true),
            Some(b'6') => (PacketKind::Ack, true),
            _ => return Err(DecodeError::UnknownType),
        };
        let mut at = 1;
        let attachments_due = if binary { attachment_count(text, &mut at, limits)? } else { 0 };
        let namespace = namespace(text, &mut at, limits)?;
        let id = ack_id(text, &mut at)?;
        let data = at..text.len();
        let body = Body::check(kind, id, &text[at..], limits)?;
        if binary {
            placeholder::check(&text[at..], attachments_due, limits.json_depth_max)?;
        }
        Ok(Self {
            kind,
            text: text.into(),
            namespace,
            id,
            data,
            name: at + body.name.start..at + body.name.end,
            name_unescaped: body.name_unescaped,
            args: at + body.args.start..at + body.args.end,
            attachments_due,
            attachments: Vec::new(),
        })
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn attachment_count(text: &str, at: &mut usize, limits: &Limits) -> Result<usize, DecodeError> {
    let count = digits(&text[*at..]);
    let end = *at + count;
    if count == 0 || text.as_bytes().get(end) != Some(&b'-') {
        return Err(DecodeError::AttachmentCount);
    }
    let number = text[*at..end].parse().unwrap_or(usize::MAX);
    if number > limits.attachments_max {
        return Err(DecodeError::TooManyAttachments { attachments_max: limits.attachments_max });
    }
    *at = end + 1;
    Ok(number)
}

fn namespace(text: &str, at: &mut usize, limits: &Limits) -> Result<Range<usize>, DecodeError> {
    let start = *at;
    if !text[start..].starts_with('/') {
        return Ok(start..start);
    }
    let end = text[start..].find(',').map_or(text.len(), |comma| start + comma);
    if end - start > limits.namespace_bytes_max {
        return Err(DecodeError::NamespaceTooLong { bytes_max: limits.namespace_bytes_max });
    }
    if text[start..end].contains(|c: char| c.is_ascii_control()) {
        return Err(DecodeError::NamespaceCharacter);
    }
    *at = text.len().min(end + 1);
    Ok(start..end)
}

fn ack_id(text: &str, at: &mut usize) -> Result<Option<AckId>, DecodeError> {
    let count = digits(&text[*at..]);
    if count == 0 {
        return Ok(None);
    }
    let number = &text[*at..*at + count];
    *at += count;
    number.parse().ok().and_then(AckId::new).map(Some).ok_or(DecodeError::AckId)
}

/// Where the parts of a checked payload lie, from its start.
#[derive(Default)]
struct Body {
    name: Range<usize>,
    name_unescaped: Option<Box<str>>,
    args: Range<usize>,
}

impl Body {
    fn check(kind: PacketKind, id: Option<AckId>, json: &str, limits: &Limits) -> Result<Self, DecodeError> {
        let first = json.trim_start_matches([' ', '\t', '\n', '\r']).as_bytes().first().copied();
        let fits = match kind {
            PacketKind::Connect => json.is_empty() || first == Some(b'{'),
            PacketKind::Disconnect => json.is_empty(),
            PacketKind::ConnectError => matches!(first, Some(b'{' | b'"')),
            PacketKind::Event | PacketKind::Ack => first == Some(b'['),
        };
        if !fits {
            return Err(DecodeError::Payload);
        }
        match kind {
            PacketKind::Connect | PacketKind::Disconnect | PacketKind::ConnectError => {
                if id.is_some() {
                    return Err(DecodeError::AckId);
                }
                if !json.is_empty() {
                    json::check(json, 0, limits.json_depth_max)?;
                }
                Ok(Self::default())
            }
            PacketKind::Event => Self::check_event(json, limits),
            PacketKind::Ack => {
                if id.is_none() {
                    return Err(DecodeError::AckId);
                }
                json::check(json, 0, limits.json_depth_max)?;
                let open = json.find('[').expect("the first character is a bracket");
                Ok(Self { args: inside(json, open + 1), ..Self::default() })
            }
        }
    }

    fn check_event(json: &str, limits: &Limits) -> Result<Self, DecodeError> {
        let mut scanner = Scanner::new(json, limits.json_depth_max);
        scanner.space();
        scanner.take(b'[');
        scanner.space();
        let start = scanner.at();
        let quoted = match scanner.peek() {
            Some(b'"') => {
                scanner.string()?;
                true
            }
            Some(b'-' | b'0'..=b'9') => {
                scanner.number()?;
                false
            }
            _ => return Err(DecodeError::Payload),
        };
        let raw = &json[start..scanner.at()];
        let name = if quoted { start + 1..scanner.at() - 1 } else { start..scanner.at() };
        scanner.space();
        let args_at = scanner.at() + 1;
        let mut last = scanner.take(b']');
        let args = if last { scanner.at() - 1..scanner.at() - 1 } else { inside(json, args_at) };
        while !last {
            if !scanner.take(b',') {
                return Err(JsonError::Syntax { at: scanner.at() }.into());
            }
            scanner.value(1)?;
            last = scanner.take(b']');
        }
        scanner.end()?;
        let name_unescaped = if raw.contains('\\') {
            Some(serde_json::from_str::<Box<str>>(raw).map_err(|_| DecodeError::Payload)?)
        } else {
            None
        };
        let text = name_unescaped.as_deref().unwrap_or(&json[name.clone()]);
        if let Some(name) = RESERVED_EVENTS.into_iter().find(|reserved| quoted && *reserved == text) {
            return Err(DecodeError::ReservedEvent { name });
        }
        Ok(Self { name, name_unescaped, args })
    }
}

/// From `start` to the array's last bracket, without space at either end.
fn inside(json: &str, start: usize) -> Range<usize> {
    let end = json.rfind(']').unwrap_or(json.len()).max(start.min(json.len()));
    let Some(text) = json.get(start..end) else { return end..end };
    let space = [' ', '\t', '\n', '\r'];
    let (left, right) = (text.trim_start_matches(space), text.trim_end_matches(space));
    let start = end - left.len();
    start..(end - (text.len() - right.len())).max(start)
}
