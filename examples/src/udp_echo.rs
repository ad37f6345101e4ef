//! A game over UDP: what a player says is echoed to everybody in the room. It shows how a server that speaks neither
//! HTTP nor Socket.IO is run: it says over the SDK that it is ready, that it lives, and who sits where.
//!
//! A packet is a line of text: `join TOKEN` first, answered `joined SEAT`; `leave`; anything else is told to the room as
//! `PLAYER: TEXT`. Who is silent for ten seconds has left. Never answers an address that has not joined with more than it
//! was sent, so that nobody can use it to flood another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenroom_client::sdk::{Sdk, SdkError};
use greenroom_core::{FleetName, InstanceId, PlayerId, RoomId, RoomKey, Timestamp};
use greenroom_wire::link::{Status, env as names};
use greenroom_wire::rooms::{EndReason, RoomReport, SeatPhase, SeatReport};
use greenroom_wire::sdk::RoomOver;
use greenroom_wire::token::{JoinClaims, Verifier};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};

/// Who sends nothing for so long has left.
const SILENCE: Duration = Duration::from_secs(10);
/// Time between two words to the agent: what a status asks for.
const WORD_EVERY: Duration = Duration::from_secs(1);
/// Longest packet.
const PACKET_BYTES_MAX: usize = 1_200;
/// Most tokens that are remembered as used. They are forgotten when they expire.
const USED_MAX: usize = 100_000;
const EXIT_USAGE: u8 = 64;
const EXIT_FAILED: u8 = 1;

/// Somebody who plays.
#[derive(Debug)]
struct Seated {
    player: PlayerId,
    address: SocketAddr,
    heard_at: Timestamp,
}

/// One room with somebody in it.
#[derive(Debug)]
struct Room {
    epoch: u32,
    key: Option<RoomKey>,
    seats: BTreeMap<u16, Seated>,
    echoes_total: u32,
}

/// All rooms: a plain value, driven by packets and time.
struct Game {
    instance: InstanceId,
    verifier: Verifier,
    rooms: BTreeMap<RoomId, Room>,
    /// Where each address sits.
    seated: BTreeMap<SocketAddr, (RoomId, u16)>,
    /// Ids of tokens that have opened a seat, with their expiry.
    used: BTreeMap<String, Timestamp>,
    /// Rooms that everybody has left, to be told.
    over: Vec<(RoomId, RoomOver)>,
}

/// A packet on its way out.
type Out = (SocketAddr, String);

impl Game {
    fn new(instance: InstanceId, verifier: Verifier) -> Self {
        let (rooms, seated, used) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { instance, verifier, rooms, seated, used, over: Vec::new() }
    }

    /// Takes a packet and gives what is sent for it.
    fn handle(&mut self, now: Timestamp, from: SocketAddr, packet: &[u8]) -> Vec<Out> {
        let Ok(text) = std::str::from_utf8(packet) else { return Vec::new() };
        let text = text.trim();
        if let Some(token) = text.strip_prefix("join ") {
            let answer = match self.join(now, from, token) {
                Ok(seat) => format!("joined {seat}"),
                Err(why) => format!("refused {why}"),
            };
            return if answer.len() <= packet.len() { vec![(from, answer)] } else { Vec::new() };
        }
        let Some((id, seat)) = self.seated.get(&from).cloned() else { return Vec::new() };
        if text == "leave" {
            self.leave(&id, seat);
            return vec![(from, "left".to_owned())];
        }
        let Some(room) = self.rooms.get_mut(&id) else { return Vec::new() };
        let Some(speaker) = room.seats.get_mut(&seat) else { return Vec::new() };
        speaker.heard_at = now;
        let line = format!("{}: {text}", speaker.player);
        room.echoes_total = room.echoes_total.saturating_add(1);
        room.seats.values().map(|seated| (seated.address, line.clone())).collect()
    }

    fn join(&mut self, now: Timestamp, from: SocketAddr, token: &str) -> Result<u16, String> {
        let claims = self.verifier.claims(token).map_err(|error| error.to_string())?;
        if claims.instance.0 != self.instance {
            return Err("the join token is for another server".to_owned());
        }
        let place = (claims.room.0.clone(), claims.seat);
        // Its answer was lost: the same player asks again from the same address.
        if self.seated.get(&from) == Some(&place) {
            return Ok(claims.seat);
        }
        if claims.is_expired(now) {
            return Err("the join token has expired".to_owned());
        }
        if self.used.contains_key(&claims.jti) {
            return Err("the join token was used".to_owned());
        }
        if self.used.len() >= USED_MAX {
            return Err("too many joined lately; try again in a while".to_owned());
        }
        self.used.insert(claims.jti.clone(), Timestamp::from_unix_ms(claims.exp.saturating_mul(1_000)));
        if let Some((room, seat)) = self.seated.get(&from).cloned() {
            self.leave(&room, seat);
        }
        self.sit(now, from, claims);
        Ok(place.1)
    }

    fn sit(&mut self, now: Timestamp, from: SocketAddr, claims: JoinClaims) {
        let (id, seat) = (claims.room.0, claims.seat);
        let room = self.rooms.entry(id.clone()).or_insert_with(|| Room {
            epoch: claims.epoch,
            key: claims.key.map(|key| key.0),
            seats: BTreeMap::new(),
            echoes_total: 0,
        });
        let seated = Seated { player: claims.sub.0, address: from, heard_at: now };
        // A newer token for a seat is its owner's.
        if let Some(before) = room.seats.insert(seat, seated) {
            self.seated.remove(&before.address);
        }
        self.seated.insert(from, (id, seat));
    }

    fn leave(&mut self, id: &RoomId, seat: u16) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        if let Some(gone) = room.seats.remove(&seat) {
            self.seated.remove(&gone.address);
        }
        if room.seats.is_empty() {
            let result = json!({ "echoes": room.echoes_total });
            let over = RoomOver { epoch: room.epoch, reason: EndReason::Empty, result };
            self.rooms.remove(id);
            self.over.push((id.clone(), over));
        }
    }

    /// Lets go of those who are silent, and of tokens that nobody could use any more.
    fn tick(&mut self, now: Timestamp) {
        let is_silent = |seated: &Seated| now.since(seated.heard_at) >= SILENCE;
        let places = self.rooms.iter().flat_map(|(id, room)| room.seats.iter().map(move |seat| (id, seat)));
        let silent = places.filter(|(_, (_, seated))| is_silent(seated));
        let silent: Vec<(RoomId, u16)> = silent.map(|(id, (seat, _))| (id.clone(), *seat)).collect();
        for (id, seat) in silent {
            self.leave(&id, seat);
        }
        self.used.retain(|_, expires_at| *expires_at > now);
    }

    fn status(&self) -> Status {
        let report = |(id, room): (&RoomId, &Room)| RoomReport {
            room: id.clone().into(),
            epoch: room.epoch,
            key: room.key.clone().map(Into::into),
            seats: room.seats.iter().map(report_seat).collect(),
            kept: false,
        };
        Status {
            connections: u32::try_from(self.seated.len()).unwrap_or(u32::MAX),
            rooms: self.rooms.iter().map(report).collect(),
            ..Status::default()
        }
    }
}

fn report_seat((seat, seated): (&u16, &Seated)) -> SeatReport {
    SeatReport { seat: *seat, player: seated.player.clone().into(), phase: SeatPhase::Connected }
}

/// Why it ends.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{name} is {found:?}; an agent sets it")]
    Env { name: &'static str, found: Option<String> },
    #[error("the port cannot be used: {0}")]
    Port(#[from] std::io::Error),
    #[error(transparent)]
    Sdk(#[from] SdkError),
}

fn var<T: std::str::FromStr>(name: &'static str) -> Result<T, Failure> {
    let found = std::env::var(name).ok();
    let parsed = found.as_deref().and_then(|text| text.parse().ok());
    parsed.ok_or(Failure::Env { name, found })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn serve() -> Result<(), Failure> {
    let address = SocketAddr::new(var(names::BIND)?, var(names::PORT)?);
    let (fleet, instance): (FleetName, InstanceId) = (var(names::FLEET)?, var(names::INSTANCE)?);
    let sdk = Sdk::new(&var::<String>(names::SDK_URL)?)?;
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let socket = UdpSocket::bind(address).await?;
    let mut game = Game::new(instance, Verifier::new(fleet.clone(), &sdk.keys().await?));
    sdk.ready().await?;
    let mut every = tokio::time::interval(WORD_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut packet = [0; PACKET_BYTES_MAX];
    loop {
        tokio::select! {
            _ = told_to_stop.recv() => return Ok(()),
            received = socket.recv_from(&mut packet) => {
                // On some systems an error tells of a packet sent before, to somebody who has gone.
                let Ok((length, from)) = received else { continue };
                let seats = game.seated.len();
                for (to, text) in game.handle(now(), from, &packet[..length]) {
                    // As any packet, it may be lost.
                    let _lost = socket.send_to(text.as_bytes(), to).await;
                }
                if seats == game.seated.len() {
                    continue;
                }
            }
            _ = every.tick() => game.tick(now()),
        }
        if let Err(error) = tell(&sdk, &fleet, &mut game).await {
            println!("the agent was not told: {error}; it is told again in a second");
        }
    }
}

/// Tells the agent how things are: every second, and when somebody came or went.
async fn tell(sdk: &Sdk, fleet: &FleetName, game: &mut Game) -> Result<(), SdkError> {
    game.verifier = Verifier::new(fleet.clone(), &sdk.keys().await?);
    // Told before the status without it, so that the room has ended rather than vanished.
    while let Some((room, over)) = game.over.last() {
        sdk.room_ended(room, over).await?;
        game.over.pop();
    }
    sdk.status(&game.status()).await
}

/// Runs the server as the environment tells, until it is told to stop.
#[must_use]
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::Port).and_then(|runtime| runtime.block_on(serve()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(if matches!(failure, Failure::Env { .. }) { EXIT_USAGE } else { EXIT_FAILED })
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_wire::Text;
    use greenroom_wire::token::{ISSUER, PublicKeys, Purpose, Signer};

    use super::*;

    const T0: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

    struct Table {
        game: Game,
        signer: Signer,
        tokens_total: u32,
    }

    impl Table {
        fn new() -> Self {
            let signer = Signer::new(&Signer::generate(T0).unwrap()).unwrap();
            let keys = PublicKeys { keys: vec![signer.public()] };
            let verifier = Verifier::new("echo".parse().unwrap(), &keys);
            Self { game: Game::new("echo-1.0".parse().unwrap(), verifier), signer, tokens_total: 0 }
        }

        fn token(&mut self, player: &str, seat: u16, instance: &str) -> String {
            self.tokens_total += 1;
            let at = T0.unix_ms() / 1_000;
            let claims = JoinClaims {
                iss: ISSUER.to_owned(),
                aud: Text("echo".parse().unwrap()),
                sub: Text(player.parse().unwrap()),
                jti: format!("t{}", self.tokens_total),
                iat: at,
                exp: at + 30,
                purpose: Purpose::Join,
                room: Text("room-1".parse().unwrap()),
                epoch: 3,
                instance: Text(instance.parse().unwrap()),
                seat,
                seats: 4,
                key: None,
                init: serde_json::Value::Null,
            };
            self.signer.sign(&claims)
        }

        /// What is sent for a packet, as `port text`.
        fn send(&mut self, now: Timestamp, port: u16, text: &str) -> Vec<String> {
            let from = SocketAddr::from(([127, 0, 0, 1], port));
            let sent = self.game.handle(now, from, text.as_bytes());
            sent.into_iter().map(|(to, text)| format!("{} {text}", to.port())).collect()
        }
    }

    #[test]
    fn players_hear_each_other_until_they_leave_and_then_the_room_is_over() {
        let mut table = Table::new();
        let (ann, bob) = (table.token("ann", 0, "echo-1.0"), table.token("bob", 1, "echo-1.0"));
        assert_eq!(table.send(T0, 1, "hello?"), [""; 0], "nobody hears a stranger");
        assert_eq!(table.send(T0, 1, &format!("join {ann}\n")), ["1 joined 0"]);
        assert_eq!(table.send(T0, 1, &format!("join {ann}")), ["1 joined 0"], "its answer was lost");
        assert_eq!(table.send(T0, 2, &format!("join {ann}")), ["2 refused the join token was used"]);
        assert_eq!(table.send(T0, 2, &format!("join {bob}")), ["2 joined 1"]);
        assert_eq!(table.send(T0, 2, "hi"), ["1 bob: hi", "2 bob: hi"]);
        let status = table.game.status();
        assert_eq!((status.connections, status.rooms[0].seats.len(), status.rooms[0].epoch), (2, 2, 3));
        assert_eq!(table.send(T0, 1, "leave"), ["1 left"]);
        assert_eq!(table.send(T0, 1, "hi"), [""; 0]);
        assert!(table.game.over.is_empty());
        table.game.tick(T0 + SILENCE);
        assert_eq!(table.game.status(), Status::default(), "who is silent has left");
        let (room, over) = &table.game.over[0];
        assert_eq!((room.as_str(), over.epoch, &over.result), ("room-1", 3, &json!({"echoes": 1})));
    }

    #[test]
    fn bad_tokens_open_no_seat_and_the_answer_says_why() {
        let mut table = Table::new();
        let elsewhere = table.token("ann", 0, "echo-1.1");
        let late = table.token("ann", 0, "echo-1.0");
        let forged = Table::new().token("ann", 0, "echo-1.0");
        let cases = [
            (elsewhere, T0, "the join token is for another server"),
            (late, T0 + Duration::from_secs(30), "the join token has expired"),
            (forged, T0, "the join token's signature does not match any known key"),
            ("x".repeat(60), T0, "the join token is malformed"),
        ];
        for (token, now, why) in cases {
            assert_eq!(table.send(now, 1, &format!("join {token}")), [format!("1 refused {why}")]);
        }
        assert_eq!(table.game.status(), Status::default());
        assert_eq!(table.send(T0, 1, "join x"), [""; 0], "a short packet brings no longer answer on anybody");
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(table.game.handle(T0, from, b"\xff\xfe").is_empty());
    }

    #[test]
    fn a_seat_follows_its_owners_newest_token() {
        let mut table = Table::new();
        let (first, second) = (table.token("ann", 0, "echo-1.0"), table.token("ann", 0, "echo-1.0"));
        table.send(T0, 1, &format!("join {first}"));
        assert_eq!(table.send(T0, 2, &format!("join {second}")), ["2 joined 0"]);
        assert_eq!(table.send(T0, 1, "hi"), [""; 0], "the old address has no seat any more");
        assert_eq!(table.send(T0, 2, "hi"), ["2 ann: hi"]);
        table.game.tick(T0 + Duration::from_secs(31));
        assert!(table.game.used.is_empty(), "expired tokens are forgotten");
    }
}
