//! The SDK over real HTTP: the test speaks for a gameserver that does nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[cfg(feature = "agones")]
use greenroom_wire::agent::ServerReport;
use greenroom_wire::agent::{ProbeWord, ProcessPhase};
use greenroom_wire::api::GameserverStatus;
use serde_json::{Value, json};

use crate::control::{World, order, start_order};

/// Where the SDK listens, and the base paths of servers by their number, as their processes are told.
struct Sdk {
    address: String,
    bases: Vec<String>,
}

impl Sdk {
    fn of(world: &World) -> Self {
        let journal: Value = serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
        let servers = journal["servers"].as_array().unwrap();
        let base = |server: &Value| {
            let (name, secret) = (&server["order"]["server"], &server["link_secret"]);
            format!("/{}.{}/{}", name.as_str().unwrap(), server["restarts"], secret.as_str().unwrap())
        };
        Self {
            address: format!("127.0.0.1:{}", journal["sdk_port"]),
            bases: servers.iter().map(base).collect(),
        }
    }

    /// One request of the first server; its status and body.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.send(&self.bases[0], method, path, body).await
    }

    async fn send(&self, base: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let head = format!(
            "{method} {base}{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        let (address, request) = (self.address.clone(), head + body);
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = open(&address, &request);
            let mut answer = String::new();
            // What was refused early may be cut off by the reset that follows.
            let _ = stream.read_to_string(&mut answer);
            answer
        });
        let answer = answer.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }
}

fn open(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The agent may refuse before it has read all.
    let _ = stream.write_all(request.as_bytes());
    stream
}

/// The SDK on the port of its own that the first server has.
#[cfg(feature = "agones")]
fn own_port(world: &World) -> Sdk {
    let journal: Value = serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
    let port = &journal["servers"][0]["agones_port"];
    Sdk { address: format!("localhost:{port}"), bases: vec![String::new()] }
}

#[cfg(feature = "agones")]
#[tokio::test]
async fn a_server_has_a_port_of_its_own_that_outlives_its_agent_and_ends_with_it() {
    let mut world = World::with_agent().await;
    let mut asks = order("arena-1", &["sleep", "90"]);
    asks.probe = ProbeWord::Sdk { silence_ms: 20_000 };
    asks.agones = true;
    world.order(start_order(1, asks));
    world.wait("its process", |heard| heard.server("arena-1").and_then(|told| told.pid)).await;
    assert!(world.wait("hello", |heard| heard.hellos.first().cloned()).await.agones);
    let sdk = own_port(&world);
    assert_eq!(sdk.call("POST", "/ready", "").await, (200, json!({})));
    let ready = world.phase("arena-1", ProcessPhase::Ready).await;
    assert!(!ready.held);
    assert_eq!(sdk.call("POST", "/reserve", r#"{"seconds":600}"#).await, (200, json!({})));
    assert_eq!(sdk.call("POST", "/alpha/player/connect", r#"{"playerID":"ann"}"#).await.0, 200);
    assert_eq!(sdk.call("PUT", "/metadata/annotation", r#"{"key":"a","value":"b c"}"#).await.0, 200);
    let held = |told: &ServerReport| told.held && told.connections == 1;
    world.wait("its word", |heard| heard.server("arena-1").filter(|told| held(told)).cloned()).await;
    let before = sdk.call("GET", "/gameserver", "").await.1;
    assert_eq!(before["status"]["state"], "Allocated", "a player is on it");
    assert_eq!(before["status"]["players"], json!({"count": "1", "capacity": "4", "ids": ["ann"]}));

    world.abort_agent().await;
    let reports = world.wait("reports", |heard| Some(heard.reports.len())).await;
    world.start_agent();
    world.wait("a report", |heard| (heard.reports.len() > reports).then_some(())).await;
    let adopted = world.phase("arena-1", ProcessPhase::Ready).await;
    assert!(held(&adopted), "{adopted:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&sdk.address).is_err() {
        assert!(Instant::now() < deadline, "its port is open again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sdk.call("GET", "/gameserver", "").await, (200, before));
    assert_eq!(sdk.call("POST", "/alpha/player/disconnect", r#"{"playerID":"ann"}"#).await.0, 200);
    assert_eq!(sdk.call("GET", "/gameserver", "").await.1["status"]["state"], "Reserved");

    assert_eq!(sdk.call("POST", "/shutdown", "").await, (200, json!({})));
    world.phase("arena-1", ProcessPhase::Ended).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&sdk.address).is_ok() {
        assert!(Instant::now() < deadline, "its port is closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop_agent().await.unwrap();
}

/// One that runs a server with a port for a shipped SDK must be built with it.
#[cfg(not(feature = "agones"))]
#[tokio::test]
async fn an_agent_without_the_feature_says_so_and_refuses_the_order() {
    let mut world = World::with_agent().await;
    assert!(!world.wait("hello", |heard| heard.hellos.first().cloned()).await.agones);
    let mut asks = order("arena-1", &["sleep", "90"]);
    asks.agones = true;
    world.order(start_order(1, asks));
    let refused = world.wait("a refusal", |heard| heard.refused.first().cloned()).await;
    assert!(refused.contains("build it with the feature agones"), "{refused}");
    world.stop_agent().await.unwrap();
}

async fn with_servers(names: &[&str]) -> (World, Sdk) {
    let world = World::with_agent().await;
    for name in names {
        let mut silent = order(name, &["sleep", "90"]);
        silent.probe = ProbeWord::Sdk { silence_ms: 2_000 };
        world.order(start_order(1, silent));
        world.wait("its process", |heard| heard.server(name).and_then(|told| told.pid)).await;
    }
    let sdk = Sdk::of(&world);
    (world, sdk)
}

#[tokio::test]
async fn a_server_in_any_language_says_that_it_is_ready_and_lives() {
    let (mut world, sdk) = with_servers(&["arena-1"]).await;
    let told = world.phase("arena-1", ProcessPhase::Starting).await;
    assert_eq!(told.message, "its probe has not passed yet: it has not called POST /ready of its SDK");
    assert_eq!(sdk.call("GET", "/gameserver", "").await.1["status"]["state"], "Scheduled");
    assert_eq!(sdk.call("POST", "/ready", "{}").await, (200, json!({})));
    world.phase("arena-1", ProcessPhase::Ready).await;
    let (status, record) = sdk.call("GET", "/gameserver", "").await;
    assert_eq!((status, &record["object_meta"]["name"]), (200, &json!("arena-1")));
    assert_eq!(record["status"]["state"], "Ready");
    assert_eq!(record["status"]["ports"][0]["port"], *world.config.ports.start());
    // Silent for two seconds, then alive again.
    world.phase("arena-1", ProcessPhase::Unhealthy).await;
    assert_eq!(sdk.call("POST", "/health", "").await, (200, json!({})));
    world.phase("arena-1", ProcessPhase::Ready).await;
    let status = r#"{"connections":3,"rooms":[{"room":"r-1","epoch":1,"seats":[]}]}"#;
    assert_eq!(sdk.call("PUT", "/greenroom/v1/status", status).await, (200, json!({})));
    let told = world
        .wait("its status", |heard| heard.server("arena-1").filter(|told| told.connections == 3).cloned())
        .await;
    assert_eq!((told.linked, told.rooms.len()), (true, 1));
    let ended = r#"{"epoch":1,"result":{"winner":"ann"}}"#;
    assert_eq!(sdk.call("POST", "/greenroom/v1/rooms/r-1/ended", ended).await, (200, json!({})));
    world.wait("the result", |heard| heard.ended.contains(&"r-1".to_owned()).then_some(())).await;
    assert_eq!(sdk.call("GET", "/greenroom/v1/keys", "").await, (200, json!({"keys": []})));
    assert_eq!(sdk.call("POST", "/shutdown", "").await, (200, json!({})));
    let ended = world.phase("arena-1", ProcessPhase::Ended).await;
    assert!(ended.message.starts_with("stopped (it asked for it over its SDK)"), "{}", ended.message);
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_watch_gets_a_line_at_once_and_one_at_each_change() {
    let (mut world, sdk) = with_servers(&["arena-1"]).await;
    let request = format!("GET {}/watch/gameserver HTTP/1.1\r\nHost: sdk\r\n\r\n", sdk.bases[0]);
    let stream = open(&sdk.address, &request);
    let (lines, mut shown) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::task::spawn_blocking(move || {
        // Chunks and lines are the same here; sizes of chunks are no JSON objects.
        // The chunk of no bytes is the end of the answer; the connection stays open for the next one.
        let lines_of = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| line != "0");
        for line in lines_of.filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(&line).unwrap();
            let _ = lines.send(line["result"]["status"]["state"].as_str().unwrap().to_owned());
        }
    });
    assert_eq!(shown.recv().await.as_deref(), Some("Scheduled"));
    sdk.call("POST", "/ready", "{}").await;
    assert_eq!(shown.recv().await.as_deref(), Some("Ready"));
    sdk.call("PUT", "/metadata/label", r#"{"key":"map","value":"desert"}"#).await;
    assert_eq!(shown.recv().await.as_deref(), Some("Ready"), "its labels have changed");
    world.stop("arena-1");
    assert_eq!(shown.recv().await.as_deref(), Some("Shutdown"));
    world.phase("arena-1", ProcessPhase::Ended).await;
    let end = tokio::time::timeout(Duration::from_secs(5), shown.recv()).await;
    assert_eq!(end, Ok(None), "its process is over");
    reading.await.unwrap();
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn whatever_is_not_understood_is_refused_with_a_reason_and_changes_nothing() {
    let (mut world, sdk) = with_servers(&["arena-1", "arena-2"]).await;
    let long = format!(r#"{{"connections":1,"rooms":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    let cases = [
        ("POST", "/steady", "", 404, "there is no such call of the sdk: /steady"),
        ("GET", "/v1beta1/counters/rooms", "", 501, "counters and lists are not kept"),
        ("POST", "/v1beta1/lists/players:addValue", "{}", 501, "counters and lists are not kept"),
        ("POST", "/reserve", "{\"seconds\":-1}", 400, "send for example {\"seconds\":\"30\"}"),
        ("POST", "/reserve", "{\"seconds\":\"99999999999\"}", 400, "99999999999 s is too long"),
        ("POST", "/alpha/player/connect", "{}", 400, "missing field `playerID`"),
        ("GET", "/ready", "", 405, "this call of the sdk has another method"),
        ("PUT", "/metadata/label", "map", 400, "send for example {\"key\":\"map\",\"value\":\"desert\"}"),
        ("PUT", "/metadata/label", "{\"key\":\"a b\",\"value\":\"c\"}", 400, "label \"a b\" is no name"),
        ("PUT", "/metadata/label", "{\"key\":\"a\",\"value\":\"c d\"}", 400, "label a cannot be \"c d\""),
        (
            "PUT",
            "/greenroom/v1/status",
            "{\"connections\":-1,\"rooms\":[]}",
            400,
            "invalid value: integer `-1`",
        ),
        ("PUT", "/greenroom/v1/status", "{}", 400, "missing field `connections`"),
        ("PUT", "/greenroom/v1/status", &long, 413, "the body is longer than 1048576 bytes"),
        ("POST", "/greenroom/v1/rooms/r%20r/ended", "{\"epoch\":1}", 400, "may not contain ' '"),
        ("POST", "/greenroom/v1/rooms/r/ended", "{}", 400, "missing field `epoch`"),
    ];
    for (method, path, body, status, why) in cases {
        let (found, answer) = sdk.call(method, path, body).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(why), "{method} {path}: {found} {answer}");
        assert_eq!(answer["details"], json!([]), "{method} {path}");
    }
    // One server can never act for another.
    let secrets: Vec<&str> = sdk.bases.iter().map(|base| base.rsplit_once('/').unwrap().1).collect();
    for base in [format!("/arena-1.0/{}", secrets[1]), "/arena-1.0/guess".to_owned(), "/x/y".to_owned()] {
        let (status, answer) = sdk.send(&base, "POST", "/ready", "").await;
        assert_eq!((status, &answer["code"]), (401, &json!(16)), "{answer}");
        let (status, _) = sdk.send(&base, "GET", "/watch/gameserver", "").await;
        assert_eq!(status, 401);
    }
    let (status, answer) = sdk.send(&format!("/arena-1.7/{}", secrets[0]), "POST", "/ready", "").await;
    assert_eq!((status, &answer["message"]), (409, &json!("process arena-1.7 is over")));
    for server in ["arena-1", "arena-2"] {
        assert_eq!(world.phase(server, ProcessPhase::Starting).await.connections, 0);
    }
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let (mut world, sdk) = with_servers(&["arena-1"]).await;
    let (address, base) = (sdk.address.clone(), sdk.bases[0].clone());
    let began = Instant::now();
    let answer = tokio::task::spawn_blocking(move || {
        let head =
            format!("PUT {base}/metadata/label HTTP/1.1\r\nHost: sdk\r\nContent-Length: 100\r\n\r\n{{");
        let mut stream = open(&address, &head);
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert_eq!(answer.await.unwrap(), "HTTP/1.1 408");
    assert!(began.elapsed() < Duration::from_secs(19), "{:?}", began.elapsed());
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn the_next_agent_listens_on_the_same_port_and_goes_on() {
    let (mut world, sdk) = with_servers(&["arena-1"]).await;
    sdk.call("POST", "/ready", "").await;
    sdk.call("PUT", "/metadata/label", r#"{"key":"map","value":"desert"}"#).await;
    world.phase("arena-1", ProcessPhase::Ready).await;
    world.abort_agent().await;
    let reports = world.wait("reports", |heard| Some(heard.reports.len())).await;
    world.start_agent();
    world.wait("a report", |heard| (heard.reports.len() > reports).then_some(())).await;
    assert_eq!(sdk.call("POST", "/health", "").await.0, 200);
    world.phase("arena-1", ProcessPhase::Ready).await;
    let labels = sdk.call("GET", "/gameserver", "").await.1["object_meta"]["labels"].clone();
    assert_eq!(labels["agones.dev/sdk-map"], "desert");
    world.stop_agent().await.unwrap();
}

fn peer(name: &str) -> GameserverStatus {
    let told = json!({
        "name": name, "fleet": "arena", "host": "host-2", "instance": format!("{name}.0"), "revision": "r1",
        "state": "ready", "endpoint": "10.0.0.2:7000", "pid": null, "rooms": 0, "players": 0, "connections": 0,
        "restarts": 0, "started_at_ms": 0, "labels": {"map": "desert"}, "message": "",
    });
    serde_json::from_value(told).unwrap()
}

#[tokio::test]
async fn peers_are_told_over_http_and_watched_as_they_come_and_go() {
    let (mut world, sdk) = with_servers(&["arena-1"]).await;
    world.peers("arena", vec![peer("arena-2")]);
    let (status, list) = sdk.call("GET", "/greenroom/v1/peers", "").await;
    assert_eq!((status, &list["peers"][0]["name"]), (200, &json!("arena-2")), "{list}");
    assert_eq!(list["peers"][0]["labels"], json!({"map": "desert"}));
    let (status, refused) = sdk.call("GET", "/greenroom/v1/peers?fleet=lobby", "").await;
    assert_eq!((status, &refused["message"]), (404, &json!("there is no fleet lobby")));
    for (query, why) in [("?fleet=A+b", "a fleet name"), ("?flet=lobby", "unknown field `flet`")] {
        let (status, refused) = sdk.call("GET", &format!("/greenroom/v1/peers/watch{query}"), "").await;
        let message = refused["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(why), "{query}: {status} {message}");
    }
    let request = format!("GET {}/greenroom/v1/peers/watch HTTP/1.1\r\nHost: sdk\r\n\r\n", sdk.bases[0]);
    let stream = open(&sdk.address, &request);
    let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::task::spawn_blocking(move || {
        // The chunk of no bytes is the end of the answer; the connection stays open for the next one.
        let lines_of = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| line != "0");
        for line in lines_of.filter(|line| line.starts_with('{')) {
            let line: Value = serde_json::from_str(&line).unwrap();
            let result = &line["result"];
            let name = result["peer"]["name"].as_str().or(result["name"].as_str()).unwrap_or("-");
            let _ = lines.send(format!("{} {name}", result["event"].as_str().unwrap()));
        }
    });
    assert_eq!(told.recv().await.as_deref(), Some("joined arena-2"));
    assert_eq!(told.recv().await.as_deref(), Some("known -"));
    world.peers("arena", vec![peer("arena-3")]);
    assert_eq!(told.recv().await.as_deref(), Some("left arena-2"));
    assert_eq!(told.recv().await.as_deref(), Some("joined arena-3"));
    sdk.call("POST", "/shutdown", "").await;
    assert_eq!(told.recv().await, None, "its process is over");
    reading.await.unwrap();
    world.stop_agent().await.unwrap();
}
