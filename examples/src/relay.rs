//! The relay: four events, the subject of every benchmark. `echo` answers with its payload, `join` enters a group,
//! `pos` goes to the others of that group, `all` to everybody. Never looks into a payload: JSON and bytes alike.

use std::process::ExitCode;
use std::time::Duration;

use greenroom_node::{Config, Event, Flush, Node, Socket, config::Origins};

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

/// Runs until SIGTERM. The first argument is the port, on loopback; 0 takes any free one and prints it. A second one
/// is how many milliseconds events may wait for others to share a write with.
pub fn main(arguments: &[String]) -> ExitCode {
    let Some(Ok(port)) = arguments.first().map(|port| port.parse()) else {
        eprintln!("error: the relay wants its port as first argument");
        return ExitCode::from(64);
    };
    let mut config = Config { origins: Origins::Any, ..Config::default() };
    config.bind.set_port(port);
    let mut node = Node::new(config);
    let handlers = node.namespace("/").on("echo", echo).on("join", join);
    handlers.on("pos", |socket, event| pos(socket, &event)).on("all", |socket, event| all(socket, &event));
    if let Some(Ok(ms)) = arguments.get(1).map(|ms| ms.parse()) {
        node.namespace("/").flush(Flush::Every(Duration::from_millis(ms)));
    }
    node.run()
}
