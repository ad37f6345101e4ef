//! Owns the heartbeat of both roles: when a ping is due and when the other end counts as gone.
//! Never reads a clock: moments are arguments.

use std::time::Duration;

/// Milliseconds since a start that the caller chose and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment that many milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, at most the last one there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// What a heartbeat asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum HeartbeatStep {
    /// Nothing before this moment.
    Wait(Moment),
    /// Send an Engine.IO ping now; it counts as sent. Server role only.
    Ping,
    /// The other end is gone: close with "ping timeout". Every later call says so again.
    TimedOut,
}

/// A heartbeat packet came in the wrong direction. Close with "transport error".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a heartbeat packet came in the wrong direction")]
pub struct HeartbeatError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Server: the next ping is due at the deadline.
    Resting,
    /// Server: a pong must come before the deadline.
    Awaiting,
    /// Client: a ping must come before the deadline.
    Listening,
}

/// The heartbeat of one session. The server pings every interval and waits for a pong up to the timeout; the client
/// waits for a ping up to interval plus timeout.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    state: State,
    deadline: Moment,
}

impl Heartbeat {
    /// The server's side of a session that opened now. `first_ping_after` is the interval, or less to spread the pings
    /// of many sessions.
    #[must_use]
    pub fn server(first_ping_after: Duration, now: Moment) -> Self {
        Self { state: State::Resting, deadline: now.after(first_ping_after) }
    }

    /// The client's side of a session that opened now. `patience` is the server's interval plus its timeout, see
    /// [`Open::patience`](super::Open::patience).
    #[must_use]
    pub fn client(patience: Duration, now: Moment) -> Self {
        Self { state: State::Listening, deadline: now.after(patience) }
    }

    /// What is to be done now. To be called when the moment of the last [`HeartbeatStep::Wait`] has come; earlier calls
    /// do no harm. After [`HeartbeatStep::Ping`] the next call tells the moment to wait for.
    pub fn poll(&mut self, ping_timeout: Duration, now: Moment) -> HeartbeatStep {
        if now < self.deadline {
            return HeartbeatStep::Wait(self.deadline);
        }
        match self.state {
            State::Resting => {
                self.state = State::Awaiting;
                self.deadline = now.after(ping_timeout);
                HeartbeatStep::Ping
            }
            State::Awaiting | State::Listening => HeartbeatStep::TimedOut,
        }
    }

    /// Server: a pong came. One that nobody asked for is ignored, so that a client cannot put off the next ping.
    ///
    /// # Errors
    /// In the client role, where pongs do not belong.
    pub fn handle_pong(&mut self, ping_interval: Duration, now: Moment) -> Result<(), HeartbeatError> {
        match self.state {
            State::Awaiting => {
                self.state = State::Resting;
                self.deadline = now.after(ping_interval);
                Ok(())
            }
            State::Resting => Ok(()),
            State::Listening => Err(HeartbeatError),
        }
    }

    /// Client: a ping came; answer it with a pong.
    ///
    /// # Errors
    /// In the server role, where pings (other than a probe) do not belong.
    pub fn handle_ping(&mut self, patience: Duration, now: Moment) -> Result<(), HeartbeatError> {
        match self.state {
            State::Listening => {
                self.deadline = now.after(patience);
                Ok(())
            }
            State::Resting | State::Awaiting => Err(HeartbeatError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(300);
    const TIMEOUT: Duration = Duration::from_millis(200);

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn the_server_pings_every_interval_and_gives_up_after_the_timeout() {
        let mut heartbeat = Heartbeat::server(INTERVAL, at(0));
        assert_eq!(heartbeat.poll(TIMEOUT, at(0)), HeartbeatStep::Wait(at(300)));
        assert_eq!(heartbeat.poll(TIMEOUT, at(300)), HeartbeatStep::Ping);
        assert_eq!(heartbeat.poll(TIMEOUT, at(300)), HeartbeatStep::Wait(at(500)));
        assert_eq!(heartbeat.handle_pong(INTERVAL, at(350)), Ok(()));
        assert_eq!(heartbeat.handle_pong(INTERVAL, at(640)), Ok(()), "a second pong changes nothing");
        assert_eq!(heartbeat.poll(TIMEOUT, at(649)), HeartbeatStep::Wait(at(650)));
        assert_eq!(heartbeat.poll(TIMEOUT, at(650)), HeartbeatStep::Ping);
        assert_eq!(heartbeat.poll(TIMEOUT, at(850)), HeartbeatStep::TimedOut);
        assert_eq!(heartbeat.poll(TIMEOUT, at(851)), HeartbeatStep::TimedOut);
        assert_eq!(heartbeat.handle_ping(INTERVAL + TIMEOUT, at(860)), Err(HeartbeatError));
    }

    #[test]
    fn the_client_gives_up_when_no_ping_came_for_interval_plus_timeout() {
        let mut heartbeat = Heartbeat::client(INTERVAL + TIMEOUT, at(0));
        assert_eq!(heartbeat.handle_ping(INTERVAL + TIMEOUT, at(300)), Ok(()));
        assert_eq!(heartbeat.poll(TIMEOUT, at(799)), HeartbeatStep::Wait(at(800)));
        assert_eq!(heartbeat.poll(TIMEOUT, at(800)), HeartbeatStep::TimedOut);
        assert_eq!(heartbeat.handle_pong(INTERVAL, at(801)), Err(HeartbeatError));
    }
}
