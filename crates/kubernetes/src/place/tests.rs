//! Nodes and pods as clusters have them, and what becomes of them.

use serde_json::{Value, json};

use super::*;

fn node(addresses: &[(&str, &str)], more: &Value) -> Node {
    let addresses: Vec<Value> =
        addresses.iter().map(|(kind, address)| json!({ "type": kind, "address": address })).collect();
    let mut node = json!({
        "metadata": { "name": "node-a", "labels": { "topology.kubernetes.io/zone": "eu-1a" } },
        "status": { "addresses": addresses },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        node["metadata"][name] = value.clone();
    }
    serde_json::from_value(node).unwrap()
}

fn pod(ports: &Value) -> Pod {
    let container = json!({ "name": "greenroom", "ports": ports });
    let pod = json!({ "metadata": { "name": "arena-x" }, "spec": { "containers": [container] } });
    serde_json::from_value(pod).unwrap()
}

fn port(port: u16) -> Value {
    json!({ "containerPort": port, "hostPort": port })
}

const RANGE: RangeInclusive<u16> = 7000..=8000;

#[test]
fn the_address_is_the_most_public_that_the_node_has() {
    let cloud = [
        ("InternalIP", "10.0.0.7"),
        ("Hostname", "ip-10-0-0-7"),
        ("ExternalIP", "203.0.113.7"),
        ("InternalDNS", "ip-10-0-0-7.ec2.internal"),
        ("ExternalDNS", "ec2-203-0-113-7.example.com"),
    ];
    let hidden = [("InternalIP", "10.0.0.7"), ("Hostname", "node-a.example.com")];
    let v6 = [("ExternalIP", "2001:db8::7"), ("ExternalIP", "203.0.113.7")];
    let annotated = json!({ "annotations": { "greenroom.dev/public-host": "play-7.example.com" } });
    let none = Value::Null;
    let cases = [
        ("a name before an address", &cloud[..], &none, "external", "ec2-203-0-113-7.example.com"),
        ("an address where there is no name", &cloud[..4], &none, "external", "203.0.113.7"),
        ("the first of one kind", &v6, &none, "external", "2001:db8::7"),
        (
            "who says internal takes what is public too",
            &cloud,
            &none,
            "internal",
            "ec2-203-0-113-7.example.com",
        ),
        ("and what is not", &hidden, &none, "internal", "10.0.0.7"),
        ("the annotation before all", &cloud, &annotated, "external", "play-7.example.com"),
        ("a template", &cloud, &annotated, "{node}.games.example.com", "node-a.games.example.com"),
        ("of the pod", &hidden, &none, "{pod}.games.example.com", "arena-x.games.example.com"),
    ];
    for (name, addresses, more, from, host) in cases {
        let found = place(&node(addresses, more), &pod(&json!([port(7000)])), &from.parse().unwrap(), &RANGE);
        assert_eq!(found.unwrap().public_host, host, "{name}");
    }
}

#[test]
fn a_node_that_players_cannot_dial_is_refused_with_what_to_do() {
    let refused = |addresses: &[(&str, &str)], more: &Value| {
        place(&node(addresses, more), &pod(&json!([port(7000)])), &AddressFrom::External, &RANGE)
            .unwrap_err()
            .to_string()
    };
    let inside = refused(&[("InternalIP", "10.0.0.7"), ("Hostname", "node-a.example.com")], &Value::Null);
    assert_eq!(
        inside,
        "node node-a has no external address, only Hostname, InternalIP; annotate it with greenroom.dev/public-host, or name another address with --kubernetes-address"
    );
    assert!(refused(&[], &Value::Null).contains("only no address at all"));
    let annotated = json!({ "annotations": { "greenroom.dev/public-host": "play.example.com:7000" } });
    let bad = refused(&[("ExternalIP", "203.0.113.7")], &annotated);
    assert_eq!(
        bad,
        "node node-a has greenroom.dev/public-host \"play.example.com:7000\", which is no host name or address without port"
    );
}

#[test]
fn what_is_no_way_to_an_address_is_refused() {
    for text in ["", "extrenal", "{node}", "a b.example.com", "{zone}.example.com", "x.example.com:7000"] {
        let error = text.parse::<AddressFrom>().unwrap_err();
        assert!(error.to_string().ends_with("such as {node}.games.example.com"), "{text}: {error}");
    }
    for text in ["external", "internal", "{node}.games.example.com", "203.0.113.7"] {
        assert_eq!(text.parse::<AddressFrom>().unwrap().to_string(), text);
    }
}

#[test]
fn servers_take_the_ports_that_the_node_hands_through() {
    let udp = json!({ "containerPort": 7001, "hostPort": 7001, "protocol": "UDP" });
    let tcp = json!({ "containerPort": 7001, "hostPort": 7001, "protocol": "TCP" });
    let inside = json!({ "containerPort": 7002 });
    let metrics = json!({ "containerPort": 9090, "hostPort": 19090 });
    let moved = json!({ "containerPort": 7000, "hostPort": 7005 });
    let cases = [
        ("one", json!([port(7000)]), Ok(7000..=7000)),
        ("in any order, once each", json!([port(7002), port(7000), tcp, port(7000)]), Ok(7000..=7002)),
        ("not what stays inside", json!([port(7000), inside]), Ok(7000..=7000)),
        ("not what is somebody else's", json!([port(7000), metrics]), Ok(7000..=7000)),
        ("not UDP", json!([port(7000), udp]), Ok(7000..=7000)),
        (
            "none",
            json!([inside]),
            Err(
                "no TCP hostPort of pod arena-x is within 7000-8000, the ports of [host]; give its container ports with hostPort, or the pod hostNetwork: true",
            ),
        ),
        (
            "a gap",
            json!([port(7000), port(7003), port(7001)]),
            Err("the hostPorts of the pod leave out 7002, between 7000 and 7003; give it one range"),
        ),
        (
            "another one outside than inside",
            json!([moved]),
            Err(
                "container greenroom has hostPort 7005 for containerPort 7000; make both the same, for a gameserver tells players the port that it listens on",
            ),
        ),
    ];
    let node = node(&[("ExternalIP", "203.0.113.7")], &Value::Null);
    for (name, ports, wanted) in cases {
        let found = place(&node, &pod(&ports), &AddressFrom::External, &RANGE);
        let found = found.map(|place| place.ports).map_err(|error| error.to_string());
        assert_eq!(found, wanted.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn a_pod_on_the_nodes_own_network_has_all_ports_and_one_beside_it_may_hold_them() {
    let node = node(&[("ExternalIP", "203.0.113.7")], &Value::Null);
    let mut own = pod(&json!([]));
    own.spec.as_mut().unwrap().host_network = Some(true);
    assert_eq!(place(&node, &own, &AddressFrom::External, &(7100..=7200)).unwrap().ports, 7100..=7200);
    let mut beside = pod(&json!([]));
    let spec = beside.spec.as_mut().unwrap();
    spec.init_containers = pod(&json!([port(7000)])).spec.map(|spec| spec.containers);
    assert_eq!(place(&node, &beside, &AddressFrom::External, &RANGE).unwrap().ports, 7000..=7000);
}

#[test]
fn the_labels_say_where_the_host_is_as_far_as_an_allocation_may_ask_for_it() {
    let labels = |labels: Value| {
        let node = node(&[("ExternalIP", "203.0.113.7")], &json!({ "labels": labels }));
        let found = place(&node, &pod(&json!([port(7000)])), &AddressFrom::External, &RANGE).unwrap().labels;
        found.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let both = json!({ "topology.kubernetes.io/zone": "eu-1a", "topology.kubernetes.io/region": "eu-1", "disk": "ssd" });
    assert_eq!(labels(both), "node=node-a region=eu-1 zone=eu-1a");
    assert_eq!(labels(json!({})), "node=node-a");
    assert_eq!(labels(json!({ "topology.kubernetes.io/zone": "" })), "node=node-a");
}
