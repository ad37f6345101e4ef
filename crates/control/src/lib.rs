//! The control plane: who gets which room, on which server, and how many servers there are.
//!
//! Never in the data path: players talk to gameservers, and every room runs on while this is down. `world` decides, as
//! one pure value; `shell` owns the one real world and carries out what it says; `run` starts what is served, and of several
//! replicas on one store `replica` says which one leads; `http` is the face; `webhook` delivers what rooms leave behind,
//! `notify` tells people outside what happens.

pub mod fence;
pub mod lease;
pub mod world;

mod access;

mod config;
mod start;

mod office;
mod pens;
mod replica;
mod run;
mod shell;
mod sight;

mod http;

mod act;
mod errands;
mod notify;
mod webhook;

pub use access::{AccessToken, Role, TokenError, TokenSource};
pub use config::{
    Action, ControlConfig, ControlTls, LoginAlgorithm, LoginConfig, LoginKeys, MutualTls, NotifyConfig,
    PlayersConfig, Rate, ReadyWhen, ReplicaConfig, SaidAttributes, Says, StaticPage, TriggerConfig,
    WebhookConfig,
};
pub use http::LoginError;
pub use run::{RunError, run, run_on};
pub use start::{StartError, promises};
