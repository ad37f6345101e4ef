//! The agent's side of the link, as a test wants it.

use greenroom_core::{FleetName, Timestamp};
use greenroom_node::Config;
use greenroom_node::config::{LinkConfig, Membership, Secret};
use greenroom_wire::link::{FromServer, ToServer};
use greenroom_wire::token::{ISSUER, JoinClaims, PublicKeys, Purpose, Signer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{DEADLINE, config};

pub(crate) const INSTANCE: &str = "arena-a1b2c.0";

pub(crate) struct Agent {
    listener: TcpListener,
    stream: Option<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>,
    pub(crate) signer: Signer,
}

impl Agent {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let record = Signer::generate(Timestamp::from_unix_ms(0)).unwrap();
        Self { listener, stream: None, signer: Signer::new(&record).unwrap() }
    }

    /// The configuration of a server of this agent.
    pub(crate) fn config(&self) -> Config {
        let address = self.listener.local_addr().unwrap().to_string();
        let link = LinkConfig { address, secret: Secret::new("hush") };
        let fleet: FleetName = "arena".parse().unwrap();
        let membership = Membership { fleet, instance: INSTANCE.parse().unwrap(), link: Some(link) };
        Config { membership: Some(membership), ..config() }
    }

    /// Takes the server's call and welcomes it.
    pub(crate) async fn welcome(&mut self) {
        self.accept().await;
        let keys = PublicKeys { keys: vec![self.signer.public()] };
        self.send(&ToServer::Welcome { version: 1, keys }).await;
    }

    /// Takes the server's call.
    pub(crate) async fn accept(&mut self) {
        let accepted = tokio::time::timeout(DEADLINE, self.listener.accept()).await.unwrap().unwrap();
        let stream: TcpStream = accepted.0;
        let (read, write) = stream.into_split();
        self.stream = Some((BufReader::new(read), write));
        match self.next().await {
            FromServer::Hello { version: 1, instance, secret } => {
                assert_eq!((instance.as_str(), secret.as_str()), (INSTANCE, "hush"));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Cuts the stream.
    pub(crate) fn hang_up(&mut self) {
        self.stream = None;
    }

    pub(crate) async fn send(&mut self, message: &ToServer) {
        let line = serde_json::to_string(message).unwrap() + "\n";
        let (_, write) = self.stream.as_mut().unwrap();
        write.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> FromServer {
        let (read, _) = self.stream.as_mut().unwrap();
        let mut line = String::new();
        tokio::time::timeout(DEADLINE, read.read_line(&mut line)).await.expect("a line in time").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Skips to the first message that `pick` wants.
    pub(crate) async fn find<T>(&mut self, mut pick: impl FnMut(FromServer) -> Option<T>) -> T {
        loop {
            let message = self.next().await;
            if let Some(found) = pick(message) {
                return found;
            }
        }
    }
}

/// Claims of a token for seat 0 of room `r1`, good for a minute.
pub(crate) fn claims(player: &str, seat: u16) -> JoinClaims {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    JoinClaims {
        iss: ISSUER.to_owned(),
        aud: "arena".parse::<FleetName>().unwrap().into(),
        sub: player.parse::<greenroom_core::PlayerId>().unwrap().into(),
        jti: format!("{player}-{seat}"),
        iat: now,
        exp: now + 60,
        purpose: Purpose::Join,
        room: "r1".parse::<greenroom_core::RoomId>().unwrap().into(),
        epoch: 1,
        instance: INSTANCE.parse::<greenroom_core::InstanceId>().unwrap().into(),
        seat,
        seats: 4,
        key: None,
        init: serde_json::Value::Null,
    }
}
