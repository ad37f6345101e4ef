//! Real processes of this machine: one process group each, output appended to one file per server.
//!
//! Never ends a process that it cannot prove to be one of Greenroom's, and never restarts one. There are no resource
//! limits yet.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_core::{InstanceId, ServerName};
use greenroom_wire::secret::{Secret, SecretRef};
use tokio::process::{Child, Command};

use crate::{
    BoxFuture, EngineError, Exit, Handle, INSTANCE_ENV, LogPiece, LogsError, Provider, Running, StartError,
    StartSpec, StopSignal,
};

mod table;

use table::Identity;

/// Time between two looks at an adopted process: nobody tells its end to a process that is not its parent.
const ADOPTED_POLL: Duration = Duration::from_millis(100);
/// Time between two looks at what a process left behind when it was asked to end.
const GROUP_POLL: Duration = Duration::from_millis(50);

/// The last signal sent to each process that has not ended.
type Signalled = Arc<Mutex<BTreeMap<u32, StopSignal>>>;

/// Runs gameservers as processes of this machine.
#[derive(Debug)]
pub struct ProcessProvider {
    logs_dir: PathBuf,
    signalled: Signalled,
}

impl ProcessProvider {
    /// Output goes to `<logs_dir>/<server>.log`; the folder is made when it is first needed.
    #[must_use]
    pub fn new(logs_dir: PathBuf) -> Self {
        Self { logs_dir, signalled: Signalled::default() }
    }

    fn log_path(&self, server: &ServerName) -> PathBuf {
        self.logs_dir.join(format!("{server}.log"))
    }

    fn open_log(&self, server: &ServerName) -> Result<(File, File), StartError> {
        let path = self.log_path(server);
        let open = || {
            std::fs::create_dir_all(&self.logs_dir)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            Ok((file.try_clone()?, file))
        };
        open().map_err(|source| StartError::Log { path: path.display().to_string(), source })
    }

    fn spawn(&self, spec: &StartSpec, secrets: &BTreeMap<String, Secret>) -> Result<Running, StartError> {
        let (program, arguments) = spec.command.split_first().ok_or(StartError::EmptyCommand)?;
        let (stdout, stderr) = self.open_log(&spec.server)?;
        let mut command = Command::new(program);
        for name in &spec.env_absent {
            command.env_remove(name);
        }
        for reference in spec.secrets.values() {
            // It goes on under its own name only where the fleet says so.
            if let SecretRef::Env(name) = reference {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .envs(&spec.env)
            .envs(secrets.iter().map(|(variable, secret)| (variable, secret.expose())))
            .env(INSTANCE_ENV, spec.instance.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .kill_on_drop(false);
        let child = command.spawn().map_err(|source| refused(program, source))?;
        let pid = child.id().expect("a child that was not waited for has a pid");
        // Not yet reaped, so it is in the process table even if it has already ended.
        let identity = Identity { pid, started_s: table::started_s(pid).unwrap_or(0) };
        Ok(Running {
            handle: identity.handle(),
            pid: Some(pid),
            exit: Box::pin(reap(child, pid, self.signalled.clone())),
        })
    }
}

/// The values of all secrets of a server, by variable. Not one is given when one cannot be had.
async fn secrets_of(spec: &StartSpec) -> Result<BTreeMap<String, Secret>, StartError> {
    let mut secrets = BTreeMap::new();
    for (variable, reference) in &spec.secrets {
        let from = reference.clone();
        // A program may take its time.
        let read = tokio::task::spawn_blocking(move || {
            crate::secrets::read(&from).map_err(|error| error.to_string())
        });
        let value = read.await.unwrap_or_else(|lost| Err(lost.to_string()));
        let value = value.map_err(|reason| StartError::Secret {
            variable: variable.clone(),
            reference: reference.to_string(),
            reason,
        })?;
        secrets.insert(variable.clone(), value);
    }
    Ok(secrets)
}

impl Provider for ProcessProvider {
    fn start<'a>(&'a self, spec: &'a StartSpec) -> BoxFuture<'a, Result<Running, StartError>> {
        Box::pin(async move { self.spawn(spec, &secrets_of(spec).await?) })
    }

    fn adopt<'a>(
        &'a self,
        instance: &'a InstanceId,
        handle: Option<&'a Handle>,
    ) -> BoxFuture<'a, Result<Option<Running>, EngineError>> {
        let (instance, handle) = (instance.clone(), handle.cloned());
        let signalled = self.signalled.clone();
        Box::pin(async move {
            let name = handle.as_ref().map_or_else(|| instance.to_string(), Handle::to_string);
            let found = tokio::task::spawn_blocking(move || find(&instance, handle.as_ref()))
                .await
                .map_err(|lost| EngineError { doing: "adoption", handle: name, source: lost.into() })?;
            Ok(found.map(|identity| Running {
                handle: identity.handle(),
                pid: Some(identity.pid),
                exit: Box::pin(watch(identity, signalled)),
            }))
        })
    }

    fn signal<'a>(
        &'a self,
        handle: &'a Handle,
        signal: StopSignal,
    ) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let Some(identity) = Identity::parse(handle) else { return Ok(()) };
            let number = match signal {
                StopSignal::Ask => rustix::process::Signal::TERM,
                StopSignal::Kill => rustix::process::Signal::KILL,
            };
            // A pid that another process has by now is not ours to signal.
            if table::is_other(identity) {
                return Ok(());
            }
            lock(&self.signalled).insert(identity.pid, signal);
            table::signal_group(identity.pid, number).map_err(|source| EngineError {
                doing: "signalling",
                handle: handle.to_string(),
                source,
            })
        })
    }

    fn logs<'a>(
        &'a self,
        server: &'a ServerName,
        offset: Option<u64>,
        bytes_max: usize,
    ) -> BoxFuture<'a, Result<LogPiece, LogsError>> {
        let path = self.log_path(server);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || read_piece(&path, offset, bytes_max)).await;
            read.unwrap_or_else(|lost| Err(lost.into())).map_err(|source| {
                let server = server.clone();
                if source.kind() == io::ErrorKind::NotFound {
                    LogsError::None { server }
                } else {
                    LogsError::Read { server, source }
                }
            })
        })
    }
}

fn refused(program: &str, source: io::Error) -> StartError {
    let program = program.to_owned();
    let kind = source.kind();
    if kind == io::ErrorKind::NotFound {
        StartError::NoSuchProgram { program }
    } else if kind == io::ErrorKind::PermissionDenied {
        StartError::NotExecutable { program }
    } else {
        StartError::Engine { program, source }
    }
}

fn lock(signalled: &Signalled) -> MutexGuard<'_, BTreeMap<u32, StopSignal>> {
    // Every change is a single insert or remove, so that a panicking holder leaves the map whole.
    signalled.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a child and for what it left in its group.
async fn reap(mut child: Child, pid: u32, signalled: Signalled) -> Exit {
    let exit = child.wait().await.map_or(Exit::Unknown, exit_of);
    clear_group(pid, &signalled).await;
    exit
}

/// Sees to it that a dead process's group is empty: whatever is left would hold the port that the next process needs.
/// A shell or `npm` that was asked to end is gone before the server that it started has said farewell, so that after
/// [`StopSignal::Ask`] the rest is waited for; [`StopSignal::Kill`] ends the wait.
async fn clear_group(pid: u32, signalled: &Signalled) {
    while lock(signalled).get(&pid) == Some(&StopSignal::Ask) && table::group_runs(pid) {
        tokio::time::sleep(GROUP_POLL).await;
    }
    lock(signalled).remove(&pid);
    if let Err(error) = table::signal_group(pid, rustix::process::Signal::KILL) {
        tracing::warn!(pid, %error, "the rest of a process group was not ended");
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal(number),
        (None, None) => Exit::Unknown,
    }
}

/// Waits for the end of a process that may not be our child.
async fn watch(identity: Identity, signalled: Signalled) -> Exit {
    while table::is_alive(identity) {
        tokio::time::sleep(ADOPTED_POLL).await;
    }
    clear_group(identity.pid, &signalled).await;
    Exit::Unknown
}

/// The live process of `instance`: it carries the instance id, leads its own group, and has the known pid if one is
/// known. When only descendants of it are left they are ended, because they may hold its port.
fn find(instance: &InstanceId, handle: Option<&Handle>) -> Option<Identity> {
    let known = handle.and_then(Identity::parse);
    let members = table::processes_of(instance);
    let leader = members.iter().find(|member| {
        known.is_none_or(|known| known.pid == member.pid) && table::group_of(member.pid) == Some(member.pid)
    });
    if let Some(leader) = leader {
        return Some(*leader);
    }
    for orphan in members {
        if let Err(error) = table::end_orphan(orphan) {
            tracing::warn!(pid = orphan.pid, %instance, %error, "a leftover process was not ended");
        }
    }
    None
}

fn read_piece(path: &std::path::Path, offset: Option<u64>, bytes_max: usize) -> io::Result<LogPiece> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let from = offset.unwrap_or(len.saturating_sub(bytes_max as u64)).min(len);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64).read_to_end(&mut bytes)?;
    let next_offset = from + bytes.len() as u64;
    Ok(LogPiece { bytes, next_offset })
}
