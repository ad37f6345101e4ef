//! Answers from what this replica sees in the agents' reports, when it does not reach whoever leads: where a player of a mesh
//! goes, and the lists of servers and hosts.
//!
//! Never writes, promises nothing, and marks what it tells. What is seen is read in `sight`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::Query;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};
use greenroom_core::FleetName;
use greenroom_core::allocate::Selector;
use greenroom_core::fleet::{Fleet, FleetKind};
use greenroom_store::{Store, records};
use greenroom_wire::Text;
use greenroom_wire::api::{EndpointAnswer, GameserverList, HostList};
use greenroom_wire::record::DrainRecord;
use tokio::time::timeout;

use super::calls::{OfFleet, Select};
use super::forward::Asked;
use crate::config::ControlConfig;
use crate::office::Office;
use crate::run::clock;
use crate::sight::{Given, Sight};
use crate::world::{checked_selector, url};

/// On an answer that was seen.
const SEEN: HeaderName = HeaderName::from_static("greenroom-seen");
/// How long a look at the stored drains is good, one that failed too.
const DRAINS_FRESH: Duration = Duration::from_secs(1);
/// How long such a look may take: without the store what it knew last counts.
const DRAINS_TIMEOUT: Duration = Duration::from_millis(200);

/// What can be seen.
#[derive(Debug)]
pub(super) enum Look {
    Endpoint { fleet: Box<Fleet>, selector: Selector },
    Gameservers(Option<FleetName>),
    Hosts,
}

/// Looks for all calls of this replica.
pub(super) struct Onlooker {
    office: Arc<Office>,
    store: Arc<dyn Store>,
    config: Arc<ControlConfig>,
    given: Mutex<Given>,
    drains: tokio::sync::Mutex<(Option<Instant>, Vec<DrainRecord>)>,
}

impl Onlooker {
    pub(super) fn new(office: Arc<Office>, store: Arc<dyn Store>, config: Arc<ControlConfig>) -> Self {
        Self { office, store, config, given: Mutex::default(), drains: tokio::sync::Mutex::default() }
    }

    /// What of a call can be seen; `None`: only the leader can answer it, be it with a refusal.
    pub(super) fn look(&self, asked: &Asked) -> Option<Look> {
        if asked.method != Method::GET {
            return None;
        }
        let uri: Uri = asked.path.parse().ok()?;
        let fleet = |name: &FleetName| self.config.fleets.iter().find(|fleet| fleet.name == *name);
        match uri.path() {
            "/v1/hosts" => Some(Look::Hosts),
            "/v1/gameservers" => {
                let Query(of) = Query::<OfFleet>::try_from_uri(&uri).ok()?;
                let of = of.fleet.map(|name| name.0);
                of.as_ref().is_none_or(|name| fleet(name).is_some()).then_some(Look::Gameservers(of))
            }
            path => {
                let name = path.strip_prefix("/v1/fleets/")?.strip_suffix("/endpoint")?.parse().ok()?;
                let fleet = fleet(&name).filter(|fleet| fleet.kind == FleetKind::Mesh)?;
                let Query(select) = Query::<Select>::try_from_uri(&uri).ok()?;
                let selector = checked_selector(select.body().ok()?.as_ref()).ok()?;
                Some(Look::Endpoint { fleet: Box::new(fleet.clone()), selector })
            }
        }
    }

    /// `None`: there is nothing to be seen now.
    pub(super) async fn answer(&self, look: &Look) -> Option<Response> {
        let drains = match look {
            Look::Endpoint { .. } | Look::Hosts => self.drains().await,
            Look::Gameservers(_) => Vec::new(),
        };
        let silent_after = self.config.timings.host_silent_after;
        let sight = Sight::of(self.office.seen(), Instant::now(), silent_after);
        if sight.is_empty() {
            return None;
        }
        let mut response = match look {
            Look::Endpoint { fleet, selector } => {
                Json(self.endpoint(&sight, fleet, selector, &drains)?).into_response()
            }
            Look::Gameservers(of) => {
                Json(GameserverList { gameservers: sight.gameservers(of.as_ref(), &self.config.fleets) })
                    .into_response()
            }
            Look::Hosts => Json(HostList { hosts: sight.hosts(&drains, clock()) }).into_response(),
        };
        response.headers_mut().insert(SEEN, HeaderValue::from_static("no leader was reached"));
        Some(response)
    }

    fn endpoint(
        &self,
        sight: &Sight,
        fleet: &Fleet,
        selector: &Selector,
        drains: &[DrainRecord],
    ) -> Option<EndpointAnswer> {
        let life = self.config.timings.endpoint_answer;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let pick = sight.choose(fleet, selector, drains, &mut given, life)?;
        Some(EndpointAnswer {
            fleet: Text(fleet.name.clone()),
            server: Text(pick.server),
            url: url(&pick.endpoint, pick.tls),
            endpoint: pick.endpoint,
            expires_at_ms: (clock() + life).unix_ms(),
            because: pick.because,
        })
    }

    /// What people have taken out of use, as it was stored a moment ago or when it could last be read.
    async fn drains(&self) -> Vec<DrainRecord> {
        let mut drains = self.drains.lock().await;
        let (looked_at, known) = &mut *drains;
        if looked_at.is_none_or(|at| at.elapsed() >= DRAINS_FRESH) {
            let read = timeout(DRAINS_TIMEOUT, records::load::<DrainRecord>(&*self.store)).await;
            if let Ok(Ok(stored)) = read {
                *known = stored.into_iter().map(|loaded| loaded.record).collect();
            }
            *looked_at = Some(Instant::now());
        }
        known.clone()
    }
}
