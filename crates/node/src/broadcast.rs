//! Whom an event goes to, put together step by step, and the sending of it.
//! Never encodes an event twice: all receivers share its bytes.

use std::rc::Rc;
use std::time::Duration;

use greenroom_socketio::packet::{Draft, EncodeError, Prepared};
use greenroom_wire::link::{MeshMessage, MeshScope, MeshSend};
use serde::Serialize;

use crate::answers::{Answers, Collector};
use crate::event::Reply;
use crate::link::relay;
use crate::mesh::{Fetched, Mesh, RemoteSocket, ServerAnswers, add_answers, add_server_answers};
use crate::namespace::Namespace;
use crate::recovery::Recovery;
use crate::session::Urgency;
use crate::socket::{AckError, Socket};
use crate::state::NodeState;

/// Where an event goes to, before groups.
#[derive(Clone)]
enum Scope {
    One(Rc<Namespace>),
    Children(Vec<Rc<Namespace>>),
}

/// An event for many in the making. Without [`Self::to`] it reaches the whole namespace. On a mesh node it reaches the
/// other nodes of the fleet on this host too, unless it is [`Self::local`].
#[derive(Clone)]
#[must_use]
pub struct Broadcast {
    state: Rc<NodeState>,
    scope: Scope,
    groups: Vec<String>,
    except: Vec<String>,
    urgency: Urgency,
    is_local: bool,
    is_compressible: bool,
}

impl Broadcast {
    pub(crate) fn new(state: &Rc<NodeState>, namespace: &Rc<Namespace>) -> Self {
        Self::over(state, Scope::One(Rc::clone(namespace)))
    }

    /// The namespaces that a rule has made and that are still in use.
    pub(crate) fn of_children(state: &Rc<NodeState>, children: Vec<Rc<Namespace>>) -> Self {
        Self::over(state, Scope::Children(children))
    }

    fn over(state: &Rc<NodeState>, scope: Scope) -> Self {
        Self {
            state: Rc::clone(state),
            scope,
            groups: Vec::new(),
            except: Vec::new(),
            urgency: Urgency::Reliable,
            is_local: false,
            is_compressible: true,
        }
    }

    fn namespaces(&self) -> &[Rc<Namespace>] {
        match &self.scope {
            Scope::One(namespace) => std::slice::from_ref(namespace),
            Scope::Children(namespaces) => namespaces,
        }
    }

    /// Reaches this group too; a socket in several gets the event once. A socket's id is a group.
    pub fn to(mut self, group: impl Into<String>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// The same as [`Self::to`].
    pub fn within(self, group: impl Into<String>) -> Self {
        self.to(group)
    }

    /// Leaves this group out. A socket's id is a group.
    pub fn except(mut self, group: impl Into<String>) -> Self {
        self.except.push(group.into());
        self
    }

    pub(crate) fn narrowed(self, groups: &[String], except: &[String]) -> Self {
        let narrowed = groups.iter().fold(self, |narrowed, group| narrowed.to(group));
        except.iter().fold(narrowed, |narrowed, group| narrowed.except(group))
    }

    /// Leaves out those whose connection cannot take more right now.
    pub fn volatile(mut self) -> Self {
        self.urgency = Urgency::Volatile;
        self
    }

    /// Reaches the sockets of this node alone.
    pub fn local(mut self) -> Self {
        self.is_local = true;
        self
    }

    /// Whether a polling answer may be compressed for it, see [`crate::Config::http_compression`]. Default true.
    pub fn compress(mut self, is_compressible: bool) -> Self {
        self.is_compressible = is_compressible;
        self
    }

    /// Sends an event with one argument. An argument that has no JSON form is a fault of the program: it is logged
    /// and counted, nothing is sent.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, argument: &T) {
        self.send_draft(Draft::event(event).and_then(|draft| draft.arg(argument)));
    }

    /// Sends the event `message` with one argument, as Socket.IO's `send` does.
    pub fn send<T: Serialize + ?Sized>(&self, argument: &T) {
        self.emit("message", argument);
    }

    /// Sends what a draft holds: no argument or several, raw JSON, bytes; [`crate::Event::forward`] gives one too.
    pub fn emit_draft(&self, draft: &Draft) {
        self.send_draft(Ok(draft.clone()));
    }

    /// Sends the arguments of a client's event on as they came, without looking into them.
    pub fn forward(&self, name: &str, event: &crate::Event) {
        self.send_draft(event.forward(name));
    }

    /// Sends an event that every receiver must answer. `then` is called once: when all have answered, or when the time
    /// is over. Who did not answer is told by name. Other nodes of the mesh have half a second more to tell.
    pub fn emit_with_ack(&self, draft: &Draft, timeout: Duration, then: impl FnOnce(Answers) + 'static) {
        let mut asked = Vec::new();
        let mut questions = Vec::new();
        for namespace in self.namespaces() {
            let id = namespace.next_ack_id();
            let packet = match draft.prepare(&namespace.name, Some(id)) {
                Ok(packet) => packet,
                Err(error) => return self.unsendable(&error, then),
            };
            if self.has_peers()
                && let Ok(packet) = draft.prepare(&namespace.name, None)
            {
                let relay = relay(&namespace.name, &self.groups, &self.except, &packet);
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                questions.push(MeshMessage::Ask { relay, timeout_ms });
            }
            let sockets = namespace.select(&self.groups, &self.except);
            asked.extend(sockets.into_iter().map(|socket| (socket, packet.clone(), id)));
        }
        if asked.is_empty() && questions.is_empty() {
            return then(Answers::default());
        }
        let collector = Collector::new(asked.len() + questions.len(), Box::new(then));
        for question in questions {
            let (collector, state) = (Rc::clone(&collector), Rc::clone(&self.state));
            Mesh::ask(&self.state, question, timeout, move |heard| {
                collector.add(|answers| add_answers(&state, heard, answers));
            });
        }
        for (socket, packet, id) in asked {
            let collector = Rc::clone(&collector);
            let handler = move |socket: &Socket, reply| collector.handle(socket.id(), reply);
            socket.ask_prepared(&packet, id, timeout, Box::new(handler));
        }
    }

    /// Asks the sockets of this node that it would reach, and gives how many they are. `each` is called once for each.
    ///
    /// # Errors
    /// Where the event cannot be sent to anybody.
    pub(crate) fn ask_each(
        &self,
        draft: &Draft,
        timeout: Duration,
        each: impl Fn(&Socket, Result<Reply, AckError>) + Clone + 'static,
    ) -> Result<usize, EncodeError> {
        let mut asked = 0;
        for namespace in self.namespaces() {
            let id = namespace.next_ack_id();
            let packet = draft.prepare(&namespace.name, Some(id))?;
            for socket in namespace.select(&self.groups, &self.except) {
                asked += 1;
                socket.ask_prepared(&packet, id, timeout, Box::new(each.clone()));
            }
        }
        Ok(asked)
    }

    fn unsendable(&self, error: &EncodeError, then: impl FnOnce(Answers)) {
        self.fault(error);
        let sockets = self.sockets();
        let missing = sockets.iter().map(|socket| (socket.id(), AckError::Unsendable)).collect();
        then(Answers { missing, ..Answers::default() });
    }

    /// The same for a task: waits for the answers. For an event of one argument.
    pub async fn ask<T: Serialize + ?Sized>(&self, event: &str, argument: &T, timeout: Duration) -> Answers {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let then = move |answers| {
            // Whoever asked may have stopped waiting.
            let _unheard = answer.send(answers);
        };
        match Draft::event(event).and_then(|draft| draft.arg(argument)) {
            Ok(draft) => self.emit_with_ack(&draft, timeout, then),
            Err(error) => self.unsendable(&error, then),
        }
        answered.await.unwrap_or_default()
    }

    /// The sockets of this node that it would reach.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        let select = |namespace: &Rc<Namespace>| namespace.select(&self.groups, &self.except);
        self.namespaces().iter().flat_map(select).collect()
    }

    /// Tells of all sockets that it would reach, on other nodes of the mesh too, as far as they answer within `timeout`
    /// and half a second.
    pub async fn fetch(&self, timeout: Duration) -> Fetched {
        let sockets = self.sockets().iter().map(Socket::remote).collect();
        let mut fetched = Fetched { sockets, ..Fetched::default() };
        if !self.has_peers() {
            return fetched;
        }
        let mut waiting = Vec::new();
        for (scope, namespace) in self.scopes().into_iter().zip(self.namespaces()) {
            let (answer, answered) = tokio::sync::oneshot::channel();
            Mesh::ask(&self.state, MeshMessage::Fetch { scope }, timeout, move |heard| {
                // Whoever asked may have stopped waiting.
                let _unheard = answer.send(heard);
            });
            waiting.push((namespace, answered));
        }
        for (namespace, answered) in waiting {
            let heard = answered.await.unwrap_or_default();
            fetched.nodes_missing.extend(heard.nodes_missing);
            for (_, message) in heard.messages {
                if let MeshMessage::Sockets { sockets } = message {
                    let read = |told| RemoteSocket::read(told, Self::new(&self.state, namespace));
                    fetched.sockets.extend(sockets.into_iter().filter_map(read));
                }
            }
        }
        fetched
    }

    /// Sends an event with one argument to the other nodes of the mesh themselves, for
    /// [`crate::Handlers::on_server_side`] of this namespace. Nothing happens without a mesh.
    pub fn server_side_emit<T: Serialize + ?Sized>(&self, event: &str, argument: &T) {
        for message in self.server_events(event, argument) {
            self.tell(message);
        }
    }

    /// The same, and waits for the answers that the handlers of the other nodes give by [`crate::ServerEvent::reply`],
    /// for `timeout` and half a second at most. Empty without a mesh.
    pub async fn server_side_ask<T: Serialize + ?Sized>(
        &self,
        event: &str,
        argument: &T,
        timeout: Duration,
    ) -> ServerAnswers {
        let mut answers = ServerAnswers::default();
        if !self.has_peers() {
            return answers;
        }
        let mut waiting = Vec::new();
        for message in self.server_events(event, argument) {
            let (answer, answered) = tokio::sync::oneshot::channel();
            Mesh::ask(&self.state, message, timeout, move |heard| {
                // Whoever asked may have stopped waiting.
                let _unheard = answer.send(heard);
            });
            waiting.push(answered);
        }
        for answered in waiting {
            add_server_answers(&self.state, answered.await.unwrap_or_default(), &mut answers);
        }
        answers
    }

    /// An event for the nodes themselves, for each of its namespaces.
    fn server_events<T: Serialize + ?Sized>(&self, event: &str, argument: &T) -> Vec<MeshMessage> {
        // Read by another node as a packet of the main namespace, whatever the namespace is.
        let draft = Draft::event(event).and_then(|draft| draft.arg(argument));
        match draft.and_then(|draft| draft.prepare("/", None)) {
            Ok(packet) => {
                let message = |namespace: &Rc<Namespace>| MeshMessage::Event {
                    namespace: namespace.name.clone(),
                    packet: packet.text().to_owned(),
                };
                self.namespaces().iter().map(message).collect()
            }
            Err(error) => {
                self.fault(&error);
                Vec::new()
            }
        }
    }

    /// Puts the sockets that it would reach into a group.
    pub fn join(&self, group: &str) {
        for scope in self.scopes() {
            self.tell(MeshMessage::Join { scope, group: group.to_owned() });
        }
        self.sockets().iter().for_each(|socket| socket.join(group));
    }

    /// Takes the sockets that it would reach out of a group.
    pub fn leave(&self, group: &str) {
        for scope in self.scopes() {
            self.tell(MeshMessage::Leave { scope, group: group.to_owned() });
        }
        self.sockets().iter().for_each(|socket| socket.leave(group));
    }

    /// Disconnects the sockets that it would reach from the namespace.
    pub fn disconnect(&self) {
        for scope in self.scopes() {
            self.tell(MeshMessage::Disconnect { scope, is_transport: false });
        }
        self.sockets().iter().for_each(Socket::disconnect);
    }

    /// Ends the connections of the sockets that it would reach; stock clients come back by themselves.
    pub fn close_transports(&self) {
        for scope in self.scopes() {
            self.tell(MeshMessage::Disconnect { scope, is_transport: true });
        }
        self.sockets().iter().for_each(Socket::close_transport);
    }

    /// Whether this reaches other nodes.
    fn has_peers(&self) -> bool {
        let is_mesh = !self.is_local && self.state.rooms.is_none();
        is_mesh && self.state.peers.are_there()
    }

    fn tell(&self, message: MeshMessage) {
        if self.has_peers() {
            // What could not be sent is counted there.
            let _is_sent = self.state.peers.tell(&self.state, MeshSend { to: None, ask: None, message });
        }
    }

    fn scopes(&self) -> Vec<MeshScope> {
        let scope = |namespace: &Rc<Namespace>| MeshScope {
            namespace: namespace.name.clone(),
            groups: self.groups.clone(),
            except: self.except.clone(),
        };
        self.namespaces().iter().map(scope).collect()
    }

    fn fault(&self, error: &EncodeError) {
        self.state.counting.emit_faults_total.one();
        tracing::error!(%error, "an event cannot be sent");
    }

    /// Sends in a namespace whose clients come back: what they must not miss goes by the backplane, which hands it to
    /// everybody; all else goes at once.
    fn send_kept(&self, recovery: &Recovery, namespace: &Rc<Namespace>, packet: &Prepared) {
        if self.urgency == Urgency::Reliable && !self.is_local {
            if !recovery.publish(&self.state, namespace, &self.groups, &self.except, packet) {
                tracing::error!("an event is refused: too much waits for the backplane");
            }
            return;
        }
        let packet = recovery.unmistakable(packet, &namespace.name);
        namespace.deliver(&packet, &self.groups, &self.except, self.urgency);
        if self.has_peers() {
            self.publish(&namespace.name, &packet);
        }
    }

    fn publish(&self, namespace: &str, packet: &Prepared) {
        let (groups, except) = (&self.groups, &self.except);
        self.state.peers.publish(&self.state, namespace, groups, except, packet, self.urgency);
    }

    fn send_draft(&self, draft: Result<Draft, EncodeError>) {
        let draft = match draft {
            Ok(draft) if self.is_compressible => draft,
            Ok(draft) => draft.compress(false),
            Err(error) => return self.fault(&error),
        };
        for namespace in self.namespaces() {
            let prepared = match draft.prepare(&namespace.name, None) {
                Ok(prepared) => prepared,
                Err(error) => return self.fault(&error),
            };
            if let Some(recovery) = self.state.recovery_of(&namespace.name) {
                self.send_kept(recovery, namespace, &prepared);
                continue;
            }
            namespace.deliver(&prepared, &self.groups, &self.except, self.urgency);
            if self.has_peers() {
                self.publish(&namespace.name, &prepared);
            }
        }
    }
}
