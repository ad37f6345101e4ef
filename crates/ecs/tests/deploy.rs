//! The documents that are shipped: each has only fields that ECS or IAM know, and they fit together and to what an agent does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use greenroom_ecs::{AddressFrom, Instance, place};
use serde_json::{Value, json};

fn document(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/ecs").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn only(document: &Value, known: &[&str]) {
    for field in document.as_object().unwrap().keys() {
        assert!(known.contains(&field.as_str()), "{field} is none of {known:?}");
    }
}

const TASK: [&str; 8] = [
    "family",
    "requiresCompatibilities",
    "networkMode",
    "cpu",
    "memory",
    "taskRoleArn",
    "executionRoleArn",
    "containerDefinitions",
];
const CONTAINER: [&str; 11] = [
    "name",
    "image",
    "essential",
    "command",
    "cpu",
    "memory",
    "stopTimeout",
    "environment",
    "secrets",
    "portMappings",
    "logConfiguration",
];
const SERVICE: [&str; 6] =
    ["cluster", "serviceName", "taskDefinition", "desiredCount", "launchType", "deploymentConfiguration"];

fn container(task: &Value) -> &Value {
    let [container] = task["containerDefinitions"].as_array().unwrap().as_slice() else {
        panic!("one container");
    };
    container
}

#[test]
fn the_documents_are_what_ecs_reads_and_fit_together() {
    let [ec2, fargate] = ["task-ec2.json", "task-fargate.json"].map(document);
    for task in [&ec2, &fargate] {
        only(task, &TASK);
        let container = container(task);
        only(container, &CONTAINER);
        assert_eq!(container["stopTimeout"], 120, "the longest that ECS takes");
        let command: Vec<&str> =
            container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert!(command.starts_with(&["greenroom", "--server"]) && command.contains(&"--ecs"), "{command:?}");
        assert_eq!(container["secrets"][0]["name"], "GREENROOM_TOKEN");
    }
    // On Fargate ECS takes texts, and only some pairs of them.
    assert_eq!((&fargate["cpu"], &fargate["memory"]), (&json!("1024"), &json!("2048")));
    assert_eq!(fargate["networkMode"], "awsvpc");
    let service = document("service.json");
    only(&service, &SERVICE);
    assert_eq!(service["taskDefinition"], ec2["family"]);
    assert!(
        service["deploymentConfiguration"]["maximumPercent"].as_u64().unwrap() > 100,
        "protected tasks stay"
    );
    let role = document("task-role.json");
    assert_eq!(role["Statement"][0]["Action"], json!(["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]));
}

#[test]
fn players_reach_the_ports_that_the_task_definition_maps() {
    let ec2 = document("task-ec2.json");
    let mappings = container(&ec2)["portMappings"].as_array().unwrap();
    let bound = |(i, mapping): (usize, &Value)| {
        assert_eq!(mapping["hostPort"], 0, "ECS chooses: several tasks share an instance");
        json!({ "ContainerPort": mapping["containerPort"], "Protocol": mapping["protocol"], "HostPort": 32_768 + i })
    };
    let ports: Vec<Value> = mappings.iter().enumerate().map(bound).collect();
    let network = json!({ "NetworkMode": ec2["networkMode"], "IPv4Addresses": ["172.17.0.2"] });
    let container = json!({ "Name": "greenroom", "Networks": [network], "Ports": ports });
    let task = json!({
        "Cluster": "default", "TaskARN": "arn:aws:ecs:us-west-2:111122223333:task/default/1", "Family": "arena", "Revision": "1",
    });
    let instance = Instance { public_address: "203.0.113.25".to_owned(), ..Instance::default() };
    let found = place(
        &serde_json::from_value(task).unwrap(),
        &serde_json::from_value(container).unwrap(),
        &instance,
        &AddressFrom::External,
        &(7000..=8000),
    )
    .unwrap();
    assert_eq!((found.ports, found.dialled.len()), (7000..=7003, 4));
}
