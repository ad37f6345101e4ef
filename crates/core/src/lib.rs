//! The decisions of the control plane, as pure functions over values.
//!
//! Never does IO, never reads a clock, never draws randomness, never awaits: the whole state comes in, the
//! whole decision goes out, and the same input gives the same output on every machine. `control` applies what
//! is decided here; `sim` proves it.

pub mod ids;
pub mod time;

pub mod gameserver;

pub mod allocate;
pub mod autoscale;
pub mod fleet;
pub mod matchmake;
pub mod placement;

pub mod trigger;

pub use ids::{
    FleetName, HostName, IdempotencyKey, InstanceId, InvalidId, PlayerId, Revision, RoomEpoch, RoomId,
    RoomKey, SeatIndex, ServerName, Term, TicketId,
};
pub use time::Timestamp;
