//! What a task is told of itself: the documents of the task metadata endpoint, version 4, and of an instance's own.
//!
//! Never judges them. Fields that are not needed here are left out, and those that an older container agent does not tell may be
//! missing.

use std::net::IpAddr;

use serde::Deserialize;

/// `${ECS_CONTAINER_METADATA_URI_V4}/task`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Short name or ARN of the cluster.
    pub cluster: String,
    /// `arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID`, without the cluster in the older form.
    #[serde(rename = "TaskARN")]
    pub task_arn: String,
    /// Family of its task definition.
    pub family: String,
    /// Revision of it.
    pub revision: String,
    /// Zone; not told by every agent.
    #[serde(default)]
    pub availability_zone: String,
    /// `EC2`, `FARGATE`, `EXTERNAL` or `MANAGED_INSTANCES`; not told by older agents.
    #[serde(default)]
    pub launch_type: String,
}

impl Task {
    /// What the task is called in its cluster: the last part of its ARN.
    #[must_use]
    pub fn id(&self) -> &str {
        last_part(&self.task_arn)
    }

    pub(crate) fn cluster_name(&self) -> &str {
        last_part(&self.cluster)
    }

    pub(crate) fn region(&self) -> &str {
        self.task_arn.split(':').nth(3).unwrap_or_default()
    }
}

fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// `${ECS_CONTAINER_METADATA_URI_V4}`: the container that asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its name in the task definition.
    #[serde(default)]
    pub name: String,
    /// Its ports. In `bridge` mode each has a host port, which ECS may learn a moment after the container began.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// Its networks: one.
    #[serde(default)]
    pub networks: Vec<Network>,
}

/// One port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// Where the container listens.
    pub container_port: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: String,
    /// Where the instance listens for it; left out or 0 where it does not, or not yet.
    #[serde(default)]
    pub host_port: u16,
    /// On which of its addresses: a dynamic port is told twice, once for each family, and may be another one for IPv6.
    #[serde(default)]
    pub host_ip: String,
}

impl Port {
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol.is_empty() || self.protocol == "tcp"
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.host_ip.contains(':')
    }
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// `awsvpc`, `bridge`, `host`, `none`, or `default`, which is Docker's word for its bridge.
    #[serde(default)]
    pub network_mode: String,
    /// Its addresses; an empty text under `host`.
    #[serde(default, rename = "IPv4Addresses")]
    pub ipv4: Vec<String>,
    /// The same of IPv6.
    #[serde(default, rename = "IPv6Addresses")]
    pub ipv6: Vec<String>,
}

/// How the containers of a task reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// The task has a network interface of its own. The only one on Fargate.
    Awsvpc,
    /// Behind the instance, which hands ports through.
    Bridge,
    /// On the instance's own network.
    Host,
}

impl Container {
    /// Its mode, or the word for it that is not known.
    pub(crate) fn mode(&self) -> Result<NetworkMode, String> {
        let word = self.networks.first().map_or("", |network| network.network_mode.as_str());
        match word {
            "awsvpc" => Ok(NetworkMode::Awsvpc),
            "bridge" | "default" => Ok(NetworkMode::Bridge),
            "host" => Ok(NetworkMode::Host),
            other => Err(other.to_owned()),
        }
    }

    /// Its own address in the network: of IPv4 where it has one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let all = |network: &Network| network.ipv4.iter().chain(&network.ipv6).cloned().collect::<Vec<_>>();
        self.networks.iter().flat_map(all).find_map(|address| address.parse().ok())
    }
}

/// What the metadata service of an EC2 instance says of its addresses. Each is empty where the instance has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instance {
    /// `public-hostname`.
    pub public_name: String,
    /// `public-ipv4`.
    pub public_address: String,
    /// `local-ipv4`.
    pub own_address: String,
}
