//! Port ranges: of the host, and of the fleets that want their own.
//!
//! Never looks at the machine: whether a port is free is found out when a server starts.

use std::ops::{Range, RangeInclusive};

use super::fault::Fault;
use super::fleet::ReadFleet;
use super::reader::value_fault;
use super::{ControlSection, HostSection};

/// Reads `"first-last"`.
pub(super) fn parse(text: &str) -> Result<RangeInclusive<u16>, String> {
    let example = "write first and last, such as \"7000-8000\"";
    let (first, last) = text.split_once('-').ok_or_else(|| format!("is {text:?}; {example}"))?;
    let number = |part: &str| {
        part.trim().parse::<u16>().map_err(|_unreadable| {
            format!("is {text:?}, where {:?} is no port; ports are 1024 to 65535; {example}", part.trim())
        })
    };
    let (first, last) = (number(first)?, number(last)?);
    if first < 1024 {
        return Err(format!("is {text:?}; ports below 1024 belong to the system; {example}"));
    }
    if first > last {
        return Err(format!("is {text:?}, which ends before it begins; {example}"));
    }
    Ok(first..=last)
}

/// One range, who takes servers out of it, and where the file says so.
struct Taken {
    title: String,
    ports: RangeInclusive<u16>,
    replicas_max: u64,
    span: Range<usize>,
}

impl Taken {
    fn overlaps(&self, other: &Self) -> bool {
        self.ports.start() <= other.ports.end() && other.ports.start() <= self.ports.end()
    }

    fn told(&self) -> String {
        format!("{} ports {}-{}", self.title, self.ports.start(), self.ports.end())
    }
}

/// Ports must suffice for every fleet at its largest, no two may claim the same, and the control plane needs its own.
pub(super) fn check(
    control: &ControlSection,
    listen_span: Option<&Range<usize>>,
    host: &HostSection,
    ports_span: Option<Range<usize>>,
    fleets: &[ReadFleet],
    faults: &mut Vec<Fault>,
) {
    let ranges = ranges(host, ports_span, fleets);
    let port = control.listen.port();
    for range in ranges.iter().filter(|range| range.ports.contains(&port)) {
        faults.push(value_fault(
            listen_span.unwrap_or(&range.span).clone(),
            format!(
                "[control] listen and {} clash: port {port} lies within, which game servers take; move one of them",
                range.told()
            ),
        ));
    }
    for (index, range) in ranges.iter().enumerate() {
        for other in ranges[..index].iter().filter(|other| other.overlaps(range)) {
            faults.push(value_fault(
                range.span.clone(),
                format!("{} and {} clash; move one of them", range.told(), other.told()),
            ));
        }
        let available = u64::from(range.ports.end() - range.ports.start()) + 1;
        if range.replicas_max > available {
            faults.push(value_fault(
                range.span.clone(),
                format!(
                    "{} are {available}, but replicas_max of the fleets that take them adds up to {}, and each server needs its own port; widen ports or lower replicas_max",
                    range.told(),
                    range.replicas_max
                ),
            ));
        }
    }
}

/// The host's range with the fleets that share it, if any, then each fleet's own.
fn ranges(host: &HostSection, ports_span: Option<Range<usize>>, fleets: &[ReadFleet]) -> Vec<Taken> {
    let (own, shared): (Vec<_>, Vec<_>) = fleets.iter().partition(|read| read.fleet.ports.is_some());
    let mut ranges = Vec::new();
    if !shared.is_empty() || fleets.is_empty() {
        let largest = shared.iter().max_by_key(|read| read.fleet.replicas_max);
        ranges.push(Taken {
            title: "[host]".to_owned(),
            ports: host.ports.clone(),
            replicas_max: shared.iter().map(|read| u64::from(read.fleet.replicas_max)).sum(),
            span: ports_span.or_else(|| largest.map(|read| read.replicas_max_span.clone())).unwrap_or(0..0),
        });
    }
    ranges.extend(own.into_iter().filter_map(|read| {
        Some(Taken {
            title: format!("[fleets.{}]", read.fleet.name),
            ports: read.fleet.ports.clone()?,
            replicas_max: read.fleet.replicas_max.into(),
            span: read.ports_span.clone(),
        })
    }));
    ranges
}
