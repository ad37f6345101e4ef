//! What a player's ticket is matched by, and who says it: the rating and what the token vouches for are never the player's own word.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_control::{
    ControlConfig, LoginAlgorithm, LoginConfig, LoginKeys, PlayersConfig, Rate, SaidAttributes, Says,
};
use greenroom_core::matchmake::{Clock, RatingRule, Rules};
use greenroom_store::MemoryStore;
use greenroom_wire::error::{Code, ErrorBody};
use greenroom_wire::secret::Secret;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use support::*;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A token of a player with some claims more.
fn token(player: &str, more: &Value) -> String {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 600;
    let mut claims = json!({ "sub": player, "aud": "my-game", "exp": until });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn players(listen: SocketAddr) -> PlayersConfig {
    let rate = Rate { per_second: 1_000, burst: 1_000 };
    PlayersConfig {
        listen,
        tls: None,
        login: LoginConfig {
            keys: LoginKeys::Shared(vec![Secret::new(SECRET)]),
            algorithms: vec![LoginAlgorithm::Hs256],
            audience: "my-game".to_owned(),
            issuer: None,
        },
        origins: Vec::new(),
        endpoints: Vec::new(),
        rooms: Vec::new(),
        tickets: vec!["arena".parse().unwrap()],
        rating_claim: Some("elo".to_owned()),
        said: SaidAttributes([("mode".to_owned(), Says::Player), ("tier".to_owned(), Says::Token)].into()),
        per_player: rate,
        per_address: rate,
        proxies: 0,
        connections_max: 100,
    }
}

/// The arena matches by mode, tier and rating here.
fn rated() -> ControlConfig {
    let mut fleets = fleets();
    let arena = fleets.iter_mut().find(|fleet| fleet.name.as_str() == "arena").unwrap();
    arena.matching = Rules {
        by: vec!["mode".into(), "tier".into()],
        rating: Some(RatingRule {
            window: 100,
            widens_by: 0,
            every: Duration::from_secs(1),
            window_max: 100,
            clock: Clock::LongestWaiting,
            unrated: None,
        }),
        ..arena.matching.clone()
    };
    ControlConfig::new(fleets)
}

#[tokio::test]
async fn a_rating_and_what_is_vouched_for_come_from_the_token_alone() {
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = ControlConfig { players: Some(players(listen)), ..rated() };
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    let _agent = FakeAgent::connect(control.address, "b1", BTreeMap::new()).await;
    control.ready().await;
    let http = reqwest::Client::new();
    let file = async |token: String, body: Value| {
        let call =
            http.post(format!("http://{listen}/v1/fleets/arena/tickets")).bearer_auth(token).json(&body);
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let refused = async |token: String, body: Value| {
        let (_, text) = file(token, body).await;
        serde_json::from_str::<ErrorBody>(&text).unwrap_or_else(|_| panic!("it was taken: {text}")).error.code
    };

    let vouched = json!({ "elo": 1520, "tier": "gold" });
    let duel = json!({ "attributes": { "mode": "duel" } });
    let (status, text) = file(token("ann", &vouched), duel.clone()).await;
    assert_eq!(status, 200, "{text}");
    let filed: Value = serde_json::from_str(&text).unwrap();
    let ticket = control.get_json(&format!("/v1/tickets/{}", filed["ticket"].as_str().unwrap())).await;
    assert_eq!(ticket["rating"], 1520, "{ticket}");
    assert_eq!(ticket["attributes"], json!({ "mode": "duel", "tier": "gold" }));

    // What a player claims of himself.
    assert_eq!(refused(token("eve", &vouched), json!({ "rating": 9000 })).await, Code::BadRequest);
    let tier = json!({ "attributes": { "mode": "duel", "tier": "bronze" } });
    assert_eq!(refused(token("eve", &vouched), tier).await, Code::Forbidden);
    let unknown = json!({ "attributes": { "mode": "duel", "rank": "1" } });
    assert_eq!(refused(token("eve", &vouched), unknown).await, Code::Forbidden);
    // A slip of the back end is seen, and no ticket goes without what the fleet matches by.
    assert_eq!(
        refused(token("eve", &json!({ "elo": "much", "tier": "gold" })), duel.clone()).await,
        Code::Unauthorized
    );
    assert_eq!(refused(token("eve", &json!({ "tier": "gold" })), duel).await, Code::BadRequest);
    assert_eq!(control.client.overview().await.unwrap().totals.tickets, 1, "ann's alone");
}
