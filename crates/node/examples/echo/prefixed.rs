//! A format of packets of this program's own: a text of a prefix and JSON, then each binary part as a message.
//! Never stricter than it must be: the node judges what is read.

use greenroom_node::parser::{
    Content, DecodeError, Limits, Message, PacketDecoder, PacketKind, PacketParser, Prepared, WriteError,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const PREFIX: &str = "packet ";

/// The head of a packet.
#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: u64,
    nsp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// How many binary messages follow.
    #[serde(default)]
    parts: usize,
}

/// The parser; it has no state.
#[derive(Debug)]
pub(crate) struct Prefixed;

impl PacketParser for Prefixed {
    fn encode(&self, packet: &Prepared) -> Result<Vec<Message<'static>>, WriteError> {
        let refused = |error: serde_json::Error| WriteError::Refused { why: error.to_string() };
        let data = Some(packet.data()).filter(|data| !data.is_empty());
        let head = Head {
            kind: packet.kind().number().into(),
            nsp: packet.namespace().to_owned(),
            id: packet.ack_id().map(|id| id.get()),
            data: data.map(|data| RawValue::from_string(data.to_owned())).transpose().map_err(refused)?,
            parts: packet.attachments().len(),
        };
        let head = serde_json::to_string(&head).map_err(refused)?;
        let mut messages = vec![format!("{PREFIX}{head}").into()];
        messages.extend(packet.attachments().map(|part| Message::from(part.to_vec())));
        Ok(messages)
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Reader { waiting: None })
    }
}

/// The reader of one connection.
#[derive(Debug)]
struct Reader {
    /// A packet, and how many parts it still lacks.
    waiting: Option<(Content, usize)>,
}

impl PacketDecoder for Reader {
    fn decode(&mut self, message: &Message<'_>, _: &Limits) -> Result<Option<Content>, DecodeError> {
        let refused = |why: &str| DecodeError::Refused { why: why.to_owned() };
        let (content, due) = match (message, self.waiting.take()) {
            (Message::Text(text), None) => {
                let json = text.strip_prefix(PREFIX).ok_or_else(|| refused("the prefix is missing"))?;
                let head: Head = serde_json::from_str(json).map_err(|error| refused(&error.to_string()))?;
                let content = Content {
                    kind: PacketKind::of_number(head.kind).ok_or(DecodeError::UnknownType)?,
                    namespace: head.nsp,
                    id: head.id,
                    data: head.data.map(|data| data.get().to_owned()),
                    attachments: Vec::new(),
                };
                (content, head.parts)
            }
            (Message::Binary(part), Some((mut content, due))) => {
                content.attachments.push(part.to_vec().into());
                (content, due - 1)
            }
            (Message::Text(_), Some(_)) => return Err(refused("a part is due")),
            (Message::Binary(_), None) => return Err(refused("no part is due")),
        };
        if due == 0 {
            return Ok(Some(content));
        }
        self.waiting = Some((content, due));
        Ok(None)
    }
}
