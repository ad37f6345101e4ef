//! The sections of a scenario about connections that are lost: `[reconnect]` and `[cuts]`.
//!
//! Never checks them against the steps: the load tester does.

use std::time::Duration;

use greenroom_load::flow::{Comeback, CutShape, Cuts, RoomsWanted, SessionWanted};
use toml::de::DeTable;

use super::{DAY, HOUR, SOME, word};
use crate::config::fault::Fault;
use crate::config::reader::{Found, Section, missing};

/// `[reconnect]`, if it is there.
pub(super) fn read(found: Option<Found<&DeTable<'_>>>, faults: &mut Vec<Fault>) -> Option<Comeback> {
    let found = found?;
    let mut section = Section::new("[reconnect]", found.span, found.value);
    let within = section.duration("within", SOME..=HOUR, faults);
    let delay = section.duration("delay", SOME..=Duration::from_secs(60), faults);
    let sessions = [("must", SessionWanted::Must), ("may", SessionWanted::May)];
    let session = section.parsed("recovered", faults, |text| word(text, &sessions));
    let fates = [("stay", RoomsWanted::Stay), ("may_end", RoomsWanted::MayEnd)];
    let rooms = section.parsed("rooms", faults, |text| word(text, &fates));
    section.finish(faults);
    Some(Comeback {
        within: within.map_or(Duration::from_secs(30), |found| found.value),
        delay: delay.map_or(Duration::from_secs(1), |found| found.value),
        session: session.map_or(SessionWanted::May, |found| found.value),
        rooms: rooms.map_or(RoomsWanted::Stay, |found| found.value),
    })
}

/// `[cuts]`, if it is there.
pub(super) fn read_cuts(found: Option<Found<&DeTable<'_>>>, faults: &mut Vec<Fault>) -> Option<Cuts> {
    #[derive(Clone, Copy)]
    enum Shape {
        Storm,
        Churn,
    }
    let found = found?;
    let mut section = Section::new("[cuts]", found.span.clone(), found.value);
    let shapes = [("storm", Shape::Storm), ("churn", Shape::Churn)];
    if section.key_span("shape").is_none() {
        let message = "[cuts] has no shape; write shape = \"storm\" or shape = \"churn\"";
        faults.push(missing(found.span, message));
    }
    let shape = section.parsed("shape", faults, |text| word(text, &shapes));
    let shape = match shape.map_or(Shape::Churn, |found| found.value) {
        Shape::Storm => {
            let at = section.duration("at", Duration::ZERO..=DAY, faults);
            CutShape::Storm { at: at.map_or(Duration::from_secs(10), |found| found.value) }
        }
        Shape::Churn => {
            let every = section.duration("every", Duration::from_millis(100)..=DAY, faults);
            CutShape::Churn { every: every.map_or(Duration::from_secs(5), |found| found.value) }
        }
    };
    let share = section.number("share", 0.0..=1.0, faults).map_or(1.0, |found| found.value);
    let away = section.duration("away", Duration::ZERO..=HOUR, faults);
    section.finish(faults);
    Some(Cuts { shape, share, away: away.map_or(Duration::from_millis(500), |found| found.value) })
}
