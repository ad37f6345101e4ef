//! Ways to backplanes: the one suite that all pass, and a real Redis in trouble.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod bounds;
mod config;
mod conformance;
mod failover;
mod faults;
mod proxy;
mod rooms;
mod sentinels;
mod store;
