//! Owns the record of what each player did, in words, so that two runs can be compared.
//! Never holds a moment, or what a server chose: those differ between runs of one seed.

use crate::{flow::Flow, flow::Step, player::Action, player::PlayerIndex};

/// What players did, in the order in which they did it; `None`: nobody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Diary(Option<Vec<(u32, String)>>);

impl Diary {
    /// An empty one.
    pub(crate) fn open() -> Self {
        Self(Some(Vec::new()))
    }

    /// Writes an action down.
    pub(crate) fn note(&mut self, flow: &Flow, player: PlayerIndex, action: &Action) {
        if let Some(lines) = &mut self.0
            && let Some(words) = words(flow, action)
        {
            lines.push((player.0, words));
        }
    }

    /// Everything, one line an action.
    pub(crate) fn close(self) -> Vec<(u32, String)> {
        self.0.unwrap_or_default()
    }
}

fn words(flow: &Flow, action: &Action) -> Option<String> {
    Some(match action {
        Action::Tell(_) => return None,
        Action::Find { step } => format!("find {step}"),
        Action::Join { key, .. } => format!("join {key}"),
        Action::Meet => "meet".to_owned(),
        Action::Connect { socket, .. } => format!("connect {socket}"),
        Action::Emit { socket, step, argument, .. } => {
            let event = match &flow.steps[*step] {
                Step::Emit { event, .. } | Step::Play { event, .. } => event.as_str(),
                Step::Find { .. }
                | Step::Join { .. }
                | Step::Address { .. }
                | Step::Connect { .. }
                | Step::Expect { .. }
                | Step::ExpectSeat { .. }
                | Step::Think { .. }
                | Step::Barrier { .. }
                | Step::LeaveLater { .. }
                | Step::Leave { .. } => "",
            };
            format!("emit {socket} {event} {}", without_moments(argument))
        }
        Action::Cut(socket) => format!("cut {socket}"),
        Action::Reconnect(socket) => format!("reconnect {socket}"),
        Action::Leave(socket) => format!("leave {socket}"),
    })
}

/// A stamp is `number@due@sent`: only its number is the same in each run.
fn without_moments(argument: &str) -> String {
    let mut parts = argument.split('@');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_left_out() {
        for (argument, expected) in [
            (r#""5@10@12""#, r#""5""#),
            (r#"{"n":"7@1@2","x":3}"#, r#"{"n":"7","x":3}"#),
            (r#"{"x":3}"#, r#"{"x":3}"#),
        ] {
            assert_eq!(without_moments(argument), expected);
        }
    }
}
