//! What keys and channels are called. A namespace's keys share a hash tag, so that a script touches one slot.
//! Never carries secrets but pids, and never says what lies under a key; see `history.lua`.

/// The format of what is stored. Another one is stored elsewhere, so that programs of two formats do not meet.
const FORMAT: u32 = 1;

#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}:{FORMAT}") }
    }

    /// What the keys of a namespace begin with.
    pub(super) fn base(&self, namespace: &str) -> String {
        format!("{{{}:{namespace}}}:", self.prefix)
    }

    pub(super) fn log(&self, namespace: &str) -> String {
        format!("{}log", self.base(namespace))
    }

    /// The rooms of a server.
    pub(super) fn rooms(&self, server: &str) -> String {
        format!("{{{}:rooms:{server}}}", self.prefix)
    }

    /// The list of nodes.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// The channel that all nodes hear.
    pub(super) fn shout(&self) -> String {
        format!("{}:shout", self.prefix)
    }

    /// The channel that one node hears.
    pub(super) fn shout_to(&self, node: &str) -> String {
        format!("{}:shout:{node}", self.prefix)
    }
}
