//! Secrets of a process: read from where their references say, at each start, so that a changed one counts at once.
//!
//! Never keeps, prints or logs a value.

use std::collections::BTreeMap;
use std::env::{self, VarError};
use std::fs;
use std::path::Path;

use greenroom_wire::secret::{Secret, SecretRef};

use crate::StartError;

/// Largest secret, in bytes: what one variable of an environment takes with ease.
const BYTES_MAX: u64 = 64 * 1024;

/// The values of all references, by variable. Not one is given when one cannot be had.
pub(super) fn resolve(
    references: &BTreeMap<String, SecretRef>,
) -> Result<BTreeMap<String, Secret>, StartError> {
    let mut secrets = BTreeMap::new();
    for (variable, reference) in references {
        let value = read(reference).map_err(|reason| StartError::Secret {
            variable: variable.clone(),
            reference: reference.to_string(),
            reason,
        })?;
        secrets.insert(variable.clone(), value);
    }
    Ok(secrets)
}

/// A file's last line break is the editor's, not the secret's.
fn read(reference: &SecretRef) -> Result<Secret, String> {
    let text = match reference {
        SecretRef::Env(name) => env::var(name).map_err(|error| match error {
            VarError::NotPresent => "it is not set where the agent runs".to_owned(),
            VarError::NotUnicode(_) => "it is no text".to_owned(),
        })?,
        SecretRef::File(path) => read_file(path)?,
    };
    if text.is_empty() {
        Err("it is empty".to_owned())
    } else if text.contains('\0') {
        Err("it has a zero byte, which no program can be given".to_owned())
    } else {
        Ok(Secret::new(text))
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > BYTES_MAX {
        return Err(format!("it has {length} bytes, more than the {BYTES_MAX} allowed"));
    }
    let mut text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}
