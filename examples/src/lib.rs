//! Example gameservers, linked into the one binary: a lobby, an arena, a whiteboard and a guild chat, with the
//! pages to play them. Never needed by anything below: each is what a user of the crates would write.

pub mod arena;
pub mod chat;
pub mod whiteboard;

mod pages;

pub use pages::pages;
