//! Reads and shows `[fleets.NAME.match]`: who is matched with whom.
//!
//! Never decides: that is `greenroom_core::matchmake`'s. How many play is the fleet's own key `match_players`.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use greenroom_core::fleet::FleetKind;
use greenroom_core::matchmake::{Clock, RatingRule, Rules, Smaller};

use super::HOUR;
use super::fault::Fault;
use super::reader::{Section, did_you_mean, missing, value_fault};
use super::show::{list, span, text};

/// More parts than this part a crowd into nobody.
const BY_MAX: usize = 4;
/// The difference of two ratings of 32 bits.
const WINDOWS: RangeInclusive<i64> = 0..=4_294_967_295;
const RATINGS: RangeInclusive<i64> = -2_147_483_648..=2_147_483_647;
const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=HOUR;

/// Reads the section out of its fleet. Without it, first come is first served.
pub(super) fn read(
    section: &mut Section<'_>,
    kind: Option<FleetKind>,
    players: u16,
    faults: &mut Vec<Fault>,
) -> Rules {
    let title = format!("{}.match]", section.title.trim_end_matches(']'));
    let Some(table) = section.table("match", faults) else { return Rules::first_come(players) };
    let mut section = Section::new(title, table.span.clone(), table.value);
    if kind == Some(FleetKind::Mesh) {
        let why = format!("{} belongs to kind = \"room\"; nobody is matched into a mesh", section.title);
        faults.push(value_fault(table.span, why));
    } else if kind.is_some() && players == 0 {
        let why =
            format!("{} has rules, but the fleet has no match_players; write how many play", section.title);
        faults.push(value_fault(table.span, why));
    }
    let by = by(&mut section, faults);
    let smaller = smaller(&mut section, players, faults);
    let rating = rating(&mut section, players, faults);
    section.finish(faults);
    Rules { players, smaller, by: by.into_iter().map(Into::into).collect(), rating }
}

fn by(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Vec<String> {
    let Some(names) = section.texts("by", faults) else { return Vec::new() };
    if names.value.len() > BY_MAX {
        let why = format!("by has {} attributes; allowed: up to {BY_MAX}", names.value.len());
        faults.push(value_fault(names.span, why));
    }
    let mut by: Vec<String> = Vec::new();
    for name in names.value {
        if let Err(why) = attribute(name.value) {
            faults.push(value_fault(name.span, format!("by has {why}")));
        } else if by.iter().any(|known| known == name.value) {
            faults.push(value_fault(name.span, format!("by has {:?} twice", name.value)));
        } else {
            by.push(name.value.to_owned());
        }
    }
    by
}

/// Whether an attribute can be called so.
pub(super) fn attribute(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(format!("{name:?}; the name of an attribute has 1 to 64 of a-z 0-9 _ -"))
}

fn smaller(section: &mut Section<'_>, players: u16, faults: &mut Vec<Fault>) -> Option<Smaller> {
    let most = i64::from(players.saturating_sub(1)).max(1);
    let least = section.integer::<u16>("players_min", 1..=most, faults);
    let patience = section.duration("patience", Duration::from_secs(1)..=HOUR, faults);
    for (one, other) in [("players_min", "patience"), ("patience", "players_min")] {
        if let Some(span) = section.key_span(one)
            && section.key_span(other).is_none()
        {
            faults.push(missing(span, format!("{one} goes with {other}: fewer play once patience is up")));
        }
    }
    Some(Smaller { players_min: least?.value, patience: patience?.value })
}

fn rating(section: &mut Section<'_>, players: u16, faults: &mut Vec<Fault>) -> Option<RatingRule> {
    let title = format!("{}.rating]", section.title.trim_end_matches(']'));
    let table = section.table("rating", faults)?;
    let mut section = Section::new(title, table.span.clone(), table.value);
    if players > Rules::RATED_PLAYERS_MAX {
        let most = Rules::RATED_PLAYERS_MAX;
        let why = format!("match_players is {players}; matches by rating have at most {most} players");
        faults.push(value_fault(table.span.clone(), why));
    }
    if section.key_span("window").is_none() {
        let why = format!(
            "{} has no window; write how far apart the ratings of a match may be, for example window = 100",
            section.title
        );
        faults.push(missing(table.span, why));
    }
    let window = section.integer::<u32>("window", WINDOWS, faults);
    let widens_by = section.integer::<u32>("widens_by", WINDOWS, faults);
    let every = section.duration("every", EVERY, faults);
    let window_max = section.integer::<u32>("window_max", WINDOWS, faults);
    let unrated = section.integer::<i32>("unrated", RATINGS, faults);
    let clock = section.parsed("clock", faults, |word| {
        Clock::ALL.into_iter().find(|clock| clock.name() == word).ok_or_else(|| {
            let names = Clock::ALL.map(Clock::name);
            let hint = did_you_mean(word, &names).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("is {word:?}; allowed: \"{}\"{hint}", names.join("\", \""))
        })
    });
    let widening = ["widens_by", "window_max"];
    for (one, other) in [(widening[0], widening[1]), (widening[1], widening[0])] {
        if let Some(span) = section.key_span(one)
            && section.key_span(other).is_none()
        {
            faults.push(missing(
                span,
                format!("{one} goes with {other}: say how the window widens, and how far"),
            ));
        }
    }
    let window = window?.value;
    if let (Some(widens_by), Some(window_max)) = (&widens_by, &window_max) {
        let steps = window_max.value.saturating_sub(window).div_ceil(widens_by.value.max(1));
        let why = if window_max.value < window {
            Some(format!("window_max is {}, below window, which is {window}", window_max.value))
        } else if widens_by.value == 0 && window_max.value > window {
            Some("widens_by is 0: the window never widens; leave out widens_by and window_max".to_owned())
        } else if steps > Rules::STEPS_MAX {
            let most = Rules::STEPS_MAX;
            Some(format!(
                "the window widens in {steps} steps; allowed: up to {most}, with a larger widens_by"
            ))
        } else {
            None
        };
        faults.extend(why.map(|why| value_fault(window_max.span.clone(), why)));
    }
    section.finish(faults);
    Some(RatingRule {
        window,
        widens_by: widens_by.map_or(0, |found| found.value),
        every: every.map_or(Duration::from_secs(5), |found| found.value),
        window_max: window_max.map_or(window, |found| found.value),
        clock: clock.map(|found| found.value).unwrap_or_default(),
        unrated: unrated.map(|found| found.value),
    })
}

/// The section as it would be written; nothing where first come is first served.
pub(super) fn write(f: &mut fmt::Formatter<'_>, fleet: &str, rules: &Rules) -> fmt::Result {
    if *rules == Rules::first_come(rules.players) {
        return Ok(());
    }
    writeln!(f, "\n[fleets.{fleet}.match]")?;
    if !rules.by.is_empty() {
        let by: Vec<String> = rules.by.iter().map(ToString::to_string).collect();
        writeln!(f, "by = {}", list(&by))?;
    }
    if let Some(smaller) = rules.smaller {
        writeln!(f, "players_min = {}\npatience = {}", smaller.players_min, span(smaller.patience))?;
    }
    let Some(rule) = rules.rating else { return Ok(()) };
    write!(f, "rating = {{ window = {}, ", rule.window)?;
    if rule.widens_by > 0 {
        let (by, every, most) = (rule.widens_by, span(rule.every), rule.window_max);
        write!(f, "widens_by = {by}, every = {every}, window_max = {most}, ")?;
    }
    if let Some(rating) = rule.unrated {
        write!(f, "unrated = {rating}, ")?;
    }
    writeln!(f, "clock = {} }}", text(rule.clock.name()))
}
