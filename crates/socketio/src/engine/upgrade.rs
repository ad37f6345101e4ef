//! Owns the move of a session from polling to WebSocket: probe, answer, upgrade.
//! Never sends: it tells the caller what to send where.

use std::time::Duration;

use super::{EnginePacket, Moment};

/// The payload of the ping and the pong that try a transport.
pub const PROBE: &str = "probe";

/// What the caller does next for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum UpgradeStep {
    /// Server: send the pong `probe` on the new transport and end a waiting polling request with a noop, also each one
    /// that comes until the upgrade is over.
    AnswerProbe,
    /// Client: wait until no polling request is in flight, then send the upgrade packet on the new transport and use
    /// it from there on.
    SendUpgrade,
    /// Server: the session lives on the new transport now; send there what is queued. Polling requests get 400.
    Switch,
}

/// Why an upgrade failed. The new transport is closed; the session stays where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The new transport brought another packet than the one expected.
    #[error("the upgrade met a packet out of order")]
    OutOfOrder,
    /// The session is being upgraded, or has been.
    #[error("the session is upgrading or upgraded")]
    Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    /// Server: the new transport is open, its probe has not come.
    Opened(Moment),
    /// Server: the probe was answered.
    Probed(Moment),
    /// Client: the probe was sent.
    Asked(Moment),
    Done,
}

/// The upgrade of one session, in either role. A session that began on WebSocket needs none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upgrade(State);

impl Upgrade {
    /// Server: a WebSocket for the session has opened. The official timeout is 10 s.
    ///
    /// # Errors
    /// [`UpgradeError::Taken`] when another one is there already: close the new one.
    pub fn open(&mut self, timeout: Duration, now: Moment) -> Result<(), UpgradeError> {
        self.leave_idle(State::Opened(now.after(timeout)))
    }

    /// Client: the WebSocket is open and the ping `probe` was sent on it.
    ///
    /// # Errors
    /// [`UpgradeError::Taken`] as with [`Self::open`].
    pub fn ask(&mut self, timeout: Duration, now: Moment) -> Result<(), UpgradeError> {
        self.leave_idle(State::Asked(now.after(timeout)))
    }

    /// A packet came on the new transport before the upgrade was over.
    ///
    /// # Errors
    /// [`UpgradeError::OutOfOrder`] on any other packet than the next one; the upgrade may then be tried anew.
    pub fn handle(&mut self, packet: &EnginePacket<'_>) -> Result<UpgradeStep, UpgradeError> {
        let (next, step) = match (self.0, packet) {
            (State::Opened(deadline), EnginePacket::Ping(PROBE)) => {
                (State::Probed(deadline), UpgradeStep::AnswerProbe)
            }
            (State::Probed(_), EnginePacket::Upgrade) => (State::Done, UpgradeStep::Switch),
            (State::Asked(_), EnginePacket::Pong(PROBE)) => (State::Done, UpgradeStep::SendUpgrade),
            (State::Idle | State::Opened(_) | State::Probed(_) | State::Asked(_) | State::Done, _) => {
                self.abandon();
                return Err(UpgradeError::OutOfOrder);
            }
        };
        self.0 = next;
        Ok(step)
    }

    /// The new transport was lost before the upgrade was over, or its time ran out. Does nothing after it.
    pub fn abandon(&mut self) {
        if self.0 != State::Done {
            self.0 = State::Idle;
        }
    }

    /// When the upgrade is to be abandoned and the new transport closed, if one is going on.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        match self.0 {
            State::Opened(deadline) | State::Probed(deadline) | State::Asked(deadline) => Some(deadline),
            State::Idle | State::Done => None,
        }
    }

    /// Whether waiting polling requests are to be ended by a noop.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        matches!(self.0, State::Probed(_))
    }

    /// Whether the session has moved.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    fn leave_idle(&mut self, next: State) -> Result<(), UpgradeError> {
        if self.0 == State::Idle {
            self.0 = next;
            Ok(())
        } else {
            Err(UpgradeError::Taken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn a_server_answers_the_probe_and_then_switches() {
        let mut upgrade = Upgrade::default();
        assert_eq!(upgrade.open(TIMEOUT, Moment::default()), Ok(()));
        assert_eq!(upgrade.open(TIMEOUT, Moment::default()), Err(UpgradeError::Taken));
        assert_eq!(upgrade.deadline(), Some(Moment::from_millis(10_000)));
        assert!(!upgrade.is_probed());
        assert_eq!(upgrade.handle(&EnginePacket::Ping("probe")), Ok(UpgradeStep::AnswerProbe));
        assert!(upgrade.is_probed());
        assert_eq!(upgrade.handle(&EnginePacket::Upgrade), Ok(UpgradeStep::Switch));
        assert!(upgrade.is_done());
        upgrade.abandon();
        assert!(upgrade.is_done());
        assert_eq!(upgrade.deadline(), None);
        assert_eq!(upgrade.open(TIMEOUT, Moment::default()), Err(UpgradeError::Taken));
    }

    #[test]
    fn a_client_sends_the_upgrade_after_the_answer() {
        let mut upgrade = Upgrade::default();
        assert_eq!(upgrade.ask(TIMEOUT, Moment::default()), Ok(()));
        assert_eq!(upgrade.handle(&EnginePacket::Pong("probe")), Ok(UpgradeStep::SendUpgrade));
        assert!(upgrade.is_done());
    }

    #[test]
    fn any_other_packet_abandons_the_upgrade_but_not_the_session() {
        for packet in [
            EnginePacket::Ping(""),
            EnginePacket::Upgrade,
            EnginePacket::Text("2[\"x\"]"),
            EnginePacket::Pong("probe"),
            EnginePacket::Close,
        ] {
            let mut upgrade = Upgrade::default();
            assert_eq!(upgrade.open(TIMEOUT, Moment::default()), Ok(()));
            assert_eq!(upgrade.handle(&packet), Err(UpgradeError::OutOfOrder), "{packet:?}");
            assert_eq!(upgrade.open(TIMEOUT, Moment::default()), Ok(()), "it may be tried anew");
        }
    }
}
