//! Does what triggers are for: runs a program beside the control plane, or posts to an address.
//!
//! Never decides when, and never does one thing twice: a program is started once, and a post that is tried again says by its key
//! that it is the same. Never prints an address, and no more of what a program prints than its bound.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use greenroom_wire::api::{ActionResult, TriggerFired};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Action, TriggerConfig};
use crate::errands;
use crate::notify::{is_url, judge};
use crate::run::{Input, RunError};
use crate::webhook::poster;
use crate::world::Posted;

/// How long one try of a post may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the first try that failed; doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Bytes of each of a program's two outputs that go to the log; the rest is read and left out.
const OUTPUT_BYTES_MAX: u64 = 16 * 1024;
/// How long the end of a program's output is waited for once it has ended: what it leaves behind may hold the pipes for ever.
const OUTPUT_WAIT: Duration = Duration::from_millis(200);

/// Whether what each does can be done at all.
pub(crate) fn check(triggers: &[TriggerConfig]) -> Result<(), RunError> {
    let is_faulty = |trigger: &&TriggerConfig| match &trigger.action {
        Action::Post(url) => !is_url(url),
        Action::Exec(_) => false,
    };
    match triggers.iter().find(is_faulty) {
        Some(faulty) => Err(RunError::TriggerAddress(faulty.name.clone())),
        None => Ok(()),
    }
}

/// What each trigger does.
pub(crate) struct Hands {
    posts: reqwest::Client,
    actions: BTreeMap<String, Arc<TriggerConfig>>,
}

impl Hands {
    /// `None` where nothing is watched.
    pub(crate) fn new(triggers: &[TriggerConfig]) -> Result<Option<Self>, RunError> {
        if triggers.is_empty() {
            return Ok(None);
        }
        let posts = poster(POST_TIMEOUT).map_err(RunError::Notify)?;
        let by_name = |trigger: &TriggerConfig| (trigger.name.clone(), Arc::new(trigger.clone()));
        Ok(Some(Self { posts, actions: triggers.iter().map(by_name).collect() }))
    }

    /// Acts until the stop. What does not end in a last moment then is broken off, a program killed with its group.
    pub(crate) async fn run(
        self,
        fired: mpsc::UnboundedReceiver<TriggerFired>,
        inputs: mpsc::Sender<Input>,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let begin = |fired: TriggerFired| {
            let trigger = Arc::clone(self.actions.get(&fired.trigger)?);
            let posts = self.posts.clone();
            Some(async move {
                let (result, detail) = match &trigger.action {
                    Action::Exec(command) => exec(command, trigger.timeout, &fired).await,
                    Action::Post(url) => post(&posts, url.expose(), trigger.timeout, &fired).await,
                };
                Input::Acted { fire: fired.fire, result, detail }
            })
        };
        errands::run(fired, inputs, stop, begin).await
    }
}

/// A process group that does not outlive this.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended by itself at this very moment.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn exec(command: &[String], timeout: Duration, fired: &TriggerFired) -> (ActionResult, String) {
    let failed = |detail: String| (ActionResult::Failed, detail);
    let Some((program, arguments)) = command.split_first() else {
        return failed("there is no program to run".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(told(fired)).process_group(0);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("{program} cannot be started: {error}")),
    };
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = Group(pid);
    let mut outputs = JoinSet::new();
    if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
        outputs.spawn(log(out, fired.fire.clone(), "stdout"));
        outputs.spawn(log(err, fired.fire.clone(), "stderr"));
    }
    let outcome = match tokio::time::timeout(timeout, child.wait()).await {
        Ok(Ok(status)) => {
            // What it has left behind on purpose lives on.
            group.0 = None;
            match status.code() {
                Some(0) => (ActionResult::Done, "exit code 0".to_owned()),
                Some(code) => failed(format!("exit code {code}")),
                None => failed(format!("it was ended by a signal: {status}")),
            }
        }
        Ok(Err(error)) => failed(format!("its end cannot be waited for: {error}")),
        Err(_) => {
            group.kill();
            drop(child.wait().await);
            failed(format!("no end within {} s: killed", timeout.as_secs_f32()))
        }
    };
    let read = async { while outputs.join_next().await.is_some() {} };
    drop(tokio::time::timeout(OUTPUT_WAIT, read).await);
    outcome
}

/// What a program finds in its environment.
fn told(fired: &TriggerFired) -> [(&'static str, String); 6] {
    [
        ("GREENROOM_TRIGGER", fired.trigger.clone()),
        ("GREENROOM_FIRE", fired.fire.clone()),
        ("GREENROOM_METRIC", fired.metric.clone()),
        ("GREENROOM_VALUE", fired.value.to_string()),
        ("GREENROOM_THRESHOLD", fired.threshold.clone()),
        ("GREENROOM_FIRED_AT_MS", fired.at_ms.to_string()),
    ]
}

/// Line by line as it comes, up to the bound.
async fn log(output: impl AsyncRead + Unpin, fire: String, from: &'static str) {
    let mut head = BufReader::new(output).take(OUTPUT_BYTES_MAX);
    let mut line = Vec::new();
    while matches!(head.read_until(b'\n', &mut line).await, Ok(1..)) {
        info!(%fire, from, line = ?String::from_utf8_lossy(line.trim_ascii_end()), "a trigger's program said");
        line.clear();
    }
    let rest = tokio::io::copy(&mut head.into_inner(), &mut tokio::io::sink()).await.unwrap_or_default();
    if rest > 0 {
        warn!(%fire, from, bytes = rest, "a trigger's program said more than is logged");
    }
}

/// Tried again while there is time, as long as the receiver may take it later.
async fn post(
    posts: &reqwest::Client,
    url: &str,
    timeout: Duration,
    fired: &TriggerFired,
) -> (ActionResult, String) {
    let until = Instant::now() + timeout;
    let mut pause = PAUSE_MIN;
    loop {
        let sent = posts.post(url).header("idempotency-key", &fired.fire).json(fired).send();
        let (outcome, detail) = match tokio::time::timeout_at(until, sent).await {
            Ok(Ok(answer)) => {
                let status = answer.status().as_u16();
                (judge(status, None), format!("answered {status}"))
            }
            Ok(Err(error)) => (Posted::Failed { again_after: None }, error.without_url().to_string()),
            Err(_) => (Posted::Failed { again_after: None }, "no answer in time".to_owned()),
        };
        match outcome {
            Posted::Taken => return (ActionResult::Done, detail),
            Posted::Refused { .. } => return (ActionResult::Failed, detail),
            Posted::Failed { .. } if Instant::now() + pause >= until => {
                return (ActionResult::Failed, detail);
            }
            Posted::Failed { .. } => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired() -> TriggerFired {
        TriggerFired {
            text: "trigger grow fired: custom.queue is 5.5, above 5".to_owned(),
            trigger: "grow".to_owned(),
            fire: "grow.1".to_owned(),
            metric: "custom.queue".to_owned(),
            value: 5.5,
            threshold: "above 5".to_owned(),
            at_ms: 1_700_000_000_000,
        }
    }

    async fn run(script: &str, timeout_ms: u64) -> (ActionResult, String) {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        exec(&command, Duration::from_millis(timeout_ms), &fired()).await
    }

    #[tokio::test]
    async fn a_program_is_told_what_fired_and_its_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told").display().to_string();
        let script = format!(
            "echo out; echo err >&2; echo $GREENROOM_TRIGGER $GREENROOM_FIRE $GREENROOM_METRIC $GREENROOM_VALUE $GREENROOM_THRESHOLD $GREENROOM_FIRED_AT_MS > {file}"
        );
        assert_eq!(run(&script, 20_000).await, (ActionResult::Done, "exit code 0".to_owned()));
        let told = std::fs::read_to_string(file).unwrap();
        assert_eq!(told.trim(), "grow grow.1 custom.queue 5.5 above 5 1700000000000");
        let failed = |detail: &str| (ActionResult::Failed, detail.to_owned());
        assert_eq!(run("exit 3", 20_000).await, failed("exit code 3"));
        let (result, detail) = run("kill -9 $$", 20_000).await;
        assert_eq!(result, ActionResult::Failed);
        assert!(detail.contains("signal"), "{detail}");
        let (result, detail) = exec(&["/nowhere/at-all".to_owned()], Duration::from_secs(1), &fired()).await;
        assert_eq!(result, ActionResult::Failed);
        assert!(detail.starts_with("/nowhere/at-all cannot be started: "), "{detail}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_all_it_started_and_much_output_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid").display().to_string();
        let (result, detail) = run(&format!("sleep 600 & echo $! > {file}; wait"), 500).await;
        assert_eq!((result, detail.as_str()), (ActionResult::Failed, "no end within 0.5 s: killed"));
        let grandchild: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let stat = format!("/proc/{grandchild}/stat");
        let is_over = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let until = Instant::now() + Duration::from_secs(10);
        while !is_over() {
            assert!(Instant::now() < until, "process {grandchild} lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let much = run(
            "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done",
            20_000,
        );
        assert_eq!(much.await.0, ActionResult::Done);
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_with_its_output_open_is_not_waited_for() {
        let begun = Instant::now();
        let (result, _) = run("sleep 30 & echo $!", 20_000).await;
        assert_eq!(result, ActionResult::Done);
        assert!(begun.elapsed() < Duration::from_secs(15), "it waited for {:?}", begun.elapsed());
    }
}
