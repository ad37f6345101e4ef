//! What a call of a listener is: its path, who may make it, what goes in and what comes out. The router, the access
//! checks and the OpenAPI document are made from tables of these.
//!
//! Never holds a table itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::access::Role;

/// Largest body of most calls, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Everybody who reaches the listener.
    Anybody,
    /// Who has this role at least, where tokens are configured.
    Role(Role),
    /// A player, by a player token, for oneself.
    Player,
}

/// One call; its handler has `S` as its state.
pub(crate) struct Route<S> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) caller: Caller,
    /// What it does, for the description.
    pub(crate) summary: &'static str,
    /// What may stand after the `?`.
    pub(crate) query: &'static [Query],
    /// The body it takes, if any.
    pub(crate) asks: Option<Shape>,
    /// The body it answers with; `None` for what is no JSON.
    pub(crate) answers: Option<Shape>,
    body_bytes_max: usize,
    handler: fn() -> MethodRouter<Arc<S>>,
}

/// A type's schema.
pub(crate) type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query, with what it means.
pub(crate) struct Query(pub(crate) &'static str, pub(crate) &'static str);

fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

impl<S> Route<S> {
    pub(super) fn new(method: Method, path: &'static str, caller: Caller, summary: &'static str) -> Self {
        Self {
            method,
            path,
            caller,
            summary,
            query: &[],
            asks: None,
            answers: None,
            body_bytes_max: BODY_BYTES_MAX,
            handler: MethodRouter::new,
        }
    }

    pub(super) fn by(self, handler: fn() -> MethodRouter<Arc<S>>) -> Self {
        Self { handler, ..self }
    }

    pub(super) fn asks<T: JsonSchema>(self) -> Self {
        Self { asks: Some(of::<T>), ..self }
    }

    pub(super) fn answers<T: JsonSchema>(self) -> Self {
        Self { answers: Some(of::<T>), ..self }
    }

    pub(super) fn query(self, query: &'static [Query]) -> Self {
        Self { query, ..self }
    }

    pub(super) fn takes(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }
}

/// The router of a table, without what surrounds it.
pub(crate) fn router<S: Send + Sync + 'static>(routes: &[Route<S>]) -> Router<Arc<S>> {
    routes.iter().fold(Router::new(), |router, route| {
        let limit = DefaultBodyLimit::max(route.body_bytes_max);
        router.route(route.path, (route.handler)().layer(limit))
    })
}
