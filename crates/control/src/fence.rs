//! What whoever decides may store and tell: everything under its own term, nothing once a higher one is stored.
//!
//! Never touches the store and never reads a clock: batches go out, moments are passed in. `shell` commits what is drafted
//! here before it tells anything, and the simulated cluster does the same.

use std::time::Duration;

use greenroom_core::Term;
use greenroom_store::lease::{self, Holder};
use greenroom_store::term::{self, HeldTerm};
use greenroom_store::{Batch, Expect, Kind, Version};
use greenroom_wire::api::DrainKind;
use greenroom_wire::record::{AuditRecord, TermRecord};

use crate::lease::Tenure;
use crate::world::{Effect, Write};

/// The term of whoever decides, and of a replica its lease.
#[derive(Debug)]
pub struct Fence {
    held: HeldTerm,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    tenure: Tenure,
    holder: Holder,
}

/// A batch that must be stored before anything that it stands for is told.
#[derive(Debug)]
#[must_use]
pub struct Draft {
    /// What is to be stored: refused by the store when another has raised the term.
    pub batch: Batch,
    /// For [`Fence::stored`].
    pub pledge: Pledge,
}

/// What a batch does for the fence itself.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Pledge {
    renewed_at: Option<Duration>,
    raised: Option<Term>,
}

impl Fence {
    /// Of a process that has the store for itself.
    #[must_use]
    pub const fn alone(held: HeldTerm) -> Self {
        Self { held, lease: None }
    }

    /// Of a replica that has taken the lease.
    #[must_use]
    pub const fn leased(held: HeldTerm, tenure: Tenure, holder: Holder) -> Self {
        Self { held, lease: Some(Lease { tenure, holder }) }
    }

    /// The term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.held.term
    }

    /// Whether this process was held up for so long that another may lead: it stores [`Fence::draft`] of nothing before it
    /// decides anything.
    #[must_use]
    pub fn is_doubtful(&self, now: Duration) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.tenure.is_sure(now))
    }

    /// What must be stored before these effects may be told; `None`: they may be told at once. A replica gives no order
    /// unless the store knows its term as the last one, and renews its lease along the way.
    #[must_use]
    pub fn draft(&self, now: Duration, effects: &[Effect]) -> Option<Draft> {
        let mut batch = Batch::new();
        let mut raised = None;
        for effect in effects {
            if let Effect::Write(write) = effect {
                if let Write::PutTerm(term) = **write {
                    raised = Some(Term(term));
                } else {
                    put(&mut batch, write);
                }
            }
        }
        let due = self.lease.as_ref().filter(|lease| lease.tenure.is_due(now));
        let is_order =
            |effect: &Effect| matches!(effect, Effect::Order { .. } | Effect::Post { .. } | Effect::Act(_));
        let must_prove = self.lease.is_some() && (due.is_some() || effects.iter().any(is_order));
        if batch.is_empty() && raised.is_none() && !must_prove {
            return None;
        }
        match raised {
            None => batch.push(self.held.check()),
            Some(Term(term)) => {
                let expect = Expect::Version(self.held.version);
                batch.put_expecting(term::KEY, &TermRecord { version: 1, term }, expect);
            }
        }
        if let Some(Lease { tenure, holder }) = due {
            let held = HeldTerm { term: raised.unwrap_or(self.held.term), ..self.held };
            batch.push(lease::renewal(&held, holder, tenure.next_beat()));
        }
        Some(Draft { batch, pledge: Pledge { renewed_at: due.map(|_| now), raised } })
    }

    /// The store has confirmed a drafted batch, under this version.
    pub fn stored(&mut self, pledge: Pledge, version: Version) {
        if let (Some(asked_at), Some(lease)) = (pledge.renewed_at, &mut self.lease) {
            lease.tenure.renewed(asked_at);
        }
        if let Some(term) = pledge.raised {
            self.held = HeldTerm { term, version };
        }
    }

    /// What gives the lease back; `None` where there is none.
    #[must_use]
    pub fn release(&self) -> Option<Batch> {
        let Lease { tenure, holder } = self.lease.as_ref()?;
        let mut batch = Batch::new();
        batch.push(self.held.check());
        batch.push(lease::release(&self.held, holder, tenure.next_beat()));
        Some(batch)
    }
}

fn put(batch: &mut Batch, write: &Write) {
    match write {
        Write::PutRoom(record) => batch.put(record.room.as_str(), record),
        Write::DeleteRoom(room) => batch.delete(Kind::Room, room.as_str()),
        Write::PutKey { key, record } => batch.put(key.as_str(), record),
        Write::DeleteKey { key } => batch.delete(Kind::Key, key.as_str()),
        Write::PutAnswer { key, record } => batch.put(key.as_str(), record),
        Write::DeleteAnswer { key } => batch.delete(Kind::Answer, key.as_str()),
        Write::PutResult { key, record } => batch.put(key.as_str(), record),
        Write::DeleteResult { key } => batch.delete(Kind::Result, key.as_str()),
        Write::PutHost(record) => batch.put(record.host.as_str(), record),
        Write::DeleteHost(host) => batch.delete(Kind::Host, host.as_str()),
        Write::PutAudit(record) => batch.put(record.key(), record),
        Write::DeleteAudit(number) => batch.delete(Kind::Audit, AuditRecord::key_of(*number)),
        Write::PutDecision { key, record } => batch.put(key.as_str(), record),
        Write::PutScale(record) => batch.put(record.fleet.as_str(), record),
        Write::PutDrain(record) => batch.put(drain_key(record.kind, &record.name), record),
        Write::DeleteDrain { kind, name } => batch.delete(Kind::Drain, drain_key(*kind, name)),
        Write::PutNews(record) => batch.put(record.key(), record),
        Write::DeleteNews { key } => batch.delete(Kind::News, key.as_str()),
        Write::PutTrigger(record) => batch.put(record.name.as_str(), record),
        Write::DeleteTrigger { name } => batch.delete(Kind::Trigger, name.as_str()),
        Write::PutTerm(term) => batch.put(term::KEY, &TermRecord { version: 1, term: *term }),
    }
}

fn drain_key(kind: DrainKind, name: &str) -> String {
    format!("{kind}/{name}")
}

#[cfg(test)]
mod tests {
    use greenroom_store::Write as Step;
    use greenroom_wire::agent::ToAgent;
    use greenroom_wire::token::PublicKeys;

    use super::*;
    use crate::lease::LeaseTimes;
    use crate::world::StreamId;

    const HELD: HeldTerm = HeldTerm { term: Term(4), version: Version(40) };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn leased() -> Fence {
        let holder = Holder { name: "a".to_owned(), url: "http://a".to_owned() };
        Fence::leased(HELD, Tenure::new(LeaseTimes::default(), ms(0)), holder)
    }

    fn order() -> Effect {
        let keys = PublicKeys::default();
        Effect::Order { stream: StreamId(1), message: Box::new(ToAgent::Keys { keys }) }
    }

    fn raise(term: u64) -> Effect {
        Effect::Write(Box::new(Write::PutTerm(term)))
    }

    /// What each step of a draft is about, and whether the first is the check of the term.
    fn kinds(draft: Option<Draft>) -> Vec<(Kind, Expect)> {
        let steps = draft.map(|draft| draft.batch.writes().to_vec()).unwrap_or_default();
        steps.iter().map(|step| (step.condition().0, step.condition().2)).collect()
    }

    #[test]
    fn what_is_stored_and_what_is_ordered_hangs_on_the_term() {
        let held = Expect::Version(Version(40));
        let delete = || Effect::Write(Box::new(Write::DeleteAnswer { key: "k".to_owned() }));
        let (alone, leader) = (Fence::alone(HELD), leased());
        type Case<'a> = (&'a str, &'a Fence, u64, Vec<Effect>, Vec<(Kind, Expect)>);
        let cases: [Case<'_>; 8] = [
            ("nothing to do", &leader, 0, vec![], vec![]),
            ("a write", &leader, 0, vec![delete()], vec![(Kind::Answer, Expect::Any), (Kind::Term, held)]),
            (
                "a write alone",
                &alone,
                0,
                vec![delete()],
                vec![(Kind::Answer, Expect::Any), (Kind::Term, held)],
            ),
            ("an order", &leader, 0, vec![order()], vec![(Kind::Term, held)]),
            ("an order of who has no rivals", &alone, 0, vec![order()], vec![]),
            ("a renewal", &leader, 500, vec![], vec![(Kind::Term, held), (Kind::Lease, Expect::Any)]),
            ("no lease, no renewal", &alone, 500, vec![], vec![]),
            ("a term that an agent has seen", &alone, 0, vec![raise(9)], vec![(Kind::Term, held)]),
        ];
        for (name, fence, at, effects, steps) in cases {
            assert_eq!(kinds(fence.draft(ms(at), &effects)), steps, "{name}");
        }
    }

    #[test]
    fn a_raised_term_is_what_the_next_batch_hangs_on() {
        let mut fence = leased();
        let draft = fence.draft(ms(0), &[raise(9)]).unwrap();
        assert!(matches!(draft.batch.writes(), [Step::Put { .. }]), "{draft:?}");
        fence.stored(draft.pledge, Version(41));
        assert_eq!(fence.term(), Term(9));
        let held = Expect::Version(Version(41));
        assert_eq!(kinds(fence.draft(ms(0), &[order()])), [(Kind::Term, held)]);
    }

    #[test]
    fn a_leader_that_was_held_up_asks_the_store_before_it_decides() {
        let mut fence = leased();
        assert!(!fence.is_doubtful(ms(1_499)) && fence.is_doubtful(ms(1_500)));
        let draft = fence.draft(ms(1_500), &[]).unwrap();
        fence.stored(draft.pledge, Version(41));
        assert!(!fence.is_doubtful(ms(1_500)));
        assert!(!Fence::alone(HELD).is_doubtful(ms(1_000_000)));
        assert!(fence.release().is_some() && Fence::alone(HELD).release().is_none());
    }
}
