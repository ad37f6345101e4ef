//! The shipped traces, as they were made.
//!
//! Never uses more than whole numbers, so that the same text comes out on every machine.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::fmt::Write as _;

/// The shipped traces: name, what it is, text.
pub const SHIPPED: [(&str, &str, &str); 4] = [
    ("day", "one day of one region", include_str!("../../traces/day.csv")),
    (
        "spike",
        "three times as many for 20 min, then eight times for 3 min",
        include_str!("../../traces/spike.csv"),
    ),
    ("release", "next to nobody, then everybody at once", include_str!("../../traces/release.csv")),
    ("evenings", "the evenings of three regions", include_str!("../../traces/evenings.csv")),
];

/// From the second of the trace to rooms an hour and how long they live in seconds.
type Curve = fn(u32) -> (u32, u32);

/// Makes the shipped trace of this name anew. `None` when there is none of this name.
#[must_use]
pub fn generate(name: &str) -> Option<String> {
    let (seed, step_s, hours, curve): (u64, u32, u32, Curve) = match name {
        "day" => (1, 300, 24, day),
        "spike" => (2, 60, 6, spike),
        "release" => (3, 60, 12, release),
        "evenings" => (4, 300, 24, evenings),
        _ => return None,
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let what = SHIPPED.iter().find(|(shipped, ..)| *shipped == name).map_or("", |(_, what, _)| what);
    let mut text =
        format!("# {name}: {what}. Made by crates/sim/src/replay/generate.rs.\nseconds,arrivals,session_s\n");
    for at_s in (0..hours * 3600).step_by(usize::try_from(step_s).expect("a step is small")) {
        let (per_hour, session_s) = curve(at_s);
        let mean = per_hour * step_s / 3600;
        let _infallible = writeln!(text, "{at_s},{},{session_s}", uneven(&mut random, mean));
    }
    let _infallible = writeln!(text, "{},0,1", hours * 3600);
    Some(text)
}

/// A count around `mean`, as independent callers give it: of twenty times as many each comes with one in twenty.
fn uneven(random: &mut ChaCha8Rng, mean: u32) -> u32 {
    u32::try_from((0..mean * 20).filter(|_| random.random_range(0..20) == 0).count()).unwrap_or(u32::MAX)
}

/// Between the points of one an hour, in rooms an hour.
fn between(hourly: &[u32; 24], at_s: u32) -> u32 {
    let (hour, second) = (at_s / 3600 % 24, at_s % 3600);
    let at = |hour: u32| hourly[usize::try_from(hour % 24).expect("a small number")];
    (at(hour) * (3600 - second) + at(hour + 1) * second) / 3600
}

fn day(at_s: u32) -> (u32, u32) {
    const HOURLY: [u32; 24] = [
        540, 360, 240, 180, 120, 120, 180, 300, 480, 600, 720, 840, 960, 900, 840, 840, 960, 1200, 1500,
        1800, 1920, 1800, 1320, 840,
    ];
    (between(&HOURLY, at_s), 600)
}

fn spike(at_s: u32) -> (u32, u32) {
    let times = match at_s {
        7_200..8_400 => 3,
        14_400..14_580 => 8,
        _ => 1,
    };
    (600 * times, 600)
}

fn release(at_s: u32) -> (u32, u32) {
    let Some(since) = at_s.checked_sub(7_200) else { return (60, 600) };
    let per_hour = 1_200 + 2_400 * (36_000 - since.min(36_000)) / 36_000;
    // In the first hour many come, look and leave again.
    (per_hour, if since < 3_600 { 300 } else { 900 })
}

fn evenings(at_s: u32) -> (u32, u32) {
    // Each evening rises and falls over three hours around its peak; the day is a circle.
    let rooms = [(1, 900), (11, 1_500), (19, 1_200)].iter().map(|(peak_h, height)| {
        let apart = at_s.abs_diff(peak_h * 3600);
        let apart = apart.min(86_400 - apart);
        height * (10_800 - apart.min(10_800)) / 10_800
    });
    (180 + rooms.sum::<u32>(), 900)
}
