//! Owns Engine.IO 4: packets, polling bodies, the opening request and payload, heartbeat, upgrade, close reasons.
//! Never owns a transport or a timer: the caller moves the bytes and tells the moment.

mod heartbeat;
mod open;
mod packet;
mod payload;
mod reason;
mod request;
mod upgrade;

pub use heartbeat::{Heartbeat, HeartbeatError, HeartbeatStep, Moment};
pub use open::{Open, OpenError};
pub use packet::{EnginePacket, EnginePacketError};
pub use payload::{PayloadError, PayloadReader, PayloadWriter};
pub(crate) use payload::{push_base64, push_separator};
pub use reason::DisconnectReason;
pub use request::{Admitted, HttpMethod, Query, RequestError, Transport};
pub use upgrade::{PROBE, Upgrade, UpgradeError, UpgradeStep};
