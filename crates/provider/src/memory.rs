//! A fake engine in memory: programs are values, a process is an entry in a table, nothing runs.
//!
//! Never surprises: pids count up from 1,000, exits happen when the test or the simulator says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_core::{InstanceId, ServerName};
use tokio::sync::watch;

use crate::{
    BoxFuture, EngineError, Exit, Handle, LogPiece, LogsError, Provider, Running, StartError, StartSpec,
    StopSignal,
};

/// What a program does, known to a [`MemoryProvider`] under the first word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Written to the server's output at each start.
    pub prints: String,
    /// Ends at once in this way; `None`: runs until it is told to stop.
    pub ends: Option<Exit>,
    /// What [`StopSignal::Ask`] does to it.
    pub on_ask: OnAsk,
}

/// What SIGTERM does to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAsk {
    /// It ends in this way, at once.
    Ends(Exit),
    /// Nothing; only SIGKILL ends it.
    Ignores,
}

/// The fake engine. It outlives agents: give the same one to the next agent and it adopts.
#[derive(Debug, Default)]
pub struct MemoryProvider {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    programs: BTreeMap<String, Program>,
    started: u32,
    running: BTreeMap<Handle, Fake>,
    logs: BTreeMap<ServerName, Vec<u8>>,
}

#[derive(Debug)]
struct Fake {
    pid: u32,
    spec: StartSpec,
    on_ask: OnAsk,
    exit: watch::Sender<Option<Exit>>,
}

impl MemoryProvider {
    /// An engine that knows these programs; any other command is refused as missing.
    #[must_use]
    pub fn new(programs: BTreeMap<String, Program>) -> Self {
        Self { table: Mutex::new(Table { programs, ..Table::default() }) }
    }

    /// What runs now, by instance, with what each was started with.
    #[must_use]
    pub fn running(&self) -> Vec<StartSpec> {
        self.table().running.values().map(|fake| fake.spec.clone()).collect()
    }

    /// Ends the process of `instance`, as a crash does. False when it does not run.
    pub fn end(&self, instance: &InstanceId, exit: Exit) -> bool {
        let mut table = self.table();
        let found = table.running.iter().find(|(_, fake)| fake.spec.instance == *instance);
        let Some(handle) = found.map(|(handle, _)| handle.clone()) else { return false };
        table.end(&handle, exit);
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is a single insert or remove, so that a panicking holder leaves the table whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn start(&mut self, spec: &StartSpec) -> Result<Running, StartError> {
        let name = spec.command.first().ok_or(StartError::EmptyCommand)?;
        let program = self.programs.get(name).cloned();
        let program = program.ok_or_else(|| StartError::NoSuchProgram { program: name.clone() })?;
        self.started += 1;
        let pid = 999 + self.started;
        let handle = Handle::from_text(format!("memory:{pid}"));
        self.logs.entry(spec.server.clone()).or_default().extend_from_slice(program.prints.as_bytes());
        let (exit, seen) = watch::channel(None);
        let fake = Fake { pid, spec: spec.clone(), on_ask: program.on_ask, exit };
        self.running.insert(handle.clone(), fake);
        if let Some(exit) = program.ends {
            self.end(&handle, exit);
        }
        Ok(running(handle, pid, seen))
    }

    fn adopt(&self, instance: &InstanceId, handle: Option<&Handle>) -> Option<Running> {
        let same = |(at, fake): &(&Handle, &Fake)| {
            fake.spec.instance == *instance && handle.is_none_or(|h| h == *at)
        };
        let (handle, fake) = self.running.iter().find(same)?;
        Some(running(handle.clone(), fake.pid, fake.exit.subscribe()))
    }

    fn signal(&mut self, handle: &Handle, signal: StopSignal) {
        let Some(fake) = self.running.get(handle) else { return };
        match (signal, fake.on_ask) {
            (StopSignal::Ask, OnAsk::Ignores) => {}
            (StopSignal::Ask, OnAsk::Ends(exit)) => self.end(handle, exit),
            (StopSignal::Kill, _) => self.end(handle, Exit::Signal(9)),
        }
    }

    fn end(&mut self, handle: &Handle, exit: Exit) {
        if let Some(fake) = self.running.remove(handle) {
            fake.exit.send_replace(Some(exit));
        }
    }

    fn logs(&self, server: &ServerName, offset: Option<u64>, bytes_max: usize) -> Option<LogPiece> {
        let all = self.logs.get(server)?;
        let from = match offset {
            Some(offset) => usize::try_from(offset).unwrap_or(usize::MAX).min(all.len()),
            None => all.len().saturating_sub(bytes_max),
        };
        let to = from.saturating_add(bytes_max).min(all.len());
        Some(LogPiece { bytes: all[from..to].to_vec(), next_offset: to as u64 })
    }
}

fn running(handle: Handle, pid: u32, mut seen: watch::Receiver<Option<Exit>>) -> Running {
    let exit = async move {
        // The sender leaves the table only after it has told the exit; a dropped engine ends everything.
        seen.wait_for(Option::is_some).await.map_or(Exit::Unknown, |exit| exit.unwrap_or(Exit::Unknown))
    };
    Running { handle, pid: Some(pid), exit: Box::pin(exit) }
}

impl Provider for MemoryProvider {
    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<Running, StartError>> {
        Box::pin(async move { self.table().start(spec) })
    }

    fn adopt<'a>(
        &'a self,
        instance: &'a InstanceId,
        handle: Option<&'a Handle>,
    ) -> BoxFuture<'a, Result<Option<Running>, EngineError>> {
        Box::pin(async move { Ok(self.table().adopt(instance, handle)) })
    }

    fn signal<'a>(
        &'a self,
        handle: &'a Handle,
        signal: StopSignal,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.table().signal(handle, signal);
            Ok(())
        })
    }

    fn logs<'a>(
        &'a self,
        server: &'a ServerName,
        offset: Option<u64>,
        bytes_max: usize,
    ) -> BoxFuture<'a, Result<LogPiece, LogsError>> {
        Box::pin(async move {
            let piece = self.table().logs(server, offset, bytes_max);
            piece.ok_or_else(|| LogsError::None { server: server.clone() })
        })
    }
}
