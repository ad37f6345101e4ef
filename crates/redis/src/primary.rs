//! Finding the primary of a name, as the guidelines for clients of Redis Sentinel say: sentinels in turn, the one that was
//! right last first, and whoever they name must say of itself that it is the primary.
//!
//! Never takes a sentinel's word alone: one that was cut off from the others names a primary that is none any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue as _,
    IntoConnectionInfo as _, RedisResult, Value, cmd,
};
use tokio::time::timeout;

use crate::address::{RedisAddress, Watched, Where, tcp};

/// How long one sentinel may take. They are several, and one that is well has little to do.
const SENTINEL_WITHIN: Duration = Duration::from_millis(500);

/// No primary was found. Worth asking again: a failover takes a few seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no primary of {name:?} is found: {}", said.join("; "))]
pub struct NoPrimaryError {
    /// As in the address.
    pub name: String,
    /// What became of each sentinel, in the order of the address.
    pub said: Vec<String>,
}

impl RedisAddress {
    /// A client of whoever takes writes now. With one address that is whoever answers there, unasked; with a name the
    /// sentinels are asked, each for up to 0.5 s, and whoever they name is asked for its role, for up to `answer_within`.
    /// To be called for each new connection: the next one may go elsewhere.
    ///
    /// # Errors
    /// When no sentinel answers, none knows the name, or whoever they name is away, is no primary, or refuses the password.
    ///
    /// # Panics
    /// Never: whatever an address may hold, a client can be made of.
    pub async fn client(&self, answer_within: Duration) -> Result<Client, NoPrimaryError> {
        let info = match &self.0 {
            Where::Here(info) => info.as_ref().clone(),
            Where::Watched(watched) => watched.primary(answer_within).await?,
        };
        Ok(client(info))
    }
}

fn client(info: ConnectionInfo) -> Client {
    Client::open(info).expect("of what was read as an address a client is made without a further check")
}

impl Watched {
    async fn primary(&self, answer_within: Duration) -> Result<ConnectionInfo, NoPrimaryError> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.sentinels.len());
        let (mut said, mut refuted) = (BTreeMap::new(), BTreeSet::new());
        for index in (0..count).map(|step| (first + step) % count) {
            let account = match self.ask(index).await {
                Err(why) => why,
                Ok(None) => "does not know the name".to_owned(),
                Ok(Some((host, port))) => {
                    let named = format!("{host}:{port}");
                    // Whoever was found wanting a moment ago is not asked once more: if it is silent, that takes long.
                    if refuted.contains(&named) {
                        format!("names {named} too")
                    } else {
                        match self.verify(host, port, answer_within).await {
                            Ok(info) => {
                                self.first.store(index, Ordering::Relaxed);
                                return Ok(info);
                            }
                            Err(why) => {
                                let account = format!("names {named}, which {why}");
                                refuted.insert(named);
                                account
                            }
                        }
                    }
                }
            };
            said.insert(index, format!("sentinel {} {account}", self.sentinels[index].addr()));
        }
        Err(NoPrimaryError { name: self.name.clone(), said: said.into_values().collect() })
    }

    /// Whom a sentinel names; `None`: it does not know the name. The error is for people.
    async fn ask(&self, index: usize) -> Result<Option<(String, u16)>, String> {
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let asking = async {
            let mut sentinel = connect(self.sentinels[index].clone()).await?;
            ask.query_async(&mut sentinel).await
        };
        within(SENTINEL_WITHIN, asking).await
    }

    /// How the primary at this address is reached, if it is one.
    async fn verify(
        &self,
        host: String,
        port: u16,
        answer_within: Duration,
    ) -> Result<ConnectionInfo, String> {
        let asking = async {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            let info = info.set_redis_settings(self.at_primary.clone()).set_tcp_settings(tcp());
            let mut named = connect(info.clone()).await?;
            let answer: Vec<Value> = cmd("ROLE").query_async(&mut named).await?;
            let role = answer.into_iter().next().map(String::from_redis_value).transpose()?;
            Ok((info, role))
        };
        match within(answer_within, asking).await? {
            (info, Some(role)) if role == "master" => Ok(info),
            (_, Some(role)) if role == "slave" => Err("says that it is a replica".to_owned()),
            (_, role) => Err(format!("has the role {role:?}")),
        }
    }
}

/// Without limits: [`within`] has one for all.
async fn connect(info: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client(info).get_multiplexed_async_connection_with_config(&settings).await
}

async fn within<T>(limit: Duration, asking: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, asking).await {
        Ok(answer) => answer.map_err(|error| format!("cannot be asked: {error}")),
        Err(_late) => Err(format!("does not answer within {} ms", limit.as_millis())),
    }
}
