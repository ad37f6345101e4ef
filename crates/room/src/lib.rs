//! The authoritative room as a value: game code behind one trait, and the host that turns its ticks.
//!
//! Never does IO, never reads a clock, never draws unseeded randomness, never awaits: whoever holds a room
//! calls [`HostedRoom::tick`] at the room's rate, hands inputs in and takes [`Output`]s out. The same seed and
//! the same calls give the same bytes on every machine, so a room can be tested without sockets, frozen into
//! a snapshot and thawed elsewhere.
//!
//! A whole room:
//!
//! ```
//! use greenroom_room::{Ctx, HostedRoom, Player, Reject, Room, RoomHost, Seat, To};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Counter {
//!     total: u32,
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "snake_case")]
//! enum In {
//!     Add { n: u32 }, // socket.emit("add", { n: 2 })
//! }
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Out {
//!     Total { total: u32 }, // socket.on("total", ({ total }) => ..)
//! }
//!
//! impl Room for Counter {
//!     type Init = ();
//!     type In = In;
//!     type Out = Out;
//!     type Timer = ();
//!     const NAME: &'static str = "counter";
//!
//!     fn create(_: &mut Ctx<Self>, (): ()) -> Result<Self, Reject> {
//!         Ok(Self { total: 0 })
//!     }
//!     fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, _: &Player) -> Result<(), Reject> {
//!         ctx.send(To::Only(seat), &Out::Total { total: self.total });
//!         Ok(())
//!     }
//!     fn message(&mut self, ctx: &mut Ctx<Self>, _: Seat, In::Add { n }: In) {
//!         self.total += n;
//!         ctx.send(To::All, &Out::Total { total: self.total });
//!     }
//! }
//!
//! let mut room = RoomHost::<Counter>::create("", 7, 4)?;
//! room.join(Seat(0), Player::new("ann"))?;
//! room.handle(Seat(0), "add", Some(r#"{"n":2}"#))?;
//! room.tick();
//! assert_eq!(room.take_outputs().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ctx;
mod event;
mod host;
mod hosted;
mod rng;
mod room;
mod seat;
mod snapshot;

pub use ctx::{Ctx, Output, TimerId, To};
pub use event::{DecodeError, decode, encode};
pub use host::{CreateError, InputError, JoinError, RoomHost, SeatError};
pub use hosted::{HostedRoom, RoomKind};
pub use rng::Rng;
pub use room::{Delivery, DeliveryError, Drain, Grace, HZ_MAX, Reject, Room, Why};
pub use seat::{Occupant, Player, Presence, Seat};
pub use snapshot::{FORMAT, RestoreError, SnapshotError};
