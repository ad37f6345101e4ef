//! What is told of a gameserver in words.
//!
//! Never decides anything.

use greenroom_wire::agent::ProcessPhase;

use super::{Managed, SILENCE, Stage};

impl Managed {
    pub(super) fn message(&self) -> String {
        let before = || match self.last_end.as_str() {
            "" => String::new(),
            end => format!("the process before this one: {end}"),
        };
        match &self.stage {
            Stage::Adopting { .. } => "the agent restarted and looks for the process".to_owned(),
            Stage::Launching | Stage::Waiting { .. } => self.last_end.clone(),
            Stage::Ended { message } => message.clone(),
            Stage::Stopping { killed, .. } => self.message_stopping(*killed),
            Stage::Running { health, .. } => match health.phase() {
                ProcessPhase::Unhealthy if health.silent => {
                    format!("nothing was heard on its link for {} s", SILENCE.as_secs())
                }
                ProcessPhase::Unhealthy => format!("its probe fails: {}", health.probe_error),
                ProcessPhase::Starting
                    if health.proving_since.is_none() && !health.probe_error.is_empty() =>
                {
                    format!("its probe has not passed yet: {}", health.probe_error)
                }
                ProcessPhase::Starting if health.proving_since.is_some() => {
                    format!(
                        "its probe passes; it must for {:?} before it takes players (min_ready)",
                        self.min_ready()
                    )
                }
                ProcessPhase::Ready if self.is_held() => self.own_word.hold.words().to_owned(),
                ProcessPhase::Starting
                | ProcessPhase::Ready
                | ProcessPhase::Restarting
                | ProcessPhase::Stopping
                | ProcessPhase::Ended => before(),
            },
        }
    }

    fn message_stopping(&self, killed: bool) -> String {
        let restarts = self.restart_reason.as_deref().filter(|_| self.stop_reason.is_none());
        let (doing, reason) = match restarts {
            Some(reason) => ("restarting", reason),
            None => ("stopping", self.stop_reason.as_deref().unwrap_or("no reason")),
        };
        let closed = self.link.ever && self.link.id.is_none() && !self.link.by_sdk;
        let note = match (killed, closed) {
            (true, _) => "; its grace time is over, SIGKILL was sent",
            (false, true) => "; it has closed its link but its process has not exited",
            (false, false) => "",
        };
        format!("{doing} ({reason}){note}")
    }
}
