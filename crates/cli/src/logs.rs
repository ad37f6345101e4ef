//! `greenroom logs`: the output of a game server, of all servers of a fleet, or what servers say of one room.
//!
//! Never keeps output: agents do, each its servers' own.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use greenroom_client::{ClientError, ControlClient};
use greenroom_core::{FleetName, InvalidId, RoomId, ServerName};
use greenroom_wire::api::RoomPhase;
use greenroom_wire::error::Code;

use crate::args::{Global, LogsArgs, Output};
use crate::ask::{client, failure, json};
use crate::failure::Failure;
use crate::print;

/// First piece of a log: its end.
const LOG_BYTES: u32 = 65_536;
/// Time between two looks at logs that are followed.
const FOLLOW_PERIOD: Duration = Duration::from_millis(300);
/// Time between two looks at which servers they are.
const LIST_PERIOD: Duration = Duration::from_secs(2);

/// Whose output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Of {
    /// One server's.
    Server(ServerName),
    /// Each server's of a fleet, also of those that come later.
    Fleet(FleetName),
    /// The lines that name the room, of the server that has it now.
    Room(RoomId),
}

impl FromStr for Of {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some(("fleet", name)) => name.parse().map(Self::Fleet),
            Some(("room", id)) => id.parse().map(Self::Room),
            Some(_) | None => text.parse().map(Self::Server),
        }
    }
}

/// Runs the command. Following ends when interrupted, or with the room.
pub(crate) async fn run(args: &LogsArgs, global: &Global) -> Result<(), Failure> {
    let control = client(global)?;
    let read = match &args.of {
        Of::Server(server) => of_server(&control, server, args.follow, global.output).await,
        Of::Fleet(_) | Of::Room(_) => of_many(&control, args, global.output).await,
    };
    read.map_err(|error| failure(&error, global))
}

/// The output as it is.
async fn of_server(
    control: &ControlClient,
    server: &ServerName,
    follow: bool,
    output: Output,
) -> Result<(), ClientError> {
    let mut offset = None;
    loop {
        let piece = control.logs(server, offset, Some(LOG_BYTES)).await?;
        match output {
            Output::Table => print::text(&piece.text),
            Output::Json if piece.text.is_empty() && offset.is_some() => {}
            Output::Json => print::line(json(&piece)),
        }
        if !follow {
            return Ok(());
        }
        if piece.text.is_empty() {
            tokio::time::sleep(FOLLOW_PERIOD).await;
        }
        offset = Some(piece.next_offset);
    }
}

/// Whole lines, each with the server that wrote it.
async fn of_many(control: &ControlClient, args: &LogsArgs, output: Output) -> Result<(), ClientError> {
    let mut tails: BTreeMap<ServerName, Tail> = BTreeMap::new();
    loop {
        let found = list(control, &args.of, !tails.is_empty()).await?;
        // What a list says is good for a while.
        let until = Instant::now() + LIST_PERIOD;
        loop {
            for server in &found.servers {
                let lines = match tails.entry(server.clone()).or_default().read(control, server).await {
                    Ok(lines) => lines,
                    // It may have gone since the list was made.
                    Err(_) if args.follow || found.servers.len() > 1 => continue,
                    Err(error) => return Err(error),
                };
                for line in lines.iter().filter(|line| args.of.wants(line)) {
                    print::line(match output {
                        Output::Table => format!("{server} | {line}"),
                        Output::Json => {
                            serde_json::json!({ "server": server.as_str(), "line": line }).to_string()
                        }
                    });
                }
            }
            if !args.follow || found.is_over {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_PERIOD).await;
            if Instant::now() >= until {
                break;
            }
        }
    }
}

/// Whose output is read now.
struct Found {
    servers: Vec<ServerName>,
    /// Nothing more comes.
    is_over: bool,
}

async fn list(control: &ControlClient, of: &Of, was_there: bool) -> Result<Found, ClientError> {
    match of {
        Of::Server(server) => Ok(Found { servers: vec![server.clone()], is_over: false }),
        Of::Fleet(fleet) => {
            // A fleet that is not there is an error, one without servers is not.
            control.fleet(fleet).await?;
            let list = control.gameservers(Some(fleet)).await?;
            let servers = list.gameservers.into_iter().map(|server| server.name.0).collect();
            Ok(Found { servers, is_over: false })
        }
        Of::Room(room) => match control.room(room).await {
            Ok(status) => {
                Ok(Found { servers: vec![status.server.0], is_over: status.phase == RoomPhase::Ended })
            }
            Err(ClientError::Refused { code: Code::RoomNotFound, .. }) if was_there => {
                Ok(Found { servers: Vec::new(), is_over: true })
            }
            Err(error) => Err(error),
        },
    }
}

/// How far the output of one server was read.
#[derive(Default)]
struct Tail {
    offset: Option<u64>,
    /// The beginning of a line whose end is not there yet.
    begun: String,
}

impl Tail {
    async fn read(
        &mut self,
        control: &ControlClient,
        server: &ServerName,
    ) -> Result<Vec<String>, ClientError> {
        let piece = control.logs(server, self.offset, Some(LOG_BYTES)).await?;
        self.offset = Some(piece.next_offset);
        Ok(self.lines(&piece.text))
    }

    fn lines(&mut self, piece: &str) -> Vec<String> {
        self.begun.push_str(piece);
        let Some(end) = self.begun.rfind('\n') else { return Vec::new() };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Of {
    /// Whether a line is one of those that were asked for.
    fn wants(&self, line: &str) -> bool {
        match self {
            Self::Server(_) | Self::Fleet(_) => true,
            Self::Room(room) => names(line, room.as_str()),
        }
    }
}

/// Whether a line has the name, and not only one that begins or ends with it.
fn names(line: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_a_fleet_and_a_room_are_told_apart() {
        let cases = [
            ("arena-k3x9q", Ok(Of::Server("arena-k3x9q".parse().unwrap()))),
            ("fleet/arena", Ok(Of::Fleet("arena".parse().unwrap()))),
            ("room/r-1", Ok(Of::Room("r-1".parse().unwrap()))),
            ("pod/arena", Err(())),
            ("fleet/", Err(())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Of>().map_err(|_| ()), expected, "{text}");
        }
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut tail = Tail::default();
        let pieces = ["one\ntw", "", "o\n", "three", "\n\nfour\n"];
        let lines: Vec<Vec<String>> = pieces.iter().map(|piece| tail.lines(piece)).collect();
        let expected: [&[&str]; 5] = [&["one"], &[], &["two"], &[], &["three", "", "four"]];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_room_is_named_by_its_whole_name_alone() {
        let cases = [
            ("opened room=r1", true),
            ("{\"room\":\"r1\"}", true),
            ("r1: began", true),
            ("room=r12", false),
            ("room=xr1", false),
            ("room=r1-a and r1", true),
            ("none", false),
        ];
        for (line, expected) in cases {
            assert_eq!(names(line, "r1"), expected, "{line}");
        }
    }
}
