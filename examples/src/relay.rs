//! The relay: seven events, the subject of every benchmark and of every test of recovery. `echo` answers with its payload,
//! `join` enters a group, `pos` goes to the others of that group, `all` to everybody, `mine` back to its sender; `set`
//! leaves its payload with the socket, `get` answers what the server knows of it. Never looks into a payload: JSON and bytes alike.

use std::process::ExitCode;
use std::time::Duration;

use greenroom_node::config::{Origins, Recovery, Secret, Store};
use greenroom_node::{Config, Event, Flush, Node, Socket};
use serde_json::{Value, json};

fn echo(_: &Socket, mut event: Event) {
    if let Some(ack) = event.ack() {
        ack.send_args_of(&event);
    }
}

/// A socket is in one room at a time, so that `pos` needs to name none.
fn join(socket: &Socket, mut event: Event) {
    if let Ok(room) = event.arg::<String>(0) {
        socket.groups().iter().for_each(|left| socket.leave(left));
        socket.join(&room);
        event.reply(&room);
    }
}

fn pos(socket: &Socket, event: &Event) {
    for room in socket.groups() {
        socket.to(room).forward("pos", event);
    }
}

fn all(socket: &Socket, event: &Event) {
    socket.node().everybody().forward("all", event);
}

/// An event for one socket, which a session keeps as those for many.
fn mine(socket: &Socket, event: &Event) {
    if let Ok(payload) = event.arg::<Value>(0) {
        socket.emit("mine", &payload);
    }
}

fn set(socket: &Socket, mut event: Event) {
    if let Ok(data) = event.arg::<Value>(0) {
        socket.set_data(data);
        event.reply(&Value::Null);
    }
}

fn get(socket: &Socket, mut event: Event) {
    let (id, rooms) = (socket.id().to_string(), socket.groups());
    event.reply(&json!({ "id": id, "data": socket.data(), "rooms": rooms, "recovered": socket.recovered() }));
}

/// What the command line asks for: a node, and how long its events wait for others to share a write with.
fn asked(arguments: &[String]) -> Result<(Config, Option<Duration>), String> {
    let (mut plain, mut recovery, mut store) = (Vec::new(), None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--recovery" => {
                let text = value()?;
                let window =
                    humantime::parse_duration(text).map_err(|fault| format!("{word} {text}: {fault}"))?;
                recovery = Some(Recovery { window, ..Recovery::default() });
            }
            "--redis" => {
                store = Some(Store { url: Secret::new(value()?), prefix: "greenroom".to_owned() });
            }
            _ => plain.push(word.parse::<u16>().map_err(|fault| format!("{word}: {fault}"))?),
        }
    }
    let mut config =
        greenroom_node::env::read(|name| std::env::var(name).ok()).map_err(|fault| fault.to_string())?;
    if let Some(port) = plain.first() {
        config.bind.set_port(*port);
        config.origins = Origins::Any;
    }
    config.recovery = recovery.or(config.recovery);
    config.store = store.or(config.store);
    Ok((config, plain.get(1).map(|ms| Duration::from_millis(u64::from(*ms)))))
}

/// Runs until SIGTERM: `[PORT [FLUSH_MS]] [--recovery DURATION] [--redis URL]`. The port is on loopback, 0 takes any free one and
/// prints it; without one the environment of a gameserver tells. `FLUSH_MS` is how many milliseconds events may wait
/// for others to share a write with, `--recovery` how long a client may be away and still come back to its session,
/// `--redis` what relays on other ports or hosts share with it.
pub fn main(arguments: &[String]) -> ExitCode {
    let (config, flush) = match asked(arguments) {
        Ok(asked) => asked,
        Err(fault) => {
            eprintln!(
                "error: {fault}; the relay takes [PORT [FLUSH_MS]] [--recovery DURATION] [--redis URL]"
            );
            return ExitCode::from(64);
        }
    };
    let mut node = Node::new(config);
    let handlers = node.namespace("/").on("echo", echo).on("join", join).on("set", set).on("get", get);
    handlers.on("pos", |socket, event| pos(socket, &event)).on("all", |socket, event| all(socket, &event));
    handlers.on("mine", |socket, event| mine(socket, &event));
    if let Some(pause) = flush {
        handlers.flush(Flush::Every(pause));
    }
    node.run()
}
