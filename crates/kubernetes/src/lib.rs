//! An agent in a Kubernetes pod: where players find its gameservers, and what keeps the pod while somebody is on them.
//!
//! Never makes or deletes a pod, and never says what is busy: that is the agent's word.

mod cluster;
mod keeper;
mod place;
mod protection;

pub use cluster::{Cluster, ClusterError};
pub use keeper::Keeper;
pub use place::{AddressFrom, BadAddress, Place, PlaceError, place};
pub use protection::{BUSY_LABEL, Mark, Pacing, Protection};
