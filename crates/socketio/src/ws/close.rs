//! Owns close codes and reasons.
//! Never decides when to close.

use super::{Opcode, WsError, header::CONTROL_BYTES_MAX, write_frame};

/// What a close frame said. An empty close frame has no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code, one that may be sent: 1000 to 1014 without 1004 to 1006, or 3000 to 4999.
    pub code: Option<u16>,
    /// The reason, at most 123 bytes.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, WsError> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return if payload.is_empty() {
                Ok(Self { code: None, reason: "" })
            } else {
                Err(WsError::CloseTruncated)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(WsError::CloseCode { code });
        }
        let reason = simdutf8::basic::from_utf8(reason).map_err(|_| WsError::InvalidUtf8)?;
        Ok(Self { code: Some(code), reason })
    }

    /// Appends the answer to this close frame: its code, nothing else.
    pub fn write_reply(&self, key: Option<super::MaskKey>, out: &mut Vec<u8>) {
        let payload = self.code.map(u16::to_be_bytes);
        write_frame(Opcode::Close, payload.as_ref().map_or(&[], |code| code.as_slice()), key, out);
    }
}

/// The payload of a close frame. A reason beyond 123 bytes is cut at a character.
#[must_use]
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_may_be_sent_are_accepted() {
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert_eq!(
                CloseFrame::read(&close_payload(code, "x")),
                Ok(CloseFrame { code: Some(code), reason: "x" })
            );
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert_eq!(CloseFrame::read(&close_payload(code, "")), Err(WsError::CloseCode { code }));
        }
    }

    #[test]
    fn a_close_payload_is_empty_or_has_a_whole_code_and_a_utf8_reason() {
        assert_eq!(CloseFrame::read(&[]), Ok(CloseFrame { code: None, reason: "" }));
        assert_eq!(CloseFrame::read(&[3]), Err(WsError::CloseTruncated));
        assert_eq!(CloseFrame::read(&[3, 232, 0xff]), Err(WsError::InvalidUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let payload = close_payload(1000, &"\u{e9}".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(CloseFrame::read(&payload).map(|frame| frame.reason.chars().count()), Ok(61));
    }
}
