//! What the kernel counts of TCP on this machine: connections that were dropped or tried again.
//! Never of one process: whatever else runs here counts too.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Counters of `/proc/net/netstat`, each with the name of its figure.
const WATCHED: [(&str, &str); 5] = [
    ("ListenOverflows", "listen_overflows"),
    ("ListenDrops", "listen_drops"),
    ("TCPTimeouts", "tcp_timeouts"),
    ("TCPSynRetrans", "syn_again"),
    ("TCPReqQFullDoCookies", "syn_cookies"),
];

/// The counters at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Tcp(BTreeMap<String, f64>);

impl Tcp {
    pub(crate) fn read() -> anyhow::Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/net/netstat")?)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut of_tcp = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, numbers) = of_tcp.next().zip(of_tcp.next()).context("netstat has two lines of TcpExt")?;
        let pairs = names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace());
        let read = pairs.filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
        Ok(Self(read.collect()))
    }

    /// What was counted since, under the names of figures.
    pub(crate) fn since(&self, before: &Self) -> [(&'static str, f64); 5] {
        let of = |counters: &Self, name: &str| counters.0.get(name).copied().unwrap_or(0.0);
        WATCHED.map(|(name, figure)| (figure, of(self, name) - of(before, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows TCPTimeouts\nTcpExt: 0 7 9\nIpExt: In\nIpExt: 1\n";
        let before = Tcp::parse("TcpExt: ListenOverflows\nTcpExt: 3\n").expect("two lines");
        let after = Tcp::parse(text).expect("two lines");
        let told: Vec<_> = after.since(&before).into_iter().filter(|(_, count)| *count > 0.0).collect();
        assert_eq!(told, [("listen_overflows", 4.0), ("tcp_timeouts", 9.0)]);
        assert!(Tcp::parse("IpExt: In").is_err());
    }
}
