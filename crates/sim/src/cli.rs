//! The simulation as a program.
//!
//! Never part of a run: it only chooses seeds and prints.

use std::process::ExitCode;
use std::time::Instant;

/// Seeds that once failed, one a line; `#` begins a remark.
const SEEDS: &str = include_str!("../seeds.txt");

const USAGE: &str =
    "usage: greenroom-sim [--seed N | --first N | --count N | --day [N] | --leaky [N] | --seeds | --trace NAME]
  --seed N    play seed N
  --first N   play the seeds 1 to N
  --count N   play N fresh seeds (default 200)
  --day [N]   play seed N, or a fresh one, as 24 hours of noisy load
  --leaky [N] play seed N, or a fresh one, as ten hours of noisy load on servers that leak
  --seeds     play the seeds of crates/sim/seeds.txt
  --trace NAME  print the trace day, spike, release or evenings as it is made";

/// Plays what the arguments (without the program's name) ask for and prints each seed's outcome. 0 when nothing was
/// violated, 1 when something was, 2 for arguments that make no sense.
pub fn main_with_args(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    if let [option, name] = args.as_slice()
        && option == "--trace"
        && let Some(text) = crate::replay::generate(name)
    {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    let (seeds, run): (_, fn(u64) -> Played) = match args.as_slice() {
        [option, rest @ ..] if option == "--day" => (day_of(rest), |seed| crate::run_day(seed, 24)),
        [option, rest @ ..] if option == "--leaky" => (day_of(rest), |seed| crate::run_leaky(seed, 10)),
        _ => (seeds_of(&args), crate::run),
    };
    let Some(seeds) = seeds else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let played: Vec<Option<[u64; 2]>> = seeds.iter().map(|seed| play(*seed, run)).collect();
    let failed = played.iter().filter(|played| played.is_none()).count();
    let seconds = begun.elapsed().as_secs_f64();
    let [steps, events] =
        played.into_iter().flatten().fold([0; 2], |sum, [steps, events]| [sum[0] + steps, sum[1] + events]);
    println!("{} seeds, {failed} failed, {steps} steps and {events} events in {seconds:.1} s", seeds.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Played = Result<crate::Summary, crate::Violation>;

/// Plays one seed and prints what came of it. Its steps and events, when every promise was kept.
fn play(seed: u64, run: fn(u64) -> Played) -> Option<[u64; 2]> {
    match run(seed) {
        Ok(summary) => {
            println!("seed {seed}: {summary:?}");
            Some([summary.steps, summary.events])
        }
        Err(violation) => {
            println!("seed {seed}: VIOLATION {violation}");
            None
        }
    }
}

fn day_of(args: &[String]) -> Option<Vec<u64>> {
    match args {
        [] => fresh(1),
        [seed] => Some(vec![seed.parse().ok()?]),
        _ => None,
    }
}

fn seeds_of(args: &[String]) -> Option<Vec<u64>> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => fresh(200),
        ["--seed", seed] => Some(vec![seed.parse().ok()?]),
        ["--first", count] => Some((1..=count.parse().ok()?).collect()),
        ["--count", count] => fresh(count.parse().ok()?),
        ["--seeds"] => Some(stored()),
        _ => None,
    }
}

fn fresh(count: usize) -> Option<Vec<u64>> {
    (0..count).map(|_| getrandom::u64().ok()).collect()
}

fn stored() -> Vec<u64> {
    let words = SEEDS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    words.filter(|word| !word.is_empty()).map(|word| word.parse().expect("seeds.txt holds numbers")).collect()
}
