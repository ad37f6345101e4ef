//! When events leave: at once, after a while, or when the program's tick says so.

mod common;

use std::time::Duration;

use common::{config, run, serve};
use greenroom_node::{Flush, Node};

fn node(flush: Flush) -> common::Served {
    let mut node = Node::new(config());
    let handlers = node.namespace("/").flush(flush);
    handlers.on("echo", |_, mut event| event.reply("echoed"));
    serve(node)
}

#[test]
fn events_of_a_tick_wait_for_its_end_and_leave_in_order() {
    run(async {
        let served = node(Flush::OnTick);
        let (mut client, _) = served.connect().await;
        served.handle.emit("n", &1);
        served.handle.emit("n", &2);
        let waits = tokio::time::timeout(Duration::from_millis(50), client.recv()).await;
        assert!(waits.is_err(), "{waits:?} left before the tick's end");
        served.handle.flush();
        assert_eq!([client.recv().await, client.recv().await], [r#"42["n",1]"#, r#"42["n",2]"#]);
        served.handle.flush();
    });
}

#[test]
fn an_ack_waits_for_nobody_and_takes_along_what_was_before_it() {
    run(async {
        let served = node(Flush::OnTick);
        let (mut client, _) = served.connect().await;
        served.handle.emit("n", &1);
        client.send(r#"420["echo"]"#).await;
        assert_eq!([client.recv().await, client.recv().await], [r#"42["n",1]"#, r#"430["echoed"]"#]);
    });
}

#[test]
fn events_that_may_wait_a_while_leave_by_themselves_again_and_again() {
    run(async {
        let served = node(Flush::Every(Duration::from_millis(3)));
        let (mut client, _) = served.connect().await;
        for round in 0..5 {
            served.handle.emit("n", &round);
            assert_eq!(client.recv().await, format!(r#"42["n",{round}]"#));
        }
    });
}
