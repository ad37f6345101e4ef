//! What the servers use during a run: processor time and memory, as far as this machine tells.
//!
//! Never asks a server itself.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_load::report::ServerUse;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::time::{Interval, interval, timeout};

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// One process.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    cpu_first_ms: u64,
    cpu_last_ms: u64,
}

/// Looks at the servers' processes once a second.
pub(super) struct Watch {
    /// Asked for the processes of game servers; `None` when they were named or are elsewhere.
    control: Option<ControlClient>,
    pids: Vec<u32>,
    /// `None` where the system tells nothing of processes.
    system: Option<System>,
    seen: BTreeMap<u32, Seen>,
    memory_first: u64,
    memory_max: u64,
    period: Interval,
}

impl Watch {
    /// Looks for the first time.
    pub(super) async fn new(pids: &[u32], server: &str, control: ControlClient) -> Self {
        let here = ["http://127.", "http://localhost", "http://[::1]"];
        let asks = pids.is_empty() && here.iter().any(|start| server.starts_with(start));
        let mut watch = Self {
            control: asks.then_some(control),
            pids: pids.to_vec(),
            system: System::new().ok(),
            seen: BTreeMap::new(),
            memory_first: 0,
            memory_max: 0,
            period: interval(PERIOD),
        };
        watch.look().await;
        watch.memory_first = watch.memory_max;
        watch
    }

    /// Looks again and again.
    pub(super) async fn go_on(&mut self) -> std::convert::Infallible {
        loop {
            self.next().await;
            self.look().await;
        }
    }

    /// Waits until it is time to look again.
    pub(super) async fn next(&mut self) {
        self.period.tick().await;
    }

    /// Looks. A process that is gone keeps what was seen of it.
    pub(super) async fn look(&mut self) {
        if let Some(control) = &self.control
            && let Ok(Ok(list)) = timeout(PERIOD, control.gameservers(None)).await
        {
            self.pids = list.gameservers.iter().filter_map(|server| server.pid).collect();
        }
        let pids: Vec<_> = self.pids.iter().map(|pid| Pid::from_u32(*pid)).collect();
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let Some(system) = &mut self.system else { return };
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, what);
        let mut memory = 0;
        for pid in pids {
            let Some(process) = system.process(pid) else { continue };
            let cpu_ms = process.accumulated_cpu_time();
            memory += process.memory();
            let seen = self.seen.entry(pid.as_u32()).or_insert(Seen { cpu_first_ms: cpu_ms, cpu_last_ms: 0 });
            seen.cpu_last_ms = cpu_ms;
        }
        self.memory_max = self.memory_max.max(memory);
    }

    /// What they used until now. `None` when no process could be seen.
    pub(super) fn used(&self, players: u32) -> Option<ServerUse> {
        let cpu_ms: u64 =
            self.seen.values().map(|seen| seen.cpu_last_ms.saturating_sub(seen.cpu_first_ms)).sum();
        let grown = self.memory_max.saturating_sub(self.memory_first);
        (!self.seen.is_empty()).then(|| ServerUse {
            processes: u32::try_from(self.seen.len()).unwrap_or(u32::MAX),
            cpu_seconds: Duration::from_millis(cpu_ms).as_secs_f64(),
            memory_bytes_max: self.memory_max,
            memory_bytes_per_player: grown / u64::from(players.max(1)),
        })
    }
}
