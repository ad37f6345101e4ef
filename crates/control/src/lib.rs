//! The control plane: who gets which room, on which server, and how many servers there are.
//!
//! Never in the data path: players talk to gameservers, and every room runs on while this is down. `world` decides, as
//! one pure value; `run` owns the one real world and carries out what it says; `http` is its face; `webhook` delivers
//! what rooms leave behind.

pub mod world;

mod access;

mod config;
mod start;

mod run;

mod http;

mod webhook;

pub use access::{AccessToken, Role, TokenError, TokenSource};
pub use config::{
    ControlConfig, LoginAlgorithm, LoginConfig, LoginKeys, PlayersConfig, Rate, ReadyWhen, StaticPage,
    WebhookConfig,
};
pub use http::LoginError;
pub use run::{RunError, run, run_on};
pub use start::StartError;
