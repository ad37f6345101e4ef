//! `greenroom scale` and `greenroom explain`: a person's word on how many servers a fleet has, and the reason of the rest.
//!
//! Never decides: each asks the control plane, prints and ends.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use clap::{Args, Subcommand, ValueEnum};
use greenroom_core::FleetName;
use greenroom_wire::api::{
    AutoscaleBody, ChangeWord, DecisionBody, DecisionList, DryRunRequest, FreezeWord, ScaleOrder,
    ScaleRequest,
};
use serde::Serialize;

use crate::args::Global;
use crate::ask::{client, failure, show};
use crate::failure::Failure;
use crate::{config, table};

/// `greenroom scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// FLEET, or FLEET=N for at least N servers; may be given several times. N = 0 takes the order back.
    #[arg(required = true, value_name = "FLEET[=N]", help = FLEETS_HELP)]
    fleets: Vec<String>,
    /// At least this many servers in each fleet that names no number of its own.
    #[arg(long, value_name = "N")]
    to: Option<u32>,
    /// When they should be ready: `30m` from now, or a moment such as 2026-12-01T18:00:00+09:00. Without it at once.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    by: Option<u64>,
    /// How long they are kept from then on.
    #[arg(long = "for", value_name = "SPAN", value_parser = span, default_value = "1h")]
    lasts: Duration,
    /// What the fleets do not do by themselves until they are told otherwise.
    #[arg(long, value_enum)]
    freeze: Option<FreezeArg>,
    /// Changes nothing and tells what would be decided now.
    #[arg(long)]
    dry_run: bool,
}

/// Brackets would be links in a doc comment.
const FLEETS_HELP: &str =
    "FLEET, or FLEET=N for at least N servers; may be given several times. N = 0 takes the order back";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FreezeArg {
    /// They grow and shrink.
    Nothing,
    /// They grow and do not shrink: a release day.
    ScaleIn,
    /// They neither grow nor shrink by policy.
    Everything,
}

/// `greenroom explain`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ExplainVerb {
    /// Tells why a fleet has as many servers as it has.
    Fleet(ExplainArgs),
    /// Tells why a ticket still waits for its match.
    Ticket(crate::ticket::TicketArgs),
}

/// `greenroom explain fleet`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The fleet.
    name: String,
    /// Past decisions shown.
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Tells what the rules of this file would decide now, and changes nothing.
    #[arg(long, value_name = "FILE")]
    dry_run: Option<PathBuf>,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(span) }
}

/// Unix milliseconds.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(now_ms() + u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    }
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
        "write a span from now such as 30m, or a moment such as 2026-12-01T18:00:00+09:00".to_owned()
    })?;
    u64::try_from(at.timestamp_millis()).map_err(|_| "it is before 1970".to_owned())
}

/// A fleet with what is ordered of it.
#[derive(Debug, Serialize)]
struct Ordered {
    fleet: String,
    #[serde(flatten)]
    order: ScaleOrder,
}

/// `greenroom scale`.
pub(crate) async fn scale(args: &ScaleArgs, global: &Global) -> Result<(), Failure> {
    let control = client(global)?;
    let mut requests = Vec::new();
    for word in &args.fleets {
        requests.push(request(word, args)?);
    }
    let (mut ordered, mut decided) = (Vec::new(), Vec::new());
    for (fleet, request) in requests {
        if args.dry_run {
            let body = DryRunRequest { replicas_min: request.replicas, ..DryRunRequest::default() };
            let decision = control.dry_run(&fleet, &body).await.map_err(|error| failure(&error, global))?;
            decided.push((fleet, decision));
        } else {
            let order = control.scale(&fleet, &request).await.map_err(|error| failure(&error, global))?;
            ordered.push(Ordered { fleet: fleet.to_string(), order });
        }
    }
    if args.dry_run {
        let bodies: Vec<&DecisionBody> = decided.iter().map(|(_, decision)| decision).collect();
        show(global, &bodies, || {
            let told = decided.iter().map(|(fleet, decision)| format!("fleet {fleet}: {}", decision.reason));
            told.collect::<Vec<_>>().join("\n")
        });
    } else {
        show(global, &ordered, || {
            let told = ordered.iter().map(|one| format!("fleet {}: {}", one.fleet, order_words(&one.order)));
            told.collect::<Vec<_>>().join("\n")
        });
    }
    Ok(())
}

fn request(word: &str, args: &ScaleArgs) -> Result<(FleetName, ScaleRequest), Failure> {
    let (name, number) = word.split_once('=').map_or((word, None), |(name, number)| (name, Some(number)));
    let own = number.map(str::parse::<u32>).transpose();
    let own =
        own.map_err(|_| Failure::usage(format!("{word:?} has no number behind ="), "Write game=25."))?;
    let replicas = own.or(args.to);
    if replicas.is_none() && args.by.is_some() {
        return Err(Failure::usage("--by goes with a number of servers", "Write game=25 or --to 25."));
    }
    if replicas.is_none() && args.freeze.is_none() {
        return Err(Failure::usage(
            format!("nothing is ordered of {name}"),
            "Write game=25, --to or --freeze.",
        ));
    }
    let begins_ms = args.by.unwrap_or_else(now_ms);
    let until_ms = begins_ms.saturating_add(u64::try_from(args.lasts.as_millis()).unwrap_or(u64::MAX));
    let request = ScaleRequest {
        replicas,
        ready_at_ms: args.by.filter(|_| replicas.is_some()),
        until_ms: replicas.filter(|replicas| *replicas > 0).map(|_| until_ms),
        freeze: args.freeze.map(|freeze| match freeze {
            FreezeArg::Nothing => FreezeWord::Nothing,
            FreezeArg::ScaleIn => FreezeWord::ScaleIn,
            FreezeArg::Everything => FreezeWord::Everything,
        }),
    };
    Ok((fleet_name(name)?, request))
}

/// `greenroom explain`.
pub(crate) async fn explain(verb: &ExplainVerb, global: &Global) -> Result<(), Failure> {
    let args = match verb {
        ExplainVerb::Fleet(args) => args,
        ExplainVerb::Ticket(args) => return crate::ticket::explain(args, global).await,
    };
    let control = client(global)?;
    let fleet = fleet_name(&args.name)?;
    if let Some(file) = &args.dry_run {
        let config = config::load(file)?;
        let Some(spec) = config.fleets.iter().find(|spec| spec.name == fleet) else {
            let what = format!("{} has no [fleets.{fleet}]", file.display());
            return Err(Failure::usage(what, "Name a file with the fleet's new rules."));
        };
        let body = DryRunRequest {
            replicas_min: Some(spec.replicas_min),
            replicas_max: Some(spec.replicas_max),
            autoscale: Some(AutoscaleBody::from(&spec.autoscale)),
        };
        let decision = control.dry_run(&fleet, &body).await.map_err(|error| failure(&error, global))?;
        show(global, &decision, || decision_words(&decision));
        return Ok(());
    }
    let list = control.decisions(&fleet, args.limit).await.map_err(|error| failure(&error, global))?;
    show(global, &list, || words(&list, now_ms()));
    Ok(())
}

fn fleet_name(text: &str) -> Result<FleetName, Failure> {
    text.parse().map_err(|error: greenroom_core::InvalidId| Failure::usage(error.to_string(), ""))
}

/// All of an answer, for people.
fn words(list: &DecisionList, now_ms: u64) -> String {
    let rules = &list.rules;
    let mut parts = vec![format!(
        "fleet {}: {} to {} gameservers; {}",
        list.fleet,
        rules.replicas_min,
        rules.replicas_max,
        order_words(&list.order)
    )];
    match &list.now {
        Some(now) => parts.push(decision_words(now)),
        None => parts.push("nothing is decided yet: agents are awaited".to_owned()),
    }
    if !list.waiting_on.is_empty() {
        parts.push(format!("short: {}", list.waiting_on.join("; ")));
    }
    if !list.decisions.is_empty() {
        let rows: Vec<Vec<String>> = list.decisions.iter().map(|one| past(one, now_ms)).collect();
        parts.push(table::render(&["AGO", "CHANGE", "FROM", "TO", "REASON"], &rows));
    }
    parts.join("\n\n")
}

fn past(decision: &DecisionBody, now_ms: u64) -> Vec<String> {
    vec![
        table::age(now_ms, decision.at_ms),
        change(decision.change).to_owned(),
        decision.replicas_before.to_string(),
        decision.replicas_wanted.to_string(),
        decision.reason.clone(),
    ]
}

fn decision_words(decision: &DecisionBody) -> String {
    let rows: Vec<Vec<String>> = decision
        .policies
        .iter()
        .map(|word| {
            let wants = word.replicas.map_or_else(|| "-".to_owned(), |replicas| replicas.to_string());
            vec![word.policy.clone(), wants, word.because.clone()]
        })
        .collect();
    let seen = &decision.inputs;
    let full = if seen.full > 0 { format!(" ({} full)", seen.full) } else { String::new() };
    let missing = seen.selective_missing.filter(|missing| *missing > 0);
    let missing = missing
        .map_or_else(String::new, |missing| format!(", {missing} missing for calls that take only some"));
    let facts = format!(
        "{} ready{full}, {} starting, {} busy, {} draining, {} unhealthy; {} rooms, {} connections, {} waiting{missing}",
        seen.ready,
        seen.starting,
        seen.busy,
        seen.draining,
        seen.unhealthy,
        seen.rooms,
        seen.connections,
        seen.waiting
    );
    let arrivals = seen.arrivals_per_1000_s.map(|arrivals| format!("{arrivals} rooms in 1000 s"));
    let start = seen.start_p95_ms.map(|start| format!("95 % start within {start} ms"));
    let known: Vec<String> = arrivals.into_iter().chain(start).collect();
    let measured = if known.is_empty() { String::new() } else { format!("\n{}", known.join("; ")) };
    let table = table::render(&["POLICY", "WANTS", "BECAUSE"], &rows);
    format!("now: {}\n{facts}{measured}\n\n{table}", decision.reason)
}

fn order_words(order: &ScaleOrder) -> String {
    let mut words = match &order.prewarm {
        None => "nothing ordered".to_owned(),
        Some(prewarm) => format!(
            "at least {} ordered by {} until {}",
            prewarm.replicas,
            utc(prewarm.ready_at_ms),
            utc(prewarm.until_ms)
        ),
    };
    match order.freeze {
        FreezeWord::Nothing => {}
        FreezeWord::ScaleIn => words.push_str("; scale-in is frozen"),
        FreezeWord::Everything => words.push_str("; frozen"),
    }
    words
}

const fn change(word: ChangeWord) -> &'static str {
    match word {
        ChangeWord::None => "none",
        ChangeWord::AtOnce => "at once",
        ChangeWord::Out => "out",
        ChangeWord::In => "in",
    }
}

fn utc(ms: u64) -> String {
    // Beyond the year 9999 there is no such text.
    let at = UNIX_EPOCH + Duration::from_millis(ms.min(253_402_300_799_000));
    humantime::format_rfc3339_seconds(at).to_string()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_span_from_now_or_a_time_with_its_zone() {
        assert_eq!(moment("2026-12-01T18:00:00+09:00"), Ok(1_796_115_600_000));
        let soon = moment("30m").expect("a span");
        assert!(soon > now_ms() + 1_790_000 && soon <= now_ms() + 1_800_000);
        assert!(moment("18:00").unwrap_err().contains("2026-12-01T18:00:00+09:00"));
        assert!(span("0s").is_err());
    }

    #[test]
    fn an_explanation_tells_order_policies_shortage_and_the_past() {
        let decision = |at_ms: u64, before: u32, wanted: u32, change: &str, reason: &str| {
            serde_json::json!({
                "at_ms": at_ms, "replicas_wanted": wanted, "replicas_before": before, "target": 7,
                "change": change, "binding": "demand", "reason": reason,
                "policies": [
                    {"policy": "demand", "replicas": 3, "because": "3 busy with 1 free places, 0 rooms wait"},
                    {"policy": "base_stock", "because": "not measured"},
                ],
                "blocked_by": [], "inputs": {
                    "ready": 4, "full": 1, "starting": 1, "busy": 3, "draining": 0, "unhealthy": 0, "rooms": 5, "players": 0,
                    "connections": 17, "seats_free": 0, "waiting": 2, "selective_missing": 1, "arrivals_per_1000_s": 340,
                    "start_p95_ms": 2100,
                },
            })
        };
        let now_ms = 1_796_115_600_000_u64;
        let list: DecisionList = serde_json::from_value(serde_json::json!({
            "fleet": "arena",
            "rules": {"replicas_min": 1, "replicas_max": 8, "autoscale": {
                "policies": [{"policy": "demand"}], "cooldown_out_ms": 180_000, "cooldown_in_ms": 3_600_000,
                "settle_in_ms": 300_000, "scale_in": "idle"}},
            "order": {"freeze": "scale_in",
                "prewarm": {"replicas": 6, "ready_at_ms": now_ms, "until_ms": now_ms + 3_600_000}},
            "now": decision(now_ms, 5, 5, "none", "5 stay; demand: 3 busy with 1 free places, 0 rooms wait"),
            "waiting_on": ["1 starting"],
            "decisions": [
                decision(now_ms - 12_000, 3, 5, "out", "5 instead of 3; base_stock: …"),
                decision(now_ms - 7_300_000, 1, 3, "at_once", "3 instead of 1; demand: …"),
            ],
        }))
        .expect("valid");
        insta::assert_snapshot!(words(&list, now_ms));
    }
}
