//! Where players reach a pod: the address of its node, and the ports that the node hands through to it.
//!
//! Never asks the cluster: a node and a pod come in, a place goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use greenroom_agent::place::{self, NoRange, Place, is_dialled, range};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Node, Pod};

/// Annotation of a node whose value players dial, before any address that the node has.
const PUBLIC_HOST: &str = "greenroom.dev/public-host";
/// Labels of a node, and the labels of a host that come of them.
const LABELS: [(&str, &str); 2] =
    [("topology.kubernetes.io/zone", "zone"), ("topology.kubernetes.io/region", "region")];
/// The label of a host that names its node.
const NODE_LABEL: &str = "node";

/// Which address of a node players dial. Read from `external`, `internal`, or a name that may hold `{node}` and `{pod}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AddressFrom {
    /// What its annotation `greenroom.dev/public-host` says, or else its external DNS name or address. The default.
    #[default]
    External,
    /// As `External`, or else its internal DNS name or address: for players inside the same network.
    Internal,
    /// This name, in which `{node}` and `{pod}` stand for their names.
    Named(String),
}

/// Why a text is no [`AddressFrom`]. Mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither external nor internal nor a name such as {{node}}.games.example.com")]
pub struct BadAddress(String);

impl FromStr for AddressFrom {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "external" => Ok(Self::External),
            "internal" => Ok(Self::Internal),
            // Without a dot it is one of the words above, misspelt.
            _ if text.contains('.') && is_dialled(&filled(text, "n", "p")) => {
                Ok(Self::Named(text.to_owned()))
            }
            _ => Err(BadAddress(text.to_owned())),
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

/// Why players cannot reach a pod. The pod's template or its node must be mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The node has no address of the kind that is asked for.
    #[error(
        "node {node} has no {wanted} address, only {found}; annotate it with {PUBLIC_HOST}, or name another address with --kubernetes-address"
    )]
    NoAddress {
        /// The node.
        node: String,
        /// Which kind.
        wanted: AddressFrom,
        /// What it has.
        found: String,
    },
    /// What the annotation says cannot be dialled.
    #[error("node {node} has {PUBLIC_HOST} {value:?}, which is no host name or address without port")]
    BadPublicHost {
        /// The node.
        node: String,
        /// What it says.
        value: String,
    },
    /// No port of the node leads to the pod.
    #[error(
        "no TCP hostPort of pod {pod} is within {first}-{last}, the ports of [host]; give its container ports with hostPort, or the pod hostNetwork: true"
    )]
    NoPorts {
        /// The pod.
        pod: String,
        /// First port that a server may take.
        first: u16,
        /// Last one.
        last: u16,
    },
    /// A server that listens on one port would be dialled on another one.
    #[error(
        "container {container} has hostPort {host_port} for containerPort {container_port}; make both the same, for a gameserver tells players the port that it listens on"
    )]
    OtherPort {
        /// The container.
        container: String,
        /// Where it listens.
        container_port: i32,
        /// Where players dial.
        host_port: i32,
    },
    /// The ports are no range.
    #[error("the hostPorts of the pod leave out {missing}, between {first} and {last}; give it one range")]
    Gap {
        /// The lowest one that is missing.
        missing: u16,
        /// The lowest one that is there.
        first: u16,
        /// The highest one.
        last: u16,
    },
}

/// Where players reach `pod`, which is on `node`. Servers take those of the pod's host ports that are within `ports`, or with
/// `hostNetwork` all of `ports`.
///
/// # Errors
/// See [`PlaceError`]; each says what to change.
pub fn place(
    node: &Node,
    pod: &Pod,
    from: &AddressFrom,
    ports: &RangeInclusive<u16>,
) -> Result<Place, PlaceError> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let (node_name, pod_name) = (name(&node.metadata.name), name(&pod.metadata.name));
    let on_host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    Ok(Place {
        public_host: match from {
            AddressFrom::External | AddressFrom::Internal => address(node, &node_name, from)?,
            AddressFrom::Named(template) => filled(template, &node_name, &pod_name),
        },
        ports: if on_host_network { ports.clone() } else { host_ports(pod, &pod_name, ports)? },
        dialled: BTreeMap::new(),
        has_all_ports: on_host_network,
        labels: labels(node, node_name),
    })
}

fn filled(template: &str, node: &str, pod: &str) -> String {
    template.replace("{node}", node).replace("{pod}", pod)
}

fn address(node: &Node, name: &str, from: &AddressFrom) -> Result<String, PlaceError> {
    let told = node.metadata.annotations.as_ref().and_then(|all| all.get(PUBLIC_HOST));
    if let Some(value) = told {
        let bad = || PlaceError::BadPublicHost { node: name.to_owned(), value: value.clone() };
        return is_dialled(value).then(|| value.clone()).ok_or_else(bad);
    }
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    // `Hostname` is left out: what it names, only the cluster knows.
    let kinds: &[&str] = match from {
        AddressFrom::Internal => &["ExternalDNS", "ExternalIP", "InternalDNS", "InternalIP"],
        AddressFrom::External | AddressFrom::Named(_) => &["ExternalDNS", "ExternalIP"],
    };
    let of =
        |kind: &&str| addresses.iter().find(|address| address.type_ == *kind && is_dialled(&address.address));
    kinds.iter().find_map(of).map(|address| address.address.clone()).ok_or_else(|| {
        let kinds: BTreeSet<&str> = addresses.iter().map(|address| address.type_.as_str()).collect();
        let found = kinds.into_iter().collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "no address at all".to_owned() } else { found };
        PlaceError::NoAddress { node: name.to_owned(), wanted: from.clone(), found }
    })
}

fn host_ports(pod: &Pod, name: &str, ports: &RangeInclusive<u16>) -> Result<RangeInclusive<u16>, PlaceError> {
    let spec = pod.spec.as_ref();
    let beside = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let mut found = BTreeSet::new();
    for container in containers.iter().chain(beside) {
        for port in container.ports.as_deref().unwrap_or_default() {
            found.extend(host_port(container, port, ports)?);
        }
    }
    range(&found).map_err(|no_range| match no_range {
        NoRange::Empty => {
            let (first, last) = (*ports.start(), *ports.end());
            PlaceError::NoPorts { pod: name.to_owned(), first, last }
        }
        NoRange::Gap { missing, first, last } => PlaceError::Gap { missing, first, last },
    })
}

/// The port, if a gameserver may have it. One outside the agent's ports is somebody else's, a sidecar's perhaps.
fn host_port(
    container: &Container,
    port: &ContainerPort,
    ports: &RangeInclusive<u16>,
) -> Result<Option<u16>, PlaceError> {
    let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ours = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| ports.contains(port));
    match (ours, port.host_port) {
        (Some(_), Some(host_port)) if is_tcp && host_port != port.container_port => {
            Err(PlaceError::OtherPort {
                container: container.name.clone(),
                container_port: port.container_port,
                host_port,
            })
        }
        (ours, _) => Ok(ours.filter(|_| is_tcp)),
    }
}

fn labels(node: &Node, name: String) -> BTreeMap<String, String> {
    let of_node = |label: &str| node.metadata.labels.as_ref()?.get(label).cloned();
    let topology = LABELS.iter().filter_map(|(label, host_label)| Some((*host_label, of_node(label)?)));
    place::labels(topology.chain([(NODE_LABEL, name)]))
}

#[cfg(test)]
mod tests;
