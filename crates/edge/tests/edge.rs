//! The edge in front of real nodes: sessions find their server through any edge, by any transport.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use greenroom_edge::{EdgeConfig, PortUse};
use greenroom_node::config::{KeptHeaders, TlsFiles};
use greenroom_tls::PairFiles;
use support::clients::{Poller, Socket, http};
use support::{Control, edge, run, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(60);
const POLL: &str = "/socket.io/?EIO=4&transport=polling";

async fn fleet(servers: usize) -> Control {
    let control = Control::start().await;
    (0..servers).for_each(|n| control.add(&format!("s{n}"), |_| {}));
    control
}

#[test]
fn polling_sessions_pass_by_two_edges_in_turn_and_outlive_both() {
    run(LONG, async {
        let control = fleet(5).await;
        let edges = [edge(&control, |_| {}), edge(&control, |_| {})];
        control.heard(2).await;
        let addresses = [edges[0].address, edges[1].address];
        let mut pollers = Vec::new();
        let mut servers = BTreeSet::new();
        for _ in 0..10 {
            let mut poller = Poller::connect(&addresses, "").await.unwrap();
            servers.insert(poller.ask("who", "").await.unwrap());
            pollers.push(poller);
        }
        assert_eq!(servers.len(), 5, "they are spread: {servers:?}");
        for edge in edges {
            edge.kill().await;
        }
        let third = edge(&control, |_| {});
        control.heard(1).await;
        for (said, poller) in pollers.iter_mut().enumerate() {
            poller.by(&[third.address]);
            poller.echo(said as u64).await.unwrap();
        }
    });
}

#[test]
fn a_session_moves_from_polling_to_a_websocket_through_another_edge() {
    run(LONG, async {
        let control = fleet(5).await;
        let edges = [edge(&control, |_| {}), edge(&control, |_| {})];
        control.heard(2).await;
        for _ in 0..10 {
            let poller = Poller::connect(&[edges[0].address], "").await.unwrap();
            let query = poller.query.replace("transport=polling", "transport=websocket");
            let mut socket = Socket::open(edges[1].address, &query).await.unwrap();
            socket.send("2probe").await.unwrap();
            socket.until("3probe").await.unwrap();
            socket.send("5").await.unwrap();
            socket.echo(7).await.unwrap();
        }
    });
}

#[test]
fn a_session_on_a_server_that_another_edge_has_not_heard_of_yet_is_no_stranger() {
    run(LONG, async {
        let control = fleet(1).await;
        let slow = |config: &mut EdgeConfig| config.ask_every = LONG;
        let edges = [edge(&control, slow), edge(&control, slow)];
        until("they listen", || control.told.get() >= 2).await;
        for n in 0..6 {
            let name = format!("new{n}");
            control.add(&name, |_| {});
            let by = [edges[n % 2].address, edges[(n + 1) % 2].address];
            let mut poller = Poller::connect(&by, &format!("&server={name}")).await.unwrap();
            poller.echo(1).await.unwrap();
        }
    });
}

#[test]
fn a_named_server_is_reached_also_when_it_takes_nobody_new() {
    run(LONG, async {
        let control = fleet(3).await;
        control.show("s1", "draining");
        let edge = edge(&control, |_| {});
        control.heard(1).await;
        for _ in 0..6 {
            let mut socket = Socket::connect(edge.address, "").await.unwrap();
            assert_ne!(socket.ask("who", "").await.unwrap(), "\"s1\"");
        }
        let mut socket = Socket::connect(edge.address, "&server=s1").await.unwrap();
        assert_eq!(socket.ask("who", "").await.unwrap(), "\"s1\"");
        let mut poller = Poller::connect(&[edge.address], "&server=s1").await.unwrap();
        assert_eq!(poller.ask("who", "").await.unwrap(), "\"s1\"");
    });
}

#[test]
fn who_cannot_be_served_is_told_so_that_a_stock_client_tries_again() {
    run(LONG, async {
        let control = fleet(1).await;
        let edge = edge(&control, |_| {});
        let ask = async |target: &str| {
            http(edge.address, "GET", target, "origin: https://a.example\r\n", "").await.unwrap()
        };
        control.heard(1).await;
        for sid in ["abc", "abc.gone1234", ".", "%2e"] {
            let answer = ask(&format!("{POLL}&sid={sid}")).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (400, r#"{"code":1,"message":"Session ID unknown"}"#)
            );
            assert!(
                answer.head.contains("access-control-allow-origin: https://a.example"),
                "{}",
                answer.head
            );
        }
        let unnamed = ask(&format!("{POLL}&server=s9")).await;
        assert_eq!(unnamed.status, 503);
        control.show("s0", "draining");
        control.heard(1).await;
        let nobody = ask(POLL).await;
        assert_eq!(nobody.status, 503);
        assert!(nobody.head.contains("retry-after: 1"), "{}", nobody.head);
        let wrong =
            http(edge.address, "GET", "/socket.io/?EIO=3&transport=polling&server=s0", "", "").await.unwrap();
        assert_eq!(
            (wrong.status, wrong.body.contains("\"code\":5")),
            (400, true),
            "the server's own word passes"
        );
        assert_eq!(ask("/livez").await.status, 503);
        control.show("s0", "ready");
        control.heard(1).await;
        assert_eq!((ask("/livez").await.status, ask("/nothing").await.status), (200, 404), "any path passes");
    });
}

#[test]
fn a_server_that_does_not_accept_costs_nobody_a_session() {
    run(LONG, async {
        let control = fleet(2).await;
        let edge = edge(&control, |_| {});
        control.heard(1).await;
        // The list says ready, nobody listens.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        control.servers.borrow_mut().get_mut("s0").unwrap().endpoint = free.local_addr().unwrap().to_string();
        drop(free);
        control.heard(1).await;
        for _ in 0..10 {
            let mut socket = Socket::connect(edge.address, "").await.unwrap();
            assert_eq!(socket.ask("who", "").await.unwrap(), "\"s1\"");
            Poller::connect(&[edge.address], "").await.unwrap();
        }
        let named = http(edge.address, "GET", &format!("{POLL}&server=s0"), "", "").await.unwrap();
        assert_eq!(named.status, 502);
    });
}

#[test]
fn a_server_hears_who_asks_and_for_whom() {
    run(LONG, async {
        let control = Control::start().await;
        control.add("s0", |config| config.headers_kept = KeptHeaders::All);
        let edge = edge(&control, |_| {});
        control.heard(1).await;
        let mut socket = Socket::connect(edge.address, "").await.unwrap();
        let heard = socket.ask("from", "").await.unwrap();
        assert_eq!(heard, format!(r#"["127.0.0.1","http","{}"]"#, edge.address));
    });
}

#[test]
fn requests_on_one_connection_go_to_their_own_servers() {
    run(LONG, async {
        let control = fleet(2).await;
        let edge = edge(&control, |_| {});
        control.heard(1).await;
        let first = Poller::connect(&[edge.address], "&server=s0").await.unwrap();
        let second = Poller::connect(&[edge.address], "&server=s1").await.unwrap();
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let mut say = async |query: &str, body: &str| {
            let length = body.len();
            let request = format!(
                "POST /socket.io/?{query} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"ok") {
                assert!(
                    stream.read_buf(&mut answer).await.unwrap() > 0,
                    "{}",
                    String::from_utf8_lossy(&answer)
                );
            }
        };
        for _ in 0..3 {
            say(&first.query, "421[\"echo\",1]").await;
            say(&first.query, "422[\"echo\",2]").await;
            say(&second.query, "421[\"echo\",1]").await;
        }
    });
}

#[test]
fn the_end_of_either_side_reaches_the_other_and_leaves_nothing_behind() {
    run(LONG, async {
        let control = fleet(1).await;
        let edge = edge(&control, |_| {});
        control.heard(1).await;
        let mut sockets = Vec::new();
        for _ in 0..5 {
            sockets.push(Socket::connect(edge.address, "").await.unwrap());
        }
        assert_eq!(control.connections("s0"), 5);
        sockets.truncate(2);
        until("the server knows who left", || control.connections("s0") == 2).await;
        control.forget("s0").shutdown();
        for socket in &mut sockets {
            socket.closed().await;
        }
    });
}

#[test]
fn an_edge_that_ends_lets_polls_finish_and_ends_websockets_one_after_the_other() {
    run(LONG, async {
        let control = Control::start().await;
        control.add("s0", |config| config.ping_interval = Duration::from_millis(700));
        let shared = |config: &mut EdgeConfig| {
            config.port_use = PortUse::Shared;
            config.drain = Duration::from_secs(3);
        };
        let old = edge(&control, shared);
        control.heard(1).await;
        let mut poller = Poller::connect(&[old.address], "").await.unwrap();
        let mut sockets = Vec::new();
        for _ in 0..10 {
            sockets.push(Socket::connect(old.address, "").await.unwrap());
        }
        let address = old.address;
        // It waits there: the other one, which shares the port, does not yet.
        let waiting = tokio::task::spawn_local({
            let target = format!("/socket.io/?{}", poller.query);
            async move { http(address, "GET", &target, "", "").await }
        });
        // Another one listens there too before the old one ends.
        let new = edge(&control, |config| {
            shared(config);
            config.listen = address;
        });
        control.heard(2).await;
        old.stop.cancel();
        let ended = std::rc::Rc::new(std::cell::Cell::new(0));
        for mut socket in sockets {
            let ended = std::rc::Rc::clone(&ended);
            tokio::task::spawn_local(async move {
                socket.closed().await;
                ended.set(ended.get() + 1);
            });
        }
        until("some have ended", || ended.get() > 1).await;
        assert!(ended.get() < 10, "not all at once");
        old.ended().await;
        until("all have ended", || ended.get() == 10).await;
        let waited = waiting.await.unwrap().unwrap();
        assert_eq!((waited.status, waited.body.as_str()), (200, "2"), "the poll that waited got its ping");
        poller.by(&[new.address]);
        poller.echo(1).await.unwrap();
        new.end().await;
    });
}

#[test]
fn tls_is_spoken_on_both_sides() {
    run(LONG, async {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let control = Control::start().await;
        control.add("s0", |config| {
            config.tls = Some(TlsFiles::new(file("cert.pem"), file("key.pem")));
            config.headers_kept = KeptHeaders::All;
        });
        let trusting = |path: &Path| Some(path.to_owned());
        let plain = edge(&control, |config| config.backend_ca = trusting(&file("cert.pem")));
        let secure = edge(&control, |config| {
            config.backend_ca = trusting(&file("cert.pem"));
            config.tls = Some(PairFiles { certificates: file("cert.pem"), key: file("key.pem") });
        });
        let blind = edge(&control, |_| {});
        control.heard(3).await;
        Poller::connect(&[plain.address], "").await.unwrap().echo(1).await.unwrap();
        let mut socket = Socket::connect(plain.address, "").await.unwrap();
        socket.echo(2).await.unwrap();
        let refused = http(blind.address, "GET", POLL, "", "").await.unwrap();
        assert_eq!(refused.status, 503, "nobody said whom to trust");

        let dialling =
            greenroom_tls::Tls::open(None, trusting(&file("cert.pem"))).unwrap().dialling().unwrap().unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(dialling));
        let stream = TcpStream::connect(secure.address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let request = format!("GET {POLL} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The other side may end the connection without a last word of TLS.
        let _end = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("0{"), "{answer}");
    });
}

#[test]
fn who_comes_when_it_is_full_is_told_to_come_later() {
    run(LONG, async {
        let control = fleet(1).await;
        let edge = edge(&control, |config| config.connections_max = Some(2));
        control.heard(1).await;
        let mut kept = vec![
            Socket::connect(edge.address, "").await.unwrap(),
            Socket::connect(edge.address, "").await.unwrap(),
        ];
        let refused = http(edge.address, "GET", POLL, "", "").await.unwrap();
        assert_eq!(refused.status, 503);
        kept[0].echo(1).await.unwrap();
        kept.pop();
        let mut again = None;
        while again.is_none() {
            again = Socket::connect(edge.address, "").await.ok();
        }
    });
}
