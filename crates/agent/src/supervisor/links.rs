//! What gameservers say on their links: status, results, broadcasts.
//!
//! Never believes a connection that has not named a running instance and its secret.

use greenroom_core::{InstanceId, ServerName, Timestamp};
use greenroom_wire::agent::FromAgent;
use greenroom_wire::link::{FromServer, MeshSend, MeshTold, Relay, ToServer, VERSION};
use greenroom_wire::rooms::RoomEnded;

use super::managed::Stage;
use super::{Effect, LinkId, REPEAT_EVERY, Supervisor};
use crate::journal::JournalRoomEnded;

/// Most unacknowledged results kept here; further ones stay with their servers, which repeat them.
const RESULTS_MAX: usize = 10_000;

impl Supervisor {
    pub(super) fn handle_link(&mut self, now: Timestamp, link: LinkId, message: FromServer) {
        if let FromServer::Hello { version, instance, secret } = message {
            if let Err(why) = self.accept_link(now, link, version, &instance, &secret) {
                self.out.effects.push(Effect::CloseLink { link, why });
            }
            return;
        }
        let Some((server, instance)) = self.links.get(&link).cloned() else { return };
        let managed = self.servers.get_mut(&server).filter(|managed| managed.link.id == Some(link));
        if let Some(managed) = managed {
            managed.heard(now, &mut self.out);
            if matches!(message, FromServer::Ending) {
                let message = ToServer::Ending { successor: managed.successor(now) };
                return self.out.effects.push(Effect::TellServer { link, message });
            }
            if let FromServer::Status(status) = message {
                if !status.awaits_rooms {
                    self.settling.remove(&server);
                }
                managed.told(status, &mut self.out);
                return;
            }
        }
        match message {
            FromServer::RoomEnded(ended) => {
                // One that finds no place is told again after the next reconnect.
                let _taken = self.take_result(now, server, instance, ended);
            }
            FromServer::Publish(relay) => self.publish(link, &server, relay),
            FromServer::Mesh(send) => self.pass_on(link, &server, &instance, send),
            FromServer::Backplane(command) => {
                if let Some(fleet) = self.fleet_of(&server).cloned() {
                    self.handle_backplane(now, &fleet, &instance, command);
                }
            }
            // The word of a process that is gone says nothing any more.
            FromServer::Status(_) | FromServer::Hello { .. } | FromServer::Ending => {}
        }
    }

    fn accept_link(
        &mut self,
        now: Timestamp,
        link: LinkId,
        version: u32,
        instance: &InstanceId,
        secret: &str,
    ) -> Result<(), String> {
        if version != VERSION {
            return Err(format!("it speaks link version {version}, this agent speaks {VERSION}"));
        }
        let found = self.servers.iter_mut().find(|(_, managed)| managed.instance() == *instance);
        let Some((server, managed)) = found else {
            return Err(format!("instance {instance} does not run here"));
        };
        if managed.secret != secret {
            return Err(format!("the link secret for instance {instance} is wrong"));
        }
        if matches!(managed.stage, Stage::Waiting { .. } | Stage::Ended { .. }) {
            return Err(format!("instance {instance} does not run"));
        }
        if let Some(replaced) = managed.linked(link, now, &mut self.out) {
            let why = format!("instance {instance} has linked anew");
            self.out.effects.push(Effect::CloseLink { link: replaced, why });
        }
        self.links.insert(link, (server.clone(), instance.clone()));
        self.boards.linked(instance, link);
        let message = ToServer::Welcome { version: VERSION, keys: self.keys.clone() };
        self.out.effects.push(Effect::TellServer { link, message });
        Ok(())
    }

    /// Keeps a result until control has it. False: there is no place for it.
    pub(super) fn take_result(
        &mut self,
        now: Timestamp,
        server: ServerName,
        instance: InstanceId,
        ended: RoomEnded,
    ) -> bool {
        let key = (ended.room.to_string(), ended.epoch);
        if self.room_ended.contains_key(&key) {
            return true;
        }
        if self.room_ended.len() >= RESULTS_MAX {
            tracing::error!(%server, room = %ended.room, "too many unacknowledged results; not taken");
            return false;
        }
        let result = JournalRoomEnded { server: server.into(), instance: instance.into(), ended };
        if self.room_ended.is_empty() {
            self.repeat_at = now + REPEAT_EVERY;
        }
        if self.welcomed {
            self.out.effects.push(Effect::Tell(Box::new(told(&result))));
        }
        self.room_ended.insert(key, result);
        self.out.dirty = true;
        true
    }

    /// Passes a word of one server on to its peers. Who asks is told first how many answers to wait for.
    fn pass_on(&mut self, from: LinkId, server: &ServerName, instance: &InstanceId, send: MeshSend) {
        let Some(fleet) = self.fleet_of(server) else { return };
        let peers = self.servers.values().filter(|managed| managed.order.fleet.0 == *fleet);
        let peers: Vec<(LinkId, InstanceId)> = peers
            .filter_map(|managed| Some((managed.link.id?, managed.instance())))
            .filter(|(link, peer)| *link != from && send.to.as_ref().is_none_or(|to| to.0 == *peer))
            .collect();
        if let (Some(ask), None) = (send.ask, &send.to) {
            let peers = peers.iter().map(|(_, peer)| peer.clone().into()).collect();
            let message = ToServer::MeshAsked { ask, peers };
            self.out.effects.push(Effect::TellServer { link: from, message });
        }
        let told = MeshTold { from: instance.clone().into(), ask: send.ask, message: send.message };
        for (link, _) in peers {
            let message = ToServer::Mesh(told.clone());
            self.out.effects.push(Effect::TellServer { link, message });
        }
    }

    fn publish(&mut self, from: LinkId, server: &ServerName, relay: Relay) {
        let Some(fleet) = self.fleet_of(server) else { return };
        let others = self.servers.values().filter(|managed| managed.order.fleet.0 == *fleet);
        let links: Vec<LinkId> =
            others.filter_map(|managed| managed.link.id).filter(|link| *link != from).collect();
        if !links.is_empty() {
            self.out.effects.push(Effect::Deliver { links, relay });
        }
    }

    pub(super) fn handle_link_lost(&mut self, now: Timestamp, link: LinkId) {
        let Some((server, instance)) = self.links.remove(&link) else { return };
        self.handle_backplane_lost(now, &instance, link);
        let managed = self.servers.get_mut(&server).filter(|managed| managed.link.id == Some(link));
        if let Some(managed) = managed {
            managed.unlinked(&mut self.out);
        }
    }

    /// Tells the server whose room it was that the result has arrived.
    pub(super) fn acknowledge(&mut self, server: &ServerName, ended: &RoomEnded) {
        let Some(link) = self.servers.get(server).and_then(|managed| managed.link.id) else { return };
        let message = ToServer::RoomEndedAck { room: ended.room.clone(), epoch: ended.epoch };
        self.out.effects.push(Effect::TellServer { link, message });
    }
}

/// A result as control is told.
pub(super) fn told(result: &JournalRoomEnded) -> FromAgent {
    FromAgent::RoomEnded {
        server: result.server.clone(),
        instance: result.instance.clone(),
        ended: result.ended.clone(),
    }
}
