//! Example gameservers, linked into the one binary: a lobby, an arena, a whiteboard, a guild chat and an echo over
//! UDP, with the pages to play them. Never needed by anything below: each is what a user of the crates would write.

use std::process::ExitCode;

pub mod arena;
pub mod chat;
pub mod lobby;
pub mod relay;
pub mod udp_echo;
pub mod whiteboard;

mod pages;

pub use pages::pages;

/// Names of the examples that [`run`] knows.
pub const NAMES: [&str; 6] = ["arena", "chat", "lobby", "relay", "udp-echo", "whiteboard"];

/// Runs the example of this name as a gameserver, until it is told to stop. `None` when there is no such example.
/// The relay alone takes arguments; the others read the environment of a gameserver.
#[must_use]
pub fn run(name: &str, arguments: &[String]) -> Option<ExitCode> {
    match name {
        "arena" => Some(arena::main()),
        "chat" => Some(chat::main()),
        "lobby" => Some(lobby::main()),
        "relay" => Some(relay::main(arguments)),
        "udp-echo" => Some(udp_echo::main()),
        "whiteboard" => Some(whiteboard::main()),
        _ => None,
    }
}
