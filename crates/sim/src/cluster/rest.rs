//! When a cluster has come to rest.
//!
//! Never moves anything.

use greenroom_wire::api::FleetStatus;

use super::Cluster;

impl Cluster {
    /// What still moves; `None` when the cluster is as its fleets ask for, with nobody in it.
    pub(super) fn restless(&mut self) -> Option<String> {
        let under_way = self.callers.under_way() + self.lobby.under_way();
        let unacked: usize = self.hosts.iter().map(|host| host.unacked.len()).sum();
        let (rooms, results) = self.store.open_promises();
        if under_way + unacked + rooms + results > 0 {
            return Some(format!(
                "{under_way} calls and players, {unacked} unacknowledged results, {rooms} rooms, {results} results"
            ));
        }
        let now = self.now();
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        let fleets = self.replicas[leader].lead().map(|lead| lead.fleets(now)).unwrap_or_default();
        if fleets.len() != self.scenario.fleets.len() || self.untidied != Some(0) {
            return Some("orders are not taken back".to_owned());
        }
        fleets.iter().find_map(|fleet| self.unsettled(fleet))
    }

    /// What of this fleet is not as it should be for good.
    fn unsettled(&self, fleet: &FleetStatus) -> Option<String> {
        let servers = self.hosts.iter().flat_map(|host| host.servers.values());
        let ours: Vec<_> = servers.filter(|server| server.order.fleet == fleet.name).collect();
        let current = ours.iter().filter(|server| server.order.revision == fleet.revision).count();
        let rules = self.scenario.fleets.iter().find(|spec| spec.name == fleet.name.0);
        let plain = rules.is_some_and(|spec| spec.autoscale.policies.len() == 1);
        // What other policies want of a fleet that nobody is on depends on what they remember.
        let wanted = if plain { fleet.replicas_min } else { fleet.replicas_wanted };
        let settled = fleet.replicas_wanted == wanted
            && (fleet.replicas_min..=fleet.replicas_max).contains(&wanted)
            && (fleet.replicas, fleet.ready) == (wanted, wanted)
            && ours.len() == wanted as usize;
        // Policies may want more than is allowed, for good.
        let full = wanted == fleet.replicas_max;
        if settled && current == ours.len() && (full || fleet.waiting_on.is_empty()) {
            return None;
        }
        Some(format!("{} run, {current} of them current, and control says {fleet:?}", ours.len()))
    }
}
