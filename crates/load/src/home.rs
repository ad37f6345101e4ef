//! Owns where players who come back come back to: the address, the token and the session of each.
//! Never decides who comes back.

use std::collections::HashMap;

use crate::{flow::SocketName, link::Session, player::PlayerIndex};

/// How a connection was opened.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Number of the step that connected.
    pub(crate) step: usize,
    /// Where to.
    pub(crate) url: String,
    /// JSON object for the CONNECT packet, without the session.
    pub(crate) auth: Option<String>,
}

/// The homes of all players of a scenario that lets them come back.
#[derive(Debug, Default)]
pub(crate) struct Homes(HashMap<(PlayerIndex, SocketName), (Home, Session)>);

impl Homes {
    /// A player connects for the first time.
    pub(crate) fn settle(&mut self, player: PlayerIndex, socket: SocketName, home: Home) {
        self.0.insert((player, socket), (home, Session::Untold));
    }

    /// Keeps where a session stands whose connection has ended.
    pub(crate) fn keep(&mut self, player: PlayerIndex, socket: SocketName, session: Session) {
        if let Some((_, kept)) = self.0.get_mut(&(player, socket))
            && session != Session::Unkept
        {
            *kept = session;
        }
    }

    /// Where to dial, and as who. The session goes with the connection until that ends.
    pub(crate) fn leave(&mut self, player: PlayerIndex, socket: SocketName) -> Option<(Home, Session)> {
        let (home, session) = self.0.get_mut(&(player, socket))?;
        Some((home.clone(), std::mem::replace(session, Session::Untold)))
    }
}
