//! Where a Redis is: one address, or a name whose primary sentinels know; and who is that primary at this moment.
//!
//! Never keeps a connection, tries again by itself, or knows what is stored: whoever connects asks here each time.

mod address;
mod primary;

pub use address::{AddressError, FORMS, RedisAddress};
pub use primary::NoPrimaryError;
