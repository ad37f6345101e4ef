//! What one call of the matchmaker costs: `cargo run --release -p greenroom-core --example matchmake -- [TICKETS] [ROUNDS]`.
//!
//! Tickets are made from a fixed seed. Each row is the best, the median and the worst of the rounds, one thread, sorting included.

use std::time::{Duration, Instant};

use greenroom_core::Timestamp;
use greenroom_core::matchmake::{Clock, Limits, RatingRule, Rules, Ticket, plan};

const NOW: Timestamp = Timestamp::from_unix_ms(10_000_000);
const UNLIMITED: Limits = Limits { matches_max: usize::MAX, work_max: u64::MAX };
/// As the control plane has them.
const STEP: Limits = Limits { matches_max: 500, work_max: 1_000_000 };

/// A linear congruential generator: the same tickets on every machine.
struct Seeded(u64);

impl Seeded {
    const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Ratings around 1,500 as players have them, and waits of up to a minute.
fn tickets(count: usize, party_max: u64, scale: u64) -> Vec<Ticket> {
    let mut seeded = Seeded(7);
    let build = |n: usize| {
        let sum: u64 = (0..6).map(|_| seeded.below(500 * scale)).sum();
        let size = 1 + seeded.below(party_max);
        Ticket {
            id: format!("t{n}").parse().expect("a letter and digits"),
            players: (0..size).map(|at| format!("p{n}-{at}").parse().expect("visible ASCII")).collect(),
            enqueued_at: NOW - Duration::from_millis(seeded.below(60_000)),
            rating: i32::try_from(sum).expect("far below the bound"),
            keyword: None,
            values: Vec::new(),
        }
    };
    (0..count).map(build).collect()
}

fn rules(players: u16, clock: Option<Clock>, window: u32) -> Rules {
    let rating = clock.map(|clock| RatingRule {
        window,
        widens_by: window / 2,
        every: Duration::from_secs(5),
        window_max: window * 4,
        clock,
        unrated: None,
    });
    Rules { rating, ..Rules::first_come(players) }
}

fn measure(name: &str, tickets: &[Ticket], rules: &Rules, limits: Limits, rounds: usize) {
    let mut spans = Vec::new();
    let (mut matches, mut work) = (0, 0);
    for _ in 0..rounds {
        let begin = Instant::now();
        let plan = plan(tickets, rules, NOW, limits, None);
        spans.push(begin.elapsed());
        (matches, work) = (plan.matches.len(), plan.work);
    }
    spans.sort();
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let (best, median, worst) = (spans[0], spans[rounds / 2], spans[rounds - 1]);
    println!(
        "{name:<58} {:>9.2} {:>9.2} {:>9.2} ms  {matches:>8} matches  {work:>10} work",
        ms(best),
        ms(median),
        ms(worst)
    );
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a whole number"));
    let count = args.next().unwrap_or(100_000);
    let rounds = args.next().unwrap_or(9).max(1);
    let longest = Some(Clock::LongestWaiting);
    let solo = tickets(count, 1, 1);
    // So thin that ratings of four are rarely within a window.
    let thin = tickets(count, 1, 1 + count as u64 / 50);
    let parties = tickets(count, 3, 1);
    println!("{count} tickets, {rounds} rounds");
    measure("solo, fours, nearly all are matched", &solo, &rules(4, longest, 50), UNLIMITED, rounds);
    measure("solo, tens, nearly all are matched", &solo, &rules(10, longest, 50), UNLIMITED, rounds);
    measure("solo, fours, few are matched", &thin, &rules(4, longest, 50), UNLIMITED, rounds);
    measure(
        "solo, fours, strictest window, few are matched",
        &thin,
        &rules(4, Some(Clock::Strictest), 50),
        UNLIMITED,
        rounds,
    );
    measure("parties of 1 to 3, fours", &parties, &rules(4, longest, 50), UNLIMITED, rounds);
    measure("parties of 1 to 3, tens", &parties, &rules(10, longest, 50), UNLIMITED, rounds);
    measure("parties of 1 to 3, fours, first come", &parties, &rules(4, None, 50), UNLIMITED, rounds);
    measure("one step of control: solo, fours", &solo, &rules(4, longest, 50), STEP, rounds);
    measure("one step of control: solo, fours, few are matched", &thin, &rules(4, longest, 50), STEP, rounds);
}
