//! Real Redis servers, one the primary of the others, and three sentinels that follow it. The tests of `store` and `redis`
//! have this file too.
//! Never leaves a process behind.

use std::fmt::Debug;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::store::Store;

/// A failover takes 2 to 4 s, and a sentinel that was not given the processor for long takes a break of 30 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Watched {
    pub(crate) stores: Vec<Store>,
    pub(crate) sentinels: Vec<Store>,
}

/// One sentinel, which watches whoever listens on this port.
pub(crate) fn sentinel_of(port: u16) -> Store {
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {port} 2\nsentinel down-after-milliseconds main 800\n\
         sentinel failover-timeout main 2000\n"
    );
    Store::start_with(&settings, &["--sentinel"])
}

impl Watched {
    /// Started, and the sentinels know all stores and one another.
    pub(crate) fn start(replicas: usize, args: &[&str]) -> Self {
        // Else a replica waits for others for 5 s before it is given all.
        let args = &[args, &["--repl-diskless-sync-delay", "0"]].concat();
        let primary = Store::start(args);
        let port = primary.port.to_string();
        let replicas = (0..replicas)
            .map(|_| Store::start(&[args.as_slice(), &["--replicaof", "127.0.0.1", &port]].concat()));
        let mut stores: Vec<Store> = replicas.collect();
        let count = format!("*{}", stores.len());
        for replica in &stores {
            until("the replica has all", || is_replica(replica));
        }
        stores.insert(0, primary);
        let sentinels: Vec<Store> = (0..3).map(|_| sentinel_of(stores[0].port)).collect();
        for sentinel in &sentinels {
            until("the sentinels know one another", || {
                let usable = sentinel.ask(&["SENTINEL", "CKQUORUM", "main"]);
                usable.is_some_and(|told| told.starts_with("+OK 3 usable Sentinels"))
            });
            until("the sentinels know the replicas", || {
                sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).as_ref() == Some(&count)
            });
        }
        Self { stores, sentinels }
    }

    /// How clients reach whoever is the primary.
    pub(crate) fn address<A: FromStr<Err: Debug>>(&self) -> A {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/main", sentinels.join(",")).parse().unwrap()
    }

    /// Whether this one follows another one and has all that it has.
    pub(crate) fn is_replica(&self, index: usize) -> bool {
        is_replica(&self.stores[index])
    }
}

fn is_replica(store: &Store) -> bool {
    let role = store.ask_lines(&["ROLE"], 8);
    role.is_some_and(|role| role[0] == "*5" && role.get(7).is_some_and(|state| state == "connected"))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
