//! A room that writes down what it is told, the host that keeps it beyond its processes, and players who check what they see.

use std::collections::BTreeSet;

use greenroom_core::Timestamp;
use greenroom_node::config::Recovery;
use greenroom_node::room::{Ctx, Delivery, Player, Reject, Room, Seat, To};
use greenroom_node::{Config, Node};
use greenroom_wire::token::{PublicKeys, Signer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::agent::claims;
use super::hub::Hub;
use super::{Served, Tung, serve};

/// Writes down what it is told, in order, and tells everybody.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ledger {
    entries: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum In {
    Add(u32),
    Finish,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Out {
    Added { nth: usize, entry: u32 },
    State { entries: Vec<u32> },
}

impl Room for Ledger {
    type Init = Option<u32>;
    type In = In;
    type Out = Out;
    type Timer = ();
    const NAME: &'static str = "ledger";
    const HZ: u16 = 100;

    fn create(_: &mut Ctx<Self>, _: Option<u32>) -> Result<Self, Reject> {
        Ok(Self { entries: vec![] })
    }

    fn join(&mut self, _: &mut Ctx<Self>, _: Seat, _: &Player) -> Result<(), Reject> {
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, _: Seat, input: In) {
        match input {
            In::Add(entry) => {
                self.entries.push(entry);
                ctx.send(To::All, &Out::Added { nth: self.entries.len(), entry });
            }
            In::Finish => {
                ctx.finish(&json!({ "entries": self.entries }));
                ctx.close();
            }
        }
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        ctx.send(To::Only(seat), &Out::State { entries: self.entries.clone() });
    }
}

pub(crate) fn delivering(delivery: Delivery) -> Recovery {
    Recovery { delivery: Some(delivery), ..Recovery::default() }
}

/// One host: a board that outlives the server's processes, and the keys of its tokens.
pub(crate) struct Host {
    pub(crate) hub: Hub,
    pub(crate) signer: Signer,
    pub(crate) recovery: Recovery,
}

impl Host {
    pub(crate) async fn new(recovery: Recovery) -> Self {
        let record = Signer::generate(Timestamp::from_unix_ms(0)).unwrap();
        let signer = Signer::new(&record).unwrap();
        let hub = Hub::listen().await;
        hub.set_keys(PublicKeys { keys: vec![signer.public()] });
        Self { hub, signer, recovery }
    }

    /// The nth process of the server.
    pub(crate) fn process(&self, nth: u32) -> Served {
        let mut config = self.hub.config(&format!("arena-a1b2c.{nth}"));
        config.membership.as_mut().unwrap().fleet = "arena".parse().unwrap();
        let mut node = Node::new(Config { recovery: Some(self.recovery.clone()), ..config });
        node.rooms::<Ledger>();
        serve(node)
    }

    pub(crate) fn token(&self, player: &str, seat: u16) -> String {
        self.signer.sign(&claims(player, seat))
    }
}

/// Asks until the node has its keys and its rooms. An error is what the client is told as one.
pub(crate) async fn ask(served: &Served, auth: &Value) -> Result<(Tung, Value), Value> {
    loop {
        let mut client = served.websocket().await;
        client.recv_starting("0{").await;
        client.send(&format!("40{auth}")).await;
        if let Some(message) = client.next().await {
            let text = message.into_text().unwrap();
            if let Some(refusal) = text.strip_prefix("44") {
                return Err(serde_json::from_str(refusal).unwrap());
            }
            let reply = text.strip_prefix("40").unwrap_or_else(|| panic!("{text}"));
            return Ok((client, serde_json::from_str(reply).unwrap()));
        }
    }
}

/// The connection is over.
pub(crate) struct Closed;

/// A player as the stock client is one: shows its secret and its last place when it comes back.
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) client: Option<Tung>,
    pub(crate) is: Value,
    pub(crate) place: Option<String>,
    /// The entries in the order in which they were seen.
    pub(crate) seen: Vec<u32>,
    pub(crate) acknowledged: BTreeSet<u32>,
    pub(crate) words: Vec<Value>,
    pub(crate) states: Vec<Vec<u32>>,
}

impl Person {
    pub(crate) async fn enter(served: &Served, token: String) -> Self {
        let (client, is) = ask(served, &json!({ "token": token })).await.unwrap();
        let (place, client) = (None, Some(client));
        let (seen, acknowledged, words, states) = (vec![], BTreeSet::new(), vec![], vec![]);
        Self { token, client, is, place, seen, acknowledged, words, states }
    }

    pub(crate) async fn come_back(&mut self, served: &Served) -> Value {
        let mut auth =
            json!({ "token": self.token, "pid": self.is["pid"], "greenroom": { "recovery": true } });
        if let Some(place) = &self.place {
            auth["offset"] = json!(place);
        }
        let (client, is) = ask(served, &auth).await.unwrap();
        (self.client, self.is) = (Some(client), is.clone());
        is
    }

    /// Adds an entry, of which it wants to hear that it was taken.
    pub(crate) async fn add(&mut self, entry: u32) {
        self.client.as_mut().unwrap().send(&format!("42{entry}[\"add\",{entry}]")).await;
    }

    /// Takes in the next packet.
    pub(crate) async fn hear(&mut self) {
        let text = self.client.as_mut().unwrap().recv().await;
        self.take_in(&text);
    }

    /// The same for one that may not come any more.
    pub(crate) async fn try_hear(&mut self) -> Result<(), Closed> {
        let message = self.client.as_mut().unwrap().next().await.ok_or(Closed)?;
        if let Ok(text) = message.into_text() {
            self.take_in(&text);
        }
        Ok(())
    }

    fn take_in(&mut self, text: &str) {
        if let Some(ack) = text.strip_prefix("43") {
            let (entry, answer) = ack.split_at(ack.find('[').unwrap());
            assert_eq!(answer, "[{\"ok\":true}]");
            self.acknowledged.insert(entry.parse().unwrap());
            return;
        }
        let Some(event) = text.strip_prefix("42") else { return };
        let mut event: Vec<Value> = serde_json::from_str(event).unwrap();
        match event[0].as_str().unwrap() {
            "greenroom:recovery" => return self.words.push(event.remove(1)),
            "added" => {
                self.seen.push(u32::try_from(event[1]["entry"].as_u64().unwrap()).unwrap());
                let nth = usize::try_from(event[1]["nth"].as_u64().unwrap()).unwrap();
                assert_eq!(nth, self.seen.len(), "nothing lost, doubled or out of order");
            }
            "state" => self.states.push(serde_json::from_value(event[1]["entries"].clone()).unwrap()),
            other => panic!("{other}"),
        }
        self.place = Some(event.pop().unwrap().as_str().unwrap().to_owned());
    }

    pub(crate) async fn hear_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            self.hear().await;
        }
    }
}
