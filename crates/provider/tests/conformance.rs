//! What every provider must do, run against each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom_core::{InstanceId, ServerName};
use greenroom_provider::memory::{OnAsk, Program};
use greenroom_provider::{
    Exit, Handle, LogsError, MemoryProvider, ProcessProvider, Provider, Running, StartError, StartSpec,
    StopSignal,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// One engine, and the commands that mean the same on all engines.
struct Engine {
    name: &'static str,
    provider: Arc<dyn Provider>,
    /// The same engine as a new agent process finds it.
    reopened: Arc<dyn Provider>,
    runs: Vec<String>,
    ignores_ask: Vec<String>,
    says_hello: Vec<String>,
    exits_with_3: Vec<String>,
    /// How a process ends that does nothing about SIGTERM.
    asked: Exit,
    /// What an adopter can know of an exit.
    adopted_kill: Exit,
    _folder: tempfile::TempDir,
}

fn words(line: &[&str]) -> Vec<String> {
    line.iter().map(|word| (*word).to_owned()).collect()
}

fn process_engine() -> Engine {
    let folder = tempfile::tempdir().unwrap();
    Engine {
        name: "process",
        provider: Arc::new(ProcessProvider::new(folder.path().join("logs"))),
        reopened: Arc::new(ProcessProvider::new(folder.path().join("logs"))),
        runs: words(&["sh", "-c", "echo ready; sleep 60"]),
        ignores_ask: words(&["sh", "-c", "trap '' TERM; echo ready; sleep 60; sleep 60"]),
        says_hello: words(&["sh", "-c", "printf hello; printf ' there' >&2; sleep 60"]),
        exits_with_3: words(&["sh", "-c", "exit 3"]),
        asked: Exit::Signal(15),
        adopted_kill: Exit::Unknown,
        _folder: folder,
    }
}

fn memory_engine() -> Engine {
    let program = |prints: &str, ends, on_ask| Program { prints: prints.to_owned(), ends, on_ask };
    let quits = OnAsk::Ends(Exit::Signal(15));
    let programs = BTreeMap::from([
        ("runs".to_owned(), program("ready\n", None, quits)),
        ("ignores".to_owned(), program("ready\n", None, OnAsk::Ignores)),
        ("hello".to_owned(), program("hello there", None, quits)),
        ("exits".to_owned(), program("", Some(Exit::Code(3)), quits)),
    ]);
    let engine: Arc<dyn Provider> = Arc::new(MemoryProvider::new(programs));
    Engine {
        name: "memory",
        provider: engine.clone(),
        reopened: engine,
        runs: words(&["runs"]),
        ignores_ask: words(&["ignores"]),
        says_hello: words(&["hello"]),
        exits_with_3: words(&["exits"]),
        asked: Exit::Signal(15),
        adopted_kill: Exit::Signal(9),
        _folder: tempfile::tempdir().unwrap(),
    }
}

fn engines() -> [Engine; 2] {
    [process_engine(), memory_engine()]
}

fn spec(test: &str, command: &[String]) -> StartSpec {
    // The pid of this test run keeps two runs on one machine from finding each other's processes.
    let server: ServerName = format!("{test}-{}", std::process::id()).parse().unwrap();
    StartSpec {
        instance: format!("{server}.0").parse().unwrap(),
        server,
        command: command.to_vec(),
        env: BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]),
        secrets: BTreeMap::new(),
        env_absent: vec!["HOME".to_owned()],
    }
}

async fn exit_of(running: Running) -> Exit {
    tokio::time::timeout(PATIENCE, running.exit).await.expect("it ends in time")
}

async fn output(provider: &dyn Provider, server: &ServerName, wanted: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let piece = provider.logs(server, Some(0), 10_000).await.unwrap();
        let text = String::from_utf8(piece.bytes).unwrap();
        if text.contains(wanted) || Instant::now() > deadline {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_exit_is_told_with_its_code() {
    for engine in engines() {
        let running = engine.provider.start(&spec("code", &engine.exits_with_3)).await.unwrap();
        let exit = exit_of(running).await;
        assert_eq!(exit, Exit::Code(3), "{}", engine.name);
        assert_eq!(exit.to_string(), "exited with code 3");
    }
}

#[tokio::test]
async fn a_killed_process_is_told_with_its_signal() {
    for engine in engines() {
        let running = engine.provider.start(&spec("kill", &engine.runs)).await.unwrap();
        engine.provider.signal(&running.handle, StopSignal::Kill).await.unwrap();
        let exit = exit_of(running).await;
        assert_eq!(exit.to_string(), "killed by signal 9 (SIGKILL)", "{}", engine.name);
    }
}

#[tokio::test]
async fn asking_ends_what_does_not_refuse_and_killing_ends_the_rest() {
    for engine in engines() {
        let polite = spec("polite", &engine.runs);
        let running = engine.provider.start(&polite).await.unwrap();
        output(&*engine.provider, &polite.server, "ready").await;
        engine.provider.signal(&running.handle, StopSignal::Ask).await.unwrap();
        assert_eq!(exit_of(running).await, engine.asked, "{}", engine.name);

        let stubborn = spec("stubborn", &engine.ignores_ask);
        let mut running = engine.provider.start(&stubborn).await.unwrap();
        output(&*engine.provider, &stubborn.server, "ready").await;
        engine.provider.signal(&running.handle, StopSignal::Ask).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), &mut running.exit).await;
        assert!(early.is_err(), "{}: it ignores the question", engine.name);
        engine.provider.signal(&running.handle, StopSignal::Kill).await.unwrap();
        assert_eq!(exit_of(running).await, Exit::Signal(9), "{}", engine.name);
    }
}

#[tokio::test]
async fn signalling_what_is_gone_does_nothing() {
    for engine in engines() {
        let running = engine.provider.start(&spec("gone", &engine.exits_with_3)).await.unwrap();
        let handle = running.handle.clone();
        exit_of(running).await;
        engine.provider.signal(&handle, StopSignal::Kill).await.unwrap();
        engine.provider.signal(&Handle::from_text("nonsense".to_owned()), StopSignal::Kill).await.unwrap();
    }
}

#[tokio::test]
async fn a_running_process_is_adopted_by_handle_and_by_instance() {
    for engine in engines() {
        for by_handle in [true, false] {
            let spec = spec("adopt", &engine.runs);
            let running = engine.provider.start(&spec).await.unwrap();
            let (handle, pid) = (running.handle.clone(), running.pid);
            drop(running);
            let known = by_handle.then_some(&handle);
            let adopted = engine.reopened.adopt(&spec.instance, known).await.unwrap();
            let adopted = adopted.unwrap_or_else(|| panic!("{} by handle: {by_handle}", engine.name));
            assert_eq!((&adopted.handle, adopted.pid), (&handle, pid), "{}", engine.name);
            engine.reopened.signal(&handle, StopSignal::Kill).await.unwrap();
            assert_eq!(exit_of(adopted).await, engine.adopted_kill, "{}", engine.name);
            assert!(engine.reopened.adopt(&spec.instance, known).await.unwrap().is_none(), "{}", engine.name);
        }
    }
}

#[tokio::test]
async fn another_instance_is_not_adopted_and_not_ended() {
    for engine in engines() {
        let spec = spec("other", &engine.runs);
        let mut running = engine.provider.start(&spec).await.unwrap();
        let other: InstanceId = format!("{}.1", spec.server).parse().unwrap();
        let adopted = engine.reopened.adopt(&other, Some(&running.handle)).await.unwrap();
        assert!(adopted.is_none(), "{}", engine.name);
        let ended = tokio::time::timeout(Duration::from_millis(50), &mut running.exit).await;
        assert!(ended.is_err(), "{}: it runs on", engine.name);
        engine.provider.signal(&running.handle, StopSignal::Kill).await.unwrap();
        exit_of(running).await;
    }
}

#[tokio::test]
async fn output_is_kept_and_read_in_pieces() {
    for engine in engines() {
        let spec = spec("output", &engine.says_hello);
        let running = engine.provider.start(&spec).await.unwrap();
        let server = &spec.server;
        assert_eq!(output(&*engine.provider, server, "there").await, "hello there", "{}", engine.name);
        let cases = [
            (Some(0), 5, "hello", 5),
            (Some(5), 100, " there", 11),
            (None, 5, "there", 11),
            (None, 100, "hello there", 11),
            (Some(11), 100, "", 11),
            (Some(999), 100, "", 11),
        ];
        for (offset, bytes_max, text, next_offset) in cases {
            let piece = engine.reopened.logs(server, offset, bytes_max).await.unwrap();
            let told = (String::from_utf8(piece.bytes).unwrap(), piece.next_offset);
            assert_eq!(told, (text.to_owned(), next_offset), "{} from {offset:?}", engine.name);
        }
        engine.provider.signal(&running.handle, StopSignal::Kill).await.unwrap();
        exit_of(running).await;
        let unknown = engine.provider.logs(&"never-ran".parse().unwrap(), None, 10).await;
        assert!(matches!(unknown, Err(LogsError::None { .. })), "{}", engine.name);
    }
}

#[tokio::test]
async fn a_secret_is_read_anew_at_each_start_and_without_it_nothing_starts() {
    let engine = process_engine();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db");
    let print = words(&["sh", "-c", "printf '%s|%s|' \"$DB\" \"${CARGO_MANIFEST_DIR-unset}\"; sleep 60"]);
    let mut spec = spec("secret", &print);
    spec.secrets = BTreeMap::from([
        ("DB".to_owned(), format!("file:{}", file.display()).parse().unwrap()),
        ("COPY".to_owned(), "env:CARGO_MANIFEST_DIR".parse().unwrap()),
    ]);
    let message = engine.provider.start(&spec).await.unwrap_err().to_string();
    assert!(message.contains("for the variable DB cannot be had"), "{message}");
    let mut expected = String::new();
    for value in ["first", "second"] {
        std::fs::write(&file, format!("{value}\n")).unwrap();
        let running = engine.provider.start(&spec).await.unwrap();
        expected.push_str(&format!("{value}|unset|"));
        assert_eq!(output(&*engine.provider, &spec.server, &expected).await, expected);
        engine.provider.signal(&running.handle, StopSignal::Kill).await.unwrap();
        exit_of(running).await;
    }
    std::fs::write(&file, "").unwrap();
    let message = engine.provider.start(&spec).await.unwrap_err().to_string();
    assert!(message.ends_with("it is empty"), "{message}");
    spec.secrets = BTreeMap::from([("DB".to_owned(), "env:GREENROOM_TEST_ABSENT".parse().unwrap())]);
    let message = engine.provider.start(&spec).await.unwrap_err().to_string();
    assert!(message.contains("env:GREENROOM_TEST_ABSENT") && message.contains("not set"), "{message}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_an_error_that_names_it() {
    for engine in engines() {
        let refused = engine.provider.start(&spec("missing", &words(&["no-such-program"]))).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("\"no-such-program\" does not exist"), "{}: {message}", engine.name);
        let empty = engine.provider.start(&spec("missing", &[])).await;
        assert!(matches!(empty, Err(StartError::EmptyCommand)), "{}", engine.name);
    }
}

fn process_runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn what_a_process_started_ends_with_it() {
    let engine = process_engine();
    let command = words(&["sh", "-c", "sleep 60 & echo child $!; wait"]);
    for kill_leader_only in [false, true] {
        let spec = spec(if kill_leader_only { "orphan" } else { "family" }, &command);
        let running = engine.provider.start(&spec).await.unwrap();
        let text = output(&*engine.provider, &spec.server, "\n").await;
        let child = text.trim().strip_prefix("child ").unwrap().to_owned();
        assert!(process_runs(&child));
        if kill_leader_only {
            let pid = running.pid.unwrap().to_string();
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        } else {
            engine.provider.signal(&running.handle, StopSignal::Ask).await.unwrap();
        }
        exit_of(running).await;
        let deadline = Instant::now() + PATIENCE;
        while process_runs(&child) {
            assert!(Instant::now() < deadline, "child {child} runs on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_server_behind_a_shell_may_finish_when_it_is_asked_to_end() {
    let engine = process_engine();
    let server = "(trap 'sleep 0.3; echo saved; exit' TERM; echo ready; while :; do sleep 0.02; done) & wait";
    for (test, adopted) in [("shell", false), ("adopted-shell", true)] {
        let spec = spec(test, &words(&["sh", "-c", server]));
        let mut running = engine.provider.start(&spec).await.unwrap();
        output(&*engine.provider, &spec.server, "ready").await;
        if adopted {
            running = engine.provider.adopt(&spec.instance, Some(&running.handle)).await.unwrap().unwrap();
        }
        engine.provider.signal(&running.handle, StopSignal::Ask).await.unwrap();
        exit_of(running).await;
        let piece = engine.provider.logs(&spec.server, Some(0), 1_000).await.unwrap();
        let text = String::from_utf8(piece.bytes).unwrap();
        assert!(text.ends_with("saved\n"), "{test}: {text:?}");
    }
}

#[tokio::test]
async fn the_environment_is_what_was_asked_for() {
    let engine = process_engine();
    let command = words(&["sh", "-c", "echo \"$COLOUR ${HOME-none} $GREENROOM_INSTANCE\""]);
    let spec = spec("env", &command);
    let running = engine.provider.start(&spec).await.unwrap();
    exit_of(running).await;
    let text = output(&*engine.provider, &spec.server, "\n").await;
    assert_eq!(text, format!("green none {}\n", spec.instance));
}
