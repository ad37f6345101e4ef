//! Owns the reading of a stream of frames: whole messages and control frames come out.
//! Never answers: a ping or a close is told to the caller, who replies.

use super::{CloseFrame, MaskKey, Opcode, Role, header, header::Header, mask};

/// One thing that the other end sent. It borrows from the input or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The other end closes; nothing more comes. To be answered by a close frame unless one was sent before.
    Close(CloseFrame<'a>),
}

/// Why a stream is no WebSocket stream, or more than this process takes. The connection must be closed with
/// [`WsError::close_code`]; nothing more is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A reserved bit is set though no extension was agreed.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The opcode has no meaning.
    #[error("opcode {opcode} is unknown")]
    UnknownOpcode {
        /// The four bits of the frame.
        opcode: u8,
    },
    /// A client sent an unmasked frame.
    #[error("a frame from a client is not masked")]
    Unmasked,
    /// A server sent a masked frame.
    #[error("a frame from a server is masked")]
    Masked,
    /// A control frame has more than 125 bytes.
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A control frame has its end bit unset.
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// A length could have been written in fewer bytes.
    #[error("a length is not in its shortest form")]
    LengthNotMinimal,
    /// The top bit of a 64-bit length is set.
    #[error("a length has its top bit set")]
    LengthSign,
    /// A continuation came without a message to continue.
    #[error("a continuation continues nothing")]
    NothingToContinue,
    /// A new message began inside a fragmented one.
    #[error("a message began inside another")]
    MessageInsideMessage,
    /// The message is longer than allowed.
    #[error("a message is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit that was crossed.
        bytes_max: usize,
    },
    /// A text message or a close reason is not UTF-8.
    #[error("a text is not valid utf-8")]
    InvalidUtf8,
    /// A close payload has one byte only.
    #[error("a close code is cut")]
    CloseTruncated,
    /// A close code may not be sent.
    #[error("close code {code} may not be sent")]
    CloseCode {
        /// The code received.
        code: u16,
    },
}

impl WsError {
    /// The close code that tells the other end.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooLong { .. } => 1009,
            Self::InvalidUtf8 => 1007,
            Self::ReservedBits
            | Self::UnknownOpcode { .. }
            | Self::Unmasked
            | Self::Masked
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::LengthNotMinimal
            | Self::LengthSign
            | Self::NothingToContinue
            | Self::MessageInsideMessage
            | Self::CloseTruncated
            | Self::CloseCode { .. } => 1002,
        }
    }
}

/// The frame whose payload is not complete yet.
#[derive(Debug)]
struct Current {
    opcode: Opcode,
    fin: bool,
    key: Option<MaskKey>,
    payload_bytes: usize,
    got: usize,
}

/// What the next step of a feed gives; kept apart from [`Event`] so that no borrow outlives the step.
#[derive(Debug)]
enum Step {
    /// A whole frame lies in the input at this place.
    Input(Opcode, std::ops::Range<usize>),
    /// A control frame lies in `control`.
    Control(Opcode),
    /// A message lies in `message`.
    Message(Opcode),
}

/// Reads the frames of one connection. At rest it holds no heap memory; while a message is cut or fragmented it holds
/// what has come of it, at most the limit.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    payload_bytes_max: usize,
    head: [u8; header::HEADER_BYTES_MAX],
    head_bytes: u8,
    ended: bool,
    current: Option<Current>,
    /// The kind of the message that is being put together, text or binary.
    kind: Option<Opcode>,
    message: Vec<u8>,
    /// How much of a text in `message` is known to be UTF-8.
    valid_bytes: usize,
    control: Vec<u8>,
    /// Whether the buffers hold what the last event lent out.
    lent: bool,
}

impl Decoder {
    /// A decoder at the start of a stream. `payload_bytes_max` bounds each message, all its fragments together.
    #[must_use]
    pub fn new(role: Role, payload_bytes_max: usize) -> Self {
        Self {
            role,
            payload_bytes_max,
            head: [0; header::HEADER_BYTES_MAX],
            head_bytes: 0,
            ended: false,
            current: None,
            kind: None,
            message: Vec::new(),
            valid_bytes: 0,
            control: Vec::new(),
            lent: false,
        }
    }

    /// Takes in the next bytes of the stream; they are unmasked in place. Ask the feed for events until it gives
    /// `None`: only then everything was taken in, and the buffer may be used again.
    pub fn feed<'a>(&'a mut self, input: &'a mut [u8]) -> Feed<'a> {
        Feed { decoder: self, input, at: 0 }
    }

    /// Whether a close frame or a fault was read. Whatever comes after it is ignored.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.control = Vec::new();
            if self.kind.is_none() {
                self.message = Vec::new();
                self.valid_bytes = 0;
            }
        }
    }

    /// Completes the header with bytes of `input`. Returns it and how many bytes of `input` it took.
    fn take_header(&mut self, input: &[u8]) -> Result<(Option<Header>, usize), WsError> {
        if self.head_bytes == 0
            && let Some(header) = header::read_header(input, self.role)?
        {
            return Ok((Some(header), header.bytes));
        }
        let kept = usize::from(self.head_bytes);
        let taken = input.len().min(header::HEADER_BYTES_MAX - kept);
        self.head[kept..kept + taken].copy_from_slice(&input[..taken]);
        match header::read_header(&self.head[..kept + taken], self.role)? {
            Some(header) => {
                self.head_bytes = 0;
                Ok((Some(header), header.bytes - kept))
            }
            None => {
                self.head_bytes = u8::try_from(kept + taken).expect("a header has at most 14 bytes");
                Ok((None, taken))
            }
        }
    }

    /// Checks a header against the message in progress and the limit.
    fn begin(&mut self, header: &Header) -> Result<Current, WsError> {
        let before = match (header.opcode, self.kind) {
            (Opcode::Continuation, None) => return Err(WsError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WsError::MessageInsideMessage),
            (Opcode::Continuation, Some(_)) => self.message.len(),
            (Opcode::Text | Opcode::Binary, None) => 0,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => 0,
        };
        let room = if header.opcode.is_control() {
            header::CONTROL_BYTES_MAX
        } else {
            self.payload_bytes_max.saturating_sub(before)
        };
        let payload_bytes = usize::try_from(header.payload_bytes)
            .ok()
            .filter(|bytes| *bytes <= room)
            .ok_or(WsError::TooLong { bytes_max: self.payload_bytes_max })?;
        Ok(Current { opcode: header.opcode, fin: header.fin, key: header.key, payload_bytes, got: 0 })
    }

    /// Keeps a piece of the current frame's payload. Returns what became complete by it.
    fn keep(&mut self, mut current: Current, piece: &mut [u8]) -> Result<Option<Step>, WsError> {
        if let Some(key) = current.key {
            mask(piece, key, current.got);
        }
        current.got += piece.len();
        let whole = current.got == current.payload_bytes;
        if current.opcode.is_control() {
            self.control.extend_from_slice(piece);
            if whole {
                return Ok(Some(Step::Control(current.opcode)));
            }
        } else {
            if current.opcode != Opcode::Continuation {
                self.kind = Some(current.opcode);
                current.opcode = Opcode::Continuation;
            }
            self.message.extend_from_slice(piece);
            if self.kind == Some(Opcode::Text) {
                self.check_text()?;
            }
            if whole && current.fin {
                return Ok(self.kind.take().map(Step::Message));
            }
        }
        if !whole {
            self.current = Some(current);
        }
        Ok(None)
    }

    /// Checks the part of a text that is new. A character may be cut at its end; whether it stays cut shows when the
    /// whole text is read.
    fn check_text(&mut self) -> Result<(), WsError> {
        match simdutf8::compat::from_utf8(&self.message[self.valid_bytes..]) {
            Ok(_) => self.valid_bytes = self.message.len(),
            Err(error) if error.error_len().is_none() => self.valid_bytes += error.valid_up_to(),
            Err(_) => return Err(WsError::InvalidUtf8),
        }
        Ok(())
    }

    /// Goes on in `input` from `at` until something is complete or the input is used up.
    fn step(&mut self, input: &mut [u8], at: &mut usize) -> Result<Option<Step>, WsError> {
        while !self.ended {
            let current = match self.current.take() {
                Some(current) => current,
                None => {
                    if *at == input.len() {
                        return Ok(None);
                    }
                    let (header, taken) = self.take_header(&input[*at..])?;
                    *at += taken;
                    let Some(header) = header else { return Ok(None) };
                    self.begin(&header)?
                }
            };
            let end = input.len().min(*at + (current.payload_bytes - current.got));
            let piece = *at..end;
            *at = end;
            let untouched = current.got == 0 && current.fin && current.opcode != Opcode::Continuation;
            if untouched && piece.len() == current.payload_bytes {
                if let Some(key) = current.key {
                    mask(&mut input[piece.clone()], key, 0);
                }
                return Ok(Some(Step::Input(current.opcode, piece)));
            }
            if let Some(step) = self.keep(current, &mut input[piece])? {
                return Ok(Some(step));
            }
            if self.current.is_some() {
                return Ok(None);
            }
        }
        *at = input.len();
        Ok(None)
    }
}

/// The events in one piece of input. Dropping it before it gave `None` loses the rest of the input.
#[derive(Debug)]
#[must_use]
pub struct Feed<'a> {
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    at: usize,
}

impl Feed<'_> {
    /// The next event, or `None` when the input is used up or the stream has ended.
    ///
    /// # Errors
    /// Once, when the stream is faulty; after that it gives `None` for ever.
    #[expect(
        clippy::should_implement_trait,
        reason = "an event borrows from the feed, which no iterator can say"
    )]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, WsError> {
        self.decoder.release();
        let step = match self.decoder.step(self.input, &mut self.at) {
            Ok(step) => step,
            Err(error) => return Err(self.decoder.fail(error)),
        };
        let Some(step) = step else { return Ok(None) };
        self.decoder.lent = true;
        let decoder = &mut *self.decoder;
        let (opcode, payload) = match step {
            Step::Input(opcode, range) => (opcode, &self.input[range]),
            Step::Control(opcode) => (opcode, decoder.control.as_slice()),
            Step::Message(opcode) => (opcode, decoder.message.as_slice()),
        };
        let event = read_event(opcode, payload);
        if !matches!(event, Ok(Event::Text(_) | Event::Binary(_) | Event::Ping(_) | Event::Pong(_))) {
            decoder.ended = true;
        }
        event.map(Some)
    }
}

impl Decoder {
    fn fail(&mut self, error: WsError) -> WsError {
        self.ended = true;
        self.current = None;
        self.kind = None;
        self.message = Vec::new();
        self.control = Vec::new();
        error
    }
}

fn read_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, WsError> {
    Ok(match opcode {
        Opcode::Text => Event::Text(simdutf8::basic::from_utf8(payload).map_err(|_| WsError::InvalidUtf8)?),
        Opcode::Binary | Opcode::Continuation => Event::Binary(payload),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => Event::Close(CloseFrame::read(payload)?),
    })
}
