//! The decisions from outside: the rules as tables, the promises as laws.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod support;

mod autoscale;
mod backoff;
mod choose;
mod demand;
mod drain;
mod fleet;
mod full_at;
mod matchmake;
mod matchmake_rated;
mod measure;
mod recycle;
mod trigger;
