//! What clients of this server may want of all servers that it shares a namespace with.

use std::time::Duration;

use greenroom_node::{Broadcast, Event, Handlers, Socket};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_millis(1000);

/// The sockets of a group of the client's namespace, on any server; `null`: all of the namespace.
fn of(socket: &Socket, event: &Event) -> Option<Broadcast> {
    let everybody = socket.node().namespace(socket.namespace_name())?;
    match event.arg::<Option<String>>(0).ok()? {
        Some(group) => Some(everybody.to(group)),
        None => Some(everybody),
    }
}

/// Sends the client's arguments on, as the event `told_all`.
fn tell(reached: Option<Broadcast>, event: &Event) {
    if let Some(reached) = reached {
        reached.forward("told_all", event);
    }
}

fn fetch(socket: &Socket, mut event: Event) {
    let (Some(reached), Some(ack)) = (of(socket, &event), event.ack()) else { return };
    socket.spawn(async move {
        let fetched = reached.fetch(TIMEOUT).await;
        let sockets = fetched.sockets.iter().map(|each| {
            json!({ "id": each.id, "rooms": each.groups, "data": each.data, "address": each.address, "url": each.url })
        });
        let sockets: Vec<Value> = sockets.collect();
        ack.send(&json!({ "sockets": sockets, "missing": fetched.nodes_missing.len() }));
    });
}

/// Asks all members of a group for so many milliseconds, and tells how many did not answer.
fn ask_group(socket: &Socket, mut event: Event) {
    let (Some(reached), Some(ack)) = (of(socket, &event), event.ack()) else { return };
    let Ok(timeout_ms) = event.arg::<u64>(1) else { return };
    socket.spawn(async move {
        let answers = reached.ask("question", &json!({ "n": 1 }), Duration::from_millis(timeout_ms)).await;
        let sum: i64 = answers.all().filter_map(|reply| reply.arg::<i64>(0).ok()).sum();
        let unnamed = usize::try_from(answers.missing_unnamed).unwrap_or(usize::MAX);
        let missing = [answers.missing.len() + unnamed, answers.nodes_missing.len()];
        ack.send(&json!({ "sum": sum, "missing": missing }));
    });
}

fn ask_servers(socket: &Socket, mut event: Event) {
    let everybody = socket.node().namespace(socket.namespace_name());
    let (Some(everybody), Some(ack)) = (everybody, event.ack()) else { return };
    let Ok(name) = event.arg::<String>(0) else { return };
    socket.spawn(async move {
        let answers = everybody.server_side_ask(&name, &json!({ "n": 1 }), TIMEOUT).await;
        let mut replies: Vec<Value> =
            answers.replies.iter().filter_map(|(_, reply)| reply.arg::<Value>(0).ok()).collect();
        replies.sort_by_key(ToString::to_string);
        ack.send(&json!({ "replies": replies, "missing": answers.nodes_missing.len() }));
    });
}

pub(crate) fn serve(handlers: &mut Handlers) {
    handlers
        .on("tell_all", |socket, event| tell(of(socket, &event), &event))
        .on("tell_hearing", |socket, event| tell(of(socket, &event).map(|all| all.except("deaf")), &event))
        .on("tell_volatile", |socket, event| tell(of(socket, &event).map(Broadcast::volatile), &event))
        .on("fetch", fetch)
        .on("ask_group", ask_group)
        .on("join_all", |socket, event| {
            if let (Some(reached), Ok(group)) = (of(socket, &event), event.arg::<String>(1)) {
                reached.join(&group);
            }
        })
        .on("leave_all", |socket, event| {
            if let (Some(reached), Ok(group)) = (of(socket, &event), event.arg::<String>(1)) {
                reached.leave(&group);
            }
        })
        .on("disconnect_all", |socket, event| match (of(socket, &event), event.arg::<bool>(1)) {
            (Some(reached), Ok(true)) => reached.close_transports(),
            (Some(reached), Ok(false)) => reached.disconnect(),
            (_, _) => {}
        })
        .on("data", |socket, event| {
            if let Ok(data) = event.arg::<Value>(0) {
                socket.set_data(data);
            }
        })
        .on("tell_servers", |socket, event| {
            let everybody = socket.node().namespace(socket.namespace_name());
            if let (Some(everybody), Ok(value)) = (everybody, event.arg::<Value>(0)) {
                everybody.server_side_emit("told", &value);
            }
        })
        .on("ask_servers", ask_servers)
        .on_server_side("who", |_, event| {
            event.reply(&json!({ "node": true, "n": event.arg::<Value>(0).ok() }));
        });
}
