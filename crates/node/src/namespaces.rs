//! All namespaces of a node: those named before its start, and those that clients bring to life by a rule.
//! Never keeps one of a rule that nobody is in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use crate::handlers::Handlers;
use crate::handshake::ConnectRequest;
use crate::namespace::Namespace;

type Predicate = Box<dyn Fn(&ConnectRequest) -> bool>;
type OnNamespace = Box<dyn Fn(&str)>;

/// Which names a rule is for.
pub(crate) enum Rule {
    /// A name in which each `*` stands for one or more characters other than `/`.
    Pattern,
    Predicate(Predicate),
}

/// A rule that makes namespaces, and the handlers that they all share.
pub(crate) struct Parent {
    /// The pattern, or the word that the program gave to its predicate.
    pub(crate) label: String,
    rule: Rule,
    handlers: Rc<Handlers>,
}

impl Parent {
    pub(crate) fn new(label: String, rule: Rule, handlers: Handlers) -> Rc<Self> {
        Rc::new(Self { label, rule, handlers: Rc::new(handlers) })
    }

    fn takes(&self, request: &ConnectRequest) -> bool {
        match &self.rule {
            Rule::Pattern => is_match(&self.label, request.namespace()),
            Rule::Predicate(predicate) => predicate(request),
        }
    }
}

/// Why there is no namespace for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNamespace {
    Unknown,
    TooMany,
}

/// The table of a node.
pub(crate) struct Namespaces {
    live: RefCell<HashMap<String, Rc<Namespace>>>,
    parents: Vec<Rc<Parent>>,
    dynamic: Cell<usize>,
    dynamic_max: usize,
    on_new: Option<OnNamespace>,
}

impl Namespaces {
    pub(crate) fn new(
        named: impl Iterator<Item = (String, Handlers)>,
        parents: Vec<Rc<Parent>>,
        dynamic_max: usize,
        on_new: Option<OnNamespace>,
    ) -> Self {
        let live = named.map(|(name, handlers)| {
            let namespace = Namespace::new(name.clone(), Rc::new(handlers), None);
            (name, Rc::new(namespace))
        });
        Self { live: RefCell::new(live.collect()), parents, dynamic: Cell::new(0), dynamic_max, on_new }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Rc<Namespace>> {
        self.live.borrow().get(name).cloned()
    }

    /// The names of all that live.
    pub(crate) fn names(&self) -> Vec<String> {
        self.live.borrow().keys().cloned().collect()
    }

    /// The namespace that a client asks for; the first rule that takes it makes it.
    pub(crate) fn find(&self, request: &ConnectRequest) -> Result<Rc<Namespace>, NoNamespace> {
        let name = request.namespace();
        if let Some(namespace) = self.get(name) {
            return Ok(namespace);
        }
        let parent = self.parents.iter().find(|parent| parent.takes(request)).ok_or(NoNamespace::Unknown)?;
        if self.dynamic.get() >= self.dynamic_max {
            return Err(NoNamespace::TooMany);
        }
        self.dynamic.set(self.dynamic.get() + 1);
        let (handlers, parent) = (Rc::clone(&parent.handlers), Some(Rc::clone(parent)));
        let namespace = Rc::new(Namespace::new(name.to_owned(), handlers, parent));
        self.live.borrow_mut().insert(name.to_owned(), Rc::clone(&namespace));
        if let Some(on_new) = &self.on_new {
            on_new(name);
        }
        Ok(namespace)
    }

    /// Forgets a namespace of a rule when nobody is left in it. The answer says whether it did.
    pub(crate) fn sweep(&self, namespace: &Namespace) -> bool {
        let is_over = namespace.parent.is_some()
            && namespace.is_empty()
            && self.live.borrow_mut().remove(&namespace.name).is_some();
        if is_over {
            self.dynamic.set(self.dynamic.get() - 1);
        }
        is_over
    }

    /// The live namespaces of a rule, in order of their names; `None` for a rule that there is not.
    pub(crate) fn children(&self, label: &str) -> Option<Vec<Rc<Namespace>>> {
        self.parents.iter().find(|parent| parent.label == label)?;
        let is_child = |namespace: &&Rc<Namespace>| {
            namespace.parent.as_ref().is_some_and(|parent| parent.label == label)
        };
        let mut children: Vec<_> = self.live.borrow().values().filter(is_child).cloned().collect();
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Some(children)
    }
}

/// Whether `name` fits `pattern`, each `*` of which stands for one or more characters other than `/`. Linear in the
/// name for each star, whatever the name is.
fn is_match(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        let Some(first) = name.chars().next().filter(|c| *c != '/') else { return false };
        let after_first = first.len_utf8();
        let found = if pieces.peek().is_none() {
            // The last piece must end the name.
            let at = name.len().checked_sub(piece.len()).filter(|at| *at >= after_first);
            at.filter(|at| name.is_char_boundary(*at) && name[*at..] == *piece)
        } else {
            name[after_first..].find(piece).map(|at| at + after_first)
        };
        let Some(at) = found.filter(|at| !name[..*at].contains('/')) else { return false };
        name = &name[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn a_star_stands_for_something_within_one_part_of_the_name() {
        let cases = [
            ("/room-*", "/room-1", true),
            ("/room-*", "/room-\u{e9}\u{e9}", true),
            ("/room-*", "/room-", false),
            ("/room-*", "/room-1/2", false),
            ("/room-*", "/Room-1", false),
            ("/*/chat", "/a/chat", true),
            ("/*/chat", "/a/b/chat", false),
            ("/*/chat", "/chat", false),
            ("/*-*", "/a-b", true),
            ("/*-*", "/a-b-c", true),
            ("/*-*", "/-b", false),
            ("/*-*", "/a-", false),
            ("/fixed", "/fixed", true),
            ("/fixed", "/fixed2", false),
            ("/a*a", "/aa", false),
            ("/a*a", "/aaa", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
    }
}
