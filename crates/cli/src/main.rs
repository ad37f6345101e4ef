//! The one binary: parses arguments, calls a crate below, says how it ended.
//!
//! Never decides anything about fleets, servers or rooms.

mod args;
mod around;
mod ask;
mod config;
mod dev;
mod ecs;
mod edge;
mod export;
mod failure;
mod logging;
mod logs;
mod pages;
#[cfg(feature = "kubernetes")]
mod pod;
mod print;
mod public_host;
mod scaling;
mod secrets;
mod serve;
mod simulate;
mod swarm;
mod table;
mod ticket;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Cli, ConfigVerb, Verb};
use failure::{Failure, USAGE};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no fault; whoever does not read them changes nothing.
            let _reader_gone = error.print();
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match run(&cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("greenroom: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    logging::init(global)?;
    match &cli.command {
        // An example brings its own runtime and exit code: it is what a user's own server would be.
        Verb::Example { name, arguments } => greenroom_examples::run(name, arguments).ok_or_else(|| {
            Failure::usage(
                format!("there is no example {name:?}"),
                "There are lobby, arena, whiteboard, chat, udp-echo and relay.",
            )
        }),
        Verb::Config(ConfigVerb::Check { file }) => {
            print::text(&config::load(file)?.to_string());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Simulate(args) => simulate::simulate(args, global).map(|()| ExitCode::SUCCESS),
        Verb::Version => {
            print::line(format!("greenroom {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Dev(args) => on_runtime(dev::run(args, global)),
        Verb::Control(args) => on_runtime(serve::control(args)),
        Verb::Agent(args) => on_runtime(serve::agent(args, global)),
        Verb::Edge(args) => on_runtime(edge::edge(args, global)),
        Verb::Get(kind) => on_runtime(ask::get(*kind, global)),
        Verb::Allocate(args) => on_runtime(ask::allocate(args, global)),
        Verb::Logs(args) => on_runtime(logs::run(args, global)),
        Verb::Drain(args) => on_runtime(ask::drain(args, global)),
        Verb::Audit { limit, before } => on_runtime(ask::audit(*limit, *before, global)),
        Verb::Restart { fleet } => on_runtime(ask::restart(fleet, global)),
        Verb::Scale(args) => on_runtime(scaling::scale(args, global)),
        Verb::Explain(verb) => on_runtime(scaling::explain(verb, global)),
        Verb::Export(args) => on_runtime(export::export(args, global)),
        Verb::Import(args) => on_runtime(export::import(args, global)),
        Verb::Swarm(args) => on_runtime(swarm::swarm(args, global)),
    }
}

/// One thread is enough: each part's loop owns its state, and blocking work has threads of its own.
fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}"), ""))?;
    let outcome = runtime.block_on(work);
    // What still waits for the disk or a lookup must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_its_help_stays() {
        Cli::command().debug_assert();
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!(command.render_long_help());
    }

    #[test]
    fn what_a_readme_shows_is_understood() {
        let lines = [
            "greenroom dev",
            "greenroom dev --config a.toml --data-dir d --port 8800 --no-open",
            "greenroom get fleets -o json",
            "greenroom --server http://127.0.0.1:1 get servers",
            "greenroom get gameservers",
            "greenroom allocate arena --player ann --player bob --key party:1",
            "greenroom logs arena-k3x9q -f",
            "greenroom logs fleet/arena -f",
            "greenroom logs room/r-k3x9q",
            "greenroom get rooms --ended",
            "greenroom restart arena",
            "greenroom drain host h1 --reason disk",
            "greenroom drain zone a --undo",
            "greenroom audit --limit 20 --before 100",
            "greenroom config check",
            "greenroom control --listen 127.0.0.1:9000 --log json",
            "greenroom agent --server http://127.0.0.1:9000 --stop-servers-on-exit",
            "greenroom agent --ecs --ecs-address internal --ecs-protect busy",
            "greenroom edge --fleet whiteboard --listen 0.0.0.0:443 --tls-cert a.pem --tls-key a.key --drain 60s",
            "greenroom edge --fleet lobby --named-fleet chat --named-fleet arena --replica http://b:8700 --share-port",
            "greenroom swarm --players 200 --ramp 5s --play 30s --hz 2 --seed 7 -o json",
            "greenroom simulate --trace spike --policy base-stock,out=0 --policy field:20% -o json",
            "greenroom --token-from file:/run/secrets/ops get fleets",
            "greenroom scale lobby=25 game=25",
            "greenroom scale game --to 200 --by 30m --for 2h --freeze scale-in",
            "greenroom scale game=0",
            "greenroom scale game=9 --dry-run",
            "greenroom explain fleet game --limit 3 -o json",
            "greenroom explain fleet game --dry-run new.toml",
            "greenroom explain ticket t-17 -o json",
            "greenroom export backup.jsonl",
            "greenroom export backup.jsonl --data-dir .greenroom --without-keys",
            "greenroom import backup.jsonl --store redis://10.0.0.9:6379 --store-prefix eu --replace",
            "greenroom version",
        ];
        for line in lines {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
        let wrong = [
            "greenroom",
            "greenroom get",
            "greenroom allocate arena",
            "greenroom get fleets -o yaml",
            "greenroom agent --ecs --ecs-protect maybe",
            "greenroom agent --ecs --ecs-address play.example.com",
            "greenroom edge",
            "greenroom edge --fleet lobby --tls-cert a.pem",
            "greenroom import backup.jsonl",
            "greenroom import backup.jsonl --store redis://10.0.0.9 --data-dir .greenroom",
        ];
        for line in wrong {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
