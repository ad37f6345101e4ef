//! Rooms behind JoinTokens, over real loopback sockets and a link to an agent of the test's own.
#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod common;

use std::time::Duration;

use common::agent::{Agent, claims};
use common::{Served, Tung, run, serve, until};
use greenroom_core::{InstanceId, RoomId};
use greenroom_node::room::{Ctx, Grace, Player, Reject, Room, Seat, To, Why};
use greenroom_node::{Config, Node};
use greenroom_wire::link::{FromServer, ToServer};
use greenroom_wire::rooms::{EndReason, RoomEnded, SeatPhase};
use greenroom_wire::token::{JoinClaims, PublicKeys};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Counts, talks, ends and breaks as it is told.
#[derive(Serialize, Deserialize)]
struct Counter {
    total: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum In {
    Add { n: u32 },
    Finish,
    Close,
    Kick(u16),
    Panic,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Out {
    Total { total: u32 },
    Back(Seat),
}

impl Room for Counter {
    type Init = Option<u32>;
    type In = In;
    type Out = Out;
    type Timer = ();
    const NAME: &'static str = "counter";
    const HZ: u16 = 100;

    fn create(_: &mut Ctx<Self>, init: Option<u32>) -> Result<Self, Reject> {
        match init {
            Some(13) => Err(Reject::new("thirteen is no start")),
            Some(666) => panic!("the game cannot start"),
            start => Ok(Self { total: start.unwrap_or(0) }),
        }
    }

    fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, player: &Player) -> Result<(), Reject> {
        if player.id == "mallory" {
            return Err(Reject::new("not you"));
        }
        ctx.send(To::Only(seat), &Out::Total { total: self.total });
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, _: Seat, input: In) {
        match input {
            In::Add { n } => {
                self.total += n;
                ctx.send(To::All, &Out::Total { total: self.total });
            }
            In::Finish => ctx.finish(&json!({ "total": self.total })),
            In::Close => ctx.close(),
            In::Kick(seat) => ctx.kick(Seat(seat)),
            In::Panic => panic!("the game has a fault"),
        }
    }

    fn dropped(&mut self, _: &mut Ctx<Self>, _: Seat) -> Grace {
        Grace::Secs(1)
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        ctx.send(To::All, &Out::Back(seat));
        ctx.send(To::Only(seat), &Out::Total { total: self.total });
    }

    fn left(&mut self, _: &mut Ctx<Self>, _: Seat, _: Why) {}
}

/// A room server and its agent, which has told its keys.
async fn start(change: impl FnOnce(&mut Config)) -> (Served, Agent) {
    let mut agent = Agent::listen().await;
    let mut config = agent.config();
    config.room_linger = Duration::from_millis(100);
    change(&mut config);
    let mut node = Node::new(config);
    node.rooms::<Counter>();
    let served = serve(node);
    agent.welcome().await;
    // A refusal that needs the keys proves that they have arrived.
    let probe = agent.signer.sign(&JoinClaims { epoch: 1, exp: 0, ..claims("probe", 0) });
    while ask(&served, &json!({ "token": probe })).await.1.is_none() {}
    (served, agent)
}

/// Asks for `/`. The answer is `None` where the transport was closed instead.
async fn ask(served: &Served, auth: &Value) -> (Tung, Option<Value>) {
    let mut client = served.websocket().await;
    client.recv_starting("0{").await;
    client.send(&format!("40{auth}")).await;
    match client.next().await {
        Some(message) => {
            let text = message.into_text().unwrap();
            let (kind, body) = text.split_at(2);
            let mut body: Value = serde_json::from_str(body).unwrap();
            body["kind"] = json!(kind);
            (client, Some(body))
        }
        None => (client, None),
    }
}

/// Takes a seat. The answer is the client and its session's `pid`.
async fn enter(served: &Served, token: &str) -> (Tung, String) {
    let (client, reply) = ask(served, &json!({ "token": token })).await;
    let reply = reply.unwrap();
    assert_eq!(reply["kind"], "40", "{reply}");
    (client, reply["pid"].as_str().unwrap().to_owned())
}

async fn code(served: &Served, auth: &Value) -> String {
    let (_, reply) = ask(served, auth).await;
    let reply = reply.expect("an answer, not a close");
    assert_eq!(reply["kind"], "44", "{reply}");
    assert_eq!(reply["message"], reply["data"]["code"]);
    assert!(reply["data"]["message"].is_string());
    reply["message"].as_str().unwrap().to_owned()
}

fn ended(message: FromServer) -> Option<RoomEnded> {
    match message {
        FromServer::RoomEnded(ended) => Some(ended),
        FromServer::Hello { .. }
        | FromServer::Ending
        | FromServer::Status(_)
        | FromServer::Publish(_)
        | FromServer::Mesh(_)
        | FromServer::Backplane(_) => None,
    }
}

#[test]
fn each_wrong_token_has_its_own_refusal() {
    run(async {
        let (served, agent) = start(|_| {}).await;
        let (stranger, sign) = (Agent::listen().await, |claims| agent.signer.sign(&claims));
        let used = sign(claims("ann", 0));
        let (_ann, _) = enter(&served, &used).await;
        let other: InstanceId = "arena-a1b2c.1".parse().unwrap();
        let late = JoinClaims { exp: 1, jti: "late".into(), ..claims("bob", 1) };
        let elsewhere =
            |init| JoinClaims { room: "r2".parse::<RoomId>().unwrap().into(), init, ..claims("bob", 1) };
        let cases = [
            ("token_missing", json!({})),
            ("token_missing", json!({ "token": null })),
            ("token_malformed", json!({ "token": 7 })),
            ("token_malformed", json!({ "token": "a.b.c" })),
            ("token_signature", json!({ "token": stranger.signer.sign(&claims("bob", 1)) })),
            ("token_expired", json!({ "token": sign(late.clone()) })),
            ("token_expired", json!({ "token": sign(JoinClaims { exp: 1, ..elsewhere(Value::Null) }) })),
            ("token_used", json!({ "token": used })),
            ("token_used", json!({ "token": used, "pid": "guessed" })),
            (
                "wrong_fleet",
                json!({ "token": sign(JoinClaims {
                aud: "lobby".parse::<greenroom_core::FleetName>().unwrap().into(), ..claims("bob", 1)
            }) }),
            ),
            (
                "wrong_server",
                json!({ "token": sign(JoinClaims { instance: other.into(), ..claims("bob", 1) }) }),
            ),
            ("wrong_room", json!({ "token": sign(claims("bob", 1)), "room": "r9" })),
            ("room_ended", json!({ "token": sign(JoinClaims { epoch: 0, ..claims("bob", 1) }) })),
            ("seat_taken", json!({ "token": sign(claims("bob", 0)) })),
            ("room_full", json!({ "token": sign(claims("bob", 9)) })),
            ("room_refused", json!({ "token": sign(elsewhere(json!(13))) })),
            ("room_refused", json!({ "token": sign(elsewhere(json!("x"))) })),
            ("room_refused", json!({ "token": sign(elsewhere(json!(666))) })),
            ("join_refused", json!({ "token": sign(claims("mallory", 1)) })),
        ];
        for (expected, auth) in cases {
            assert_eq!(code(&served, &auth).await, expected, "{auth}");
        }
        assert_eq!(served.handle.rooms(), 1);
        let fresh = json!({ "token": sign(claims("bob", 1)), "room": "r1" });
        assert_eq!(ask(&served, &fresh).await.1.unwrap()["kind"], "40", "refused tokens took nothing");
    });
}

#[test]
fn what_passes_is_never_a_refusal() {
    run(async {
        let mut agent = Agent::listen().await;
        let mut node = Node::new(Config { rooms_max: 1, ..agent.config() });
        node.rooms::<Counter>();
        let served = serve(node);
        agent.accept().await;
        agent.send(&ToServer::Welcome { version: 1, keys: PublicKeys::default() }).await;
        let token = agent.signer.sign(&claims("ann", 0));
        assert!(ask(&served, &json!({ "token": token })).await.1.is_none(), "no keys yet: come again");
        agent.send(&ToServer::Keys { keys: PublicKeys { keys: vec![agent.signer.public()] } }).await;
        until("the keys are there", || served.handle.counters().connects_refused_total == 0).await;
        while ask(&served, &json!({ "token": token })).await.1.is_none() {}
        let second = JoinClaims { room: "r2".parse::<RoomId>().unwrap().into(), ..claims("bob", 0) };
        let auth = json!({ "token": agent.signer.sign(&second) });
        assert!(ask(&served, &auth).await.1.is_none(), "full: come again");
        assert_eq!(served.handle.counters().connects_refused_total, 0);
    });
}

#[test]
fn the_same_session_comes_back_to_its_seat_even_after_the_expiry() {
    run(async {
        let (served, agent) = start(|_| {}).await;
        let fresh = claims("ann", 0);
        let expires_at = fresh.iat + 2;
        let token = agent.signer.sign(&JoinClaims { exp: expires_at, ..fresh });
        let (mut bob, _) = enter(&served, &agent.signer.sign(&claims("bob", 1))).await;
        assert_eq!(bob.recv().await, "42[\"total\",{\"total\":0}]");
        let (mut ann, first) = enter(&served, &token).await;
        ann.send("420[\"add\",{\"n\":5}]").await;
        ann.recv_until("430[{\"ok\":true}]").await;
        bob.recv_until("42[\"total\",{\"total\":5}]").await;
        until("the token has expired", || claims("ann", 0).iat >= expires_at).await;
        ann.drop_line();
        let (mut back, reply) = ask(&served, &json!({ "token": token, "pid": first })).await;
        let second = reply.unwrap()["pid"].as_str().unwrap().to_owned();
        assert_ne!(first, second, "or the stock client would believe that it was recovered");
        assert_eq!(back.recv().await, "42[\"back\",0]");
        assert_eq!(back.recv().await, "42[\"total\",{\"total\":5}]");
        assert_eq!(bob.recv().await, "42[\"back\",0]");
        // A reply that was lost: the secret before it is still good, and the half-open one is ended.
        let (mut again, reply) = ask(&served, &json!({ "token": token, "pid": first })).await;
        assert_eq!(reply.unwrap()["kind"], "40");
        assert_eq!(back.recv().await, "42[\"greenroom:taken_over\",{}]");
        back.closed().await;
        // And the next reply is lost too.
        let (_last, reply) = ask(&served, &json!({ "token": token, "pid": first })).await;
        assert_eq!(reply.unwrap()["kind"], "40");
        again.recv_until("42[\"greenroom:taken_over\",{}]").await;
        let skipped = json!({ "token": token, "pid": second });
        assert_eq!(code(&served, &skipped).await, "token_used", "a secret that was never shown goes stale");
        let stale = json!({ "token": token, "pid": "0123456789abcdefghij" });
        assert_eq!(code(&served, &stale).await, "token_used");
    });
}

#[test]
fn a_newer_token_of_the_same_player_takes_the_seat_over() {
    run(async {
        let (served, mut agent) = start(|_| {}).await;
        let (mut old, pid) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        old.recv_until("42[\"total\"").await;
        let newer = agent.signer.sign(&JoinClaims { jti: "newer".into(), ..claims("ann", 0) });
        let (mut new, _) = enter(&served, &newer).await;
        assert_eq!(old.recv().await, "42[\"greenroom:taken_over\",{}]");
        old.closed().await;
        new.recv_until("42[\"total\"").await;
        let first = json!({ "token": agent.signer.sign(&claims("ann", 0)), "pid": pid });
        assert_eq!(code(&served, &first).await, "token_used");
        let older = JoinClaims { jti: "older".into(), iat: 1, ..claims("ann", 0) };
        assert_eq!(code(&served, &json!({ "token": agent.signer.sign(&older) })).await, "seat_taken");
        let report = agent.find(|message| match message {
            FromServer::Status(status) => status.rooms.into_iter().find(|room| room.seats.len() == 1),
            FromServer::Hello { .. }
            | FromServer::Ending
            | FromServer::RoomEnded(_)
            | FromServer::Publish(_)
            | FromServer::Mesh(_)
            | FromServer::Backplane(_) => None,
        });
        assert_eq!(report.await.seats[0].phase, SeatPhase::Connected);
    });
}

#[test]
fn seats_are_kept_for_the_lost_and_freed_by_those_who_leave() {
    run(async {
        let (served, mut agent) = start(|config| config.room_linger = Duration::from_secs(60)).await;
        let (ann, _) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        let (mut bob, _) = enter(&served, &agent.signer.sign(&claims("bob", 1))).await;
        let (mut cid, pid) = enter(&served, &agent.signer.sign(&claims("cid", 2))).await;
        let phases = |wanted: Vec<(&'static str, SeatPhase)>| {
            move |message| match message {
                FromServer::Status(status) => status.rooms.first().and_then(|room| {
                    let seats: Vec<_> = room.seats.iter().map(|s| (s.player.as_str(), s.phase)).collect();
                    (seats == wanted).then_some(())
                }),
                FromServer::Hello { .. }
                | FromServer::Ending
                | FromServer::RoomEnded(_)
                | FromServer::Publish(_)
                | FromServer::Mesh(_)
                | FromServer::Backplane(_) => None,
            }
        };
        let (here, away) = (SeatPhase::Connected, SeatPhase::Away);
        agent.find(phases(vec![("ann", here), ("bob", here), ("cid", here)])).await;
        ann.drop_line();
        agent.find(phases(vec![("ann", away), ("bob", here), ("cid", here)])).await;
        bob.send("41").await;
        agent.find(phases(vec![("ann", away), ("cid", here)])).await;
        cid.send("42[\"kick\",2]").await;
        cid.recv_until("42[\"greenroom:left\",{\"why\":\"Kicked\"}]").await;
        assert_eq!(cid.recv().await, "41");
        agent.find(phases(vec![])).await;
        let back = json!({ "token": agent.signer.sign(&claims("cid", 2)), "pid": pid });
        assert_eq!(
            code(&served, &back).await,
            "token_used",
            "a seat that was lost is not entered by its old token"
        );
    });
}

#[test]
fn a_room_that_ends_tells_its_players_and_its_result_until_it_is_acknowledged() {
    run(async {
        let (served, mut agent) = start(|_| {}).await;
        let token = agent.signer.sign(&claims("ann", 0));
        let (mut ann, pid) = enter(&served, &token).await;
        ann.send("42[\"add\",{\"n\":7}]").await;
        ann.send("42[\"finish\"]").await;
        ann.send("42[\"close\"]").await;
        ann.recv_until("42[\"greenroom:closed\",{\"reason\":\"finished\"}]").await;
        assert_eq!(ann.recv().await, "41");
        let first = agent.find(ended).await;
        assert_eq!((first.reason, &first.result), (EndReason::Finished, &json!({ "total": 7 })));
        agent.hang_up();
        agent.welcome().await;
        let again = agent.find(ended).await;
        assert_eq!(again, first, "a new stream gets it again");
        agent.send(&ToServer::RoomEndedAck { room: first.room.clone(), epoch: 1 }).await;
        assert_eq!(served.handle.rooms(), 0);
        assert_eq!(code(&served, &json!({ "token": token, "pid": pid })).await, "room_ended");
        let newer = JoinClaims { epoch: 2, ..claims("ann", 0) };
        let (_ann, _) = enter(&served, &agent.signer.sign(&newer)).await;
        // Shutting down has nothing old to deliver, only the new room's end.
        served.handle.shutdown();
        let last = agent.find(ended).await;
        assert_eq!((last.epoch, last.reason), (2, EndReason::Stopped));
        agent.send(&ToServer::RoomEndedAck { room: last.room, epoch: 2 }).await;
        served.ended().await;
    });
}

#[test]
fn an_empty_room_ends_after_its_linger() {
    run(async {
        let (served, mut agent) = start(|_| {}).await;
        let (mut ann, _) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        ann.send("41").await;
        assert_eq!(agent.find(ended).await.reason, EndReason::Empty);
        assert_eq!(served.handle.rooms(), 0);
    });
}

#[test]
fn a_room_that_panics_ends_alone() {
    run(async {
        let (served, mut agent) = start(|_| {}).await;
        let (mut ann, _) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        let other = JoinClaims { room: "r2".parse::<RoomId>().unwrap().into(), ..claims("bob", 0) };
        let (mut bob, _) = enter(&served, &agent.signer.sign(&other)).await;
        ann.send("42[\"panic\"]").await;
        ann.recv_until("42[\"greenroom:closed\",{\"reason\":\"crashed\"}]").await;
        let told = agent.find(ended).await;
        assert_eq!((told.room.as_str(), told.reason), ("r1", EndReason::Crashed));
        bob.send("42[\"add\",{\"n\":1}]").await;
        bob.recv_until("42[\"total\",{\"total\":1}]").await;
        assert_eq!(served.handle.counters().rooms_crashed_total, 1);
        assert_eq!(served.handle.rooms(), 1);
    });
}

#[test]
fn control_closes_a_room_up_to_an_epoch() {
    run(async {
        let (served, mut agent) = start(|_| {}).await;
        let newer = JoinClaims { epoch: 2, ..claims("ann", 0) };
        let (mut ann, _) = enter(&served, &agent.signer.sign(&newer)).await;
        let room = newer.room.clone();
        let reason = EndReason::Superseded;
        agent.send(&ToServer::CloseRoom { room: room.clone(), epoch: 1, reason }).await;
        agent.send(&ToServer::CloseRoom { room, epoch: 2, reason }).await;
        ann.recv_until("42[\"greenroom:closed\",{\"reason\":\"superseded\"}]").await;
        let told = agent.find(ended).await;
        assert_eq!((told.epoch, told.reason), (2, EndReason::Superseded));
    });
}

#[test]
fn inputs_that_do_not_fit_are_told_and_the_room_goes_on() {
    run(async {
        let (served, agent) = start(|_| {}).await;
        let (mut ann, _) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        ann.recv_until("42[\"total\"").await;
        ann.send("42[\"fly\"]").await;
        ann.recv_starting("42[\"greenroom:refused\",{\"code\":\"bad_input\",\"event\":\"fly\"").await;
        ann.send("427[\"add\",{\"n\":\"x\"}]").await;
        ann.recv_starting("437[{\"error\":{\"code\":\"bad_input\"").await;
        ann.send("428[\"add\",{\"n\":1},2]").await;
        ann.recv_starting("438[{\"error\":{\"code\":\"bad_input\"").await;
        ann.send("42[\"add\",{\"n\":1}]").await;
        assert_eq!(ann.recv().await, "42[\"total\",{\"total\":1}]");
        assert_eq!(served.handle.counters().inputs_refused_total, 3);
    });
}

#[test]
fn an_input_that_the_room_has_no_place_for_is_not_acknowledged_as_taken() {
    run(async {
        let (served, agent) = start(|_| {}).await;
        let query = served.open_polling().await;
        let auth = json!({ "token": agent.signer.sign(&claims("ann", 0)) });
        served.http("POST", &query, &format!("40{auth}")).await;
        served.http("GET", &query, "").await;
        // One body is taken in between two ticks.
        let adds: Vec<String> = (0..40).map(|n| format!("42{n}[\"add\",{{\"n\":1}}]")).collect();
        served.http("POST", &query, &adds.join("\x1e")).await;
        let (mut taken, mut refused, mut total) = (0, 0, String::new());
        while taken + refused < 40 || total != "42[\"total\",{\"total\":32}]" {
            for packet in served.http("GET", &query, "").await.body.split('\x1e') {
                if packet.ends_with("[{\"ok\":true}]") {
                    taken += 1;
                } else if packet.starts_with("43") {
                    assert!(packet.contains("\"code\":\"not_now\""), "{packet}");
                    refused += 1;
                } else if packet.starts_with("42") {
                    packet.clone_into(&mut total);
                }
            }
        }
        assert_eq!((taken, refused), (32, 8));
        assert_eq!(served.handle.counters().inputs_refused_total, 8);
    });
}

#[test]
fn a_rooms_clock_keeps_its_rate() {
    run(async {
        let (served, agent) = start(|_| {}).await;
        let (_ann, _) = enter(&served, &agent.signer.sign(&claims("ann", 0))).await;
        let from = (tokio::time::Instant::now(), served.handle.counters());
        until("a while has passed", || from.0.elapsed() > Duration::from_millis(500)).await;
        let to = served.handle.counters();
        let ticks = to.ticks_total + to.ticks_skipped_total - from.1.ticks_total - from.1.ticks_skipped_total;
        let expected = u64::try_from(from.0.elapsed().as_millis()).unwrap() / 10;
        assert!(ticks.abs_diff(expected) <= 2, "{ticks} ticks at 100 Hz, {expected} were due");
    });
}
