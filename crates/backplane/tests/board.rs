//! A board as its nodes see it.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom_backplane::{Board, Limits};
use greenroom_core::Timestamp;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Command, Logged, NotRestored, Pid, Position, SessionRecord, Told};
use greenroom_wire::link::Relay;
use serde_json::json;

const WINDOW_MS: u64 = 120_000;

type Taken = Result<Box<SessionRecord>, NotRestored>;

struct Stand {
    board: Board,
    now: Timestamp,
}

impl Stand {
    fn new() -> Self {
        Self::expecting(&[])
    }

    fn expecting(nodes: &[&str]) -> Self {
        let expected = nodes.iter().map(|node| (*node).to_owned()).collect::<BTreeSet<_>>();
        let now = Timestamp::from_unix_ms(1_000_000);
        Self { board: Board::new(Limits::default(), 7, expected, now), now }
    }

    fn say(&mut self, node: &str, command: Command) -> Vec<(String, Told)> {
        self.board.handle(self.now, node, command)
    }

    fn wait(&mut self, span: Duration) -> Vec<(String, Told)> {
        self.now = self.now + span;
        self.board.tick(self.now)
    }

    /// Attaches, and tells the epoch and the head.
    fn attach(&mut self, node: &str) -> (u64, u64) {
        attached(&self.say(node, attach(None))).expect("attached")
    }

    fn publish(&mut self, node: &str, seq: u64, text: &str) -> Vec<(String, Told)> {
        self.say(node, Command::Publish { seq, relay: relay(text) })
    }

    fn take(&mut self, node: &str, name: &str) -> (Taken, Vec<(String, Told)>) {
        let mut told = self.say(node, Command::Take { ask: 1, namespace: "/".into(), pid: Pid::new(name) });
        match told.pop() {
            Some((_, Told::Taken { session, .. })) => (session, told),
            other => panic!("{other:?}"),
        }
    }
}

fn attach(known: Option<Position>) -> Command {
    Command::Attach { namespace: "/".into(), known: known.map(Text), window_ms: WINDOW_MS }
}

fn relay(text: &str) -> Relay {
    Relay {
        namespace: "/".into(),
        groups: vec![],
        except: vec![],
        packet: format!("2[\"{text}\"]"),
        attachments: vec![],
    }
}

fn attached(told: &[(String, Told)]) -> Option<(u64, u64)> {
    told.iter().find_map(|(_, told)| {
        let Told::Attached { epoch, head, .. } = told else { return None };
        Some((*epoch, *head))
    })
}

fn events(told: &[(String, Told)]) -> Vec<(String, u64)> {
    let event = |(node, told): &(String, Told)| {
        let Told::Event { event, .. } = told else { return None };
        Some((node.clone(), event.offset))
    };
    told.iter().filter_map(event).collect()
}

fn session(name: &str, node: &str, safe: Position) -> Command {
    Command::Open {
        session: Box::new(SessionRecord {
            pid: Pid::new(name),
            namespace: "/".into(),
            socket: format!("socket-of-{name}"),
            node: node.into(),
            generation: 1,
            groups: vec!["red".into()],
            data: json!({"color": "blue"}),
            window_ms: WINDOW_MS,
            safe: Text(safe),
            own: vec![],
            own_lost: None,
        }),
    }
}

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch, offset, n: 0 }
}

#[test]
fn everybody_reads_one_order_and_nothing_twice() {
    let mut stand = Stand::new();
    let (epoch, head) = stand.attach("a");
    assert_eq!((stand.attach("b"), head), ((epoch, 0), 0));
    let told = stand.publish("a", 1, "one");
    assert_eq!(events(&told), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    assert_eq!(events(&stand.publish("b", 1, "two")), [("a".to_owned(), 2), ("b".to_owned(), 2)]);
    // Sent again over a new connection.
    assert_eq!(stand.publish("a", 1, "one"), []);
    assert_eq!(events(&stand.publish("a", 2, "three")).len(), 2);
    let page = stand.say("b", Command::Read { namespace: "/".into(), after: 1 });
    let [(_, Told::Page { floor: 0, events, .. })] = &page[..] else { panic!("{page:?}") };
    assert_eq!(events.iter().map(|event| event.offset).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_session_is_taken_with_all_that_it_had_and_its_holder_is_told() {
    let mut stand = Stand::new();
    let (epoch, _) = stand.attach("a");
    stand.attach("b");
    stand.publish("a", 1, "one");
    assert_eq!(stand.say("a", session("anna", "a", at(epoch, 1))), []);
    let own = |seq| Command::Own {
        seq,
        pid: Pid::new("anna"),
        generation: 1,
        packet: format!("2[\"own\",{seq}]"),
        attachments: vec![],
    };
    let place = |offset, n| Text(Position { epoch, offset, n });
    assert_eq!(stand.say("a", own(2)), [("a".to_owned(), Told::Owned { seq: 2, position: place(1, 1) })]);
    assert_eq!(stand.say("a", own(3)), [("a".to_owned(), Told::Owned { seq: 3, position: place(1, 2) })]);
    // Again, because the answer was lost.
    assert_eq!(stand.say("a", own(2)), [("a".to_owned(), Told::Owned { seq: 2, position: place(1, 1) })]);
    stand.publish("b", 1, "two");
    assert_eq!(stand.say("a", own(4)), [("a".to_owned(), Told::Owned { seq: 4, position: place(2, 1) })]);
    let pid = Pid::new("anna");
    stand.say("a", Command::Touch { sessions: vec![(pid.clone(), 1, place(1, 1))] });
    let (taken, before) = stand.take("b", "anna");
    let taken = taken.unwrap();
    assert_eq!((taken.generation, taken.node.as_str(), &taken.data["color"]), (2, "b", &json!("blue")));
    let own_places: Vec<_> = taken.own.iter().map(|own| own.position.0).collect();
    assert_eq!(own_places, [place(1, 2).0, place(2, 1).0]);
    assert_eq!(before, [("a".to_owned(), Told::Fenced { pid: pid.clone(), generation: 2 })]);
    // The old holder thaws.
    assert_eq!(stand.say("a", own(5)), [("a".to_owned(), Told::Disowned { seq: 5 })]);
    stand.say("a", Command::Close { pid: pid.clone(), generation: 1 });
    stand.say("a", Command::Update { pid, generation: 1, groups: vec![], data: json!(null) });
    assert_eq!(
        stand.say("a", session("anna", "a", at(epoch, 1))),
        [("a".to_owned(), Told::Fenced { pid: Pid::new("anna"), generation: 2 })]
    );
    // Twice in a row.
    let (again, _) = stand.take("a", "anna");
    assert_eq!(again.unwrap().groups, ["red"]);
}

#[test]
fn the_window_is_a_time_and_begins_when_the_client_goes() {
    let mut stand = Stand::new();
    let (epoch, _) = stand.attach("a");
    for name in ["anna", "berta", "carla"] {
        stand.say("a", session(name, "a", at(epoch, 0)));
    }
    stand.wait(Duration::from_secs(600));
    stand.say("a", Command::Away { pid: Pid::new("anna"), generation: 1 });
    stand.wait(Duration::from_millis(WINDOW_MS));
    assert!(stand.take("a", "anna").0.is_ok());
    // A crash is told by the end of the node's way here.
    let _ = stand.board.handle_gone(stand.now, "a");
    stand.wait(Duration::from_millis(WINDOW_MS + 1));
    assert_eq!(stand.take("b", "berta").0.unwrap_err(), NotRestored::WindowOver);
    stand.wait(Duration::from_millis(WINDOW_MS));
    assert_eq!(stand.take("b", "carla").0.unwrap_err(), NotRestored::UnknownSession);
    assert_eq!(stand.board.sessions(), 0);
}

/// What a node still holds, as it answers to `Wanted`.
fn held(epoch: u64, head: u64, offsets: std::ops::RangeInclusive<u64>) -> Command {
    let event =
        |offset| Logged { offset, at_ms: 1_000_000, origin: "a".into(), seq: offset, relay: relay("x") };
    Command::Restore {
        namespace: "/".into(),
        epoch,
        head,
        events: offsets.map(event).collect(),
        is_last: true,
    }
}

#[test]
fn a_board_that_was_lost_comes_back_out_of_its_nodes() {
    let mut stand = Stand::expecting(&["a", "b"]);
    assert!(matches!(stand.say("a", attach(Some(at(9, 4))))[..], [(_, Told::Wanted { .. })]));
    // What comes meanwhile waits.
    assert_eq!(stand.publish("a", 4, "known"), []);
    assert_eq!(stand.publish("a", 7, "new"), []);
    assert_eq!(stand.say("a", held(9, 4, 2..=4)), []);
    assert!(matches!(stand.say("b", attach(Some(at(9, 6))))[..], [(_, Told::Wanted { .. })]));
    let told = stand.say("b", held(9, 6, 3..=6));
    assert_eq!(attached(&told), Some((9, 6)));
    assert_eq!(events(&told), [("a".to_owned(), 7), ("b".to_owned(), 7)]);
    let page = stand.say("a", Command::Read { namespace: "/".into(), after: 4 });
    let [(_, Told::Page { floor: 1, events, .. })] = &page[..] else { panic!("{page:?}") };
    assert_eq!(events.iter().map(|event| event.offset).collect::<Vec<_>>(), [5, 6, 7]);
}

#[test]
fn what_cannot_be_whole_again_begins_anew() {
    // Somebody who may have held more does not come.
    let mut stand = Stand::expecting(&["a", "b"]);
    stand.say("a", attach(Some(at(9, 4))));
    stand.say("a", held(9, 4, 1..=4));
    let (epoch, head) = attached(&stand.wait(Duration::from_secs(2))).unwrap();
    assert!(epoch != 9 && head == 0);
    // A later event than all that is held.
    let mut stand = Stand::expecting(&["a"]);
    stand.say("a", attach(Some(at(9, 5))));
    let (epoch, _) = attached(&stand.say("a", held(9, 5, 1..=4))).unwrap();
    assert_ne!(epoch, 9);
    // Two logs.
    let mut stand = Stand::expecting(&["a", "b"]);
    stand.say("a", attach(Some(at(9, 1))));
    stand.say("a", held(9, 1, 1..=1));
    stand.say("b", attach(Some(at(8, 1))));
    let (epoch, _) = attached(&stand.say("b", held(8, 1, 1..=1))).unwrap();
    assert!(epoch != 9 && epoch != 8);
    // A straggler that has seen more.
    let mut stand = Stand::new();
    let (epoch, _) = stand.attach("a");
    let (later, head) = attached(&stand.say("b", attach(Some(at(epoch, 1))))).unwrap();
    assert!(later != epoch && head == 0);
}
