//! Which replica of the control plane an agent obeys: that of the highest term seen, from its welcome on.
//!
//! Never obeys two of one term: the second waits until the first is gone. Pure: streams are numbers, terms are passed in.

use greenroom_wire::agent::ToAgent;

/// A replica, by its place in the agent's configuration.
pub type ControlId = usize;

/// Whom an agent obeys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obedience {
    obeyed: Option<ControlId>,
}

/// What becomes of something that a replica has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heed {
    /// It is obeyed.
    Obey,
    /// It is not, and the replica is hung up on: dialling again, the agent says which term it has seen.
    Refuse,
}

impl Obedience {
    /// The replica that is obeyed, and the only one that is told what it may plan by.
    #[must_use]
    pub const fn obeyed(&self) -> Option<ControlId> {
        self.obeyed
    }

    /// A replica has said something to an agent whose highest term is `term_seen`.
    pub fn said(&mut self, control: ControlId, order: &ToAgent, term_seen: u64) -> Heed {
        if let ToAgent::Welcome { term, .. } = order {
            let rival = self.obeyed.is_some_and(|obeyed| obeyed != control) && *term == term_seen;
            if *term < term_seen || rival {
                tracing::warn!(
                    control,
                    term,
                    term_seen,
                    "a replica leads with an old term; it is not obeyed"
                );
                return Heed::Refuse;
            }
            self.obeyed = Some(control);
        } else if self.obeyed != Some(control) {
            tracing::warn!(control, term_seen, "an order of a replica that is not obeyed is refused");
            return Heed::Refuse;
        }
        Heed::Obey
    }

    /// The stream to a replica is over. True when it was the one that is obeyed.
    pub fn lost(&mut self, control: ControlId) -> bool {
        self.obeyed.take_if(|obeyed| *obeyed == control).is_some()
    }
}

/// Lets an order pass whose term is no older than the highest seen; that is then the order's.
///
/// # Errors
/// Why the order is refused, for whoever gave it.
pub fn fence(term_seen: u64, term: u64) -> Result<(), String> {
    if term < term_seen {
        return Err(format!("term {term} is below {term_seen}, the highest seen here"));
    }
    Ok(())
}
