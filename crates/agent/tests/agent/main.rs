//! The agent with real processes, against a control that is played by the test.
//!
//! The gameservers, and one agent that must die by SIGKILL, are this test program started again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod control;
mod lifecycle;
mod links;
mod sdk;
mod takeover;

/// Not a test: what runs when this program is started again as a gameserver.
#[test]
fn the_gameserver_program() {
    if std::env::var_os(child::IS_CHILD).is_some() {
        child::gameserver();
    }
}

/// Not a test: what runs when this program is started again as an agent.
#[test]
fn the_agent_program() {
    if let Ok(config) = std::env::var(child::IS_AGENT) {
        child::agent(&config);
    }
}
