//! Reads and shows `[fleets.NAME.full_at]`: when a server that has places gets nothing new.
//!
//! Never decides: what happens then is `greenroom_core::fleet`'s.

use std::fmt;
use std::time::Duration;

use greenroom_core::fleet::FullAt;

use super::fault::Fault;
use super::reader::{Section, missing};
use super::show::span;

/// What is measured is told in whole milliseconds.
const LATE_MIN: Duration = Duration::from_millis(1);
/// Later than this nobody plays.
const LATE_MAX: Duration = Duration::from_mins(1);

/// Reads the section out of its fleet. Without it only places count.
pub(super) fn read(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> FullAt {
    let title = format!("{}.full_at]", section.title.trim_end_matches(']'));
    let Some(table) = section.table("full_at", faults) else { return FullAt::default() };
    let mut section = Section::new(title, table.span, table.value);
    let connections = section.integer::<u32>("connections", 1..=i64::from(u32::MAX), faults);
    let tick_lateness = section.duration("tick_lateness", LATE_MIN..=LATE_MAX, faults);
    let loop_lag = section.duration("loop_lag", LATE_MIN..=LATE_MAX, faults);
    let keys = ["connections", "tick_lateness", "loop_lag"];
    if keys.iter().all(|key| section.key_span(key).is_none()) {
        let why = format!(
            "{} sets no cap; write connections, tick_lateness or loop_lag, such as loop_lag = \"100ms\"",
            section.title
        );
        faults.push(missing(section.span.clone(), why));
    }
    section.finish(faults);
    // At most a minute, as was just asked.
    let ms = |late: Duration| u32::try_from(late.as_millis()).unwrap_or(u32::MAX);
    FullAt {
        connections: connections.map(|found| found.value),
        tick_lateness_ms: tick_lateness.map(|found| ms(found.value)),
        loop_lag_ms: loop_lag.map(|found| ms(found.value)),
    }
}

/// The section as it would be written; nothing when only places count.
pub(super) fn write(f: &mut fmt::Formatter<'_>, fleet: &str, caps: &FullAt) -> fmt::Result {
    if *caps == FullAt::default() {
        return Ok(());
    }
    writeln!(f, "\n[fleets.{fleet}.full_at]")?;
    if let Some(connections) = caps.connections {
        writeln!(f, "connections = {connections}")?;
    }
    let late = [("tick_lateness", caps.tick_lateness_ms), ("loop_lag", caps.loop_lag_ms)];
    late.into_iter().try_for_each(|(key, cap)| {
        let cap = cap.map(|ms| span(Duration::from_millis(ms.into())));
        cap.map_or(Ok(()), |cap| writeln!(f, "{key} = {cap}"))
    })
}
