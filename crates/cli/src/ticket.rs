//! `greenroom explain ticket`: why somebody still waits for a match.
//!
//! Never decides: it asks the control plane, prints and ends.

use clap::Args;
use greenroom_core::TicketId;
use greenroom_wire::api::{
    ClockWord, RuleWord, TicketRejections, TicketStatus, TicketStatusBody, TicketWait, TicketWhy,
    WaitsForWord,
};

use crate::args::Global;
use crate::ask::{client, failure, now_ms, show};
use crate::failure::Failure;
use crate::table;

/// `greenroom explain ticket`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TicketArgs {
    /// The ticket's id.
    #[arg(value_name = "ID")]
    ticket: String,
}

/// Prints what became of a ticket.
pub(crate) async fn explain(args: &TicketArgs, global: &Global) -> Result<(), Failure> {
    let parsed: Result<TicketId, greenroom_core::InvalidId> = args.ticket.parse();
    let ticket = parsed.map_err(|error| Failure::usage(error.to_string(), ""))?;
    let status = client(global)?.ticket(&ticket).await.map_err(|error| failure(&error, global))?;
    show(global, &status, || words(&status, now_ms()));
    Ok(())
}

/// All of an answer, for people.
fn words(status: &TicketStatusBody, now_ms: u64) -> String {
    let TicketStatusBody { ticket, fleet, status } = status;
    let wait = match status {
        TicketStatus::Assigned { room } => {
            return format!("ticket {ticket}: plays in room {room} of fleet {fleet}");
        }
        TicketStatus::Waiting(wait) => wait,
    };
    let mut lines = vec![format!(
        "ticket {ticket}: {} of {} players, waiting for a match in fleet {fleet} for {}",
        wait.players,
        wait.match_players,
        seconds(wait.waited_ms)
    )];
    let named = wait.attributes.iter().map(|(name, value)| format!("{name} {value:?}"));
    let private = wait.private.then(|| "its own keyword".to_owned());
    let only: Vec<String> = private.into_iter().chain(named).collect();
    if !only.is_empty() {
        lines.push(format!("only with: {}", only.join(", ")));
    }
    lines.extend(window(wait, now_ms));
    if let Some(at_ms) = wait.smaller_at_ms {
        lines.push(format!("fewer players will do: {}", moment(at_ms, now_ms)));
    }
    if let Some(why) = &wait.why {
        lines.push(waits_for(why, now_ms));
        lines.push(String::new());
        lines.push(others(why));
    }
    lines.join("\n")
}

fn window(wait: &TicketWait, now_ms: u64) -> Option<String> {
    let (rating, window) = (wait.rating?, wait.window?);
    let clock = match wait.clock {
        Some(ClockWord::Strictest) => "of all in a match the narrowest window counts",
        Some(ClockWord::LongestWaiting) | None => {
            "of all in a match the window of the longest-waiting counts"
        }
    };
    let widens = match (wait.widens_at_ms, wait.window_next) {
        (Some(at_ms), Some(next)) => format!("{next} {}", moment(at_ms, now_ms)),
        (Some(_), None) | (None, _) => "as wide as it gets".to_owned(),
    };
    Some(format!("rating {rating}, window {window}, {widens}; {clock}"))
}

fn waits_for(why: &TicketWhy, now_ms: u64) -> String {
    let what = match why.waits_for {
        WaitsForWord::Place => "a gameserver with a place: it has a match".to_owned(),
        WaitsForWord::Players => format!("{} more players", why.missing_players),
        WaitsForWord::Spread => "ratings closer together, or a wider window".to_owned(),
        WaitsForWord::Sizes => "parties of other sizes: these never add up to a match".to_owned(),
    };
    let at = why.match_at_ms.map(|at_ms| format!("; matched {} if nobody comes", moment(at_ms, now_ms)));
    format!("waits for {what}{}", at.unwrap_or_default())
}

fn others(why: &TicketWhy) -> String {
    let rejected = why.rejected.iter().map(|one| vec![rule(one), one.tickets.to_string()]);
    let taken = (why.taken > 0).then(|| vec!["have a match of their own".to_owned(), why.taken.to_string()]);
    let free = match why.candidates {
        0 => "free to play with it".to_owned(),
        _ => format!("free to play with it, {} players", why.candidate_players),
    };
    let last = [vec![free, why.candidates.to_string()], vec!["all".to_owned(), why.others.to_string()]];
    let rows: Vec<Vec<String>> = rejected.chain(taken).chain(last).collect();
    table::render(&["OTHERS THAT WAIT", "TICKETS"], &rows)
}

fn rule(rejected: &TicketRejections) -> String {
    match rejected.rule {
        RuleWord::Keyword => "another keyword, or one of the two has none".to_owned(),
        RuleWord::Attribute => format!("another {}", rejected.attribute.as_deref().unwrap_or("attribute")),
        RuleWord::Size => "together more than a match".to_owned(),
        RuleWord::Rating => "rating too far away".to_owned(),
    }
}

fn moment(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        Some(0) | None => "by now".to_owned(),
        Some(left) => format!("in {}", seconds(left)),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(wait: serde_json::Value) -> String {
        let mut body = serde_json::json!({
            "ticket": "t-17", "fleet": "arena", "state": "waiting", "enqueued_at_ms": 1_000_000, "waited_ms": 7_250,
            "players": 2, "match_players": 4, "private": false,
        });
        let serde_json::Value::Object(parts) = wait else { panic!("{wait} is no object") };
        body.as_object_mut().expect("an object").extend(parts);
        words(&serde_json::from_value(body).expect("valid"), 1_007_250)
    }

    #[test]
    fn an_explanation_tells_the_window_what_is_missing_and_who_is_kept_away() {
        insta::assert_snapshot!(told(serde_json::json!({
            "attributes": {"mode": "duel"}, "rating": 1520, "window": 150, "clock": "longest_waiting",
            "widens_at_ms": 1_010_000, "window_next": 200, "smaller_at_ms": 1_060_000,
            "why": {
                "others": 9, "taken": 1, "candidates": 1, "candidate_players": 1, "waits_for": "players",
                "missing_players": 1, "match_at_ms": 1_015_000, "rejected": [
                    {"rule": "keyword", "tickets": 1}, {"rule": "attribute", "attribute": "mode", "tickets": 2},
                    {"rule": "size", "tickets": 1}, {"rule": "rating", "tickets": 3},
                ],
            },
        })));
    }

    #[test]
    fn private_and_matched_tickets_have_little_to_tell() {
        let why = |waits_for: &str| {
            serde_json::json!({
                "private": true, "why": {
                    "others": 0, "taken": 0, "candidates": 0, "candidate_players": 0, "waits_for": waits_for,
                    "missing_players": 0, "rejected": [],
                },
            })
        };
        let texts = ["place", "spread", "sizes"].map(|word| told(why(word)));
        let assigned =
            serde_json::json!({"ticket": "t-17", "fleet": "arena", "state": "assigned", "room": "r-1"});
        let assigned = words(&serde_json::from_value(assigned).expect("valid"), 0);
        insta::assert_snapshot!(format!("{}\n\n{assigned}", texts.join("\n\n")));
    }
}
