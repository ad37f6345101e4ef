//! What the store's answers to a pipeline mean for the node.
//! Never puts up with an answer that is missing or odd: then the connections are made anew.

use std::time::Instant;

use ::redis::Value;
use greenroom_core::InstanceId;
use greenroom_wire::Text;
use greenroom_wire::backplane::{Position, Shout, Told};

use super::batch::{Expect, Expected, hex};
use super::exchange::{Exchange, Held};
use super::follow::Follow;
use super::replies::{self, Odd};
use crate::way::FromBackplane;

impl Exchange {
    /// Takes in the answers to a pipeline.
    pub(super) fn handle_answers(
        &mut self,
        now: Instant,
        expected: Vec<Expected>,
        values: Vec<Value>,
    ) -> Result<(), String> {
        if expected.len() != values.len() {
            return Err("the store gave fewer answers than it was asked for".to_owned());
        }
        for (expected, value) in expected.into_iter().zip(values) {
            match expected {
                Expected::Script { namespace, answers } => {
                    self.handle_script(now, &namespace, answers, value)
                        .map_err(|odd| format!("{odd} (namespace {namespace})"))?;
                }
                Expected::Peers { ask, send } => {
                    let peers = peers(value).map_err(|odd| odd.to_string())?;
                    self.tell(FromBackplane::Asked { ask, peers });
                    self.mesh(*send);
                }
                Expected::Rooms(expect) => {
                    self.handle_rooms(now, expect, value).map_err(|odd| odd.to_string())?;
                }
                Expected::Unblocked => self.is_unblocked = matches!(value, Value::Int(1)),
                Expected::Nothing => {
                    if let Value::ServerError(error) = value {
                        return Err(Odd::Refused(error.to_string()).to_string());
                    }
                }
            }
        }
        Ok(())
    }

    fn handle_script(
        &mut self,
        now: Instant,
        namespace: &str,
        expected: Vec<Expect>,
        value: Value,
    ) -> Result<(), Odd> {
        let answered = replies::answered(value)?;
        let attaches = expected.iter().any(|expect| matches!(expect, Expect::Attached { .. }));
        let known = self.follows.get(namespace).map(|follow| follow.epoch);
        if !attaches && known.is_some() && known != answered.epoch {
            return Err(Odd::Refused("the history began anew".to_owned()));
        }
        if expected.len() != answered.answers.len() {
            return Err(Odd::Shape("an answer for each operation"));
        }
        for (expect, answer) in expected.into_iter().zip(answered.answers) {
            self.handle_answer(now, namespace, answered.epoch, expect, answer)?;
        }
        let Self { follows, from, .. } = self;
        if let Some(follow) = follows.get_mut(namespace) {
            follow.is_asked = false;
            follow.release(|told| from.tell(FromBackplane::Told(told)));
        }
        Ok(())
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        namespace: &str,
        epoch: Option<u64>,
        expect: Expect,
        answer: Value,
    ) -> Result<(), Odd> {
        match expect {
            Expect::Attached { fresh, has_known } => self.attached(namespace, fresh, has_known, answer)?,
            Expect::Kept { seq } => match (replies::kept(answer)?, epoch) {
                (Some((offset, n)), Some(epoch)) => {
                    let position = Text(Position { epoch, offset, n });
                    self.answer(namespace, offset, Told::Owned { seq, position });
                }
                (None, _) | (_, None) => self.answer(namespace, 0, Told::Disowned { seq }),
            },
            Expect::Later { pid, generation } => {
                let later = replies::number(answer, "a generation")?;
                if later > generation {
                    self.fence(pid, later);
                }
            }
            Expect::Taken { ask, pid } => {
                let taken = replies::taken(answer, &pid, namespace, self.node.as_str())?;
                let session = taken.session.map(|(session, former)| {
                    self.held.insert(pid.clone(), Held::of(&session, now));
                    if former != session.node {
                        let fenced = Shout::Fenced { pid, generation: session.generation };
                        self.shout(Some(&former), &fenced);
                    }
                    session
                });
                self.answer(namespace, taken.head, Told::Taken { ask, session, head: taken.head });
            }
            Expect::Page => {
                let (floor, head, events) = replies::page(answer)?;
                if let Some(epoch) = epoch {
                    let page = Told::Page { namespace: namespace.to_owned(), epoch, floor, events };
                    self.answer(namespace, head, page);
                }
            }
            Expect::Nothing => {}
        }
        Ok(())
    }

    /// Tells the node of an answer, when it has been told of all events up to `head`.
    fn answer(&mut self, namespace: &str, head: u64, told: Told) {
        match self.follows.get_mut(namespace) {
            Some(follow) => follow.answer(head, told),
            None => self.tell(FromBackplane::Told(told)),
        }
    }

    fn attached(&mut self, namespace: &str, fresh: u64, has_known: bool, answer: Value) -> Result<(), Odd> {
        let (epoch, head, floor) = replies::attached(answer)?;
        let mut follow = Follow::new(epoch, head, self.reads + 1);
        follow.is_asked = true;
        if let Some(former) = self.follows.insert(namespace.to_owned(), follow) {
            former.end(|told| self.tell(FromBackplane::Told(told)));
        }
        self.by_log.insert(self.names.log(namespace), namespace.to_owned());
        self.has_news = true;
        self.is_unblocked = false;
        if self.marks.get(namespace).is_some_and(|mark| mark.epoch != epoch) {
            self.marks.remove(namespace);
        }
        if epoch == fresh && has_known {
            self.shout(None, &Shout::Anew { namespace: namespace.to_owned(), epoch: hex(epoch) });
        }
        let told = Told::Attached { namespace: namespace.to_owned(), epoch, head, floor };
        self.tell(FromBackplane::Told(told));
        Ok(())
    }
}

fn peers(value: Value) -> Result<Vec<Text<InstanceId>>, Odd> {
    let names = replies::array(value, "the nodes")?.into_iter();
    let peer =
        |name| replies::text(name, "a node")?.parse().map(Text).map_err(|_| Odd::Shape("a node's name"));
    names.map(peer).collect()
}
