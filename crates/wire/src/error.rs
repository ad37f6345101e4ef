//! The one shape of an error answer over HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stable word for what went wrong; programs branch on it. The HTTP status follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 400: the body, the query or a name is malformed.
    BadRequest,
    /// 401: no token, or one that is not known, is over or is not meant for this API.
    Unauthorized,
    /// 403: the token may not do this, or the `Host` or `Origin` header is not one this API answers to (a page of another
    /// site, or DNS rebinding).
    Forbidden,
    /// 404: no such fleet.
    FleetNotFound,
    /// 404: no such gameserver.
    GameserverNotFound,
    /// 404: no such room, or it has ended.
    RoomNotFound,
    /// 404: no such ticket.
    TicketNotFound,
    /// 404: no such page or endpoint.
    NotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 409: the fleet is of the other kind (`room` or `mesh`).
    WrongKind,
    /// 409: the room lives but has not that many free seats. Nothing was reserved.
    RoomFull,
    /// 409: the player already has a live assignment in a match.
    AlreadyAssigned,
    /// 409: the idempotency key was used for another request.
    IdempotencyMismatch,
    /// 413: the body is larger than allowed.
    TooLarge,
    /// 429: too many of something that is bounded wait already.
    TooMany,
    /// 503: nothing was ready within the deadline. Retry; the fleet may have grown.
    NoCapacity,
    /// 503: the key's host is silent; whether its room lives is not known yet.
    HostSuspect,
    /// 503: the control plane has just started and waits for its agents. Retry.
    Rebuilding,
    /// 503: the keys that player tokens are checked with could not be fetched yet. Retry.
    LoginUnavailable,
    /// 500: ours. The log of the control process says more under the same request id.
    Internal,
}

impl Code {
    /// The HTTP status of this code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::FleetNotFound
            | Self::GameserverNotFound
            | Self::RoomNotFound
            | Self::TicketNotFound
            | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::WrongKind | Self::RoomFull | Self::AlreadyAssigned | Self::IdempotencyMismatch => 409,
            Self::TooLarge => 413,
            Self::TooMany => 429,
            Self::NoCapacity | Self::HostSuspect | Self::Rebuilding | Self::LoginUnavailable => 503,
            Self::Internal => 500,
        }
    }

    /// Whether the same request may succeed later unchanged.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

/// The body of every answer that is not 2xx: `{"error":{"code","message","retryable"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// For programs.
    pub code: Code,
    /// For people: what happened, to which thing, what to do next.
    pub message: String,
    /// Whether the same request may succeed later unchanged.
    pub retryable: bool,
}

impl ErrorBody {
    /// The body for `code`.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { error: ErrorDetail { code, message: message.into(), retryable: code.retryable() } }
    }
}

/// The error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
