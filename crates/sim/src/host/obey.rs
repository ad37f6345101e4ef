//! What an agent does when it is told to: starts, stops and closes, for the control process that it obeys.
//!
//! Never asks why.

use greenroom_agent::obedience::{ControlId, Heed, fence};
use greenroom_control::world::StreamId;
use greenroom_core::ServerName;
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, ProcessPhase, StartOrder, ToAgent};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::Host;
use crate::Summary;
use crate::invariant::Broken;
use crate::server::Server;

/// What everything in one step of time shares.
pub(crate) struct Moment<'a> {
    pub(crate) now_ms: u64,
    /// Longest start-up of a server.
    pub(crate) startup_ms_max: u64,
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) summary: &'a mut Summary,
}

impl Moment<'_> {
    /// When a server answers that starts now.
    pub(super) fn start_up_ms(&mut self) -> u64 {
        self.now_ms + self.rng.random_range(50..=self.startup_ms_max)
    }
}

impl Host {
    /// Obeys one message, if its sender is obeyed. Whose message is refused is hung up on: the stream that has ended comes
    /// back.
    pub(crate) fn obey(
        &mut self,
        control: ControlId,
        message: ToAgent,
        moment: &mut Moment<'_>,
    ) -> Result<Option<StreamId>, Broken> {
        if self.obedience.said(control, &message, self.term_seen) == Heed::Refuse {
            moment.summary.orders_refused += 1;
            return Ok(self.drop_stream(control, moment.now_ms, moment.rng));
        }
        self.carry_out(control, message, moment)?;
        Ok(None)
    }

    fn carry_out(
        &mut self,
        control: ControlId,
        message: ToAgent,
        moment: &mut Moment<'_>,
    ) -> Result<(), Broken> {
        match message {
            ToAgent::Welcome { term, .. } => {
                self.laws.welcomed(&self.name, control, term)?;
                self.term_seen = self.term_seen.max(term);
                self.changed = true;
                self.resend_ms = moment.now_ms;
            }
            ToAgent::Start { term, order } => {
                if self.is_current(control, term, &order.server.0, moment)? {
                    // Some never answer: control has to notice and replace them.
                    let hangs = moment.rng.random_bool(0.05);
                    let ready_ms = if hangs { u64::MAX } else { moment.start_up_ms() };
                    self.start(*order, ready_ms, moment);
                }
            }
            ToAgent::Stop { term, server, reason: _ } => {
                if self.is_current(control, term, &server.0, moment)? {
                    let until_ms = moment.now_ms + moment.rng.random_range(0..=1_000);
                    return self.stop(&server.0, moment.now_ms, until_ms);
                }
            }
            ToAgent::CloseRoom { term, server, room, epoch, reason } => {
                if self.is_current(control, term, &server.0, moment)?
                    && let Some(closing) = self.servers.get_mut(&server.0)
                    && closing.rooms.get(&room.0).is_some_and(|room| room.epoch <= epoch)
                    && let Some(ended) = closing.end_room(&room.0, reason)
                {
                    let instance = closing.instance();
                    self.unacked.push((server.0, instance, ended));
                    self.changed = true;
                }
            }
            ToAgent::RoomEndedAck { room, epoch } => {
                self.unacked.retain(|(_, _, ended)| ended.room != room || ended.epoch != epoch);
            }
            ToAgent::Keys { .. }
            | ToAgent::Restart { .. }
            | ToAgent::Peers { .. }
            | ToAgent::Occupied { .. }
            | ToAgent::ReadLogs { .. } => {}
        }
        Ok(())
    }

    /// Whether an order comes from the newest control process; an older one's is refused.
    fn is_current(
        &mut self,
        control: ControlId,
        term: u64,
        server: &ServerName,
        moment: &mut Moment<'_>,
    ) -> Result<bool, Broken> {
        if let Err(why) = fence(self.term_seen, term) {
            self.refuse(server, why, moment);
            return Ok(false);
        }
        self.laws.ordered(&self.name, control, term)?;
        self.term_seen = term;
        Ok(true)
    }

    fn refuse(&mut self, server: &ServerName, message: String, moment: &mut Moment<'_>) {
        let obeyed = self.obedience.obeyed();
        if let Some(stream) = obeyed.and_then(|control| self.links[control].stream.as_mut()) {
            let refused = FromAgent::Refused { server: Text(server.clone()), message };
            stream.to_control.send(moment.now_ms, refused, moment.rng);
        }
    }

    fn start(&mut self, order: StartOrder, ready_ms: u64, moment: &mut Moment<'_>) {
        let name = order.server.0.clone();
        if self.servers.contains_key(&name) {
            return;
        }
        if self.servers.len() >= self.servers_max as usize {
            return self.refuse(&name, "no free port".to_owned(), moment);
        }
        self.started.push(name.clone());
        self.servers.insert(name, Server::new(order, moment.now_ms, ready_ms));
        moment.summary.servers_started += 1;
        self.changed = true;
    }

    fn stop(&mut self, name: &ServerName, now_ms: u64, until_ms: u64) -> Result<(), Broken> {
        let Some(server) = self.servers.get_mut(name) else { return Ok(()) };
        if matches!(server.phase, ProcessPhase::Stopping | ProcessPhase::Ended) {
            return Ok(());
        }
        server.phase = ProcessPhase::Stopping;
        server.phase_until_ms = until_ms;
        self.changed = true;
        match server.players() + server.awaiting(now_ms) {
            0 => Ok(()),
            players => Err(Broken::BusyStopped { server: name.clone(), players }),
        }
    }
}
