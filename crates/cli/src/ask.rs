//! Commands that ask the control plane: `get`, `allocate` and their likes.
//!
//! Never keeps anything: each asks, prints and ends.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use greenroom_client::{CallTimes, ClientError, ControlClient, RoomsPage};
use greenroom_core::{FleetName, PlayerId, Revision, RoomKey};
use greenroom_wire::Text;
use greenroom_wire::api::{AllocateRequest, DrainKind, DrainRequest, RoomPhase, RoomStatus, SelectorBody};
use greenroom_wire::error::Code;
use greenroom_wire::secret::SecretRef;
use serde::Serialize;

use crate::args::{AllocateArgs, DrainArg, DrainArgs, Global, Kind, Output};
use crate::failure::{Failure, UNAVAILABLE, chain};
use crate::{print, secrets, table};

/// Rooms shown at once; the API's own bound.
const ROOMS_MAX: usize = 5_000;
/// A client of the control plane that was named.
pub(crate) fn client(global: &Global) -> Result<ControlClient, Failure> {
    client_at(&global.server, global.token_from.as_ref(), global.ca.as_deref())
}

/// A client of the control plane at `url`.
pub(crate) fn client_at(
    url: &str,
    token_from: Option<&SecretRef>,
    ca: Option<&Path>,
) -> Result<ControlClient, Failure> {
    let token = secrets::own_token(token_from)?;
    ControlClient::with_ca(url, token.as_ref(), CallTimes::default(), ca).map_err(|error| {
        let hint = match &error {
            ClientError::BadToken => "Give another token.",
            ClientError::Authorities(_) => "Name a file of certificates in PEM with --ca or GREENROOM_CA.",
            ClientError::BadAddress(_)
            | ClientError::Setup(_)
            | ClientError::Refused { .. }
            | ClientError::Unreachable { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Tls { .. }
            | ClientError::Unexpected { .. } => "Write for example --server http://127.0.0.1:8700",
        };
        Failure::usage(chain(&error), hint)
    })
}

/// `greenroom get`.
pub(crate) async fn get(kind: Kind, global: &Global) -> Result<(), Failure> {
    let control = client(global)?;
    let failed = |error| failure(&error, global);
    match kind {
        Kind::Fleets => {
            let list = control.fleets().await.map_err(failed)?;
            show(global, &list, || table::fleets(&list.fleets));
        }
        Kind::Gameservers => {
            let list = control.gameservers(None).await.map_err(failed)?;
            show(global, &list, || table::gameservers(&list.gameservers, now_ms()));
        }
        Kind::Rooms { ended } => {
            let list = control
                .rooms(&RoomsPage { fleet: None, offset: 0, limit: Some(ROOMS_MAX) })
                .await
                .map_err(failed)?;
            let shown = |room: &&RoomStatus| ended || room.phase != RoomPhase::Ended;
            let rooms: Vec<RoomStatus> = list.rooms.iter().filter(shown).cloned().collect();
            show(global, &list, || table::rooms(&rooms, now_ms()));
            let hidden = list.rooms.len() - rooms.len();
            if global.output == Output::Table && hidden > 0 {
                eprintln!("{hidden} more ended within the last 10 minutes; --ended shows them");
            }
            if usize::try_from(list.total).is_ok_and(|total| total > list.rooms.len()) {
                eprintln!("{} of {} rooms are shown", list.rooms.len(), list.total);
            }
        }
        Kind::Hosts => {
            let list = control.hosts().await.map_err(failed)?;
            show(global, &list, || table::hosts(&list.hosts, now_ms()));
        }
        Kind::Slos => {
            let list = control.slos().await.map_err(failed)?;
            show(global, &list, || table::slos(&list, now_ms()));
        }
        Kind::Triggers => {
            let list = control.triggers().await.map_err(failed)?;
            show(global, &list, || table::triggers(&list.triggers, now_ms()));
        }
    }
    Ok(())
}

/// `greenroom allocate`.
pub(crate) async fn allocate(args: &AllocateArgs, global: &Global) -> Result<(), Failure> {
    let control = client(global)?;
    let invalid = |error: greenroom_core::InvalidId| Failure::usage(error.to_string(), "");
    let fleet: FleetName = args.fleet.parse().map_err(invalid)?;
    let key = args.key.as_deref().map(str::parse::<RoomKey>).transpose().map_err(invalid)?;
    let players: Result<Vec<_>, _> =
        args.players.iter().map(|player| player.parse::<PlayerId>().map(Text)).collect();
    let request = AllocateRequest {
        key: key.map(Text),
        players: players.map_err(invalid)?,
        idempotency_key: None,
        timeout_ms: args.timeout_ms,
        init: serde_json::Value::Null,
        fill: args.fill,
        select: selector(args)?,
    };
    let allocation = control.allocate(&fleet, &request).await.map_err(|error| failure(&error, global))?;
    show(global, &allocation, || table::allocation(&allocation, now_ms()));
    Ok(())
}

fn selector(args: &AllocateArgs) -> Result<Option<SelectorBody>, Failure> {
    let revision = args.revision.as_deref().map(str::parse::<Revision>).transpose();
    let revision = revision.map_err(|error| Failure::usage(error.to_string(), ""))?.map(Text);
    let asked = !args.labels.is_empty() || revision.is_some();
    Ok(asked.then(|| SelectorBody { labels: args.labels.iter().cloned().collect(), revision }))
}

/// `greenroom restart`.
pub(crate) async fn restart(fleet: &str, global: &Global) -> Result<(), Failure> {
    let control = client(global)?;
    let fleet: FleetName =
        fleet.parse().map_err(|error: greenroom_core::InvalidId| Failure::usage(error.to_string(), ""))?;
    let answer = control.restart(&fleet).await.map_err(|error| failure(&error, global))?;
    show(global, &answer, || {
        let names: Vec<String> = answer.servers.iter().map(ToString::to_string).collect();
        match names.len() {
            0 => format!("fleet {fleet} has no game server to restart"),
            count => format!("{count} of fleet {fleet} restart: {}", names.join(", ")),
        }
    });
    Ok(())
}

/// `greenroom drain`.
pub(crate) async fn drain(args: &DrainArgs, global: &Global) -> Result<(), Failure> {
    let kind = match args.kind {
        DrainArg::Host => DrainKind::Host,
        DrainArg::Zone => DrainKind::Zone,
    };
    let body = DrainRequest { reason: args.reason.clone(), undo: args.undo };
    let answer = client(global)?.drain(kind, &args.name, &body).await;
    let answer = answer.map_err(|error| failure(&error, global))?;
    show(global, &answer, || table::drain(&answer));
    Ok(())
}

/// `greenroom audit`.
pub(crate) async fn audit(limit: usize, before: Option<u64>, global: &Global) -> Result<(), Failure> {
    let list = client(global)?.audit(before, limit).await.map_err(|error| failure(&error, global))?;
    show(global, &list, || table::audit(&list.entries, now_ms()));
    if let (Output::Table, Some(before)) = (global.output, list.before) {
        eprintln!("older ones: --before {before}");
    }
    Ok(())
}

pub(crate) fn show(global: &Global, answer: &impl Serialize, table: impl FnOnce() -> String) {
    match global.output {
        Output::Table => print::line(table()),
        Output::Json => print::line(json(answer)),
    }
}

pub(crate) fn json(answer: &impl Serialize) -> String {
    serde_json::to_string_pretty(answer).expect("a wire value has only string keys")
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What to say when the control plane refused or was not there.
pub(crate) fn failure(error: &ClientError, global: &Global) -> Failure {
    let absent = |what: String| Failure {
        code: UNAVAILABLE,
        what,
        next: "Start one with `greenroom dev`, or name another with --server.".to_owned(),
    };
    match error {
        ClientError::Refused { code, message, .. } => Failure::new(message.clone(), next(*code)),
        ClientError::Unreachable { .. } => absent(format!("no control plane answers at {}", global.server)),
        ClientError::TimedOut { .. } => absent(error.to_string()),
        ClientError::Unexpected { .. } => {
            Failure::new(error.to_string(), "Does another program listen there?")
        }
        ClientError::Tls { .. } => Failure {
            code: UNAVAILABLE,
            what: error.to_string(),
            next: "Name its authorities with --ca FILE or GREENROOM_CA, and a --server that its certificate is for."
                .to_owned(),
        },
        ClientError::BadAddress(_)
        | ClientError::BadToken
        | ClientError::Authorities(_)
        | ClientError::Setup(_) => Failure::usage(chain(error), ""),
    }
}

/// What to do after a refusal, where its message does not say it.
fn next(code: Code) -> &'static str {
    match code {
        Code::FleetNotFound => "`greenroom get fleets` lists them.",
        Code::GameserverNotFound => "`greenroom get servers` lists them.",
        Code::RoomNotFound => "`greenroom get rooms` lists them.",
        Code::NoCapacity => "`greenroom get fleets` tells what the fleet waits for.",
        Code::HostSuspect => "`greenroom get hosts` tells how long it has been silent.",
        Code::TooMany | Code::Rebuilding | Code::LoginUnavailable => "Try again in a moment.",
        Code::Internal => "The log of the control plane says more.",
        Code::Unauthorized => "Give a token with GREENROOM_TOKEN, or name one with --token-from.",
        Code::TicketNotFound => {
            "It was never filed, was cancelled, or was assigned more than ten minutes ago. File it again if its players still wait."
        }
        Code::BadRequest
        | Code::Forbidden
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::WrongKind
        | Code::RoomFull
        | Code::AlreadyAssigned
        | Code::IdempotencyMismatch
        | Code::TooLarge => "",
    }
}
