//! The cluster that an agent is in: its own pod and node, read once.
//!
//! Never writes: that is `keeper`.

use std::ops::RangeInclusive;
use std::time::Duration;

use greenroom_agent::place::Place;
use greenroom_wire::error::chain;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};

use crate::keeper::Keeper;
use crate::place::{AddressFrom, PlaceError, place};

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// The way to the API server, for one pod.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    pod: String,
}

/// Why an agent does not know where it is. Mend it; the kubelet starts the container again.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no cluster around this process.
    #[error("no Kubernetes cluster is found: {0}; run in a pod with a service account, or set KUBECONFIG")]
    NoCluster(String),
    /// A call was refused or did not arrive.
    #[error("{what} cannot be read: {why}")]
    Unread {
        /// Of what.
        what: String,
        /// What the cluster said, and what helps.
        why: String,
    },
    /// The pod is on no node.
    #[error("pod {0} is on no node; POD_NAME and POD_NAMESPACE must be those of the pod that this runs in")]
    NoNode(String),
    /// Players cannot reach it.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// What went wrong with a call, and what helps.
pub(crate) fn why(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return match status.code {
            403 => format!("{}; give the pod's service account the rights in rbac.yaml", status.message),
            code => format!("{code} {}: {}", status.reason, status.message),
        };
    }
    chain(error)
}

impl Cluster {
    /// The cluster around this process: that of `KUBECONFIG`, or of the pod's service account. Without `namespace` the one
    /// that those name. Calls nobody yet.
    ///
    /// # Errors
    /// [`ClusterError::NoCluster`].
    pub async fn around(pod: &str, namespace: Option<&str>) -> Result<Self, ClusterError> {
        let client = Client::try_default().await;
        let client = client.map_err(|error| ClusterError::NoCluster(why(&error)))?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        Ok(Self::by(client, pod, &namespace))
    }

    /// The cluster that `client` calls.
    #[must_use]
    pub fn by(client: Client, pod: &str, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), pod: pod.to_owned() }
    }

    /// Reads pod and node: where players reach the pod, and who writes on it what it needs to stay. See [`place`].
    ///
    /// # Errors
    /// See [`ClusterError`]. Each call is waited for 5 s and made once.
    pub async fn find(
        &self,
        from: &AddressFrom,
        ports: &RangeInclusive<u16>,
    ) -> Result<(Place, Keeper), ClusterError> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let pod = read(pods.get(&self.pod), || format!("pod {} of {}", self.pod, self.namespace)).await?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = node.ok_or_else(|| ClusterError::NoNode(self.pod.clone()))?;
        let nodes = Api::<Node>::all(self.client.clone());
        let node = read(nodes.get(&node), || format!("node {node}")).await?;
        let place = place(&node, &pod, from, ports)?;
        let uid = pod.metadata.uid.unwrap_or_default();
        Ok((place, Keeper::new(pods, self.pod.clone(), uid)))
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client: _, namespace, pod } = self;
        f.debug_struct("Cluster").field("namespace", namespace).field("pod", pod).finish_non_exhaustive()
    }
}

async fn read<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
    what: impl FnOnce() -> String,
) -> Result<T, ClusterError> {
    let why = match tokio::time::timeout(CALL, call).await {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(error)) => why(&error),
        Err(_elapsed) => format!("no answer within {} s", CALL.as_secs()),
    };
    Err(ClusterError::Unread { what: what(), why })
}
