//! What control says: orders, keys, acknowledgements.
//!
//! Never obeys an order of an older term than one it has seen.

use greenroom_core::{ServerName, Timestamp};
use greenroom_wire::agent::{FromAgent, StartOrder, ToAgent};
use greenroom_wire::link::ToServer;
use greenroom_wire::token::PublicKeys;

use super::managed::Managed;
use super::{Effect, REPEAT_EVERY, Supervisor};

/// Most bytes in one answer to `ReadLogs`.
const LOG_BYTES_MAX: u32 = 262_144;

impl Supervisor {
    pub(super) fn handle_control(&mut self, now: Timestamp, message: ToAgent) {
        match message {
            ToAgent::Welcome { version: _, term, keys, hears_held } => {
                self.welcomed = true;
                self.hears_held = hears_held;
                if term < self.term_seen {
                    tracing::warn!(term, term_seen = self.term_seen, "control is older than one seen before");
                }
                self.raise_term(term);
                self.set_keys(keys);
                self.report_at = now;
                self.repeat_at = now;
            }
            ToAgent::Keys { keys } => self.set_keys(keys),
            ToAgent::Start { term, order } => {
                let outcome = self.fence(term).and_then(|()| self.start(now, &order));
                self.refuse(&order.server, outcome);
            }
            ToAgent::Stop { term, server, reason } => {
                let outcome = self.fence(term).and_then(|()| {
                    let Some(managed) = self.servers.get_mut(&server.0) else {
                        // A report without it tells that it is gone.
                        self.out.changed = true;
                        return Ok(());
                    };
                    // Only what is idle is told to stop, and control had not heard yet; it tells again once this is free.
                    if managed.is_in_use() && !managed.is_told_to_stop() {
                        return Err(format!(
                            "gameserver {server} is in use, by what this agent has heard since"
                        ));
                    }
                    self.out.changed = true;
                    managed.stop(&reason, now, &mut self.out);
                    Ok(())
                });
                self.refuse(&server, outcome);
            }
            ToAgent::Restart { term, server, reason } => {
                let outcome = self.fence(term).and_then(|()| {
                    let managed = self.servers.get_mut(&server.0);
                    let managed = managed.ok_or_else(|| format!("gameserver {server} is not here"))?;
                    managed.restart(&reason, now, &mut self.out);
                    Ok(())
                });
                self.refuse(&server, outcome);
            }
            ToAgent::CloseRoom { term, server, room, epoch, reason } => {
                let outcome = self.fence(term).and_then(|()| {
                    let managed = self.servers.get_mut(&server.0);
                    let link = managed.and_then(|managed| managed.close(&room.0));
                    let link = link.ok_or_else(|| {
                        format!("room {room} is not closed: gameserver {server} has no link")
                    })?;
                    let message = ToServer::CloseRoom { room, epoch, reason };
                    self.out.effects.push(Effect::TellServer { link, message });
                    Ok(())
                });
                self.refuse(&server, outcome);
            }
            ToAgent::RoomEndedAck { room, epoch } => {
                let Some(result) = self.room_ended.remove(&(room.to_string(), epoch)) else { return };
                self.out.dirty = true;
                self.acknowledge(&result.server.0, &result.ended);
            }
            ToAgent::Peers { fleet, outcome } => self.handle_peers(now, &fleet.0, outcome),
            ToAgent::Occupied { occupied } => self.occupied = occupied,
            ToAgent::ReadLogs { request, server, offset, bytes_max } => {
                let bytes_max = bytes_max.min(LOG_BYTES_MAX) as usize;
                self.out.effects.push(Effect::ReadLogs { request, server: server.0, offset, bytes_max });
            }
        }
    }

    fn fence(&mut self, term: u64) -> Result<(), String> {
        crate::obedience::fence(self.term_seen, term)?;
        self.raise_term(term);
        Ok(())
    }

    fn raise_term(&mut self, term: u64) {
        if term > self.term_seen {
            self.term_seen = term;
            self.out.dirty = true;
        }
    }

    fn set_keys(&mut self, keys: PublicKeys) {
        if self.keys == keys {
            return;
        }
        self.keys = keys;
        self.out.dirty = true;
        for link in self.links.keys() {
            let message = ToServer::Keys { keys: self.keys.clone() };
            self.out.effects.push(Effect::TellServer { link: *link, message });
        }
    }

    fn start(&mut self, now: Timestamp, order: &StartOrder) -> Result<(), String> {
        let server = &order.server.0;
        if self.servers.contains_key(server) {
            return Ok(());
        }
        if self.ended.contains_key(server) {
            return Err(format!("gameserver {server} has ended; its name is not used again"));
        }
        if self.stopping {
            return Err("this agent stops".to_owned());
        }
        if order.command.is_empty() {
            return Err("the command is empty".to_owned());
        }
        if order.agones && !self.settings.agones {
            return Err(
                "this agent is built without the Agones SDK: build it with the feature agones".to_owned()
            );
        }
        if self.servers_live() >= self.settings.servers_max as usize {
            return Err(format!("this host holds its most: {} gameservers", self.settings.servers_max));
        }
        let used = self.used_ports();
        let port = self.ports.take(now, &used, order.ports)?;
        tracing::info!(%server, port, "gameserver is ordered");
        let mut managed = Managed::new(order.clone(), port, (self.secrets)(), now);
        managed.launch(&self.settings, &mut self.out);
        self.servers.insert(server.clone(), managed);
        Ok(())
    }

    fn refuse(&mut self, server: &ServerName, outcome: Result<(), String>) {
        let Err(message) = outcome else { return };
        tracing::warn!(%server, reason = message, "order refused");
        let refused = FromAgent::Refused { server: server.clone().into(), message };
        self.out.effects.push(Effect::Tell(Box::new(refused)));
    }

    /// Tells control every result it has not acknowledged, when that is due.
    pub(super) fn repeat_results(&mut self, now: Timestamp) {
        if self.repeat_at > now || self.room_ended.is_empty() {
            return;
        }
        self.repeat_at = now + REPEAT_EVERY;
        for result in self.room_ended.values() {
            self.out.effects.push(Effect::Tell(Box::new(super::links::told(result))));
        }
    }
}
