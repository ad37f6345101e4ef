//! The lobby: Socket.IO handlers in front of the matchmaker. A client emits `match`, hears `matched` with the room,
//! its address and a JoinToken, and leaves. Never a queue of its own: tickets wait at the control plane, in one
//! order for all lobby nodes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use greenroom_client::tickets::{self, FiledTicket, TicketDesk, TicketError, TicketTraits};
use greenroom_client::{CallTimes, ControlClient};
use greenroom_core::{FleetName, InstanceId, InvalidId, PlayerId, TicketId};
use greenroom_node::{ArgError, Event, Node, Socket, SocketId};
use greenroom_wire::api::Assignment;
use greenroom_wire::error::Code;
use greenroom_wire::link::env as names;
use greenroom_wire::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Names the fleet that players are matched for.
const MATCH_FLEET: &str = "LOBBY_MATCH_FLEET";
const EXIT_USAGE: u8 = 64;
/// A ticket has room for this much of an instance id; what tells instances apart is at its end.
const INSTANCE_CHARS_MAX: usize = 40;

/// The argument of `match`; none at all is fine too.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MatchRequest {
    /// Who plays, as the game's back end names them. Without it the player is a guest under `name`. This lobby
    /// believes what it is told; a game's own would ask its back end.
    player: Option<String>,
    name: String,
    /// A private match: with those who say the same word. A rating is never taken from a player.
    keyword: Option<String>,
}

struct Lobby {
    desk: TicketDesk,
    instance: InstanceId,
    tickets_total: Cell<u64>,
    /// Who waits. Taking an entry out ends the wait, which cancels the ticket.
    waiting: RefCell<HashMap<SocketId, oneshot::Sender<()>>>,
}

impl Lobby {
    /// `match`: files a ticket for this socket. Asked again while it waits, nothing more happens.
    fn enter(self: &Rc<Self>, socket: &Socket, event: &mut Event) {
        if self.waiting.borrow().contains_key(&socket.id()) {
            return event.reply(&json!({ "waiting": true }));
        }
        let filed = match event.arg(0) {
            Ok(request) => self.file(&request),
            Err(ArgError::Missing { .. }) => self.file(&MatchRequest::default()),
            Err(error @ ArgError::Shape { .. }) => Err(bad_request(&error)),
        };
        match filed {
            Ok(ticket) => {
                event.reply(&json!({ "ticket": ticket.id().as_str() }));
                let (stays, gone) = oneshot::channel();
                self.waiting.borrow_mut().insert(socket.id(), stays);
                socket.spawn(Rc::clone(self).wait(socket.clone(), ticket, gone));
            }
            Err(error) => {
                event.reply(&json!({ "error": error }));
                socket.emit("match_failed", &error);
            }
        }
    }

    fn file(&self, request: &MatchRequest) -> Result<FiledTicket, Value> {
        self.tickets_total.set(self.tickets_total.get() + 1);
        let ticket = ticket_id(&self.instance, self.tickets_total.get());
        let player = player_id(request, &ticket).map_err(|error| bad_request(&error))?;
        let traits = TicketTraits { keyword: request.keyword.clone(), ..TicketTraits::default() };
        self.desk.file_with(ticket, vec![player], traits).map_err(|error| told(&error))
    }

    /// Until the match, the refusal, or the player's leave; what comes first.
    async fn wait(self: Rc<Self>, socket: Socket, mut ticket: FiledTicket, gone: oneshot::Receiver<()>) {
        let answer = tokio::select! {
            answer = ticket.assigned() => answer,
            _ = gone => return,
        };
        self.leave(&socket);
        match answer {
            Ok(assignment) => socket.emit("matched", &seat_of(&assignment)),
            Err(error) => socket.emit("match_failed", &told(&error)),
        }
    }

    /// `cancel`, or the client is gone. A match that is under way already still comes; its seat stays unclaimed and
    /// frees itself. True when it waited.
    fn leave(&self, socket: &Socket) -> bool {
        self.waiting.borrow_mut().remove(&socket.id()).is_some()
    }
}

/// What a player needs to enter the room.
fn seat_of(Assignment { allocation, .. }: &Assignment) -> Value {
    let seat = allocation.seats.first();
    json!({
        "room": allocation.room, "fleet": allocation.fleet, "server": allocation.server,
        "endpoint": allocation.endpoint, "url": allocation.url,
        "player": seat.map(|seat| &seat.player), "seat": seat.map(|seat| seat.seat),
        "token": seat.map(|seat| &seat.token), "expires_at_ms": seat.map(|seat| seat.expires_at_ms),
    })
}

/// An error as the client sees it: `{code, message}`, like those of the HTTP API.
fn told(error: &TicketError) -> Value {
    let code = match error {
        TicketError::Refused { code, .. } => *code,
        TicketError::Busy => Code::TooMany,
        TicketError::Closed => Code::Internal,
    };
    json!({ "code": code, "message": error.to_string() })
}

fn bad_request(error: &dyn std::error::Error) -> Value {
    json!({ "code": Code::BadRequest, "message": error.to_string() })
}

fn ticket_id(instance: &InstanceId, number: u64) -> TicketId {
    let instance = instance.as_str();
    let end = &instance[instance.len().saturating_sub(INSTANCE_CHARS_MAX)..];
    format!("{end}-{number}").parse().expect("40 characters of an instance id, a dash and 20 digits are one")
}

/// Who plays: as told, or a guest whose name is made an id of, unique by the ticket.
fn player_id(request: &MatchRequest, ticket: &TicketId) -> Result<PlayerId, InvalidId> {
    if let Some(player) = &request.player {
        return player.parse();
    }
    let name: String = request.name.chars().filter(char::is_ascii_graphic).take(32).collect();
    let name = if name.is_empty() { "guest" } else { &name };
    format!("{name}~{ticket}").parse()
}

/// The fleet to match for, and the desk's parts, from the environment.
fn from_env() -> Result<(Rc<Lobby>, tickets::Desk), String> {
    let var = |name: &str| std::env::var(name).map_err(|_| format!("a lobby needs {name}"));
    let wrong = |name: &str, error: InvalidId| format!("{name}: {error}");
    let instance: InstanceId =
        var(names::INSTANCE)?.parse().map_err(|error| wrong(names::INSTANCE, error))?;
    let fleet = var(MATCH_FLEET).unwrap_or_else(|_| "arena".to_owned());
    let fleet: FleetName = fleet.parse().map_err(|error| wrong(MATCH_FLEET, error))?;
    let token = std::env::var(names::TOKEN).ok().map(Secret::new);
    let ca = std::env::var_os(names::CONTROL_CA).map(PathBuf::from);
    let (url, times) = (var(names::CONTROL)?, CallTimes::default());
    let control = ControlClient::with_ca(&url, token.as_ref(), times, ca.as_deref())
        .map_err(|error| error.to_string())?;
    let (desk, run) = tickets::open(control, fleet, instance.to_string());
    let lobby = Lobby { desk, instance, tickets_total: Cell::new(0), waiting: RefCell::default() };
    Ok((Rc::new(lobby), run))
}

/// Runs a lobby node as the environment tells, until it is told to stop. `LOBBY_MATCH_FLEET` names the fleet that
/// players are matched for, `arena` by default. Ends with code 64 when the environment is wrong.
#[must_use]
pub fn main() -> ExitCode {
    let (lobby, desk) = match from_env() {
        Ok(parts) => parts,
        Err(fault) => {
            eprintln!("error: {fault}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let mut node = Node::from_env();
    let (enters, cancels) = (Rc::clone(&lobby), Rc::clone(&lobby));
    node.namespace("/")
        .on("match", move |socket, mut event| enters.enter(socket, &mut event))
        .on("cancel", move |socket, mut event| event.reply(&json!({ "cancelled": cancels.leave(socket) })))
        .on_disconnect(move |socket, _| {
            lobby.leave(socket);
        });
    node.on_start(|node| node.spawn(desk.run()));
    node.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_instance_still_makes_tickets() {
        let instance = format!("{}.12345", "x".repeat(70)).parse().unwrap();
        for number in [1, u64::MAX] {
            assert!(ticket_id(&instance, number).as_str().ends_with(&format!("x.12345-{number}")));
        }
    }

    #[test]
    fn a_player_is_who_they_are_said_to_be_or_a_guest() {
        let ticket = "lobby-a.0-5".parse().unwrap();
        for (text, wanted) in [
            (r#"{"player":"player-1","name":"x"}"#, Ok("player-1")),
            (r#"{"name":"Zoë Long"}"#, Ok("ZoLong~lobby-a.0-5")),
            (r#"{"name":"日本"}"#, Ok("guest~lobby-a.0-5")),
            ("{}", Ok("guest~lobby-a.0-5")),
            (r#"{"player":"a b"}"#, Err("may not contain ' '")),
            (r#"{"player":""}"#, Err("must have 1 to 128 characters")),
        ] {
            match (player_id(&serde_json::from_str(text).unwrap(), &ticket), wanted) {
                (Ok(id), Ok(wanted)) => assert_eq!(id.as_str(), wanted),
                (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
                (got, wanted) => panic!("{text}: {got:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_is_told_like_one_of_the_http_api() {
        let refused =
            TicketError::Refused { code: Code::AlreadyAssigned, message: "ann plays already".into() };
        assert_eq!(told(&refused), json!({ "code": "already_assigned", "message": "ann plays already" }));
        assert_eq!(told(&TicketError::Busy)["code"], "too_many");
    }
}
