//! Every byte that leaves a process: HTTP bodies, the agent protocol, the link protocol, join tokens, stored records.
//!
//! Never decides and never does IO. Core types are not serialized; the types here are, and convert. Each protocol
//! has a version and golden files; an unknown field is ignored between processes and refused from users.

pub mod agent;
pub mod api;
pub mod backplane;
pub mod error;
pub mod export;
pub mod kept;
pub mod link;
pub mod record;
pub mod revision;
pub mod rooms;
pub mod sdk;
pub mod secret;
pub mod text;
pub mod token;

mod ed25519;

pub use text::Text;
