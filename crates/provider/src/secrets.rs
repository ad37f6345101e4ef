//! Secrets out of their references: from the environment, a file, or a program that prints one, such as the command line of a cloud's
//! keeper of secrets.
//!
//! Never keeps, prints or logs a value.

use std::env::{self, VarError};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use greenroom_wire::secret::{Secret, SecretRef};

/// Largest secret, in bytes: what one variable of an environment takes with ease.
const BYTES_MAX: u64 = 64 * 1024;
/// How long a program may take to print one.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at whether it has ended.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// Why a secret cannot be had, in words that have nothing of it. Put it where its reference says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(String);

impl From<io::Error> for SecretError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The secret that a reference names, read now: a changed one counts at once. Line breaks at its end are left out; they are an editor's or
/// a program's. Blocks for as long as a program takes, at most 10 s; then it is killed with whatever it started. A program gets this
/// process's environment and no input, and what it says on its standard error goes where this process's goes.
///
/// # Errors
/// It is not there, is empty, no text, larger than 64 KiB, has a zero byte; or the program fails or takes too long.
pub fn read(reference: &SecretRef) -> Result<Secret, SecretError> {
    let text = match reference {
        SecretRef::Env(name) => env::var(name).map_err(|error| match error {
            VarError::NotPresent => {
                SecretError("it is not set in the environment of this process".to_owned())
            }
            VarError::NotUnicode(_) => SecretError("it is no text".to_owned()),
        })?,
        SecretRef::File(path) => read_file(path)?,
        SecretRef::Exec(words) => run(words)?,
    };
    if text.is_empty() {
        Err(SecretError("it is empty".to_owned()))
    } else if text.contains('\0') {
        Err(SecretError("it has a zero byte, which no program can be given".to_owned()))
    } else {
        Ok(Secret::new(text))
    }
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    let length = fs::metadata(path)?.len();
    if length > BYTES_MAX {
        return Err(SecretError(format!("it has {length} bytes, more than the {BYTES_MAX} allowed")));
    }
    Ok(without_line_end(fs::read_to_string(path)?))
}

fn run(words: &[String]) -> Result<String, SecretError> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| SecretError("no program is named".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| SecretError(format!("it cannot be started: {error}")))?;
    let output = child.stdout.take().expect("its output is piped");
    // What it prints may be more than a pipe holds.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.take(BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = end_of(&mut child)?;
    let printed = reader.join().map_err(|_| SecretError("its output could not be read".to_owned()))??;
    // Its end may be because nobody took in the rest.
    if printed.len() as u64 > BYTES_MAX {
        return Err(SecretError(format!("it printed more than the {BYTES_MAX} bytes allowed")));
    }
    if !status.success() {
        return Err(SecretError(format!("it failed: {status}")));
    }
    let text =
        String::from_utf8(printed).map_err(|_| SecretError("what it printed is no text".to_owned()))?;
    Ok(without_line_end(text))
}

#[expect(clippy::disallowed_methods, reason = "it blocks, as it says: no loop's thread calls it")]
fn end_of(child: &mut Child) -> Result<ExitStatus, SecretError> {
    let until = Instant::now() + PROGRAM_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            let pid = rustix::process::Pid::from_child(child);
            // It may end in this very moment; either is the same.
            let _gone = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            child.wait()?;
            return Err(SecretError(format!("it took longer than {} s", PROGRAM_TIMEOUT.as_secs())));
        }
        std::thread::sleep(LOOK_PERIOD);
    }
}

fn without_line_end(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reference: &str) -> Result<String, String> {
        let read = read(&reference.parse().unwrap());
        read.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_prints_a_secret_or_there_is_none() {
        assert_eq!(told("exec:printf hunter2\\n\\n"), Ok("hunter2".to_owned()));
        let cases = [
            ("exec:true", "it is empty"),
            ("exec:no-such-program-here", "it cannot be started: No such file or directory (os error 2)"),
            ("exec:sh -c echo${IFS}hunter2;exit${IFS}3", "it failed: exit status: 3"),
            ("exec:head -c 70000 /dev/zero", "it printed more than the 65536 bytes allowed"),
            ("exec:printf a\\000b", "it has a zero byte, which no program can be given"),
            ("exec:printf \\377", "what it printed is no text"),
        ];
        for (reference, why) in cases {
            let error = told(reference).unwrap_err();
            assert_eq!(error, why, "{reference}");
            assert!(!error.contains("hunter2"));
        }
    }
}
