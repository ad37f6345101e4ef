//! The OpenAPI 3.1 documents of both listeners, made from their tables of calls and the types of their bodies.
//!
//! Never written by hand: `docs/openapi.json` and `docs/openapi-players.json` are what this gives, and a test says when
//! they no longer are.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use greenroom_wire::error::ErrorBody;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::export;
use super::players;
use super::route::{Caller, Route};
use super::routes;

static CONTROL: LazyLock<Bytes> = LazyLock::new(|| {
    let about = json!({
        "title": "Greenroom control plane",
        "description": "The calls of the control listener. docs/api.md says more.",
    });
    text(about, &routes::ROUTES)
});

static PLAYERS: LazyLock<Bytes> = LazyLock::new(|| {
    let about = json!({
        "title": "Greenroom for players",
        "description": "The calls of the players' listener, each for the player who makes it. docs/api.md says more.",
    });
    text(about, &players::ROUTES)
});

/// `GET /v1/openapi.json` of the control listener.
pub(crate) async fn of_control() -> Response {
    json_of(&CONTROL)
}

/// `GET /v1/openapi.json` of the players' listener.
pub(crate) async fn of_players() -> Response {
    json_of(&PLAYERS)
}

fn json_of(document: &Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], document.clone()).into_response()
}

/// The document as it is served and kept: indented, with a line break at its end.
fn text<S>(about: Value, routes: &[Route<S>]) -> Bytes {
    let whole = whole(about, routes);
    format!("{}\n", serde_json::to_string_pretty(&whole).expect("plain JSON always encodes")).into()
}

fn whole<S>(about: Value, routes: &[Route<S>]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({ "parameters": names(route.path) }));
        path[route.method.as_str().to_lowercase()] = operation(route, &mut schemas);
    }
    let error = schemas.subschema_for::<ErrorBody>();
    let mut info = about;
    info["version"] = env!("CARGO_PKG_VERSION").into();
    info["license"] = json!({ "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" });
    json!({
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": {
                "Refused": {
                    "description": "Nothing was changed; `code` says why to programs, `message` to people.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The names in a path.
fn names(path: &str) -> Vec<Value> {
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    parts
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect()
}

fn operation<S>(route: &Route<S>, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "responses": answers(route, schemas),
    });
    match route.caller {
        Caller::Role(role) => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = format!("Needs the role `{role}` where tokens are configured.").into();
            operation["x-greenroom-role"] = role.word().into();
        }
        Caller::Player => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = "Needs a player token: a JWT of the back end.".into();
        }
        Caller::Anybody => operation["security"] = json!([]),
    }
    if !route.query.is_empty() {
        let query = route.query.iter().map(|query| {
            let text = matches!(query.0, "fleet" | "labels" | "revision" | "signing_keys");
            let kind = if text { "string" } else { "integer" };
            json!({ "name": query.0, "in": "query", "description": query.1, "schema": { "type": kind } })
        });
        operation["parameters"] = query.collect();
    }
    if let Some(asks) = route.asks {
        let content = json!({ "application/json": { "schema": asks(schemas) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// `get /v1/fleets/{fleet}/rooms` becomes `get_fleets_fleet_rooms`.
fn operation_id<S>(route: &Route<S>) -> String {
    let words = route.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty() && *word != "v1");
    words.fold(route.method.as_str().to_lowercase(), |id, word| format!("{id}_{word}"))
}

fn answers<S>(route: &Route<S>, schemas: &mut SchemaGenerator) -> Value {
    let Some(shape) = route.answers else {
        let (status, answer) = if route.path == "/v1/export" {
            let content = json!({ export::CONTENT: { "schema": { "type": "string" } } });
            ("200", json!({ "description": "Lines of JSON; docs/backup.md says more.", "content": content }))
        } else {
            ("101", json!({ "description": "The stream is open." }))
        };
        return json!({ status: answer, "default": { "$ref": "#/components/responses/Refused" } });
    };
    let content = json!({ "application/json": { "schema": shape(schemas) } });
    let mut answers = json!({
        "200": { "description": route.summary, "content": content },
        "default": { "$ref": "#/components/responses/Refused" },
    });
    if route.path == "/readyz" {
        answers["503"] = json!({ "description": "Not ready yet.", "content": content });
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documents_are_those_that_are_kept() {
        for (name, document) in [("openapi.json", &*CONTROL), ("openapi-players.json", &*PLAYERS)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
            if std::env::var_os("GREENROOM_GOLDEN").is_some_and(|word| word == "write") {
                std::fs::write(&path, document).unwrap();
            }
            let kept = std::fs::read(&path).unwrap();
            assert!(
                kept == *document,
                "docs/{name} is not what the handlers are; GREENROOM_GOLDEN=write renews it"
            );
        }
    }

    #[test]
    fn every_call_is_in_its_document_once_and_every_reference_leads_somewhere() {
        check(&CONTROL, &routes::ROUTES);
        check(&PLAYERS, &players::ROUTES);
    }

    fn check<S>(document: &[u8], routes: &[Route<S>]) {
        let whole: Value = serde_json::from_slice(document).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for route in routes {
            let operation = &whole["paths"][route.path][route.method.as_str().to_lowercase()];
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{} is missing", route.path));
            assert!(ids.insert(id.to_owned()), "{id} twice");
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(is_open, route.caller == Caller::Anybody, "{id}");
            if let Caller::Role(role) = route.caller {
                assert_eq!(operation["x-greenroom-role"], role.word(), "{id}");
            }
        }
        let text = whole.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(whole.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
