//! Tasks as ECS describes them, and what becomes of them. The documents have the shape of the examples that AWS publishes.

use serde_json::{Value, json};

use super::*;

const RANGE: RangeInclusive<u16> = 7000..=8000;
const ID: &str = "158d1c8083dd49d6b527399fd6414f5c";

fn task(launch_type: &str) -> Task {
    let task = json!({
        "Cluster": "default",
        "TaskARN": format!("arn:aws:ecs:us-west-2:111122223333:task/default/{ID}"),
        "Family": "arena",
        "Revision": "26",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "PullStartedAt": "2020-10-02T00:43:06.202617438Z",
        "AvailabilityZone": "us-west-2d",
        "LaunchType": launch_type,
        "Containers": [],
    });
    serde_json::from_value(task).unwrap()
}

fn container(network: &Value, ports: &Value) -> Container {
    let mut container = json!({
        "DockerId": "ee08638adaaf009d78c248913f629e38299471d45fe7dc944d1039077e3424ca",
        "Name": "greenroom",
        "DockerName": "ecs-arena-26-greenroom-a0e7dba5aca6d8cb2e00",
        "Labels": { "com.amazonaws.ecs.cluster": "default" },
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": { "CPU": 10, "Memory": 128 },
        "Type": "NORMAL",
        "Networks": [network],
    });
    if !ports.is_null() {
        container["Ports"] = ports.clone();
    }
    serde_json::from_value(container).unwrap()
}

fn awsvpc() -> Container {
    let network = json!({
        "NetworkMode": "awsvpc",
        "IPv4Addresses": ["10.0.2.61"],
        "AttachmentIndex": 0,
        "MACAddress": "0e:10:e2:01:bd:91",
        "IPv4SubnetCIDRBlock": "10.0.2.0/24",
        "PrivateDNSName": "ip-10-0-2-61.us-west-2.compute.internal",
        "SubnetGatewayIpv4Address": "10.0.2.1/24",
    });
    container(&network, &Value::Null)
}

fn bridge(ports: &Value) -> Container {
    container(&json!({ "NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"] }), ports)
}

fn host() -> Container {
    container(&json!({ "NetworkMode": "host", "IPv4Addresses": [""] }), &Value::Null)
}

fn bound(container_port: u16, host_port: u16) -> Value {
    json!({ "ContainerPort": container_port, "Protocol": "tcp", "HostPort": host_port, "HostIp": "0.0.0.0" })
}

fn instance() -> Instance {
    Instance {
        public_name: "ec2-203-0-113-25.us-west-2.compute.amazonaws.com".to_owned(),
        public_address: "203.0.113.25".to_owned(),
        own_address: "10.0.0.7".to_owned(),
    }
}

fn named(name: &str) -> AddressFrom {
    AddressFrom::Named(name.to_owned())
}

#[test]
fn players_dial_what_leads_to_the_task() {
    let (behind, on_host, own) = (bridge(&json!([bound(7000, 32_768)])), host(), awsvpc());
    let unnamed = Instance { public_name: String::new(), ..instance() };
    let hidden = Instance { own_address: "10.0.0.7".to_owned(), ..Instance::default() };
    let (external, internal) = (AddressFrom::External, AddressFrom::Internal);
    let name = "ec2-203-0-113-25.us-west-2.compute.amazonaws.com";
    let cases = [
        ("the name of the instance", &behind, &instance(), &external, name),
        ("an address where there is no name", &behind, &unnamed, &external, "203.0.113.25"),
        ("the same on the host's network", &on_host, &instance(), &external, name),
        ("a private address where that is asked for", &behind, &instance(), &internal, "10.0.0.7"),
        ("that of the task's own interface", &own, &Instance::default(), &internal, "10.0.2.61"),
        (
            "the instance's in a name",
            &behind,
            &hidden,
            &named("{ip}.games.example.com"),
            "10-0-0-7.games.example.com",
        ),
        (
            "the task's in a name",
            &own,
            &Instance::default(),
            &named("{ip}.games.example.com"),
            "10-0-2-61.games.example.com",
        ),
        ("a whole name", &on_host, &Instance::default(), &named("play.example.com"), "play.example.com"),
        ("an address in brackets", &own, &Instance::default(), &named("[2001:db8::7]"), "[2001:db8::7]"),
    ];
    for (about, container, instance, from, expected) in cases {
        let found = place(&task("EC2"), container, instance, from, &RANGE).unwrap();
        assert_eq!(found.public_host, expected, "{about}");
    }
}

#[test]
fn a_private_address_is_never_taken_for_a_public_one() {
    let refused = |launch_type: &str, container: &Container, instance: &Instance, from: AddressFrom| {
        place(&task(launch_type), container, instance, &from, &RANGE).unwrap_err().to_string()
    };
    let on_fargate = refused("FARGATE", &awsvpc(), &Instance::default(), AddressFrom::External);
    let expected = format!("task {ID} has a network interface of its own, whose public address");
    assert!(on_fargate.starts_with(&expected), "{on_fargate}");
    assert!(on_fargate.contains("(FARGATE)") && on_fargate.contains("{ip} for 10.0.2.61"), "{on_fargate}");
    // The instance's own address leads to the instance, not to the interface of the task.
    assert!(refused("EC2", &awsvpc(), &instance(), AddressFrom::External).contains("(EC2)"));
    assert!(refused("", &awsvpc(), &instance(), AddressFrom::External).contains("(launch type not told)"));
    let hidden = Instance { own_address: "10.0.0.7".to_owned(), ..Instance::default() };
    let behind = refused("EC2", &host(), &hidden, AddressFrom::External);
    assert!(behind.ends_with("pass --ecs-address internal if players can dial 10.0.0.7"), "{behind}");
    let nothing = format!("no metadata tell the address of task {ID}");
    for from in [AddressFrom::Internal, named("{ip}.example.com")] {
        assert!(refused("EC2", &host(), &Instance::default(), from).starts_with(&nothing));
    }
    let odd = Instance { public_name: "two words".to_owned(), ..instance() };
    assert!(refused("EC2", &host(), &odd, AddressFrom::External).contains("\"two words\""));
}

#[test]
fn ports_are_those_that_lead_to_the_container() {
    let v6 = |container_port: u16, host_port: u16| json!({ "ContainerPort": container_port, "Protocol": "tcp", "HostPort": host_port, "HostIp": "::" });
    let udp = json!({ "ContainerPort": 7009, "Protocol": "udp", "HostPort": 40_000 });
    let cases = [
        ("a dynamic one", json!([bound(7000, 32_768)]), 7000..=7000, vec![(7000, 32_768)]),
        (
            "several, in any order",
            json!([bound(7001, 32_770), bound(7000, 32_769)]),
            7000..=7001,
            vec![(7000, 32_769), (7001, 32_770)],
        ),
        ("a fixed one", json!([bound(7000, 7000)]), 7000..=7000, vec![(7000, 7000)]),
        (
            "of both families that of IPv4, whichever is told first",
            json!([v6(7000, 49_154), bound(7000, 49_153), bound(7001, 49_155), v6(7001, 49_156)]),
            7000..=7001,
            vec![(7000, 49_153), (7001, 49_155)],
        ),
        (
            "neither those of others nor UDP",
            json!([bound(7000, 32_768), bound(9000, 32_769), udp]),
            7000..=7000,
            vec![(7000, 32_768)],
        ),
        (
            "an older agent, which tells no address",
            json!([{ "ContainerPort": 7000, "Protocol": "tcp", "HostPort": 32_768 }]),
            7000..=7000,
            vec![(7000, 32_768)],
        ),
    ];
    for (about, ports, range, dialled) in cases {
        let found =
            place(&task("EC2"), &bridge(&ports), &instance(), &AddressFrom::External, &RANGE).unwrap();
        assert_eq!((found.ports, found.has_all_ports), (range, false), "{about}");
        assert_eq!(found.dialled.into_iter().collect::<Vec<_>>(), dialled, "{about}");
    }
    for (container, from) in [(host(), AddressFrom::External), (awsvpc(), AddressFrom::Internal)] {
        let found = place(&task("EC2"), &container, &instance(), &from, &RANGE).unwrap();
        assert_eq!((found.ports, found.has_all_ports, found.dialled), (RANGE, true, BTreeMap::new()));
    }
}

#[test]
fn what_is_wrong_with_ports_is_told() {
    let cases = [
        (
            Value::Null,
            "ECS tells no ports of container greenroom; give it portMappings with containerPorts within 7000-8000",
        ),
        (json!([bound(80, 32_768)]), "no TCP port of container greenroom is within 7000-8000"),
        (
            json!([{ "ContainerPort": 7000, "Protocol": "tcp" }]),
            "ECS tells no host port for port 7000 of container greenroom;",
        ),
        (
            json!([bound(7000, 32_768), { "ContainerPort": 7001, "Protocol": "tcp", "HostPort": 0 }]),
            "ECS tells no host port for port 7001 of container greenroom;",
        ),
        (
            json!([bound(7000, 32_768), bound(7002, 32_769)]),
            "the containerPorts of container greenroom leave out 7001, between 7000 and 7002;",
        ),
    ];
    for (ports, expected) in cases {
        let found = place(&task("EC2"), &bridge(&ports), &instance(), &AddressFrom::External, &RANGE);
        let error = found.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{ports}: {error}");
    }
    let none = container(&json!({ "NetworkMode": "none" }), &Value::Null);
    let error = place(&task("EC2"), &none, &instance(), &AddressFrom::External, &RANGE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the network mode of container greenroom is \"none\"; give its task awsvpc, bridge or host"
    );
}

#[test]
fn labels_say_where_it_is_and_what_it_runs() {
    let found = place(&task("EC2"), &host(), &instance(), &AddressFrom::External, &RANGE).unwrap();
    let expected = [
        ("cluster", "default"),
        ("family", "arena"),
        ("region", "us-west-2"),
        ("revision", "26"),
        ("task", ID),
        ("zone", "us-west-2d"),
    ];
    let found: Vec<_> = found.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
    let mut bare = task("FARGATE");
    bare.cluster = "arn:aws:ecs:us-west-2:111122223333:cluster/games".to_owned();
    bare.task_arn = format!("arn:aws:ecs:us-west-2:111122223333:task/{ID}");
    (bare.availability_zone, bare.family) = (String::new(), "f".repeat(65));
    let found = place(&bare, &awsvpc(), &Instance::default(), &AddressFrom::Internal, &RANGE).unwrap();
    assert_eq!((bare.id(), &*found.labels["cluster"]), (ID, "games"));
    assert!(!found.labels.contains_key("zone") && !found.labels.contains_key("family"), "{:?}", found.labels);
}

#[test]
fn the_instance_is_asked_only_where_its_answer_counts() {
    let name = named("play.example.com");
    let with_ip = named("{ip}.example.com");
    let (external, internal) = (AddressFrom::External, AddressFrom::Internal);
    let behind = bridge(&json!([bound(7000, 32_768)]));
    let cases = [
        (&behind, &external, true),
        (&behind, &internal, true),
        (&behind, &with_ip, true),
        (&behind, &name, false),
        (&host(), &external, true),
        (&awsvpc(), &external, false),
        (&awsvpc(), &with_ip, false),
    ];
    for (container, from, expected) in cases {
        assert_eq!(wants_instance(container, from), expected, "{:?} {from}", container.mode());
    }
}
