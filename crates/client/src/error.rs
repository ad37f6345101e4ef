//! Why a call failed.
//!
//! Never holds a token or a body beyond its first words.

use greenroom_wire::error::Code;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The control plane answered, and refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// For programs.
        code: Code,
        /// For people.
        message: String,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// Nobody answers at the address. The control plane may be starting; players are not disturbed by that.
    #[error("the control plane at {base} cannot be reached")]
    Unreachable {
        /// The address called.
        base: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time. Whether the call had an effect is not known: repeat it, with the same idempotency key.
    #[error("the control plane at {base} did not answer in time")]
    TimedOut {
        /// The address called.
        base: String,
    },
    /// TLS failed: nothing was asked. Look at the address, at the authorities and at the certificate there; whoever holds
    /// them may replace them meanwhile.
    #[error("the control plane at {base} cannot be reached over TLS: {why}")]
    Tls {
        /// The address called.
        base: String,
        /// What failed.
        why: String,
    },
    /// The authorities cannot be used.
    #[error("the authorities of the control plane's certificate cannot be used: {0}")]
    Authorities(#[source] greenroom_tls::TlsError),
    /// Somebody else answers there, or another version.
    #[error("{base} answered {status} with something that is not of this API: {text}")]
    Unexpected {
        /// The address called.
        base: String,
        /// HTTP status.
        status: u16,
        /// The first words of the body, or why it was not understood.
        text: String,
    },
    /// The token holds something that no header can carry.
    #[error("the token cannot be sent: it has characters that no header can carry")]
    BadToken,
    /// The address is not an `http` or `https` URL.
    #[error("{0:?} is not an http or https URL")]
    BadAddress(String),
    /// The HTTP stack could not be set up.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
}

impl ClientError {
    /// The stable word of a refusal.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { .. }
            | Self::Authorities(_)
            | Self::Unexpected { .. }
            | Self::BadAddress(_)
            | Self::BadToken
            | Self::Setup(_) => None,
        }
    }

    /// Whether the same call may succeed later unchanged.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { retryable, .. } => *retryable,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Tls { .. } => true,
            Self::Authorities(_)
            | Self::Unexpected { .. }
            | Self::BadAddress(_)
            | Self::BadToken
            | Self::Setup(_) => false,
        }
    }
}
