//! A real Redis for one test: on a free port, in a folder of its own. The tests of `store` have this file too.
//! Never leaves a process behind.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Store {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    /// Behind those that every one has.
    args: Vec<String>,
    child: Option<Child>,
}

impl Store {
    /// Starts one. `REDIS_SERVER` names another program than `redis-server`.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with("save \"\"\n", args)
    }

    /// The same with this file of settings, which a sentinel writes to.
    pub(crate) fn start_with(settings: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("redis.conf"), settings).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut store = Self { folder, port, args, child: None };
        store.run();
        store
    }

    /// Starts it on its own port and with its own data.
    pub(crate) fn run(&mut self) {
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let mut command = Command::new(&program);
        command.arg(self.folder.path().join("redis.conf"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"]);
        command.arg("--dir").arg(self.folder.path()).args(["--logfile", "redis.log"]).args(&self.args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("{program} cannot be started ({error}); type: sudo apt-get install --yes redis-server")
        }));
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.ask(&["PING"]) != Some("+PONG".to_owned()) {
            let log = || std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{program} does not answer:\n{}", log());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The first line of its answer.
    pub(crate) fn ask(&self, words: &[&str]) -> Option<String> {
        self.ask_lines(words, 1)?.pop()
    }

    /// So many lines of its answer, as they are on the wire.
    pub(crate) fn ask_lines(&self, words: &[&str], count: usize) -> Option<Vec<String>> {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let line = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
        stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
        BufReader::new(stream).lines().take(count).collect::<Result<_, _>>().ok()
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _is_running = child.kill();
            let _status = child.wait();
        }
    }

    /// Stops it where it is until the answer is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        signal("-STOP", &pid);
        Frozen { pid }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) struct Frozen {
    pid: String,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal("-CONT", &self.pid);
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}
