//! The simulation as a program.
//!
//! Never part of a run: it only chooses seeds and prints.

use std::process::ExitCode;

/// Seeds that once failed, one a line; `#` begins a remark.
const SEEDS: &str = include_str!("../seeds.txt");

const USAGE: &str = "usage: greenroom-sim [--seed N | --count N | --seeds | --trace NAME]
  --seed N    play seed N
  --count N   play N fresh seeds (default 200)
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
    let Some(seeds) = seeds_of(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed = 0;
    for seed in &seeds {
        match crate::run(*seed) {
            Ok(summary) => println!("seed {seed}: {summary:?}"),
            Err(violation) => {
                failed += 1;
                println!("seed {seed}: VIOLATION {violation}");
            }
        }
    }
    println!("{} seeds, {failed} failed", seeds.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seeds_of(args: &[String]) -> Option<Vec<u64>> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => fresh(200),
        ["--seed", seed] => Some(vec![seed.parse().ok()?]),
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
