//! Links: results, broadcasts, hostile lines.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use greenroom_wire::agent::{ProcessPhase, ToAgent};
use greenroom_wire::rooms::EndReason;
use greenroom_wire::token::PublicKeys;

use crate::child::{CONNECTIONS, ENDED_ROOM, PUBLISH};
use crate::control::{Manner, World, name, room};

#[tokio::test]
async fn a_result_is_told_again_after_a_reconnect_until_it_is_acknowledged() {
    let mut world = World::new().await;
    world.manner(Manner::NoAcks);
    world.start_agent();
    world.start("arena-1", &[(ENDED_ROOM, "room-1")]);
    world.wait("the result", |heard| heard.ended.first().cloned()).await;
    let hellos = world.hellos();
    // The manner's change ends the session.
    world.manner(Manner::Whole);
    world.wait("the next session", |heard| (heard.hellos.len() > hellos).then_some(())).await;
    world.wait("the result again", |heard| (heard.ended.len() > 1).then_some(())).await;
    world.output("arena-1", "acknowledged room-1").await;
    world.stop_agent().await.unwrap();
    let journal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
    assert_eq!(journal["room_ended"], serde_json::json!([]));
}

#[tokio::test]
async fn a_result_outlives_its_server_and_its_agent() {
    let mut world = World::new().await;
    world.manner(Manner::NoAcks);
    world.start_agent();
    world.start("arena-1", &[(ENDED_ROOM, "room-1"), (CONNECTIONS, "0")]);
    world.wait("the result", |heard| heard.ended.first().cloned()).await;
    world.stop("arena-1");
    world.phase("arena-1", ProcessPhase::Ended).await;
    world.abort_agent().await;
    world.manner(Manner::Whole);
    let told = world.wait("results", |heard| Some(heard.ended.len())).await;
    world.start_agent();
    world.wait("the result again", |heard| (heard.ended.len() > told).then_some(())).await;
    world.stop_agent().await.unwrap();
}

#[tokio::test]
async fn a_broadcast_reaches_the_other_servers_and_orders_reach_theirs() {
    let mut world = World::with_agent().await;
    world.start("arena-1", &[(PUBLISH, "2[\"from-1\"]")]);
    world.start("arena-2", &[(PUBLISH, "2[\"from-2\"]")]);
    world.output("arena-2", "delivered 2[\"from-1\"]").await;
    world.output("arena-1", "delivered 2[\"from-2\"]").await;
    let told = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!(told.connections, 3);
    let server = name("arena-1").into();
    let (room, reason) = (room("room-9").into(), EndReason::Superseded);
    world.order(ToAgent::CloseRoom { term: 1, server, room, epoch: 1, reason });
    world.output("arena-1", "close room-9").await;
    let key = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k", "x": ""});
    let keys: PublicKeys = serde_json::from_value(serde_json::json!({"keys": [key]})).unwrap();
    world.order(ToAgent::Keys { keys });
    world.output("arena-2", "1 keys").await;
    let own = std::fs::read_to_string(world.folder.path().join("agent/logs/arena-1.log")).unwrap();
    assert!(!own.contains("delivered 2[\"from-1\"]"), "nobody gets its own back");
    world.stop_agent().await.unwrap();
}

/// What the agent says to these bytes before it hangs up.
fn say(link: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(link).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The agent may hang up before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[tokio::test]
async fn hostile_lines_end_only_their_own_stream() {
    let mut world = World::with_agent().await;
    world.start("arena-1", &[]);
    world.phase("arena-1", ProcessPhase::Ready).await;
    let journal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.journal()).unwrap()).unwrap();
    let link = format!("127.0.0.1:{}", journal["link_port"]);
    let secret = journal["servers"][0]["link_secret"].as_str().unwrap().to_owned();
    let hello = |secret: &str| {
        format!("{{\"type\":\"hello\",\"version\":1,\"instance\":\"arena-1.0\",\"secret\":\"{secret}\"}}\n")
    };
    let too_long = vec![b'a'; 5 * 1024 * 1024];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no json", b"hello\n".to_vec()),
        ("no text", b"\xff\xfe\n".to_vec()),
        ("unknown message", b"{\"type\":\"shutdown\"}\n".to_vec()),
        ("no hello first", b"{\"type\":\"status\",\"connections\":99,\"rooms\":[]}\n".to_vec()),
        ("wrong secret", hello("guess").into_bytes()),
        ("too long a line", too_long),
    ];
    for (case, bytes) in cases {
        let link = link.clone();
        let answer = tokio::task::spawn_blocking(move || say(&link, &bytes)).await.unwrap();
        assert_eq!(answer, "", "{case}");
    }
    // Even one that knows the secret is dropped for a bad line; the server's own link comes back.
    let bytes = (hello(&secret) + "nonsense\n").into_bytes();
    tokio::task::spawn_blocking(move || say(&link, &bytes)).await.unwrap();
    world.order(ToAgent::CloseRoom {
        term: 1,
        server: name("arena-1").into(),
        room: room("no-matter").into(),
        epoch: 1,
        reason: EndReason::Stopped,
    });
    let told = world.phase("arena-1", ProcessPhase::Ready).await;
    assert_eq!((told.instance.as_str(), told.restarts, told.connections), ("arena-1.0", 0, 3));
    world.stop_agent().await.unwrap();
}
