//! An agent in a task of Amazon ECS: where players find its gameservers, and what keeps the task while somebody is on them.
//!
//! Never starts or stops a task, and never says what is busy: that is the agent's word. It speaks to three endpoints that a task
//! reaches over plain HTTP, and so needs no AWS SDK: the metadata of the task (version 4), the protection of the ECS container
//! agent, and the metadata of the EC2 instance (IMDSv2).
//!
//! `metadata` and `place` and `answer` are pure: documents in, a place or an outcome out. `task` and `keeper` do the calls.

mod answer;
mod keeper;
mod metadata;
mod place;
mod task;

pub use answer::{Outcome, Refusal, outcome};
pub use keeper::{Keeper, PROTECTED_FOR, pacing};
pub use metadata::{Container, Instance, NetworkMode, Task};
pub use place::{AddressFrom, BadAddress, PlaceError, place, wants_instance};
pub use task::{Endpoints, Found, TaskError, Tasks};
