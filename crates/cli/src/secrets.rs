//! From references to secrets, for this process itself.
//!
//! Never prints a secret, and never takes one from the command line, where everybody on the machine could read it.

use std::env;

use greenroom_wire::secret::{Secret, SecretRef};

use crate::failure::Failure;

/// The variable that holds this caller's token when `--token-from` does not name another place.
pub(crate) const TOKEN: &str = greenroom_wire::link::env::TOKEN;

/// This caller's token: from `--token-from`, else from the environment, else none.
pub(crate) fn own_token(from: Option<&SecretRef>) -> Result<Option<Secret>, Failure> {
    match from {
        Some(reference) => resolve(reference, "--token-from").map(Some),
        None if env::var_os(TOKEN).is_some_and(|value| !value.is_empty()) => {
            resolve(&SecretRef::Env(TOKEN.to_owned()), "the environment").map(Some)
        }
        None => Ok(None),
    }
}

/// The secret that `reference` names, without white space around it; `whose` says where the reference stands.
pub(crate) fn resolve(reference: &SecretRef, whose: &str) -> Result<Secret, Failure> {
    let failed = |why: String| Failure::usage(format!("{reference} of {whose} cannot be had: {why}"), "");
    let secret = greenroom_provider::secrets::read(reference).map_err(|error| failed(error.to_string()))?;
    let text = secret.expose().trim();
    if text.is_empty() { Err(failed("it is empty".to_owned())) } else { Ok(Secret::new(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_file_and_its_absence_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, " abc \n").unwrap();
        let read = |reference: &SecretRef| resolve(reference, "a test").map_err(|failure| failure.what);
        assert_eq!(read(&SecretRef::File(file.clone())).unwrap().expose(), "abc");
        std::fs::write(&file, "\n").unwrap();
        assert!(read(&SecretRef::File(file)).unwrap_err().ends_with("it is empty"));
        let absent = read(&SecretRef::Env("GREENROOM_TEST_ABSENT".to_owned())).unwrap_err();
        assert_eq!(
            absent,
            "env:GREENROOM_TEST_ABSENT of a test cannot be had: it is not set in the environment of this process"
        );
    }
}
