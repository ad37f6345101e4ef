//! The listener for players at a replica that does not lead: players notice nothing, also when the leader dies.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_control::lease::LeaseTimes;
use greenroom_control::{
    AccessToken, ControlConfig, LoginAlgorithm, LoginConfig, LoginKeys, PlayersConfig, Rate, ReplicaConfig,
    Role, SaidAttributes, TokenSource,
};
use greenroom_store::MemoryStore;
use greenroom_wire::api::Allocation;
use greenroom_wire::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use support::*;

const SECRET: &str = "a secret of at least thirty-two bytes";
const TIMES: LeaseTimes = LeaseTimes {
    lease: Duration::from_millis(600),
    renew: Duration::from_millis(150),
    poll: Duration::from_millis(40),
};

fn api_token(role: Role) -> Secret {
    Secret::new(format!("{role}-0123456789abcdef"))
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A replica that asks for tokens, with a listener for players at the second address.
async fn replica(name: &str, store: &MemoryStore) -> (Control, SocketAddr) {
    let (address, players) = (free_address().await, free_address().await);
    let mut config = ControlConfig::new(fleets());
    config.tokens = [Role::Operate, Role::Agent]
        .map(|role| AccessToken {
            name: format!("the-{role}"),
            role,
            source: TokenSource::Value(api_token(role)),
        })
        .to_vec();
    config.replica = Some(ReplicaConfig {
        times: TIMES,
        token: Some(api_token(Role::Operate)),
        ..ReplicaConfig::new(name, format!("http://{address}"))
    });
    let rate = Rate { per_second: 1_000, burst: 1_000 };
    config.players = Some(PlayersConfig {
        listen: players,
        tls: None,
        login: LoginConfig {
            keys: LoginKeys::Shared(vec![Secret::new(SECRET)]),
            algorithms: vec![LoginAlgorithm::Hs256],
            audience: "my-game".to_owned(),
            issuer: None,
        },
        origins: Vec::new(),
        endpoints: Vec::new(),
        rooms: vec!["hall".parse().unwrap()],
        tickets: Vec::new(),
        rating_claim: None,
        said: SaidAttributes::default(),
        per_player: rate,
        per_address: rate,
        proxies: 0,
        connections_max: 100,
    });
    (Control::start_at(address, config, Arc::new(store.clone())).await, players)
}

/// Not being ready is an answer too: nobody may lead for a moment.
async fn until_role(control: &Control, role: &str) {
    until(role, async || {
        let answer = reqwest::get(format!("{}/readyz", control.client.base())).await.ok()?;
        let body: Value = answer.json().await.ok()?;
        (body["replica"]["role"] == role).then_some(())
    })
    .await;
}

/// A seat for the player in the room of the key; the words of the refusal otherwise.
async fn seat(players: SocketAddr, player: &str) -> Result<Allocation, String> {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let claims = json!({ "sub": player, "aud": "my-game", "exp": exp });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token =
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key);
    let url = format!("http://{players}/v1/fleets/hall/rooms");
    let asking = reqwest::Client::new().post(url).bearer_auth(token.unwrap());
    let answer = asking.json(&json!({ "key": "guild" })).send().await.unwrap();
    let text = answer.text().await.unwrap();
    serde_json::from_str(&text).map_err(|_| text)
}

#[tokio::test]
async fn players_at_a_follower_have_their_rooms_also_while_the_leader_dies() {
    let store = MemoryStore::default();
    let (first, _) = replica("a", &store).await;
    until_role(&first, "leader").await;
    let token = api_token(Role::Agent);
    let agent = FakeAgent::connect_as(first.address, "boot", BTreeMap::new(), token.expose()).await;
    let (second, players) = replica("b", &store).await;
    until_role(&second, "follower").await;
    let room = until("the fleet is there", async || seat(players, "ann").await.ok()).await;
    let running = agent.edit(|_| {}).await;
    let _other = FakeAgent::connect_as(second.address, "boot", running, token.expose()).await;

    drop(first);
    let again = seat(players, "ann").await.unwrap();
    assert_eq!((&again.room, &again.url, again.seats[0].seat), (&room.room, &room.url, room.seats[0].seat));
    let joined = seat(players, "bob").await.unwrap();
    assert_eq!(joined.room, room.room, "held until somebody led");
    until_role(&second, "leader").await;
}
