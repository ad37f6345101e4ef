//! The Revision of a fleet: what its servers run, as a hash.

use std::collections::BTreeMap;

use greenroom_core::Revision;
use greenroom_core::fleet::{FleetKind, Probe, Template};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::agent::ProbeWord;

#[derive(Serialize)]
struct Hashed<'a> {
    command: &'a [String],
    env: &'a BTreeMap<String, String>,
    /// Left out when there are none, so that fleets without secrets keep their revision.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<&'a str, (&'a str, &'a str)>,
    probe: ProbeWord,
    rooms_per_server: u16,
    seats_per_room: u16,
    /// Left out when not, so that fleets without keep their revision.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    agones: bool,
}

/// First 12 hex digits of SHA-256 over the canonical JSON of what a server can notice: command, environment, where
/// secrets are found with the version of each, probe, sizes and the port for an Agones SDK. No secret: whoever knows a hash could try values. The stop grace and
/// `min_ready` are left out: changing them needs no new process.
#[must_use]
pub fn revision(template: &Template, kind: FleetKind) -> Revision {
    let (rooms_per_server, seats_per_room) = sizes(kind);
    let hashed = Hashed {
        command: &template.command,
        env: &template.env,
        secrets: template
            .secrets
            .iter()
            .map(|(name, at)| (name.as_str(), (at.from.as_str(), at.version.as_str())))
            .collect(),
        probe: (&template.probe).into(),
        rooms_per_server,
        seats_per_room,
        agones: template.agones,
    };
    let text = serde_json::to_vec(&hashed).expect("plain text and numbers always encode");
    let digest = Sha256::digest(&text);
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    hex.parse().expect("hex digits are a valid revision")
}

/// Rooms per server and seats per room; zeros for `mesh`.
#[must_use]
pub const fn sizes(kind: FleetKind) -> (u16, u16) {
    match kind {
        FleetKind::Room { rooms_per_server, seats_per_room } => (rooms_per_server, seats_per_room),
        FleetKind::Mesh => (0, 0),
    }
}

impl From<&Probe> for ProbeWord {
    fn from(probe: &Probe) -> Self {
        match probe {
            Probe::EngineIo => Self::EngineIo,
            Probe::Tcp => Self::Tcp,
            Probe::Http(path) => Self::Http(path.clone()),
            Probe::Sdk { silence } => {
                Self::Sdk { silence_ms: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_core::fleet::SecretSource;

    use super::*;

    fn template(command: &str) -> Template {
        Template {
            command: vec![command.to_owned()],
            env: BTreeMap::new(),
            secrets: std::collections::BTreeMap::new(),
            probe: Probe::EngineIo,
            stop_grace: Duration::from_secs(10),
            min_ready: Duration::ZERO,
            agones: false,
        }
    }

    #[test]
    fn a_revision_follows_what_a_server_can_notice_and_nothing_else() {
        let base = revision(&template("a"), FleetKind::Mesh);
        let mut graceful = template("a");
        graceful.stop_grace = Duration::from_secs(99);
        graceful.min_ready = Duration::from_secs(5);
        assert_eq!(revision(&graceful, FleetKind::Mesh), base);
        assert_ne!(revision(&template("b"), FleetKind::Mesh), base);
        let agones = Template { agones: true, ..template("a") };
        assert_ne!(revision(&agones, FleetKind::Mesh), base, "a server notices the port for its SDK");
        let secret = |version: &str| {
            let source = SecretSource { from: "env:DB".to_owned(), version: version.to_owned() };
            Template { secrets: BTreeMap::from([("DB".to_owned(), source)]), ..template("a") }
        };
        let with = |version: &str| revision(&secret(version), FleetKind::Mesh);
        assert_ne!(with(""), base);
        assert_ne!(with("2"), with(""), "another version of the secret is another revision");
        assert_ne!(
            revision(&template("a"), FleetKind::Room { rooms_per_server: 1, seats_per_room: 4 }),
            base
        );
    }
}
