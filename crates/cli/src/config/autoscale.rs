//! Reads and shows `[fleets.NAME.autoscale]`: how many servers a fleet should have, and how fast it may follow.
//!
//! Never decides: what the policies mean is `greenroom_core::autoscale`'s.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use greenroom_core::autoscale::{Amount, Autoscale, BufferUnit, Calendar, Freeze, Metric, Policy, ScaleIn};
use greenroom_core::fleet::FleetKind;
use toml::de::DeTable;

use super::fault::Fault;
use super::reader::{Section, did_you_mean, missing, value_fault};
use super::show::{span, text};
use super::{HOUR, REPLICAS_MAX};

/// The policies that can be written, as they are written.
const POLICIES: [&str; 4] = ["schedule", "target_average", "buffer", "base_stock"];
const METRICS: [(&str, Metric); 6] = [
    ("connections", Metric::Connections),
    ("players", Metric::Players),
    ("rooms", Metric::Rooms),
    ("connect_rate", Metric::ConnectRate),
    ("tick_lateness", Metric::TickLateness),
    ("loop_lag", Metric::LoopLag),
];
const UNITS: [(&str, BufferUnit); 3] =
    [("servers", BufferUnit::Servers), ("rooms", BufferUnit::Rooms), ("seats", BufferUnit::Seats)];
const DAY: Duration = Duration::from_hours(24);
/// More of anything than one server or fleet has.
const MANY: i64 = 10_000_000;

/// The rules of a fleet; the defaults where there is no section. Waiting players are always served.
pub(super) fn read(
    section: &mut Section<'_>,
    kind: Option<FleetKind>,
    replicas_max: u32,
    faults: &mut Vec<Fault>,
) -> Autoscale {
    let title = format!("{}.autoscale]", section.title.trim_end_matches(']'));
    let Some(table) = section.table("autoscale", faults) else { return Autoscale::default() };
    let mut own = Section::new(title, table.span.clone(), table.value);
    let defaults = Autoscale::default();
    let mut wait = |key, default| {
        own.duration(key, Duration::ZERO..=DAY * 7, faults).map_or(default, |found| found.value)
    };
    let cooldown_out = wait("cooldown_out", defaults.cooldown_out);
    let cooldown_in = wait("cooldown_in", defaults.cooldown_in);
    let settle_in = wait("settle_in", defaults.settle_in);
    let mut step =
        |key| own.integer::<u32>(key, 1..=REPLICAS_MAX, faults).map_or(u32::MAX, |found| found.value);
    let (step_out_max, step_in_max) = (step("step_out_max"), step("step_in_max"));
    let scale_in = own.parsed("scale_in", faults, |word| match word {
        "idle" => Ok(ScaleIn::Idle),
        "cordon" => Ok(ScaleIn::Cordon),
        other => Err(format!("is {other:?}; allowed: \"idle\", \"cordon\"")),
    });
    let mut policies = vec![Policy::Demand];
    for found in own.tables("policies", faults).unwrap_or_default() {
        let one = Section::new(format!("a policy of {}", own.title), found.span.clone(), found.value);
        if let Some((policy, place)) = policy(one, found.value, replicas_max, faults) {
            if kind.is_some_and(|kind| !policy.suits(kind)) {
                let name = policy.name();
                faults.push(value_fault(
                    place,
                    format!("{name} counts rooms or players, which a mesh has not; use target_average of connections, connect_rate, tick_lateness or loop_lag"),
                ));
            }
            policies.push(policy);
        }
    }
    own.finish(faults);
    Autoscale {
        policies,
        cooldown_out,
        cooldown_in,
        settle_in,
        step_out_max,
        step_in_max,
        freeze: Freeze::Nothing,
        scale_in: scale_in.map_or(ScaleIn::Idle, |found| found.value),
    }
}

fn policy(
    mut section: Section<'_>,
    table: &DeTable<'_>,
    replicas_max: u32,
    faults: &mut Vec<Fault>,
) -> Option<(Policy, Range<usize>)> {
    let place = section.span.clone();
    if table.get("policy").is_none() {
        faults.push(missing(
            place,
            format!("{} has no policy; write for example {{ policy = \"base_stock\" }}", section.title),
        ));
        return None;
    }
    let name = section.parsed("policy", faults, |word| {
        if POLICIES.contains(&word) {
            return Ok(word.to_owned());
        }
        let hint =
            did_you_mean(word, &POLICIES).unwrap_or_else(|| format!("allowed: {}", POLICIES.join(", ")));
        Err(format!("is {word:?}; {hint}"))
    })?;
    let policy = match name.value.as_str() {
        "schedule" => schedule(&mut section, replicas_max, faults),
        "target_average" => average(&mut section, faults),
        "buffer" => buffer(&mut section, faults),
        _ => base_stock(&mut section, faults),
    };
    section.finish(faults);
    Some((policy?, place))
}

fn schedule(section: &mut Section<'_>, replicas_max: u32, faults: &mut Vec<Fault>) -> Option<Policy> {
    need(section, "cron", "cron = \"0 18 * * FRI\"", faults);
    need(section, "zone", "zone = \"Asia/Tokyo\"", faults);
    need(section, "lasts", "lasts = \"4h\"", faults);
    need(section, "replicas", "replicas = 30", faults);
    let cron = section.text("cron", faults);
    let zone = section.text("zone", faults);
    let lasts = section.duration("lasts", Duration::from_secs(60)..=DAY * 31, faults);
    let replicas = section.integer::<u32>("replicas", 1..=REPLICAS_MAX, faults)?;
    if replicas.value > replicas_max {
        let message = format!("replicas is {}, above replicas_max, which is {replicas_max}", replicas.value);
        faults.push(value_fault(replicas.span, message));
    }
    let (cron, zone) = (cron?, zone?);
    match Calendar::new(cron.value, zone.value) {
        Ok(calendar) => Some(Policy::Schedule { calendar, lasts: lasts?.value, replicas: replicas.value }),
        Err(invalid) => {
            let place = match invalid {
                greenroom_core::autoscale::InvalidCalendar::Zone(_) => zone.span,
                greenroom_core::autoscale::InvalidCalendar::Pattern { .. }
                | greenroom_core::autoscale::InvalidCalendar::Never(_) => cron.span,
            };
            faults.push(value_fault(place, invalid.to_string()));
            None
        }
    }
}

fn average(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Policy> {
    need(section, "metric", "metric = \"connections\"", faults);
    need(section, "per_server", "per_server = 300", faults);
    let metric = section.parsed("metric", faults, |word| one_of(word, &METRICS));
    let per_server = section.integer::<u32>("per_server", 1..=MANY, faults);
    let spare = section.integer::<u32>("spare", 0..=MANY, faults);
    let metric = metric?.value;
    if let (Some(spare), Metric::TickLateness | Metric::LoopLag) = (&spare, metric) {
        let message = format!("spare means nothing for {}; leave it out", metric.name());
        faults.push(value_fault(spare.span.clone(), message));
    }
    let spare = spare.map_or(0, |found| found.value);
    Some(Policy::TargetAverage { metric, per_server: per_server?.value, spare })
}

fn buffer(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Policy> {
    need(section, "free", "free = \"20%\" or free = \"5\"", faults);
    let amount = section.parsed("free", faults, |word| {
        let amount = match word.strip_suffix('%') {
            Some(part) => part.parse().ok().filter(|part| *part < 100).map(Amount::Percent),
            None => word.parse().ok().map(Amount::Absolute),
        };
        amount.ok_or_else(|| {
            format!("is {word:?}; write a number or a percentage below 100, such as \"5\" or \"20%\"")
        })
    });
    let unit = section.parsed("unit", faults, |word| one_of(word, &UNITS));
    Some(Policy::Buffer { amount: amount?.value, unit: unit.map_or(BufferUnit::Rooms, |found| found.value) })
}

fn base_stock(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Policy> {
    let z = section.number("z", 0.0..=10.0, faults).map_or(3.0, |found| found.value);
    let start_time = section.duration("start_time", Duration::from_secs(1)..=HOUR, faults);
    // Three digits are more than the measure is worth; within bounds it fits.
    let z_milli = format!("{:.0}", z * 1000.0).parse().ok()?;
    Some(Policy::BaseStock { z_milli, start_time: start_time.map_or(Duration::from_secs(30), |f| f.value) })
}

fn need(section: &Section<'_>, key: &str, example: &str, faults: &mut Vec<Fault>) {
    if section.key_span(key).is_none() {
        let message = format!("{} has no {key}; write for example {example}", section.title);
        faults.push(missing(section.span.clone(), message));
    }
}

fn one_of<T: Copy>(word: &str, known: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let hint = did_you_mean(word, &names).unwrap_or_else(|| format!("allowed: {}", names.join(", ")));
        format!("is {word:?}; {hint}")
    })
}

/// The section as it would be written, defaults included.
pub(super) fn write(f: &mut fmt::Formatter<'_>, fleet: &str, rules: &Autoscale) -> fmt::Result {
    writeln!(f, "\n[fleets.{fleet}.autoscale]")?;
    writeln!(f, "cooldown_out = {}", span(rules.cooldown_out))?;
    writeln!(f, "cooldown_in = {}", span(rules.cooldown_in))?;
    writeln!(f, "settle_in = {}", span(rules.settle_in))?;
    for (key, step) in [("step_out_max", rules.step_out_max), ("step_in_max", rules.step_in_max)] {
        if step != u32::MAX {
            writeln!(f, "{key} = {step}")?;
        }
    }
    let scale_in = match rules.scale_in {
        ScaleIn::Idle => "idle",
        ScaleIn::Cordon => "cordon",
    };
    writeln!(f, "scale_in = {}", text(scale_in))?;
    let policies: Vec<String> = rules.policies.iter().filter_map(shown).collect();
    policies.iter().try_for_each(|policy| writeln!(f, "\n[[fleets.{fleet}.autoscale.policies]]\n{policy}"))
}

/// `None` for what is always there or comes from a person's order.
fn shown(policy: &Policy) -> Option<String> {
    let name = policy.name();
    let mut lines = vec![format!("policy = {}", text(name))];
    let mut line = |key: &str, value: &str| lines.push(format!("{key} = {value}"));
    match policy {
        Policy::Demand | Policy::Prewarm { .. } => return None,
        Policy::Schedule { calendar, lasts, replicas } => {
            line("cron", &text(calendar.pattern()));
            line("zone", &text(calendar.zone()));
            line("lasts", &span(*lasts));
            line("replicas", &replicas.to_string());
        }
        Policy::TargetAverage { metric, per_server, spare } => {
            line("metric", &text(metric.name()));
            line("per_server", &per_server.to_string());
            if *spare > 0 {
                line("spare", &spare.to_string());
            }
        }
        Policy::Buffer { amount, unit } => {
            let unit = UNITS.iter().find(|(_, known)| known == unit).map_or("rooms", |(name, _)| *name);
            let free = match amount {
                Amount::Absolute(amount) => amount.to_string(),
                Amount::Percent(percent) => format!("{percent}%"),
            };
            line("free", &text(&free));
            line("unit", &text(unit));
        }
        Policy::BaseStock { z_milli, start_time } => {
            line("z", &format!("{}.{:03}", z_milli / 1000, z_milli % 1000));
            line("start_time", &span(*start_time));
        }
    }
    Some(lines.join("\n"))
}
