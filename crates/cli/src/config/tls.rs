//! Reads `[control.tls]`, `[agent.tls]` and `[players.tls]`: which certificates are shown, and whose are believed.
//!
//! Never reads a certificate: whoever listens or dials does, again and again.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use greenroom_agent::AgentTls;
use greenroom_control::{ControlTls, MutualTls};
use greenroom_tls::PairFiles;
use toml::de::DeTable;

use super::fault::Fault;
use super::reader::{Section, missing, value_fault};
use super::show::{list, text};

/// What an agent's certificate is called unless the file says otherwise.
const AGENT_NAME: &str = "greenroom-agent";
/// The same of a replica of the control plane.
const REPLICA_NAME: &str = "greenroom-control";
/// Most names in a list.
const NAMES_MAX: usize = 16;

/// `[control.tls]` of `[control]`, and whether callers are to be known by certificate: a faulty section is told as such, not as
/// being absent.
pub(super) fn control(parent: &mut Section<'_>, faults: &mut Vec<Fault>) -> (Option<ControlTls>, bool) {
    let Some(found) = parent.table("tls", faults) else { return (None, false) };
    let mut section = Section::new("[control.tls]", found.span.clone(), found.value);
    let pair = pair(&mut section, Needed::Always, &found.span, faults);
    let ca = path(&mut section, "ca", faults);
    let agents = names(&mut section, "agents", AGENT_NAME, faults);
    let replicas = names(&mut section, "replicas", REPLICA_NAME, faults);
    for key in ["agents", "replicas"] {
        if let Some(span) = section.key_span(key).filter(|_| section.key_span("ca").is_none()) {
            faults.push(value_fault(span, format!("{key} needs ca, whose certificates these names are in")));
        }
    }
    let is_mutual = section.key_span("ca").is_some();
    section.finish(faults);
    let mutual = ca.map(|ca| MutualTls { ca, agents, replicas });
    (pair.map(|pair| ControlTls { pair, mutual }), is_mutual)
}

/// `[agent.tls]`, out of `[agent]`.
pub(super) fn agent(table: &DeTable<'_>, span: Range<usize>, faults: &mut Vec<Fault>) -> Option<AgentTls> {
    let mut parent = Section::new("[agent]", span, table);
    let found = parent.table("tls", faults);
    parent.finish(faults);
    let found = found?;
    let mut section = Section::new("[agent.tls]", found.span.clone(), found.value);
    let ca = path(&mut section, "ca", faults);
    if section.key_span("ca").is_none() {
        let message = "[agent.tls] has no ca, by which control's certificate is checked; \
                       write for example ca = \"/etc/greenroom/tls/ca.crt\"";
        faults.push(missing(found.span.clone(), message));
    }
    let pair = pair(&mut section, Needed::Together, &found.span, faults);
    section.finish(faults);
    Some(AgentTls { ca: ca?, pair })
}

/// `[players.tls]` of `[players]`.
pub(super) fn players(parent: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<PairFiles> {
    let found = parent.table("tls", faults)?;
    let mut section = Section::new("[players.tls]", found.span.clone(), found.value);
    let pair = pair(&mut section, Needed::Always, &found.span, faults);
    section.finish(faults);
    pair
}

/// Whether a certificate must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    /// Certificate and key, or none of them.
    Together,
}

fn pair(
    section: &mut Section<'_>,
    needed: Needed,
    span: &Range<usize>,
    faults: &mut Vec<Fault>,
) -> Option<PairFiles> {
    let keys = [("cert", "tls.crt"), ("key", "tls.key")];
    let written = keys.iter().any(|(key, _)| section.key_span(key).is_some());
    if written || needed == Needed::Always {
        for (key, file) in keys {
            if section.key_span(key).is_none() {
                let title = &section.title;
                let message =
                    format!("{title} has no {key}; write for example {key} = \"/etc/greenroom/tls/{file}\"");
                faults.push(missing(span.clone(), message));
            }
        }
    }
    let (certificates, key) = (path(section, "cert", faults), path(section, "key", faults));
    Some(PairFiles { certificates: certificates?, key: key? })
}

fn path(section: &mut Section<'_>, key: &'static str, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let found = section.parsed(key, faults, |text| match text {
        "" => Err("is empty; write the path of a PEM file".to_owned()),
        _ => Ok(PathBuf::from(text)),
    });
    found.map(|found| found.value)
}

fn names(
    section: &mut Section<'_>,
    key: &'static str,
    default: &str,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    let Some(found) = section.texts(key, faults) else { return vec![default.to_owned()] };
    if !(1..=NAMES_MAX).contains(&found.value.len()) {
        faults.push(value_fault(found.span.clone(), format!("{key} must have 1 to {NAMES_MAX} names")));
    }
    for name in &found.value {
        let bare = if key == "agents" { name.value.strip_prefix("{host}.") } else { None };
        if !is_name(bare.unwrap_or(name.value)) {
            let message = format!(
                "{key} has {:?}; write DNS names as they stand in certificates, such as \"{default}\", \"*.agents.example.com\" or, of agents, \"{{host}}.agents.example.com\"",
                name.value
            );
            faults.push(value_fault(name.span.clone(), message));
        }
    }
    found.value.iter().map(|name| name.value.to_owned()).collect()
}

fn is_name(text: &str) -> bool {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && bare.split('.').all(is_label)
}

pub(super) fn write_control(f: &mut fmt::Formatter<'_>, tls: &ControlTls) -> fmt::Result {
    writeln!(f, "\n[control.tls]")?;
    write_pair(f, &tls.pair)?;
    let Some(mutual) = &tls.mutual else { return Ok(()) };
    writeln!(f, "ca = {}", text(&mutual.ca.display().to_string()))?;
    writeln!(f, "agents = {}", list(&mutual.agents))?;
    writeln!(f, "replicas = {}", list(&mutual.replicas))
}

pub(super) fn write_agent(f: &mut fmt::Formatter<'_>, tls: &AgentTls) -> fmt::Result {
    writeln!(f, "\n[agent.tls]")?;
    tls.pair.as_ref().map_or(Ok(()), |pair| write_pair(f, pair))?;
    writeln!(f, "ca = {}", text(&tls.ca.display().to_string()))
}

pub(super) fn write_players(f: &mut fmt::Formatter<'_>, pair: &PairFiles) -> fmt::Result {
    writeln!(f, "\n[players.tls]")?;
    write_pair(f, pair)
}

fn write_pair(f: &mut fmt::Formatter<'_>, pair: &PairFiles) -> fmt::Result {
    writeln!(f, "cert = {}", text(&pair.certificates.display().to_string()))?;
    writeln!(f, "key = {}", text(&pair.key.display().to_string()))
}
