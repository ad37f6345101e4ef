//! Reads and shows `[[control.notify]]`: who outside is told what happens.
//!
//! Never reads an address: whoever has it may post there, so the file holds references only.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use greenroom_control::world::Subscription;
use greenroom_wire::record::NewsEvent;
use greenroom_wire::secret::SecretRef;

use super::HOUR;
use super::fault::Fault;
use super::reader::{Section, missing, value_fault};
use super::show::{list, span, text};

/// Most of them.
const READERS_MAX: usize = 16;
/// Default of `per_minute_max`.
const PER_MINUTE: u32 = 6;

/// One of `[[control.notify]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotifySection {
    /// Where its address is.
    pub(crate) url: SecretRef,
    /// Its name, and what it is told.
    pub(crate) wants: Subscription,
}

pub(super) fn read(control: &mut Section<'_>, faults: &mut Vec<Fault>) -> Vec<NotifySection> {
    let mut readers: Vec<NotifySection> = Vec::new();
    for table in control.tables("notify", faults).unwrap_or_default() {
        let mut section = Section::new("[[control.notify]]", table.span.clone(), table.value);
        for (key, example) in [("name", "\"ops\""), ("url", "\"file:/run/secrets/slack\"")] {
            if section.key_span(key).is_none() {
                let message =
                    format!("a receiver of notifications has no {key}; write for example {key} = {example}");
                faults.push(missing(table.span.clone(), message));
            }
        }
        let name = section.parsed("name", faults, |text| {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let fits = (1..=40).contains(&text.len()) && text.bytes().all(is_plain);
            let message = format!("is {text:?}; write 1 to 40 of a-z, 0-9 and -, such as \"ops\"");
            if fits { Ok(text.to_owned()) } else { Err(message) }
        });
        let url = section
            .parsed("url", faults, |text| text.parse::<SecretRef>().map_err(|error| error.to_string()));
        let events = events(&mut section, faults);
        let digest_every = section.duration("digest_every", Duration::from_mins(1)..=HOUR * 24 * 30, faults);
        let per_minute = section.integer::<u32>("per_minute_max", 1..=60, faults);
        section.finish(faults);
        if readers.len() == READERS_MAX {
            let message = format!("there are more than {READERS_MAX} receivers of notifications");
            faults.push(value_fault(table.span, message));
        }
        let (Some(name), Some(url)) = (name, url) else { continue };
        if readers.iter().any(|known| known.wants.name == name.value) {
            let message = format!("two receivers of notifications have the name {:?}", name.value);
            faults.push(value_fault(name.span, message));
        }
        let wants = Subscription {
            name: name.value,
            events,
            digest_every: digest_every.map(|found| found.value),
            per_minute_max: per_minute.map_or(PER_MINUTE, |found| found.value),
        };
        readers.push(NotifySection { url: url.value, wants });
    }
    readers
}

/// All of them where there is no word of it; none for an empty list: digests alone.
fn events(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> BTreeSet<NewsEvent> {
    let Some(found) = section.texts("events", faults) else {
        return NewsEvent::CHOICES.into_iter().collect();
    };
    let mut events = BTreeSet::new();
    for word in found.value {
        match word.value.parse::<NewsEvent>() {
            Ok(event) => drop(events.insert(event)),
            Err(error) => {
                faults.push(value_fault(word.span, format!("events has {:?}; {error}", word.value)));
            }
        }
    }
    events
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, section: &NotifySection) -> fmt::Result {
    let NotifySection { url, wants } = section;
    writeln!(f, "\n[[control.notify]]")?;
    writeln!(f, "name = {}", text(&wants.name))?;
    writeln!(f, "url = {}", text(&url.to_string()))?;
    let words: Vec<String> = wants.events.iter().map(ToString::to_string).collect();
    writeln!(f, "events = {}", list(&words))?;
    if let Some(every) = wants.digest_every {
        writeln!(f, "digest_every = {}", span(every))?;
    }
    writeln!(f, "per_minute_max = {}", wants.per_minute_max)
}
