//! A small API server: pods and a node, as `kube` calls them. It knows what the documentation promises, and no more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// How the next calls of a kind are answered instead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// With this status.
    Status(u16),
    /// Not at all.
    Silence,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Value>,
    version: u64,
    /// Every patch that came in, those in trouble included: the pod and the body.
    patches: Vec<(String, Value)>,
    trouble: Option<Trouble>,
}

/// The API server. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

/// What RFC 7396 says a merge patch does.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (code, body)
}

impl Fake {
    pub(crate) fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move { Ok::<_, Infallible>(fake.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// From now on; `None` ends it.
    pub(crate) fn trouble(&self, trouble: Option<Trouble>) {
        self.0.lock().unwrap().trouble = trouble;
    }

    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().patches.clone()
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        let kind = head.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let trouble = match (&head.method, &path[..]) {
            (&Method::PATCH, [.., "pods", name]) => {
                let mut state = self.0.lock().unwrap();
                state.patches.push(((*name).to_owned(), body.clone()));
                state.trouble
            }
            _ => None,
        };
        let (code, answer) = match trouble {
            Some(Trouble::Silence) => std::future::pending().await,
            Some(Trouble::Status(code)) => status(code, "Trouble", "as the test wants it"),
            None => self.0.lock().unwrap().answer(&head.method, &path, kind.as_deref(), body),
        };
        let answer = Body::from(serde_json::to_vec(&answer).unwrap());
        Response::builder().status(StatusCode::from_u16(code).unwrap()).body(answer).unwrap()
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &[&str], kind: Option<&str>, body: Value) -> (u16, Value) {
        match (method, path) {
            (&Method::GET, ["api", "v1", "nodes"]) => (200, json!({ "metadata": {}, "items": [node()] })),
            (&Method::GET, ["api", "v1", "nodes", "node-a"]) => (200, node()),
            (&Method::POST, ["api", "v1", "namespaces", _, "pods"]) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                let mut pod = body;
                self.version += 1;
                pod["metadata"]["uid"] = json!(format!("uid-{}", self.version));
                pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.pods.insert(name, pod.clone());
                (201, pod)
            }
            (method, ["api", "v1", "namespaces", _, "pods", name]) => self.pod(method, name, kind, &body),
            _ => status(404, "NotFound", "no such path"),
        }
    }

    fn pod(&mut self, method: &Method, name: &str, kind: Option<&str>, body: &Value) -> (u16, Value) {
        let Some(pod) = self.pods.get_mut(name) else {
            return status(404, "NotFound", &format!("pods {name:?} not found"));
        };
        match *method {
            Method::GET => (200, pod.clone()),
            Method::DELETE => (200, self.pods.remove(name).unwrap()),
            Method::PATCH if kind != Some("application/merge-patch+json") => {
                status(415, "UnsupportedMediaType", "this one knows merge patches alone")
            }
            Method::PATCH if body["metadata"]["uid"] != pod["metadata"]["uid"] => {
                status(409, "Conflict", "the uid is that of another pod")
            }
            Method::PATCH => {
                merge(pod, body);
                self.version += 1;
                pod["metadata"]["resourceVersion"] = json!(self.version.to_string());
                (200, pod.clone())
            }
            _ => status(405, "MethodNotAllowed", "not here"),
        }
    }
}

fn node() -> Value {
    json!({
        "metadata": { "name": "node-a", "labels": { "topology.kubernetes.io/zone": "eu-1a" } },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "10.0.0.7" },
            { "type": "ExternalIP", "address": "203.0.113.7" },
        ] },
    })
}
