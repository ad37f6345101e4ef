//! A node on a loopback port within the test's own thread, and two independent clients for it.
#![expect(dead_code, reason = "each test file uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else came fails the test")]

pub(crate) mod agent;
pub(crate) mod hub;
pub(crate) mod ledger;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom_node::{Config, Node, NodeError, NodeHandle};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Nothing here takes longer unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Runs a test on a thread of its own runtime, within the deadline.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(3 * DEADLINE, test).await.expect("the test ends within its deadline");
    });
}

/// A configuration for tests: any free port.
pub(crate) fn config() -> Config {
    Config { bind: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() }
}

/// A node that serves.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) handle: NodeHandle,
    task: tokio::task::JoinHandle<Result<(), NodeError>>,
}

pub(crate) fn serve(node: Node) -> Served {
    let bound = node.bind().unwrap();
    let (address, handle) = (bound.address(), bound.handle());
    Served { address, handle, task: tokio::task::spawn_local(bound.serve()) }
}

impl Served {
    /// The same node, spoken to by another address.
    pub(crate) fn by(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Ends it without a word, as `kill -9` does as far as its backplane can see.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }

    pub(crate) async fn ended(self) {
        tokio::time::timeout(DEADLINE, self.task).await.expect("the node ends").unwrap().unwrap();
    }

    /// A session on a fresh WebSocket, before any namespace.
    pub(crate) async fn websocket(&self) -> Tung {
        self.websocket_at("EIO=4&transport=websocket").await
    }

    /// The same after the server's open packet.
    pub(crate) async fn opened(&self) -> Tung {
        let mut client = self.websocket().await;
        client.recv_starting("0{").await;
        client
    }

    pub(crate) async fn websocket_at(&self, query: &str) -> Tung {
        let url = format!("ws://{}/socket.io/?{query}", self.address);
        let (stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Tung(stream)
    }

    /// A connected socket of `/`. Gives its id too.
    pub(crate) async fn connect(&self) -> (Tung, String) {
        let mut client = self.opened().await;
        client.send("40").await;
        let reply = client.recv_starting("40{").await;
        let reply: serde_json::Value = serde_json::from_str(&reply[2..]).unwrap();
        (client, reply["sid"].as_str().unwrap().to_owned())
    }

    /// One HTTP request on a connection of its own.
    pub(crate) async fn http(&self, method: &str, query: &str, body: &str) -> Answer {
        self.http_with(method, &format!("/socket.io/?{query}"), "", body).await
    }

    pub(crate) async fn http_with(&self, method: &str, target: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let host = self.address;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        // A refusal of a request that was not read to its end comes with a reset behind it.
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut text)).await.expect("an answer");
        assert!(read.is_ok() || !text.is_empty(), "{read:?}");
        Answer::read(&String::from_utf8(text).unwrap())
    }

    /// Opens a polling session.
    pub(crate) async fn open_polling(&self) -> String {
        let answer = self.http("GET", "EIO=4&transport=polling", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let open: serde_json::Value = serde_json::from_str(&answer.body[1..]).unwrap();
        assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
        format!("EIO=4&transport=polling&sid={}", open["sid"].as_str().unwrap())
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, waiting).await.is_ok(), "never came true: {what}");
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// A WebSocket of a library that shares no code with the node.
pub(crate) struct Tung(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Tung {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// Sends unless the connection is over.
    pub(crate) async fn try_send_message(&mut self, message: Message) -> bool {
        self.0.send(message).await.is_ok()
    }

    /// The next message, pings of the protocol answered; `None` once the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match tokio::time::timeout(DEADLINE, self.0.next()).await.expect("a message in time") {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.send("3").await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(message)) => return Some(message),
            }
        }
    }

    pub(crate) async fn recv(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("a text was due, not {other:?}"),
        }
    }

    pub(crate) async fn recv_binary(&mut self) -> Vec<u8> {
        match self.next().await {
            Some(Message::Binary(bytes)) => bytes.to_vec(),
            other => panic!("a binary message was due, not {other:?}"),
        }
    }

    /// The next text, which must begin so.
    pub(crate) async fn recv_starting(&mut self, start: &str) -> String {
        let text = self.recv().await;
        assert!(text.starts_with(start), "{text} begins with {start}");
        text
    }

    /// Skips to the text that begins so.
    pub(crate) async fn recv_until(&mut self, start: &str) -> String {
        loop {
            let text = self.recv().await;
            if text.starts_with(start) {
                return text;
            }
        }
    }

    /// Reads until the other end closes; what came before is given.
    pub(crate) async fn closed(&mut self) -> Vec<Message> {
        let mut before = Vec::new();
        while let Some(message) = self.next().await {
            before.push(message);
        }
        before
    }

    /// Ends the TCP connection without a word.
    pub(crate) fn drop_line(self) {
        drop(self);
    }
}
