//! Namespaces, sockets, groups and acks over real loopback sockets, with two independent clients.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::wire::Wire;
use common::{config, run, serve, until};
use greenroom_node::{AckError, Config, Draft, Node, Refusal, Transport};
use serde_json::{Value, json};

#[test]
fn the_projects_own_client_role_talks_to_the_node() {
    run(async {
        let mut node = Node::new(config());
        node.namespace("/").on("echo", |socket, event| socket.emit_draft(event.forward("back").unwrap()));
        let served = serve(node);
        let mut wire = Wire::connect(&served).await;
        for text in ["short".to_owned(), "x".repeat(300), "y".repeat(200_000)] {
            wire.emit(Draft::event("echo").unwrap().arg(&text).unwrap()).await;
            let packet = wire.recv().await;
            assert_eq!(packet.event(), Some("back"));
            assert_eq!(packet.args_raw(), json!(text).to_string());
        }
        let bytes = vec![7; 100_000];
        wire.emit(Draft::event("echo").unwrap().arg(&1).unwrap().binary_arg(bytes.clone().into())).await;
        let packet = wire.recv().await;
        assert_eq!(packet.attachments(), [bytes]);
    });
}

#[test]
fn acks_go_both_ways_and_time_out() {
    run(async {
        let answers = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&answers);
        let kept = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&kept);
        let mut node = Node::new(config());
        node.namespace("/")
            .on("sum", |_, mut event| {
                let sum = event.arg::<i64>(0).unwrap() + event.arg::<i64>(1).unwrap();
                event.reply(&sum);
                event.reply("never sent twice");
            })
            .on("later", move |_, mut event| *keep.borrow_mut() = event.ack())
            .on("ask", move |socket, _| {
                for timeout in [10_000, 30] {
                    let heard = Rc::clone(&heard);
                    let draft = Draft::event("question").unwrap().arg(&timeout).unwrap();
                    socket.emit_with_ack(&draft, Duration::from_millis(timeout), move |_, reply| {
                        heard.borrow_mut().push(reply.map(|reply| reply.arg::<Value>(0).unwrap()));
                    });
                }
            });
        let served = serve(node);
        let (mut client, _) = served.connect().await;
        client.send("427[\"sum\",40,2]").await;
        assert_eq!(client.recv().await, "437[42]");
        client.send("428[\"later\"]").await;
        client.send("42[\"ask\"]").await;
        assert_eq!(client.recv().await, "420[\"question\",10000]");
        assert_eq!(client.recv().await, "421[\"question\",30]");
        client.send("430[\"yes\"]").await;
        until("one answer, one silence", || answers.borrow().len() == 2).await;
        assert_eq!(*answers.borrow(), [Ok(json!("yes")), Err(AckError::TimedOut)]);
        client.send("431[\"too late\"]").await;
        client.send("430[\"twice\"]").await;
        kept.borrow_mut().take().unwrap().send("deferred");
        assert_eq!(client.recv().await, "438[\"deferred\"]");
        client.send("42[\"ask\"]").await;
        client.recv_until("422").await;
        client.drop_line();
        until("who waits learns of the end", || answers.borrow().len() == 4).await;
        assert_eq!(answers.borrow()[2..], [Err(AckError::Disconnected), Err(AckError::Disconnected)]);
    });
}

#[test]
fn a_task_asks_a_client_and_uses_its_socket_later() {
    run(async {
        let mut node = Node::new(Config { acks_max: 1, ..config() });
        node.namespace("/").on("go", |socket, _| {
            let asking = socket.clone();
            socket.spawn(async move {
                let reply = asking.ask("name", &Value::Null, Duration::from_secs(5)).await.unwrap();
                let name: String = reply.arg(0).unwrap();
                asking.set_data(json!({ "name": name }));
                asking.emit("hello", &asking.data());
            });
        });
        let served = serve(node);
        let (mut client, id) = served.connect().await;
        client.send("42[\"go\"]").await;
        assert_eq!(client.recv().await, "420[\"name\",null]");
        let socket = served.handle.to(&*id).sockets().remove(0);
        let refused = socket.ask("more", &1, Duration::from_secs(5)).await;
        assert_eq!(refused.map(|_| ()), Err(AckError::TooMany));
        client.send("430[\"ann\"]").await;
        assert_eq!(client.recv().await, "42[\"hello\",{\"name\":\"ann\"}]");
        assert!(socket.is_connected());
        assert_eq!(socket.transport(), Transport::WebSocket);
        client.drop_line();
        until("the handle knows", || !socket.is_connected()).await;
        socket.emit("nobody", &1);
    });
}

/// Sends an event of this name to somebody.
type Emit<'a> = Box<dyn Fn(&str) + 'a>;

#[test]
fn groups_reach_their_members_once_and_nobody_else() {
    run(async {
        let mut node = Node::new(config());
        node.namespace("/").on("join", |socket, mut event| {
            event.args().for_each(|group| socket.join(&serde_json::from_str::<String>(group).unwrap()));
            event.reply(&socket.groups());
        });
        let served = serve(node);
        let mut clients = Vec::new();
        for groups in [&["red"][..], &["red", "blue"], &["blue"], &[]] {
            let (mut client, id) = served.connect().await;
            client.send(&format!("420{}", json!([&["join"], groups].concat()))).await;
            let mut sorted = groups.to_vec();
            sorted.sort_unstable();
            assert_eq!(client.recv().await, format!("430{}", json!([sorted])));
            clients.push((client, id));
        }
        let ids: Vec<String> = clients.iter().map(|(_, id)| id.clone()).collect();
        let id = |n: usize| ids[n].clone();
        let handle = &served.handle;
        let speaker = handle.to(id(1)).sockets().remove(0);
        let cases: [(&str, Emit<'_>, &[usize]); 9] = [
            ("all", Box::new(|e| handle.emit(e, &0)), &[0, 1, 2, 3]),
            ("one group", Box::new(|e| handle.to("red").emit(e, &0)), &[0, 1]),
            ("two groups", Box::new(|e| handle.to("red").within("blue").emit(e, &0)), &[0, 1, 2]),
            ("but one group", Box::new(|e| handle.everybody().except("red").emit(e, &0)), &[2, 3]),
            ("but one socket", Box::new(|e| handle.to("red").except(id(0)).emit(e, &0)), &[1]),
            ("one socket", Box::new(|e| handle.to(id(3)).emit(e, &0)), &[3]),
            ("nobody", Box::new(|e| handle.to("green").emit(e, &0)), &[]),
            ("all others", Box::new(|e| speaker.broadcast().emit(e, &0)), &[0, 2, 3]),
            ("others of a group", Box::new(|e| speaker.to("red").emit(e, &0)), &[0]),
        ];
        for (name, emit, _) in &cases {
            emit(name);
        }
        handle.emit("end", &0);
        for (n, (client, _)) in clients.iter_mut().enumerate() {
            for (name, _, reached) in &cases {
                if reached.contains(&n) {
                    assert_eq!(client.recv().await, format!("42[\"{name}\",0]"), "client {n}");
                }
            }
            assert_eq!(client.recv().await, "42[\"end\",0]", "client {n}");
        }
        handle.to("red").leave("red");
        assert!(handle.to("red").sockets().is_empty());
        handle.to(id(3)).join("blue");
        assert_eq!(handle.to("blue").sockets().len(), 3);
        handle.to("blue").disconnect();
        assert_eq!(clients[3].0.recv().await, "41");
        assert_eq!(handle.everybody().sockets().len(), 1);
    });
}

#[test]
fn events_of_one_socket_are_handled_in_order() {
    run(async {
        let mut node = Node::new(config());
        node.namespace("/").on("n", |socket, event| socket.emit_draft(event.forward("n").unwrap()));
        let served = serve(node);
        let (mut client, _) = served.connect().await;
        let sent: Vec<String> = (0..1_000).map(|n| format!("42[\"n\",{n}]")).collect();
        for text in &sent {
            client.send(text).await;
        }
        for text in &sent {
            assert_eq!(&client.recv().await, text);
        }
    });
}

#[test]
fn namespaces_are_apart_and_refuse_by_middleware() {
    run(async {
        let reasons = Rc::new(RefCell::new(Vec::new()));
        let (first, second) = (Rc::clone(&reasons), Rc::clone(&reasons));
        let mut node = Node::new(config());
        node.namespace("/").on_disconnect(move |_, reason| first.borrow_mut().push(("/", reason.as_str())));
        node.namespace("/admin")
            .middleware(|socket, request| {
                let auth: Value = request.auth().unwrap();
                assert_eq!(request.handshake().query("transport"), Some("websocket"));
                socket.set_data(auth["name"].clone());
                match auth["key"].as_str() {
                    Some("secret") => Ok(()),
                    Some(_) | None => Err(Refusal::new("no").with_data(json!({ "code": 7 }))),
                }
            })
            .on_connect(|socket| socket.emit("you", &socket.data()))
            .on_disconnect(move |_, reason| second.borrow_mut().push(("/admin", reason.as_str())));
        let served = serve(node);
        let (mut client, _) = served.connect().await;
        client.send("40/admin,{\"key\":\"wrong\"}").await;
        assert_eq!(client.recv().await, "44/admin,{\"message\":\"no\",\"data\":{\"code\":7}}");
        client.send("40/nowhere,").await;
        assert_eq!(client.recv().await, "44/nowhere,{\"message\":\"Invalid namespace\"}");
        client.send("40/admin,{\"key\":\"secret\",\"name\":\"ann\"}").await;
        client.recv_starting("40/admin,{\"sid\":").await;
        assert_eq!(client.recv().await, "42/admin,[\"you\",\"ann\"]");
        served.handle.emit("main", &1);
        served.handle.namespace("/admin").unwrap().emit("admin", &2);
        assert_eq!(client.recv().await, "42[\"main\",1]");
        assert_eq!(client.recv().await, "42/admin,[\"admin\",2]");
        client.send("41/admin,").await;
        until("it left", || reasons.borrow().len() == 1).await;
        client.drop_line();
        until("all left", || reasons.borrow().len() == 2).await;
        assert_eq!(*reasons.borrow(), [("/admin", "client namespace disconnect"), ("/", "transport close")]);
        assert_eq!(served.handle.counters().connects_refused_total, 2);
    });
}

#[test]
fn a_handler_that_panics_costs_its_own_session_alone() {
    run(async {
        let mut node = Node::new(config());
        node.namespace("/")
            .on("boom", |_, event| assert_eq!(event.arg::<u32>(0).unwrap(), 0))
            .on("echo", |socket, event| socket.emit_draft(event.forward("echo").unwrap()))
            .on_disconnect(|_, _| panic!("here too"));
        let served = serve(node);
        let (mut bystander, _) = served.connect().await;
        let (mut client, _) = served.connect().await;
        client.send("42[\"boom\",\"x\"]").await;
        client.closed().await;
        until("both panics are counted", || served.handle.counters().handler_panics_total == 2).await;
        bystander.send("42[\"echo\",1]").await;
        assert_eq!(bystander.recv().await, "42[\"echo\",1]");
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn a_socket_may_be_ended_from_within_any_handler() {
    run(async {
        let ends = Rc::new(Cell::new(0));
        let count = Rc::clone(&ends);
        let mut node = Node::new(config());
        node.namespace("/")
            .on_any(|socket, event| {
                if event.name() == "any" {
                    socket.disconnect();
                }
            })
            .on("kick", |socket, _| {
                socket.disconnect();
                socket.disconnect();
                socket.close_transport();
            })
            .on_disconnect(move |socket, _| {
                count.set(count.get() + 1);
                socket.disconnect();
                socket.broadcast().emit("gone", &socket.id());
            });
        node.namespace("/never").on_connect(greenroom_node::Socket::disconnect);
        let served = serve(node);
        let (mut watcher, _) = served.connect().await;
        for event in ["any", "kick"] {
            let (mut client, id) = served.connect().await;
            client.send(&format!("42[\"{event}\"]")).await;
            assert_eq!(client.recv().await, "41");
            assert_eq!(watcher.recv().await, format!("42[\"gone\",\"{id}\"]"));
        }
        assert_eq!(ends.get(), 2);
        watcher.send("40/never,").await;
        watcher.recv_starting("40/never,{").await;
        assert_eq!(watcher.recv().await, "41/never,");
    });
}

#[test]
fn an_event_that_cannot_be_encoded_is_counted_and_harms_nobody() {
    run(async {
        let served = serve(Node::new(config()));
        let (mut client, _) = served.connect().await;
        served.handle.emit("connect", &1);
        served.handle.emit("bad", &std::collections::BTreeMap::from([((1, 2), 3)]));
        served.handle.emit("good", &1);
        assert_eq!(client.recv().await, "42[\"good\",1]");
        assert_eq!(served.handle.counters().emit_faults_total, 2);
    });
}
