//! The server that `tests/e2e/node-smoke.mjs`, `socketio-matrix.test.mjs`, `emitters.test.mjs` and `adapter.test.mjs` talk to: every
//! feature of the protocol once, nothing else. `echo msgpack` speaks MessagePack, `echo prefixed` a format of its own; `echo json FOLDER`
//! speaks TLS, with a certificate for `localhost` that it puts there.

mod prefixed;
mod servers;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use greenroom_node::config::{Parser, TlsFiles};
use greenroom_node::{Draft, Event, Handlers, Node, Refusal, Socket};
use prefixed::Prefixed;
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

/// Asks all members of a group, and tells the asker how many answered and how many did not.
fn ask_all(socket: &Socket, mut event: Event) {
    let Ok(group) = event.arg::<String>(0) else { return };
    let Some(ack) = event.ack() else { return };
    let everybody = socket.node().namespace(socket.namespace_name());
    socket.spawn(async move {
        let Some(everybody) = everybody else { return };
        let answers =
            everybody.to(group).ask("question", &json!({ "n": 1 }), Duration::from_millis(500)).await;
        let sum: i64 = answers.replies.iter().filter_map(|(_, reply)| reply.arg::<i64>(0).ok()).sum();
        ack.send(&json!({ "sum": sum, "missing": answers.missing.len() }));
    });
}

/// What every namespace of this server does.
fn serve(handlers: &mut Handlers) {
    servers::serve(handlers);
    handlers
        .on_connect(|socket| socket.emit("welcome", &json!({ "id": socket.id() })))
        .on("echo", echo)
        .on("ask", ask)
        .on("ask_all", ask_all)
        .on("message", |socket, event| {
            if let Ok(value) = event.arg::<Value>(0) {
                socket.send(&value);
            }
        })
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
        .on_server_side("told", |node, event| {
            if let Ok(value) = event.arg::<Value>(0) {
                // Every server hears it, and tells its own clients.
                node.everybody().local().emit("told", &json!({ "by": event.from(), "value": value }));
            }
        })
        .on("secure", |socket, mut event| event.reply(&socket.handshake().is_secure()))
        .on("kick", |socket, _| socket.disconnect())
        .on("hang_up", |socket, _| socket.close_transport());
}

/// Puts a certificate that nobody else trusts into a folder.
fn certificate(folder: &Path) -> Result<TlsFiles, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let files = TlsFiles::new(folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&files.certificates, made.cert.pem())?;
    std::fs::write(&files.key, made.signing_key.serialize_pem())?;
    Ok(files)
}

fn main() -> ExitCode {
    let mut config = match greenroom_node::env::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match std::env::args().nth(1).as_deref() {
        Some("msgpack") => config.parser = Parser::Msgpack,
        Some("prefixed") => config.parser = Parser::Custom(Arc::new(Prefixed)),
        Some(_) | None => {}
    }
    if let Some(folder) = std::env::args().nth(2) {
        match certificate(Path::new(&folder)) {
            Ok(files) => config.tls = Some(files),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut node = Node::new(config);
    serve(node.namespace("/"));
    serve(node.namespaces("/room-*"));
    serve(node.namespace("/members").middleware(|_, request| {
        let auth: Value = request.auth().map_err(|error| Refusal::new(error.to_string()))?;
        if auth["name"].is_string() {
            Ok(())
        } else {
            Err(Refusal::new("who are you").with_data(json!({ "code": "no_name" })))
        }
    }));
    node.namespace("/later").middleware_async(|_, request| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let auth: Value = request.auth().map_err(|error| Refusal::new(error.to_string()))?;
        if auth["name"].is_string() { Ok(()) } else { Err(Refusal::new("too late")) }
    });
    node.run()
}
