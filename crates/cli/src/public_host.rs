//! What players dial: a name, in which this machine's own address may be filled in, or an address where that was allowed.
//!
//! Never asks a name server: whoever writes a name has to see that it leads here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};

use greenroom_agent::place::dashed;

/// Stands for this machine's address with dashes: `10-0-0-5`, or `2001-db8--1`.
const ADDRESS: &str = "{ip}";

/// Whether a text is a host name, or an address without port.
pub(crate) fn is_host(text: &str) -> bool {
    let name = text.replace(ADDRESS, "0");
    let fits = (1..=253).contains(&text.len());
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || ".-[]:".contains(c));
    fits && bare && (name.starts_with('[') || !name.contains(':'))
}

/// Whether it is an address that other machines dial. A network that has IPv6 alone reaches names (DNS64), but no IPv4 address,
/// and hardly any certificate has an address in it.
pub(crate) fn is_public_address(text: &str) -> bool {
    literal(text).is_some_and(|address| !address.is_loopback())
}

/// The host with this machine's address in it: the one from which `control` is reached.
///
/// # Errors
/// There is no way to the control plane.
pub(crate) fn filled(text: &str, control: &str) -> io::Result<String> {
    if !text.contains(ADDRESS) {
        return Ok(text.to_owned());
    }
    let authority = control.split("://").last().unwrap_or(control);
    let host = authority.split('/').next().unwrap_or(authority);
    let has_port = host.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = if has_port && host.contains(':') { host.to_owned() } else { format!("{host}:443") };
    let to = host.to_socket_addrs()?.next().ok_or_else(|| io::Error::other("it has no address"))?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Nothing is sent: the system only chooses the address that it would send from.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(text.replace(ADDRESS, &dashed(socket.local_addr()?.ip())))
}

/// Where game servers listen: on loopback as long as players are told to dial loopback; where they dial a name, which may have
/// addresses of both families, on both.
pub(crate) fn bind_for(public_host: &str) -> IpAddr {
    match literal(public_host) {
        Some(address) if address.is_loopback() => address,
        Some(IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        None if public_host == "localhost" => Ipv4Addr::LOCALHOST.into(),
        // A machine without IPv6 cannot listen on it.
        None if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() => Ipv4Addr::UNSPECIFIED.into(),
        None => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn literal(text: &str) -> Option<IpAddr> {
    text.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_without_port() {
        let cases = [
            ("play.example.com", true),
            ("{ip}.games.example.com", true),
            ("192.0.2.7", true),
            ("[2001:db8::1]", true),
            ("2001:db8::1", false),
            ("play.example.com:80", false),
            ("https://play.example.com", false),
            ("{host}.example.com", false),
            ("", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_that_others_dial_are_known() {
        let cases = [
            ("127.0.0.1", false),
            ("[::1]", false),
            ("play.example.com", false),
            ("192.0.2.7", true),
            ("[2001:db8::1]", true),
        ];
        for (text, expected) in cases {
            assert_eq!(is_public_address(text), expected, "{text}");
        }
    }

    #[test]
    fn a_machines_own_address_becomes_a_label() {
        for control in ["http://127.0.0.1:8700", "https://127.0.0.1", "127.0.0.1:8700/v1"] {
            assert_eq!(filled("{ip}.example.com", control).unwrap(), "127-0-0-1.example.com", "{control}");
        }
        assert_eq!(filled("play.example.com", "nonsense").unwrap(), "play.example.com");
        assert!(filled("{ip}.example.com", "http://no-such-host.invalid:1").is_err());
    }

    #[test]
    fn game_servers_listen_where_players_dial() {
        let named = if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() { "::" } else { "0.0.0.0" };
        let cases = [
            ("127.0.0.1", "127.0.0.1"),
            ("localhost", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[2001:db8::1]", "::"),
            ("192.0.2.7", "0.0.0.0"),
            ("play.example.com", named),
        ];
        for (public, bound) in cases {
            assert_eq!(bind_for(public).to_string(), bound, "{public}");
        }
    }
}
