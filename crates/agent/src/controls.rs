//! The streams to the replicas of the control plane: one is kept to each, and `obedience` says which of them is obeyed.
//!
//! Never tells a replica that is not obeyed more than what runs, and that under the term 0, which nobody leads with. A report to the
//! one that is obeyed has the highest term that was heard when it was made. So whatever a leader plans on was said
//! after the agent had heard the leader's term, though all replicas see what runs.

use std::collections::BTreeMap;

use greenroom_wire::agent::{FromAgent, Report, ToAgent};

use crate::obedience::{ControlId, Heed, Obedience};
use crate::outbox::{Outbox, Overflow};
use crate::shell::to_line;
use crate::supervisor::Event;

#[derive(Debug, Default)]
pub(crate) struct Controls {
    sessions: BTreeMap<ControlId, Outbox>,
    obedience: Obedience,
}

impl Controls {
    /// A stream is open; hello was said.
    pub(crate) fn up(&mut self, control: ControlId, outbox: Outbox) {
        self.sessions.insert(control, outbox);
    }

    /// A stream is over. Gives what the supervisor must know of it.
    pub(crate) fn lost(&mut self, control: ControlId) -> Option<Event> {
        self.sessions.remove(&control);
        self.obedience.lost(control).then_some(Event::ControlLost)
    }

    /// A replica has said something. Gives what the supervisor must hear of it.
    pub(crate) fn said(&mut self, control: ControlId, order: ToAgent, term_seen: u64) -> Option<Event> {
        match self.obedience.said(control, &order, term_seen) {
            Heed::Obey => Some(Event::Control(order)),
            Heed::Refuse => {
                self.hang_up(control);
                None
            }
        }
    }

    /// The way to the replica that is obeyed.
    pub(crate) fn obeyed(&self) -> Option<&Outbox> {
        self.sessions.get(&self.obedience.obeyed()?)
    }

    /// Whether nobody would hear anything.
    pub(crate) fn is_alone(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Tells the replica that is obeyed; a report all others too. Gives the streams that end because they are read too slowly.
    pub(crate) fn tell(&self, message: FromAgent) -> Vec<Overflow> {
        let obeyed = self.obedience.obeyed();
        let mut overflows = Vec::new();
        if let Some(outbox) = self.obeyed() {
            overflows.extend(outbox.push(to_line(&message)).err());
        }
        let FromAgent::Report(report) = message else { return overflows };
        let others = self.sessions.iter().filter(|(control, _)| Some(**control) != obeyed);
        let mut others = others.map(|(_, outbox)| outbox).peekable();
        if others.peek().is_some() {
            let line = to_line(&FromAgent::Report(Report { term: Some(0), ..report }));
            overflows.extend(others.filter_map(|outbox| outbox.push(line.clone()).err()));
        }
        overflows
    }

    /// Dialling again, this agent says which term it has seen.
    fn hang_up(&mut self, control: ControlId) {
        if let Some(outbox) = self.sessions.get(&control) {
            outbox.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use greenroom_wire::token::PublicKeys;

    use super::*;
    use crate::outbox::{OutboxReader, outbox};

    fn welcome(term: u64) -> ToAgent {
        ToAgent::Welcome { version: 1, term, keys: PublicKeys { keys: Vec::new() }, hears_held: true }
    }

    fn stop(term: u64) -> ToAgent {
        ToAgent::Stop { term, server: "s".parse().map(greenroom_wire::Text).unwrap(), reason: String::new() }
    }

    fn three() -> (Controls, Vec<OutboxReader>) {
        let mut controls = Controls::default();
        let readers = (0..3).map(|control| {
            let (outbox, reader) = outbox(1024);
            controls.up(control, outbox);
            reader
        });
        let readers = readers.collect();
        (controls, readers)
    }

    fn heard(reader: &mut OutboxReader) -> Option<FromAgent> {
        reader.try_next().map(|line| serde_json::from_str(&line).unwrap())
    }

    #[tokio::test]
    async fn all_see_what_runs_and_the_obeyed_alone_is_told_under_a_term() {
        let (mut controls, mut readers) = three();
        let report = |term| {
            FromAgent::Report(Report {
                at_ms: Some(7),
                term: Some(term),
                trouble: String::new(),
                servers: Vec::new(),
            })
        };
        assert_eq!(controls.tell(report(4)), []);
        for reader in &mut readers {
            assert_eq!(heard(reader), Some(report(0)), "nobody leads yet");
        }
        assert!(controls.said(1, welcome(5), 4).is_some());
        assert_eq!(controls.tell(report(5)), []);
        let told = readers.iter_mut().map(|reader| heard(reader).unwrap());
        assert_eq!(told.collect::<Vec<_>>(), [report(0), report(5), report(0)]);
        let refused =
            FromAgent::Refused { server: greenroom_wire::Text("s".parse().unwrap()), message: String::new() };
        assert_eq!(controls.tell(refused.clone()), []);
        let told = readers.iter_mut().map(heard);
        assert_eq!(told.collect::<Vec<_>>(), [None, Some(refused), None]);
        // Another one takes over between the making of a report and its sending: it is told under the term of then.
        assert!(controls.said(2, welcome(6), 5).is_some());
        assert_eq!(controls.tell(report(5)), []);
        let told = readers.iter_mut().map(|reader| heard(reader).unwrap());
        assert_eq!(told.collect::<Vec<_>>(), [report(0), report(0), report(5)]);
        assert!(controls.lost(2).is_some());
        assert_eq!(controls.tell(report(6)), []);
        assert_eq!(heard(&mut readers[2]), None, "its stream is over");
        assert_eq!(heard(&mut readers[0]), Some(report(0)), "the others see on");
    }

    async fn is_hung_up(reader: &mut OutboxReader) -> bool {
        tokio::select! {
            biased;
            line = reader.next() => line.is_none(),
            () = tokio::task::yield_now() => false,
        }
    }

    #[tokio::test]
    async fn the_highest_term_is_obeyed_and_what_an_older_one_says_is_refused() {
        let (mut controls, mut readers) = three();
        assert!(controls.obeyed().is_none(), "nobody leads yet");
        assert_eq!(controls.said(0, welcome(4), 4), Some(Event::Control(welcome(4))));
        assert_eq!(controls.said(0, stop(4), 4), Some(Event::Control(stop(4))));
        assert_eq!(controls.said(2, welcome(5), 4), Some(Event::Control(welcome(5))), "it took over");
        // The former leader was frozen and goes on where it was.
        assert_eq!(controls.said(0, stop(4), 5), None);
        assert!(is_hung_up(&mut readers[0]).await && !is_hung_up(&mut readers[2]).await);
        assert_eq!(controls.said(1, welcome(3), 5), None, "an old term");
        assert!(is_hung_up(&mut readers[1]).await);
        assert_eq!(controls.lost(1), None, "nobody misses it");
        assert_eq!(controls.lost(2), Some(Event::ControlLost));
        assert!(controls.obeyed().is_none());
    }

    #[tokio::test]
    async fn of_two_with_one_term_the_first_is_obeyed_while_it_is_there() {
        let (mut controls, mut readers) = three();
        assert!(controls.said(0, welcome(4), 0).is_some());
        assert!(controls.said(1, welcome(4), 4).is_none(), "a store that was set back gave a term twice");
        assert!(is_hung_up(&mut readers[1]).await);
        assert_eq!(controls.lost(0), Some(Event::ControlLost));
        let (outbox, _reader) = outbox(1024);
        controls.up(1, outbox);
        assert!(controls.said(1, welcome(4), 4).is_some());
        assert!(controls.said(1, welcome(4), 4).is_some(), "a welcome may be repeated");
    }
}
