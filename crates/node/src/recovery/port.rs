//! The ways to a backplane: a board in this process, or the one in the host's agent.
//! Never waits: what the backplane says comes later.

use std::cell::RefCell;
use std::collections::BTreeSet;

use greenroom_backplane::{Board, Limits};
use greenroom_wire::backplane::{Command, Told};

use crate::rooms::wall_clock;
use crate::state::{NodeState, random_u64};

pub(crate) enum Port {
    /// Sessions survive the loss of connections, not of the process.
    Memory(Box<RefCell<Board>>),
    /// They survive the process too: the agent holds the board.
    Hub,
    /// They survive the host too.
    Store,
}

impl Port {
    pub(crate) fn of(has_link: bool, has_store: bool) -> Self {
        if has_store {
            Self::Store
        } else if has_link {
            Self::Hub
        } else {
            Self::Memory(Box::new(RefCell::new(Board::new(
                Limits::default(),
                random_u64(),
                BTreeSet::new(),
                wall_clock(),
            ))))
        }
    }

    /// Whether it is there from the start and for ever.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Gives a command. The answer is what is known at once.
    pub(super) fn send(&self, state: &NodeState, node: &str, command: Command) -> Vec<Told> {
        match self {
            Self::Memory(board) => {
                let told = board.borrow_mut().handle(wall_clock(), node, command);
                told.into_iter().map(|(_, told)| told).collect()
            }
            Self::Store => {
                state.peers.command(command);
                Vec::new()
            }
            Self::Hub => {
                if let Some(link) = &state.link {
                    link.command(command);
                }
                Vec::new()
            }
        }
    }

    /// Lets go of what is over.
    pub(super) fn tick(&self) -> Vec<Told> {
        match self {
            Self::Memory(board) => {
                board.borrow_mut().tick(wall_clock()).into_iter().map(|(_, told)| told).collect()
            }
            Self::Hub | Self::Store => Vec::new(),
        }
    }
}
