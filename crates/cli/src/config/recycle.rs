//! Reads and shows `[fleets.NAME.recycle]`: when a server has done enough.
//!
//! Never decides: what happens then is `greenroom_core::fleet`'s.

use std::fmt;
use std::time::Duration;

use greenroom_core::fleet::{FleetKind, Recycle};

use super::fault::Fault;
use super::reader::{Section, did_you_mean, missing, value_fault};
use super::show::{span, text};

/// Shorter than this a fleet would do nothing but start.
const AGE_MIN: Duration = Duration::from_mins(1);
const AGE_MAX: Duration = Duration::from_hours(24 * 30);
/// Below this no runtime even starts.
const MEMORY_MIN: u64 = 8 << 20;
/// The units that memory is written in, the largest first.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads the section out of its fleet. Without it servers are never worn.
pub(super) fn read(section: &mut Section<'_>, kind: Option<FleetKind>, faults: &mut Vec<Fault>) -> Recycle {
    let title = format!("{}.recycle]", section.title.trim_end_matches(']'));
    let Some(table) = section.table("recycle", faults) else { return Recycle::default() };
    let mut section = Section::new(title, table.span, table.value);
    let age = section.duration("age", AGE_MIN..=AGE_MAX, faults);
    let rooms = section.integer::<u32>("rooms", 1..=i64::from(u32::MAX), faults);
    let memory = section.parsed("memory", faults, memory);
    if let (Some(rooms), Some(FleetKind::Mesh)) = (&rooms, kind) {
        let why = format!("rooms belongs to kind = \"room\"; {} can have age and memory", section.title);
        faults.push(value_fault(rooms.span.clone(), why));
    }
    let is_empty = ["age", "rooms", "memory"].iter().all(|key| section.key_span(key).is_none());
    if is_empty {
        let why = format!(
            "{} sets no limit; write age, rooms or memory, such as memory = \"512MiB\"",
            section.title
        );
        faults.push(missing(section.span.clone(), why));
    }
    section.finish(faults);
    Recycle {
        age: age.map(|found| found.value),
        rooms: rooms.map(|found| found.value),
        memory_bytes: memory.map(|found| found.value),
    }
}

fn memory(word: &str) -> Result<u64, String> {
    let example = "write a whole number and a unit, such as \"512MiB\" or \"2GiB\"";
    let unreadable = || format!("is {word:?}, which is no size; {example}");
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = (&word[..digits], word[digits..].trim());
    let number: u64 = number.parse().map_err(|_| unreadable())?;
    let Some((_, bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let names = UNITS.map(|(name, _)| name);
        let hint = did_you_mean(unit, &names).unwrap_or_else(|| format!("allowed: {}", names.join(", ")));
        return Err(format!("is {word:?}, whose unit is {unit:?}; {hint}"));
    };
    let bytes = number.checked_mul(*bytes).ok_or_else(unreadable)?;
    if bytes < MEMORY_MIN {
        return Err(format!("is {word:?}; allowed: from {}", size(MEMORY_MIN)));
    }
    Ok(bytes)
}

/// A size in the largest unit that it is a whole number of.
fn size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes.is_multiple_of(*unit));
    // All sizes come from `memory`, which knows no smaller unit.
    unit.map_or_else(|| format!("{}KiB", bytes >> 10), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// The section as it would be written; nothing when servers are never worn.
pub(super) fn write(f: &mut fmt::Formatter<'_>, fleet: &str, recycle: &Recycle) -> fmt::Result {
    if *recycle == Recycle::default() {
        return Ok(());
    }
    writeln!(f, "\n[fleets.{fleet}.recycle]")?;
    if let Some(age) = recycle.age {
        writeln!(f, "age = {}", span(age))?;
    }
    if let Some(rooms) = recycle.rooms {
        writeln!(f, "rooms = {rooms}")?;
    }
    recycle.memory_bytes.map_or(Ok(()), |bytes| writeln!(f, "memory = {}", text(&size(bytes))))
}
