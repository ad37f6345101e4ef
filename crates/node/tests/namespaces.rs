//! Namespaces made by rules, middlewares of every kind, listeners, and answers of many.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::{Served, Tung, config, run, serve, until};
use greenroom_node::{Config, Draft, GroupStep, Node, Refusal};
use serde_json::{Value, json};
use tokio::sync::Notify;

async fn open(served: &Served) -> Tung {
    let mut client = served.websocket().await;
    client.recv_starting("0{").await;
    client
}

#[test]
fn a_pattern_makes_namespaces_that_live_while_somebody_is_in_them() {
    run(async {
        let made = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&made);
        let mut node = Node::new(Config { dynamic_namespaces_max: 2, ..config() });
        node.on_namespace(move |name| seen.borrow_mut().push(name.to_owned()));
        node.namespace("/room-static").on("who", |_, mut event| event.reply("static"));
        node.namespaces("/room-*").on("who", |socket, mut event| event.reply(socket.namespace_name()));
        node.namespaces_where("vip", |request| {
            request.auth::<Value>().is_ok_and(|auth| auth["vip"] == true) && request.namespace() == "/vip"
        });
        let served = serve(node);
        let mut ann = open(&served).await;
        ann.send("40/room-1,").await;
        ann.recv_starting("40/room-1,{\"sid\"").await;
        ann.send("42/room-1,0[\"who\"]").await;
        assert_eq!(ann.recv().await, "43/room-1,0[\"/room-1\"]");
        ann.send("40/room-static,").await;
        ann.recv_starting("40/room-static,").await;
        ann.send("42/room-static,1[\"who\"]").await;
        assert_eq!(ann.recv().await, "43/room-static,1[\"static\"]");
        for name in ["/room-", "/room-1/2", "/vip", "/elsewhere"] {
            ann.send(&format!("40{name},")).await;
            assert_eq!(ann.recv().await, format!("44{name},{{\"message\":\"Invalid namespace\"}}"));
        }
        ann.send("40/vip,{\"vip\":true}").await;
        ann.recv_starting("40/vip,{\"sid\"").await;
        ann.send("40/room-2,").await;
        assert_eq!(ann.recv().await, "44/room-2,{\"message\":\"Too many namespaces\"}");

        served.handle.children("/room-*").unwrap().emit("all", &1);
        assert_eq!(ann.recv().await, "42/room-1,[\"all\",1]");
        assert!(served.handle.children("/other-*").is_none());
        ann.send("41/room-1,").await;
        until("the empty one is gone", || served.handle.namespace("/room-1").is_none()).await;
        ann.send("40/room-2,").await;
        ann.recv_starting("40/room-2,{\"sid\"").await;
        drop(ann);
        until("nothing is left", || served.handle.namespace("/room-2").is_none()).await;
        assert!(served.handle.namespace("/room-static").is_some());
        assert_eq!(*made.borrow(), ["/room-1", "/vip", "/room-2"]);
    });
}

#[test]
fn one_session_gets_so_many_namespaces_and_no_more() {
    run(async {
        let mut node = Node::new(Config { namespaces_per_session_max: 2, ..config() });
        node.namespaces("/*");
        let served = serve(node);
        let mut ann = open(&served).await;
        for name in ["/a", "/b"] {
            ann.send(&format!("40{name},")).await;
            ann.recv_starting(&format!("40{name},")).await;
        }
        ann.send("40/c,").await;
        assert_eq!(ann.recv().await, "44/c,{\"message\":\"Too many namespaces\"}");
        ann.send("41/a,").await;
        ann.send("40/c,").await;
        ann.recv_starting("40/c,").await;
    });
}

#[test]
fn a_middleware_may_wait_while_others_are_served() {
    run(async {
        let (gate, order) = (Rc::new(Notify::new()), Rc::new(RefCell::new(Vec::new())));
        let (wait, first, last) = (Rc::clone(&gate), Rc::clone(&order), Rc::clone(&order));
        let mut node = Node::new(config());
        node.namespace("/slow")
            .middleware(move |_, _| {
                first.borrow_mut().push("now");
                Ok(())
            })
            .middleware_async(move |socket, request| {
                let wait = Rc::clone(&wait);
                async move {
                    wait.notified().await;
                    socket.set_data(request.auth().map_err(|error| Refusal::new(error.to_string()))?);
                    match request.namespace_query("as") {
                        Some("nobody") => Err(Refusal::new("nobody").with_data(json!(7))),
                        Some("bug") => panic!("a fault of the program"),
                        _ => Ok(()),
                    }
                }
            })
            .middleware(move |_, _| {
                last.borrow_mut().push("after");
                Ok(())
            })
            .on_connect(|socket| socket.emit("data", &socket.data()));
        let served = serve(node);
        let (mut ann, mut bob, mut eve) = (open(&served).await, open(&served).await, open(&served).await);
        ann.send("40/slow,{\"name\":\"ann\"}").await;
        ann.send("40").await;
        ann.recv_starting("40{\"sid\"").await;
        gate.notify_one();
        ann.recv_starting("40/slow,{\"sid\"").await;
        assert_eq!(ann.recv().await, "42/slow,[\"data\",{\"name\":\"ann\"}]");
        assert_eq!(*order.borrow(), ["now", "after"]);

        bob.send("40/slow?as=nobody,").await;
        gate.notify_one();
        assert_eq!(bob.recv().await, "44/slow,{\"message\":\"nobody\",\"data\":7}");
        // Taken back while it is judged: no word about it any more.
        bob.send("40").await;
        bob.recv_starting("40{").await;
        bob.send("40/slow,").await;
        bob.send("41/slow,").await;
        gate.notify_one();
        served.handle.emit("after", &1);
        assert_eq!(bob.recv().await, "42[\"after\",1]");
        // Events of a namespace that is not connected yet end the session.
        bob.send("40/slow,").await;
        bob.send("42/slow,[\"early\"]").await;
        bob.closed().await;
        gate.notify_one();

        eve.send("40/slow?as=bug,").await;
        gate.notify_waiters();
        until("the fault is counted", || {
            gate.notify_one();
            served.handle.counters().handler_panics_total == 1
        })
        .await;
        eve.closed().await;
        assert_eq!(served.handle.namespace("/slow").unwrap().sockets().len(), 1);
    });
}

#[test]
fn a_middleware_that_does_not_end_is_a_refusal_in_time() {
    run(async {
        let mut node = Node::new(Config { connect_timeout: Duration::from_millis(100), ..config() });
        node.namespace("/never").middleware_async(|_, _| std::future::pending());
        let served = serve(node);
        let mut ann = open(&served).await;
        ann.send("40").await;
        ann.recv_starting("40{\"sid\"").await;
        ann.send("40/never,").await;
        assert_eq!(ann.recv().await, "44/never,{\"message\":\"The server did not decide in time\"}");
        served.handle.emit("on", &1);
        assert_eq!(ann.recv().await, "42[\"on\",1]");
    });
}

#[test]
fn packet_middlewares_refuse_events_and_listeners_see_both_directions() {
    run(async {
        let log = Rc::new(RefCell::new(Vec::<String>::new()));
        let (any, out, refused) = (Rc::clone(&log), Rc::clone(&log), Rc::clone(&log));
        let mut node = Node::new(config());
        node.namespace("/")
            .on_any(move |_, event| any.borrow_mut().push(format!("in {}", event.name())))
            .on_any_outgoing(move |_, event| {
                let args: Vec<&str> = event.args().collect();
                out.borrow_mut().push(format!("out {} {}", event.name(), args.join("|")));
            })
            .packet_middleware(|_, event| match event.name() {
                "admin" => {
                    event.reply(&json!({ "error": "forbidden" }));
                    Err(Refusal::new("forbidden"))
                }
                "drop" => Err(Refusal::new("dropped")),
                _ => Ok(()),
            })
            .on_refused(move |_, refusal| refused.borrow_mut().push(format!("refused {}", refusal.message)))
            .on("admin", |_, _| panic!("it was refused"))
            .on("drop", |_, _| panic!("it was refused"))
            .on("message", |socket, event| {
                socket.send(&event.arg::<Value>(0).unwrap());
                socket.node().everybody().send("to all");
            });
        let served = serve(node);
        let (mut ann, _) = served.connect().await;
        ann.send("420[\"admin\"]").await;
        assert_eq!(ann.recv().await, "430[{\"error\":\"forbidden\"}]");
        ann.send("421[\"drop\",1]").await;
        ann.send("42[\"message\",[1]]").await;
        assert_eq!(ann.recv().await, "42[\"message\",[1]]");
        assert_eq!(ann.recv().await, "42[\"message\",\"to all\"]");
        let expected = [
            "in admin",
            "refused forbidden",
            "in drop",
            "refused dropped",
            "in message",
            "out message [1]",
            "out message \"to all\"",
        ];
        assert_eq!(*log.borrow(), expected);
        assert_eq!(served.handle.counters().events_refused_total, 2);
    });
}

#[test]
fn a_socket_that_goes_is_in_its_groups_until_disconnecting_is_told() {
    run(async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let (before, after) = (Rc::clone(&log), Rc::clone(&log));
        let mut node = Node::new(config());
        node.namespace("/")
            .on_connect(|socket| socket.join("red"))
            .on_disconnecting(move |socket, reason| {
                before.borrow_mut().push((socket.groups(), reason.as_str()));
                socket.to("red").emit("leaves", "red");
            })
            .on_disconnect(move |socket, reason| after.borrow_mut().push((socket.groups(), reason.as_str())));
        let served = serve(node);
        let ((mut ann, _), (bob, _)) = (served.connect().await, served.connect().await);
        bob.drop_line();
        assert_eq!(ann.recv().await, "42[\"leaves\",\"red\"]");
        let gone = "transport close";
        assert_eq!(*log.borrow(), [(vec!["red".to_owned()], gone), (vec![], gone)]);
    });
}

#[test]
fn groups_are_told_from_their_first_member_to_their_last() {
    run(async {
        let log = Rc::new(RefCell::new(Vec::new()));
        let tell = Rc::clone(&log);
        let mut node = Node::new(config());
        node.namespace("/").on_group(move |change| {
            assert_eq!(change.namespace, "/");
            tell.borrow_mut().push((change.group.to_owned(), change.step));
        });
        let served = serve(node);
        let ((ann, _), (bob, _)) = (served.connect().await, served.connect().await);
        let sockets = served.handle.everybody().sockets();
        let (one, two) = (sockets[0].id(), sockets[1].id());
        sockets[0].join("red");
        sockets[0].join("red");
        sockets[1].join("red");
        sockets[0].leave("red");
        sockets[0].leave("red");
        bob.drop_line();
        until("the group has ended", || log.borrow().len() == 6).await;
        let steps = [
            GroupStep::Began,
            GroupStep::Joined(one),
            GroupStep::Joined(two),
            GroupStep::Left(one),
            GroupStep::Left(two),
            GroupStep::Ended,
        ];
        assert_eq!(*log.borrow(), steps.map(|step| ("red".to_owned(), step)));
        ann.drop_line();
    });
}

#[test]
#[should_panic(expected = "reserved")]
fn a_handler_for_a_reserved_name_is_refused_at_once() {
    Node::new(config()).namespace("/").on("disconnect", |_, _| {});
}

#[test]
fn answers_of_many_are_collected_and_the_missing_are_named() {
    run(async {
        let served = serve(Node::new(config()));
        let (mut ann, ann_id) = served.connect().await;
        let (mut bob, bob_id) = served.connect().await;
        let (eve, eve_id) = served.connect().await;
        let answers = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&answers);
        let draft = Draft::event("ready").unwrap();
        served.handle.everybody().emit_with_ack(&draft, Duration::from_millis(400), move |answers| {
            *keep.borrow_mut() = Some(answers);
        });
        assert_eq!(ann.recv().await, "420[\"ready\"]");
        assert_eq!(bob.recv().await, "420[\"ready\"]");
        ann.send("430[\"yes\"]").await;
        eve.drop_line();
        until("the time is over", || answers.borrow().is_some()).await;
        let answers = answers.take().unwrap();
        let replies: Vec<_> =
            answers.replies.iter().map(|(id, reply)| (id.to_string(), reply.arg(0).unwrap())).collect();
        assert_eq!(replies, [(ann_id.clone(), "yes".to_owned())]);
        let missing: Vec<_> =
            answers.missing.iter().map(|(id, why)| (id.to_string(), why.to_string())).collect();
        let expected = [
            (eve_id, "the socket is disconnected".to_owned()),
            (bob_id, "the client did not answer in time".to_owned()),
        ];
        assert_eq!(missing, expected);
        assert!(!answers.is_complete());

        let only_ann = served.handle.to(ann_id);
        let asking = only_ann.ask("again", &1, Duration::from_secs(5));
        let answering = async {
            assert_eq!(ann.recv().await, "421[\"again\",1]");
            ann.send("431[2]").await;
        };
        let (answers, ()) = tokio::join!(asking, answering);
        assert!(answers.is_complete());
        assert_eq!(answers.replies[0].1.arg::<i32>(0).unwrap(), 2);
        let nobody = served.handle.to("nobody").ask("x", &1, Duration::from_secs(5)).await;
        assert!(nobody.is_complete() && nobody.replies.is_empty());
    });
}

#[test]
fn who_is_disconnected_by_a_broadcast_is_told_once() {
    run(async {
        let count = Rc::new(Cell::new(0));
        let told = Rc::clone(&count);
        let mut node = Node::new(config());
        node.namespaces("/g-*").on_disconnect(move |_, _| told.set(told.get() + 1));
        let served = serve(node);
        let mut ann = open(&served).await;
        ann.send("40/g-1,").await;
        ann.recv_starting("40/g-1,").await;
        served.handle.children("/g-*").unwrap().disconnect();
        assert_eq!(ann.recv().await, "41/g-1,");
        assert_eq!(count.get(), 1);
        assert!(served.handle.namespace("/g-1").is_none());
    });
}
