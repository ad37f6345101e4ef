//! Where an engine has put an agent: the address that players dial, the ports that lead there, the labels of the host.
//!
//! Never asks the engine: the crate of each does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Longest label that an allocation may ask for.
const LABEL_CHARS_MAX: usize = 64;

/// What an agent must know of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host part of the addresses that players dial.
    pub public_host: String,
    /// Ports that players reach, and so those that servers take.
    pub ports: RangeInclusive<u16>,
    /// For a port that servers take the one that players dial, where that is another one.
    pub dialled: BTreeMap<u16, u16>,
    /// Whether any other port leads here too.
    pub has_all_ports: bool,
    /// Labels of the host, as far as they are known and an allocation could ask for them.
    pub labels: BTreeMap<String, String>,
}

/// Why ports are no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRange {
    /// There are none.
    Empty,
    /// One is left out.
    Gap {
        /// The lowest one that is missing.
        missing: u16,
        /// The lowest one that is there.
        first: u16,
        /// The highest one.
        last: u16,
    },
}

/// The range that these ports are.
///
/// # Errors
/// See [`NoRange`].
pub fn range(ports: &BTreeSet<u16>) -> Result<RangeInclusive<u16>, NoRange> {
    let (Some(first), Some(last)) = (ports.first().copied(), ports.last().copied()) else {
        return Err(NoRange::Empty);
    };
    match (first..=last).find(|port| !ports.contains(port)) {
        Some(missing) => Err(NoRange::Gap { missing, first, last }),
        None => Ok(first..=last),
    }
}

/// Those of these labels that an allocation could ask for.
pub fn labels<'a>(found: impl IntoIterator<Item = (&'a str, String)>) -> BTreeMap<String, String> {
    let fits = |value: &str| {
        (1..=LABEL_CHARS_MAX).contains(&value.chars().count()) && !value.contains([',', ':', '='])
    };
    let fitting = found.into_iter().filter(|(_, value)| fits(value));
    fitting.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether players could dial it once a port is added. An IPv6 address comes bare.
#[must_use]
pub fn is_dialled(host: &str) -> bool {
    let is_name = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    (1..=253).contains(&host.len()) && (host.parse::<IpAddr>().is_ok() || is_name(host))
}

/// An address as one label of a name: `10-0-0-5`, or `2001-db8--1`.
#[must_use]
pub fn dashed(address: IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    // A label of a name begins and ends with a letter or a digit.
    let text = if text.starts_with('-') { format!("0{text}") } else { text };
    if text.ends_with('-') { format!("{text}0") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_range_or_it_is_told_what_is_missing() {
        let cases: [(&[u16], _); 4] = [
            (&[], Err(NoRange::Empty)),
            (&[7000], Ok(7000..=7000)),
            (&[7002, 7000, 7001], Ok(7000..=7002)),
            (&[7000, 7001, 7003, 7005], Err(NoRange::Gap { missing: 7002, first: 7000, last: 7005 })),
        ];
        for (ports, expected) in cases {
            assert_eq!(range(&ports.iter().copied().collect()), expected, "{ports:?}");
        }
    }

    #[test]
    fn an_address_becomes_one_label_of_a_name() {
        let cases = [
            ("2001:db8::7", "2001-db8--7"),
            ("::1", "0--1"),
            ("fe80::", "fe80--0"),
            ("10.0.0.5", "10-0-0-5"),
        ];
        for (address, expected) in cases {
            assert_eq!(dashed(address.parse().unwrap()), expected);
        }
    }
}
