//! What a node has said since the last pipeline, written as the arguments of scripts: one script call a namespace.
//! Never sends anything, and never waits for more than there is.

use std::collections::BTreeMap;

use ::redis::{Cmd, Pipeline};
use greenroom_wire::backplane::{Own, Pid, Position, SessionRecord};
use greenroom_wire::link::MeshSend;
use serde_json::Value as Json;

use super::follow::Mark;
use super::rooms::ExpectRooms;

/// Operations in one pipeline.
const OPS_MAX: usize = 512;
/// Bytes in one pipeline, roughly.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of events in one page.
const PAGE_BYTES: usize = 256 * 1024;

/// What an operation of a script will answer.
#[derive(Debug)]
pub(super) enum Expect {
    Attached {
        fresh: u64,
        has_known: bool,
    },
    Kept {
        seq: u64,
    },
    /// The later generation, where there is one.
    Later {
        pid: Pid,
        generation: u64,
    },
    Taken {
        ask: u64,
        pid: Pid,
    },
    Page,
    Nothing,
}

/// What a command of the pipeline will answer.
#[derive(Debug)]
pub(super) enum Expected {
    Script {
        namespace: String,
        answers: Vec<Expect>,
    },
    /// The other nodes, of whom this is to be asked.
    Peers {
        ask: u64,
        send: Box<MeshSend>,
    },
    /// About rooms that outlive their process.
    Rooms(ExpectRooms),
    /// Whether a read was waiting.
    Unblocked,
    Nothing,
}

/// The beginning of every call of the script for a namespace.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    pub(super) script: String,
    pub(super) node: String,
    pub(super) dead_ms: u64,
    pub(super) history_bytes_max: usize,
    pub(super) own_bytes_max: usize,
}

struct Script {
    call: Cmd,
    answers: Vec<Expect>,
}

#[derive(Default)]
pub(super) struct Batch {
    scripts: BTreeMap<String, Script>,
    others: Vec<(Cmd, Expected)>,
    ops: usize,
    bytes: usize,
    /// What comes next must wait for an answer.
    is_ended: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.scripts.is_empty() && self.others.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_ended || self.ops >= OPS_MAX || self.bytes >= BYTES_MAX
    }

    /// Adds a command of its own.
    pub(super) fn push(&mut self, command: Cmd, expected: Expected) {
        self.is_ended |= matches!(expected, Expected::Peers { .. });
        self.ops += 1;
        self.bytes += command.get_packed_command().len();
        self.others.push((command, expected));
    }

    /// The script call of a namespace, for one more operation.
    pub(super) fn script<'a>(&'a mut self, namespace: &str, base: &str, heading: &Heading) -> Adding<'a> {
        let script = self.scripts.entry(namespace.to_owned()).or_insert_with(|| {
            let mut call = ::redis::cmd("EVALSHA");
            call.arg(&heading.script).arg(1).arg(base).arg(&heading.node).arg(heading.dead_ms);
            call.arg(heading.history_bytes_max).arg(heading.own_bytes_max);
            Script { call, answers: Vec::new() }
        });
        self.ops += 1;
        Adding { script, bytes: &mut self.bytes }
    }

    /// All of it, and what each command will answer.
    pub(super) fn take(&mut self) -> (Pipeline, Vec<Expected>) {
        let batch = std::mem::take(self);
        let (mut pipeline, mut expected) = (::redis::pipe(), Vec::new());
        for (namespace, script) in batch.scripts {
            pipeline.add_command(script.call);
            expected.push(Expected::Script { namespace, answers: script.answers });
        }
        for (command, each) in batch.others {
            pipeline.add_command(command);
            expected.push(each);
        }
        (pipeline, expected)
    }
}

/// One more operation of a script.
pub(super) struct Adding<'a> {
    script: &'a mut Script,
    bytes: &'a mut usize,
}

impl Adding<'_> {
    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        *self.bytes += bytes.len();
        self.script.call.arg(bytes);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.script.call.arg(number);
        self
    }

    /// Scripts compare these as texts, so all have one length.
    fn seq(&mut self, seq: u64) -> &mut Self {
        self.text(&format!("{seq:020}"))
    }

    fn place(&mut self, place: &Position) -> &mut Self {
        self.text(&hex(place.epoch)).number(place.offset).number(u64::from(place.n))
    }

    fn json(&mut self, value: &impl serde::Serialize) -> &mut Self {
        let bytes = serde_json::to_vec(value).expect("texts and JSON values are JSON");
        self.bytes(&bytes)
    }

    fn expect(&mut self, expect: Expect) {
        self.script.answers.push(expect);
    }

    pub(super) fn attach(
        mut self,
        known: Option<Position>,
        mark: Option<&Mark>,
        retained_ms: u64,
        fresh: u64,
        was_there: bool,
    ) {
        let has_known = known.is_some() || mark.is_some();
        let (known_epoch, known_offset) =
            known.map_or_else(Default::default, |at| (hex(at.epoch), at.offset));
        self.text("A").text(&known_epoch).number(known_offset).number(retained_ms).text(&hex(fresh));
        match mark {
            Some(mark) => self.text(&hex(mark.epoch)).number(mark.offset).text(&mark.header),
            None => self.text("").number(0).text(""),
        };
        self.text(flag(was_there)).expect(Expect::Attached { fresh, has_known });
    }

    pub(super) fn publish(mut self, seq: u64, relay: &greenroom_wire::link::Relay) {
        self.text("P").seq(seq).json(relay);
    }

    pub(super) fn own(mut self, pid: &Pid, generation: u64, seq: u64, packet: &str, attachments: &[String]) {
        self.text("O").text(pid.reveal()).number(generation).seq(seq).json(&(packet, attachments));
        self.expect(Expect::Kept { seq });
    }

    pub(super) fn open(mut self, session: &SessionRecord) {
        let (pid, generation) = (&session.pid, session.generation);
        self.text("S").text(pid.reveal()).number(generation).text(&session.socket);
        self.json(&session.groups).json(&session.data).number(session.window_ms).place(&session.safe);
        self.text(&session.own_lost.as_ref().map(ToString::to_string).unwrap_or_default());
        // Places in another log do not go with these.
        let own: Vec<&Own> =
            session.own.iter().filter(|own| own.position.epoch == session.safe.epoch).collect();
        self.number(own.len() as u64);
        for each in own {
            self.text(&format!("{}-{}", each.position.offset, each.position.n)).seq(each.seq);
            self.json(&(&each.packet, &each.attachments));
        }
        self.expect(Expect::Later { pid: pid.clone(), generation });
    }

    pub(super) fn update(mut self, pid: Pid, generation: u64, groups: &[String], data: &Json) {
        self.text("U").text(pid.reveal()).number(generation).json(&groups).json(data);
        self.expect(Expect::Later { pid, generation });
    }

    pub(super) fn touch(mut self, pid: Pid, generation: u64, safe: &Position) {
        self.text("T").text(pid.reveal()).number(generation).place(safe);
        self.expect(Expect::Later { pid, generation });
    }

    pub(super) fn away(self, pid: Pid, generation: u64) {
        self.on_session("W", pid, generation);
    }

    pub(super) fn close(self, pid: Pid, generation: u64) {
        self.on_session("C", pid, generation);
    }

    pub(super) fn renew(self, pid: Pid, generation: u64) {
        self.on_session("N", pid, generation);
    }

    fn on_session(mut self, letter: &str, pid: Pid, generation: u64) {
        self.text(letter).text(pid.reveal()).number(generation);
        self.expect(Expect::Later { pid, generation });
    }

    pub(super) fn take(mut self, ask: u64, pid: Pid) {
        self.text("K").text(pid.reveal()).expect(Expect::Taken { ask, pid });
    }

    pub(super) fn read(mut self, after: u64) {
        self.text("R").number(after).number(PAGE_BYTES as u64).expect(Expect::Page);
    }

    pub(super) fn beat(mut self, was_there: bool) {
        self.text("B").text(flag(was_there)).expect(Expect::Nothing);
    }
}

/// An epoch as scripts know it.
pub(super) fn hex(epoch: u64) -> String {
    format!("{epoch:x}")
}

fn flag(is_so: bool) -> &'static str {
    if is_so { "1" } else { "0" }
}

impl Expect {
    /// Whether the node must be told of its answer at its place between the events.
    pub(super) fn has_a_place(&self) -> bool {
        match self {
            Self::Attached { .. } | Self::Kept { .. } | Self::Taken { .. } | Self::Page => true,
            Self::Later { .. } | Self::Nothing => false,
        }
    }
}
