//! The claim of one agent on its data folder.
//!
//! Never outlives its process, however that ends: the system drops the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use greenroom_core::HostName;

use crate::RunError;

/// Held while the agent runs.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Gives the claim back even where a child that is about to start still has the file open.
    fn drop(&mut self) {
        // One that fails is given back by the end of this process.
        let _kept = self.file.unlock();
    }
}

impl Lock {
    /// Claims the folder, which must exist.
    pub(crate) fn take(folder: &Path, host: &HostName) -> Result<Self, RunError> {
        let failed = |source| RunError::Folder { folder: folder.to_owned(), source };
        let path = folder.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut first = String::new();
                file.read_to_string(&mut first).map_err(failed)?;
                return Err(RunError::Locked { folder: folder.to_owned(), first: first.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let name = format!("process {} on host {host}\n", std::process::id());
        let mut write = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(name.as_bytes())
        };
        write().map_err(failed)?;
        Ok(Self { file })
    }
}
