//! Players of a room whose connection is cut: what the room sent meanwhile, or the reason why not.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod common;

use common::agent::{Agent, claims};
use common::{Served, Tung, run, serve, until};
use greenroom_node::config::Recovery;
use greenroom_node::room::{Ctx, Player, Reject, Room, Seat, To, Why};
use greenroom_node::{Config, Node};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Sends on what it is told, and its count to whoever comes back.
#[derive(Serialize, Deserialize)]
struct Echo {
    count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum In {
    Say(u32),
    Whisper(u32),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Out {
    Said(u32),
    State(u32),
}

impl Room for Echo {
    type Init = Option<u32>;
    type In = In;
    type Out = Out;
    type Timer = ();
    const NAME: &'static str = "echo";
    const HZ: u16 = 100;

    fn create(_: &mut Ctx<Self>, _: Option<u32>) -> Result<Self, Reject> {
        Ok(Self { count: 0 })
    }

    fn join(&mut self, _: &mut Ctx<Self>, _: Seat, _: &Player) -> Result<(), Reject> {
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, seat: Seat, input: In) {
        self.count += 1;
        match input {
            In::Say(n) => ctx.send(To::All, &Out::Said(n)),
            In::Whisper(n) => ctx.send(To::Only(seat), &Out::Said(n)),
        }
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        ctx.send(To::Only(seat), &Out::State(self.count));
    }

    fn left(&mut self, _: &mut Ctx<Self>, _: Seat, _: Why) {}
}

async fn start(recovery: Recovery) -> (Served, Agent) {
    let mut agent = Agent::listen().await;
    let mut node = Node::new(Config { recovery: Some(recovery), ..agent.config() });
    node.rooms::<Echo>();
    let served = serve(node);
    agent.welcome().await;
    (served, agent)
}

/// Enters and gives the reply, as soon as the node has its keys.
async fn enter(served: &Served, auth: &Value) -> (Tung, Value) {
    loop {
        let mut client = served.websocket().await;
        client.recv_starting("0{").await;
        client.send(&format!("40{auth}")).await;
        if let Some(message) = client.next().await {
            let text = message.into_text().unwrap();
            let reply = text.strip_prefix("40").unwrap_or_else(|| panic!("{text}"));
            return (client, serde_json::from_str(reply).unwrap());
        }
    }
}

/// The next event without its place, and the place.
async fn event(client: &mut Tung) -> (Value, String) {
    let text = client.recv_starting("42").await;
    let mut event: Value = serde_json::from_str(&text[2..]).unwrap();
    let place = event.as_array_mut().unwrap().pop().unwrap();
    (event, place.as_str().unwrap().to_owned())
}

async fn say(client: &mut Tung, event: &str, n: u32) {
    client.send(&format!("42[\"{event}\",{n}]")).await;
}

fn back(token: &str, reply: &Value, offset: Option<&str>) -> Value {
    let mut auth = json!({ "token": token, "pid": reply["pid"], "greenroom": { "recovery": true } });
    if let Some(offset) = offset {
        auth["offset"] = json!(offset);
    }
    auth
}

#[test]
fn a_player_who_was_cut_off_gets_what_the_room_sent_meanwhile() {
    run(async {
        let (served, agent) = start(Recovery::default()).await;
        let tokens = [agent.signer.sign(&claims("ann", 0)), agent.signer.sign(&claims("bob", 1))];
        let (mut ann, ann_is) = enter(&served, &json!({ "token": tokens[0] })).await;
        let (mut bob, _) = enter(&served, &json!({ "token": tokens[1] })).await;
        say(&mut bob, "say", 1).await;
        let (first, place) = event(&mut ann).await;
        assert_eq!(first, json!(["said", 1]));
        drop(ann);
        until("the cut is noticed", || served.handle.connections() == 1).await;
        for (what, n) in [("whisper", 2), ("say", 3), ("say", 4)] {
            say(&mut bob, what, n).await;
            while event(&mut bob).await.0 != json!(["said", n]) {}
        }
        for (offset, missed) in [(Some(place.as_str()), vec![3, 4]), (None, vec![1, 3, 4])] {
            let (mut ann, reply) = enter(&served, &back(&tokens[0], &ann_is, offset)).await;
            assert_eq!(reply, ann_is, "the same id and secret");
            assert_eq!(ann.recv_starting("42").await, "42[\"greenroom:recovery\",{\"recovered\":true}]");
            for n in missed {
                assert_eq!(event(&mut ann).await.0, json!(["said", n]));
            }
            // What the room itself says to whoever comes back; the first time is missed by the second one.
            while event(&mut ann).await.0 != json!(["state", 4]) {}
        }
    });
}

#[test]
fn a_player_who_cannot_be_told_all_begins_anew_with_the_reason() {
    run(async {
        let recovery = Recovery { room_history_bytes_max: 300, ..Recovery::default() };
        let (served, agent) = start(recovery).await;
        let token = agent.signer.sign(&claims("ann", 0));
        let (mut ann, mut ann_is) = enter(&served, &json!({ "token": token })).await;
        for n in 0..8 {
            say(&mut ann, "say", n).await;
            event(&mut ann).await;
        }
        for (offset, why) in [(None, "history_full"), (Some("a word"), "rewound"), (Some("1f-3"), "rewound")]
        {
            let (mut again, reply) = enter(&served, &back(&token, &ann_is, offset)).await;
            assert!(reply["pid"] != ann_is["pid"] && reply["sid"] != ann_is["sid"]);
            let word: Value = serde_json::from_str(&again.recv_starting("42").await[2..]).unwrap();
            assert_eq!(word, json!(["greenroom:recovery", { "recovered": false, "reason": why }]));
            assert_eq!(event(&mut again).await.0, json!(["state", 8]));
            ann_is = reply;
        }
    });
}
