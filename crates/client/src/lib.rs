//! Typed calls: of the control plane's HTTP API, of the desk through which a lobby server gets its players matched, and of
//! the SDK by which a gameserver speaks with its host's agent.
//!
//! Never retries a call by itself: [`ClientError::is_retryable`] says whether it may be repeated. The desk does retry,
//! because filing and cancelling tickets is safe to repeat.

mod auth;
mod calls;
mod error;

pub mod sdk;
pub mod tickets;

pub use calls::{CallTimes, ControlClient, RoomsPage};
pub use error::ClientError;
