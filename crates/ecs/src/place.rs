//! Where players reach a task: which address, and which ports lead to the agent's container.
//!
//! Never asks anybody: documents come in, a place goes out. A private address is never taken for one that players can dial unless
//! somebody has said so.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use greenroom_agent::place::{self, NoRange, Place, dashed, is_dialled, range};

use crate::metadata::{Container, Instance, NetworkMode, Port, Task};

/// Stands in a name for the task's address with dashes.
const ADDRESS: &str = "{ip}";

/// Which address players dial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AddressFrom {
    /// The public name of the instance, or else its public address. The default.
    #[default]
    External,
    /// The private address: of the task's own network interface, or else of the instance. For players in the same network.
    Internal,
    /// This name, in which `{ip}` stands for that private address with dashes.
    Named(String),
}

/// Why a text is neither `external` nor `internal`. Mend it; names are for `public_host`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither external nor internal; a name goes into [host] public_host")]
pub struct BadAddress(String);

impl FromStr for AddressFrom {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "external" => Ok(Self::External),
            "internal" => Ok(Self::Internal),
            other => Err(BadAddress(other.to_owned())),
        }
    }
}

impl fmt::Display for AddressFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("external"),
            Self::Internal => f.write_str("internal"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Why players cannot reach a task. The task definition or the configuration must be mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A network mode that is not known, or none.
    #[error("the network mode of container {container} is {mode:?}; give its task awsvpc, bridge or host")]
    BadMode {
        /// The container.
        container: String,
        /// What the metadata say.
        mode: String,
    },
    /// With a network interface of its own, nothing in the task knows of a public address.
    #[error(
        "task {task} has a network interface of its own, whose public address, if it has one, no metadata tell ({launch_type}); set [host] public_host to a name that leads to it, such as \"{{ip}}.games.example.com\" with {{ip}} for {own}, or pass --ecs-address internal if players can dial {own}"
    )]
    NoneTold {
        /// Which.
        task: String,
        /// On what it runs.
        launch_type: String,
        /// Its private address.
        own: String,
    },
    /// The instance has no public address.
    #[error(
        "the instance of task {task} has no public name and no public address; set [host] public_host, or pass --ecs-address internal if players can dial {own}"
    )]
    NoPublic {
        /// Which.
        task: String,
        /// The instance's private address.
        own: String,
    },
    /// Not even a private address is told.
    #[error("no metadata tell the address of task {0}; set [host] public_host to a name without {{ip}}")]
    NoAddress(String),
    /// What the instance calls itself cannot be dialled.
    #[error("the instance's metadata tell {0:?}, which is no host name or address; set [host] public_host")]
    NotDialled(String),
    /// No port of the instance leads to the container.
    #[error(
        "no TCP port of container {container} is within {first}-{last}, the ports of [host]; give it portMappings with those containerPorts, for ECS hands through only what is mapped in bridge mode"
    )]
    NoPorts {
        /// The container.
        container: String,
        /// First port that a server may take.
        first: u16,
        /// Last one.
        last: u16,
    },
    /// ECS has not told yet which ports lead to the container, or none does. Ask again in a moment.
    #[error(
        "ECS tells no ports of container {container}; give it portMappings with containerPorts within {first}-{last}, for ECS hands through only what is mapped in bridge mode"
    )]
    NoPortsTold {
        /// The container.
        container: String,
        /// First port that a server may take.
        first: u16,
        /// Last one.
        last: u16,
    },
    /// ECS has not told yet where a port leads. Ask again in a moment.
    #[error(
        "ECS tells no host port for port {port} of container {container}; see that its task is in bridge mode and maps it"
    )]
    NotBound {
        /// The container.
        container: String,
        /// Its port.
        port: u16,
    },
    /// The ports are no range.
    #[error(
        "the containerPorts of container {container} leave out {missing}, between {first} and {last}; give it one range"
    )]
    Gap {
        /// The container.
        container: String,
        /// The lowest one that is missing.
        missing: u16,
        /// The lowest one that is there.
        first: u16,
        /// The highest one.
        last: u16,
    },
}

/// Whether [`place()`] needs what the instance says of itself.
#[must_use]
pub fn wants_instance(container: &Container, from: &AddressFrom) -> bool {
    let behind = matches!(container.mode(), Ok(NetworkMode::Bridge | NetworkMode::Host));
    behind
        && match from {
            AddressFrom::External | AddressFrom::Internal => true,
            AddressFrom::Named(name) => name.contains(ADDRESS),
        }
}

/// Where players reach `container` of `task`, in which the agent and so its servers are. In `bridge` mode servers take those ports
/// of the container within `ports` that ECS hands through, and players dial the host port of each; in the other modes they take all
/// of `ports`, and players dial the same.
///
/// # Errors
/// See [`PlaceError`]; each says what to change.
pub fn place(
    task: &Task,
    container: &Container,
    instance: &Instance,
    from: &AddressFrom,
    ports: &RangeInclusive<u16>,
) -> Result<Place, PlaceError> {
    let bad = |mode| PlaceError::BadMode { container: container.name.clone(), mode };
    let mode = container.mode().map_err(bad)?;
    let public_host = address(task, container, instance, mode, from)?;
    let dialled = match mode {
        NetworkMode::Awsvpc | NetworkMode::Host => None,
        NetworkMode::Bridge => Some(bindings(container, ports)?),
    };
    let labels = [
        ("zone", &*task.availability_zone),
        ("region", task.region()),
        ("cluster", task.cluster_name()),
        ("family", &task.family),
        ("revision", &task.revision),
        ("task", task.id()),
    ];
    Ok(Place {
        public_host,
        has_all_ports: dialled.is_none(),
        ports: match &dialled {
            Some(dialled) => handed_through(container, dialled, ports)?,
            None => ports.clone(),
        },
        dialled: dialled.unwrap_or_default(),
        labels: place::labels(labels.map(|(name, value)| (name, value.to_owned()))),
    })
}

fn address(
    task: &Task,
    container: &Container,
    instance: &Instance,
    mode: NetworkMode,
    from: &AddressFrom,
) -> Result<String, PlaceError> {
    let own = match mode {
        NetworkMode::Awsvpc => container.address(),
        NetworkMode::Bridge | NetworkMode::Host => instance.own_address.parse::<IpAddr>().ok(),
    };
    let no_address = || PlaceError::NoAddress(task.id().to_owned());
    let told = || own.map_or_else(|| "its private address".to_owned(), |own| own.to_string());
    match (from, mode) {
        (AddressFrom::Named(name), _) if name.contains(ADDRESS) => {
            Ok(name.replace(ADDRESS, &dashed(own.ok_or_else(no_address)?)))
        }
        (AddressFrom::Named(name), _) => Ok(name.clone()),
        (AddressFrom::Internal, _) => Ok(own.ok_or_else(no_address)?.to_string()),
        (AddressFrom::External, NetworkMode::Awsvpc) => {
            let launch_type = match task.launch_type.as_str() {
                "" => "launch type not told",
                told => told,
            };
            Err(PlaceError::NoneTold {
                task: task.id().to_owned(),
                launch_type: launch_type.to_owned(),
                own: told(),
            })
        }
        (AddressFrom::External, NetworkMode::Bridge | NetworkMode::Host) => {
            let public = [&instance.public_name, &instance.public_address];
            let found = public.into_iter().find(|address| !address.is_empty());
            let none = || PlaceError::NoPublic { task: task.id().to_owned(), own: told() };
            let found = found.cloned().ok_or_else(none)?;
            if is_dialled(&found) { Ok(found) } else { Err(PlaceError::NotDialled(found)) }
        }
    }
}

/// The host port of each TCP port of the container that a server may take. One outside the agent's ports is somebody else's.
fn bindings(container: &Container, ports: &RangeInclusive<u16>) -> Result<BTreeMap<u16, u16>, PlaceError> {
    if container.ports.is_empty() {
        let (container, first, last) = (container.name.clone(), *ports.start(), *ports.end());
        return Err(PlaceError::NoPortsTold { container, first, last });
    }
    let ours = |port: &&Port| port.is_tcp() && ports.contains(&port.container_port);
    let mut found: BTreeMap<u16, u16> = BTreeMap::new();
    for port in container.ports.iter().filter(ours) {
        let bound = found.entry(port.container_port).or_default();
        // Of a pair that of IPv4: what an instance is dialled by.
        if port.host_port != 0 && (*bound == 0 || !port.is_v6()) {
            *bound = port.host_port;
        }
    }
    match found.iter().find(|(_, host_port)| **host_port == 0) {
        Some((port, _)) => Err(PlaceError::NotBound { container: container.name.clone(), port: *port }),
        None => Ok(found),
    }
}

fn handed_through(
    container: &Container,
    dialled: &BTreeMap<u16, u16>,
    ports: &RangeInclusive<u16>,
) -> Result<RangeInclusive<u16>, PlaceError> {
    let container = container.name.clone();
    range(&dialled.keys().copied().collect()).map_err(|no_range| match no_range {
        NoRange::Empty => PlaceError::NoPorts { container, first: *ports.start(), last: *ports.end() },
        NoRange::Gap { missing, first, last } => PlaceError::Gap { container, missing, first, last },
    })
}

#[cfg(test)]
mod tests;
