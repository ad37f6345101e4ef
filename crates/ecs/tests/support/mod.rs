//! A small ECS task: its metadata, the task protection endpoint of its container agent, and the metadata service of its instance. It
//! knows what AWS' documentation promises, and no more.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{get, put};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What is wrong with an endpoint.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It answers so.
    Answer(u16, String),
    /// It answers what it should, this much later.
    Slow(Duration),
    /// It never answers.
    Silence,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) task: Value,
    pub(crate) container: Value,
    /// For each item of the instance's metadata its value.
    pub(crate) instance: Vec<(&'static str, &'static str)>,
    pub(crate) is_protected: bool,
    /// Every body that the protection endpoint took in, those in trouble included.
    pub(crate) puts: Vec<Value>,
    /// How often a document of the task was asked for.
    pub(crate) metadata_asked: usize,
    pub(crate) protection_trouble: Option<Trouble>,
    pub(crate) metadata_trouble: Option<Trouble>,
    pub(crate) instance_trouble: Option<Trouble>,
}

type Shared = Arc<Mutex<World>>;

/// The task. It is gone when this is dropped.
pub(crate) struct FakeTask {
    pub(crate) world: Shared,
    pub(crate) url: String,
    _serving: JoinSet<()>,
}

impl FakeTask {
    pub(crate) async fn start(network: Value, ports: Value) -> Self {
        let world = World {
            task: json!({
                "Cluster": "default",
                "TaskARN": "arn:aws:ecs:us-west-2:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c",
                "Family": "arena", "Revision": "26", "LaunchType": "EC2", "AvailabilityZone": "us-west-2d",
                "Containers": [],
            }),
            container: json!({ "Name": "greenroom", "Networks": [network], "Ports": ports }),
            instance: vec![("public-ipv4", "203.0.113.25"), ("local-ipv4", "10.0.0.7")],
            ..World::default()
        };
        let world = Arc::new(Mutex::new(world));
        let router = Router::new()
            .route("/v4/abc/task", get(async |State(world)| metadata(&world, |world| &world.task).await))
            .route("/v4/abc", get(async |State(world)| metadata(&world, |world| &world.container).await))
            .route("/agent/task-protection/v1/state", put(protect))
            .route("/latest/api/token", put(token))
            .route("/latest/meta-data/{item}", get(item))
            .with_state(world.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { world, url, _serving: serving }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world.lock().unwrap())
    }
}

type Answer = (StatusCode, String);

/// The answer, as the trouble lets it out.
async fn through(trouble: Option<Trouble>, answer: impl FnOnce() -> Answer) -> axum::response::Response {
    match trouble {
        None => answer().into_response(),
        Some(Trouble::Slow(span)) => {
            tokio::time::sleep(span).await;
            answer().into_response()
        }
        Some(Trouble::Answer(status, body)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Some(Trouble::Silence) => std::future::pending().await,
    }
}

async fn metadata(world: &Shared, which: fn(&World) -> &Value) -> axum::response::Response {
    let trouble = {
        let mut world = world.lock().unwrap();
        world.metadata_asked += 1;
        world.metadata_trouble.clone()
    };
    through(trouble, || (StatusCode::OK, which(&world.lock().unwrap()).to_string())).await
}

async fn protect(State(world): State<Shared>, body: Bytes) -> axum::response::Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let trouble = {
        let mut world = world.lock().unwrap();
        world.puts.push(asked.clone());
        world.protection_trouble.clone()
    };
    let answer = || {
        let enabled = asked["ProtectionEnabled"].as_bool().unwrap();
        let mut world = world.lock().unwrap();
        world.is_protected = enabled;
        let expires = enabled.then_some("2022-10-06T02:29:16Z");
        let told = json!({ "protection": {
            "ExpirationDate": expires, "ProtectionEnabled": enabled, "TaskArn": world.task["TaskARN"],
        }});
        (StatusCode::OK, told.to_string())
    };
    through(trouble, answer).await
}

async fn token(State(world): State<Shared>, headers: HeaderMap) -> axum::response::Response {
    let trouble = world.lock().unwrap().instance_trouble.clone();
    let answer = || match headers.get("x-aws-ec2-metadata-token-ttl-seconds") {
        Some(_) => (StatusCode::OK, "AQAE-token==".to_owned()),
        None => (StatusCode::BAD_REQUEST, String::new()),
    };
    through(trouble, answer).await
}

async fn item(
    State(world): State<Shared>,
    Path(item): Path<String>,
    headers: HeaderMap,
) -> axum::response::Response {
    let token = headers.get("x-aws-ec2-metadata-token").and_then(|token| token.to_str().ok());
    if token != Some("AQAE-token==") {
        return (StatusCode::UNAUTHORIZED, String::new()).into_response();
    }
    let world = world.lock().unwrap();
    match world.instance.iter().find(|(name, _)| *name == item) {
        Some((_, value)) => (StatusCode::OK, (*value).to_owned()).into_response(),
        None => (StatusCode::NOT_FOUND, "<html>404 - Not Found</html>".to_owned()).into_response(),
    }
}
