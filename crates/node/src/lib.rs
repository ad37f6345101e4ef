//! The realtime node: one process, one thread of sockets, one port; Socket.IO handlers and authoritative rooms.
//! Never a lock and never a second thread: what belongs to a node lives on the thread that runs it.
//!
//! A server of plain handlers:
//!
//! ```no_run
//! use greenroom_node::Node;
//! use serde_json::json;
//!
//! let mut node = Node::from_env();
//! node.namespace("/")
//!     .on_connect(|socket| socket.set_data(json!({"color": "black"})))
//!     .on("drawing", |socket, event| socket.broadcast().forward("drawing", &event))
//!     .on("name", |socket, mut event| match event.arg::<String>(0) {
//!         Ok(name) => {
//!             socket.join(&format!("name:{name}"));
//!             event.reply(&json!({"ok": true}));
//!         }
//!         Err(error) => event.reply(&json!({"ok": false, "message": error.to_string()})),
//!     })
//!     .on_disconnect(|socket, reason| socket.broadcast().emit("left", reason.as_str()));
//! node.run();
//! ```
//!
//! A room server is [`Node::rooms`] with a type that implements [`greenroom_room::Room`].

pub mod config;
pub mod env;
pub mod parser;

mod answers;
mod broadcast;
mod bucket;
mod channel;
mod cluster;
mod connection;
mod connection_log;
mod counters;
mod dispatch;
#[cfg(feature = "redis")]
mod emitters;
mod event;
mod flush;
mod format;
mod groups;
mod handlers;
mod handshake;
mod hooks;
mod http;
mod line;
mod link;
mod measure;
mod mesh;
mod moves;
mod namespace;
mod namespaces;
mod node;
mod orders;
mod outbound;
mod peers;
mod reactor;
mod recovery;
mod rooms;
mod session;
mod socket;
mod state;
mod store;
mod tls;
mod websocket;
mod wheel;
mod wire;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
pub use answers::Answers;
pub use broadcast::Broadcast;
pub use bytes::Bytes;
pub use config::Config;
pub use connection::Connection;
pub use counters::Counters;
pub use event::{Ack, ArgError, Event, Reply};
pub use flush::Flush;
pub use greenroom_room as room;
pub use greenroom_socketio::SocketId;
pub use greenroom_socketio::engine::{DisconnectReason, EnginePacket, Transport};
pub use greenroom_socketio::packet::{Draft, EncodeError, Placeholder};
pub use handlers::{GroupChange, GroupStep, Handlers, Outgoing};
pub use handshake::{ConnectRequest, Handshake, Refusal};
pub use hooks::{ConnectionError, EngineRequest};
pub use mesh::{Fetched, RemoteSocket, ServerAck, ServerAnswers, ServerEvent};
pub use moves::Move;
pub use node::{BoundNode, Node, NodeError, NodeHandle};
pub use socket::{AckError, Socket};
