//! Reads and shows `[triggers.NAME]`: what is watched, and what is done when it crosses a threshold.
//!
//! Never reads an address that is a secret: of those the file holds references only.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use greenroom_control::world::{FleetGauge, Gauge, GaugeError};
use greenroom_core::fleet::Fleet;
use greenroom_core::trigger::{Reading, Threshold, Trigger};
use greenroom_wire::secret::SecretRef;
use toml::de::DeTable;

use super::HOUR;
use super::fault::Fault;
use super::reader::{Found, Section, did_you_mean, missing, value_fault, wrong_type};
use super::show::{list, span, text};

/// Most of them: all are looked at once a second.
const TRIGGERS_MAX: usize = 100;
/// Default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a reading holds.
const VALUES: std::ops::RangeInclusive<f64> = -1e15..=1e15;

/// One of `[triggers.*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TriggerSection {
    /// Its name.
    pub(crate) name: String,
    /// `metric`.
    pub(crate) gauge: Gauge,
    /// When it fires.
    pub(crate) trigger: Trigger,
    /// What is done then.
    pub(crate) action: ActionSection,
    /// How long that may take. Default 30 s, 1 s to 1 h.
    pub(crate) timeout: Duration,
}

/// What a trigger does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ActionSection {
    /// `exec`: a program and its arguments.
    Exec(Vec<String>),
    /// `post` with the address itself.
    Post(String),
    /// `post` with where the address is.
    PostFrom(SecretRef),
}

/// All of them, by name.
pub(super) fn read(
    found: &Found<&DeTable<'_>>,
    fleets: &[&Fleet],
    faults: &mut Vec<Fault>,
) -> Vec<TriggerSection> {
    let mut triggers = Vec::new();
    if found.value.len() > TRIGGERS_MAX {
        faults.push(value_fault(found.span.clone(), format!("there are more than {TRIGGERS_MAX} triggers")));
    }
    for (name, value) in found.value {
        let word = name.get_ref().as_ref();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=40).contains(&word.len()) || !word.bytes().all(is_plain) {
            let message = format!("a trigger is called {word:?}; write 1 to 40 of a-z, 0-9 and -");
            faults.push(value_fault(name.span(), message));
        }
        match value.get_ref().as_table() {
            Some(table) => triggers.extend(one(word, name.span(), table, fleets, faults)),
            None => {
                faults.push(wrong_type(&format!("triggers.{word}"), value, "a table", "[triggers.grow]"));
            }
        }
    }
    triggers.sort_by(|a, b| a.name.cmp(&b.name));
    triggers
}

fn one(
    name: &str,
    place: Range<usize>,
    table: &DeTable<'_>,
    fleets: &[&Fleet],
    faults: &mut Vec<Fault>,
) -> Option<TriggerSection> {
    let title = format!("[triggers.{name}]");
    let mut section = Section::new(title.clone(), place.clone(), table);
    if section.key_span("metric").is_none() {
        let message = format!("{title} has no metric; write for example metric = \"fleet.arena.players\"");
        faults.push(missing(place, message));
    }
    let gauge = section.parsed("metric", faults, |text| gauge(text, fleets));
    let trigger = trigger(&mut section, faults);
    let action = action(&mut section, faults);
    let timeout = section.duration("timeout", Duration::from_secs(1)..=HOUR, faults);
    section.finish(faults);
    Some(TriggerSection {
        name: name.to_owned(),
        gauge: gauge?.value,
        trigger: trigger?,
        action: action?,
        timeout: timeout.map_or(TIMEOUT, |found| found.value),
    })
}

fn gauge(text: &str, fleets: &[&Fleet]) -> Result<Gauge, String> {
    let wrong = |why: String| format!("is {text:?}; {why}");
    let gauge = text.parse::<Gauge>().map_err(|error| {
        let hint = match &error {
            GaugeError::Word(word) => did_you_mean(word, &FleetGauge::ALL.map(FleetGauge::word)),
            GaugeError::Strange => did_you_mean(text, &Gauge::PLAIN),
            GaugeError::Fleet(_) | GaugeError::Custom => None,
        };
        wrong(hint.unwrap_or_else(|| error.to_string()))
    })?;
    if let Gauge::Fleet { fleet, .. } = &gauge
        && !fleets.iter().any(|known| known.name == *fleet)
    {
        let names: Vec<&str> = fleets.iter().map(|fleet| fleet.name.as_str()).collect();
        let there_are = || format!("there are: {}", names.join(", "));
        let hint = did_you_mean(fleet.as_str(), &names).unwrap_or_else(there_are);
        return Err(wrong(format!("there is no fleet {fleet}; {hint}")));
    }
    Ok(gauge)
}

fn trigger(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Trigger> {
    let mut number = |key| {
        let found = section.number(key, VALUES, faults)?;
        let value = Reading::try_from(found.value).expect("within what a reading holds");
        Some(Found { value, span: found.span })
    };
    let (above, below, rearm) = (number("above"), number("below"), number("rearm"));
    let day = HOUR * 24;
    let hold = section.duration("for", Duration::ZERO..=day, faults);
    let cooldown = section.duration("cooldown", Duration::ZERO..=day * 30, faults);
    let title = &section.title;
    let threshold = match (above, below) {
        (Some(above), None) => Threshold::Above(above.value),
        (None, Some(below)) => Threshold::Below(below.value),
        (Some(_), Some(below)) => {
            faults.push(value_fault(below.span, format!("{title} has above and below; write one of them")));
            return None;
        }
        (None, None) => {
            // What is there and wrong was told.
            if section.key_span("above").or(section.key_span("below")).is_none() {
                let message = format!("{title} has no threshold; write for example above = 100 or below = 2");
                faults.push(missing(section.span.clone(), message));
            }
            return None;
        }
    };
    let mut trigger = Trigger::new(threshold);
    if let Some(rearm) = rearm {
        let is_beyond = match threshold {
            Threshold::Above(value) => rearm.value > value,
            Threshold::Below(value) => rearm.value < value,
        };
        if is_beyond {
            let message = format!(
                "rearm is {}, where the trigger still fires: {threshold}; write a value on its other side",
                rearm.value
            );
            faults.push(value_fault(rearm.span, message));
        }
        trigger.rearm = rearm.value;
    }
    trigger.hold = hold.map_or(trigger.hold, |found| found.value);
    trigger.cooldown = cooldown.map_or(trigger.cooldown, |found| found.value);
    Some(trigger)
}

fn action(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<ActionSection> {
    let (exec, post) = (section.key_span("exec"), section.key_span("post"));
    let command = section.texts("exec", faults);
    let address = section.parsed("post", faults, |text| {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(ActionSection::Post(text.to_owned()));
        }
        text.parse::<SecretRef>().map(ActionSection::PostFrom).map_err(|_| {
            "must be an address such as \"https://example.com/grow\", or \"env:NAME\" or \"file:/path\" of one that is secret".to_owned()
        })
    });
    match (exec, post) {
        (Some(_), Some(place)) => {
            let message = format!("{} has exec and post; write two triggers", section.title);
            faults.push(value_fault(place, message));
            None
        }
        (None, None) => {
            let message = format!(
                "{} does nothing; write for example exec = [\"./grow.sh\"] or post = \"env:HOOK_URL\"",
                section.title
            );
            faults.push(missing(section.span.clone(), message));
            None
        }
        (None, Some(_)) => address.map(|found| found.value),
        (Some(_), None) => {
            let Found { value, span } = command?;
            if value.first().is_none_or(|program| program.value.is_empty()) {
                let message = "exec names no program; write for example exec = [\"./grow.sh\", \"arena\"]";
                faults.push(value_fault(span, message));
                return None;
            }
            Some(ActionSection::Exec(value.iter().map(|word| word.value.to_owned()).collect()))
        }
    }
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, section: &TriggerSection) -> fmt::Result {
    let TriggerSection { name, gauge, trigger, action, timeout } = section;
    writeln!(f, "\n[triggers.{name}]")?;
    writeln!(f, "metric = {}", text(&gauge.to_string()))?;
    match trigger.threshold {
        Threshold::Above(value) => writeln!(f, "above = {value}")?,
        Threshold::Below(value) => writeln!(f, "below = {value}")?,
    }
    writeln!(f, "rearm = {}", trigger.rearm)?;
    writeln!(f, "for = {}", span(trigger.hold))?;
    writeln!(f, "cooldown = {}", span(trigger.cooldown))?;
    match action {
        ActionSection::Exec(command) => writeln!(f, "exec = {}", list(command))?,
        ActionSection::Post(url) => writeln!(f, "post = {}", text(url))?,
        ActionSection::PostFrom(reference) => writeln!(f, "post = {}", text(&reference.to_string()))?,
    }
    writeln!(f, "timeout = {}", span(*timeout))
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn triggers_are_shown_as_they_are_read() {
        let text = r#"
        [triggers.grow]
        metric = "custom.queue"
        above = 100.5
        rearm = 80
        for = "10s"
        cooldown = "5m"
        exec = ["./grow.sh", "it's \"quoted\""]
        timeout = "2m"
        [triggers.few]
        metric = "fleet.arena.free_seats"
        below = 8
        post = "env:HOOK_URL"
        [triggers.silent]
        metric = "hosts.silent"
        above = 0
        post = "http://127.0.0.1:3000/silent"
        [fleets.arena]
        kind = "room"
        seats_per_room = 4
        command = ["./arena"]
        "#;
        let config = parse("greenroom.toml", text).expect("valid");
        assert_eq!(config.triggers.len(), 3);
        let shown = config.to_string();
        assert_eq!(parse("shown.toml", &shown).unwrap_or_else(|faults| panic!("{faults}\n{shown}")), config);
    }

    #[test]
    fn faults_of_triggers_are_told_and_an_address_that_may_be_secret_is_never_written_out() {
        let text = r#"
        [triggers.Grow]
        metric = "fleet.arean.players"
        above = "many"
        exec = []
        [triggers.a]
        metric = "fleet.arena.player"
        above = 1
        below = 2
        exec = ["true"]
        post = "env:A"
        [triggers.b]
        metric = "host.silent"
        above = 10
        rearm = 11
        post = "hooks.example.com/hunter2"
        [triggers.c]
        metrics = "custom.x"
        timeout = "0s"
        [triggers.d]
        metric = "custom.X"
        below = nan
        [fleets.arena]
        kind = "room"
        seats_per_room = 4
        command = ["./arena"]
        "#;
        let told = parse("greenroom.toml", text).expect_err("the text has faults").to_string();
        insta::assert_snapshot!(told);
        assert!(told.lines().filter(|line| !line.contains(" | ")).all(|line| !line.contains("hunter2")));
    }
}
