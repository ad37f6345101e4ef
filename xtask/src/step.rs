//! Steps with a name and the time each took, and the child processes they run.
//!
//! Never gives a child process this one's input: nothing here may wait for a person.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Steps done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
}

impl Steps {
    /// Runs one step and tells how long it took.
    pub(crate) fn run(
        &mut self,
        name: &str,
        step: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        println!("==> {name}");
        let began = Instant::now();
        let outcome = step();
        let took = began.elapsed();
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("<== {name}: {word}, {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took, outcome.is_ok()));
        outcome.with_context(|| format!("{name} failed"))
    }

    /// All steps in one table, when there was more than one.
    pub(crate) fn summary(&self) {
        if self.done.len() < 2 {
            return;
        }
        println!();
        for (name, took, passed) in &self.done {
            println!("{:>8.1} s  {:<7} {name}", took.as_secs_f64(), if *passed { "ok" } else { "FAILED" });
        }
        let whole: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        println!("{:>8.1} s  in all", whole.as_secs_f64());
    }
}

/// A child process: shown, without input, in a folder.
#[derive(Debug)]
pub(crate) struct Command {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: PathBuf,
}

impl Command {
    /// `program` in `folder`.
    pub(crate) fn new(program: &str, folder: &Path) -> Self {
        Self { program: program.to_owned(), args: Vec::new(), env: Vec::new(), folder: folder.to_owned() }
    }

    /// The cargo that runs this program.
    pub(crate) fn cargo(folder: &Path, args: &[&str]) -> Self {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".to_owned());
        Self::new(&cargo, folder).args(args)
    }

    /// Further arguments.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// One more environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a person would type it.
    pub(crate) fn shown(&self) -> String {
        let program = Path::new(&self.program)
            .file_name()
            .map_or(self.program.as_str().into(), |n| n.to_string_lossy());
        let mut words: Vec<String> =
            self.env.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        words.push(program.into_owned());
        words.extend(self.args.iter().cloned());
        words.join(" ")
    }

    /// Runs it to its end; another end than success is an error.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        println!("    {}", self.shown());
        let status = std::process::Command::new(&self.program)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("{} could not be started", self.program))?;
        if status.success() { Ok(()) } else { bail!("`{}` ended with {status}", self.shown()) }
    }

    /// Whether it runs and ends well; says nothing.
    pub(crate) fn succeeds(self) -> bool {
        std::process::Command::new(&self.program)
            .args(&self.args)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}
