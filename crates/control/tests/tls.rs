//! TLS of the listeners over real sockets: who is inside by certificate, who comes with a token, and that neither stands for
//! the other.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

#[path = "../../tls/tests/support/authority.rs"]
mod authority;
mod support;

use std::path::Path;
use std::sync::Arc;

use authority::Authority;
use greenroom_agent::{AgentConfig, AgentTls};
use greenroom_client::{CallTimes, ClientError, ControlClient};
use greenroom_control::{
    AccessToken, ControlConfig, ControlTls, LoginAlgorithm, LoginConfig, LoginKeys, MutualTls, PlayersConfig,
    Rate, Role, RunError, TokenSource, run,
};
use greenroom_store::MemoryStore;
use greenroom_tls::{PairFiles, Tls};
use greenroom_wire::error::ErrorBody;
use greenroom_wire::secret::Secret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use support::*;

const ADMIN: &str = "admin-0123456789abcdef";
const OPERATE: &str = "operate-0123456789abcdef";

/// A control plane that knows agents and replicas by certificates of `authority`, and others by token.
fn mutual(authority: &Authority) -> ControlConfig {
    let mut config = ControlConfig::new(fleets());
    config.tls = Some(ControlTls {
        pair: authority.sign("control", "localhost greenroom-control", 4000),
        mutual: Some(MutualTls {
            ca: authority.ca(),
            agents: vec!["greenroom-agent".to_owned(), "{host}.agents.test".to_owned()],
            replicas: vec!["greenroom-control".to_owned()],
        }),
    });
    config.tokens = [(Role::Admin, ADMIN), (Role::Operate, OPERATE)]
        .map(|(role, token)| AccessToken {
            name: format!("the-{role}"),
            role,
            source: TokenSource::Value(Secret::new(token)),
        })
        .to_vec();
    config
}

fn caller(authority: &Authority, shown: Option<&PairFiles>) -> reqwest::Client {
    let tls = Tls::open(shown.cloned(), Some(authority.ca())).unwrap();
    let dialling = tls.dialling().unwrap().unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(dialling).build().unwrap()
}

fn by_token(base: &str, token: &str, ca: &Path) -> ControlClient {
    ControlClient::with_ca(base, Some(&Secret::new(token)), CallTimes::default(), Some(ca)).unwrap()
}

#[tokio::test]
async fn certificates_say_who_is_inside_and_tokens_who_operates() {
    let authority = Authority::new("ours");
    let control = Control::start(mutual(&authority), Arc::new(MemoryStore::default())).await;
    let base = format!("https://localhost:{}", control.address.port());
    let agent = authority.sign("agent", "greenroom-agent", 4000);
    let replica = authority.sign("replica", "b.test greenroom-control", 4000);
    let other = authority.sign("other", "printer.test", 4000);
    let (none, agent, replica, other) = (None, Some(&agent), Some(&replica), Some(&other));
    let (fleets, stream, scale) =
        ("GET /v1/fleets", "GET /v1/agents/stream", "POST /v1/fleets/arena/restart");
    // 400 of the stream: it was let in, and is no WebSocket.
    #[rustfmt::skip]
    let cases = [
        ("the probe of an orchestrator", none, "", false, "GET /livez", 200, ""),
        ("nobody", none, "", false, fleets, 401, "this call needs a token"),
        ("an operator", none, OPERATE, false, fleets, 200, ""),
        ("an operator with a wrong token", none, "wrong-0123456789abcdef", false, fleets, 401, "is not known here"),
        ("an agent is no operator", agent, "", false, fleets, 401, "this call needs a token"),
        ("an agent", agent, "", false, stream, 400, ""),
        ("an agent without its certificate", none, ADMIN, false, stream, 401, "only agents open this stream, with a certificate that has the DNS name greenroom-agent, {host}.agents.test; this call came without a certificate"),
        ("a replica is no agent", replica, ADMIN, false, stream, 403, "this call came with one for b.test, greenroom-control"),
        ("another of the authority", other, "", false, stream, 403, "this call came with one for printer.test"),
        ("a replica passes a player's call on", replica, "", true, fleets, 200, ""),
        ("a replica passes an operator's call on", replica, OPERATE, true, fleets, 200, ""),
        ("what a replica passes on has its caller's role", replica, OPERATE, true, scale, 403, "needs the role admin"),
        ("a player's call is none of an administrator", replica, "", true, scale, 401, "this call needs a token"),
        ("a call passed on by nobody", none, OPERATE, true, fleets, 401, "only replicas pass calls on"),
        ("a call passed on by an agent", agent, OPERATE, true, fleets, 403, "only replicas pass calls on"),
        ("a replica that does not pass on", replica, "", false, fleets, 401, "this call needs a token"),
    ];
    for (name, shown, token, is_passed_on, call, status, words) in cases {
        let (method, path) = call.split_once(' ').unwrap();
        let mut asking = caller(&authority, shown).request(method.parse().unwrap(), format!("{base}{path}"));
        if !token.is_empty() {
            asking = asking.bearer_auth(token);
        }
        if is_passed_on {
            asking = asking.header("x-greenroom-forwarded-by", "b");
        }
        let answer = asking.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{name}");
        let body = answer.bytes().await.unwrap();
        if !words.is_empty() {
            let told = serde_json::from_slice::<ErrorBody>(&body).unwrap().error.message;
            assert!(told.contains(words), "{name}: {told}");
        }
    }
    control.end().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_to_the_caller() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let control = Control::start(mutual(&ours), Arc::new(MemoryStore::default())).await;
    let port = control.address.port();
    let base = format!("https://localhost:{port}");
    by_token(&base, OPERATE, &ours.ca()).fleets().await.unwrap();
    let told = async |base: &str, ca: &Path| {
        let error = by_token(base, OPERATE, ca).fleets().await.unwrap_err();
        let ClientError::Tls { why, .. } = error else { panic!("{error:?}") };
        why
    };
    let of_others = told(&base, &theirs.ca()).await;
    assert!(of_others.ends_with("is signed by none of the authorities in ca"), "{of_others}");
    let by_address = told(&format!("https://127.0.0.1:{port}"), &ours.ca()).await;
    assert!(by_address.contains("is not for the name that was dialled"), "{by_address}");
    let plain = reqwest::get(format!("http://localhost:{port}/v1/fleets")).await.unwrap();
    assert_eq!(plain.status().as_u16(), 400);
    assert_eq!(plain.text().await.unwrap(), "this port speaks TLS: write https:// here\n");
    let open = Control::start(ControlConfig::new(fleets()), Arc::new(MemoryStore::default())).await;
    let no_tls = told(&format!("https://localhost:{}", open.address.port()), &ours.ca()).await;
    assert_eq!(no_tls, "the other end does not speak TLS");
}

#[tokio::test]
async fn an_agent_with_its_certificate_is_let_in_without_a_token() {
    let authority = Authority::new("ours");
    let control = Control::start(mutual(&authority), Arc::new(MemoryStore::default())).await;
    let base = format!("https://localhost:{}", control.address.port());
    let folder = tempfile::tempdir().unwrap();
    let mut config = AgentConfig::new("h9".parse().unwrap(), base.clone(), folder.path().to_owned());
    config.ports = 1..=1; // It has no server to start there, as the fleets' commands do not exist.
    config.tls =
        Some(AgentTls { ca: authority.ca(), pair: Some(authority.sign("agent", "h9.agents.test", 4000)) });
    let stop = CancellationToken::new();
    let mut agent = tokio::task::JoinSet::new();
    agent.spawn(greenroom_agent::run(config, stop.clone()));
    let operator = by_token(&base, OPERATE, &authority.ca());
    until("the host is there", async || {
        let hosts = operator.hosts().await.unwrap().hosts;
        hosts.iter().any(|host| host.name.to_string() == "h9" && host.connected).then_some(())
    })
    .await;
    stop.cancel();
    agent.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn players_reach_their_listener_over_tls_and_show_nothing() {
    let authority = Authority::new("public");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut config = ControlConfig::new(fleets());
    config.players = Some(PlayersConfig {
        listen: address,
        tls: Some(authority.sign("public", "localhost", 4000)),
        login: LoginConfig {
            keys: LoginKeys::Shared(vec![Secret::new("0123456789abcdef0123456789abcdef")]),
            algorithms: vec![LoginAlgorithm::Hs256],
            audience: "my-game".to_owned(),
            issuer: None,
        },
        origins: Vec::new(),
        endpoints: vec!["lobby".parse().unwrap()],
        rooms: Vec::new(),
        tickets: Vec::new(),
        rating_claim: None,
        said: greenroom_control::SaidAttributes::default(),
        per_player: Rate { per_second: 100, burst: 100 },
        per_address: Rate { per_second: 100, burst: 100 },
        proxies: 0,
        connections_max: 100,
    });
    let control = Control::start(config, Arc::new(MemoryStore::default())).await;
    until("control serves", async || control.client.fleets().await.ok()).await;
    let url = format!("https://localhost:{}/v1/fleets/lobby/endpoint", address.port());
    let answer = caller(&authority, None).get(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401, "it answers, and asks for a player's token");
}

#[tokio::test]
async fn beyond_loopback_mutual_tls_will_do_and_a_certificate_alone_will_not() {
    let authority = Authority::new("ours");
    let store = Arc::new(MemoryStore::default());
    let stop = CancellationToken::new();
    stop.cancel();
    let mut config = mutual(&authority);
    config.tokens = Vec::new();
    config.listen = "0.0.0.0:0".parse().unwrap();
    run(config.clone(), store.clone(), stop.clone()).await.unwrap();
    let mutual = config.tls.as_mut().unwrap().mutual.take();
    let refused = run(config.clone(), store.clone(), stop.clone()).await.unwrap_err();
    assert!(matches!(refused, RunError::NoTokens(_)), "{refused}");
    config.tls.as_mut().unwrap().mutual = mutual;
    config.tls.as_mut().unwrap().pair.key = authority.folder.path().join("nowhere.key");
    let refused = run(config, store, stop).await.unwrap_err();
    let RunError::Tls(refused) = refused else { panic!("{refused}") };
    assert!(refused.to_string().contains("nowhere.key cannot be read; put it there"), "{refused}");
}
