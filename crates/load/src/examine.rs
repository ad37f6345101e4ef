//! Owns the look at each event that a player hears: what the oracles and measures get of it.
//! Never judges it.

use std::time::Duration;

use crate::{
    check::{self, Numbered},
    fact::Measured,
    flow::{Measure, SocketName},
    measure::Measures,
    oracle::Ledger,
    player::PlayerIndex,
    scenario::Scenario,
};

/// Looks at what a player hears for the oracles.
pub(crate) struct Examiner<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Duration,
    pub(crate) index: PlayerIndex,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) measures: &'a mut Measures,
}

impl Examiner<'_> {
    pub(crate) fn examine(&mut self, on: SocketName, event: &str, argument: Option<&str>) {
        let checks = &self.scenario.checks;
        let argument = argument.unwrap_or("null");
        if let Some(check) = &checks.sequence
            && (check.socket, check.event.as_str()) == (on, event)
        {
            match check::numbered(check, self.scenario.seed, argument) {
                Some(Numbered { sender, number, sent }) => {
                    self.ledger.heard(self.index, sender.unwrap_or(self.index.0), number);
                    if let Some((due, sent)) = sent {
                        let [intended, service] = [due, sent].map(|from| self.now.saturating_sub(from));
                        let measured = Measured { measure: Measure::Deliver, due, intended, service };
                        record(self.measures, self.scenario, &measured);
                    }
                }
                None => self.ledger.unreadable(self.index, argument),
            }
        }
        if let Some(check) = &checks.agreed
            && (check.socket, check.event.as_str()) == (on, event)
            && let Some((key, hash)) = check::state(check, argument)
        {
            self.ledger.state(self.index, key, hash, check.skip);
        }
    }
}

/// Counts a time, unless it belongs to the warm-up.
pub(crate) fn record(measures: &mut Measures, scenario: &Scenario, measured: &Measured) {
    if measured.due >= scenario.warm_up {
        measures.record(measured);
    }
}
