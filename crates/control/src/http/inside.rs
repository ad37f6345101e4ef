//! Who is inside, by certificate: agents and the other replicas.
//!
//! Never checks a certificate: the handshake has, and what is judged here are the names in it.

use std::sync::Arc;

use greenroom_core::HostName;
use greenroom_wire::error::Code;

use super::error::ApiError;
use crate::config::MutualTls;

/// The DNS names of the certificate that a caller has shown; it was signed by one of our authorities and is valid.
#[derive(Debug, Clone)]
pub(crate) struct Shown(pub(crate) Arc<[String]>);

/// In the place of the first label: the name of the host.
const HOST: &str = "{host}";

/// Which names say that somebody is inside.
#[derive(Debug)]
pub(crate) struct Inside {
    agents: Vec<String>,
    replicas: Vec<String>,
}

impl Inside {
    pub(crate) fn new(mutual: &MutualTls) -> Self {
        Self { agents: mutual.agents.clone(), replicas: mutual.replicas.clone() }
    }

    /// Refuses all but agents. For which host one speaks is not known yet.
    pub(super) fn check_agent(&self, shown: Option<&Shown>) -> Result<(), ApiError> {
        check("agents open this stream", &self.agents, shown)
    }

    /// Refuses an agent whose certificate is that of another host; why, for its agent.
    pub(super) fn check_host(&self, host: &HostName, shown: Option<&Shown>) -> Result<(), String> {
        let names = shown.map_or(&[][..], |shown| &shown.0);
        let wanted: Vec<String> =
            self.agents.iter().map(|agent| agent.replace(HOST, host.as_str())).collect();
        if names.iter().any(|name| wanted.iter().any(|wanted| is_meant(wanted, name))) {
            return Ok(());
        }
        let (came, wanted) = (names.join(", "), wanted.join(", "));
        Err(format!("host {host} needs a certificate for {wanted}; this one is for {came}"))
    }

    /// Refuses all but replicas.
    pub(super) fn check_replica(&self, shown: Option<&Shown>) -> Result<(), ApiError> {
        check("replicas pass calls on", &self.replicas, shown)
    }
}

fn check(what: &str, wanted: &[String], shown: Option<&Shown>) -> Result<(), ApiError> {
    let names = shown.map_or(&[][..], |shown| &shown.0);
    if names.iter().any(|name| wanted.iter().any(|wanted| is_meant(wanted, name))) {
        return Ok(());
    }
    let wanted = wanted.join(", ");
    let (code, came) = match shown {
        None => (Code::Unauthorized, "without a certificate".to_owned()),
        Some(_) => (Code::Forbidden, format!("with one for {}", names.join(", "))),
    };
    let message =
        format!("only {what}, with a certificate that has the DNS name {wanted}; this call came {came}");
    Err(ApiError::new(code, message))
}

/// `*.` at the beginning stands for one label, and so does `{host}.` as long as no host has been named.
fn is_meant(wanted: &str, name: &str) -> bool {
    let wanted = &wanted.replace(HOST, "*");
    match (wanted.strip_prefix("*."), name.split_once('.')) {
        (Some(parent), Some((_label, of))) => parent.eq_ignore_ascii_case(of),
        (Some(_), None) => false,
        (None, _) => wanted.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_may_be_that_of_one_host() {
        let wanted = |agents: &[&str]| Inside {
            agents: agents.iter().map(|agent| (*agent).to_owned()).collect(),
            replicas: Vec::new(),
        };
        let cases: [(&[&str], &str, bool, bool); 7] = [
            (&["greenroom-agent"], "greenroom-agent", true, true),
            (&["*.agents.test"], "h2.agents.test", true, true),
            (&["{host}.agents.test"], "h1.agents.test", true, true),
            (&["{host}.agents.test"], "H1.agents.test", true, true),
            (&["{host}.agents.test"], "h2.agents.test", true, false),
            (&["{host}.agents.test"], "h1.test", false, false),
            (&["{host}.agents.test", "any"], "any", true, true),
        ];
        let host: HostName = "h1".parse().expect("a name");
        for (agents, name, is_agent, is_host) in cases {
            let (inside, shown) = (wanted(agents), Shown([name.to_owned()].into()));
            assert_eq!(inside.check_agent(Some(&shown)).is_ok(), is_agent, "{agents:?} {name}");
            assert_eq!(inside.check_host(&host, Some(&shown)).is_ok(), is_host, "{agents:?} {name}");
        }
        let (inside, shown) = (wanted(&["{host}.agents.test"]), Shown(["h2.agents.test".to_owned()].into()));
        assert_eq!(
            inside.check_host(&host, Some(&shown)).unwrap_err(),
            "host h1 needs a certificate for h1.agents.test; this one is for h2.agents.test"
        );
    }

    #[test]
    fn names_are_compared_whole_or_by_all_but_the_first_label() {
        let cases = [
            ("greenroom-agent", "greenroom-agent", true),
            ("Greenroom-Agent", "greenroom-agent", true),
            ("greenroom-agent", "greenroom-agent.test", false),
            ("*.agents.test", "h1.agents.test", true),
            ("*.agents.test", "a.h1.agents.test", false),
            ("*.agents.test", "agents.test", false),
            ("*.test", "test", false),
        ];
        for (wanted, name, is) in cases {
            assert_eq!(is_meant(wanted, name), is, "{wanted} {name}");
        }
    }
}
