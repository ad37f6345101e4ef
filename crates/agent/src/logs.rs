//! Pieces of a gameserver's output, for control.
//!
//! Never keeps any.

use std::sync::Arc;

use greenroom_core::ServerName;
use greenroom_provider::{LogPiece, Provider};
use greenroom_wire::agent::FromAgent;
use greenroom_wire::api::LogsAnswer;

use crate::outbox::Outbox;
use crate::shell::to_line;

/// Reads a piece and tells it to control.
pub(crate) async fn read(
    provider: Arc<dyn Provider>,
    control: Outbox,
    request: u64,
    server: ServerName,
    offset: Option<u64>,
    bytes_max: usize,
) {
    let outcome =
        provider.logs(&server, offset, bytes_max).await.map(answer).map_err(|error| error.to_string());
    if let Err(overflow) = control.push(to_line(&FromAgent::Logs { request, outcome })) {
        tracing::warn!(queued_bytes = overflow.queued_bytes, "control reads too slowly");
    }
}

/// A piece as text. A character that is cut by its end is left for the next piece.
fn answer(mut piece: LogPiece) -> LogsAnswer {
    let cut = match std::str::from_utf8(&piece.bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            piece.bytes.len() - error.valid_up_to()
        }
        Ok(_) | Err(_) => 0,
    };
    piece.bytes.truncate(piece.bytes.len() - cut);
    LogsAnswer {
        text: String::from_utf8_lossy(&piece.bytes).into_owned(),
        next_offset: piece.next_offset - cut as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_by_the_end_of_a_piece_comes_with_the_next_one() {
        let cases: [(&[u8], &str, u64); 4] = [
            (b"abc", "abc", 13),
            ("ab€".as_bytes(), "ab€", 15),
            (&"ab€".as_bytes()[..4], "ab", 12),
            (b"a\xffb", "a\u{fffd}b", 13),
        ];
        for (bytes, text, next_offset) in cases {
            let piece = LogPiece { bytes: bytes.to_vec(), next_offset: 10 + bytes.len() as u64 };
            assert_eq!(answer(piece), LogsAnswer { text: text.to_owned(), next_offset });
        }
    }
}
