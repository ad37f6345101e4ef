//! Socket.IO clients by hand: one on a WebSocket, one that polls, each request to an edge of its choice.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::DEADLINE;

/// Why a client is no longer connected.
pub(crate) type Dropped = String;

/// A connected socket of `/` on a WebSocket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Socket {
    pub(crate) async fn connect(edge: SocketAddr, query: &str) -> Result<Self, Dropped> {
        let mut socket = Self::open(edge, &format!("EIO=4&transport=websocket{query}")).await?;
        socket.until("0{").await?;
        socket.send("40").await?;
        socket.until("40{").await?;
        Ok(socket)
    }

    /// A WebSocket, before any packet.
    pub(crate) async fn open(edge: SocketAddr, query: &str) -> Result<Self, Dropped> {
        let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
        let url = format!("ws://{edge}/socket.io/?{query}");
        let (stream, _) =
            connect_async_with_config(url, Some(config), true).await.map_err(|error| error.to_string())?;
        Ok(Self { stream, asked: 0 })
    }

    pub(crate) async fn send(&mut self, text: &str) -> Result<(), Dropped> {
        self.stream.send(Message::text(text)).await.map_err(|error| error.to_string())
    }

    /// The next text that begins so; pings are answered.
    pub(crate) async fn until(&mut self, start: &str) -> Result<String, Dropped> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
            match next.map_err(|_| format!("no {start:?} in time"))? {
                Some(Ok(Message::Text(text))) if text.starts_with(start) => {
                    return Ok(text.as_str().to_owned());
                }
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.send("3").await?,
                Some(Ok(Message::Text(_))) => {}
                Some(Ok(other)) => return Err(format!("{other:?}")),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("the end".to_owned()),
            }
        }
    }

    /// Sends `event` with an ack, and gives the ack's argument.
    pub(crate) async fn ask(&mut self, event: &str, argument: &str) -> Result<String, Dropped> {
        self.asked += 1;
        let id = self.asked;
        self.send(&format!("42{id}[\"{event}\"{argument}]")).await?;
        let ack = self.until(&format!("43{id}[")).await?;
        Ok(ack[format!("43{id}[").len()..ack.len() - 1].to_owned())
    }

    /// Whether the server answers what it was asked.
    pub(crate) async fn echo(&mut self, said: u64) -> Result<(), Dropped> {
        let heard = self.ask("echo", &format!(",{said}")).await?;
        if heard == said.to_string() { Ok(()) } else { Err(format!("{heard} is not {said}")) }
    }

    /// Until the other end closes.
    pub(crate) async fn closed(&mut self) {
        while self.until("nothing begins so").await.is_ok() {}
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One HTTP request on a connection of its own.
pub(crate) async fn http(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Result<Answer, Dropped> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(to).await.map_err(failed)?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: play.example\r\n{headers}connection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut text = String::new();
    let reading = tokio::time::timeout(2 * DEADLINE, stream.read_to_string(&mut text)).await;
    reading.map_err(|_| format!("no answer to {target} in time"))?.map_err(failed)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// A connected socket of `/` that polls; `edges` take its requests in turn.
pub(crate) struct Poller {
    edges: Vec<SocketAddr>,
    turn: usize,
    pub(crate) query: String,
    asked: u64,
}

impl Poller {
    pub(crate) async fn connect(edges: &[SocketAddr], query: &str) -> Result<Self, Dropped> {
        let query = format!("EIO=4&transport=polling{query}");
        let mut poller = Self { edges: edges.to_vec(), turn: 0, query, asked: 0 };
        let open = poller.http("GET", "").await?;
        let open: serde_json::Value = serde_json::from_str(&open[1..]).map_err(|error| error.to_string())?;
        poller.query = format!("{}&sid={}", poller.query, open["sid"].as_str().unwrap());
        poller.http("POST", "40").await?;
        poller.until("40{").await?;
        Ok(poller)
    }

    /// Ends its session.
    pub(crate) async fn leave(mut self) -> Result<(), Dropped> {
        self.http("POST", "1").await.map(drop)
    }

    /// From now on by these edges.
    pub(crate) fn by(&mut self, edges: &[SocketAddr]) {
        self.edges = edges.to_vec();
    }

    async fn http(&mut self, method: &str, body: &str) -> Result<String, Dropped> {
        self.turn += 1;
        let edge = self.edges[self.turn % self.edges.len()];
        let answer = http(edge, method, &format!("/socket.io/?{}", self.query), "", body).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{} {}", answer.status, answer.body)) }
    }

    async fn until(&mut self, start: &str) -> Result<String, Dropped> {
        loop {
            let body = self.http("GET", "").await?;
            let mut found = None;
            for packet in body.split('\x1e') {
                match packet {
                    "2" => drop(self.http("POST", "3").await?),
                    packet if packet.starts_with(start) => found = Some(packet.to_owned()),
                    _ => {}
                }
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// Sends `event` with an ack, and gives the ack's argument.
    pub(crate) async fn ask(&mut self, event: &str, argument: &str) -> Result<String, Dropped> {
        self.asked += 1;
        let id = self.asked;
        self.http("POST", &format!("42{id}[\"{event}\"{argument}]")).await?;
        let ack = self.until(&format!("43{id}[")).await?;
        Ok(ack[format!("43{id}[").len()..ack.len() - 1].to_owned())
    }

    /// Whether the server answers what it was asked.
    pub(crate) async fn echo(&mut self, said: u64) -> Result<(), Dropped> {
        let heard = self.ask("echo", &format!(",{said}")).await?;
        if heard == said.to_string() { Ok(()) } else { Err(format!("{heard} is not {said}")) }
    }
}
