//! A pod of a cluster is found and kept. Against the real cluster that `KUBECONFIG` names, or else a fake API server, which
//! the first line of the output tells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_agent::Occupancy;
use greenroom_agent::keeping::{self, Around, Holds, Pacing, channel};
use greenroom_kubernetes::{AddressFrom, Cluster};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use support::{Fake, Trouble};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";

const BUSY: Occupancy = Occupancy { busy: true, players: 3 };
const IDLE: Occupancy = Occupancy { busy: false, players: 0 };

fn pacing() -> Pacing {
    let ms = Duration::from_millis;
    Pacing { idle_after: ms(200), retry_first: ms(20), retry_max: ms(200), ..Pacing::default() }
}

fn manifest(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "greenroom-test" } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "greenroom", "image": "registry.k8s.io/pause:3.10",
                "ports": [
                    { "containerPort": 7961, "hostPort": 7961 },
                    { "containerPort": 7962, "hostPort": 7962 },
                ],
            }],
        },
    })
}

/// A pod of a cluster, and who keeps it.
struct Kept {
    pods: Api<Pod>,
    name: String,
    agent: Around,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Kept {
    async fn begin(client: Client, name: &str) -> Self {
        let pods = Api::<Pod>::default_namespaced(client.clone());
        let node = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap();
        let node = node.items[0].metadata.name.clone().unwrap();
        let manifest = serde_json::from_value(manifest(name, &node)).unwrap();
        pods.create(&PostParams::default(), &manifest).await.unwrap();
        let cluster = Cluster::by(client, name, pods.namespace().unwrap_or("default"));
        let (place, keeper) = cluster.find(&AddressFrom::Internal, &(7900..=8000)).await.unwrap();
        assert_eq!((place.ports, &place.labels["node"]), (7961..=7962, &node));
        assert!(!place.public_host.is_empty());
        let (agent, engine) = channel(Holds::Busy);
        agent.occupancy.send_replace(Some(IDLE));
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keeper.keep(pacing(), engine, stop.clone()));
        Self { pods, name: name.to_owned(), agent, stop, tasks }
    }

    async fn marks(&self) -> BTreeMap<String, String> {
        let metadata = self.pods.get(&self.name).await.unwrap().metadata;
        metadata.labels.into_iter().chain(metadata.annotations).flatten().collect()
    }

    /// Waits until the pod's busy label, safe-to-evict, cost and do-not-disrupt are these.
    async fn is(&self, busy: &str, safe: &str, cost: &str, stays: Option<&str>) {
        let wanted = [Some(busy), Some(safe), Some(cost), stays];
        let looking = async {
            loop {
                let marks = self.marks().await;
                let names = ["greenroom.dev/busy", SAFE_TO_EVICT, DELETION_COST, DO_NOT_DISRUPT];
                if names.map(|name| marks.get(name).map(String::as_str)) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let within = tokio::time::timeout(Duration::from_secs(10), looking).await;
        assert!(within.is_ok(), "not within 10 s: {wanted:?}; there are {:?}", self.marks().await);
    }

    /// Waits until the agent has been told this.
    async fn told(&self, wanted: &keeping::Kept) {
        let mut heard = self.agent.kept.clone();
        let waiting = heard.wait_for(|kept| kept == wanted);
        let within = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(within.is_ok(), "not within 10 s: {wanted:?}");
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
        self.pods.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_found_and_marked_while_somebody_is_on_it() {
    let client = if std::env::var_os("KUBECONFIG").is_some() {
        eprintln!("against the cluster that KUBECONFIG names");
        Client::try_default().await.unwrap()
    } else {
        eprintln!("against a fake API server: KUBECONFIG names no cluster");
        Fake::default().client()
    };
    let name = format!("greenroom-test-{:08x}", getrandom::u32().unwrap());
    let kept = Kept::begin(client, &name).await;
    kept.is("false", "true", "0", None).await;
    kept.agent.occupancy.send_replace(Some(BUSY));
    kept.is("true", "false", "4", Some("true")).await;
    kept.agent.occupancy.send_replace(Some(IDLE));
    kept.is("false", "true", "0", None).await;
    assert_eq!(kept.marks().await["app"], "greenroom-test", "what others wrote stays");
    kept.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_refuses_or_is_silent_is_asked_again_until_the_mark_stands() {
    let fake = Fake::default();
    let kept = Kept::begin(fake.client(), "arena-x").await;
    kept.is("false", "true", "0", None).await;
    for trouble in [Trouble::Status(500), Trouble::Status(401), Trouble::Status(409), Trouble::Silence] {
        fake.trouble(Some(trouble));
        let before = fake.patches().len();
        kept.agent.occupancy.send_replace(Some(BUSY));
        while fake.patches().len() < before + 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(kept.marks().await["greenroom.dev/busy"], "false", "{trouble:?}");
        let told = kept.agent.kept.borrow().clone();
        assert!(!told.held && !told.trouble.is_empty(), "{told:?}");
        fake.trouble(None);
        kept.is("true", "false", "4", Some("true")).await;
        kept.told(&keeping::Kept { held: true, trouble: String::new() }).await;
        kept.agent.occupancy.send_replace(Some(IDLE));
        kept.is("false", "true", "0", None).await;
    }
    kept.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_later_pod_of_the_same_name_is_not_touched() {
    let fake = Fake::default();
    let kept = Kept::begin(fake.client(), "arena-0").await;
    kept.is("false", "true", "0", None).await;
    kept.pods.delete("arena-0", &DeleteParams::default()).await.unwrap();
    let manifest = serde_json::from_value(manifest("arena-0", "node-a")).unwrap();
    kept.pods.create(&PostParams::default(), &manifest).await.unwrap();
    let before = fake.patches().len();
    kept.agent.occupancy.send_replace(Some(BUSY));
    while fake.patches().len() < before + 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!kept.marks().await.contains_key("greenroom.dev/busy"));
    kept.end().await;
}

#[tokio::test]
async fn what_is_missing_is_told_with_what_to_do() {
    let client = Fake::default().client();
    let pods = Api::<Pod>::default_namespaced(client.clone());
    let mut nowhere: Pod = serde_json::from_value(manifest("nowhere", "node-a")).unwrap();
    nowhere.spec.as_mut().unwrap().node_name = None;
    let elsewhere = serde_json::from_value(manifest("elsewhere", "node-b")).unwrap();
    for pod in [nowhere, elsewhere] {
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    let cases = [
        ("arena-x", "pod arena-x of default cannot be read: 404 NotFound: pods \"arena-x\" not found"),
        (
            "nowhere",
            "pod nowhere is on no node; POD_NAME and POD_NAMESPACE must be those of the pod that this runs in",
        ),
        ("elsewhere", "node node-b cannot be read: 404 NotFound: no such path"),
    ];
    for (pod, message) in cases {
        let found =
            Cluster::by(client.clone(), pod, "default").find(&AddressFrom::External, &(7000..=8000)).await;
        assert_eq!(found.unwrap_err().to_string(), message);
    }
}
