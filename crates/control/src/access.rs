//! Who may do what on the control listener: roles, and the tokens that carry them.
//!
//! Never holds a token longer than it takes to hash it, and never prints one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use greenroom_wire::secret::Secret;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Time between two looks at the files of tokens: how long a withdrawn token may still be taken.
pub(crate) const REREAD: Duration = Duration::from_secs(5);
/// Shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest token.
const TOKEN_BYTES_MAX: usize = 512;
/// Longest file of tokens.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a token's bearer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Open the agents' stream, and nothing else.
    Agent,
    /// See everything, the servers' output included.
    Read,
    /// That, and hand out rooms, seats and matches: what a back end does.
    Operate,
    /// That, and change what runs; open the agents' stream.
    Admin,
}

impl Role {
    /// Its word in configuration and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Whether its bearer may make a call that needs `needed`.
    #[must_use]
    pub const fn allows(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Admin, _)
            | (Self::Operate, Self::Read | Self::Operate)
            | (Self::Read, Self::Read)
            | (Self::Agent, Self::Agent) => true,
            (Self::Operate, Self::Agent | Self::Admin)
            | (Self::Read, Self::Agent | Self::Operate | Self::Admin)
            | (Self::Agent, Self::Read | Self::Operate | Self::Admin) => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Read, Self::Operate, Self::Admin, Self::Agent];
        let found = all.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| format!("{text:?} is no role; there are read, operate, admin and agent"))
    }
}

/// Tokens of one name and role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Who bears it, for people: in the audit trail and in refusals. Unique.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// Where it is.
    pub source: TokenSource,
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// Here, for as long as the process lives.
    Value(Secret),
    /// One on each line of this file; all are valid. Read again every 5 s, so that one is added, callers change over
    /// and the old one is taken out, without a restart.
    File(PathBuf),
}

/// Why a token cannot be used. Never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read. Make it readable to the control process.
    #[error("the tokens of {name:?} cannot be read from {}", .file.display())]
    Unreadable {
        /// Whose.
        name: String,
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nothing is there to compare with.
    #[error("{name:?} has no token: write one, of at least 16 characters")]
    None {
        /// Whose.
        name: String,
    },
    /// Too short, too long, or with characters that no header can carry.
    #[error(
        "a token of {name:?} cannot be used: it must have 16 to 512 visible ASCII characters; \
         `openssl rand -hex 32` makes a good one"
    )]
    Unfit {
        /// Whose.
        name: String,
    },
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Of the token; `None` where no tokens are configured.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) role: Role,
}

#[derive(Debug, Clone)]
struct Entry {
    caller: Caller,
    digest: [u8; 32],
}

/// All tokens that are valid now, as hashes.
#[derive(Debug)]
pub(crate) struct Tokens {
    configured: Vec<AccessToken>,
    entries: RwLock<Arc<[Entry]>>,
}

impl Tokens {
    pub(crate) fn read(configured: Vec<AccessToken>) -> Result<Self, TokenError> {
        let mut entries = Vec::new();
        for token in &configured {
            entries.extend(read(token)?);
        }
        Ok(Self { configured, entries: RwLock::new(entries.into()) })
    }

    /// Whether callers must have one.
    pub(crate) const fn are_needed(&self) -> bool {
        !self.configured.is_empty()
    }

    /// Whose token this is. Looks at all of them, so that the time taken tells nothing.
    pub(crate) fn bearer(&self, token: &str) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = None;
        for entry in entries.iter() {
            if bool::from(entry.digest.ct_eq(&digest)) {
                found = Some(entry.caller.clone());
            }
        }
        found
    }

    /// Reads the files again until `stop`. A file that cannot be used leaves what it held before in force.
    pub(crate) async fn keep_fresh(&self, every: Duration, stop: CancellationToken) {
        if !self.configured.iter().any(|token| matches!(token.source, TokenSource::File(_))) {
            return stop.cancelled().await;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let configured = self.configured.clone();
            let reading = tokio::task::spawn_blocking(move || {
                configured.iter().map(|token| (token.name.clone(), read(token))).collect::<Vec<_>>()
            });
            if let Ok(outcomes) = reading.await {
                self.replace(outcomes);
            }
        }
    }

    fn replace(&self, outcomes: Vec<(String, Result<Vec<Entry>, TokenError>)>) {
        let before = self.entries.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut now = Vec::new();
        for (name, outcome) in outcomes {
            let of_name =
                || before.iter().filter(|entry| entry.caller.name.as_deref() == Some(name.as_str())).cloned();
            match outcome {
                Ok(read) => {
                    if !of_name().map(|entry| entry.digest).eq(read.iter().map(|entry| entry.digest)) {
                        info!(token = name, count = read.len(), "access tokens changed");
                    }
                    now.extend(read);
                }
                Err(error) => {
                    warn!(%error, "access tokens cannot be read again; those read before stay valid");
                    now.extend(of_name());
                }
            }
        }
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = now.into();
    }
}

fn read(token: &AccessToken) -> Result<Vec<Entry>, TokenError> {
    let text = match &token.source {
        TokenSource::Value(secret) => secret.clone(),
        TokenSource::File(path) => read_file(path).map_err(|source| TokenError::Unreadable {
            name: token.name.clone(),
            file: path.clone(),
            source,
        })?,
    };
    let lines =
        text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let caller = Caller { name: Some(token.name.as_str().into()), role: token.role };
    let mut entries = Vec::new();
    for line in lines {
        let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&line.len());
        if !fits || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unfit { name: token.name.clone() });
        }
        entries.push(Entry { caller: caller.clone(), digest: Sha256::digest(line.as_bytes()).into() });
    }
    if entries.is_empty() { Err(TokenError::None { name: token.name.clone() }) } else { Ok(entries) }
}

fn read_file(path: &Path) -> std::io::Result<Secret> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it has more than 64 KiB"));
    }
    fs::read_to_string(path).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Role; 4] = [Role::Agent, Role::Read, Role::Operate, Role::Admin];

    #[test]
    fn a_role_allows_what_it_says_and_nothing_more() {
        let allowed = |role: Role| ALL.into_iter().filter(|needed| role.allows(*needed)).collect::<Vec<_>>();
        assert_eq!(allowed(Role::Agent), [Role::Agent]);
        assert_eq!(allowed(Role::Read), [Role::Read]);
        assert_eq!(allowed(Role::Operate), [Role::Read, Role::Operate]);
        assert_eq!(allowed(Role::Admin), ALL);
        for role in ALL {
            assert_eq!(role.to_string().parse::<Role>(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    fn token(name: &str, role: Role, source: TokenSource) -> AccessToken {
        AccessToken { name: name.to_owned(), role, source }
    }

    fn value(text: &str) -> TokenSource {
        TokenSource::Value(Secret::new(text))
    }

    #[test]
    fn a_token_that_could_be_guessed_or_is_not_there_is_refused_without_being_told() {
        for text in ["", "\n# nothing\n", "tooshort", "has a space in the middle", "ünicode-is-not-a-header"]
        {
            let error = Tokens::read(vec![token("ci", Role::Read, value(text))]).unwrap_err().to_string();
            assert!(error.contains("\"ci\"") && (text.len() < 5 || !error.contains(text)), "{error}");
        }
        let absent = TokenSource::File(PathBuf::from("/nonexistent/tokens"));
        assert!(matches!(
            Tokens::read(vec![token("ci", Role::Read, absent)]),
            Err(TokenError::Unreadable { .. })
        ));
    }

    #[tokio::test]
    async fn a_file_changes_over_without_a_restart_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, marker) = (folder.path().join("tokens"), folder.path().join("marker"));
        fs::write(&file, "first-first-first\n").unwrap();
        fs::write(&marker, "marker-marker-marker\n").unwrap();
        let tokens = Tokens::read(vec![
            token("ops", Role::Admin, TokenSource::File(file.clone())),
            token("fixed", Role::Read, value("fixed-fixed-fixed")),
            token("marker", Role::Read, TokenSource::File(marker.clone())),
        ])
        .unwrap();
        let stop = CancellationToken::new();
        let fresh = tokens.keep_fresh(Duration::from_millis(5), stop.clone());
        let knows = |text: &str| tokens.bearer(text).map(|caller| caller.role);
        let becomes = async |text: &str, wanted: Option<Role>| {
            let begun = tokio::time::Instant::now();
            while knows(text) != wanted {
                assert!(begun.elapsed() < Duration::from_secs(10), "{text} is not {wanted:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let story = async {
            assert_eq!(knows("first-first-first"), Some(Role::Admin));
            fs::write(&file, "# both\nfirst-first-first\nsecond-second-second\n").unwrap();
            becomes("second-second-second", Some(Role::Admin)).await;
            assert_eq!(knows("first-first-first"), Some(Role::Admin));
            fs::write(&file, "second-second-second\n").unwrap();
            becomes("first-first-first", None).await;
            fs::write(&file, "short\n").unwrap();
            fs::write(&marker, "changed-changed-changed\n").unwrap();
            becomes("changed-changed-changed", Some(Role::Read)).await;
            assert_eq!(knows("second-second-second"), Some(Role::Admin));
            assert_eq!(knows("fixed-fixed-fixed"), Some(Role::Read));
            assert_eq!(knows("short"), None);
            stop.cancel();
        };
        tokio::join!(fresh, story);
    }
}
