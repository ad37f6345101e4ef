//! Endpoint answers: which server of a mesh fleet a player dials, and how long the answer counts as load.
//!
//! Never reserves a place: a mesh server refuses by itself when it is full.

use greenroom_core::FleetName;
use greenroom_core::allocate::Selector;
use greenroom_wire::Text;
use greenroom_wire::api::{EndpointAnswer, SelectorBody};

use super::allocation::checked_selector;
use super::state::Ask;
use super::{Refusal, RequestId, World, grant};

impl World {
    pub(super) fn ask_endpoint(
        &mut self,
        request: RequestId,
        name: &FleetName,
        select: Option<&SelectorBody>,
    ) {
        let selector = match checked_selector(select) {
            Ok(selector) => selector,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        let refusal = match self.fleet(name) {
            Err(refusal) => refusal,
            Ok(fleet) if fleet.is_mesh() => {
                let wait = self.config.timings.allocation_wait;
                return self.wait_for_server(request, name, Ask::Endpoint(selector), wait);
            }
            Ok(_) => Refusal::WrongKind {
                fleet: name.clone(),
                kind: "room",
                instead: "ask for POST /v1/fleets/{fleet}/rooms",
            },
        };
        self.reply(request, Err(refusal));
    }

    /// The preferred server; the answer counts as a connection until it expires.
    pub(super) fn endpoint(&mut self, name: &FleetName, selector: &Selector) -> Option<EndpointAnswer> {
        let chosen = self.choose(name, selector)?;
        let because = chosen.why.to_string();
        let chosen = chosen.server;
        let expires_at = self.now + self.config.timings.endpoint_answer;
        let server = self.servers.get_mut(&chosen)?;
        server.in_flight += 1;
        let (endpoint, tls) = (server.endpoint.clone(), server.tls);
        self.in_flight.push_back((expires_at, chosen.clone()));
        self.refresh(&chosen);
        Some(EndpointAnswer {
            fleet: Text(name.clone()),
            server: Text(chosen),
            url: grant::url(&endpoint, tls),
            endpoint: endpoint.into(),
            expires_at_ms: expires_at.unix_ms(),
            because,
        })
    }

    pub(super) fn forget_in_flight(&mut self) {
        while let Some((expires_at, _)) = self.in_flight.front()
            && *expires_at <= self.now
        {
            let Some((_, name)) = self.in_flight.pop_front() else { return };
            if let Some(server) = self.servers.get_mut(&name) {
                server.in_flight = server.in_flight.saturating_sub(1);
            }
            self.refresh(&name);
        }
    }
}
