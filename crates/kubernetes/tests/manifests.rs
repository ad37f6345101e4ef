//! The manifests that are shipped: each is what Kubernetes reads, and they fit together and to what an agent does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use greenroom_agent::keeping::Mark;
use greenroom_kubernetes::{AddressFrom, BUSY_LABEL, patch, place};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const FILES: [&str; 4] = ["rbac.yaml", "fleet.yaml", "budget.yaml", "keep-busy.yaml"];

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes").join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn one(kind: &str) -> Value {
    let mut all = FILES.into_iter().flat_map(documents).filter(|document| document["kind"] == kind);
    let found = all.next().unwrap();
    assert!(all.next().is_none(), "more than one {kind}");
    found
}

/// Whether the type knows every field of the document: one that it does not know is lost on the way.
fn is<T: DeserializeOwned + Serialize>(document: &Value) {
    let read: T = serde_json::from_value(document.clone()).unwrap();
    let mut again = serde_json::to_value(&read).unwrap();
    // What the type adds where the document says nothing.
    prune(&mut again, document);
    assert_eq!(again, *document);
}

fn prune(read: &mut Value, document: &Value) {
    match (read, document) {
        (Value::Object(read), Value::Object(document)) => {
            read.retain(|name, value| document.contains_key(name) || !is_empty(value));
            read.iter_mut()
                .for_each(|(name, value)| prune(value, document.get(name).unwrap_or(&Value::Null)));
        }
        (Value::Array(read), Value::Array(document)) => {
            read.iter_mut().zip(document).for_each(|(read, document)| prune(read, document));
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn every_document_is_what_kubernetes_reads() {
    for file in FILES {
        for document in documents(file) {
            match document["kind"].as_str().unwrap() {
                "ServiceAccount" => is::<ServiceAccount>(&document),
                "Role" => is::<Role>(&document),
                "RoleBinding" => is::<RoleBinding>(&document),
                "ClusterRole" => is::<ClusterRole>(&document),
                "ClusterRoleBinding" => is::<ClusterRoleBinding>(&document),
                "Deployment" => is::<Deployment>(&document),
                "PodDisruptionBudget" => is::<PodDisruptionBudget>(&document),
                "ValidatingAdmissionPolicy" => is::<ValidatingAdmissionPolicy>(&document),
                "ValidatingAdmissionPolicyBinding" => is::<ValidatingAdmissionPolicyBinding>(&document),
                kind => panic!("{file}: {kind} is not checked"),
            }
        }
    }
}

#[test]
fn the_budget_and_the_policy_choose_by_the_label_that_an_agent_writes() {
    let busy = patch(Mark::Busy { cost: 1 }, "u");
    assert_eq!(busy["metadata"]["labels"][BUSY_LABEL], "true");
    let budget = one("PodDisruptionBudget");
    assert_eq!(budget["spec"]["selector"]["matchLabels"], json!({ BUSY_LABEL: "true" }));
    assert_eq!(budget["spec"]["maxUnavailable"], 0);
    let policy = one("ValidatingAdmissionPolicy");
    let rule = policy["spec"]["validations"][0]["expression"].as_str().unwrap();
    assert!(rule.contains(&format!("oldObject.metadata.labels['{BUSY_LABEL}'] != 'true'")), "{rule}");
    let binding = one("ValidatingAdmissionPolicyBinding");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
}

#[test]
fn players_reach_the_pods_of_the_fleet_and_its_agents_may_do_what_they_do() {
    let fleet = one("Deployment");
    let template = &fleet["spec"]["template"];
    let pod: Pod = serde_json::from_value(template.clone()).unwrap();
    let node = json!({
        "metadata": { "name": "node-a" },
        "status": { "addresses": [{ "type": "ExternalIP", "address": "203.0.113.7" }] },
    });
    let node = serde_json::from_value(node).unwrap();
    let found = place(&node, &pod, &AddressFrom::External, &(7000..=8000)).unwrap();
    assert_eq!((found.public_host.as_str(), found.ports), ("203.0.113.7", 7000..=7003));
    let account = &template["spec"]["serviceAccountName"];
    for (binding, role, wanted) in [
        (
            "RoleBinding",
            "Role",
            json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"] }),
        ),
        (
            "ClusterRoleBinding",
            "ClusterRole",
            json!({ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] }),
        ),
    ] {
        let (binding, role) = (one(binding), one(role));
        assert_eq!(role["rules"], json!([wanted]));
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        assert_eq!(binding["subjects"][0]["name"], *account);
        assert_eq!(binding["subjects"][0]["namespace"], fleet["metadata"]["namespace"]);
    }
}
