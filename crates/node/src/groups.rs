//! Which sockets of a namespace are in which group.
//! Never holds a socket: slots are numbers in the namespace's table.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// The index of all groups of one namespace. A group exists while it has members.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: HashMap<Rc<str>, BTreeSet<u32>>,
}

impl Groups {
    /// Adds a member. The answer is the group's name to keep, or `None` when it was in already.
    pub(crate) fn join(&mut self, group: &str, slot: u32) -> Option<Rc<str>> {
        let name = match self.members.get_key_value(group) {
            Some((name, _)) => Rc::clone(name),
            None => Rc::from(group),
        };
        self.members.entry(Rc::clone(&name)).or_default().insert(slot).then_some(name)
    }

    /// Takes a member out; harmless when it is not in. The answer says whether the group has ended by it.
    pub(crate) fn leave(&mut self, group: &str, slot: u32) -> bool {
        if let Some(members) = self.members.get_mut(group) {
            members.remove(&slot);
            if members.is_empty() {
                self.members.remove(group);
                return true;
            }
        }
        false
    }

    pub(crate) fn members(&self, group: &str) -> Option<&BTreeSet<u32>> {
        self.members.get(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_while_it_has_members() {
        let mut groups = Groups::default();
        assert_eq!(groups.join("red", 1).as_deref(), Some("red"));
        assert_eq!(groups.join("red", 1), None);
        assert_eq!(groups.join("red", 2).as_deref(), Some("red"));
        assert!(!groups.leave("red", 1));
        assert!(!groups.leave("red", 1));
        assert!(!groups.leave("blue", 1));
        assert_eq!(groups.members("red"), Some(&BTreeSet::from([2])));
        assert!(groups.leave("red", 2));
        assert_eq!(groups.members("red"), None);
        assert!(groups.members.is_empty());
    }
}
