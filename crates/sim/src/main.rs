//! `greenroom-sim --seed N`: plays simulated clusters.

use std::process::ExitCode;

fn main() -> ExitCode {
    greenroom_sim::main_with_args(std::env::args().skip(1))
}
