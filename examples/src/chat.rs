//! Guild chat: one authoritative room per guild key, with a short memory. The whole example of a room.
//! Never asks who somebody is: the JoinToken has said so.

use std::collections::VecDeque;
use std::process::ExitCode;

use greenroom_node::Node;
use greenroom_room::{Ctx, Delivery, Player, Reject, Room, Seat, To, Why};
use serde::{Deserialize, Serialize};

const HISTORY_LINES_MAX: usize = 50;
const TEXT_CHARS_MAX: usize = 500;

/// A guild's chat: the last lines said.
#[derive(Serialize, Deserialize)]
pub struct Chat {
    lines: VecDeque<Line>,
}

/// Something said.
#[derive(Clone, Serialize, Deserialize)]
pub struct Line {
    from: String,
    text: String,
}

/// From a member.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum In {
    /// `socket.emit("say", "hello")`, cut to 500 characters.
    Say(String),
}

/// To members.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Out {
    /// The last lines, oldest first, to whoever joins or comes back.
    History(VecDeque<Line>),
    /// A new line.
    Line(Line),
    /// Who is here, whenever that changes.
    Here(Vec<String>),
}

impl Room for Chat {
    type Init = ();
    type In = In;
    type Out = Out;
    type Timer = ();
    const NAME: &'static str = "chat";
    const SEATS_MAX: u16 = 200;
    /// What a member has read stays said, whatever happens to the server.
    const DELIVERY: Delivery = Delivery::CommitFirst;

    fn create(_: &mut Ctx<Self>, (): ()) -> Result<Self, Reject> {
        Ok(Self { lines: VecDeque::new() })
    }

    fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, _: &Player) -> Result<(), Reject> {
        self.resumed(ctx, seat);
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, seat: Seat, In::Say(text): In) {
        let text: String = text.trim().chars().take(TEXT_CHARS_MAX).collect();
        if let Some(player) = ctx.player(seat).filter(|_| !text.is_empty()) {
            let line = Line { from: player.id.clone(), text };
            self.lines.push_back(line.clone());
            self.lines.drain(..self.lines.len().saturating_sub(HISTORY_LINES_MAX));
            ctx.send(To::All, &Out::Line(line));
        }
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        ctx.send(To::Only(seat), &Out::History(self.lines.clone()));
        ctx.send(To::All, &Out::Here(here(ctx, None)));
    }

    fn left(&mut self, ctx: &mut Ctx<Self>, seat: Seat, _: Why) {
        ctx.send(To::Except(seat), &Out::Here(here(ctx, Some(seat))));
    }
}

fn here(ctx: &Ctx<Chat>, without: Option<Seat>) -> Vec<String> {
    ctx.taken().filter(|(seat, _)| Some(*seat) != without).map(|(_, held)| held.player.id.clone()).collect()
}

/// Runs a server of guild chats as the environment tells, until it is told to stop.
#[must_use]
pub fn main() -> ExitCode {
    let mut node = Node::from_env();
    node.rooms::<Chat>();
    node.run()
}

#[cfg(test)]
mod tests {
    use greenroom_room::{HostedRoom, Output, RoomHost};

    use super::*;

    fn heard(room: &mut RoomHost<Chat>) -> Vec<String> {
        let text = |output| match output {
            Output::Send { to, event, payload } => format!("{to:?} {event} {}", payload.unwrap_or_default()),
            end @ (Output::Left { .. } | Output::Finished { .. } | Output::Closed) => format!("{end:?}"),
        };
        room.take_outputs().into_iter().map(text).collect()
    }

    #[test]
    fn members_hear_each_other_and_late_ones_the_history() {
        let mut room = RoomHost::<Chat>::create("", 1, 8).unwrap();
        room.join(Seat(0), Player::new("ann")).unwrap();
        room.join(Seat(1), Player::new("bob")).unwrap();
        heard(&mut room);
        room.handle(Seat(0), "say", Some("\" hi \"")).unwrap();
        room.handle(Seat(1), "say", Some("\"  \"")).unwrap();
        room.tick();
        assert_eq!(heard(&mut room), [r#"All line {"from":"ann","text":"hi"}"#]);
        room.leave(Seat(0), Why::Left).unwrap();
        room.join(Seat(2), Player::new("cid")).unwrap();
        assert_eq!(
            heard(&mut room),
            [
                r#"Except(Seat(0)) here ["bob"]"#,
                "Left { seat: Seat(0), why: Left }",
                r#"Only(Seat(2)) history [{"from":"ann","text":"hi"}]"#,
                r#"All here ["bob","cid"]"#,
            ]
        );
    }

    #[test]
    fn the_memory_and_a_line_are_short() {
        let mut room = RoomHost::<Chat>::create("", 1, 1).unwrap();
        room.join(Seat(0), Player::new("ann")).unwrap();
        for _ in 0..60 {
            room.handle(Seat(0), "say", Some(&format!("{:?}", "x".repeat(600)))).unwrap();
            room.tick();
        }
        let lines = &room.room().lines;
        assert_eq!((lines.len(), lines[0].text.len()), (HISTORY_LINES_MAX, TEXT_CHARS_MAX));
    }
}
