//! Scenario files of the load tester: what they may say, their defaults, and how they are checked.
//!
//! Never runs one. A file is taken whole or not at all: all its faults are told together.

mod comeback;

use std::ops::Range;
use std::time::Duration;

use greenroom_core::FleetName;
use greenroom_load::Scenario;
use greenroom_load::arrival::Arrival;
use greenroom_load::flow::{Flow, Protocol, SOCKET_IO_PATH, SocketName, Step};
use greenroom_load::scenario::{
    AgreedCheck, Checks, Peers, Scope, SequenceCheck, connect_measure, flow_faults,
};
use greenroom_load::template::Template;
use toml::de::DeTable;

use crate::config::Faults;
use crate::config::fault::Fault;
use crate::config::reader::{Found, Section, did_you_mean, from_text, missing, value_fault};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const SOME: Duration = Duration::from_millis(1);
const STEPS: [&str; 12] = [
    "find", "join", "address", "connect", "emit", "expect", "match", "think", "barrier", "play", "leave",
    "watch",
];

/// Checks `text`; `file` is how faults call it.
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, Faults> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<Fault> = errors.iter().map(Fault::of_syntax).collect();
    let scenario = read(file, root.get_ref(), &mut faults);
    match Faults::of(file, text, faults) {
        Some(faults) => Err(faults),
        None => Ok(scenario),
    }
}

fn read(file: &str, table: &DeTable<'_>, faults: &mut Vec<Fault>) -> Scenario {
    let empty = DeTable::new();
    let mut root = Section::new("the file", 0..0, table);
    let name = root.text("name", faults).map_or(file, |found| found.value).to_owned();
    let players = root.integer::<u32>("players", 1..=1_000_000, faults);
    let group_players = root.integer::<u16>("group_players", 1..=1_000, faults);
    let seed = root.integer::<u64>("seed", 0..=i64::MAX, faults);
    let warm_up = root.duration("warm_up", Duration::ZERO..=DAY, faults);
    let arrival = root.table("arrival", faults);
    let checks = root.table("checks", faults);
    let peers = root.table("peers", faults);
    let (reconnect, cuts) = (root.table("reconnect", faults), root.table("cuts", faults));
    if root.key_span("step").is_none() {
        faults.push(missing(0..0, "there are no steps; write each as [[step]] with do = \"...\""));
    }
    let steps = root.tables("step", faults).unwrap_or_default();
    root.finish(faults);

    let (players, group_players) = sizes(players, group_players, faults);
    let section = |found: Option<Found<_>>| found.map_or((&empty, 0..0), |found| (found.value, found.span));
    let (table, span) = section(arrival);
    let (arrival, together) = read_arrival(Section::new("[arrival]", span, table), faults);
    let (table, span) = section(checks);
    let checks = read_checks(Section::new("[checks]", span, table), faults);
    let (table, span) = section(peers);
    let mut section = Section::new("[peers]", span, table);
    let mut share = |key| section.number(key, 0.0..=1.0, faults).map_or(0.0, |found| found.value);
    let peers = Peers { slow: share("slow"), half_open: share("half_open") };
    section.finish(faults);
    let comeback = comeback::read(reconnect, faults);
    let cuts_span = cuts.as_ref().map(|found| found.span.clone());
    let cuts = comeback::read_cuts(cuts, faults);
    if let Some(span) = cuts_span.filter(|_| comeback.is_none()) {
        faults.push(value_fault(span, "[cuts] needs a [reconnect]: who is cut must come back"));
    }
    Scenario {
        name,
        players,
        group_players,
        seed: seed.map_or(1, |found| found.value),
        arrival,
        together,
        flow: Flow { comeback, cuts, ..read_steps(&steps, faults) },
        checks,
        peers,
        warm_up: warm_up.map_or(Duration::ZERO, |found| found.value),
    }
}

fn sizes(players: Option<Found<u32>>, group: Option<Found<u16>>, faults: &mut Vec<Fault>) -> (u32, u16) {
    let size = group.map_or(1, |found| found.value);
    let Some(players) = players else { return (100 * u32::from(size), size) };
    if !players.value.is_multiple_of(u32::from(size)) {
        let message = format!("players is {}, which makes no whole groups of {size}", players.value);
        faults.push(value_fault(players.span, message));
    }
    (players.value, size)
}

fn word<T>(text: &str, known: &[(&str, T)]) -> Result<T, String>
where
    T: Copy,
{
    known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(text, &words).map_or_else(String::new, |hint| format!("; {hint}"));
        format!("is {text:?}; allowed: {}{hint}", words.join(", "))
    })
}

fn read_arrival(mut section: Section<'_>, faults: &mut Vec<Fault>) -> (Arrival, bool) {
    #[derive(Clone, Copy)]
    enum Shape {
        Ramp,
        Rate,
        Spike,
        Storm,
        Soak,
    }
    let shapes = [
        ("ramp", Shape::Ramp),
        ("rate", Shape::Rate),
        ("spike", Shape::Spike),
        ("storm", Shape::Storm),
        ("soak", Shape::Soak),
    ];
    let shape =
        section.parsed("shape", faults, |text| word(text, &shapes)).map_or(Shape::Ramp, |found| found.value);
    let mut span = |section: &mut Section<'_>, key, default| {
        section.duration(key, Duration::ZERO..=DAY, faults).map_or(default, |found| found.value)
    };
    let (second, ten) = (Duration::from_secs(1), Duration::from_secs(10));
    let arrival = match shape {
        Shape::Ramp => Arrival::Ramp { over: span(&mut section, "over", ten) },
        Shape::Storm => Arrival::Storm { at: span(&mut section, "at", second) },
        Shape::Soak => Arrival::Soak { lasting: span(&mut section, "lasting", Duration::from_secs(600)) },
        Shape::Spike => {
            let (over, at) = (span(&mut section, "over", ten), span(&mut section, "at", second * 5));
            let share = section.number("share", 0.0..=1.0, faults).map_or(0.5, |found| found.value);
            Arrival::Spike { over, at, share }
        }
        Shape::Rate => {
            let found = section.number("per_second", 0.001..=100_000.0, faults);
            Arrival::Rate { per_second: found.map_or(10.0, |found| found.value) }
        }
    };
    let together = section.flag("together", faults).is_some_and(|found| found.value);
    section.finish(faults);
    (arrival, together)
}

fn read_checks(mut section: Section<'_>, faults: &mut Vec<Fault>) -> Checks {
    let sequence = section.table("sequence", faults).map(|found| {
        let mut section = Section::new("[checks.sequence]", found.span, found.value);
        let (socket, event) = (socket(&mut section, faults), event(&mut section, faults));
        let scopes = [("group", Scope::Group), ("everybody", Scope::Everybody)];
        let scope = section.parsed("scope", faults, |text| word(text, &scopes));
        let mut field = |key| section.text(key, faults).map(|found| found.value.to_owned());
        let (sender, number) = (field("sender"), field("number"));
        let whole = section.flag("whole", faults).is_some_and(|found| found.value);
        section.finish(faults);
        SequenceCheck {
            socket,
            event,
            sender,
            number,
            scope: scope.map_or(Scope::Group, |found| found.value),
            whole,
        }
    });
    let agreed = section.table("agreed", faults).map(|found| {
        let mut section = Section::new("[checks.agreed]", found.span, found.value);
        let (socket, event) = (socket(&mut section, faults), event(&mut section, faults));
        let key = required(&mut section, "key", "\"t\"", faults).to_owned();
        let every = section.integer::<u32>("every", 1..=1_000_000, faults);
        let skip = section.integer::<u32>("skip", 0..=1_000_000, faults);
        section.finish(faults);
        let (every, skip) = (every.map_or(8, |found| found.value), skip.map_or(1, |found| found.value));
        AgreedCheck { socket, event, key, every, skip }
    });
    section.finish(faults);
    Checks { sequence, agreed }
}

fn required<'a>(
    section: &mut Section<'a>,
    key: &'static str,
    example: &str,
    faults: &mut Vec<Fault>,
) -> &'a str {
    if section.key_span(key).is_none() {
        let message = format!("{} has no {key}; write for example {key} = {example}", section.title);
        faults.push(missing(section.span.clone(), message));
    }
    section.text(key, faults).map_or("", |found| found.value)
}

fn event(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> String {
    required(section, "event", "\"say\"", faults).to_owned()
}

fn socket(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> SocketName {
    let names = [("lobby", SocketName::Lobby), ("game", SocketName::Game)];
    required(section, "socket", "\"game\"", &mut Vec::new());
    if section.key_span("socket").is_none() {
        let message =
            format!("{} has no socket; write socket = \"lobby\" or socket = \"game\"", section.title);
        faults.push(missing(section.span.clone(), message));
    }
    section.parsed("socket", faults, |text| word(text, &names)).map_or(SocketName::Game, |found| found.value)
}

fn read_steps(tables: &[Found<&DeTable<'_>>], faults: &mut Vec<Fault>) -> Flow {
    let (mut steps, mut spans) = (Vec::new(), Vec::<Range<usize>>::new());
    let before = faults.len();
    for (nth, table) in tables.iter().enumerate() {
        let mut section = Section::new(format!("step {}", nth + 1), table.span.clone(), table.value);
        if let Some(step) = read_step(&mut section, faults) {
            section.finish(faults);
            spans.push(table.span.clone());
            steps.push(step);
        }
    }
    let flow = Flow { steps, comeback: None, cuts: None };
    if faults.len() == before {
        let of_order = flow_faults(&flow).into_iter();
        faults
            .extend(of_order.filter_map(|(at, message)| Some(value_fault(spans.get(at)?.clone(), message))));
    }
    flow
}

/// `None` when it cannot be told which step it is.
fn read_step(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Option<Step> {
    let known = STEPS.map(|step| (step, step));
    if section.key_span("do").is_none() {
        let message = format!("{} has no do; allowed: {}", section.title, STEPS.join(", "));
        faults.push(missing(section.span.clone(), message));
    }
    let what = section.parsed("do", faults, |text| word(text, &known))?.value;
    let ten = Duration::from_secs(10);
    let span = |section: &mut Section<'_>, key, default, faults: &mut Vec<Fault>| {
        section.duration(key, SOME..=DAY, faults).map_or(default, |found| found.value)
    };
    Some(match what {
        "find" => Step::Find { fleet: fleet(section, faults), within: span(section, "within", ten, faults) },
        "join" => Step::Join {
            fleet: fleet(section, faults),
            key: template(section, "key", "\"swarm:{seed}:{group}\"", faults),
            within: span(section, "within", ten, faults),
        },
        "address" => {
            Step::Address { url: required(section, "url", "\"http://127.0.0.1:9000\"", faults).to_owned() }
        }
        "connect" => connect(section, faults),
        "emit" => Step::Emit {
            socket: socket(section, faults),
            event: event(section, faults),
            argument: template(section, "argument", "'{\"player\":\"{player}\"}'", faults),
            ack_within: section.duration("ack_within", SOME..=HOUR, faults).map(|found| found.value),
        },
        "expect" => Step::Expect {
            socket: socket(section, faults),
            event: event(section, faults),
            count: section.integer("count", 1..=1_000_000, faults).map_or(1, |found| found.value),
            within: span(section, "within", ten, faults),
        },
        "match" => Step::ExpectSeat {
            socket: socket(section, faults),
            event: event(section, faults),
            within: span(section, "within", Duration::from_secs(60), faults),
            measure: greenroom_load::flow::Measure::Match,
        },
        "think" => think(section, faults),
        "barrier" => Step::Barrier { within: span(section, "within", Duration::from_secs(60), faults) },
        "play" | "watch" => play(section, what == "watch", faults),
        _ => leave(section, faults),
    })
}

fn fleet(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> FleetName {
    required(section, "fleet", "\"lobby\"", faults);
    let found = section.parsed("fleet", &mut Vec::new(), from_text::<FleetName>);
    if found.is_none() && section.key_span("fleet").is_some() {
        section.parsed("fleet", faults, from_text::<FleetName>);
    }
    found.map_or_else(|| "lobby".parse().expect("a valid fleet name"), |found| found.value)
}

fn template(
    section: &mut Section<'_>,
    key: &'static str,
    example: &str,
    faults: &mut Vec<Fault>,
) -> Template {
    required(section, key, example, &mut Vec::new());
    if section.key_span(key).is_none() {
        let message = format!("{} has no {key}; write for example {key} = {example}", section.title);
        faults.push(missing(section.span.clone(), message));
    }
    let found = section.parsed(key, faults, Template::parse);
    found.map_or_else(|| Template::parse("null").expect("a plain text"), |found| found.value)
}

fn connect(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Step {
    let protocols = [("socketio", Protocol::SocketIo), ("websocket", Protocol::WebSocket)];
    let socket = socket(section, faults);
    let protocol = section.parsed("protocol", faults, |text| word(text, &protocols));
    let protocol = protocol.map_or(Protocol::SocketIo, |found| found.value);
    let path = section.parsed("path", faults, |text| {
        let whole = text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic());
        if whole { Ok(text.to_owned()) } else { Err(format!("is {text:?}; write a path such as \"/play\"")) }
    });
    let default = match protocol {
        Protocol::SocketIo => SOCKET_IO_PATH,
        Protocol::WebSocket => "/",
    };
    let within = section.duration("within", SOME..=HOUR, faults);
    Step::Connect {
        socket,
        protocol,
        path: path.map_or_else(|| default.to_owned(), |found| found.value),
        within: within.map_or(Duration::from_secs(10), |found| found.value),
        measure: connect_measure(socket),
    }
}

fn think(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Step {
    let least = section.duration("least", Duration::ZERO..=DAY, faults);
    let most = section.duration("most", Duration::ZERO..=DAY, faults);
    let least_value = least.as_ref().map_or(Duration::ZERO, |found| found.value);
    let most_value = most.as_ref().map_or(least_value.max(Duration::from_secs(1)), |found| found.value);
    if let Some(most) = most.filter(|most| most.value < least_value) {
        faults.push(value_fault(most.span, "most is shorter than least"));
    }
    Step::Think { least: least_value, most: most_value }
}

fn play(section: &mut Section<'_>, only_watches: bool, faults: &mut Vec<Fault>) -> Step {
    let socket = socket(section, faults);
    let (event, argument, every) = if only_watches {
        ("watch".to_owned(), Template::parse("null").expect("a plain text"), None)
    } else {
        let every = section.duration("every", SOME..=HOUR, faults);
        let every = every.map_or(Duration::from_secs(1), |found| found.value);
        (event(section, faults), template(section, "argument", "'{\"x\":{axis}}'", faults), Some(every))
    };
    let lasting = section.duration("lasting", Duration::ZERO..=DAY, faults);
    let ack_within = section.duration("ack_within", SOME..=HOUR, faults).map(|found| found.value);
    let end = section.text("end", faults).map_or("greenroom:closed", |found| found.value).to_owned();
    let lasting = lasting.map_or(Duration::from_secs(15), |found| found.value);
    Step::Play { socket, event, argument, every, lasting, ack_within, end }
}

fn leave(section: &mut Section<'_>, faults: &mut Vec<Fault>) -> Step {
    let socket = socket(section, faults);
    match section.duration("after", Duration::ZERO..=HOUR, faults) {
        Some(after) => Step::LeaveLater { socket, within: after.value },
        None => Step::Leave { socket },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_ships_can_be_run() {
        for (name, text) in greenroom_load::scenario::SHIPPED {
            let scenario = parse(name, text).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(scenario.faults(), [""; 0], "{name}");
            assert_eq!(scenario.name, name);
        }
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let text = r#"
players = 7
group_players = 4
plyers = 1
[arrival]
shape = "rampe"
[checks.sequence]
socket = "gam"
event = "line"
[peers]
slow = 2
[[step]]
do = "conect"
[[step]]
do = "emit"
socket = "game"
event = "say"
argument = '"{plyer}"'
ack_within = 5
[[step]]
do = "think"
least = "2s"
most = "1s"
"#;
        insta::assert_snapshot!(parse("guild.toml", text).unwrap_err());
    }

    #[test]
    fn steps_out_of_order_are_told_with_their_line() {
        let text = "[[step]]\ndo = \"barrier\"\n[[step]]\ndo = \"connect\"\nsocket = \"game\"\n";
        let told = parse("a.toml", text).unwrap_err().to_string();
        assert!(told.contains("a.toml:3:"), "{told}");
        assert!(told.contains("there is no address to connect to"), "{told}");
    }
}
