//! Hurting the Redis that servers share: who it is, and cutting everybody off from it.
//!
//! Never writes to it, and leaves no setting changed: what is cut heals by itself, also when the run is stopped half-way.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, RedisResult, cmd};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;

/// How long it may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// Those who came back meanwhile are cut again after this.
const CUT_EVERY: Duration = Duration::from_millis(10);

/// A Redis that answers.
#[derive(Clone)]
pub(super) struct Store {
    connection: MultiplexedConnection,
    pid: Result<u32, String>,
}

impl Store {
    /// Connects and asks who it is.
    pub(super) async fn reach(url: &str) -> Result<Self, Failure> {
        let reached = async {
            let client = Client::open(url)?;
            let is_here = is_here(client.get_connection_info().addr());
            let mut connection = client.get_multiplexed_async_connection().await?;
            let about: String = cmd("INFO").arg("server").query_async(&mut connection).await?;
            let pid = if is_here { pid_of(&about) } else { Err("it is on another machine".to_owned()) };
            RedisResult::Ok(Self { connection, pid })
        };
        let why = match timeout(ANSWERS_WITHIN, reached).await {
            Ok(Ok(store)) => return Ok(store),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ANSWERS_WITHIN.as_secs()),
        };
        Err(Failure::usage(format!("the store {url} cannot be reached: {why}"), "--store names it."))
    }

    /// Its process, if it is on this machine.
    pub(super) fn pid(&self) -> Result<u32, String> {
        self.pid.clone()
    }

    /// Closes every connection but its own, again and again for this long.
    pub(super) async fn cut(&self, lasting: Duration) -> Result<(), String> {
        let until = Instant::now() + lasting;
        let mut connection = self.connection.clone();
        loop {
            for kind in ["normal", "pubsub"] {
                let mut kill = cmd("CLIENT");
                kill.arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes");
                kill.query_async::<u64>(&mut connection).await.map_err(|error| error.to_string())?;
            }
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(CUT_EVERY).await;
        }
    }
}

fn is_here(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        ConnectionAddr::Unix(_) => true,
        _ => false,
    }
}

fn pid_of(about: &str) -> Result<u32, String> {
    let told = about.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok());
    told.ok_or_else(|| "it does not tell its process".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_process_is_what_it_tells() {
        assert_eq!(pid_of("# Server\r\nredis_version:7.0.15\r\nprocess_id:4711\r\n"), Ok(4711));
        assert!(pid_of("# Server\r\n").is_err());
    }

    #[test]
    fn only_a_process_of_this_machine_is_hurt() {
        for (url, here) in [
            ("redis://127.0.0.1", true),
            ("redis://localhost:6380", true),
            ("redis://[::1]", true),
            ("redis://db.example", false),
        ] {
            assert_eq!(is_here(Client::open(url).unwrap().get_connection_info().addr()), here, "{url}");
        }
    }
}
