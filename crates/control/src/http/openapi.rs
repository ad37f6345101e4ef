//! The OpenAPI 3.1 document of the control listener, made from the table of calls and the types of their bodies.
//!
//! Never written by hand: `docs/openapi.json` is what this gives, and a test says when it no longer is.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use greenroom_wire::error::ErrorBody;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};

static TEXT: LazyLock<Bytes> = LazyLock::new(|| text().into());

/// `GET /v1/openapi.json`.
pub(crate) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
}

/// The document as it is served and kept: indented, with a line break at its end.
fn text() -> String {
    format!("{}\n", serde_json::to_string_pretty(&whole()).expect("plain JSON always encodes"))
}

fn whole() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES.iter() {
        let path = paths.entry(route.path).or_insert_with(|| json!({ "parameters": names(route.path) }));
        path[route.method.as_str().to_lowercase()] = operation(route, &mut schemas);
    }
    let error = schemas.subschema_for::<ErrorBody>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Greenroom control plane",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The calls of the control listener. docs/api.md says more.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
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

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "responses": answers(route, schemas),
    });
    match route.needs {
        Some(role) => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = format!("Needs the role `{role}` where tokens are configured.").into();
            operation["x-greenroom-role"] = role.word().into();
        }
        None => operation["security"] = json!([]),
    }
    if !route.query.is_empty() {
        let query = route.query.iter().map(|query| {
            let text = matches!(query.0, "fleet" | "labels" | "revision");
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
fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty() && *word != "v1");
    words.fold(route.method.as_str().to_lowercase(), |id, word| format!("{id}_{word}"))
}

fn answers(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let Some(shape) = route.answers else {
        return json!({
            "101": { "description": "The stream is open." },
            "default": { "$ref": "#/components/responses/Refused" },
        });
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
    fn the_document_is_the_one_that_is_kept() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        if std::env::var_os("GREENROOM_GOLDEN").is_some_and(|word| word == "write") {
            std::fs::write(&path, text()).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(
            kept == text(),
            "docs/openapi.json is not what the handlers are; GREENROOM_GOLDEN=write renews it"
        );
    }

    #[test]
    fn every_call_is_in_it_once_and_every_reference_leads_somewhere() {
        let whole = whole();
        let mut ids = std::collections::BTreeSet::new();
        for route in ROUTES.iter() {
            let operation = &whole["paths"][route.path][route.method.as_str().to_lowercase()];
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{} is missing", route.path));
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert_eq!(operation["x-greenroom-role"].as_str(), route.needs.map(crate::access::Role::word));
        }
        let text = whole.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(whole.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
