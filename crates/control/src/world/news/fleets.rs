//! Fleets that stay short of what they should have: told once, and once more when they are whole again.
//!
//! Never tells of what passes: a fleet that grows is short for as long as its servers start.

use std::time::Duration;

use greenroom_core::FleetName;
use greenroom_core::fleet::Reason;
use greenroom_wire::record::NewsEvent;

use super::compose::clock;
use crate::world::World;
use crate::world::state::FleetState;
use crate::world::views::ready;

/// How long a fleet must be whole before it is said to be.
const WHOLE_FOR: Duration = Duration::from_secs(5);

impl World {
    /// One step of all that is told: fleets that are short, digests, posts.
    pub(in crate::world) fn tell_news(&mut self) {
        if !self.news.has_readers() {
            return;
        }
        if !self.is_rebuilding() {
            let names: Vec<FleetName> = self.fleets.keys().cloned().collect();
            for name in names {
                self.watch_fleet(&name);
            }
            self.tell_digests();
        }
        self.news.poll(self.now, &mut self.out);
    }

    fn watch_fleet(&mut self, name: &FleetName) {
        let Some(state) = self.fleets.get(name) else { return };
        let about = format!("short/{name}");
        let short = is_short(state);
        if short == self.news.is_open(&about) {
            self.news.turning.remove(name);
            return;
        }
        let now = self.now;
        let since = *self.news.turning.entry(name.clone()).or_insert(now);
        let hold = if short { state.spec.start_timeout } else { WHOLE_FOR };
        if now.since(since) < hold {
            return;
        }
        let standing = format!("{} of {} gameservers answer", ready(state), state.replicas_wanted);
        if short {
            let mut text = format!("fleet {name} is short: {standing}");
            let failure =
                state.last_failure.as_ref().map(|failed| format!("{} {}", failed.server, failed.message));
            for reason in self.waiting_on(state).into_iter().chain(failure) {
                text.push_str("; ");
                text.push_str(&reason);
            }
            self.news.raise(now, NewsEvent::Failure, about, text, &mut self.out);
        } else {
            let words = |concern: &greenroom_wire::record::NewsConcern| {
                format!("fleet {name} is whole again: {standing}; short since {}", clock(concern.since_ms))
            };
            self.news.settle(now, NewsEvent::Failure, &about, words, &mut self.out);
        }
        self.news.turning.remove(name);
    }
}

fn is_short(state: &FleetState) -> bool {
    let at_maximum = state.waiting_on.iter().any(|reason| matches!(reason, Reason::AtMaximum { .. }));
    at_maximum || ready(state) < state.replicas_wanted
}
