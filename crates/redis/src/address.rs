//! The text of an address and what it says. Never connects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

/// How an address is written, for people.
pub const FORMS: &str = "redis://[user:password@]host[:port][/database], redis+unix:///path, or \
                         redis+sentinel://[user:password@]host[:port],host[:port]/name[/database]";

const SENTINEL: &str = "redis+sentinel://";
const SENTINEL_PORT: &str = "26379";
/// One answers where others are silent; each that is silent costs a while.
const SENTINELS_MAX: usize = 9;

/// Where a Redis is. Clones know the same sentinels and share who of them answered last. Neither `Debug` nor `Display` tell
/// a password.
///
/// ```
/// use greenroom_redis::RedisAddress;
///
/// let one: RedisAddress = "redis://:secret@10.0.0.9:6379/1".parse()?;
/// assert_eq!(one.to_string(), "10.0.0.9:6379");
///
/// // Two words more where the sentinels ask for a password of their own: ?sentinel_username=…&sentinel_password=…
/// let watched: RedisAddress = "redis+sentinel://:secret@10.0.0.7,10.0.0.8,10.0.0.9:5000/main".parse()?;
/// assert_eq!(watched.to_string(), "main at the sentinels 10.0.0.7:26379, 10.0.0.8:26379, 10.0.0.9:5000");
/// # Ok::<(), greenroom_redis::AddressError>(())
/// ```
#[derive(Clone)]
pub struct RedisAddress(pub(crate) Where);

#[derive(Clone)]
pub(crate) enum Where {
    /// Whoever answers there.
    Here(Box<ConnectionInfo>),
    /// The primary of a name, as sentinels tell it.
    Watched(Arc<Watched>),
}

pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) sentinels: Vec<ConnectionInfo>,
    /// Who told the truth last, and so is asked first.
    pub(crate) first: AtomicUsize,
    /// User, password and database at the primary.
    pub(crate) at_primary: RedisConnectionInfo,
}

/// A text that is no address. Mend it; the text itself is not told, it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of a Redis is written {FORMS}: {0}")]
pub struct AddressError(String);

impl FromStr for RedisAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix(SENTINEL) {
            Some(rest) => Ok(Self(Where::Watched(Arc::new(Watched::parse(rest)?)))),
            None => Ok(Self(Where::Here(Box::new(info(text)?)))),
        }
    }
}

impl Watched {
    fn parse(rest: &str) -> Result<Self, AddressError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            let what = "the name is missing that the sentinels have for the primary, as in `sentinel monitor NAME …`";
            return Err(AddressError(what.to_owned()));
        }
        let at_sentinels = credentials(query)?;
        let hosts: Vec<String> = hosts.split(',').map(with_port).collect();
        if hosts.len() > SENTINELS_MAX {
            return Err(AddressError(format!(
                "{} sentinels are named, at most {SENTINELS_MAX} may be",
                hosts.len()
            )));
        }
        let sentinels = hosts.iter().map(|host| info(&format!("redis://{at_sentinels}@{host}")));
        let sentinels = sentinels.collect::<Result<_, _>>()?;
        // The host is of no weight here: this is how user, password and database are read.
        let at_primary = info(&format!("redis://{who}@{}/{database}", hosts[0]))?.redis_settings().clone();
        Ok(Self { name: name.to_owned(), sentinels, first: AtomicUsize::new(0), at_primary })
    }
}

/// `user:password` for the sentinels, as it is written; `:` where they want none.
fn credentials(query: &str) -> Result<String, AddressError> {
    let (mut username, mut password) = ("", "");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_username", value)) => username = value,
            Some(("sentinel_password", value)) => password = value,
            Some((other, _)) => return Err(unknown(other)),
            None => return Err(unknown(pair)),
        }
    }
    Ok(format!("{username}:{password}"))
}

fn unknown(word: &str) -> AddressError {
    AddressError(format!("{word:?} is unknown, after the ? stand sentinel_username= and sentinel_password="))
}

fn with_port(host: &str) -> String {
    // The colons of an IPv6 address stand before its bracket.
    if host.rfind(':') > host.rfind(']') { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") }
}

fn info(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = url.into_connection_info().map_err(|error| AddressError(error.to_string()))?;
    Ok(info.set_tcp_settings(tcp()))
}

/// Words are short and wait for nothing.
pub(crate) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Where::Here(info) => write!(f, "{}", info.addr()),
            Where::Watched(watched) => {
                let sentinels = watched.sentinels.iter().map(|sentinel| sentinel.addr().to_string());
                let sentinels: Vec<String> = sentinels.collect();
                write!(f, "{} at the sentinels {}", watched.name, sentinels.join(", "))
            }
        }
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_passwords() {
        let cases = [
            ("redis://10.0.0.9", "10.0.0.9:6379"),
            ("redis://user:hush@db.example:7000/3", "db.example:7000"),
            ("redis+unix:///run/redis.sock", "/run/redis.sock"),
            ("redis+sentinel://a/main", "main at the sentinels a:26379"),
            ("redis+sentinel://u:hush@a,b:1/main/2", "main at the sentinels a:26379, b:1"),
            ("redis+sentinel://[::1],[::2]:5/m.1", "m.1 at the sentinels ::1:26379, ::2:5"),
            (
                "redis+sentinel://a/main?sentinel_username=s&sentinel_password=hush",
                "main at the sentinels a:26379",
            ),
        ];
        for (text, told) in cases {
            let address: RedisAddress = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), told, "{text}");
            assert!(!format!("{address:?}").contains("hush"), "{text}");
        }
    }

    #[test]
    fn passwords_of_the_primary_and_of_the_sentinels_are_two() {
        let text = "redis+sentinel://app:p%40ss@a,b/main/2?sentinel_password=s%2Fs";
        let RedisAddress(Where::Watched(watched)) = text.parse().unwrap() else {
            panic!("it names sentinels")
        };
        let who = |info: &RedisConnectionInfo| {
            (info.username().map(str::to_owned), info.password().map(str::to_owned), info.db())
        };
        assert_eq!(who(&watched.at_primary), (Some("app".to_owned()), Some("p@ss".to_owned()), 2));
        for sentinel in &watched.sentinels {
            assert_eq!(who(sentinel.redis_settings()), (None, Some("s/s".to_owned()), 0));
        }
        let RedisAddress(Where::Watched(watched)) = "redis+sentinel://:p@a/main".parse().unwrap() else {
            panic!("it names sentinels")
        };
        assert_eq!(
            who(watched.sentinels[0].redis_settings()),
            (None, None, 0),
            "a sentinel without one would refuse it"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_allowed() {
        let cases = [
            ("", "did not parse"),
            ("10.0.0.9:6379", "did not parse"),
            ("http://10.0.0.9", "did not parse"),
            ("rediss://10.0.0.9", "TLS"),
            ("redis+sentinel://", "the name is missing"),
            ("redis+sentinel://a,b", "the name is missing"),
            ("redis+sentinel:///main", "did not parse"),
            ("redis+sentinel://a,,b/main", "did not parse"),
            ("redis+sentinel://a:x/main", "did not parse"),
            ("redis+sentinel://a/main/one", "Invalid database number"),
            ("redis+sentinel://a/main?wait=hush", "\"wait\" is unknown"),
            ("redis+sentinel://1,2,3,4,5,6,7,8,9,10/main", "10 sentinels are named, at most 9"),
        ];
        for (text, why) in cases {
            let told = text.parse::<RedisAddress>().unwrap_err().to_string();
            assert!(
                told.contains(why) && told.contains("redis+sentinel://[user:password@]host"),
                "{text}: {told}"
            );
            assert!(!told.contains("hush"), "{text}: {told}");
        }
    }
}
