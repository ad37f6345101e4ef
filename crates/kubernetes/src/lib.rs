//! An agent in a Kubernetes pod: where players find its gameservers, and what keeps the pod while somebody is on them.
//!
//! Never makes or deletes a pod, and never says what is busy: that is the agent's word.

mod cluster;
mod keeper;
mod mark;
mod place;

pub use cluster::{Cluster, ClusterError};
pub use keeper::Keeper;
pub use mark::{BUSY_LABEL, patch};
pub use place::{AddressFrom, BadAddress, PlaceError, place};
