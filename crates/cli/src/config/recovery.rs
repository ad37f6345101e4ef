//! Reads how the clients of a fleet come back: `recovery`, `delivery` and `checkpoint_every`, which its nodes read themselves.
//!
//! Never keeps them as more than the variables that a node gets.

use std::time::Duration;

use super::fault::Fault;
use super::fleet::KindWord;
use super::reader::{Section, did_you_mean, value_fault};
use super::{HOUR, RECOVERY_ENVS};

/// The words of `delivery`.
const COMMIT_FIRST: &str = "commit_first";
const DELIVER_FIRST: &str = "deliver_first";

/// The variables for a fleet's nodes.
pub(super) fn read(
    section: &mut Section<'_>,
    kind: Option<KindWord>,
    faults: &mut Vec<Fault>,
) -> Vec<(String, String)> {
    let window = section.duration("recovery", Duration::from_secs(1)..=HOUR * 24, faults);
    let has_window = section.key_span("recovery").is_some();
    let delivery = section.parsed("delivery", faults, |text| {
        let words = [COMMIT_FIRST, DELIVER_FIRST];
        words.into_iter().find(|word| *word == text).ok_or_else(|| {
            let hint = did_you_mean(text, &words).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("is {text:?}; allowed: \"{COMMIT_FIRST}\", \"{DELIVER_FIRST}\"{hint}")
        })
    });
    let every = section.duration("checkpoint_every", Duration::from_millis(50)..=HOUR, faults);
    if let Some(delivery) = &delivery
        && kind == Some(KindWord::Mesh)
        && delivery.value == DELIVER_FIRST
    {
        let why = "delivery = \"deliver_first\" is for kind = \"room\": the servers of a mesh share their events, whose order \
                   is known once they are kept, so none can be delivered before; remove it";
        faults.push(value_fault(delivery.span.clone(), why));
    }
    if let Some(every) = &every {
        let chosen = delivery.as_ref().map(|delivery| delivery.value);
        if kind == Some(KindWord::Mesh) || chosen == Some(COMMIT_FIRST) {
            let why = "checkpoint_every belongs to rooms of deliver_first; where events are kept first there is nothing to \
                       wait for; remove it";
            faults.push(value_fault(every.span.clone(), why));
        }
    }
    for key in ["delivery", "checkpoint_every"] {
        if let Some(span) = section.key_span(key).filter(|_| !has_window) {
            let why = format!(
                "{key} is set without recovery, and so nothing is kept; write for example recovery = \"2m\""
            );
            faults.push(value_fault(span, why));
        }
    }
    let span = |span: Duration| humantime::format_duration(span).to_string();
    let values = [
        window.map(|found| span(found.value)),
        delivery.map(|found| found.value.to_owned()),
        every.map(|found| span(found.value)),
    ];
    let named = RECOVERY_ENVS.into_iter().zip(values);
    named.filter_map(|((_, env), value)| Some((env.to_owned(), value?))).collect()
}
