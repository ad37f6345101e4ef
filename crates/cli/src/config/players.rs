//! Reads `[players]`: the listener that players reach themselves.
//!
//! Never reads a secret: the file holds references only.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

use greenroom_control::{LoginAlgorithm, Rate, SaidAttributes, Says};
use greenroom_core::FleetName;
use greenroom_core::fleet::{Fleet, FleetKind};
use greenroom_tls::PairFiles;
use greenroom_wire::secret::SecretRef;
use toml::de::DeTable;

use super::fault::Fault;
use super::is_origin;
use super::reader::{Found, Section, missing, value_fault};
use super::tls;

/// Calls a second of one player or address: far above what a game asks.
const RATE_MAX: i64 = 10_000;
const DEFAULT_ALGORITHMS: [LoginAlgorithm; 3] =
    [LoginAlgorithm::EdDsa, LoginAlgorithm::Es256, LoginAlgorithm::Rs256];

/// `[players]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlayersSection {
    /// Where players reach it. No default: it faces the internet.
    pub(crate) listen: SocketAddr,
    /// `[players.tls]`: its certificate. Default none: TLS ends at a proxy in front.
    pub(crate) tls: Option<PairFiles>,
    /// Where the keys of player tokens are.
    pub(crate) keys: KeysSection,
    /// Algorithms that are taken.
    pub(crate) algorithms: Vec<LoginAlgorithm>,
    /// Whom tokens must be meant for.
    pub(crate) audience: String,
    /// Who must have issued them. Default anybody who has the key.
    pub(crate) issuer: Option<String>,
    /// Browser origins that may call. Default none.
    pub(crate) allowed_origins: Vec<String>,
    /// Fleets whose endpoints may be asked for.
    pub(crate) endpoints: Vec<FleetName>,
    /// Fleets whose rooms may be asked for by key.
    pub(crate) rooms: Vec<FleetName>,
    /// Fleets into which players may be matched.
    pub(crate) tickets: Vec<FleetName>,
    /// The claim that has a player's rating. Default none.
    pub(crate) rating_claim: Option<String>,
    /// Who says which attribute of a ticket. Default nobody any.
    pub(crate) said: SaidAttributes,
    /// Calls of one player. Default 5 a second, 20 at once.
    pub(crate) per_player: Rate,
    /// Calls of one address. Default 50 a second, 200 at once.
    pub(crate) per_address: Rate,
    /// Proxies in front whose X-Forwarded-For is believed. Default 0.
    pub(crate) proxies: usize,
}

/// Where the keys of player tokens are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysSection {
    /// A JWK set.
    Url(String),
    /// A JWK set.
    File(PathBuf),
    /// A secret shared with the back end, for HS256.
    Shared(SecretRef),
}

/// Reads the section. `None` when it has a fault.
pub(super) fn read(
    table: &DeTable<'_>,
    span: Range<usize>,
    fleets: &[&Fleet],
    faults: &mut Vec<Fault>,
) -> Option<PlayersSection> {
    let before = faults.len();
    let mut section = Section::new("[players]", span.clone(), table);
    for (key, example) in [("listen", "\"0.0.0.0:8701\""), ("audience", "\"my-game\"")] {
        if section.key_span(key).is_none() {
            let message = format!("[players] has no {key}; write for example {key} = {example}");
            faults.push(missing(span.clone(), message));
        }
    }
    let listen = section.parsed("listen", faults, |text| {
        let parsed = text.parse::<SocketAddr>();
        parsed.map_err(|_| format!("is {text:?}, which is no address; write for example \"0.0.0.0:8701\""))
    });
    let keys = keys(&mut section, &span, faults);
    let algorithms = algorithms(&mut section, keys.as_ref(), faults);
    let audience = section.parsed("audience", faults, named);
    let issuer = section.parsed("issuer", faults, named);
    let allowed_origins = origins(&mut section, faults);
    let endpoints =
        offered(&mut section, "endpoints", fleets, ("mesh", |fleet: &Fleet| !room_kind(fleet)), faults);
    let rooms = offered(&mut section, "rooms", fleets, ("room", room_kind), faults);
    let tickets = offered(&mut section, "tickets", fleets, ("room, with match_players,", matched), faults);
    let rating_claim = section.parsed("rating_claim", faults, named);
    let said = said(&mut section, faults);
    let per_player = rate(&mut section, ["player_calls_per_second", "player_calls_burst"], [5, 20], faults);
    let per_address =
        rate(&mut section, ["address_calls_per_second", "address_calls_burst"], [50, 200], faults);
    let tls = tls::players(&mut section, faults);
    let proxies = section.integer::<usize>("proxies", 0..=8, faults);
    section.finish(faults);
    if faults.len() > before {
        return None;
    }
    Some(PlayersSection {
        listen: listen?.value,
        tls,
        keys: keys?,
        algorithms,
        audience: audience?.value,
        issuer: issuer.map(|found| found.value),
        allowed_origins,
        endpoints,
        rooms,
        tickets,
        rating_claim: rating_claim.map(|found| found.value),
        said,
        per_player,
        per_address,
        proxies: proxies.map_or(0, |found| found.value),
    })
}

/// `attributes = { mode = "player", tier = "token" }`.
fn said(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> SaidAttributes {
    let Some(table) = section.table("attributes", faults) else { return SaidAttributes::default() };
    let mut said = SaidAttributes::default();
    for (name, value) in table.value {
        let key = name.get_ref().as_ref();
        if let Err(why) = super::matching::attribute(key) {
            faults.push(value_fault(name.span(), format!("attributes has {why}")));
        }
        let says = match value.get_ref().as_str() {
            Some("player") => Says::Player,
            Some("token") => Says::Token,
            Some(_) | None => {
                let why =
                    format!("attributes: who says {key}? write {key} = \"player\" or {key} = \"token\"");
                faults.push(value_fault(value.span(), why));
                continue;
            }
        };
        said.0.insert(key.to_owned(), says);
    }
    said
}

fn room_kind(fleet: &Fleet) -> bool {
    matches!(fleet.kind, FleetKind::Room { .. })
}

fn matched(fleet: &Fleet) -> bool {
    room_kind(fleet) && fleet.matching.players > 0
}

fn named(text: &str) -> Result<String, String> {
    let fits = (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(format!("is {text:?}; write it as the tokens have it")) }
}

fn keys(section: &mut Section<'_>, span: &Range<usize>, faults: &mut Vec<Fault>) -> Option<KeysSection> {
    let url = section.parsed("keys_url", faults, |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let whole =
            rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()));
        let message =
            format!("is {text:?}; write a whole address such as \"https://id.example.com/jwks.json\"");
        if whole { Ok(KeysSection::Url(text.to_owned())) } else { Err(message) }
    });
    let file = section.text("keys_file", faults);
    let file = file.map(|found| Found { value: KeysSection::File(found.value.into()), span: found.span });
    let shared = section.parsed("secret", faults, |text| {
        text.parse()
            .map(KeysSection::Shared)
            .map_err(|error: greenroom_wire::secret::SecretRefError| error.to_string())
    });
    let mut given = [url, file, shared].into_iter().flatten();
    let first = given.next();
    if let Some(second) = given.next() {
        faults.push(value_fault(
            second.span,
            "player tokens have one place of their keys; keep one of keys_url, keys_file and secret",
        ));
    }
    if first.is_none()
        && ["keys_url", "keys_file", "secret"].iter().all(|key| section.key_span(key).is_none())
    {
        faults.push(missing(
            span.clone(),
            "[players] has no keys; write for example keys_url = \"https://id.example.com/jwks.json\", or keys_file, or secret",
        ));
    }
    first.map(|found| found.value)
}

fn algorithms(
    section: &mut Section<'_>,
    keys: Option<&KeysSection>,
    faults: &mut Vec<Fault>,
) -> Vec<LoginAlgorithm> {
    let shared = matches!(keys, Some(KeysSection::Shared(_)));
    let Some(words) = section.texts("algorithms", faults) else {
        return if shared { vec![LoginAlgorithm::Hs256] } else { DEFAULT_ALGORITHMS.to_vec() };
    };
    if words.value.is_empty() {
        faults.push(value_fault(words.span, "algorithms is empty; leave it out or name one"));
    }
    let mut algorithms = Vec::new();
    for word in words.value {
        match word.value.parse::<LoginAlgorithm>() {
            Ok(algorithm) if shared == (algorithm == LoginAlgorithm::Hs256) => algorithms.push(algorithm),
            Ok(_) => faults.push(value_fault(
                word.span,
                format!(
                    "algorithms has {:?}; HS256 goes with secret, and the others with public keys",
                    word.value
                ),
            )),
            Err(why) => faults.push(value_fault(word.span, format!("algorithms has {why}"))),
        }
    }
    algorithms
}

fn origins(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Vec<String> {
    let Some(origins) = section.texts("allowed_origins", faults) else { return Vec::new() };
    for origin in origins.value.iter().filter(|origin| !is_origin(origin.value)) {
        let message = format!(
            "allowed_origins has {:?}; write \"*\" or an origin such as \"https://game.example.com\"",
            origin.value
        );
        faults.push(value_fault(origin.span.clone(), message));
    }
    origins.value.iter().map(|origin| origin.value.to_owned()).collect()
}

/// Fleets that players may ask, each of the kind that answers.
fn offered(
    section: &mut Section<'_>,
    key: &'static str,
    fleets: &[&Fleet],
    (kind, fits): (&str, impl Fn(&Fleet) -> bool),
    faults: &mut Vec<Fault>,
) -> Vec<FleetName> {
    let Some(names) = section.texts(key, faults) else { return Vec::new() };
    let mut offered = Vec::new();
    for name in names.value {
        match fleets.iter().find(|fleet| fleet.name.as_str() == name.value) {
            Some(fleet) if fits(fleet) => offered.push(fleet.name.clone()),
            Some(_) => faults.push(value_fault(
                name.span,
                format!("{key} has {:?}, which is no fleet of kind {kind} that could answer", name.value),
            )),
            None => faults
                .push(value_fault(name.span, format!("{key} has {:?}; there is no such fleet", name.value))),
        }
    }
    offered
}

fn rate(
    section: &mut Section<'_>,
    [per_second, burst]: [&'static str; 2],
    [rate, at_once]: [u32; 2],
    faults: &mut Vec<Fault>,
) -> Rate {
    let per_second = section.integer::<u32>(per_second, 1..=RATE_MAX, faults);
    let burst = section.integer::<u32>(burst, 1..=RATE_MAX * 10, faults);
    Rate {
        per_second: per_second.map_or(rate, |found| found.value),
        burst: burst.map_or(at_once, |found| found.value),
    }
}
