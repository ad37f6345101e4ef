//! The environment contract of a server that an agent starts, read once into a [`Config`].
//! Never read again after the start, and never a secret in a message.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use greenroom_room::Delivery;
use greenroom_socketio::adapter::STREAMS_MAX;
use greenroom_wire::link::{env as names, options};

use crate::config::{
    Adapter, AdapterNames, Config, Emitters, LinkConfig, Membership, Origins, Recovery, Secret, Store,
    TlsFiles,
};

/// The adapter of Node.js servers that is spoken, as [`options::ADAPTER`] names it.
const REDIS_STREAMS: &str = "redis-streams";

/// More often than this a checkpoint is no checkpoint.
const CHECKPOINT_EVERY_MIN: Duration = Duration::from_millis(50);

/// All that is wrong with the environment, told together. The process cannot start; whoever set the variables mends
/// them.
#[derive(Debug, thiserror::Error)]
#[error("{}", faults.join("; "))]
pub struct EnvError {
    /// One text for each fault, naming the variable.
    pub faults: Vec<String>,
}

/// Reads the variables through `get`, so that a test brings its own. What is absent keeps its default; without
/// `GREENROOM_FLEET` the node belongs to nobody.
///
/// # Errors
/// When any variable that is set cannot be read, or fleet and instance do not come together.
pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Config, EnvError> {
    let mut reader = Reader { get, faults: Vec::new() };
    let mut config = Config::default();
    let port = reader.parse::<u16>(names::GREENROOM_PORT).or_else(|| reader.parse(names::PORT));
    let ip = reader.parse::<IpAddr>(names::BIND).unwrap_or(config.bind.ip());
    config.bind = SocketAddr::new(ip, port.unwrap_or(config.bind.port()));
    if let Some(origins) = reader.text(names::ALLOWED_ORIGINS) {
        config.origins = read_origins(&origins);
    }
    if let Some(linger) = reader.parse(options::ROOM_LINGER_MS) {
        config.room_linger = Duration::from_millis(linger);
    }
    config.adapter = read_adapter(&mut reader);
    if let Some(url) = reader.text(options::STORE).filter(|_| config.adapter.is_none()) {
        // Fleets are meshes of their own.
        let fleet = reader.text(names::FLEET).map(|fleet| format!("greenroom:{fleet}"));
        let prefix = fleet.unwrap_or_else(|| "greenroom".to_owned());
        config.store = Some(Store { url: Secret::new(url), prefix });
    }
    config.emitters = read_emitters(&mut reader);
    config.recovery = read_recovery(&mut reader);
    if let Some(rooms) = reader.parse(names::ROOMS_PER_SERVER) {
        config.rooms_max = rooms;
    }
    config.tls = match (reader.text(options::TLS_CERTIFICATES), reader.text(options::TLS_KEY)) {
        (Some(certificates), Some(key)) => Some(TlsFiles::new(certificates, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            reader.faults.push(format!(
                "{} and {} come together",
                options::TLS_CERTIFICATES,
                options::TLS_KEY
            ));
            None
        }
    };
    let fleet = reader.parse(names::FLEET);
    let instance = reader.parse(names::INSTANCE);
    let address = reader.text(names::LINK);
    let secret = reader.text(names::LINK_SECRET);
    let link = match (address, secret) {
        (Some(address), Some(secret)) => Some(LinkConfig { address, secret: Secret::new(secret) }),
        (None, _) => None,
        (Some(_), None) => {
            reader.faults.push(format!("{} is set without {}", names::LINK, names::LINK_SECRET));
            None
        }
    };
    config.membership = match (fleet, instance) {
        (Some(fleet), Some(instance)) => Some(Membership { fleet, instance, link }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            reader.faults.push(format!("{} and {} come together", names::FLEET, names::INSTANCE));
            None
        }
    };
    if reader.faults.is_empty() { Ok(config) } else { Err(EnvError { faults: reader.faults }) }
}

fn read_recovery<G: Fn(&str) -> Option<String>>(reader: &mut Reader<G>) -> Option<Recovery> {
    let window = reader.parse::<humantime::Duration>(options::RECOVERY);
    let delivery = reader.parse::<Delivery>(options::DELIVERY);
    let every: Option<Duration> =
        reader.parse::<humantime::Duration>(options::CHECKPOINT_EVERY).map(Into::into);
    if every.is_some_and(|every| every < CHECKPOINT_EVERY_MIN) {
        reader.faults.push(format!("{} is less than 50ms", options::CHECKPOINT_EVERY));
    }
    let Some(window) = window else {
        let set = [(options::DELIVERY, delivery.is_some()), (options::CHECKPOINT_EVERY, every.is_some())];
        for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            reader
                .faults
                .push(format!("{name} is set without {}, and so nothing is kept", options::RECOVERY));
        }
        return None;
    };
    let defaults = Recovery::default();
    let checkpoint_every = every.unwrap_or(defaults.checkpoint_every);
    Some(Recovery { window: window.into(), delivery, checkpoint_every, ..defaults })
}

fn read_emitters<G: Fn(&str) -> Option<String>>(reader: &mut Reader<G>) -> Option<Emitters> {
    let key = reader.text(options::EMITTERS_KEY);
    let Some(url) = reader.text(options::EMITTERS) else {
        if key.is_some() {
            reader.faults.push(format!("{} is set without {}", options::EMITTERS_KEY, options::EMITTERS));
        }
        return None;
    };
    let defaults = Emitters::at(Secret::new(url));
    Some(Emitters { key: key.unwrap_or(defaults.key.clone()), ..defaults })
}

fn read_adapter<G: Fn(&str) -> Option<String>>(reader: &mut Reader<G>) -> Option<Adapter> {
    let kind = reader.text(options::ADAPTER);
    let stream = reader.text(options::ADAPTER_STREAM_NAME);
    let streams = reader.parse::<u16>(options::ADAPTER_STREAM_COUNT);
    let prefix = reader.text(options::ADAPTER_CHANNEL_PREFIX);
    let entries_max = reader.parse::<usize>(options::ADAPTER_MAX_LEN);
    let Some(kind) = kind else {
        let set = [
            (options::ADAPTER_STREAM_NAME, stream.is_some()),
            (options::ADAPTER_STREAM_COUNT, streams.is_some()),
            (options::ADAPTER_CHANNEL_PREFIX, prefix.is_some()),
            (options::ADAPTER_MAX_LEN, entries_max.is_some()),
        ];
        for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            reader.faults.push(format!("{name} is set without {}", options::ADAPTER));
        }
        return None;
    };
    if kind != REDIS_STREAMS {
        reader.faults.push(format!(
            "{}={kind:?} is not known; {REDIS_STREAMS} is, for @socket.io/redis-streams-adapter",
            options::ADAPTER
        ));
    }
    if streams.is_some_and(|streams| !(1..=STREAMS_MAX).contains(&streams)) {
        reader.faults.push(format!("{} is 1 to {STREAMS_MAX}", options::ADAPTER_STREAM_COUNT));
    }
    let Some(url) = reader.text(options::STORE) else {
        reader.faults.push(format!(
            "{} is set without {}, the Redis that the servers share",
            options::ADAPTER,
            options::STORE
        ));
        return None;
    };
    let defaults = Adapter::at(Secret::new(url));
    let names = AdapterNames {
        stream: stream.unwrap_or(defaults.names.stream.clone()),
        streams: streams.unwrap_or(defaults.names.streams),
        prefix: prefix.unwrap_or(defaults.names.prefix.clone()),
    };
    Some(Adapter { names, entries_max: entries_max.unwrap_or(defaults.entries_max), ..defaults })
}

fn read_origins(text: &str) -> Origins {
    let listed: Vec<String> = text
        .split(',')
        .map(|origin| origin.trim().trim_end_matches('/').to_ascii_lowercase())
        .filter(|origin| !origin.is_empty())
        .collect();
    if listed.iter().any(|origin| origin == "*") {
        Origins::Any
    } else if listed.is_empty() {
        Origins::Same
    } else {
        Origins::Listed(listed)
    }
}

struct Reader<G> {
    get: G,
    faults: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// An empty variable counts as absent.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|text| !text.is_empty())
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.faults.push(format!("{name}={text:?}: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<Config, EnvError> {
        read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_the_agent_sets_is_read() {
        let config = read_pairs(&[
            ("PORT", "1"),
            ("GREENROOM_PORT", "7001"),
            ("GREENROOM_BIND", "0.0.0.0"),
            ("GREENROOM_FLEET", "arena"),
            ("GREENROOM_INSTANCE", "arena-a1b2c.0"),
            ("GREENROOM_LINK", "127.0.0.1:9"),
            ("GREENROOM_LINK_SECRET", "hush"),
            ("GREENROOM_ROOMS_PER_SERVER", "4"),
            ("GREENROOM_ROOM_LINGER_MS", "50"),
            ("GREENROOM_RECOVERY", "90s"),
            ("GREENROOM_DELIVERY", "commit_first"),
            ("GREENROOM_CHECKPOINT_EVERY", "250ms"),
            ("GREENROOM_EMITTERS", "redis://:hush@127.0.0.1:6379"),
            ("GREENROOM_EMITTERS_KEY", "game"),
            ("GREENROOM_ALLOWED_ORIGINS", "https://Play.example/, http://localhost:8700"),
        ])
        .unwrap();
        assert_eq!(config.bind.to_string(), "0.0.0.0:7001");
        let recovery = config.recovery.unwrap();
        assert_eq!(recovery.window, Duration::from_secs(90));
        assert_eq!(recovery.delivery, Some(Delivery::CommitFirst));
        assert_eq!(recovery.checkpoint_every, Duration::from_millis(250));
        let emitters = config.emitters.unwrap();
        assert_eq!(emitters.key, "game");
        assert!(!format!("{emitters:?}").contains("hush"));
        assert_eq!((config.rooms_max, config.room_linger), (4, Duration::from_millis(50)));
        let listed = ["https://play.example".to_owned(), "http://localhost:8700".to_owned()];
        assert_eq!(config.origins, Origins::Listed(listed.to_vec()));
        let membership = config.membership.unwrap();
        assert_eq!(membership.fleet.as_str(), "arena");
        assert_eq!(membership.link.as_ref().unwrap().address, "127.0.0.1:9");
        assert!(!format!("{membership:?}").contains("hush"));
    }

    #[test]
    fn a_cluster_with_node_js_servers_takes_the_place_of_the_nodes_own_words() {
        let config = read_pairs(&[
            ("GREENROOM_REDIS", "redis://:hush@127.0.0.1:6379"),
            ("GREENROOM_ADAPTER", "redis-streams"),
            ("GREENROOM_ADAPTER_STREAM_NAME", "game"),
            ("GREENROOM_ADAPTER_STREAM_COUNT", "4"),
            ("GREENROOM_ADAPTER_CHANNEL_PREFIX", "game-channel"),
            ("GREENROOM_ADAPTER_MAX_LEN", "500"),
        ])
        .unwrap();
        assert!(config.store.is_none());
        let adapter = config.adapter.unwrap();
        let names = AdapterNames { stream: "game".into(), streams: 4, prefix: "game-channel".into() };
        assert_eq!((&adapter.names, adapter.entries_max), (&names, 500));
        assert!(!format!("{adapter:?}").contains("hush"));
        let error = read_pairs(&[("GREENROOM_ADAPTER_MAX_LEN", "5")]).unwrap_err().to_string();
        assert_eq!(error, "GREENROOM_ADAPTER_MAX_LEN is set without GREENROOM_ADAPTER");
    }

    #[test]
    fn an_empty_environment_is_a_node_of_its_own() {
        let config = read_pairs(&[("PORT", "")]).unwrap();
        assert_eq!(config.bind.to_string(), "127.0.0.1:3000");
        assert_eq!(config.origins, Origins::Same);
        assert!(config.membership.is_none());
        assert_eq!(read_pairs(&[("GREENROOM_ALLOWED_ORIGINS", "*")]).unwrap().origins, Origins::Any);
    }

    #[test]
    fn all_faults_are_told_together() {
        let error = read_pairs(&[
            ("PORT", "70000"),
            ("GREENROOM_FLEET", "Arena"),
            ("GREENROOM_INSTANCE", "a.0"),
            ("GREENROOM_LINK", "127.0.0.1:9"),
            ("GREENROOM_TLS_KEY", "key.pem"),
            ("GREENROOM_EMITTERS_KEY", "game"),
            ("GREENROOM_DELIVERY", "deliver_first"),
            ("GREENROOM_CHECKPOINT_EVERY", "1ms"),
            ("GREENROOM_ADAPTER", "redis"),
            ("GREENROOM_ADAPTER_STREAM_COUNT", "65"),
        ])
        .unwrap_err();
        let told = error.to_string();
        let named = [
            "PORT=\"70000\"",
            "GREENROOM_FLEET=\"Arena\"",
            "GREENROOM_LINK_SECRET",
            options::TLS_CERTIFICATES,
            options::EMITTERS,
            "GREENROOM_DELIVERY is set without GREENROOM_RECOVERY",
            "GREENROOM_CHECKPOINT_EVERY is less",
            "GREENROOM_ADAPTER=\"redis\" is not known; redis-streams is",
            "GREENROOM_ADAPTER_STREAM_COUNT is 1 to 64",
            "GREENROOM_ADAPTER is set without GREENROOM_REDIS",
        ];
        for name in named {
            assert!(told.contains(name), "{told}");
        }
    }
}
