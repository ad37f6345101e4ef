//! Secrets and the references by which they are named.
//!
//! Never prints, serializes or logs a secret: what travels and is stored is the reference.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A secret text. Prints nothing of itself; its memory is not wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever must send or compare it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a secret is found by whoever needs it: `env:NAME`, `file:PATH`, or `exec:PROGRAM ARGUMENT…`, printed by a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretRef {
    /// A variable of the environment of the process that needs it.
    Env(String),
    /// A file on the machine of the process that needs it.
    File(PathBuf),
    /// A program on that machine and its arguments, divided by spaces; no shell is involved. It prints the secret. Never empty.
    Exec(Vec<String>),
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefError {
    /// Another shape. Perhaps the secret itself was written, so the text is not repeated here.
    #[error(
        "is not a reference to a secret; write \"env:NAME\", \"file:/path\" or \"exec:program arguments\", never the secret itself"
    )]
    Shape,
    /// No program, or words that are not divided by one space each.
    #[error(
        "names no program: after \"exec:\" come a program and its arguments, with one space between; put more than that into a script"
    )]
    Program,
    /// A name that no environment can hold.
    #[error("names no variable: after \"env:\" come A-Z, a-z, 0-9 and _, not beginning with a digit")]
    Name,
}

impl FromStr for SecretRef {
    type Err = SecretRefError;

    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        if let Some(name) = text.strip_prefix("env:") {
            let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return if starts && fits { Ok(Self::Env(name.to_owned())) } else { Err(SecretRefError::Name) };
        }
        if let Some(line) = text.strip_prefix("exec:") {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let fits = words.iter().all(|word| !word.is_empty()) && !line.contains(['\0', '\n']);
            return if fits { Ok(Self::Exec(words)) } else { Err(SecretRefError::Program) };
        }
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() && !path.contains('\0') => Ok(Self::File(PathBuf::from(path))),
            Some(_) | None => Err(SecretRefError::Shape),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Exec(words) => write!(f, "exec:{}", words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["env:TOKEN", "env:_a9", "file:/run/secrets/db", "file:relative", "exec:pass show db"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        for text in
            ["", "hunter2", "env:", "env:9A", "env:A-B", "file:", "vault:x", "ENV:A", "exec:", "exec:a  b"]
        {
            assert!(text.parse::<SecretRef>().is_err(), "{text:?}");
        }
        let told = "hunter2".parse::<SecretRef>().unwrap_err().to_string();
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret Some(Secret)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
