//! The server that `tests/e2e/node-smoke.mjs` talks to: every feature of the protocol once, nothing else.

use std::process::ExitCode;
use std::time::Duration;

use greenroom_node::{Draft, Event, Node, Refusal, Socket};
use serde_json::{Value, json};

fn echo(socket: &Socket, mut event: Event) {
    if let Some(ack) = event.ack() {
        ack.send_args_of(&event);
    } else if let Ok(draft) = event.forward("echo") {
        socket.emit_draft(draft);
    }
}

/// Asks the client and tells everybody what it answered.
fn ask(socket: &Socket, _: Event) {
    let asking = socket.clone();
    socket.spawn(async move {
        let answer = asking.ask("question", &json!({ "n": 20 }), Duration::from_millis(500)).await;
        match answer.map(|reply| reply.arg::<Value>(0)) {
            Ok(Ok(value)) => asking.emit("answered", &value),
            Ok(Err(error)) => asking.emit("answered", &error.to_string()),
            Err(error) => asking.emit("answered", &error.to_string()),
        }
    });
}

fn main() -> ExitCode {
    let mut node = Node::from_env();
    node.namespace("/")
        .on_connect(|socket| socket.emit("welcome", &json!({ "id": socket.id() })))
        .on("echo", echo)
        .on("ask", ask)
        .on("join", |socket, mut event| {
            if let Ok(group) = event.arg::<String>(0) {
                socket.join(&group);
            }
            event.reply("joined");
        })
        .on("say", |socket, event| {
            if let Ok(group) = event.arg::<String>(0) {
                socket.to(group).forward("said", &event);
            }
        })
        .on("count", |socket, event| {
            let count = event.arg::<u32>(0).unwrap_or(0);
            (0..count).for_each(|n| socket.emit("n", &n));
        })
        .on("bytes", |socket, _| {
            if let Ok(draft) = Draft::event("bytes") {
                socket.emit_draft(draft.binary_arg(vec![1, 2, 3].into()).binary_arg(vec![4].into()));
            }
        })
        .on("kick", |socket, _| socket.disconnect())
        .on("hang_up", |socket, _| socket.close_transport());
    node.namespace("/members").middleware(|_, request| {
        let auth: Value = request.auth().map_err(|error| Refusal::new(error.to_string()))?;
        if auth["name"].is_string() {
            Ok(())
        } else {
            Err(Refusal::new("who are you").with_data(json!({ "code": "no_name" })))
        }
    });
    node.run()
}
